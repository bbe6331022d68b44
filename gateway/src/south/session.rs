//! The work on one Thing without IO: commands, results and time go in; [`SessionStep`]s and
//! [`WorkNotice`]s come out. There is one request at a time, as RFC 7252 wants it (NSTART 1).

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::install::InstallTask;
use super::single_request::{CancelTask, ConfigureTask};
use super::transfer::TransferTask;
use super::{SouthCommand, Transfer};
use crate::coap::{Block, Code, Request, Response};
use crate::lwm2m::Stage;
use crate::lwm2m::value::ACCEPTS;

/// Commands that wait for one Thing: a few deployments and configurations.
pub const WORK_MAX: usize = 16;
/// First wait after a Thing did not answer; doubled up to [`SessionConfig::retry_max`].
const RETRY_MIN: Duration = Duration::from_secs(1);

/// Timers of the work on one Thing.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// The interval between two reads of state and result while the Thing works.
    pub poll: Duration,
    /// Longest wait between attempts to reach a Thing that does not answer.
    pub retry_max: Duration,
    /// The time for the Thing to check a package, or to install it and boot.
    pub install_timeout: Duration,
    /// Size exponent of the first block; the Thing may ask for smaller ones.
    pub szx: u8,
}

impl Default for SessionConfig {
    fn default() -> SessionConfig {
        SessionConfig {
            poll: Duration::from_secs(5),
            retry_max: Duration::from_secs(300),
            install_timeout: Duration::from_secs(3600),
            szx: 6,
        }
    }
}

/// The next step of the work.
#[derive(Debug, PartialEq, Eq)]
pub enum SessionStep {
    /// Wait for an input.
    Idle,
    /// Wait until this instant or for an input.
    Wait(Instant),
    /// Send this request and return its [`StepResult`].
    Request(Box<Request>),
    /// Send this block of the artifact and return its [`StepResult`].
    Block {
        /// The transfer that the block belongs to.
        transfer: Transfer,
        /// The position, as the block option has it.
        block: Block,
    },
}

/// The result of a step.
#[derive(Debug)]
pub enum StepResult {
    /// The Thing answered, perhaps with an error code.
    Response(Box<Response>),
    /// The Thing did not answer.
    Unreachable(String),
    /// The artifact could not be read.
    Unreadable(String),
}

/// An input of the work on one Thing.
#[derive(Debug)]
pub enum SessionInput {
    /// The Thing registered.
    Registered {
        /// True if it has our agent.
        agent: bool,
    },
    /// The Thing cannot be reached for now.
    Lost,
    /// A command of the north side.
    Command(SouthCommand),
}

/// A notice to the north side about the work on a Thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkNotice {
    /// The Thing accepted a part of the package.
    Progress {
        /// The deployment.
        deployment: String,
        /// Acknowledged so far.
        sent_bytes: u64,
        /// Size of the package.
        total_bytes: u64,
    },
    /// The stage by the Thing's object 5; without our agent nothing attests it.
    Stage {
        /// The deployment.
        deployment: String,
        /// The stage.
        stage: Stage,
        /// For a person: the Thing's text, or its new version.
        detail: String,
    },
    /// A configuration document was accepted or not. The Thing itself reports whether it applied
    /// it.
    Configured {
        /// True if it was accepted.
        accepted: bool,
        /// For a person.
        detail: String,
    },
    /// A command cannot be carried out.
    Refused {
        /// The deployment; empty for a configuration.
        deployment: String,
        /// The reason.
        reason: String,
    },
    /// The Thing is busy now; the command must be repeated.
    Busy {
        /// The deployment; empty for a configuration.
        deployment: String,
    },
}

/// The next step of a task.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TaskStep {
    Request(Request),
    Block(Block),
    Wait(Instant),
}

/// A response of the Thing to the last request of a task.
pub(super) struct TaskResponse<'a> {
    pub(super) now: Instant,
    pub(super) agent: bool,
    pub(super) response: &'a Response,
    pub(super) config: &'a SessionConfig,
}

impl TaskResponse<'_> {
    /// The instant of the next read while the Thing works.
    pub(super) fn next_poll(&self) -> Instant {
        self.now + self.config.poll
    }
}

/// The result of a response for a task.
#[derive(Debug, Default)]
pub(super) struct TaskOutcome {
    pub(super) done: bool,
    pub(super) notices: Vec<WorkNotice>,
}

impl TaskOutcome {
    pub(super) fn pending() -> TaskOutcome {
        TaskOutcome::default()
    }

    pub(super) fn notify(notice: WorkNotice) -> TaskOutcome {
        TaskOutcome {
            done: false,
            notices: vec![notice],
        }
    }

    pub(super) fn end(notice: WorkNotice) -> TaskOutcome {
        TaskOutcome {
            done: true,
            notices: vec![notice],
        }
    }
}

#[derive(Debug)]
pub(super) enum SessionTask {
    Transfer(TransferTask),
    Install(InstallTask),
    Cancel(CancelTask),
    Configure(ConfigureTask),
}

/// The work on one Thing.
#[derive(Debug)]
pub struct ThingSession {
    config: SessionConfig,
    /// True if the Thing has our agent; `None` while it is not registered.
    agent: Option<bool>,
    task: Option<SessionTask>,
    queue: VecDeque<SouthCommand>,
    retry_at: Option<Instant>,
    failures: u32,
    /// Index in [`ACCEPTS`] of the format that reads ask for, and the number refused for this read.
    accept: usize,
    accepts_refused: usize,
    /// True if the step under way is a read.
    reading: bool,
}

impl ThingSession {
    /// A session without work, for a Thing that has not registered yet.
    pub fn new(config: SessionConfig) -> ThingSession {
        let queue = VecDeque::new();
        ThingSession {
            config,
            agent: None,
            task: None,
            queue,
            retry_at: None,
            failures: 0,
            accept: 0,
            accepts_refused: 0,
            reading: false,
        }
    }

    /// Processes an input. The flag is true if the step under way must be aborted.
    pub fn input(&mut self, input: SessionInput) -> (bool, Vec<WorkNotice>) {
        match input {
            SessionInput::Registered { agent } => {
                self.agent = Some(agent);
                (self.retry_at, self.failures) = (None, 0);
                self.restart_task();
                (true, vec![])
            }
            SessionInput::Lost => {
                self.agent = None;
                (true, vec![])
            }
            SessionInput::Command(SouthCommand::Cancel { deployment, .. }) => {
                self.cancel(deployment)
            }
            SessionInput::Command(command) => (false, self.enqueue(command)),
        }
    }

    /// The step to do now.
    pub fn step(&mut self, now: Instant) -> SessionStep {
        let Some(agent) = self.agent else {
            return SessionStep::Idle;
        };
        if let Some(at) = self.retry_at.filter(|at| *at > now) {
            return SessionStep::Wait(at);
        }
        if self.task.is_none() {
            let Some(command) = self.queue.pop_front() else {
                return SessionStep::Idle;
            };
            self.task = self.task_for(now, command);
        }
        let next = match self.task.as_mut() {
            Some(SessionTask::Transfer(task)) => task.next(now, agent),
            Some(SessionTask::Install(task)) => task.next(now),
            Some(SessionTask::Cancel(task)) => task.next(agent),
            Some(SessionTask::Configure(task)) => task.next(now),
            None => return SessionStep::Idle,
        };
        match (next, &self.task) {
            (TaskStep::Request(mut request), _) => {
                self.reading = request.method == Code::GET;
                if self.reading {
                    request.accept = ACCEPTS[self.accept];
                }
                SessionStep::Request(Box::new(request))
            }
            (TaskStep::Wait(at), _) => SessionStep::Wait(at),
            (TaskStep::Block(block), Some(SessionTask::Transfer(task))) => {
                self.reading = false;
                let transfer = task.transfer().clone();
                SessionStep::Block { transfer, block }
            }
            (TaskStep::Block(_), _) => SessionStep::Idle,
        }
    }

    /// Processes the result of the last step.
    pub fn answer(&mut self, now: Instant, result: StepResult) -> Vec<WorkNotice> {
        let response = match result {
            StepResult::Response(response) => *response,
            StepResult::Unreadable(reason) => return self.fail_task(reason),
            StepResult::Unreachable(_) => {
                if let Some(SessionTask::Install(task)) = self.task.as_mut() {
                    task.restart_reading();
                }
                self.failures = self.failures.saturating_add(1);
                let doubled = RETRY_MIN * 2u32.saturating_pow(self.failures.min(16) - 1);
                self.retry_at = Some(now + doubled.min(self.config.retry_max));
                return self.overdue(now);
            }
        };
        (self.retry_at, self.failures) = (None, 0);
        if self.try_next_format(response.code) {
            return vec![];
        }
        let reply = TaskResponse {
            now,
            agent: self.agent.unwrap_or(false),
            response: &response,
            config: &self.config,
        };
        let outcome = match self.task.as_mut() {
            Some(SessionTask::Transfer(task)) => task.answer(&reply),
            Some(SessionTask::Install(task)) => task.answer(&reply),
            Some(SessionTask::Cancel(task)) => task.answer(&response),
            Some(SessionTask::Configure(task)) => task.answer(&reply),
            None => TaskOutcome::pending(),
        };
        if outcome.done {
            let failed = |notice: &WorkNotice| match notice {
                WorkNotice::Stage { stage, .. } => *stage != Stage::Downloaded,
                _ => false,
            };
            if let Some(SessionTask::Transfer(task)) = self.task.take()
                && outcome.notices.iter().any(failed)
            {
                let deployment = &task.transfer().deployment;
                self.queue.retain(|command| !installs(command, deployment));
            }
        }
        outcome.notices
    }

    fn task_for(&self, now: Instant, command: SouthCommand) -> Option<SessionTask> {
        Some(match command {
            SouthCommand::Transfer(transfer) => {
                SessionTask::Transfer(TransferTask::new(now, transfer, &self.config))
            }
            SouthCommand::Install {
                deployment,
                version,
                ..
            } => SessionTask::Install(InstallTask::new(now, deployment, version, &self.config)),
            SouthCommand::Watch {
                deployment,
                version,
                ..
            } => SessionTask::Install(InstallTask::resume(now, deployment, version, &self.config)),
            SouthCommand::Cancel { deployment, .. } => {
                SessionTask::Cancel(CancelTask { deployment })
            }
            SouthCommand::Configure { document, .. } => {
                SessionTask::Configure(ConfigureTask::new(document))
            }
            // The manager ends the session instead.
            SouthCommand::Release { .. } => return None,
        })
    }

    /// Starts the task over after a registration, from the Thing's own state: it may have booted.
    fn restart_task(&mut self) {
        match self.task.as_mut() {
            Some(SessionTask::Transfer(task)) => task.restart(),
            Some(SessionTask::Install(task)) => task.restart(),
            _ => {}
        }
    }

    /// Chooses the next format if the Thing cannot give a resource in this one (4.06), or does not
    /// know the option (4.02). True if the read is repeated.
    fn try_next_format(&mut self, code: Code) -> bool {
        let refused = matches!(code, Code::NOT_ACCEPTABLE | Code::BAD_OPTION);
        if !self.reading || !refused || self.accepts_refused + 1 >= ACCEPTS.len() {
            self.accepts_refused = 0;
            return false;
        }
        self.accepts_refused += 1;
        self.accept = (self.accept + 1) % ACCEPTS.len();
        true
    }

    /// Queues a command, unless the same one is under way or queued already.
    fn enqueue(&mut self, command: SouthCommand) -> Vec<WorkNotice> {
        let under_way = match (&self.task, &command) {
            (Some(SessionTask::Transfer(task)), SouthCommand::Transfer(transfer)) => {
                task.transfer().deployment == transfer.deployment
            }
            (
                Some(SessionTask::Install(task)),
                SouthCommand::Install { deployment, .. } | SouthCommand::Watch { deployment, .. },
            ) => task.deployment() == deployment,
            _ => false,
        };
        let waits = self.queue.iter_mut().find(|other| is_same(other, &command));
        if let Some(waits) = waits.filter(|_| !under_way) {
            // Its offer names a newer state of the ledger.
            *waits = command;
            return vec![];
        }
        if under_way {
            return vec![];
        }
        if self.queue.len() >= WORK_MAX {
            let reason = format!("{WORK_MAX} commands wait for this Thing already");
            return vec![WorkNotice::Refused {
                deployment: command.deployment().unwrap_or_default().to_owned(),
                reason,
            }];
        }
        self.queue.push_back(command);
        vec![]
    }

    fn cancel(&mut self, deployment: String) -> (bool, Vec<WorkNotice>) {
        self.queue
            .retain(|command| command.deployment() != Some(&deployment));
        match &self.task {
            Some(SessionTask::Install(task)) if task.deployment() == deployment => {
                let reason = "too late: it is being installed".to_owned();
                (false, vec![WorkNotice::Refused { deployment, reason }])
            }
            Some(SessionTask::Transfer(task)) if task.transfer().deployment == deployment => {
                self.task = Some(SessionTask::Cancel(CancelTask { deployment }));
                (true, vec![])
            }
            _ => {
                let endpoint = String::new();
                self.queue.push_front(SouthCommand::Cancel {
                    endpoint,
                    deployment,
                });
                (false, vec![])
            }
        }
    }

    fn fail_task(&mut self, reason: String) -> Vec<WorkNotice> {
        let deployment = match self.task.take() {
            Some(SessionTask::Transfer(task)) => task.transfer().deployment.clone(),
            _ => String::new(),
        };
        vec![WorkNotice::Refused { deployment, reason }]
    }

    /// Ends an installation whose Thing never comes back, so that other work can follow.
    fn overdue(&mut self, now: Instant) -> Vec<WorkNotice> {
        let outcome = match &self.task {
            Some(SessionTask::Install(task)) => task.overdue(now),
            _ => None,
        };
        if outcome.is_some() {
            self.task = None;
        }
        outcome.into_iter().collect()
    }
}

/// True if both commands want the same, though perhaps with offers of different times.
fn is_same(one: &SouthCommand, other: &SouthCommand) -> bool {
    match (one, other) {
        (SouthCommand::Transfer(one), SouthCommand::Transfer(other)) => {
            one.deployment == other.deployment
        }
        _ => one == other,
    }
}

/// True if the command installs the package of a deployment: pointless when its transfer failed.
fn installs(command: &SouthCommand, of: &str) -> bool {
    let installs = matches!(
        command,
        SouthCommand::Install { .. } | SouthCommand::Watch { .. }
    );
    installs && command.deployment() == Some(of)
}
