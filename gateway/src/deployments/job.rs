//! The deployment of one device.

use std::time::Duration;

use lamplighter_system::Backoff;
use lamplighter_types::{DeploymentState, InstallRules, codec};

use super::pause::ProofPause;
use super::planner::Effect;
use crate::lwm2m::agent::Offer;
use crate::lwm2m::order::OrderAction;
use crate::south::{InstallLimits, SouthCommand, Transfer};
use crate::verify::Assignment;

use DeploymentState::*;

/// Shortest and longest pause before a step that failed is tried again: the rollout may be paused.
const RETRY_MIN: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct DeploymentJob {
    assignment: Assignment,
    /// The newest state that the ledger is known to have.
    state: DeploymentState,
    /// The last state that was reported and is not on the ledger yet.
    queued: Option<DeploymentState>,
    /// The artifact is in the cache, and was checked since this job started.
    artifact_ready: bool,
    fetching: bool,
    /// The state in which the Thing got its last command.
    commanded_in: Option<DeploymentState>,
    /// The Thing registered after its last command: another one may have got that command.
    reregistered: bool,
    /// The Thing may have started with an earlier command.
    started: bool,
    backoff: Backoff,
    /// Unix time before which no step is made; 0 if there is none.
    retry_at_ms: u64,
    /// The pause of a Thing that found a proof outdated.
    pause: ProofPause,
    /// Unix time at which its windows are looked at again; 0 if none is waited for.
    held_until_ms: u64,
    /// The ledger does not postpone it any more: the Thing is asked whether it is busy no longer.
    ignores_lock: bool,
}

impl DeploymentJob {
    /// `queued` is the last state that was reported and is not on the ledger yet.
    pub fn new(assignment: Assignment, queued: Option<DeploymentState>) -> Self {
        Self {
            state: assignment.deployment.state,
            assignment,
            queued,
            artifact_ready: false,
            fetching: false,
            commanded_in: None,
            reregistered: false,
            started: false,
            backoff: Backoff::new(RETRY_MIN, RETRY_MAX),
            retry_at_ms: 0,
            pause: ProofPause::default(),
            held_until_ms: 0,
            ignores_lock: false,
        }
    }

    pub fn assignment(&self) -> &Assignment {
        &self.assignment
    }

    /// True if the assignment was proven to be in force at most `age_max` ago.
    pub fn is_fresh(&self, now_ms: u64, age_max: Duration) -> bool {
        let age_ms = now_ms.saturating_sub(self.assignment.proven_ms);
        Duration::from_millis(age_ms) <= age_max
    }

    /// The guards of its plan, if it has some.
    pub fn rules(&self) -> Option<&InstallRules> {
        self.assignment.rules.as_ref()
    }

    /// Takes note that no window is open before this time.
    pub fn hold_until(&mut self, until_ms: u64) {
        self.held_until_ms = until_ms;
    }

    pub fn state(&self) -> DeploymentState {
        self.state
    }

    /// The last state that was reported, whether the ledger has it or not.
    pub fn reported_state(&self) -> DeploymentState {
        self.queued.unwrap_or(self.state)
    }

    /// Replaces the assignment by one of a newer state of the ledger. `queued` is the last state in
    /// the spool.
    pub fn update(&mut self, assignment: Assignment, queued: Option<DeploymentState>) {
        let state = assignment.deployment.state;
        self.assignment = assignment;
        // While a report is on its way, its receipt decides.
        if queued.is_none() && self.queued.is_none() && self.state != state {
            // A transfer may still be running at the Thing when its deployment was postponed.
            if state != Postponed {
                self.commanded_in = None;
            }
            self.state = state;
        }
    }

    /// Takes note that a report of this state is in the spool.
    pub fn report_queued(&mut self, to: DeploymentState) {
        self.queued = Some(to);
    }

    /// Takes note that a report of this state has left the spool; true if the ledger accepted it.
    pub fn report_resolved(&mut self, to: DeploymentState, rejected: bool, now_ms: u64) -> bool {
        if self.queued == Some(to) {
            self.queued = None;
        }
        if rejected {
            self.ignores_lock |= to == Postponed;
            self.back_off(now_ms);
        } else {
            self.backoff.reset();
            self.pause = ProofPause::default();
            // Where somebody has to consent, the ledger itself shows that it did not go on to wait.
            let is_asked = |rules: &InstallRules| !rules.consent.is_empty();
            self.state = match to {
                Downloaded if self.rules().is_some_and(is_asked) => WaitingConsent,
                to => to,
            };
        }
        !rejected
    }

    /// Takes note that the Thing registered.
    pub fn thing_registered(&mut self) {
        self.reregistered = true;
    }

    /// Takes note that the south lost the last command.
    pub fn command_lost(&mut self) {
        self.commanded_in = None;
    }

    /// Takes note that the Thing wants a newer proof.
    pub fn outdated(&mut self, now_ms: u64) {
        self.commanded_in = None;
        self.assignment.proven_ms = 0;
        self.pause.outdated(now_ms);
    }

    /// Takes note of the end of a fetch; true if the artifact is ready.
    pub fn artifact_fetched(&mut self, available: bool, now_ms: u64) -> bool {
        (self.artifact_ready, self.fetching) = (available, false);
        if !available {
            self.back_off(now_ms);
        }
        available
    }

    /// Starts over after a pause: the south could not carry out the last command.
    pub fn command_refused(&mut self, now_ms: u64) {
        self.commanded_in = None;
        self.artifact_ready = false;
        self.back_off(now_ms);
    }

    fn back_off(&mut self, now_ms: u64) {
        self.retry_at_ms = now_ms + self.backoff.next_pause().as_millis() as u64;
    }

    /// True once when a pause has ended.
    pub fn pause_ends(&mut self, now_ms: u64) -> bool {
        let ends = self.retry_at_ms > 0 && now_ms >= self.retry_at_ms;
        if ends {
            self.retry_at_ms = 0;
        }
        let opens = self.held_until_ms > 0 && now_ms >= self.held_until_ms;
        if opens {
            self.held_until_ms = 0;
        }
        self.pause.ends(now_ms) || ends || opens
    }

    /// True if the job waits for a receipt or for the end of a pause.
    pub fn is_waiting(&self, now_ms: u64) -> bool {
        self.queued.is_some() || now_ms < self.retry_at_ms || self.pause.is_paused(now_ms)
    }

    pub fn has_artifact(&self) -> bool {
        self.artifact_ready
    }

    /// Fetches the artifact, unless that is under way.
    pub fn fetch_artifact(&mut self) -> Vec<Effect> {
        if std::mem::replace(&mut self.fetching, true) {
            return Vec::new();
        }
        let Assignment {
            device, manifest, ..
        } = &self.assignment;
        vec![Effect::FetchArtifact {
            device: device.device.clone(),
            digest: manifest.artifact,
            size_bytes: manifest.size_bytes,
        }]
    }

    /// True if this is the deployment of the name that the south uses.
    pub fn is_named(&self, deployment: &str) -> bool {
        self.assignment.deployment.rollout.as_str() == deployment
    }

    /// True if the Thing has not got the command that the state asks for since it registered.
    pub fn lacks_command(&self) -> bool {
        self.commanded_in != Some(self.state) || self.reregistered
    }

    /// The command for the Thing that the state asks for, once for each registration. The south
    /// ignores a command that it carries out already.
    pub fn next_command(&mut self, seen_height: u64, open_for: Option<Duration>) -> Vec<Effect> {
        if !self.lacks_command() {
            return Vec::new();
        }
        let deployment = self.assignment.deployment.rollout.to_string();
        let endpoint = self.assignment.device.device.to_string();
        let command = match self.state {
            Downloading => SouthCommand::Transfer(self.transfer(seen_height)),
            Downloaded | WaitingWindow => SouthCommand::Install {
                endpoint,
                deployment,
                version: self.assignment.manifest.version,
                limits: InstallLimits {
                    open_for,
                    asks_lock: self.rules().is_some() && !self.ignores_lock,
                },
            },
            Installing | Staged | Trial => SouthCommand::Watch {
                endpoint,
                deployment,
                version: self.assignment.manifest.version,
            },
            Postponed if self.commanded_in == Some(Downloading) => SouthCommand::Cancel {
                endpoint,
                deployment,
            },
            _ => return Vec::new(),
        };
        (self.commanded_in, self.reregistered) = (Some(self.state), false);
        self.started = true;
        vec![Effect::Command(self.proven(command))]
    }

    /// The command with its proof, if it is an order.
    fn proven(&self, command: SouthCommand) -> SouthCommand {
        let rollout = self.assignment.deployment.rollout.clone();
        let action = match &command {
            SouthCommand::Transfer(_) => OrderAction::Offer {
                rollout,
                state: self.state,
            },
            SouthCommand::Install { .. } => OrderAction::Install { rollout },
            _ => return command,
        };
        command.with_proof(&action, &self.assignment.proof)
    }

    fn transfer(&self, seen_height: u64) -> Transfer {
        let Assignment {
            deployment,
            device,
            release,
            manifest,
            ..
        } = &self.assignment;
        let offer = Offer {
            rollout: deployment.rollout.clone(),
            device: device.device.clone(),
            release: release.clone(),
            state: self.state,
            seen_height,
        };
        Transfer {
            endpoint: device.device.to_string(),
            deployment: deployment.rollout.to_string(),
            artifact: manifest.artifact,
            size_bytes: manifest.size_bytes,
            offer: codec::encode(&offer),
        }
    }

    /// The command that ends the work of the Thing, if it may have started and can still be ended.
    pub fn cancel_if_started(&self) -> Option<Effect> {
        let can_end = self.started && !self.reported_state().is_past_return();
        can_end.then(|| {
            Effect::Command(SouthCommand::Cancel {
                endpoint: self.assignment.device.device.to_string(),
                deployment: self.assignment.deployment.rollout.to_string(),
            })
        })
    }
}
