//! Queries of releases and artifacts, for the edge and for other contracts.

use lamplighter_state::StateError;
use lamplighter_types::{Artifact, Hash, Id, Release, ReleaseManifest, ReleaseStatus};

use super::{FirmwareError, keys};
use crate::{ExecutionError, Reader};

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

pub fn artifact(reader: &impl Reader, digest: &Hash) -> Result<Option<Artifact>, StateError> {
    reader.get(&keys::artifact(digest))
}

/// Artifacts by digest, after the digest `after`.
pub fn artifacts(
    reader: &impl Reader,
    after: Option<&Hash>,
    limit: usize,
) -> Result<Vec<Artifact>, StateError> {
    let after = after.map(keys::artifact);
    reader.page(&keys::artifacts(), after.as_ref(), limit)
}

/// The release, if a rollout of it may begin at `time_ms`.
pub(crate) fn installable(
    reader: &impl Reader,
    name: &Id,
    time_ms: u64,
) -> Result<Release, ExecutionError> {
    let found = release(reader, name)?.ok_or_else(|| FirmwareError::Unknown(name.clone()))?;
    if found.status != ReleaseStatus::Released {
        return Err(FirmwareError::NotReleased(name.clone()).into());
    }
    if is_expired(&found.manifest, time_ms) {
        return Err(FirmwareError::Expired(name.clone()).into());
    }
    Ok(found)
}

/// Tells whether the release may no longer be installed.
pub(crate) fn is_expired(manifest: &ReleaseManifest, time_ms: u64) -> bool {
    manifest
        .expires_ms
        .is_some_and(|expires_ms| expires_ms <= time_ms)
}
