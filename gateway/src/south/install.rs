//! The installation of a package. A Thing with our agent reports the progress itself; a foreign
//! Thing is polled until it runs the new version or gives a reason for its failure.
//!
//! State, result and version are read before the order to install is sent, and again before it is
//! repeated: a Thing that boots at once may have carried out the order although its answer was
//! lost.

use std::time::Duration;

use lamplighter_types::Version;
use tokio::time::Instant;

use super::InstallLimits;
use super::step::{SessionConfig, TaskOutcome, TaskResponse, TaskStep, WorkNotice};
use crate::coap::{Code, Request};
use crate::lwm2m::version::{Comparison, compare};
use crate::lwm2m::{FirmwareState, Stage, UpdateResult, agent, path, value};

/// The time for which a Thing that registered after the order, and does not report success, may
/// name another version: its boot loader may not have finished.
pub(super) const RETURN_GRACE: Duration = Duration::from_secs(120);

/// Refusals of the order after which a foreign Thing that did not begin has failed.
const REFUSALS_MAX: u32 = 3;
/// Pause after the first refusal, doubled with each: the Thing may be busy.
const REFUSAL_PAUSE: Duration = Duration::from_secs(60);

/// Seconds until a Thing that deferred its update (result 11) is asked again; it names no time.
const DEFERRED_S: u32 = 3600;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InstallPhase {
    State,
    Result(FirmwareState),
    /// Read the version that it runs; the result is known.
    Version(UpdateResult),
    /// Read the version of the package that it accepted last, for a Thing without the other one.
    PackageVersion(UpdateResult),
    /// Read for how long the Thing is busy.
    Lock,
    Execute,
}

#[derive(Debug)]
pub(super) struct InstallTask {
    deployment: String,
    wanted: Version,
    phase: InstallPhase,
    /// The order was accepted; until the Thing registers again it may not have begun yet.
    accepted: bool,
    /// The Thing's reason for refusing the last order.
    refusal: Option<String>,
    /// Refusals since the last accepted order.
    refusals: u32,
    /// True if it registered since the first order, here or before this gateway started.
    reregistered: bool,
    order_sent: bool,
    /// The instant from which on it names another version with no update under way and no result.
    old_version_since: Option<Instant>,
    poll_at: Option<Instant>,
    deadline: Instant,
    limits: InstallLimits,
}

impl InstallTask {
    /// Starts an installation.
    pub(super) fn new(
        now: Instant,
        deployment: String,
        wanted: Version,
        limits: InstallLimits,
        config: &SessionConfig,
    ) -> InstallTask {
        InstallTask {
            deployment,
            wanted,
            phase: InstallPhase::State,
            accepted: false,
            refusal: None,
            refusals: 0,
            reregistered: false,
            order_sent: false,
            old_version_since: None,
            poll_at: None,
            deadline: now + config.install_timeout,
            limits,
        }
    }

    /// True if its order is given inside of windows alone.
    pub(super) fn is_bound_to_window(&self) -> bool {
        self.limits.open_for.is_some()
    }

    /// Follows an installation that was begun before this gateway started.
    pub(super) fn resume(
        now: Instant,
        deployment: String,
        wanted: Version,
        config: &SessionConfig,
    ) -> InstallTask {
        InstallTask {
            accepted: true,
            order_sent: true,
            reregistered: true,
            ..InstallTask::new(now, deployment, wanted, InstallLimits::default(), config)
        }
    }

    pub(super) fn deployment(&self) -> &str {
        &self.deployment
    }

    /// True if its next step is the order to install.
    pub(super) fn is_about_to_order(&self) -> bool {
        self.phase == InstallPhase::Execute
    }

    /// True if the Thing may have begun.
    pub(super) fn order_was_sent(&self) -> bool {
        self.order_sent
    }

    /// Starts over when the Thing registered again: it may have booted.
    pub(super) fn restart(&mut self) {
        self.phase = InstallPhase::State;
        (self.poll_at, self.old_version_since) = (None, None);
        self.accepted = false;
        self.reregistered |= self.order_sent;
    }

    /// Starts reading over when the Thing did not answer.
    pub(super) fn restart_reading(&mut self) {
        self.phase = InstallPhase::State;
    }

    pub(super) fn next(&mut self, now: Instant) -> TaskStep {
        if let Some(at) = self.poll_at.filter(|at| *at > now) {
            return TaskStep::Wait(at);
        }
        // From here on the order may have reached the Thing.
        self.order_sent |= self.phase == InstallPhase::Execute;
        TaskStep::Request(match self.phase {
            InstallPhase::State => Request::get(path::STATE),
            InstallPhase::Result(_) => Request::get(path::RESULT),
            InstallPhase::Version(_) => Request::get(path::FIRMWARE_VERSION),
            InstallPhase::PackageVersion(_) => Request::get(path::PACKAGE_VERSION),
            InstallPhase::Lock => Request::get(agent::UPDATE_LOCK),
            InstallPhase::Execute => Request::new(Code::POST, path::UPDATE),
        })
    }

    pub(super) fn answer(&mut self, reply: &TaskResponse<'_>) -> TaskOutcome {
        match self.phase {
            InstallPhase::State => match FirmwareState::read(reply.response) {
                Some(state) if reply.agent => self.on_agent_state(state),
                Some(state) => self.enter(InstallPhase::Result(state)),
                None => self.poll(reply),
            },
            InstallPhase::Result(state) => match UpdateResult::read(reply.response) {
                Some(result) => self.on_result(state, result, reply),
                None => self.poll(reply),
            },
            InstallPhase::Version(result) => {
                match value::text(reply.response, 3).filter(|t| !t.is_empty()) {
                    Some(version) => self.on_version(result, &version, reply),
                    None => self.enter(InstallPhase::PackageVersion(result)),
                }
            }
            InstallPhase::PackageVersion(result) => {
                let version = value::text(reply.response, 7).unwrap_or_default();
                self.on_version(result, &version, reply)
            }
            InstallPhase::Lock => match value::integer(reply.response, 14) {
                Some(busy_s) if busy_s > 0 => {
                    self.locked(u32::try_from(busy_s).unwrap_or(u32::MAX))
                }
                Some(_) | None => self.enter(InstallPhase::Execute),
            },
            InstallPhase::Execute => self.on_execute_response(reply),
        }
    }

    /// The notice with which it ends after its deadline.
    pub(super) fn overdue(&self, now: Instant) -> Option<WorkNotice> {
        let failed = Stage::Failed(UpdateResult::ConnectionLost);
        (now >= self.deadline).then(|| self.stage(failed, "no result in time".to_owned()))
    }

    /// Handles the state of a Thing with our agent, which reports everything else itself.
    fn on_agent_state(&mut self, state: FirmwareState) -> TaskOutcome {
        match state {
            FirmwareState::Downloaded => match self.refusal.take() {
                Some(reason) => self.refused(reason),
                None if self.limits.asks_lock => self.enter(InstallPhase::Lock),
                None => self.enter(InstallPhase::Execute),
            },
            FirmwareState::Updating => {
                TaskOutcome::end(self.stage(Stage::Installing, String::new()))
            }
            // It does not hold the package, or runs the new image already.
            FirmwareState::Idle | FirmwareState::Downloading => {
                let deployment = self.deployment.clone();
                TaskOutcome::end(WorkNotice::Busy { deployment })
            }
        }
    }

    fn on_result(
        &mut self,
        state: FirmwareState,
        result: UpdateResult,
        reply: &TaskResponse<'_>,
    ) -> TaskOutcome {
        let stage = Stage::of(state, result);
        if stage != Stage::Idle {
            self.old_version_since = None;
        }
        match stage {
            Stage::Downloaded if self.accepted => self.poll(reply),
            Stage::Downloaded => self.execute(reply.now),
            Stage::Installing => {
                let mut outcome = self.poll(reply);
                if !outcome.done {
                    outcome.notices = vec![self.stage(Stage::Installing, String::new())];
                }
                outcome
            }
            Stage::Idle | Stage::Trial => self.enter(InstallPhase::Version(result)),
            // It put an earlier order off; another one may find it ready.
            Stage::Postponed if self.limits.asks_lock && !self.order_sent => {
                self.enter(InstallPhase::Execute)
            }
            Stage::Postponed if self.limits.asks_lock => self.locked(DEFERRED_S),
            Stage::Cancelled | Stage::Postponed => {
                let detail = "the Thing put the installation off".to_owned();
                TaskOutcome::end(self.stage(Stage::Failed(result), detail))
            }
            failed @ (Stage::Failed(_) | Stage::Rejected(_)) => {
                TaskOutcome::end(self.stage(failed, String::new()))
            }
            Stage::Downloading | Stage::Confirmed | Stage::Reverted => self.poll(reply),
        }
    }

    /// Handles the named version when no update is under way.
    fn on_version(
        &mut self,
        result: UpdateResult,
        version: &str,
        reply: &TaskResponse<'_>,
    ) -> TaskOutcome {
        let success = result == UpdateResult::Success;
        let named = format!("it names version {version:?}");
        match compare(self.wanted, version) {
            Comparison::Same => TaskOutcome {
                done: true,
                notices: vec![
                    self.stage(Stage::Trial, String::new()),
                    self.stage(Stage::Confirmed, named),
                ],
            },
            Comparison::Other if success && self.order_sent => {
                self.on_unnamed_success(named, reply)
            }
            Comparison::Unknown if success => self.on_unnamed_success(named, reply),
            Comparison::Other if self.reregistered => {
                let since = *self.old_version_since.get_or_insert(reply.now);
                if reply.now.duration_since(since) >= RETURN_GRACE {
                    TaskOutcome::end(self.stage(Stage::Reverted, named))
                } else {
                    self.poll(reply)
                }
            }
            // Between the order and the boot a Thing may show nothing yet.
            _ if self.accepted || self.reregistered => self.poll(reply),
            _ => {
                let failed = Stage::Failed(UpdateResult::UpdateFailed);
                let detail = format!("the package is gone; {named}");
                TaskOutcome::end(self.stage(failed, detail))
            }
        }
    }

    /// Handles a Thing that reports success and does not (or not yet) name the new version. The
    /// ledger's timer of the trial decides: after the deadline here, the gateway starts to watch
    /// the installation again.
    fn on_unnamed_success(&mut self, named: String, reply: &TaskResponse<'_>) -> TaskOutcome {
        if reply.now >= self.deadline {
            return self.refused(format!("it does not name the new version; {named}"));
        }
        self.poll(reply);
        TaskOutcome::notify(self.stage(Stage::Trial, String::new()))
    }

    fn on_execute_response(&mut self, reply: &TaskResponse<'_>) -> TaskOutcome {
        self.phase = InstallPhase::State;
        if reply.response.code == Code::UNAVAILABLE {
            return self.poll(reply);
        }
        if !reply.response.code.is_success() {
            // It may have begun all the same, by an earlier order whose answer was lost.
            self.refusal = Some(format!("{} {}", reply.response.code, reply.response.text()));
            return TaskOutcome::pending();
        }
        (self.accepted, self.refusals) = (true, 0);
        self.poll_at = Some(reply.next_poll());
        let notice = self.stage(Stage::Installing, String::new());
        if reply.agent {
            TaskOutcome::end(notice)
        } else {
            TaskOutcome::notify(notice)
        }
    }

    /// Sends the order to a foreign Thing that holds the package and has not begun: at once, or
    /// after a pause if it has just refused one.
    fn execute(&mut self, now: Instant) -> TaskOutcome {
        let Some(reason) = self.refusal.take() else {
            return self.enter(InstallPhase::Execute);
        };
        self.refusals += 1;
        if self.refusals >= REFUSALS_MAX {
            let failed = Stage::Failed(UpdateResult::UpdateFailed);
            let detail = format!("the order to install was refused {REFUSALS_MAX} times: {reason}");
            return TaskOutcome::end(self.stage(failed, detail));
        }
        self.poll_at = Some(now + REFUSAL_PAUSE * 2u32.pow(self.refusals - 1));
        self.enter(InstallPhase::State)
    }

    /// Ends because the Thing is busy.
    fn locked(&self, busy_s: u32) -> TaskOutcome {
        let deployment = self.deployment.clone();
        TaskOutcome::end(WorkNotice::Locked { deployment, busy_s })
    }

    fn refused(&self, reason: String) -> TaskOutcome {
        let deployment = self.deployment.clone();
        TaskOutcome::end(WorkNotice::Refused { deployment, reason })
    }

    fn enter(&mut self, phase: InstallPhase) -> TaskOutcome {
        self.phase = phase;
        TaskOutcome::pending()
    }

    /// Reads again after a pause, unless the deadline has passed.
    fn poll(&mut self, reply: &TaskResponse<'_>) -> TaskOutcome {
        self.phase = InstallPhase::State;
        self.poll_at = Some(reply.next_poll());
        self.overdue(reply.now)
            .map_or_else(TaskOutcome::pending, TaskOutcome::end)
    }

    fn stage(&self, stage: Stage, detail: String) -> WorkNotice {
        WorkNotice::Stage {
            deployment: self.deployment.clone(),
            stage,
            detail,
        }
    }
}
