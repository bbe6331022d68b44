//! Starts an installation. A Thing with our agent reports the rest itself; a foreign one is asked
//! until it runs the new version or says why not.

use tokio::time::Instant;

use super::session::{Next, Notice, Outcome, SessionConfig};
use crate::coap::{Code, Request, Response, format};
use crate::lwm2m::{FirmwareState, Stage, UpdateResult, path, value};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Execute,
    State,
    Result(FirmwareState),
    Version,
}

#[derive(Debug)]
pub(super) struct Install {
    deployment: String,
    phase: Phase,
    poll_at: Option<Instant>,
    deadline: Instant,
}

impl Install {
    pub(super) fn new(now: Instant, deployment: String, config: &SessionConfig) -> Install {
        let deadline = now + config.install_timeout;
        Install {
            deployment,
            phase: Phase::Execute,
            poll_at: None,
            deadline,
        }
    }

    pub(super) fn deployment(&self) -> &str {
        &self.deployment
    }

    pub(super) fn next(&self, now: Instant) -> Next {
        if let Some(at) = self.poll_at.filter(|at| *at > now) {
            return Next::Wait(at);
        }
        let get = |path| Next::Ask(Request::get(path).with_accept(format::TEXT));
        match self.phase {
            Phase::Execute => Next::Ask(Request::new(Code::POST, path::UPDATE)),
            Phase::State => get(path::STATE),
            Phase::Result(_) => get(path::RESULT),
            Phase::Version => get(path::FIRMWARE_VERSION),
        }
    }

    pub(super) fn answer(
        &mut self,
        now: Instant,
        agent: bool,
        response: &Response,
        config: &SessionConfig,
    ) -> Outcome {
        match self.phase {
            Phase::Execute if response.code == Code::UNAVAILABLE => {
                self.poll_at = Some(now + config.poll);
                Outcome::go_on()
            }
            Phase::Execute if !response.code.is_success() => {
                let reason = format!("{} {}", response.code, response.text());
                Outcome::end(Notice::Refused {
                    deployment: self.deployment.clone(),
                    reason,
                })
            }
            Phase::Execute => {
                self.phase = Phase::State;
                self.poll_at = Some(now + config.poll);
                let notice = self.stage(Stage::Installing, String::new());
                if agent {
                    Outcome::end(notice)
                } else {
                    Outcome::tell(notice)
                }
            }
            Phase::State => {
                let state = value::integer(response, 3).and_then(FirmwareState::from_value);
                self.phase = Phase::Result(state.unwrap_or(FirmwareState::Updating));
                Outcome::go_on()
            }
            Phase::Result(state) => self.result_answered(now, state, response, config),
            Phase::Version => {
                let version = value::text(response, 3).unwrap_or_default();
                Outcome::end(self.stage(Stage::Confirmed, version))
            }
        }
    }

    /// The notice with which it ends when its time is up.
    pub(super) fn overdue(&self, now: Instant) -> Option<Notice> {
        let failed = Stage::Failed(UpdateResult::ConnectionLost);
        (now >= self.deadline).then(|| self.stage(failed, "no result in time".to_owned()))
    }

    fn result_answered(
        &mut self,
        now: Instant,
        state: FirmwareState,
        response: &Response,
        config: &SessionConfig,
    ) -> Outcome {
        let result = value::integer(response, 5).and_then(UpdateResult::from_value);
        let stage = Stage::of(state, result.unwrap_or(UpdateResult::Initial));
        match stage {
            Stage::Trial => {
                self.phase = Phase::Version;
                Outcome::tell(self.stage(stage, String::new()))
            }
            // Between the write and the boot a Thing may still say "downloaded", or nothing yet.
            Stage::Installing | Stage::Downloaded | Stage::Downloading | Stage::Idle => {
                self.phase = Phase::State;
                self.poll_at = Some(now + config.poll);
                match self.overdue(now) {
                    Some(notice) => Outcome::end(notice),
                    None => Outcome::go_on(),
                }
            }
            _ => Outcome::end(self.stage(stage, String::new())),
        }
    }

    fn stage(&self, stage: Stage, detail: String) -> Notice {
        Notice::Stage {
            deployment: self.deployment.clone(),
            stage,
            detail,
        }
    }
}
