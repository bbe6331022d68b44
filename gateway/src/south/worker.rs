//! The task around a [`ThingSession`]: it carries out the steps and reports to the north side.

use std::fs::File;
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::block_set::SetSending;
use super::casting::{CastSubject, CastTurn, Casts, Membership};
use super::inputs::InputReceiver;
use super::pacing::{Pacing, TransferPermit};
use super::pull::PullAddresses;
use super::session::ThingSession;
use super::step::{BlockSet, SessionInput, SessionStep, StepResult, WorkNotice};
use super::{SouthCommand, SouthEvent, Transfer, TransferRate};
use crate::cast::BlockMap;
use crate::coap::{Block, CoapHandle, Code, Peer, Request, TransferError, format, sleep_until};
use crate::credentials::Protection;
use crate::lwm2m::path;
use crate::lwm2m::registration::{Objects, Registration};

/// An input of a worker.
#[derive(Debug)]
pub(super) enum WorkerInput {
    Registered(Registration),
    /// What a worker knew that was ended for want of work: no message of the Thing.
    Recalled(Registration),
    /// The Thing sent a message.
    Received,
    Lost,
    Command(SouthCommand),
}

/// The handles that all workers share.
#[derive(Debug, Clone)]
pub(super) struct WorkerContext {
    pub(super) handle: CoapHandle,
    pub(super) rate: Arc<TransferRate>,
    pub(super) pacing: Arc<Pacing>,
    pub(super) casts: Casts,
    /// The address at which Things fetch packages over HTTP.
    pub(super) http: Option<SocketAddr>,
    pub(super) artifacts: PathBuf,
    pub(super) events: mpsc::Sender<SouthEvent>,
}

impl WorkerContext {
    /// Sends an event; waits while the north side has too much to read.
    pub(super) async fn publish(&self, event: SouthEvent) {
        if self.events.send(event).await.is_err() {
            tracing::debug!("the north side has ended");
        }
    }
}

type PendingRequest = Pin<Box<dyn Future<Output = StepResult> + Send>>;

struct Worker {
    endpoint: String,
    session: ThingSession,
    context: WorkerContext,
    peer: Option<Peer>,
    /// True if it has registered since this worker started.
    registered: bool,
    /// Segments of the path below which the Thing's objects are.
    root: Vec<String>,
    permit: Permit,
    /// The Thing's place in a cast.
    membership: Option<Membership>,
}

/// The worker's right to transfer.
enum Permit {
    None,
    Awaited(oneshot::Receiver<TransferPermit>),
    /// It is returned when it is dropped.
    Held {
        _permit: TransferPermit,
    },
}

impl Permit {
    /// Waits for the permit that was asked for.
    async fn granted(&mut self) {
        let Permit::Awaited(receiver) = self else {
            return std::future::pending().await;
        };
        match receiver.await {
            Ok(_permit) => *self = Permit::Held { _permit },
            Err(_) => *self = Permit::None,
        }
    }
}

/// Runs until the manager drops the other end of `inputs`.
pub(super) async fn run(
    endpoint: String,
    session: ThingSession,
    context: WorkerContext,
    mut inputs: InputReceiver,
) {
    let mut worker = Worker {
        endpoint,
        session,
        context,
        peer: None,
        registered: false,
        root: Vec::new(),
        permit: Permit::None,
        membership: None,
    };
    let mut pending: Option<PendingRequest> = None;
    loop {
        let (mut wait, sleeps_at) = (None, worker.session.sleeps_at());
        let listens_until = sleeps_at.filter(|at| *at > Instant::now());
        worker.return_permit();
        if pending.is_none() {
            match worker.session.step(Instant::now()) {
                // Who sleeps soon must be known until then: its work waits for nothing now.
                SessionStep::Idle if worker.session.has_work() || listens_until.is_some() => {}
                SessionStep::Idle => inputs.note_idle(),
                step => match worker.begin(step).await {
                    NextStep::Again => continue,
                    NextStep::Wait(at) => wait = Some(at),
                    NextStep::Sent(request) => pending = request,
                },
            }
        }
        let awaits_cast = pending.is_none() && worker.session.awaits_cast();
        let trial_ends = worker.session.trial_ends().filter(|_| pending.is_some());
        tokio::select! {
            input = inputs.recv() => match input {
                None => return,
                Some(input) => if worker.input(input).await { pending = None },
            },
            answer = finish(&mut pending) => {
                pending = None;
                worker.answer(answer).await;
            }
            () = worker.permit.granted() => worker.session.permit(),
            turn = cast_turn(&mut worker.membership), if awaits_cast => {
                worker.session.cast_turn(turn);
            }
            () = sleep_until(wait), if wait.is_some() => {}
            () = sleep_until(listens_until), if pending.is_none() && listens_until.is_some() => {}
            () = sleep_until(trial_ends), if trial_ends.is_some() => {
                pending = None;
                worker.session.abandon_trial();
            }
            // Nothing is sent again to a Thing that does not listen any more.
            () = sleep_until(sleeps_at), if pending.is_some() && sleeps_at.is_some() => {
                pending = None;
                worker.answer(StepResult::Unreachable("it sleeps".to_owned())).await;
            }
        }
    }
}

/// What follows the beginning of a step.
enum NextStep {
    /// Another step.
    Again,
    /// An input, or another step at this time.
    Wait(Instant),
    /// Its answer; none if the Thing is away.
    Sent(Option<PendingRequest>),
}

impl Worker {
    /// Begins a step.
    async fn begin(&mut self, step: SessionStep) -> NextStep {
        match step {
            SessionStep::Idle => return NextStep::Sent(None),
            SessionStep::Wait(at) => return NextStep::Wait(at),
            SessionStep::AwaitPermit(at) => {
                self.await_permit();
                return NextStep::Wait(at);
            }
            SessionStep::AwaitCast(map, at) => {
                self.report_to_cast(map);
                return NextStep::Wait(at);
            }
            SessionStep::JoinCast {
                transfer,
                szx,
                may_open,
            } => self.join_cast(&transfer, szx, may_open),
            SessionStep::Expired { deployment } => {
                self.publish(vec![WorkNotice::Expired { deployment }]).await;
            }
            SessionStep::Ended(notices) => self.publish(notices).await,
            SessionStep::Request(request) => return NextStep::Sent(self.send_request(*request)),
            SessionStep::Block { transfer, block } => {
                return NextStep::Sent(self.block(transfer, block));
            }
            SessionStep::Set { transfer, set } => {
                return NextStep::Sent(self.send_set(transfer, set));
            }
        }
        NextStep::Again
    }

    /// Takes a place in the queue of the mesh's transfers, unless it has one.
    fn await_permit(&mut self) {
        if !matches!(self.permit, Permit::Awaited(_)) {
            let receiver = self.context.pacing.request(vec![self.endpoint.clone()]);
            self.permit = Permit::Awaited(receiver);
        }
    }

    /// Returns a permit, or a place in the queue or in a cast, for which there is no use any more.
    fn return_permit(&mut self) {
        let is_waiting = matches!(self.permit, Permit::Awaited(_));
        if self.session.returns_permit(Instant::now()) || (is_waiting && !self.session.is_sending())
        {
            self.permit = Permit::None;
        }
        if !self.session.is_in_cast() {
            self.membership = None;
        }
    }

    /// Takes the Thing's place in the cast of its image, if there is one for it.
    fn join_cast(&mut self, transfer: &Transfer, szx: u8, may_open: bool) {
        let subject = CastSubject {
            artifact: transfer.artifact,
            size_bytes: transfer.size_bytes,
            szx,
            is_secured: self.peer.is_some_and(|peer| peer.session.is_some()),
        };
        let casts = &self.context.casts;
        self.membership = casts.join(&self.endpoint, subject, may_open);
        self.session.cast_joined(self.membership.is_some());
    }

    fn report_to_cast(&mut self, map: Option<BlockMap>) {
        if let (Some(membership), Some(map)) = (&mut self.membership, map) {
            membership.report(map);
        }
    }

    /// Processes the result of a step.
    async fn answer(&mut self, result: StepResult) {
        let notices = self.session.answer(Instant::now(), result);
        self.publish(notices).await;
    }

    /// Processes an input; true if the request under way must be aborted.
    async fn input(&mut self, input: WorkerInput) -> bool {
        let endpoint = self.endpoint.clone();
        let mut observable = Vec::new();
        let is_recalled = matches!(input, WorkerInput::Recalled(_));
        let input = match input {
            WorkerInput::Registered(registration) | WorkerInput::Recalled(registration) => {
                let attested = registration.proof.attests();
                let Registration {
                    peer,
                    objects,
                    queue_mode,
                    ..
                } = registration;
                let Some(peer) = peer else {
                    return self.lost().await;
                };
                let Objects {
                    agent,
                    checks_orders,
                    takes_casts,
                    updatable,
                    root,
                    observable: listed,
                    inventory,
                } = objects;
                if !agent && !is_recalled {
                    observable = listed;
                }
                (self.peer, self.root) = (Some(peer), root);
                self.session.set_pull_addresses(self.pull_addresses(peer));
                self.session.set_inventory(inventory);
                self.session.set_checks_orders(checks_orders);
                let is_cast_to = takes_casts && self.context.casts.is_on();
                self.session.set_takes_casts(is_cast_to);
                let event = SouthEvent::Registered {
                    endpoint,
                    peer: peer.address,
                    agent,
                    updatable,
                    attested,
                    fresh: !std::mem::replace(&mut self.registered, true),
                };
                if !is_recalled {
                    self.context.publish(event).await;
                }
                SessionInput::Registered { agent, queue_mode }
            }
            WorkerInput::Received => SessionInput::Received,
            WorkerInput::Lost => return self.lost().await,
            WorkerInput::Command(command) => SessionInput::Command(command),
        };
        let (interrupt, mut notices) = self.session.input(Instant::now(), input);
        if is_recalled {
            self.session.presume_asleep();
        }
        for path in observable {
            let endpoint = self.endpoint.clone();
            let observe = SouthCommand::Observe { endpoint, path };
            let input = SessionInput::Command(observe);
            notices.extend(self.session.input(Instant::now(), input).1);
        }
        self.publish(notices).await;
        interrupt
    }

    /// The addresses under which a Thing can fetch packages.
    fn pull_addresses(&self, peer: Peer) -> PullAddresses {
        let coap = self.context.handle.local_addr();
        match peer.protection() {
            None => PullAddresses::of(peer.address, coap, self.context.http),
            // Its key is for any of its ports.
            Some(Protection::Oscore) => PullAddresses::of(peer.address, coap, None),
            // It would have to fetch without its session.
            Some(Protection::Dtls) => PullAddresses::default(),
        }
    }

    async fn lost(&mut self) -> bool {
        let endpoint = self.endpoint.clone();
        self.peer = None;
        self.context.publish(SouthEvent::Lost { endpoint }).await;
        let (interrupt, notices) = self.session.input(Instant::now(), SessionInput::Lost);
        self.publish(notices).await;
        interrupt
    }

    async fn publish(&self, notices: Vec<WorkNotice>) {
        for notice in notices {
            let endpoint = self.endpoint.clone();
            self.context
                .publish(SouthEvent::Work { endpoint, notice })
                .await;
        }
    }

    fn send_request(&self, request: Request) -> Option<PendingRequest> {
        let (handle, peer) = (self.context.handle.clone(), self.peer?);
        let request = request.below(&self.root);
        Some(Box::pin(async move {
            step_result(handle.request(peer, request).await)
        }))
    }

    fn block(&self, transfer: Transfer, block: Block) -> Option<PendingRequest> {
        let (context, peer) = (self.context.clone(), self.peer?);
        let template = package_template(&self.root);
        let artifact = context.artifacts.join(transfer.artifact.to_string());
        Some(Box::pin(async move {
            let payload = match read_block(artifact, transfer.size_bytes, block).await {
                Ok(payload) => payload,
                Err(error) => {
                    return StepResult::Unreadable(format!("reading the artifact: {error}"));
                }
            };
            context.rate.acquire(payload.len()).await;
            let total = transfer.size_bytes;
            step_result(
                context
                    .handle
                    .send_block(peer, &template, block, payload, total)
                    .await,
            )
        }))
    }

    fn send_set(&self, transfer: Transfer, set: BlockSet) -> Option<PendingRequest> {
        let sending = SetSending {
            context: self.context.clone(),
            peer: self.peer?,
            template: package_template(&self.root),
            transfer,
            set,
        };
        Some(Box::pin(sending.run()))
    }
}

fn package_template(root: &[String]) -> Request {
    let put = Request::new(Code::PUT, path::PACKAGE).below(root);
    put.with_payload(format::OCTETS, Vec::new())
}

/// Reads a block. The file is open for this long only: thousands of Things get packages at once,
/// and one that was evicted or fetched again is not kept.
pub(super) async fn read_block(
    artifact: PathBuf,
    size_bytes: u64,
    block: Block,
) -> std::io::Result<Vec<u8>> {
    let offset = block.offset_bytes();
    let length = size_bytes
        .saturating_sub(offset)
        .min(block.size_bytes() as u64) as usize;
    let read = move || {
        let mut bytes = vec![0; length];
        File::open(artifact)?
            .read_exact_at(&mut bytes, offset)
            .map(|()| bytes)
    };
    tokio::task::spawn_blocking(read)
        .await
        .map_err(std::io::Error::other)?
}

fn step_result(result: Result<crate::coap::Response, TransferError>) -> StepResult {
    match result {
        Ok(response) => StepResult::Response(Box::new(response)),
        Err(error) => {
            tracing::debug!(%error, "a Thing did not answer");
            StepResult::Unreachable(error.to_string())
        }
    }
}

/// The next turn of a cast; without a place in one there is nothing to wait for.
async fn cast_turn(membership: &mut Option<Membership>) -> CastTurn {
    match membership {
        Some(membership) => membership.turn().await,
        None => CastTurn::Over { is_fresh: false },
    }
}

async fn finish(pending: &mut Option<PendingRequest>) -> StepResult {
    match pending {
        Some(pending) => pending.await,
        None => std::future::pending().await,
    }
}
