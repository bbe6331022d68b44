//! The error gate: it pauses a rollout in which too many deployments fail, and ends one that is
//! over.

use lamplighter_types::{DeploymentState, Rollout, RolloutCounts, RolloutStatus, RolloutWork};

/// The count to which a deployment in this state belongs.
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

/// Counts a move; `from` is `None` for a new deployment.
pub fn count_move(counts: &mut RolloutCounts, from: Option<DeploymentState>, to: DeploymentState) {
    if let Some(from) = from {
        let before = count_of(counts, from);
        *before = before.saturating_sub(1);
    }
    *count_of(counts, to) += 1;
}

/// The status that follows from the counts, if it is a new one.
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

/// Tells whether too many deployments have failed since the last pause by errors was ended.
/// Integers make the limit exact: 1 failure of 19 passes a share of 5 %, 1 of 20 does not. `last`
/// says that no deployment is left, so that the share counts whatever the sample.
fn fails(rollout: &Rollout, last: bool) -> bool {
    let (now, before) = (&rollout.counts, &rollout.counts_at_resume);
    let failed = now.failed.saturating_sub(before.failed);
    let ended = failed + now.confirmed.saturating_sub(before.confirmed);
    let sample = u64::from(rollout.plan.error_sample_min);
    let percent = u64::from(rollout.plan.error_percent_max);
    let seen_enough = ended >= sample || last;
    seen_enough && failed.saturating_mul(100) > ended.saturating_mul(percent)
}

/// The work that blocks have left for a rollout; `None` before it begins and after its end. `late`
/// is the number of late devices that its group takes now.
pub fn work(rollout: &Rollout, late: u64) -> Option<RolloutWork> {
    match rollout.status {
        RolloutStatus::Running if !rollout.expanded || late > 0 => Some(RolloutWork::Expand),
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
