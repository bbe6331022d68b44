use lamplighter_types::codec::CodecError;
use lamplighter_types::limits::ARTIFACT_BYTES_MAX;
use lamplighter_types::report::ReleaseError;
use lamplighter_types::{Hash, Id, PublicKey, Scope};

use super::OPEN_RELEASES_PER_ORGANIZATION_MAX;
use crate::ContractError;
use crate::validate::FieldError;

/// Why the firmware contract refuses an action.
#[derive(Debug, thiserror::Error)]
pub enum FirmwareError {
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error("the release can't be read")]
    Manifest(#[source] CodecError),
    #[error("an artifact has 1 to {ARTIFACT_BYTES_MAX} bytes, not {0}")]
    Size(u64),
    #[error("a security counter is below 2^32, not {0}")]
    SecurityCounter(u64),
    #[error("the release {0} depends on itself")]
    DependsOnItself(Id),
    #[error("the release is not signed by its vendor")]
    Signature(#[source] ReleaseError),
    #[error("{account} is neither the vendor {vendor} nor an operator")]
    NotPublisher { account: Id, vendor: Id },
    #[error("there is no account {0}")]
    UnknownVendor(Id),
    #[error("{0} has not the role of a vendor, or is disabled")]
    NotVendor(Id),
    #[error("{key} is not a key in use of {vendor}")]
    ForeignKey { vendor: Id, key: PublicKey },
    #[error("the vendor's key {0} was revoked")]
    KeyRevoked(PublicKey),
    #[error("there is a release {0} already")]
    Exists(Id),
    #[error("there is no release {0}")]
    Unknown(Id),
    #[error("there is no release {0} to depend on")]
    UnknownDependency(Id),
    #[error("the release {0} has expired")]
    Expired(Id),
    #[error("the artifact {artifact} is known to have {known_bytes} bytes, not {size_bytes}")]
    SizeMismatch {
        artifact: Hash,
        known_bytes: u64,
        size_bytes: u64,
    },
    #[error("no release has the artifact {artifact} with {size_bytes} bytes")]
    UnknownArtifact { artifact: Hash, size_bytes: u64 },
    #[error("{0} has {OPEN_RELEASES_PER_ORGANIZATION_MAX} open releases, which is the most")]
    TooManyOpen(Id),
    #[error("the release {0} was not approved in time")]
    Lapsed(Id),
    #[error("{got} approvals of the release {release} count now, it needs {wanted}")]
    NotApproved {
        release: Id,
        got: usize,
        wanted: usize,
    },
    #[error("the release {0} has the most approvals that are kept")]
    TooManyApprovals(Id),
    #[error("{0} has not approved this")]
    NoApproval(Id),
    #[error("{vendor} is no vendor of {district}, or is disabled")]
    VendorElsewhere { vendor: Id, district: Scope },
    #[error("the release {0} is not waiting for approval")]
    NotPending(Id),
    #[error("{0} published the release or is its vendor, so it can't approve it")]
    SelfApproval(Id),
    #[error("{0} has approved this release already")]
    Approved(Id),
    #[error("the published manifest is {published}, not {looked_at}")]
    OtherManifest { published: Hash, looked_at: Hash },
    #[error("{holders} validators hold the artifact, a quorum has {quorum}")]
    NotHeld { holders: usize, quorum: usize },
    #[error("the release {0} is not released")]
    NotReleased(Id),
    #[error("the release {0} was revoked already")]
    Revoked(Id),
    #[error("{0} is neither the vendor nor does it have the role for this")]
    NotInCharge(Id),
    #[error("{0} is not a validator in force")]
    NotValidator(Id),
}

impl ContractError for FirmwareError {
    fn code(&self) -> &'static str {
        match self {
            Self::Field(error) => error.code(),
            Self::Manifest(_) => "firmware.manifest",
            Self::Size(_) => "firmware.size",
            Self::SecurityCounter(_) => "firmware.security_counter",
            Self::DependsOnItself(_) => "firmware.depends_on_itself",
            Self::Signature(_) => "firmware.signature",
            Self::NotPublisher { .. } => "firmware.not_publisher",
            Self::UnknownVendor(_) => "firmware.unknown_vendor",
            Self::NotVendor(_) => "firmware.not_vendor",
            Self::ForeignKey { .. } => "firmware.foreign_key",
            Self::KeyRevoked(_) => "firmware.key_revoked",
            Self::Exists(_) => "firmware.exists",
            Self::Unknown(_) => "firmware.unknown_release",
            Self::UnknownDependency(_) => "firmware.unknown_dependency",
            Self::Expired(_) => "firmware.expired",
            Self::SizeMismatch { .. } => "firmware.size_mismatch",
            Self::UnknownArtifact { .. } => "firmware.unknown_artifact",
            Self::TooManyOpen(_) => "firmware.too_many_open",
            Self::Lapsed(_) => "firmware.lapsed",
            Self::NotApproved { .. } => "firmware.not_approved",
            Self::TooManyApprovals(_) => "firmware.too_many_approvals",
            Self::NoApproval(_) => "firmware.no_approval",
            Self::VendorElsewhere { .. } => "firmware.vendor_elsewhere",
            Self::NotPending(_) => "firmware.not_pending",
            Self::SelfApproval(_) => "firmware.own_release",
            Self::Approved(_) => "firmware.approved",
            Self::OtherManifest { .. } => "firmware.other_manifest",
            Self::NotHeld { .. } => "firmware.not_held",
            Self::NotReleased(_) => "firmware.not_released",
            Self::Revoked(_) => "firmware.revoked",
            Self::NotInCharge(_) => "firmware.not_in_charge",
            Self::NotValidator(_) => "firmware.not_validator",
        }
    }
}
