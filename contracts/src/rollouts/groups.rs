//! The groups of a rollout: opened one after the other, or the rollout paused.

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::limits::{GROUPS_MAX, ROLLOUT_LIST_MAX, SMALL_LIST_MAX};
use lamplighter_types::validate;
use lamplighter_types::{
    Deployment, Fact, Group, GroupCounts, GroupMembers, GroupRecord, GroupStatus, GroupedPlan, Id,
    Notification, PauseLimits, RetryPolicy, Role, RolloutGroups, RolloutStatus, Selection,
};

use super::plan::{find, require};
use super::unit::{RolloutUnit, StepInfo};
use super::{CONTINUOUS_ROLLOUTS_MAX, RolloutsError, STEP_MS_MAX, error_gate, group_gate, keys};
use crate::{Context, ExecutionError, Reader, firmware};

/// Checks shape and size of what a plan in groups has besides its base.
pub(super) fn check(plan: &GroupedPlan) -> Result<(), RolloutsError> {
    let GroupedPlan {
        base,
        groups,
        limits,
        retry,
        continuous,
        stop_ms,
    } = plan;
    validate::list("groups", groups, GROUPS_MAX)?;
    let PauseLimits {
        error_count_max: _,
        silence_percent_max,
    } = limits;
    percent(silence_percent_max.unwrap_or(0))?;
    let RetryPolicy { backoff_ms, codes } = retry;
    duration("backoff_ms", *backoff_ms)?;
    if !codes.is_empty() {
        validate::list("codes", codes, SMALL_LIST_MAX)?;
    }
    if let Some(stop_ms) = stop_ms {
        validate::number("stop_ms", *stop_ms)?;
    }
    if *continuous && matches!(base.selection, Selection::List { .. }) {
        return Err(RolloutsError::ContinuousList);
    }
    check_members(groups)?;
    groups.iter().enumerate().try_for_each(|(at, group)| {
        let last = at + 1 == groups.len();
        check_group(group, last).map_err(|problem| RolloutsError::Group {
            group: at + 1,
            problem,
        })
    })
}

fn percent(percent: u8) -> Result<(), RolloutsError> {
    match percent {
        0..=100 => Ok(()),
        more => Err(RolloutsError::Percent(more)),
    }
}

fn duration(field: &'static str, got: u64) -> Result<(), RolloutsError> {
    match got {
        0..=STEP_MS_MAX => Ok(()),
        _ => Err(RolloutsError::Duration { field, got }),
    }
}

/// Checks what the groups are together.
fn check_members(groups: &[Group]) -> Result<(), RolloutsError> {
    let (mut percents, mut named) = (0_u32, 0);
    for group in groups {
        percent(group.gate.success_percent_min)?;
        duration("soak_ms", group.gate.soak_ms)?;
        match &group.members {
            GroupMembers::Selected { selection } => {
                super::execute::check_selection(selection)?;
                if let Selection::List { devices } = selection {
                    named += devices.len();
                }
            }
            GroupMembers::Percent { percent } => percents += u32::from(*percent),
            GroupMembers::Count { count: _ } | GroupMembers::Rest => {}
        }
    }
    if percents > 100 {
        return Err(RolloutsError::Shares(percents));
    }
    if named > ROLLOUT_LIST_MAX {
        return Err(RolloutsError::TooManyNamed(named));
    }
    Ok(())
}

fn check_group(group: &Group, last: bool) -> Result<(), &'static str> {
    let Group { members, gate } = group;
    match members {
        GroupMembers::Count { count: 0 } | GroupMembers::Percent { percent: 0 } => {
            return Err("it has no device");
        }
        GroupMembers::Rest if !last => return Err("no device is left for those behind it"),
        GroupMembers::Selected { .. }
        | GroupMembers::Count { .. }
        | GroupMembers::Percent { .. }
        | GroupMembers::Rest => {}
    }
    if last && gate.next_by_hand {
        return Err("there is no next one to open");
    }
    let opens_by_itself = !last && !gate.next_by_hand;
    if opens_by_itself && (gate.sample_min == 0 || gate.success_percent_min == 0) {
        return Err("a gate that opens by itself wants a success");
    }
    Ok(())
}

/// The progress of a plan of which no group has opened.
pub(super) fn unopened(plan: &GroupedPlan) -> RolloutGroups {
    let waiting = GroupRecord {
        status: GroupStatus::Waiting,
        counts: GroupCounts::default(),
        counts_at_resume: GroupCounts::default(),
        opened_height: None,
        opened_ms: None,
        soaking_since_ms: None,
    };
    RolloutGroups {
        rollout: plan.base.rollout.clone(),
        groups: vec![waiting; plan.groups.len()],
        opened: 0,
        late: 0,
        too_late: 0,
        due_ms: None,
    }
}

/// Opens the first group of a rollout that starts.
pub(super) fn start(unit: &mut RolloutUnit<'_>, name: &Id) -> Result<(), ExecutionError> {
    let Some(grouped) = unit.grouped(name)? else {
        return Ok(());
    };
    let (stop_ms, continuous) = (grouped.plan.stop_ms, grouped.plan.continuous);
    let now_ms = unit.block.time_ms;
    if let Some(stop_ms) = stop_ms.filter(|stop_ms| *stop_ms <= now_ms) {
        return Err(RolloutsError::StopPassed(stop_ms).into());
    }
    let at_work = unit
        .overlay
        .page(&keys::continuous(), None, CONTINUOUS_ROLLOUTS_MAX)?;
    if continuous && at_work.len() >= CONTINUOUS_ROLLOUTS_MAX {
        return Err(RolloutsError::TooManyContinuous.into());
    }
    Ok(open_next(unit, name)?)
}

/// Opens the next group: the blocks that follow assign its devices.
fn open_next(unit: &mut RolloutUnit<'_>, name: &Id) -> Result<(), StateError> {
    let (height, time_ms) = (unit.block.height, unit.block.time_ms);
    let rollout = unit.edit(name)?;
    rollout.cursor = None;
    rollout.expanded = false;
    let Some(grouped) = unit.edit_groups(name)? else {
        return Ok(());
    };
    let group = grouped.state.opened;
    let Some(record) = grouped.state.groups.get_mut(group as usize) else {
        return Ok(());
    };
    record.status = GroupStatus::Running;
    record.opened_height = Some(height);
    record.opened_ms = Some(time_ms);
    grouped.state.opened = group.saturating_add(1);
    unit.notify(Notification::city(Fact::GroupOpened {
        rollout: name.clone(),
        group,
    }));
    Ok(())
}

/// Opens the next group by hand.
pub(super) fn open_by_hand(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    group: u32,
) -> Result<Vec<Notification>, ExecutionError> {
    let rollout = find(overlay, name)?;
    require(context, Role::Operator, &rollout.districts)?;
    if rollout.status != RolloutStatus::Running {
        return Err(RolloutsError::Status(rollout.status).into());
    }
    let time_ms = context.block.time_ms;
    super::approving::require_approved(overlay, &rollout, time_ms)?;
    firmware::resumable(overlay, &rollout.plan.release, &rollout.districts, time_ms)?;
    let mut unit = RolloutUnit::new(overlay, context.block);
    evaluate(&mut unit, name)?;
    let Some(grouped) = unit.edit_groups(name)? else {
        return Err(RolloutsError::NoGroups(name.clone()).into());
    };
    let state = &mut grouped.state;
    let current = (state.opened as usize).checked_sub(1);
    let current = current.and_then(|at| state.groups.get_mut(at));
    let is_next = group == state.opened && (group as usize) < grouped.plan.groups.len();
    let Some(record) = current.filter(|_| is_next) else {
        return Err(RolloutsError::NotNext(group).into());
    };
    if record.status != GroupStatus::Ready {
        return Err(RolloutsError::Gate(record.status).into());
    }
    record.status = GroupStatus::Passed;
    open_next(&mut unit, name)?;
    Ok(unit.commit()?)
}

/// Ends a pause: limits look at what comes from here, and soaks begin again.
pub(super) fn resume(
    unit: &mut RolloutUnit<'_>,
    name: &Id,
    after_errors: bool,
) -> Result<(), ExecutionError> {
    let time_ms = unit.block.time_ms;
    let Some(grouped) = unit.edit_groups(name)? else {
        return Ok(());
    };
    for (at, record) in grouped.state.groups.iter_mut().enumerate() {
        if record.status == GroupStatus::Failed {
            return Err(RolloutsError::GroupFailed(at + 1).into());
        }
        if after_errors {
            record.counts_at_resume = record.counts;
        }
        if let Some(since_ms) = &mut record.soaking_since_ms {
            *since_ms = time_ms;
        }
    }
    Ok(())
}

/// Pauses, finishes or stops a rollout in groups, or opens its next group, if its counts and the
/// block time say so.
pub(super) fn evaluate(unit: &mut RolloutUnit<'_>, name: &Id) -> Result<(), StateError> {
    let rollout = unit.rollout(name)?;
    let (status, expanded) = (rollout.status, rollout.expanded);
    let Some(grouped) = unit.grouped(name)? else {
        return Ok(());
    };
    // A pause is no end: groups that are over are looked at when the rollout is resumed.
    let ends = status == RolloutStatus::Running;
    let exceeded = group_gate::exceeded_by_any(&grouped.plan, &grouped.state, ends, expanded);
    match (status, exceeded) {
        (RolloutStatus::Running | RolloutStatus::Paused, Some(reason)) => {
            unit.pause_by_errors(name, reason)
        }
        (RolloutStatus::Running, None) => evaluate_current(unit, name),
        (RolloutStatus::Stopping, _) => evaluate_end(unit, name),
        (
            RolloutStatus::PendingApproval
            | RolloutStatus::Approved
            | RolloutStatus::Paused
            | RolloutStatus::PausedByErrors
            | RolloutStatus::Stopped
            | RolloutStatus::Finished,
            _,
        ) => Ok(()),
    }
}

fn evaluate_current(unit: &mut RolloutUnit<'_>, name: &Id) -> Result<(), StateError> {
    let expanded = unit.rollout(name)?.expanded;
    let time_ms = unit.block.time_ms;
    let Some(grouped) = unit.edit_groups(name)? else {
        return Ok(());
    };
    let Some(at) = (grouped.state.opened as usize).checked_sub(1) else {
        return Ok(());
    };
    let (group, record) = (&grouped.plan.groups[at], &mut grouped.state.groups[at]);
    let before = record.status;
    let status = group_gate::status_after(group, record, expanded, time_ms);
    record.status = status;
    let is_last = at + 1 == grouped.plan.groups.len();
    match status {
        GroupStatus::Running => record.soaking_since_ms = None,
        GroupStatus::Soaking => {
            record.soaking_since_ms.get_or_insert(time_ms);
        }
        GroupStatus::Failed if before != GroupStatus::Failed => {
            let reason = group_gate::failure(group, record, at);
            return unit.pause_by_errors(name, reason);
        }
        GroupStatus::Ready if before != GroupStatus::Ready => {
            unit.notify(Notification::city(Fact::GroupReady {
                rollout: name.clone(),
                group: u32::try_from(at).expect("a plan has few groups"),
            }));
        }
        GroupStatus::Passed if !is_last => return open_next(unit, name),
        GroupStatus::Waiting | GroupStatus::Ready | GroupStatus::Passed | GroupStatus::Failed => {}
    }
    evaluate_end(unit, name)
}

/// Finishes or stops a rollout in groups that is over.
fn evaluate_end(unit: &mut RolloutUnit<'_>, name: &Id) -> Result<(), StateError> {
    let rollout = unit.rollout(name)?.clone();
    let Some(grouped) = unit.grouped(name)? else {
        return Ok(());
    };
    match rollout.status {
        RolloutStatus::Running
            if group_gate::is_finished(&grouped.plan, &grouped.state, &rollout) =>
        {
            unit.end(name, RolloutStatus::Finished)
        }
        RolloutStatus::Stopping => match error_gate::status_after(&rollout) {
            Some(status) => unit.end(name, status),
            None => Ok(()),
        },
        RolloutStatus::PendingApproval
        | RolloutStatus::Approved
        | RolloutStatus::Running
        | RolloutStatus::Paused
        | RolloutStatus::PausedByErrors
        | RolloutStatus::Stopped
        | RolloutStatus::Finished => Ok(()),
    }
}

/// Records that a deployment of a rollout in groups can't be recalled any more.
pub(super) fn record_too_late(
    unit: &mut RolloutUnit<'_>,
    deployment: &mut Deployment,
    reason: &str,
) -> Result<(), StateError> {
    let Some(grouped) = unit.edit_groups(&deployment.rollout)? else {
        return Ok(());
    };
    grouped.state.too_late = grouped.state.too_late.saturating_add(1);
    let info = StepInfo::system(&format!("too late to recall: {reason}"));
    let state = deployment.state;
    unit.add_step(deployment, state, info);
    unit.put(deployment);
    Ok(())
}
