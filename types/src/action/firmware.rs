use serde::{Deserialize, Serialize};

use crate::{Hash, HexBytes, Id, PublicKey, Signature, Version};

/// Actions on artifacts and releases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum FirmwareAction {
    Publish {
        release: SignedRelease,
    },
    /// Approves a release; `manifest` is the digest of the manifest bytes that the approver read.
    Approve {
        release: Id,
        manifest: Hash,
    },
    /// Ends new rollouts of a release.
    Deprecate {
        release: Id,
        reason: String,
    },
    /// Recalls every deployment that is not yet installing.
    Revoke {
        release: Id,
        reason: String,
    },
    /// States that the sending validator holds every byte of the artifact.
    HoldArtifact {
        artifact: Hash,
        size_bytes: u64,
    },
    /// States that the sending validator is going to remove the artifact.
    DropArtifact {
        artifact: Hash,
        size_bytes: u64,
    },
    /// Takes back the sender's approval of a release.
    WithdrawApproval {
        release: Id,
    },
    /// Takes back a release that nobody has released, by its author or vendor.
    Withdraw {
        release: Id,
    },
}

/// A manifest with the vendor's signature over its exact bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SignedRelease {
    /// Binary encoding of a [`ReleaseManifest`].
    pub manifest: HexBytes,
    /// The vendor's key.
    pub key: PublicKey,
    /// Covers `"lamplighter/release/1\0" || manifest`, without the chain: a vendor releases to many
    /// cities.
    pub signature: Signature,
}

/// A release as its vendor signs it, with all that protects a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReleaseManifest {
    pub release: Id,
    /// The vendor's account.
    pub vendor: Id,
    pub version: Version,
    /// blake3 of the artifact.
    pub artifact: Hash,
    pub size_bytes: u64,
    /// The hardware classes that may install it.
    pub hardware_classes: Vec<String>,
    /// Number against rollback: a device installs the release only if this is not below its floor,
    /// and it becomes the new floor. It is below 2^32, as in MCUboot, so that no release can raise
    /// the floor to a value above which nothing follows.
    pub security_counter: u64,
    /// The lowest running version it may replace.
    pub replaces_from: Option<Version>,
    /// Releases of which one must have been confirmed on the device.
    pub depends_on: Vec<Id>,
    /// Unix time in ms from which on no device installs it.
    pub expires_ms: Option<u64>,
    /// A critical release can't be postponed.
    pub critical: bool,
    /// blake3 of a build attestation (in-toto), if there is one.
    pub provenance: Option<Hash>,
}
