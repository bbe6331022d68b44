//! The checks of a release before a Thing accepts it: the vendor's signature, and everything in the
//! manifest that protects the device.

use lamplighter_gateway::lwm2m::UpdateResult;
use lamplighter_types::report::ReleaseError;
use lamplighter_types::{PublicKey, ReleaseManifest, SignedRelease, Version};

/// Largest image that fits a slot, in bytes.
pub const SLOT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A Thing refuses a release. The text goes into the signed report.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseRefusal {
    /// No trusted vendor signed it.
    #[error("the release is not signed by a vendor that this Thing trusts")]
    UnknownVendor,
    /// The signature is wrong.
    #[error("the signature of the release does not verify")]
    Signature(#[source] ReleaseError),
    /// The release is for other hardware.
    #[error("the release is not for hardware class {0}")]
    HardwareClass(String),
    /// The release is older than the running one, in a way that matters for security.
    #[error("security counter {counter} is below the floor {floor}")]
    SecurityCounter {
        /// The counter of the release.
        counter: u64,
        /// The floor of the Thing.
        floor: u64,
    },
    /// The release may not replace the running version.
    #[error("the release replaces version {needed} or later, {running} is running")]
    Precursor {
        /// The lowest version that it may replace.
        needed: Version,
        /// The running version.
        running: Version,
    },
    /// The release has expired.
    #[error("the release has expired")]
    Expired,
    /// The image does not fit into a slot.
    #[error("{0} bytes do not fit the slot")]
    TooLarge(u64),
    /// The image is not the one that the vendor signed.
    #[error("the image does not have the size and digest that the vendor signed")]
    Image,
}

impl ReleaseRefusal {
    /// The value of `/5/0/5` for it.
    pub fn result(&self) -> UpdateResult {
        match self {
            ReleaseRefusal::UnknownVendor
            | ReleaseRefusal::Signature(_)
            | ReleaseRefusal::Image => UpdateResult::IntegrityCheckFailed,
            ReleaseRefusal::TooLarge(_) => UpdateResult::NotEnoughFlash,
            _ => UpdateResult::UnsupportedPackage,
        }
    }
}

/// Verifies the signature on a release.
pub trait ManifestVerifier: Send + Sync {
    /// The manifest, if a trusted vendor signed it.
    fn verify(&self, release: &SignedRelease) -> Result<ReleaseManifest, ReleaseRefusal>;
}

/// Keys of vendors that the Thing trusts since the factory.
#[derive(Debug, Clone)]
pub struct VendorKeys(pub Vec<PublicKey>);

impl ManifestVerifier for VendorKeys {
    fn verify(&self, release: &SignedRelease) -> Result<ReleaseManifest, ReleaseRefusal> {
        if !self.0.contains(&release.key) {
            return Err(ReleaseRefusal::UnknownVendor);
        }
        release.verify().map_err(ReleaseRefusal::Signature)
    }
}

/// The facts about a Thing that a release is checked against.
#[derive(Debug, Clone)]
pub struct ThingFacts<'a> {
    /// Its hardware class.
    pub hardware_class: &'a str,
    /// Its security counter floor.
    pub floor: u64,
    /// The running version.
    pub running: Version,
    /// Unix time in ms.
    pub now_ms: u64,
}

/// Checks that the Thing may accept the release.
pub fn check(manifest: &ReleaseManifest, facts: &ThingFacts<'_>) -> Result<(), ReleaseRefusal> {
    if !manifest
        .hardware_classes
        .iter()
        .any(|class| class == facts.hardware_class)
    {
        return Err(ReleaseRefusal::HardwareClass(
            facts.hardware_class.to_owned(),
        ));
    }
    let (counter, floor) = (manifest.security_counter, facts.floor);
    if counter < floor {
        return Err(ReleaseRefusal::SecurityCounter { counter, floor });
    }
    if let Some(needed) = manifest
        .replaces_from
        .filter(|needed| facts.running < *needed)
    {
        return Err(ReleaseRefusal::Precursor {
            needed,
            running: facts.running,
        });
    }
    if manifest.expires_ms.is_some_and(|at| at <= facts.now_ms) {
        return Err(ReleaseRefusal::Expired);
    }
    if manifest.size_bytes == 0 || manifest.size_bytes > SLOT_BYTES_MAX {
        return Err(ReleaseRefusal::TooLarge(manifest.size_bytes));
    }
    Ok(())
}
