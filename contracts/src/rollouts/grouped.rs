//! The groups of a rollout within a unit of work: their counts, and their records in the state.

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::{
    DeploymentState, GroupCounts, GroupMembers, GroupStatus, GroupedPlan, Rollout, RolloutGroups,
    RolloutStatus, Selection,
};

use super::{STEP_MS_MAX, error_gate, group_gate, keys};

/// The plan of a rollout in groups, and its progress.
pub struct Grouped {
    pub plan: GroupedPlan,
    pub state: RolloutGroups,
}

impl Grouped {
    /// The time in ms before the retry that follows so many others.
    pub fn backoff_ms(&self, retries: u8) -> u64 {
        let factor = 1_u64.checked_shl(retries.into()).unwrap_or(u64::MAX);
        let backoff_ms = self.plan.retry.backoff_ms.saturating_mul(factor);
        backoff_ms.min(STEP_MS_MAX)
    }

    /// The number of devices that a group of so many still takes. One that needs no deployment, or
    /// left, proves nothing and leaves its place to the next one. No bound for other groups.
    pub fn room(&self, at: usize) -> u64 {
        let GroupMembers::Count { count } = self.plan.groups[at].members else {
            return u64::MAX;
        };
        let counts = &self.state.groups[at].counts.deployments;
        let members = counts.assigned + counts.active + counts.confirmed + counts.failed;
        u64::from(count).saturating_sub(members)
    }

    /// The number of late devices that the group which opened last takes now. Named devices were
    /// named by people, so that group takes none before it has passed.
    pub fn late_to_enter(&self) -> u64 {
        let Some(at) = (self.state.opened as usize).checked_sub(1) else {
            return 0;
        };
        if self.state.groups[at].status == GroupStatus::Passed {
            return self.state.late;
        }
        let are_named = matches!(
            self.plan.groups[at].members,
            GroupMembers::Selected {
                selection: Selection::List { .. },
            }
        );
        match are_named {
            true => 0,
            false => self.state.late.min(self.room(at)),
        }
    }

    /// Counts a device that the group which opened last leaves out.
    pub fn count_skipped(&mut self) {
        if let Some(at) = (self.state.opened as usize).checked_sub(1) {
            self.state.groups[at].counts.deployments.skipped += 1;
        }
    }

    /// Counts the move of a deployment that was assigned at a height.
    pub fn count_move(
        &mut self,
        assigned_height: u64,
        from: Option<DeploymentState>,
        to: DeploymentState,
    ) {
        let Some(at) = group_gate::group_at(&self.state, assigned_height) else {
            return;
        };
        let GroupCounts {
            deployments,
            timed_out,
        } = &mut self.state.groups[at].counts;
        error_gate::count_move(deployments, from, to);
        *timed_out += u64::from(to == DeploymentState::TimedOut);
    }

    /// Writes the groups of a rollout, its timer and its place among the continuous rollouts.
    pub fn commit(&mut self, overlay: &mut Overlay, rollout: &Rollout) -> Result<(), StateError> {
        let name = &rollout.plan.rollout;
        let due_ms = group_gate::due_ms(&self.plan, &self.state, rollout.status);
        if due_ms != self.state.due_ms {
            if let Some(old) = self.state.due_ms {
                overlay.delete(&keys::rollout_timer(old, name));
            }
            if let Some(new) = due_ms {
                overlay.put(&keys::rollout_timer(new, name), &(new, name.clone()));
            }
            self.state.due_ms = due_ms;
        }
        overlay.put(&keys::groups(name), &self.state);
        let key = keys::continuous_one(name);
        match (
            self.plan.continuous && is_live(rollout.status),
            overlay.exists(&key)?,
        ) {
            (true, false) => overlay.put(&key, name),
            (false, true) => overlay.delete(&key),
            (true, true) | (false, false) => {}
        }
        Ok(())
    }
}

/// Tells whether a rollout has begun and takes devices, now or after a pause.
pub(super) fn is_live(status: RolloutStatus) -> bool {
    use RolloutStatus::*;
    match status {
        Running | Paused | PausedByErrors => true,
        PendingApproval | Approved | Stopping | Stopped | Finished => false,
    }
}
