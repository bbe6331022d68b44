//! The work on one Thing without IO: commands, results and time go in; [`SessionStep`]s and
//! [`WorkNotice`]s come out. There is one request at a time, as RFC 7252 wants it (NSTART 1).

mod casting;
mod queueing;
mod tasks;

use std::time::Duration;

use tokio::time::Instant;

use super::SouthCommand;
use super::orders::OrderQueue;
use super::proven::{OrderProofs, ProvenAnswer, ProvenStep};
use super::pull::PullAddresses;
use super::step::{
    SessionConfig, SessionInput, SessionStep, StepResult, TaskOutcome, TaskResponse, TaskStep,
    WorkNotice,
};
use super::value_reads::CompositeSupport;
use super::wakefulness::Wakefulness;
use crate::coap::{Code, Request, Response};
use crate::lwm2m::Stage;
use crate::lwm2m::resource::InstancePath;
use crate::lwm2m::value::ACCEPTS;

pub(super) use tasks::SessionTask;

/// The time for the answer to an operation that the Thing may not know: some acknowledge it, and
/// never answer.
const TRIAL: Duration = Duration::from_secs(10);
/// First wait after a Thing did not answer; doubled up to [`SessionConfig::retry_max`].
const RETRY_MIN: Duration = Duration::from_secs(1);

/// The work on one Thing.
#[derive(Debug)]
pub struct ThingSession {
    config: SessionConfig,
    /// True if the Thing has our agent; `None` while it is not registered.
    agent: Option<bool>,
    wakefulness: Wakefulness,
    /// The addresses under which the Thing can fetch packages.
    pull: PullAddresses,
    /// The instances in which the Thing says what it is.
    inventory: Vec<InstancePath>,
    /// The proof of the task's order, for a Thing that checks it.
    proofs: OrderProofs,
    task: Option<SessionTask>,
    /// The instant from which on the task's order must be proven again if it was interrupted.
    expires: Instant,
    /// The Thing was away since its last answer.
    interrupted: bool,
    /// The task waits for a newer proof of its order.
    held: bool,
    queue: OrderQueue,
    retry_at: Option<Instant>,
    failures: u32,
    /// Index in [`ACCEPTS`] of the format that reads ask for, and the number refused for this read.
    accept: usize,
    accepts_refused: usize,
    /// True if the step under way is a read.
    reading: bool,
    /// Whether the Thing knows composite operations, as far as its tasks have found out.
    composite: CompositeSupport,
    /// The end of the time for the step under way, if the Thing may not know its operation.
    trial_ends: Option<Instant>,
    /// Whether the Thing takes blocks in sets, once it was asked.
    q_block: Option<bool>,
    /// The Thing takes images that are cast, and this gateway casts them.
    takes_casts: bool,
    /// The transfer may send.
    permitted: bool,
}

impl ThingSession {
    /// A session without work, for a Thing that has not registered yet.
    pub fn new(config: SessionConfig) -> ThingSession {
        ThingSession {
            wakefulness: Wakefulness::new(config.awake),
            config,
            pull: PullAddresses::default(),
            inventory: Vec::new(),
            proofs: OrderProofs::default(),
            agent: None,
            task: None,
            expires: Instant::now(),
            interrupted: false,
            held: false,
            queue: OrderQueue::default(),
            retry_at: None,
            failures: 0,
            accept: 0,
            accepts_refused: 0,
            reading: false,
            composite: CompositeSupport::Untried(0),
            trial_ends: None,
            q_block: None,
            takes_casts: false,
            permitted: false,
        }
    }

    /// Processes an input. The flag is true if the step under way must be aborted.
    pub fn input(&mut self, now: Instant, input: SessionInput) -> (bool, Vec<WorkNotice>) {
        match input {
            SessionInput::Registered { agent, queue_mode } => {
                self.agent = Some(agent);
                self.wakefulness.registered(now, queue_mode);
                (self.retry_at, self.failures) = (None, 0);
                self.interrupted = true;
                self.proofs.restart();
                self.restart_task();
                (true, vec![])
            }
            SessionInput::Received => {
                self.wakefulness.observe_message(now);
                (self.retry_at, self.failures) = (None, 0);
                (false, vec![])
            }
            SessionInput::Lost => {
                self.agent = None;
                (true, vec![])
            }
            SessionInput::Command(SouthCommand::Cancel { deployment, .. }) => {
                self.cancel(now, deployment)
            }
            SessionInput::Command(SouthCommand::Lead { changes, .. }) => {
                if self.proofs.changes_fetched(changes) {
                    return (false, vec![]);
                }
                let reason = "the changes of the validators can't be had".to_owned();
                (
                    false,
                    self.end_task(|deployment| WorkNotice::Refused { deployment, reason }),
                )
            }
            SessionInput::Command(SouthCommand::Proven { order, proof }) => {
                (false, self.enqueue(now, *order, Some(proof)))
            }
            SessionInput::Command(command) => (false, self.enqueue(now, command, None)),
        }
    }

    /// True if there is something to do, now or once the Thing is back.
    pub fn has_work(&self) -> bool {
        self.task.is_some() || !self.queue.is_empty()
    }

    /// Sets the addresses under which the Thing can fetch packages from now on.
    pub fn set_pull_addresses(&mut self, pull: PullAddresses) {
        self.pull = pull;
    }

    /// Sets the instances in which the Thing says what it is.
    pub fn set_inventory(&mut self, inventory: Vec<InstancePath>) {
        self.inventory = inventory;
    }

    /// Sets whether the Thing takes orders with a proof alone.
    pub fn set_checks_orders(&mut self, checks_orders: bool) {
        self.proofs.set_checking(checks_orders);
    }

    /// The instant at which the Thing stops to listen; a step under way must be aborted then.
    pub fn sleeps_at(&self) -> Option<Instant> {
        self.wakefulness.sleeps_at()
    }

    /// The instant at which the step under way is to be abandoned: the Thing does not know its
    /// operation.
    pub fn trial_ends(&self) -> Option<Instant> {
        self.trial_ends
    }

    /// Abandons the step under way; the task goes on without its operation.
    pub fn abandon_trial(&mut self) {
        self.trial_ends = None;
        self.unanswered();
    }

    fn unanswered(&mut self) {
        match self.task.as_mut() {
            Some(SessionTask::Install(task)) => task.restart_reading(),
            Some(SessionTask::Apply(task)) => self.composite = task.unanswered(),
            Some(SessionTask::Inspect(task)) => self.composite = task.unanswered(),
            _ => {}
        }
    }

    /// Takes note that the last input was no message of the Thing: one in queue mode is not known
    /// to listen.
    pub fn presume_asleep(&mut self) {
        self.wakefulness.silent();
    }

    /// Takes note that the transfer may send.
    pub fn permit(&mut self) {
        self.permitted = true;
    }

    /// True if the session has a permit that it has no use for, which must be returned: its
    /// transfer has ended, or the Thing is silent. It forgets the permit.
    pub fn returns_permit(&mut self, now: Instant) -> bool {
        let is_silent = self.retry_at.is_some_and(|at| at > now);
        let is_away = self.agent.is_none() || is_silent || self.wakefulness.is_asleep(now);
        let in_use = self.is_sending() && !is_away;
        let returned = self.permitted && !in_use;
        self.permitted &= in_use;
        returned
    }

    /// True if a transfer is at the point of sending, and needs a permit for it.
    pub fn is_sending(&self) -> bool {
        matches!(&self.task, Some(SessionTask::Transfer(task)) if task.is_sending())
    }

    /// The step to do now.
    pub fn step(&mut self, now: Instant) -> SessionStep {
        let Some(agent) = self.agent else {
            return SessionStep::Idle;
        };
        if self.wakefulness.is_asleep(now) {
            return SessionStep::Idle;
        }
        if let Some(at) = self.retry_at.filter(|at| *at > now) {
            return SessionStep::Wait(at);
        }
        if let Some(deployment) = self.take_expired(now) {
            return SessionStep::Expired { deployment };
        }
        if self.held {
            return SessionStep::Idle;
        }
        if self.task.is_none() {
            let Some(order) = self.queue.pop() else {
                return SessionStep::Idle;
            };
            self.expires = order.expires;
            self.proofs.begin(order.proof);
            self.task = self.task_for(now, order.command);
        }
        if self.is_sending() && !self.permitted {
            // The wait may be long: its order must be in force at its end.
            self.interrupted = true;
            let proven_until = self.expires.max(now + self.config.poll);
            return SessionStep::AwaitPermit(proven_until);
        }
        self.trial_ends = None;
        if let Some(step) = self.proofs.lead_step(now) {
            return self.proven_step(step);
        }
        let next = match self.task.as_mut() {
            Some(SessionTask::Transfer(task)) => task.next(now, agent, &self.pull),
            Some(SessionTask::Install(task)) => task.next(now),
            Some(SessionTask::Cancel(task)) => task.next(agent),
            Some(SessionTask::Configure(task)) => task.next(now),
            Some(SessionTask::Apply(task)) => task.next(now),
            Some(SessionTask::Inspect(task)) => task.next(),
            Some(SessionTask::Observe(task)) => task.next(),
            None => return SessionStep::Idle,
        };
        match (next, &self.task) {
            (TaskStep::Request(request), _) => self.request_step(now, request),
            (TaskStep::Wait(at), _) => SessionStep::Wait(at),
            (step @ (TaskStep::JoinCast { .. } | TaskStep::AwaitCast(_)), _) => {
                self.cast_step(now, step)
            }
            (TaskStep::Block(block), Some(SessionTask::Transfer(task))) => {
                self.reading = false;
                let transfer = task.transfer().clone();
                SessionStep::Block { transfer, block }
            }
            (TaskStep::Set(set), Some(SessionTask::Transfer(task))) => {
                self.reading = false;
                let transfer = task.transfer().clone();
                SessionStep::Set { transfer, set }
            }
            (TaskStep::Block(_) | TaskStep::Set(_), _) => SessionStep::Idle,
        }
    }

    fn request_step(&mut self, now: Instant, mut request: Request) -> SessionStep {
        // Observations, discoveries and probes choose their formats by themselves.
        let chooses =
            request.observe.is_some() || request.accept.is_some() || request.q_block2.is_some();
        let reading = request.method == Code::GET && !chooses;
        if reading {
            request.accept = ACCEPTS[self.accept];
        }
        let is_trial = request.method == Code::FETCH;
        self.trial_ends = is_trial.then(|| now + TRIAL);
        let step = self.proofs.replace(request);
        let step = self.proven_step(step);
        self.reading = reading;
        step
    }

    fn proven_step(&mut self, step: ProvenStep) -> SessionStep {
        self.reading = false;
        match step {
            ProvenStep::Request(request) => SessionStep::Request(Box::new(request)),
            ProvenStep::Wait(until) => SessionStep::Wait(until),
            ProvenStep::Outdated => {
                SessionStep::Ended(self.end_task(|deployment| WorkNotice::Outdated { deployment }))
            }
            ProvenStep::Missing => {
                let reason = "there is no proof for it that a Thing takes".to_owned();
                let refused = |deployment| WorkNotice::Refused { deployment, reason };
                SessionStep::Ended(self.end_task(refused))
            }
        }
    }

    /// Ends the task with a notice about its deployment.
    fn end_task(&mut self, notice: impl FnOnce(String) -> WorkNotice) -> Vec<WorkNotice> {
        self.held = false;
        let deployment = match self.task.take() {
            Some(SessionTask::Transfer(task)) => task.transfer().deployment.clone(),
            Some(SessionTask::Install(task)) => task.deployment().to_owned(),
            _ => String::new(),
        };
        vec![notice(deployment)]
    }

    /// Processes the answer to an order with its proof; none if it is one for the task.
    fn proven_answer(&mut self, now: Instant, response: &Response) -> Option<Vec<WorkNotice>> {
        Some(match self.proofs.answer(now, response) {
            ProvenAnswer::Pass => return None,
            ProvenAnswer::Continue => vec![],
            ProvenAnswer::Outdated => {
                self.end_task(|deployment| WorkNotice::Outdated { deployment })
            }
            ProvenAnswer::ChangesNeeded(trusted) => vec![WorkNotice::ChangesNeeded { trusted }],
            ProvenAnswer::Refused(reason) => {
                self.end_task(|deployment| WorkNotice::Refused { deployment, reason })
            }
        })
    }

    /// Processes the result of the last step.
    pub fn answer(&mut self, now: Instant, result: StepResult) -> Vec<WorkNotice> {
        let response = match result {
            StepResult::Response(response) => *response,
            StepResult::Unreadable(reason) => {
                return self.end_task(|deployment| WorkNotice::Refused { deployment, reason });
            }
            StepResult::Silent | StepResult::Unreachable(_) if self.retries_otherwise(&result) => {
                return vec![];
            }
            StepResult::Silent | StepResult::Unreachable(_) => {
                self.interrupted = true;
                self.unanswered();
                self.failures = self.failures.saturating_add(1);
                let doubled = RETRY_MIN * 2u32.saturating_pow(self.failures.min(16) - 1);
                // One that sleeps says itself when it listens again.
                let is_asleep = self.wakefulness.silent();
                self.retry_at = (!is_asleep).then(|| now + doubled.min(self.config.retry_max));
                return self.overdue(now);
            }
        };
        (self.retry_at, self.failures) = (None, 0);
        self.interrupted = false;
        self.wakefulness.observe_message(now);
        if self.try_next_format(response.code) {
            return vec![];
        }
        if let Some(notices) = self.proven_answer(now, &response) {
            return notices;
        }
        let reply = TaskResponse {
            now,
            agent: self.agent.unwrap_or(false),
            http_is_served: self.pull.has_http(),
            response: &response,
            config: &self.config,
        };
        let outcome = match self.task.as_mut() {
            Some(SessionTask::Transfer(task)) => {
                let outcome = task.answer(&reply);
                self.q_block = task.q_block();
                // It may be postponed for long.
                self.interrupted |= task.is_postponed();
                outcome
            }
            Some(SessionTask::Install(task)) => task.answer(&reply),
            Some(SessionTask::Cancel(task)) => task.answer(reply.agent, &response),
            Some(SessionTask::Configure(task)) => task.answer(&reply),
            Some(SessionTask::Apply(task)) => task.answer(&reply),
            Some(SessionTask::Inspect(task)) => task.answer(&response),
            Some(SessionTask::Observe(task)) => task.answer(response.code),
            None => TaskOutcome::pending(),
        };
        match &self.task {
            Some(SessionTask::Apply(task)) => self.composite = task.composite(),
            Some(SessionTask::Inspect(task)) => self.composite = task.composite(),
            _ => {}
        }
        if outcome.done {
            let failed = |notice: &WorkNotice| match notice {
                WorkNotice::Stage { stage, .. } => *stage != Stage::Downloaded,
                _ => false,
            };
            if let Some(SessionTask::Transfer(task)) = self.task.take()
                && outcome.notices.iter().any(failed)
            {
                self.queue.remove_installation(&task.transfer().deployment);
            }
        }
        outcome.notices
    }

    /// True if a transfer goes on at once although its last step was not answered.
    fn retries_otherwise(&mut self, result: &StepResult) -> bool {
        let Some(SessionTask::Transfer(task)) = self.task.as_mut() else {
            return false;
        };
        let continues = task.not_answered(matches!(result, StepResult::Silent));
        self.q_block = task.q_block();
        continues
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
}
