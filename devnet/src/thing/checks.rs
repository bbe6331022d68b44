//! What must hold before a Thing takes a release: the vendor's signature, and everything in it that
//! protects the device.

use lamplighter_gateway::lwm2m::UpdateResult;
use lamplighter_types::report::ReleaseError;
use lamplighter_types::{PublicKey, ReleaseManifest, SignedRelease, Version};

/// Largest image that fits a slot, in bytes.
pub const SLOT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Why a release is not for this Thing. The text goes into the signed report.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No trusted vendor signed it.
    #[error("the release is not signed by a vendor that this Thing trusts")]
    UnknownVendor,
    /// The signature is wrong.
    #[error("the signature of the release does not verify")]
    Signature(#[source] ReleaseError),
    /// It is for other hardware.
    #[error("the release is not for hardware class {0}")]
    HardwareClass(String),
    /// It is older than what runs here, where that matters for security.
    #[error("security counter {counter} is below the floor {floor}")]
    SecurityCounter {
        /// Of the release.
        counter: u64,
        /// Of the Thing.
        floor: u64,
    },
    /// It may not replace what runs here.
    #[error("the release replaces version {needed} or later, {running} is running")]
    Precursor {
        /// The lowest version that it may replace.
        needed: Version,
        /// What runs.
        running: Version,
    },
    /// Its time is over.
    #[error("the release has expired")]
    Expired,
    /// It does not fit.
    #[error("{0} bytes do not fit the slot")]
    TooLarge(u64),
    /// The image is not the one that the vendor signed.
    #[error("the image does not have the size and digest that the vendor signed")]
    Image,
}

impl Refusal {
    /// The value of `/5/0/5` for it.
    pub fn result(&self) -> UpdateResult {
        match self {
            Refusal::UnknownVendor | Refusal::Signature(_) | Refusal::Image => {
                UpdateResult::IntegrityCheckFailed
            }
            Refusal::TooLarge(_) => UpdateResult::NotEnoughFlash,
            _ => UpdateResult::UnsupportedPackage,
        }
    }
}

/// Decides whose signature on a release counts.
pub trait ManifestVerifier: Send + Sync {
    /// The manifest, if a trusted vendor signed it.
    fn verify(&self, release: &SignedRelease) -> Result<ReleaseManifest, Refusal>;
}

/// Vendors' keys that were put into the Thing in the factory.
#[derive(Debug, Clone)]
pub struct VendorKeys(pub Vec<PublicKey>);

impl ManifestVerifier for VendorKeys {
    fn verify(&self, release: &SignedRelease) -> Result<ReleaseManifest, Refusal> {
        if !self.0.contains(&release.key) {
            return Err(Refusal::UnknownVendor);
        }
        release.verify().map_err(Refusal::Signature)
    }
}

/// What the Thing knows about itself when it looks at a release.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// Its hardware class.
    pub hardware_class: &'a str,
    /// Its security counter floor.
    pub floor: u64,
    /// What runs.
    pub running: Version,
    /// Unix time in ms.
    pub now_ms: u64,
}

/// Whether the Thing may take the release.
pub fn check(manifest: &ReleaseManifest, facts: &Facts<'_>) -> Result<(), Refusal> {
    if !manifest
        .hardware_classes
        .iter()
        .any(|class| class == facts.hardware_class)
    {
        return Err(Refusal::HardwareClass(facts.hardware_class.to_owned()));
    }
    let (counter, floor) = (manifest.security_counter, facts.floor);
    if counter < floor {
        return Err(Refusal::SecurityCounter { counter, floor });
    }
    if let Some(needed) = manifest
        .replaces_from
        .filter(|needed| facts.running < *needed)
    {
        return Err(Refusal::Precursor {
            needed,
            running: facts.running,
        });
    }
    if manifest.expires_ms.is_some_and(|at| at <= facts.now_ms) {
        return Err(Refusal::Expired);
    }
    if manifest.size_bytes == 0 || manifest.size_bytes > SLOT_BYTES_MAX {
        return Err(Refusal::TooLarge(manifest.size_bytes));
    }
    Ok(())
}
