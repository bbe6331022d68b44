//! Queries of rollouts and deployments, for the edge and for other contracts.

use lamplighter_state::StateError;
use lamplighter_types::{Deployment, Id, Rollout};

use super::keys;
use crate::Reader;

pub fn rollout(reader: &impl Reader, rollout: &Id) -> Result<Option<Rollout>, StateError> {
    reader.get(&keys::rollout(rollout))
}

/// Rollouts by id, after the id `after`.
pub fn rollouts(
    reader: &impl Reader,
    after: Option<&Id>,
    limit: usize,
) -> Result<Vec<Rollout>, StateError> {
    let after = after.map(keys::rollout);
    reader.page(&keys::rollouts(), after.as_ref(), limit)
}

pub fn deployment(
    reader: &impl Reader,
    rollout: &Id,
    device: &Id,
) -> Result<Option<Deployment>, StateError> {
    reader.get(&keys::deployment(rollout, device))
}

/// The deployments of a rollout by device, after the device `after`.
pub fn deployments(
    reader: &impl Reader,
    rollout: &Id,
    after: Option<&Id>,
    limit: usize,
) -> Result<Vec<Deployment>, StateError> {
    let after = after.map(|device| keys::deployment(rollout, device));
    reader.page(&keys::deployments(rollout), after.as_ref(), limit)
}

/// The deployments of a device, oldest first, after the one of the rollout `after`.
pub fn deployments_of_device(
    reader: &impl Reader,
    device: &Id,
    after: Option<&Id>,
    limit: usize,
) -> Result<Vec<Deployment>, StateError> {
    let after = match after {
        Some(rollout) => deployment(reader, rollout, device)?
            .map(|d| keys::device_rollout(device, d.assigned_height, rollout)),
        None => None,
    };
    let rollouts = reader.page(&keys::device_rollouts(device), after.as_ref(), limit)?;
    let mut found = Vec::with_capacity(rollouts.len());
    for rollout in rollouts {
        found.extend(deployment(reader, &rollout, device)?);
    }
    Ok(found)
}
