//! Artifacts and releases of firmware.
//!
//! A release is a manifest that its vendor has signed: everything that protects a device (digest
//! and size of the artifact, hardware classes, security counter, lowest version it may replace,
//! dependencies, expiry) is inside that signature, so that no user of the ledger can send an image
//! to hardware that it was not made for.
//!
//! | action | who | refused |
//! |---|---|---|
//! | publish | the vendor itself, or an operator of a district that the vendor serves | the key is not one in use of the manifest's vendor, or was revoked; the vendor has no role Vendor; wrong signature; id taken; expired; unknown dependency; a size other than the one a quorum holds; 16 releases of the sender's organization are open |
//! | approve, renew an approval | approver of the whole city | author or vendor of the release; a second time; another manifest than the published one; no certificate quorum of validators holds the artifact; vendor's key revoked since; expired; open for too long; deprecated or revoked |
//! | withdraw an approval | who gave it | none given |
//! | withdraw | its author or vendor | released already, or revoked |
//! | deprecate | operator of the whole city, or the vendor | not released |
//! | revoke | security of the whole city, or the vendor | revoked already |
//! | hold, drop an artifact | a validator in force | no release has this digest and size |
//!
//! A release is *signed* when published, *released* when as many different people have approved it
//! as the policy says (one at least). An approval counts only while it is alive
//! ([`users::live_approvals`](crate::users::live_approvals)): approver, role and key are looked at
//! again at each approval, and whenever a rollout of the release is planned, approved, started or
//! resumed. So people renew approvals that expire. A deprecated release gets no new rollout; those
//! under way continue. Revoking a release stops its rollouts: the blocks that follow cancel every
//! deployment that is not yet installing, a bounded number in each, and name the devices that run
//! the release. One that nobody released runs nowhere: its revocation leaves the blocks no work.
//!
//! The scope of a vendor is that of its grants: a rollout of its release lies in districts for
//! which the vendor has the role at that time. So a vendor that the administrator of a district has
//! made reaches that district alone, and a vendor who loses the role, or is disabled, reaches
//! nothing more.
//!
//! A release that is signed and not released is *open*. Each organization has 16 at most, so that
//! none fills the state or the disks; one that was not approved in the policy's time lapses, and
//! leaves the state with the next publication. Who was wrong withdraws the release, and publishes
//! it again.
//!
//! An artifact is a digest with a size. A wrong size is another record, which no honest validator
//! ever holds: it neither clears the holders of the right one nor keeps it from being published.
//! Before a validator removes bytes it takes itself out of the holders, so that the record never
//! names one that does not have them.

mod approving;
mod ending;
mod error;
mod execute;
mod holding;
pub mod keys;
mod publishing;
mod read;
mod standing;

pub use approving::stays_approved;
pub use error::FirmwareError;
pub use execute::{check, execute};
pub use read::*;
pub use standing::{Standing, standing};

/// Number of open releases of one organization: enough for all its models at once, and with the
/// largest artifact 4 GiB on each validator.
pub const OPEN_RELEASES_PER_ORGANIZATION_MAX: usize = 16;
