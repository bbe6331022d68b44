//! Queries of rollouts and deployments, for the edge and for other contracts.

use std::collections::BTreeSet;

use lamplighter_state::StateError;
use lamplighter_types::{
    Deployment, GroupedPlan, Hash, Id, InstallRecord, InstallRules, Rollout, RolloutGroups,
};

use super::{ROLLOUTS_AT_WORK_MAX, keys};
use crate::{Reader, firmware};

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

/// The plan of a rollout in groups.
pub fn grouped_plan(reader: &impl Reader, rollout: &Id) -> Result<Option<GroupedPlan>, StateError> {
    reader.get(&keys::grouped_plan(rollout))
}

/// The progress of a rollout in groups.
pub fn groups(reader: &impl Reader, rollout: &Id) -> Result<Option<RolloutGroups>, StateError> {
    reader.get(&keys::groups(rollout))
}

/// What the plan of a rollout asks for before a device installs.
pub fn install_rules(
    reader: &impl Reader,
    rollout: &Id,
) -> Result<Option<InstallRules>, StateError> {
    reader.get(&keys::install_rules(rollout))
}

/// The consent to a deployment of a plan with guards.
pub fn install_record(
    reader: &impl Reader,
    rollout: &Id,
    device: &Id,
) -> Result<Option<InstallRecord>, StateError> {
    reader.get(&keys::install_record(rollout, device))
}

pub fn deployment(
    reader: &impl Reader,
    rollout: &Id,
    device: &Id,
) -> Result<Option<Deployment>, StateError> {
    reader.get(&keys::deployment(rollout, device))
}

/// The deployments of some devices in a rollout, in the order of the devices.
pub fn deployments_to(
    reader: &impl Reader,
    rollout: &Id,
    devices: &[Id],
) -> Result<Vec<Option<Deployment>>, StateError> {
    let key = |device| keys::deployment(rollout, device);
    let keys: Vec<_> = devices.iter().map(key).collect();
    reader.get_many(&keys)
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

/// The artifacts of the rollouts that have begun and not ended.
pub fn artifacts_at_work(reader: &impl Reader) -> Result<BTreeSet<Hash>, StateError> {
    let mut artifacts = BTreeSet::new();
    for (name, _) in reader.page(&keys::at_work(), None, ROLLOUTS_AT_WORK_MAX)? {
        let Some(rollout) = rollout(reader, &name)? else {
            continue;
        };
        let release = firmware::release(reader, &rollout.plan.release)?;
        artifacts.extend(release.map(|release| release.manifest.artifact));
    }
    Ok(artifacts)
}
