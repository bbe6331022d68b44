use serde::{Deserialize, Serialize};

use crate::{Hash, HexBytes, Id, PublicKey, Signature, Version};

/// Artifacts and releases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum FirmwareAction {
    Publish {
        release: SignedRelease,
    },
    /// `manifest` is the digest of the manifest bytes that the approver looked at.
    Approve {
        release: Id,
        manifest: Hash,
    },
    /// No new rollout.
    Deprecate {
        release: Id,
        reason: String,
    },
    /// Recalls every deployment that is not yet installing.
    Revoke {
        release: Id,
        reason: String,
    },
    /// A validator's statement that it holds every byte of the artifact.
    HoldArtifact {
        artifact: Hash,
        size_bytes: u64,
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
    /// Over `"lamplighter/release/1\0" || manifest`. Without the chain: a vendor releases to many
    /// cities.
    pub signature: Signature,
}

/// All that protects a device, inside the vendor's signature.
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
    /// Hardware that may install it.
    pub hardware_classes: Vec<String>,
    /// Installed only where it is not below the device's floor; it becomes the floor
    /// (anti-rollback). Below 2^32, as in MCUboot, so that no release can raise the floor to where
    /// nothing follows.
    pub security_counter: u64,
    /// The lowest running version it may replace.
    pub replaces_from: Option<Version>,
    /// Releases one of which must be confirmed on the device before.
    pub depends_on: Vec<Id>,
    /// Not to be installed from this time on.
    pub expires_ms: Option<u64>,
    /// Severity for deferral: a critical release can't be postponed.
    pub critical: bool,
    /// blake3 of a build attestation (in-toto), if there is one.
    pub provenance: Option<Hash>,
}
