//! The task around a [`ThingSession`]: it carries out the steps and reports to the north side.

use std::fs::File;
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use lamplighter_types::Hash;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::session::{SessionInput, SessionStep, StepResult, ThingSession, WorkNotice};
use super::{SouthCommand, SouthEvent, Transfer, TransferRate};
use crate::coap::{Block, CoapHandle, Code, Request, TransferError, format, sleep_until};
use crate::lwm2m::path;
use crate::lwm2m::registration::{Objects, Registration};

/// An input of a worker.
#[derive(Debug)]
pub(super) enum WorkerInput {
    Registered(Registration),
    Lost,
    Command(SouthCommand),
}

/// The handles that all workers share.
#[derive(Debug, Clone)]
pub(super) struct WorkerContext {
    pub(super) handle: CoapHandle,
    pub(super) rate: Arc<TransferRate>,
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
    peer: Option<SocketAddr>,
    /// True if it has registered since this worker started.
    registered: bool,
    /// Segments of the path below which the Thing's objects are.
    root: Vec<String>,
    open: Option<(Hash, Arc<File>)>,
}

/// Runs until the manager drops the other end of `inputs`.
pub(super) async fn run(
    endpoint: String,
    session: ThingSession,
    context: WorkerContext,
    mut inputs: mpsc::Receiver<WorkerInput>,
) {
    let mut worker = Worker {
        endpoint,
        session,
        context,
        peer: None,
        registered: false,
        root: Vec::new(),
        open: None,
    };
    let mut pending: Option<PendingRequest> = None;
    loop {
        let mut wait = None;
        if pending.is_none() {
            match worker.session.step(Instant::now()) {
                SessionStep::Idle => {}
                SessionStep::Wait(at) => wait = Some(at),
                SessionStep::Request(request) => pending = worker.send_request(*request),
                SessionStep::Block { transfer, block } => {
                    pending = worker.send_block(transfer, block)
                }
            }
        }
        tokio::select! {
            input = inputs.recv() => match input {
                None => return,
                Some(input) => if worker.input(input).await { pending = None },
            },
            answer = finish(&mut pending) => {
                pending = None;
                let notices = worker.session.answer(Instant::now(), answer);
                worker.publish(notices).await;
            }
            () = sleep_until(wait), if wait.is_some() => {}
        }
    }
}

impl Worker {
    /// Processes an input; true if the request under way must be aborted.
    async fn input(&mut self, input: WorkerInput) -> bool {
        let endpoint = self.endpoint.clone();
        let input = match input {
            WorkerInput::Registered(registration) => {
                let Registration { peer, objects, .. } = registration;
                let Some(peer) = peer else {
                    return self.lost().await;
                };
                let Objects {
                    agent,
                    updatable,
                    root,
                } = objects;
                (self.peer, self.root) = (Some(peer), root);
                let event = SouthEvent::Registered {
                    endpoint,
                    peer,
                    agent,
                    updatable,
                    fresh: !std::mem::replace(&mut self.registered, true),
                };
                self.context.publish(event).await;
                SessionInput::Registered { agent }
            }
            WorkerInput::Lost => return self.lost().await,
            WorkerInput::Command(command) => SessionInput::Command(command),
        };
        let (interrupt, notices) = self.session.input(input);
        self.publish(notices).await;
        interrupt
    }

    async fn lost(&mut self) -> bool {
        let endpoint = self.endpoint.clone();
        self.peer = None;
        self.context.publish(SouthEvent::Lost { endpoint }).await;
        let (interrupt, notices) = self.session.input(SessionInput::Lost);
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

    fn send_block(&mut self, transfer: Transfer, block: Block) -> Option<PendingRequest> {
        let (context, peer) = (self.context.clone(), self.peer?);
        let template = Request::new(Code::PUT, path::PACKAGE).below(&self.root);
        let file = match self.file(transfer.artifact) {
            Ok(file) => file,
            Err(error) => {
                let reason = format!("opening {}: {error}", transfer.artifact);
                return Some(Box::pin(async move { StepResult::Unreadable(reason) }));
            }
        };
        Some(Box::pin(async move {
            let payload = match read_block(file, transfer.size_bytes, block).await {
                Ok(payload) => payload,
                Err(error) => {
                    return StepResult::Unreadable(format!("reading the artifact: {error}"));
                }
            };
            context.rate.acquire(payload.len()).await;
            let template = template.with_payload(format::OCTETS, Vec::new());
            let total = transfer.size_bytes;
            step_result(
                context
                    .handle
                    .send_block(peer, &template, block, payload, total)
                    .await,
            )
        }))
    }

    fn file(&mut self, artifact: Hash) -> std::io::Result<Arc<File>> {
        if let Some((_, file)) = self.open.as_ref().filter(|(open, _)| *open == artifact) {
            return Ok(file.clone());
        }
        let file = Arc::new(File::open(
            self.context.artifacts.join(artifact.to_string()),
        )?);
        self.open = Some((artifact, file.clone()));
        Ok(file)
    }
}

async fn read_block(file: Arc<File>, size_bytes: u64, block: Block) -> std::io::Result<Vec<u8>> {
    let offset = block.offset_bytes();
    let length = size_bytes
        .saturating_sub(offset)
        .min(block.size_bytes() as u64) as usize;
    let read = move || {
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, offset).map(|()| bytes)
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

async fn finish(pending: &mut Option<PendingRequest>) -> StepResult {
    match pending {
        Some(pending) => pending.await,
        None => std::future::pending().await,
    }
}
