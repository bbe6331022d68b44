//! Queries of releases and artifacts, for the edge and for other contracts.

use lamplighter_state::StateError;
use lamplighter_types::{
    Account, Artifact, Hash, Id, Release, ReleaseManifest, ReleaseStatus, Retention, Role, Scope,
};

use super::{FirmwareError, approving, keys};
use crate::{ExecutionError, Reader, users};

pub fn release(reader: &impl Reader, release: &Id) -> Result<Option<Release>, StateError> {
    reader.get(&keys::release(release))
}

/// Releases by id, after the id `after`.
pub fn releases(
    reader: &impl Reader,
    after: Option<&Id>,
    limit: usize,
) -> Result<Vec<Release>, StateError> {
    let after = after.map(keys::release);
    reader.page(&keys::releases(), after.as_ref(), limit)
}

pub fn artifact(
    reader: &impl Reader,
    digest: &Hash,
    size_bytes: u64,
) -> Result<Option<Artifact>, StateError> {
    reader.get(&keys::artifact(digest, size_bytes))
}

/// Artifacts by digest and size, after those of `after`.
pub fn artifacts(
    reader: &impl Reader,
    after: Option<&(Hash, u64)>,
    limit: usize,
) -> Result<Vec<Artifact>, StateError> {
    let after = after.map(|(digest, size_bytes)| keys::artifact(digest, *size_bytes));
    reader.page(&keys::artifacts(), after.as_ref(), limit)
}

/// Tells whether a release names the artifact.
pub fn is_published(reader: &impl Reader, digest: &Hash) -> Result<bool, StateError> {
    Ok(!reader.page(&keys::releases_of(digest), None, 1)?.is_empty())
}

/// The release, if a rollout of it may begin in `districts` at `time_ms`: enough approvals count
/// now, and its vendor has the role of one in each district.
pub(crate) fn installable(
    reader: &impl Reader,
    name: &Id,
    districts: &[Scope],
    time_ms: u64,
) -> Result<Release, ExecutionError> {
    let found = release(reader, name)?.ok_or_else(|| FirmwareError::Unknown(name.clone()))?;
    if found.status != ReleaseStatus::Released {
        return Err(FirmwareError::NotReleased(name.clone()).into());
    }
    if is_expired(&found.manifest, time_ms) {
        return Err(FirmwareError::Expired(name.clone()).into());
    }
    require_supported(reader, &found, districts, time_ms)?;
    Ok(found)
}

/// Requires that a rollout of the release may go on in `districts` at `time_ms`: it is not revoked,
/// enough approvals count now, and its vendor has the role of one in each district.
pub(crate) fn resumable(
    reader: &impl Reader,
    name: &Id,
    districts: &[Scope],
    time_ms: u64,
) -> Result<(), ExecutionError> {
    let found = release(reader, name)?.ok_or_else(|| FirmwareError::Unknown(name.clone()))?;
    match found.status {
        ReleaseStatus::Released | ReleaseStatus::Deprecated => {}
        ReleaseStatus::Signed | ReleaseStatus::Revoked => {
            return Err(FirmwareError::NotReleased(name.clone()).into());
        }
    }
    require_supported(reader, &found, districts, time_ms)
}

fn require_supported(
    reader: &impl Reader,
    release: &Release,
    districts: &[Scope],
    time_ms: u64,
) -> Result<(), ExecutionError> {
    approving::require_approved(reader, release, time_ms)?;
    let vendor = &release.manifest.vendor;
    let account = users::account(reader, vendor)?.filter(|account| !account.disabled);
    for district in districts {
        let serves = |account: &Account| account.has_role(Role::Vendor, district);
        if !account.as_ref().is_some_and(serves) {
            return Err(FirmwareError::VendorElsewhere {
                vendor: vendor.clone(),
                district: district.clone(),
            }
            .into());
        }
    }
    Ok(())
}

/// Tells whether the release may no longer be installed.
pub(crate) fn is_expired(manifest: &ReleaseManifest, time_ms: u64) -> bool {
    manifest
        .expires_ms
        .is_some_and(|expires_ms| expires_ms <= time_ms)
}

/// Tells whether the time in which the release could be approved is over.
pub(crate) fn is_lapsed(release: &Release, time_ms: u64, retention: &Retention) -> bool {
    let until_ms = release
        .published_ms
        .saturating_add(retention.open_release_ms);
    release.status == ReleaseStatus::Signed && until_ms <= time_ms
}
