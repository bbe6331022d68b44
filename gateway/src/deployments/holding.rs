//! Installations that are held: until a window opens, or because the Thing is busy.

use std::time::Duration;

use lamplighter_types::{DeploymentState, Id};

use super::job::DeploymentJob;
use super::planner::{DeploymentPlanner, Effect};
use crate::windows::{WindowClock, WindowState};

/// Time in ms after which windows are looked at again that can't be evaluated: people may install
/// the files of zones meanwhile.
const LOOK_AGAIN_MS: u64 = 600_000;

/// Whether a job may order its installation now.
pub(super) enum Hold {
    /// Yes, for this long; without end if there is no window.
    Open(Option<Duration>),
    /// No. The seconds until it may, and words, if the ledger does not know that yet.
    Closed(Option<(u32, String)>),
}

/// The windows of all plans.
#[derive(Debug, Default)]
pub(super) struct InstallWindows(WindowClock);

impl InstallWindows {
    /// Looks at the windows of a job that holds its image, and lets it wait for the next one.
    pub fn hold(&mut self, job: &mut DeploymentJob, now_ms: u64) -> Hold {
        let Some(rules) = job.rules() else {
            return Hold::Open(None);
        };
        let (opens_ms, problem) = match self.0.state(&rules.windows, now_ms) {
            WindowState::Open { until_ms } => {
                let left_ms = until_ms.map(|until_ms| until_ms.saturating_sub(now_ms));
                return Hold::Open(left_ms.map(Duration::from_millis));
            }
            WindowState::Closed { opens_ms, problem } => (opens_ms, problem),
        };
        let again_ms = now_ms.saturating_add(LOOK_AGAIN_MS);
        let until_ms = match problem {
            Some(_) => opens_ms.unwrap_or(again_ms).min(again_ms),
            None => opens_ms.unwrap_or(again_ms),
        };
        job.hold_until(until_ms);
        if job.state() == DeploymentState::WaitingWindow {
            return Hold::Closed(None);
        }
        let seconds = opens_ms.map_or(0, |opens_ms| opens_ms.saturating_sub(now_ms) / 1_000);
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        let detail = problem.unwrap_or_else(|| "no window is open".to_owned());
        Hold::Closed(Some((seconds, detail)))
    }
}

impl DeploymentPlanner {
    /// Postpones the deployment of a Thing that is busy. The ledger counts it; when it has had
    /// enough, the Thing is not asked any more.
    pub(super) fn thing_is_busy(
        &mut self,
        device: &Id,
        deployment: &str,
        busy_s: u32,
        now_ms: u64,
    ) -> Vec<Effect> {
        if !self.is_current(device, deployment) {
            return Vec::new();
        }
        self.commands_lost(device);
        let postponed = DeploymentState::Postponed;
        self.report(device, postponed, busy_s, "the Thing is busy", now_ms)
    }
}
