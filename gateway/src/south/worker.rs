//! The task around a [`Session`]: does its steps and tells the north side what comes of them.

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

use super::session::{Answer, Input, Notice, Session, Step};
use super::{Budget, SouthCommand, SouthEvent, Transfer};
use crate::coap::{Block, Code, Handle, Request, TransferError, format};
use crate::lwm2m::path;
use crate::lwm2m::registration::{Objects, Registration};

/// What the manager tells a worker.
#[derive(Debug)]
pub(super) enum Order {
    Registered(Registration),
    Lost,
    Command(SouthCommand),
}

/// What all workers share.
#[derive(Debug, Clone)]
pub(super) struct Tools {
    pub(super) handle: Handle,
    pub(super) budget: Arc<Budget>,
    pub(super) artifacts: PathBuf,
    pub(super) events: mpsc::Sender<SouthEvent>,
}

impl Tools {
    /// Waits while the north side has too much to read; when it has gone there is nobody to tell.
    pub(super) async fn tell(&self, event: SouthEvent) {
        if self.events.send(event).await.is_err() {
            tracing::debug!("nobody reads the events of the south side");
        }
    }
}

type Doing = Pin<Box<dyn Future<Output = Answer> + Send>>;

struct Worker {
    endpoint: String,
    session: Session,
    tools: Tools,
    peer: Option<SocketAddr>,
    /// It has registered since this worker began.
    registered: bool,
    /// Segments of the path below which the Thing's objects are.
    root: Vec<String>,
    open: Option<(Hash, Arc<File>)>,
}

/// Works until the manager drops the other end of `orders`.
pub(super) async fn run(
    endpoint: String,
    session: Session,
    tools: Tools,
    mut orders: mpsc::Receiver<Order>,
) {
    let mut worker = Worker {
        endpoint,
        session,
        tools,
        peer: None,
        registered: false,
        root: Vec::new(),
        open: None,
    };
    let mut doing: Option<Doing> = None;
    loop {
        let mut wait = None;
        if doing.is_none() {
            match worker.session.step(Instant::now()) {
                Step::Idle => {}
                Step::Wait(at) => wait = Some(at),
                Step::Ask(request) => doing = worker.ask(*request),
                Step::Block { transfer, block } => doing = worker.send_block(transfer, block),
            }
        }
        tokio::select! {
            order = orders.recv() => match order {
                None => return,
                Some(order) => if worker.order(order).await { doing = None },
            },
            answer = finish(&mut doing) => {
                doing = None;
                let notices = worker.session.answer(Instant::now(), answer);
                worker.tell(notices).await;
            }
            () = sleep_until(wait), if wait.is_some() => {}
        }
    }
}

impl Worker {
    /// Takes an order; true if what is under way must be given up.
    async fn order(&mut self, order: Order) -> bool {
        let endpoint = self.endpoint.clone();
        let input = match order {
            Order::Registered(registration) => {
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
                self.tools.tell(event).await;
                Input::Registered { agent }
            }
            Order::Lost => return self.lost().await,
            Order::Command(command) => Input::Command(command),
        };
        let (interrupt, notices) = self.session.input(input);
        self.tell(notices).await;
        interrupt
    }

    async fn lost(&mut self) -> bool {
        let endpoint = self.endpoint.clone();
        self.peer = None;
        self.tools.tell(SouthEvent::Lost { endpoint }).await;
        let (interrupt, notices) = self.session.input(Input::Lost);
        self.tell(notices).await;
        interrupt
    }

    async fn tell(&self, notices: Vec<Notice>) {
        for notice in notices {
            let endpoint = self.endpoint.clone();
            self.tools
                .tell(SouthEvent::Notice { endpoint, notice })
                .await;
        }
    }

    fn ask(&self, request: Request) -> Option<Doing> {
        let (handle, peer) = (self.tools.handle.clone(), self.peer?);
        let request = request.below(&self.root);
        Some(Box::pin(async move {
            answer_of(handle.request(peer, request).await)
        }))
    }

    fn send_block(&mut self, transfer: Transfer, block: Block) -> Option<Doing> {
        let (tools, peer) = (self.tools.clone(), self.peer?);
        let template = Request::new(Code::PUT, path::PACKAGE).below(&self.root);
        let file = match self.file(transfer.artifact) {
            Ok(file) => file,
            Err(error) => {
                let reason = format!("opening {}: {error}", transfer.artifact);
                return Some(Box::pin(async move { Answer::Unreadable(reason) }));
            }
        };
        Some(Box::pin(async move {
            let payload = match read_block(file, transfer.size_bytes, block).await {
                Ok(payload) => payload,
                Err(error) => return Answer::Unreadable(format!("reading the artifact: {error}")),
            };
            tools.budget.take(payload.len()).await;
            let template = template.with_payload(format::OCTETS, Vec::new());
            let total = transfer.size_bytes;
            answer_of(
                tools
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
        let file = Arc::new(File::open(self.tools.artifacts.join(artifact.to_string()))?);
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

fn answer_of(result: Result<crate::coap::Response, TransferError>) -> Answer {
    match result {
        Ok(response) => Answer::Response(Box::new(response)),
        Err(error) => {
            tracing::debug!(%error, "a Thing did not answer");
            Answer::Unreachable(error.to_string())
        }
    }
}

async fn finish(doing: &mut Option<Doing>) -> Answer {
    match doing {
        Some(doing) => doing.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
