//! Artifacts that validators hold: what they report, and what approvals need.

use lamplighter_state::Overlay;
use lamplighter_types::{
    AccountKind, Artifact, Fact, Hash, Notification, ReleaseManifest, Validator, ValidatorSet,
};

use super::{FirmwareError, keys};
use crate::{Context, ExecutionError, governance};

/// The number of validators in force that hold the artifact, and the number of a quorum.
pub(super) fn holders_in_force(
    overlay: &Overlay,
    artifact: &Artifact,
) -> Result<(usize, usize), ExecutionError> {
    let set = governance::validator_set(overlay)?;
    let in_force = artifact
        .holders
        .iter()
        .filter(|node| set.by_node(**node).is_some());
    Ok((in_force.count(), set.quorum()))
}

pub(super) fn require_held(
    overlay: &Overlay,
    manifest: &ReleaseManifest,
) -> Result<(), ExecutionError> {
    let key = keys::artifact(&manifest.artifact, manifest.size_bytes);
    let (holders, quorum) = match overlay.get(&key)? {
        Some(artifact) => holders_in_force(overlay, &artifact)?,
        None => (0, governance::validator_set(overlay)?.quorum()),
    };
    if holders < quorum {
        return Err(FirmwareError::NotHeld { holders, quorum }.into());
    }
    Ok(())
}

/// The set in force, and the validator whose account the sender is.
fn validator(overlay: &Overlay, context: &Context) -> Result<(ValidatorSet, u64), ExecutionError> {
    let set = governance::validator_set(overlay)?;
    let sender = &context.sender;
    let is_sender = |v: &&Validator| v.account == sender.account;
    let validator = set.validators.iter().find(is_sender);
    let Some(validator) = validator.filter(|_| sender.kind == AccountKind::Node) else {
        return Err(FirmwareError::NotValidator(sender.account.clone()).into());
    };
    let node = validator.node;
    Ok((set, node))
}

fn known(overlay: &Overlay, digest: &Hash, size_bytes: u64) -> Result<Artifact, ExecutionError> {
    let found = overlay.get(&keys::artifact(digest, size_bytes))?;
    let unknown = || FirmwareError::UnknownArtifact {
        artifact: *digest,
        size_bytes,
    };
    Ok(found.ok_or_else(unknown)?)
}

pub fn hold(
    overlay: &mut Overlay,
    context: &Context,
    digest: &Hash,
    size_bytes: u64,
) -> Result<Vec<Notification>, ExecutionError> {
    let (set, node) = validator(overlay, context)?;
    let mut artifact = known(overlay, digest, size_bytes)?;
    let Err(at) = artifact.holders.binary_search(&node) else {
        return Ok(Vec::new());
    };
    artifact.holders.insert(at, node);
    // Nodes that left the set do not count and are removed: the list stays as short as the set.
    artifact.holders.retain(|node| set.by_node(*node).is_some());
    overlay.put(&keys::artifact(digest, size_bytes), &artifact);
    let (artifact, holders) = (*digest, artifact.holders.len() as u32);
    Ok(vec![Notification::city(Fact::ArtifactHeld {
        artifact,
        node,
        holders,
    })])
}

/// Takes a validator out of the holders, before it removes the bytes.
pub fn drop_artifact(
    overlay: &mut Overlay,
    context: &Context,
    digest: &Hash,
    size_bytes: u64,
) -> Result<Vec<Notification>, ExecutionError> {
    let (_, node) = validator(overlay, context)?;
    let mut artifact = known(overlay, digest, size_bytes)?;
    let Ok(at) = artifact.holders.binary_search(&node) else {
        return Ok(Vec::new());
    };
    artifact.holders.remove(at);
    overlay.put(&keys::artifact(digest, size_bytes), &artifact);
    Ok(vec![Notification::city(Fact::ArtifactDropped {
        artifact: *digest,
        node,
    })])
}
