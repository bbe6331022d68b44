//! Starts an installation. A Thing with our agent reports the rest itself; a foreign one is asked
//! until it runs the new version or says why not.
//!
//! State, result and version are read before the order is given, and again before it is repeated:
//! a Thing that boots at once may have done what it was told although its answer never came.

use std::time::Duration;

use lamplighter_types::Version;
use tokio::time::Instant;

use super::session::{Next, Notice, Outcome, SessionConfig};
use crate::coap::{Code, Request, Response};
use crate::lwm2m::version::{Comparison, compare};
use crate::lwm2m::{FirmwareState, Stage, UpdateResult, path, value};

/// So long a Thing that registered after the order and says nothing of its success may name
/// another version: its boot loader may not have finished.
pub(super) const RETURN_GRACE: Duration = Duration::from_secs(120);

/// A foreign Thing that refuses the order so often, and did not begin, has failed.
const REFUSALS_MAX: u32 = 3;
/// Pause after its first refusal, doubled with each: it may just be at something else.
const REFUSAL_PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    State,
    Result(FirmwareState),
    /// The version that it runs, with the result.
    Version(UpdateResult),
    /// The version of the package that it took last, for a Thing that does not name the other.
    PackageVersion(UpdateResult),
    Execute,
}

#[derive(Debug)]
pub(super) struct Install {
    deployment: String,
    wanted: Version,
    phase: Phase,
    /// The order was taken: until the Thing registers again it may not have begun yet.
    taken: bool,
    /// Why it did not take the last order.
    refusal: Option<String>,
    /// How often it refused since it last took one.
    refusals: u32,
    /// It registered since the order was first given, here or before this gateway started.
    returned: bool,
    ordered: bool,
    /// Since when it names another version with nothing under way and no result.
    old_since: Option<Instant>,
    poll_at: Option<Instant>,
    deadline: Instant,
}

impl Install {
    /// Gives the order.
    pub(super) fn new(
        now: Instant,
        deployment: String,
        wanted: Version,
        config: &SessionConfig,
    ) -> Install {
        Install {
            deployment,
            wanted,
            phase: Phase::State,
            taken: false,
            refusal: None,
            refusals: 0,
            returned: false,
            ordered: false,
            old_since: None,
            poll_at: None,
            deadline: now + config.install_timeout,
        }
    }

    /// Asks how an installation goes that was begun before this gateway started.
    pub(super) fn resume(
        now: Instant,
        deployment: String,
        wanted: Version,
        config: &SessionConfig,
    ) -> Install {
        Install {
            taken: true,
            ordered: true,
            returned: true,
            ..Install::new(now, deployment, wanted, config)
        }
    }

    pub(super) fn deployment(&self) -> &str {
        &self.deployment
    }

    /// The Thing registered anew: it may have booted.
    pub(super) fn restart(&mut self) {
        self.phase = Phase::State;
        (self.poll_at, self.old_since) = (None, None);
        self.taken = false;
        self.returned |= self.ordered;
    }

    /// No answer came to the last question.
    pub(super) fn unanswered(&mut self) {
        self.phase = Phase::State;
    }

    pub(super) fn next(&mut self, now: Instant) -> Next {
        if let Some(at) = self.poll_at.filter(|at| *at > now) {
            return Next::Wait(at);
        }
        // From here on the order may have reached the Thing.
        self.ordered |= self.phase == Phase::Execute;
        Next::Ask(match self.phase {
            Phase::State => Request::get(path::STATE),
            Phase::Result(_) => Request::get(path::RESULT),
            Phase::Version(_) => Request::get(path::FIRMWARE_VERSION),
            Phase::PackageVersion(_) => Request::get(path::PACKAGE_VERSION),
            Phase::Execute => Request::new(Code::POST, path::UPDATE),
        })
    }

    pub(super) fn answer(
        &mut self,
        now: Instant,
        agent: bool,
        response: &Response,
        config: &SessionConfig,
    ) -> Outcome {
        match self.phase {
            Phase::State => {
                let state = value::integer(response, 3).and_then(FirmwareState::from_value);
                match state {
                    Some(state) if agent => self.agent_stands(state),
                    Some(state) => self.enter(Phase::Result(state)),
                    None => self.poll(now, config),
                }
            }
            Phase::Result(state) => {
                let result = value::integer(response, 5).and_then(UpdateResult::from_value);
                match result {
                    Some(result) => self.stands(now, state, result, config),
                    None => self.poll(now, config),
                }
            }
            Phase::Version(result) => match value::text(response, 3).filter(|t| !t.is_empty()) {
                Some(version) => self.runs(now, result, &version, config),
                None => self.enter(Phase::PackageVersion(result)),
            },
            Phase::PackageVersion(result) => {
                let version = value::text(response, 7).unwrap_or_default();
                self.runs(now, result, &version, config)
            }
            Phase::Execute => self.executed(now, agent, response, config),
        }
    }

    /// The notice with which it ends when its time is up.
    pub(super) fn overdue(&self, now: Instant) -> Option<Notice> {
        let failed = Stage::Failed(UpdateResult::ConnectionLost);
        (now >= self.deadline).then(|| self.stage(failed, "no result in time".to_owned()))
    }

    /// A Thing with our agent says all but this itself.
    fn agent_stands(&mut self, state: FirmwareState) -> Outcome {
        match state {
            FirmwareState::Downloaded => match self.refusal.take() {
                Some(reason) => self.refused(reason),
                None => self.enter(Phase::Execute),
            },
            FirmwareState::Updating => Outcome::end(self.stage(Stage::Installing, String::new())),
            // It does not hold the package, or runs the new image already.
            FirmwareState::Idle | FirmwareState::Downloading => {
                let deployment = self.deployment.clone();
                Outcome::end(Notice::Later { deployment })
            }
        }
    }

    fn stands(
        &mut self,
        now: Instant,
        state: FirmwareState,
        result: UpdateResult,
        config: &SessionConfig,
    ) -> Outcome {
        let stage = Stage::of(state, result);
        if stage != Stage::Idle {
            self.old_since = None;
        }
        match stage {
            Stage::Downloaded if self.taken => self.poll(now, config),
            Stage::Downloaded => self.execute(now),
            Stage::Installing => {
                let mut outcome = self.poll(now, config);
                if !outcome.done {
                    outcome.notices = vec![self.stage(Stage::Installing, String::new())];
                }
                outcome
            }
            Stage::Idle | Stage::Trial => self.enter(Phase::Version(result)),
            Stage::Cancelled | Stage::Postponed => {
                let detail = "the Thing put the installation off".to_owned();
                Outcome::end(self.stage(Stage::Failed(result), detail))
            }
            failed @ (Stage::Failed(_) | Stage::Rejected(_)) => {
                Outcome::end(self.stage(failed, String::new()))
            }
            Stage::Downloading | Stage::Confirmed | Stage::Reverted => self.poll(now, config),
        }
    }

    /// Nothing is under way, and it names a version.
    fn runs(
        &mut self,
        now: Instant,
        result: UpdateResult,
        version: &str,
        config: &SessionConfig,
    ) -> Outcome {
        let success = result == UpdateResult::Success;
        let named = format!("it names version {version:?}");
        match compare(self.wanted, version) {
            Comparison::Same => Outcome {
                done: true,
                notices: vec![
                    self.stage(Stage::Trial, String::new()),
                    self.stage(Stage::Confirmed, named),
                ],
            },
            Comparison::Other if success && self.ordered => self.on_trial(now, named, config),
            Comparison::Unknown if success => self.on_trial(now, named, config),
            Comparison::Other if self.returned => {
                let since = *self.old_since.get_or_insert(now);
                match now.duration_since(since) >= RETURN_GRACE {
                    true => Outcome::end(self.stage(Stage::Reverted, named)),
                    false => self.poll(now, config),
                }
            }
            // Between the order and the boot a Thing may say nothing yet.
            _ if self.taken || self.returned => self.poll(now, config),
            _ => {
                let failed = Stage::Failed(UpdateResult::UpdateFailed);
                let detail = format!("the package is gone; {named}");
                Outcome::end(self.stage(failed, detail))
            }
        }
    }

    /// It says that the update went well, and does not (or not yet) name the new version. The
    /// ledger's timer of the trial decides: when the time here is up, it is watched anew.
    fn on_trial(&mut self, now: Instant, named: String, config: &SessionConfig) -> Outcome {
        if now >= self.deadline {
            return self.refused(format!("it does not name the new version; {named}"));
        }
        self.poll(now, config);
        Outcome::tell(self.stage(Stage::Trial, String::new()))
    }

    fn executed(
        &mut self,
        now: Instant,
        agent: bool,
        response: &Response,
        config: &SessionConfig,
    ) -> Outcome {
        self.phase = Phase::State;
        if response.code == Code::UNAVAILABLE {
            return self.poll(now, config);
        }
        if !response.code.is_success() {
            // It may have begun all the same, by an order whose answer was lost.
            self.refusal = Some(format!("{} {}", response.code, response.text()));
            return Outcome::go_on();
        }
        (self.taken, self.refusals) = (true, 0);
        self.poll_at = Some(now + config.poll);
        let notice = self.stage(Stage::Installing, String::new());
        match agent {
            true => Outcome::end(notice),
            false => Outcome::tell(notice),
        }
    }

    /// Gives the order to a foreign Thing that holds the package and has not begun: at once, or
    /// after a pause if it has just refused it.
    fn execute(&mut self, now: Instant) -> Outcome {
        let Some(reason) = self.refusal.take() else {
            return self.enter(Phase::Execute);
        };
        self.refusals += 1;
        if self.refusals >= REFUSALS_MAX {
            let failed = Stage::Failed(UpdateResult::UpdateFailed);
            let detail = format!("the order to install was refused {REFUSALS_MAX} times: {reason}");
            return Outcome::end(self.stage(failed, detail));
        }
        self.poll_at = Some(now + REFUSAL_PAUSE * 2u32.pow(self.refusals - 1));
        self.enter(Phase::State)
    }

    fn refused(&self, reason: String) -> Outcome {
        let deployment = self.deployment.clone();
        Outcome::end(Notice::Refused { deployment, reason })
    }

    fn enter(&mut self, phase: Phase) -> Outcome {
        self.phase = phase;
        Outcome::go_on()
    }

    /// Asks again after a while, unless the time is up.
    fn poll(&mut self, now: Instant, config: &SessionConfig) -> Outcome {
        self.phase = Phase::State;
        self.poll_at = Some(now + config.poll);
        self.overdue(now).map_or_else(Outcome::go_on, Outcome::end)
    }

    fn stage(&self, stage: Stage, detail: String) -> Notice {
        Notice::Stage {
            deployment: self.deployment.clone(),
            stage,
            detail,
        }
    }
}
