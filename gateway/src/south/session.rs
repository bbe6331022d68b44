//! The work on one Thing without IO: commands, answers and time go in; [`Step`]s and [`Notice`]s
//! come out. One thing is asked at a time, as RFC 7252 wants it (NSTART 1).

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::install::Install;
use super::small::{Cancel, Configure};
use super::transfer::TransferJob;
use super::{SouthCommand, Transfer};
use crate::coap::{Block, Code, Request, Response};
use crate::lwm2m::Stage;
use crate::lwm2m::value::ACCEPTS;

/// Commands that wait for one Thing: a few deployments and configurations.
pub const WORK_MAX: usize = 16;
/// First wait after a Thing did not answer; doubled up to [`SessionConfig::retry_max`].
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// Timers of the work on one Thing.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// How often state and result are asked while the Thing works.
    pub poll: Duration,
    /// Longest wait between attempts to reach a Thing that does not answer.
    pub retry_max: Duration,
    /// How long the Thing may check a package, or install it and boot, before we give it up.
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

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing until an input comes.
    Idle,
    /// Nothing until then, or until an input comes.
    Wait(Instant),
    /// Send this and give the [`Answer`].
    Ask(Box<Request>),
    /// Send these bytes of the artifact and give the [`Answer`].
    Block {
        /// The transfer that they belong to.
        transfer: Transfer,
        /// Their place, as the block option has it.
        block: Block,
    },
}

/// What became of a step.
#[derive(Debug)]
pub enum Answer {
    /// The Thing answered, perhaps with an error code.
    Response(Box<Response>),
    /// The Thing did not answer.
    Unreachable(String),
    /// The artifact could not be read.
    Unreadable(String),
}

/// What happens to a Thing from outside.
#[derive(Debug)]
pub enum Input {
    /// It registered; whether it has our agent.
    Registered {
        /// Whether it has our agent.
        agent: bool,
    },
    /// It is gone for now.
    Lost,
    /// The north side wants something.
    Command(SouthCommand),
}

/// What the north side is told about the work on a Thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// How much of a package has been taken.
    Progress {
        /// The deployment.
        deployment: String,
        /// Acknowledged so far.
        sent_bytes: u64,
        /// Size of the package.
        total_bytes: u64,
    },
    /// What the Thing's object 5 says; without our agent nothing attests it.
    Stage {
        /// The deployment.
        deployment: String,
        /// Where it stands.
        stage: Stage,
        /// For a person: the Thing's words, or its new version.
        detail: String,
    },
    /// A configuration document was taken or not; whether it was applied, the Thing reports itself.
    Configured {
        /// Taken.
        accepted: bool,
        /// For a person.
        detail: String,
    },
    /// A command cannot be carried out.
    Refused {
        /// The deployment; empty for a configuration.
        deployment: String,
        /// Why.
        reason: String,
    },
    /// The Thing is at something else now; try again later.
    Later {
        /// The deployment; empty for a configuration.
        deployment: String,
    },
}

/// How a job goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Ask(Request),
    Block(Block),
    Wait(Instant),
}

/// What an answer means for a job.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) done: bool,
    pub(super) notices: Vec<Notice>,
}

impl Outcome {
    pub(super) fn go_on() -> Outcome {
        Outcome::default()
    }

    pub(super) fn tell(notice: Notice) -> Outcome {
        Outcome {
            done: false,
            notices: vec![notice],
        }
    }

    pub(super) fn end(notice: Notice) -> Outcome {
        Outcome {
            done: true,
            notices: vec![notice],
        }
    }
}

#[derive(Debug)]
pub(super) enum Job {
    Transfer(TransferJob),
    Install(Install),
    Cancel(Cancel),
    Configure(Configure),
}

/// The work on one Thing.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    /// Whether the Thing has our agent; `None` while it is not registered.
    agent: Option<bool>,
    job: Option<Job>,
    queue: VecDeque<SouthCommand>,
    retry_at: Option<Instant>,
    failures: u32,
    /// Which of [`ACCEPTS`] the Thing is asked with, and how many it has refused for this read.
    accept: usize,
    accepts_refused: usize,
    /// The step under way is a read.
    reading: bool,
}

impl Session {
    /// No work, and a Thing that has not registered yet.
    pub fn new(config: SessionConfig) -> Session {
        let queue = VecDeque::new();
        Session {
            config,
            agent: None,
            job: None,
            queue,
            retry_at: None,
            failures: 0,
            accept: 0,
            accepts_refused: 0,
            reading: false,
        }
    }

    /// Takes an input. The flag says whether the step under way must be given up.
    pub fn input(&mut self, input: Input) -> (bool, Vec<Notice>) {
        match input {
            Input::Registered { agent } => {
                self.agent = Some(agent);
                (self.retry_at, self.failures) = (None, 0);
                self.restarted();
                (true, vec![])
            }
            Input::Lost => {
                self.agent = None;
                (true, vec![])
            }
            Input::Command(SouthCommand::Cancel { deployment, .. }) => self.cancel(deployment),
            Input::Command(command) => (false, self.enqueue(command)),
        }
    }

    /// What to do now.
    pub fn step(&mut self, now: Instant) -> Step {
        let Some(agent) = self.agent else {
            return Step::Idle;
        };
        if let Some(at) = self.retry_at.filter(|at| *at > now) {
            return Step::Wait(at);
        }
        if self.job.is_none() {
            let Some(command) = self.queue.pop_front() else {
                return Step::Idle;
            };
            self.job = self.job_for(now, command);
        }
        let next = match self.job.as_mut() {
            Some(Job::Transfer(job)) => job.next(now, agent),
            Some(Job::Install(job)) => job.next(now),
            Some(Job::Cancel(job)) => job.next(agent),
            Some(Job::Configure(job)) => job.next(now),
            None => return Step::Idle,
        };
        match (next, &self.job) {
            (Next::Ask(mut request), _) => {
                self.reading = request.method == Code::GET;
                if self.reading {
                    request.accept = ACCEPTS[self.accept];
                }
                Step::Ask(Box::new(request))
            }
            (Next::Wait(at), _) => Step::Wait(at),
            (Next::Block(block), Some(Job::Transfer(job))) => {
                self.reading = false;
                let transfer = job.transfer().clone();
                Step::Block { transfer, block }
            }
            (Next::Block(_), _) => Step::Idle,
        }
    }

    /// Takes what became of the last step.
    pub fn answer(&mut self, now: Instant, answer: Answer) -> Vec<Notice> {
        let response = match answer {
            Answer::Response(response) => *response,
            Answer::Unreadable(reason) => return self.give_up(reason),
            Answer::Unreachable(_) => {
                if let Some(Job::Install(job)) = self.job.as_mut() {
                    job.unanswered();
                }
                self.failures = self.failures.saturating_add(1);
                let doubled = RETRY_FIRST * 2u32.saturating_pow(self.failures.min(16) - 1);
                self.retry_at = Some(now + doubled.min(self.config.retry_max));
                return self.overdue(now);
            }
        };
        (self.retry_at, self.failures) = (None, 0);
        if self.asks_for_another_format(response.code) {
            return vec![];
        }
        let agent = self.agent.unwrap_or(false);
        let outcome = match self.job.as_mut() {
            Some(Job::Transfer(job)) => job.answer(now, agent, &response, &self.config),
            Some(Job::Install(job)) => job.answer(now, agent, &response, &self.config),
            Some(Job::Cancel(job)) => job.answer(&response),
            Some(Job::Configure(job)) => job.answer(now, &response, &self.config),
            None => Outcome::go_on(),
        };
        if outcome.done {
            let failed = |notice: &Notice| match notice {
                Notice::Stage { stage, .. } => *stage != Stage::Downloaded,
                _ => false,
            };
            if let Some(Job::Transfer(job)) = self.job.take()
                && outcome.notices.iter().any(failed)
            {
                let deployment = &job.transfer().deployment;
                self.queue.retain(|command| !installs(command, deployment));
            }
        }
        outcome.notices
    }

    fn job_for(&self, now: Instant, command: SouthCommand) -> Option<Job> {
        Some(match command {
            SouthCommand::Transfer(transfer) => {
                Job::Transfer(TransferJob::new(now, transfer, &self.config))
            }
            SouthCommand::Install {
                deployment,
                version,
                ..
            } => Job::Install(Install::new(now, deployment, version, &self.config)),
            SouthCommand::Watch {
                deployment,
                version,
                ..
            } => Job::Install(Install::resume(now, deployment, version, &self.config)),
            SouthCommand::Cancel { deployment, .. } => Job::Cancel(Cancel { deployment }),
            SouthCommand::Configure { document, .. } => Job::Configure(Configure::new(document)),
            // The manager has ended this session by then.
            SouthCommand::Release { .. } => return None,
        })
    }

    /// The Thing may have booted: what is under way is begun again, from where the Thing stands.
    fn restarted(&mut self) {
        match self.job.as_mut() {
            Some(Job::Transfer(job)) => job.restart(),
            Some(Job::Install(job)) => job.restart(),
            _ => {}
        }
    }

    /// A Thing that can't give a resource in the format that was asked for (4.06), or does not know
    /// that one can ask (4.02), is asked with the next one; true if it is.
    fn asks_for_another_format(&mut self, code: Code) -> bool {
        let refused = matches!(code, Code::NOT_ACCEPTABLE | Code::BAD_OPTION);
        if !self.reading || !refused || self.accepts_refused + 1 >= ACCEPTS.len() {
            self.accepts_refused = 0;
            return false;
        }
        self.accepts_refused += 1;
        self.accept = (self.accept + 1) % ACCEPTS.len();
        true
    }

    /// A command that is under way or waiting already is not taken twice.
    fn enqueue(&mut self, command: SouthCommand) -> Vec<Notice> {
        let under_way = match (&self.job, &command) {
            (Some(Job::Transfer(job)), SouthCommand::Transfer(transfer)) => {
                job.transfer().deployment == transfer.deployment
            }
            (
                Some(Job::Install(job)),
                SouthCommand::Install { deployment, .. } | SouthCommand::Watch { deployment, .. },
            ) => job.deployment() == deployment,
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
            return vec![Notice::Refused {
                deployment: command.deployment().unwrap_or_default().to_owned(),
                reason,
            }];
        }
        self.queue.push_back(command);
        vec![]
    }

    fn cancel(&mut self, deployment: String) -> (bool, Vec<Notice>) {
        self.queue
            .retain(|command| command.deployment() != Some(&deployment));
        match &self.job {
            Some(Job::Install(job)) if job.deployment() == deployment => {
                let reason = "too late: it is being installed".to_owned();
                (false, vec![Notice::Refused { deployment, reason }])
            }
            Some(Job::Transfer(job)) if job.transfer().deployment == deployment => {
                self.job = Some(Job::Cancel(Cancel { deployment }));
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

    fn give_up(&mut self, reason: String) -> Vec<Notice> {
        let deployment = match self.job.take() {
            Some(Job::Transfer(job)) => job.transfer().deployment.clone(),
            _ => String::new(),
        };
        vec![Notice::Refused { deployment, reason }]
    }

    /// An installation whose Thing never comes back must end, or nothing else could follow.
    fn overdue(&mut self, now: Instant) -> Vec<Notice> {
        let outcome = match &self.job {
            Some(Job::Install(job)) => job.overdue(now),
            _ => None,
        };
        if outcome.is_some() {
            self.job = None;
        }
        outcome.into_iter().collect()
    }
}

/// Whether both want the same, though perhaps by an offer of another time.
fn is_same(one: &SouthCommand, other: &SouthCommand) -> bool {
    match (one, other) {
        (SouthCommand::Transfer(one), SouthCommand::Transfer(other)) => {
            one.deployment == other.deployment
        }
        _ => one == other,
    }
}

/// There is nothing to install when the transfer has failed.
fn installs(command: &SouthCommand, of: &str) -> bool {
    let installs = matches!(
        command,
        SouthCommand::Install { .. } | SouthCommand::Watch { .. }
    );
    installs && command.deployment() == Some(of)
}
