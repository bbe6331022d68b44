//! State keys of rollouts and deployments.

use lamplighter_state::Key;
use lamplighter_types::{
    Deployment, GroupedPlan, Id, InstallRecord, InstallRules, RevocationSweep, Rollout,
    RolloutGroups, RolloutWork,
};

use crate::tables::Table;

pub fn rollouts() -> Key<Rollout> {
    Key::table(Table::Rollout as u8)
}

pub fn rollout(rollout: &Id) -> Key<Rollout> {
    rollouts().id(rollout)
}

/// The deployments of a rollout, by device.
pub fn deployments(rollout: &Id) -> Key<Deployment> {
    Key::table(Table::Deployment as u8).id(rollout)
}

pub fn deployment(rollout: &Id, device: &Id) -> Key<Deployment> {
    deployments(rollout).id(device)
}

/// The rollouts of which a device is or was part, oldest first.
pub fn device_rollouts(device: &Id) -> Key<Id> {
    Key::table(Table::DeploymentByDevice as u8).id(device)
}

/// The key of a device's part in a rollout; `height` is that of the assignment.
pub fn device_rollout(device: &Id, height: u64, rollout: &Id) -> Key<Id> {
    device_rollouts(device).number(height).id(rollout)
}

/// A running timer: its deadline, rollout and device.
pub type Timer = (u64, Id, Id);

/// All timers, the next one first.
pub fn timers() -> Key<Timer> {
    Key::table(Table::DeploymentTimer as u8)
}

pub fn timer(deadline_ms: u64, rollout: &Id, device: &Id) -> Key<Timer> {
    timers().number(deadline_ms).id(rollout).id(device)
}

/// The rollouts begun and not ended, with the work that blocks have left for them.
pub fn at_work() -> Key<(Id, RolloutWork)> {
    Key::table(Table::RunningRollout as u8)
}

pub fn work(rollout: &Id) -> Key<(Id, RolloutWork)> {
    at_work().id(rollout)
}

/// The rollouts that accounts of an organization have planned and that have not begun.
pub fn open_plans(organization: &Id) -> Key<Id> {
    Key::table(Table::OpenPlan as u8).id(organization)
}

pub fn open_plan(organization: &Id, rollout: &Id) -> Key<Id> {
    open_plans(organization).id(rollout)
}

/// The plan of a rollout in groups.
pub fn grouped_plan(rollout: &Id) -> Key<GroupedPlan> {
    Key::table(Table::GroupedPlan as u8).id(rollout)
}

/// The progress of a rollout in groups.
pub fn groups(rollout: &Id) -> Key<RolloutGroups> {
    Key::table(Table::RolloutGroups as u8).id(rollout)
}

/// The devices that began to match a continuous rollout and are not yet assigned.
pub fn late_devices(rollout: &Id) -> Key<Id> {
    Key::table(Table::LateDevice as u8).id(rollout)
}

pub fn late_device(rollout: &Id, device: &Id) -> Key<Id> {
    late_devices(rollout).id(device)
}

/// The rollouts for which time alone brings something, the next one first.
pub fn rollout_timers() -> Key<(u64, Id)> {
    Key::table(Table::RolloutTimer as u8)
}

pub fn rollout_timer(deadline_ms: u64, rollout: &Id) -> Key<(u64, Id)> {
    rollout_timers().number(deadline_ms).id(rollout)
}

/// The continuous rollouts at work.
pub fn continuous() -> Key<Id> {
    Key::table(Table::ContinuousRollout as u8)
}

pub fn continuous_one(rollout: &Id) -> Key<Id> {
    continuous().id(rollout)
}

/// The searches for devices that run a revoked release.
pub fn revocation_sweeps() -> Key<RevocationSweep> {
    Key::table(Table::RevocationSweep as u8)
}

pub fn revocation_sweep(release: &Id) -> Key<RevocationSweep> {
    revocation_sweeps().id(release)
}

/// What a plan asks for before a device installs; none for a plan without guards.
pub fn install_rules(rollout: &Id) -> Key<InstallRules> {
    Key::table(Table::InstallRules as u8).id(rollout)
}

/// The consent to a deployment of a plan with guards.
pub fn install_record(rollout: &Id, device: &Id) -> Key<InstallRecord> {
    Key::table(Table::InstallRecord as u8)
        .id(rollout)
        .id(device)
}
