//! Plans: made, approved, started.

use std::collections::BTreeSet;

use lamplighter_state::Overlay;
use lamplighter_types::limits::SMALL_LIST_MAX;
use lamplighter_types::{
    Fact, Hash, Id, Notification, Role, Rollout, RolloutCounts, RolloutPlan, RolloutStatus, Scope,
    Selection, codec,
};

use super::unit::RolloutUnit;
use super::{ROLLOUTS_AT_WORK_MAX, RolloutsError, keys};
use crate::{Context, ExecutionError, Reader, devices, firmware, governance};

pub fn plan(
    overlay: &mut Overlay,
    context: &Context,
    plan: &RolloutPlan,
) -> Result<Vec<Notification>, ExecutionError> {
    let districts = districts(overlay, &plan.selection)?;
    require(context, Role::Operator, &districts)?;
    let key = keys::rollout(&plan.rollout);
    if overlay.exists(&key)? {
        return Err(RolloutsError::Exists(plan.rollout.clone()).into());
    }
    firmware::installable(overlay, &plan.release, context.block.time_ms)?;
    let rollout = Rollout {
        plan: plan.clone(),
        plan_digest: codec::digest(plan),
        status: RolloutStatus::PendingApproval,
        author: context.sender.account.clone(),
        approvals: Vec::new(),
        reason: String::new(),
        counts: RolloutCounts::default(),
        counts_at_resume: RolloutCounts::default(),
        districts,
        cursor: None,
        expanded: false,
        sweep: None,
        swept: false,
        planned_height: context.block.height,
        started_ms: None,
        status_height: context.block.height,
    };
    overlay.put(&key, &rollout);
    Ok(vec![Notification::city(Fact::RolloutPlanned {
        rollout: plan.rollout.clone(),
    })])
}

/// The districts that a selection touches, none within another one.
fn districts(overlay: &Overlay, selection: &Selection) -> Result<Vec<Scope>, ExecutionError> {
    let listed = match selection {
        Selection::Filter {
            district,
            model: _,
            hardware_class: _,
            tag: _,
        } => {
            return Ok(vec![district.clone()]);
        }
        Selection::List { devices } => devices,
    };
    let mut touched = BTreeSet::new();
    for name in listed {
        let device = devices::device(overlay, name)?
            .ok_or_else(|| RolloutsError::UnknownDevice(name.clone()))?;
        touched.insert(device.district);
    }
    let inner = |d: &Scope| touched.iter().any(|other| other != d && other.covers(d));
    let districts: Vec<Scope> = touched.iter().filter(|d| !inner(d)).cloned().collect();
    if districts.len() > SMALL_LIST_MAX {
        return Err(RolloutsError::TooManyDistricts.into());
    }
    Ok(districts)
}

/// Requires a role over all districts.
pub(super) fn require(
    context: &Context,
    role: Role,
    districts: &[Scope],
) -> Result<(), ExecutionError> {
    for district in districts {
        context.require(role, district)?;
    }
    Ok(())
}

pub(super) fn find(overlay: &Overlay, name: &Id) -> Result<Rollout, ExecutionError> {
    let found = overlay.get(&keys::rollout(name))?;
    Ok(found.ok_or_else(|| RolloutsError::Unknown(name.clone()))?)
}

pub fn approve(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    looked_at: &Hash,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut rollout = find(overlay, name)?;
    require(context, Role::Approver, &rollout.districts)?;
    let waiting = [
        RolloutStatus::PendingApproval,
        RolloutStatus::PausedByErrors,
    ];
    if !waiting.contains(&rollout.status) {
        return Err(RolloutsError::Status(rollout.status).into());
    }
    let by = &context.sender.account;
    if *by == rollout.author {
        return Err(RolloutsError::SelfApproval(by.clone()).into());
    }
    if rollout.approvals.contains(by) {
        return Err(RolloutsError::Approved(by.clone()).into());
    }
    if rollout.plan_digest != *looked_at {
        let planned = rollout.plan_digest;
        return Err(RolloutsError::OtherPlan {
            planned,
            looked_at: *looked_at,
        }
        .into());
    }
    if rollout.status == RolloutStatus::PendingApproval {
        firmware::installable(overlay, &rollout.plan.release, context.block.time_ms)?;
    }
    rollout.approvals.push(by.clone());
    let enough = rollout.approvals.len() >= wanted_approvals(overlay)?;
    if enough && rollout.status == RolloutStatus::PendingApproval {
        rollout.status = RolloutStatus::Approved;
        rollout.status_height = context.block.height;
    }
    overlay.put(&keys::rollout(name), &rollout);
    Ok(vec![Notification::city(Fact::RolloutApproved {
        rollout: name.clone(),
        by: by.clone(),
    })])
}

/// Number of people besides the author who must approve a plan, at least one.
pub(super) fn wanted_approvals(overlay: &Overlay) -> Result<usize, ExecutionError> {
    Ok(usize::from(
        governance::policies(overlay)?
            .approvals
            .rollouts
            .approvals
            .max(1),
    ))
}

pub fn start(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
) -> Result<Vec<Notification>, ExecutionError> {
    let rollout = find(overlay, name)?;
    require(context, Role::Operator, &rollout.districts)?;
    if rollout.status != RolloutStatus::Approved {
        return Err(RolloutsError::Status(rollout.status).into());
    }
    firmware::installable(overlay, &rollout.plan.release, context.block.time_ms)?;
    if overlay
        .page(&keys::at_work(), None, ROLLOUTS_AT_WORK_MAX)?
        .len()
        >= ROLLOUTS_AT_WORK_MAX
    {
        return Err(RolloutsError::TooMany.into());
    }
    let mut unit = RolloutUnit::new(overlay, context.block);
    unit.edit(name)?.started_ms = Some(context.block.time_ms);
    unit.set_status(name, RolloutStatus::Running)?;
    unit.notify(Notification::city(Fact::RolloutStarted {
        rollout: name.clone(),
    }));
    Ok(unit.commit()?)
}
