//! Artifacts and releases of firmware.
//!
//! A release is a manifest that its vendor has signed: everything that protects a device (digest
//! and size of the artifact, hardware classes, security counter, lowest version it may replace,
//! dependencies, expiry) is inside that signature, so that no user of the ledger can send an image
//! to hardware that it was not made for.
//!
//! | action | who | refused |
//! |---|---|---|
//! | publish | the vendor itself, or an operator | the key is not one in use of the manifest's vendor, or was revoked; the vendor has no role Vendor; wrong signature; id taken; expired; unknown dependency; a size other than the one a quorum holds |
//! | approve | approver of the whole city | author or vendor of the release; a second time; another manifest than the published one; no certificate quorum of validators holds the artifact; vendor's key revoked since; expired; not waiting for approval |
//! | deprecate | operator of the whole city, or the vendor | not released |
//! | revoke | security of the whole city, or the vendor | revoked already |
//! | hold an artifact | a validator in force | another size than the known one |
//!
//! A release is *signed* when published, *released* when as many different people have approved it
//! as the policy says (one at least). A deprecated release gets no new rollout; those under way
//! continue. Revoking a release stops its rollouts: the blocks that follow cancel every deployment
//! that is not yet installing, a bounded number in each.
//!
//! Validators may hold an artifact before its release is published. The size that the first of them
//! names can be wrong, so a published manifest with another size replaces it and the list of
//! holders is emptied, unless a quorum holds the artifact with its size: then the manifest is
//! refused.

mod error;
mod execute;
pub mod keys;
mod read;

pub use error::FirmwareError;
pub use execute::{check, execute};
pub use read::*;
