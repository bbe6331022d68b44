//! The gates between the groups of a rollout, and the limits above which it pauses: pure functions
//! of plan and counts.

use lamplighter_types::{
    Group, GroupCounts, GroupRecord, GroupStatus, GroupedPlan, Rollout, RolloutCounts,
    RolloutGroups, RolloutStatus,
};

/// The count of deployments that ended with a success or a failure.
fn ended(counts: &RolloutCounts) -> u64 {
    counts.confirmed.saturating_add(counts.failed)
}

/// Tells whether `part` is more than so many percent of `whole`. Integers make the limit exact.
fn exceeds(part: u64, whole: u64, percent: u8) -> bool {
    part.saturating_mul(100) > whole.saturating_mul(u64::from(percent))
}

/// The limit that a group has exceeded since the last pause by errors was ended. `over` says that
/// no deployment of it is left, so that the shares count whatever the sample.
fn exceeded(plan: &GroupedPlan, record: &GroupRecord, over: bool) -> Option<String> {
    let (now, before) = (&record.counts, &record.counts_at_resume);
    let since = |now: u64, before: u64| now.saturating_sub(before);
    let failed = since(now.deployments.failed, before.deployments.failed);
    let confirmed = since(now.deployments.confirmed, before.deployments.confirmed);
    let timed_out = since(now.timed_out, before.timed_out);
    let ended = failed.saturating_add(confirmed);
    let seen_enough = over || ended >= u64::from(plan.base.error_sample_min);
    if plan
        .limits
        .error_count_max
        .is_some_and(|max| failed > u64::from(max))
    {
        return Some(format!("{failed} deployments failed"));
    }
    if seen_enough && exceeds(failed, ended, plan.base.error_percent_max) {
        return Some(format!("{failed} of {ended} deployments failed"));
    }
    let silence = plan.limits.silence_percent_max;
    if seen_enough && silence.is_some_and(|max| exceeds(timed_out, ended, max)) {
        return Some(format!("{timed_out} of {ended} devices were silent"));
    }
    None
}

/// The first exceeded limit of the groups that have opened, in words. `ends` says that a group can
/// be over; `expanded` that all devices of the last one were assigned.
pub(super) fn exceeded_by_any(
    plan: &GroupedPlan,
    groups: &RolloutGroups,
    ends: bool,
    expanded: bool,
) -> Option<String> {
    let opened = groups.opened as usize;
    let mut records = groups.groups.iter().take(opened).enumerate();
    records.find_map(|(at, record)| {
        let all_known = at + 1 < opened || expanded;
        exceeded(plan, record, ends && is_over(record, all_known))
            .map(|what| format!("group {}: {what}", at + 1))
    })
}

/// Tells whether all devices of a group are known and none of them is at work.
fn is_over(record: &GroupRecord, expanded: bool) -> bool {
    let counts = &record.counts.deployments;
    expanded && counts.assigned == 0 && counts.active == 0
}

/// Tells whether the group is good enough: all of its devices are known, and so many of them have
/// confirmed the release as the gate wants.
fn is_good(group: &Group, counts: &GroupCounts, expanded: bool) -> bool {
    let counts = &counts.deployments;
    let all = ended(counts)
        .saturating_add(counts.assigned)
        .saturating_add(counts.active);
    let wanted = all.saturating_mul(u64::from(group.gate.success_percent_min));
    expanded
        && ended(counts) >= u64::from(group.gate.sample_min)
        && counts.confirmed.saturating_mul(100) >= wanted
}

/// The status that follows for the group that opened last. `expanded` says that all of its devices
/// were assigned. A status that is final stays.
pub(super) fn status_after(
    group: &Group,
    record: &GroupRecord,
    expanded: bool,
    time_ms: u64,
) -> GroupStatus {
    match record.status {
        final_one @ (GroupStatus::Waiting | GroupStatus::Passed | GroupStatus::Failed) => {
            return final_one;
        }
        GroupStatus::Running | GroupStatus::Soaking | GroupStatus::Ready => {}
    }
    if !is_good(group, &record.counts, expanded) {
        return match is_over(record, expanded) {
            true => GroupStatus::Failed,
            false => GroupStatus::Running,
        };
    }
    let since_ms = record.soaking_since_ms.unwrap_or(time_ms);
    if time_ms < since_ms.saturating_add(group.gate.soak_ms) {
        GroupStatus::Soaking
    } else if group.gate.next_by_hand {
        GroupStatus::Ready
    } else {
        GroupStatus::Passed
    }
}

/// Why a group has failed, in words.
pub(super) fn failure(group: &Group, record: &GroupRecord, at: usize) -> String {
    let counts = &record.counts.deployments;
    let (confirmed, ended) = (counts.confirmed, ended(counts));
    if ended == 0 {
        let (other, skipped) = (counts.other, counts.skipped);
        return format!(
            "group {} proved nothing: {other} devices run the release already or left, {skipped} \
             can't install it",
            at + 1
        );
    }
    let (percent, sample) = (group.gate.success_percent_min, group.gate.sample_min);
    format!(
        "group {} ended with {confirmed} successes of {ended}, below {percent} % of {sample} or \
         more",
        at + 1
    )
}

/// The time at which the rollout has to be looked at although nothing is reported.
pub(super) fn due_ms(
    plan: &GroupedPlan,
    groups: &RolloutGroups,
    status: RolloutStatus,
) -> Option<u64> {
    use RolloutStatus::*;
    let soaks = match status {
        Running => true,
        Paused | PausedByErrors => false,
        PendingApproval | Approved | Stopping | Stopped | Finished => return None,
    };
    let at = (groups.opened as usize).checked_sub(1);
    let current = at.and_then(|at| Some((plan.groups.get(at)?, groups.groups.get(at)?)));
    let soak_end_ms = current.filter(|_| soaks).and_then(|(group, record)| {
        let since_ms = record.soaking_since_ms?;
        let soaking = record.status == GroupStatus::Soaking;
        soaking.then(|| since_ms.saturating_add(group.gate.soak_ms))
    });
    [soak_end_ms, plan.stop_ms].into_iter().flatten().min()
}

/// Tells whether the rollout is over: its last group has passed, and no deployment is at work.
pub(super) fn is_finished(plan: &GroupedPlan, groups: &RolloutGroups, rollout: &Rollout) -> bool {
    let last_passed = groups.groups.last().map(|record| record.status) == Some(GroupStatus::Passed);
    let none_at_work = rollout.counts.assigned == 0 && rollout.counts.active == 0;
    last_passed && none_at_work && !plan.continuous
}

/// The place of the group to which a deployment belongs that was assigned at a height.
pub(super) fn group_at(groups: &RolloutGroups, assigned_height: u64) -> Option<usize> {
    let opened_before =
        |record: &GroupRecord| record.opened_height.is_some_and(|h| h < assigned_height);
    groups.groups.iter().rposition(opened_before)
}
