//! Plans: made, and removed when nobody starts them in time.

use std::collections::BTreeSet;

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::limits::SMALL_LIST_MAX;
use lamplighter_types::{
    Fact, GroupMembers, GroupedPlan, GuardedPlan, Hash, Id, Notification, Retention, Role, Rollout,
    RolloutCounts, RolloutPlan, RolloutStatus, Scope, Selection, codec,
};

use super::expand::is_selected;
use super::{OPEN_PLANS_PER_ORGANIZATION_MAX, RolloutsError, groups, keys};
use crate::{BlockContext, Context, ExecutionError, Reader, devices, firmware, governance};

pub fn plan(
    overlay: &mut Overlay,
    context: &Context,
    plan: &RolloutPlan,
) -> Result<Vec<Notification>, ExecutionError> {
    add(overlay, context, plan, codec::digest(plan))
}

/// Plans a rollout in groups.
pub fn plan_groups(
    overlay: &mut Overlay,
    context: &Context,
    plan: &GroupedPlan,
) -> Result<Vec<Notification>, ExecutionError> {
    let notifications = add(overlay, context, &plan.base, codec::digest(plan))?;
    put_groups(overlay, plan)?;
    Ok(notifications)
}

/// Plans a rollout whose devices install inside of windows, or with a consent.
pub fn plan_guarded(
    overlay: &mut Overlay,
    context: &Context,
    plan: &GuardedPlan,
) -> Result<Vec<Notification>, ExecutionError> {
    let GuardedPlan {
        plan: grouped,
        rules,
    } = plan;
    let notifications = add(overlay, context, &grouped.base, codec::digest(plan))?;
    put_groups(overlay, grouped)?;
    overlay.put(&keys::install_rules(&grouped.base.rollout), rules);
    Ok(notifications)
}

fn put_groups(overlay: &mut Overlay, plan: &GroupedPlan) -> Result<(), ExecutionError> {
    for group in &plan.groups {
        require_named_inside(overlay, &plan.base.selection, &group.members)?;
    }
    let name = &plan.base.rollout;
    overlay.put(&keys::grouped_plan(name), plan);
    overlay.put(&keys::groups(name), &groups::unopened(plan));
    Ok(())
}

/// Requires that the devices which a group names are among those of the rollout.
fn require_named_inside(
    overlay: &Overlay,
    selection: &Selection,
    members: &GroupMembers,
) -> Result<(), ExecutionError> {
    let GroupMembers::Selected {
        selection: Selection::List { devices },
    } = members
    else {
        return Ok(());
    };
    for name in devices {
        let device = devices::device(overlay, name)?
            .ok_or_else(|| RolloutsError::UnknownDevice(name.clone()))?;
        if !is_selected(selection, &device) {
            return Err(RolloutsError::NamedOutside(name.clone()).into());
        }
    }
    Ok(())
}

/// Replaces a plan that has not begun, by one with guards or without. Who approved it approved
/// another one.
pub fn amend(
    overlay: &mut Overlay,
    context: &Context,
    plan: &GroupedPlan,
    guarded: Option<&GuardedPlan>,
) -> Result<Vec<Notification>, ExecutionError> {
    let name = &plan.base.rollout;
    let mut rollout = find(overlay, name)?;
    let districts = districts(overlay, &plan.base.selection)?;
    require(context, Role::Operator, &rollout.districts)?;
    require(context, Role::Operator, &districts)?;
    if !is_open(rollout.status) {
        return Err(RolloutsError::Status(rollout.status).into());
    }
    let BlockContext {
        chain_id: _,
        height,
        time_ms,
    } = context.block;
    let retention = governance::policies(overlay)?.retention;
    if is_lapsed(&rollout, time_ms, &retention) {
        return Err(RolloutsError::Lapsed(name.clone()).into());
    }
    firmware::installable(overlay, &plan.base.release, &districts, time_ms)?;
    rollout.plan = plan.base.clone();
    rollout.plan_digest = guarded.map_or_else(|| codec::digest(plan), codec::digest);
    rollout.status = RolloutStatus::PendingApproval;
    rollout.status_height = height;
    rollout.author = context.sender.account.clone();
    rollout.approvals.clear();
    rollout.districts = districts;
    rollout.planned_height = height;
    rollout.planned_ms = time_ms;
    overlay.put(&keys::rollout(name), &rollout);
    put_groups(overlay, plan)?;
    let key = keys::install_rules(name);
    match guarded {
        Some(guarded) => overlay.put(&key, &guarded.rules),
        None if overlay.exists(&key)? => overlay.delete(&key),
        None => {}
    }
    Ok(vec![Notification::city(Fact::RolloutAmended {
        rollout: name.clone(),
    })])
}

fn add(
    overlay: &mut Overlay,
    context: &Context,
    plan: &RolloutPlan,
    plan_digest: Hash,
) -> Result<Vec<Notification>, ExecutionError> {
    let districts = districts(overlay, &plan.selection)?;
    require(context, Role::Operator, &districts)?;
    let key = keys::rollout(&plan.rollout);
    if overlay.exists(&key)? {
        return Err(RolloutsError::Exists(plan.rollout.clone()).into());
    }
    let time_ms = context.block.time_ms;
    firmware::installable(overlay, &plan.release, &districts, time_ms)?;
    let organization = context.sender.organization.clone();
    let mut notifications = prune(overlay, &organization, time_ms)?;
    if open_plans(overlay, &organization)?.len() >= OPEN_PLANS_PER_ORGANIZATION_MAX {
        return Err(RolloutsError::TooManyOpen(organization).into());
    }
    let rollout = Rollout {
        plan: plan.clone(),
        plan_digest,
        status: RolloutStatus::PendingApproval,
        author: context.sender.account.clone(),
        organization,
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
        planned_ms: time_ms,
        started_ms: None,
        status_height: context.block.height,
    };
    overlay.put(&key, &rollout);
    overlay.put(
        &keys::open_plan(&rollout.organization, &plan.rollout),
        &plan.rollout,
    );
    notifications.push(Notification::city(Fact::RolloutPlanned {
        rollout: plan.rollout.clone(),
    }));
    Ok(notifications)
}

fn open_plans(overlay: &Overlay, organization: &Id) -> Result<Vec<Id>, StateError> {
    let open = keys::open_plans(organization);
    Reader::page(overlay, &open, None, OPEN_PLANS_PER_ORGANIZATION_MAX)
}

/// Removes the organization's plans that were not started in time, which are few. They have no
/// deployments; the history keeps them.
fn prune(
    overlay: &mut Overlay,
    organization: &Id,
    time_ms: u64,
) -> Result<Vec<Notification>, StateError> {
    let retention = governance::policies(overlay)?.retention;
    let mut notifications = Vec::new();
    for name in open_plans(overlay, organization)? {
        let key = keys::rollout(&name);
        let Some(rollout) = overlay.get(&key)? else {
            continue;
        };
        if is_lapsed(&rollout, time_ms, &retention) {
            overlay.delete(&key);
            overlay.delete(&keys::open_plan(organization, &name));
            overlay.delete(&keys::grouped_plan(&name));
            overlay.delete(&keys::groups(&name));
            let rules = keys::install_rules(&name);
            if overlay.exists(&rules)? {
                overlay.delete(&rules);
            }
            notifications.push(Notification::city(Fact::RolloutLapsed { rollout: name }));
        }
    }
    Ok(notifications)
}

/// Tells whether the time in which the plan could be started is over.
pub(super) fn is_lapsed(rollout: &Rollout, time_ms: u64, retention: &Retention) -> bool {
    let until_ms = rollout.planned_ms.saturating_add(retention.open_plan_ms);
    is_open(rollout.status) && until_ms <= time_ms
}

/// Tells whether the rollout is a plan that was not started.
pub(super) fn is_open(status: RolloutStatus) -> bool {
    use RolloutStatus::*;
    match status {
        PendingApproval | Approved => true,
        Running | Paused | PausedByErrors | Stopping | Stopped | Finished => false,
    }
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
