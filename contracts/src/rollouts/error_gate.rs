//! When a rollout stops by itself, and when it is over.

use lamplighter_types::{DeploymentState, Rollout, RolloutCounts, RolloutStatus, RolloutWork};

/// The count that a deployment in this state belongs to; `None` before it is assigned.
pub fn count_of(counts: &mut RolloutCounts, state: DeploymentState) -> &mut u64 {
    use DeploymentState::*;
    match state {
        Assigned => &mut counts.assigned,
        Offered | WaitingConsent | Postponed | WaitingWindow | Downloading | Downloaded
        | Installing | Staged | Trial => &mut counts.active,
        Confirmed => &mut counts.confirmed,
        Reverted | Failed | Rejected | TimedOut => &mut counts.failed,
        Cancelled | Superseded | Removed | NotNeeded => &mut counts.other,
    }
}

/// The status that the counts lead to, if it is another one.
pub fn status_after(rollout: &Rollout) -> Option<RolloutStatus> {
    let RolloutCounts {
        assigned, active, ..
    } = rollout.counts;
    let over = assigned == 0 && active == 0;
    match rollout.status {
        RolloutStatus::Running if fails(rollout, over && rollout.expanded) => {
            Some(RolloutStatus::PausedByErrors)
        }
        RolloutStatus::Running if over && rollout.expanded => Some(RolloutStatus::Finished),
        RolloutStatus::Paused if fails(rollout, false) => Some(RolloutStatus::PausedByErrors),
        RolloutStatus::Stopping if over && rollout.swept => Some(RolloutStatus::Stopped),
        RolloutStatus::PendingApproval
        | RolloutStatus::Approved
        | RolloutStatus::Running
        | RolloutStatus::Paused
        | RolloutStatus::PausedByErrors
        | RolloutStatus::Stopping
        | RolloutStatus::Stopped
        | RolloutStatus::Finished => None,
    }
}

/// Whether too much has failed since the last resume after errors. Integers: a share of 5 % is
/// passed by 1 of 19 and not by 1 of 20. `last`: there is nothing to wait for, so the sample is
/// what it is.
fn fails(rollout: &Rollout, last: bool) -> bool {
    let (now, before) = (&rollout.counts, &rollout.counts_at_resume);
    let failed = now.failed.saturating_sub(before.failed);
    let ended = failed + now.confirmed.saturating_sub(before.confirmed);
    let sample = u64::from(rollout.plan.error_sample_min);
    let percent = u64::from(rollout.plan.error_percent_max);
    let seen_enough = ended >= sample || last;
    seen_enough && failed.saturating_mul(100) > ended.saturating_mul(percent)
}

/// What blocks have to do for it; `None` before it begins and when it has ended.
pub fn work(rollout: &Rollout) -> Option<RolloutWork> {
    match rollout.status {
        RolloutStatus::Running if !rollout.expanded => Some(RolloutWork::Expand),
        RolloutStatus::Stopping if !rollout.swept => Some(RolloutWork::Sweep),
        RolloutStatus::Running
        | RolloutStatus::Paused
        | RolloutStatus::PausedByErrors
        | RolloutStatus::Stopping => Some(RolloutWork::Nothing),
        RolloutStatus::PendingApproval
        | RolloutStatus::Approved
        | RolloutStatus::Stopped
        | RolloutStatus::Finished => None,
    }
}
