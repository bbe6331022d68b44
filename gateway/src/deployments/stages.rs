//! Reports about Things without our agent, by the stages that their object 5 shows.

use lamplighter_types::{DeploymentState, Id};

use super::planner::{DeploymentPlanner, Effect};
use crate::lwm2m::{Stage, UpdateResult};

use DeploymentState::*;

impl DeploymentPlanner {
    /// Continues after a stage that object 5 shows. A Thing with our agent or a key reports itself,
    /// except that it failed and can't report.
    pub(super) fn on_stage(
        &mut self,
        device: &Id,
        stage: Stage,
        detail: &str,
        now_ms: u64,
    ) -> Vec<Effect> {
        match stage {
            Stage::Failed(result) => self.report_failure(device, Failed, result, detail, now_ms),
            _ if !self.vouches_for(device) => Vec::new(),
            Stage::Rejected(result) => {
                self.report_failure(device, Rejected, result, detail, now_ms)
            }
            Stage::Downloaded => self.report_up_to(device, Downloaded, now_ms),
            Stage::Installing => self.report_up_to(device, Installing, now_ms),
            Stage::Trial => self.report_up_to(device, Trial, now_ms),
            Stage::Confirmed => self.report_up_to(device, Confirmed, now_ms),
            Stage::Reverted => {
                let mut effects = self.report_up_to(device, Installing, now_ms);
                let result = UpdateResult::UpdateFailed;
                effects.extend(self.report_failure(device, Reverted, result, detail, now_ms));
                effects
            }
            Stage::Idle | Stage::Downloading | Stage::Cancelled | Stage::Postponed => Vec::new(),
        }
    }

    fn report_failure(
        &mut self,
        device: &Id,
        to: DeploymentState,
        result: UpdateResult,
        detail: &str,
        now_ms: u64,
    ) -> Vec<Effect> {
        if self
            .reported_state(device)
            .is_none_or(DeploymentState::is_end)
        {
            return Vec::new();
        }
        self.report(device, to, u32::from(result.value()), detail, now_ms)
    }

    /// Reports for a Thing every step up to `to` that was not reported.
    fn report_up_to(&mut self, device: &Id, to: DeploymentState, now_ms: u64) -> Vec<Effect> {
        let reported = self.reported_state(device);
        // It waits with the image at hand.
        let reported = reported.map(|at| match at {
            WaitingWindow | WaitingConsent => Downloaded,
            at => at,
        });
        let reported =
            reported.filter(|at| !at.is_end() && at.progress() >= Downloading.progress());
        let Some(reported) = reported.and_then(DeploymentState::progress) else {
            return Vec::new();
        };
        let steps = [Downloaded, Installing, Trial, Confirmed];
        let steps = steps
            .into_iter()
            .filter(|step| step.progress() > Some(reported) && step.progress() <= to.progress());
        steps
            .flat_map(|step| self.report(device, step, 0, "", now_ms))
            .collect()
    }
}
