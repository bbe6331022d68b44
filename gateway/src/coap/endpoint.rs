//! The task around [`Protocol`]: one socket, client and server at once.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::blockwise::{Assembled, Blockwise, BodyPolicy};
use super::config::{CoapConfig, HANDLERS_MAX};
use super::echo::AddressProofs;
use super::exchange::{Exchange, Output, RequestError, RequestId};
use super::message::{Code, DATAGRAM_BYTES_MAX};
use super::peer::Peer;
use super::protocol::Protocol;
use super::request::{Request, Response};
use super::socket::DatagramSocket;

/// Requests of callers that wait for the endpoint's task.
const COMMANDS_MAX: usize = 64;

/// The resources of an endpoint.
#[async_trait]
pub trait CoapService: Send + Sync + 'static {
    /// Tells how the blocks of a request are handled. Assembled bodies are bounded by
    /// [`CoapConfig::body_bytes_max`]: a firmware package is too large. A service that accepts
    /// strangers should keep them apart.
    fn body_policy(&self, _peer: Peer, _request: &Request) -> BodyPolicy {
        BodyPolicy::Registered
    }

    /// Takes note that a peer's resource at a path has changed; a response has its state.
    fn notified(&self, _peer: Peer, _path: &[String], _response: Response) {}

    /// Takes note that the response to a request is about to be sent.
    fn responded(&self, _peer: Peer, _request: &Request) {}

    /// Handles one request. The endpoint acknowledges the request by itself if this takes long.
    async fn handle(&self, peer: Peer, request: Request) -> Response;
}

#[derive(Debug)]
enum EndpointCommand {
    Request(Peer, RequestId, Box<Request>, Caller),
    BeginSet(Peer, RequestId, u32, Caller),
    Part(Peer, RequestId, Box<Request>, bool),
    Cancel(Peer, RequestId),
}

/// Sends requests through a running endpoint; clones share it.
#[derive(Debug, Clone)]
pub struct CoapHandle {
    commands: mpsc::Sender<EndpointCommand>,
    next_request_id: Arc<AtomicU64>,
    config: Arc<CoapConfig>,
    local_addr: SocketAddr,
}

/// Cancels a request whose caller stopped waiting, so that it does not hold up the next one.
#[derive(Debug)]
struct CancelOnDrop<'a> {
    handle: &'a CoapHandle,
    peer: Peer,
    request_id: Option<RequestId>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(request_id) = self.request_id {
            // If the queue is full the request merely runs into its own time limit.
            let _ = self
                .handle
                .commands
                .try_send(EndpointCommand::Cancel(self.peer, request_id));
        }
    }
}

/// A set of requests that are answered together; dropping it ends it.
#[derive(Debug)]
pub struct RequestSet<'a> {
    cancel_on_drop: CancelOnDrop<'a>,
    request_id: RequestId,
    answer: oneshot::Receiver<Result<Box<Response>, RequestError>>,
}

impl RequestSet<'_> {
    /// Sends one of its requests, unless it was answered meanwhile. The time for an answer begins
    /// with the last one.
    pub async fn send(&self, request: Request, is_last: bool) -> Result<(), RequestError> {
        let CancelOnDrop { handle, peer, .. } = self.cancel_on_drop;
        let part = EndpointCommand::Part(peer, self.request_id, Box::new(request), is_last);
        let sent = handle.commands.send(part).await;
        sent.map_err(|_| RequestError::Closed)
    }

    /// Waits for the answer to the requests so far. It may be dropped and called again.
    pub async fn answer(&mut self) -> Result<Response, RequestError> {
        let result = (&mut self.answer).await.map_err(|_| RequestError::Closed);
        self.cancel_on_drop.request_id = None;
        Ok(*result??)
    }
}

impl CoapHandle {
    /// Sends one request as one message and waits for its response.
    pub async fn exchange(
        &self,
        peer: impl Into<Peer>,
        request: Request,
    ) -> Result<Response, RequestError> {
        let peer = peer.into();
        let request_id = self.next_request_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        let command = EndpointCommand::Request(peer, request_id, Box::new(request), sender);
        self.commands
            .send(command)
            .await
            .map_err(|_| RequestError::Closed)?;
        let mut cancel_on_drop = CancelOnDrop {
            handle: self,
            peer,
            request_id: Some(request_id),
        };
        let result = receiver.await.map_err(|_| RequestError::Closed);
        cancel_on_drop.request_id = None;
        Ok(*result??)
    }

    /// Begins a set of requests that are answered together, after `silent` sets in a row that were
    /// not answered.
    pub async fn begin_set(
        &self,
        peer: impl Into<Peer>,
        silent: u32,
    ) -> Result<RequestSet<'_>, RequestError> {
        let peer = peer.into();
        let request_id = self.next_request_id.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        let command = EndpointCommand::BeginSet(peer, request_id, silent, sender);
        let sent = self.commands.send(command).await;
        sent.map_err(|_| RequestError::Closed)?;
        let cancel_on_drop = CancelOnDrop {
            handle: self,
            peer,
            request_id: Some(request_id),
        };
        Ok(RequestSet {
            cancel_on_drop,
            request_id,
            answer,
        })
    }

    /// Timers and limits of the endpoint.
    pub fn config(&self) -> &CoapConfig {
        &self.config
    }

    /// The address that the endpoint is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

/// A running endpoint; dropping it closes it.
#[derive(Debug)]
pub struct CoapEndpoint {
    handle: CoapHandle,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl CoapEndpoint {
    /// Binds a UDP socket and serves it.
    pub async fn bind(
        addr: SocketAddr,
        config: CoapConfig,
        service: Arc<dyn CoapService>,
    ) -> io::Result<CoapEndpoint> {
        CoapEndpoint::start(Arc::new(UdpSocket::bind(addr).await?), config, service)
    }

    /// Serves a socket, with tokens and jitter from the operating system's randomness.
    pub fn start(
        link: Arc<dyn DatagramSocket>,
        config: CoapConfig,
        service: Arc<dyn CoapService>,
    ) -> io::Result<CoapEndpoint> {
        CoapEndpoint::start_seeded(link, config, service, StdRng::from_os_rng())
    }

    /// Serves a socket with the given source of randomness, for repeatable tests.
    pub fn start_seeded(
        link: Arc<dyn DatagramSocket>,
        config: CoapConfig,
        service: Arc<dyn CoapService>,
        random: StdRng,
    ) -> io::Result<CoapEndpoint> {
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let handle = CoapHandle {
            commands,
            next_request_id: Arc::new(AtomicU64::new(0)),
            config: Arc::new(config.clone()),
            local_addr: link.local_addr()?,
        };
        let stop = CancellationToken::new();
        let mut random = random;
        let proofs = AddressProofs::new(config.limit_unproven, Instant::now(), &mut random);
        let task = EndpointTask {
            proofs,
            proving: HashMap::new(),
            held: HashMap::new(),
            held_before: 0,
            blockwise: Blockwise::new(&config),
            protocol: Protocol::new(config, random),
            link,
            service,
            callers: HashMap::new(),
            handlers: JoinSet::new(),
        };
        let task = tokio::spawn(task.run(receiver, stop.clone()));
        Ok(CoapEndpoint { handle, stop, task })
    }

    /// Sends requests through this endpoint.
    pub fn handle(&self) -> CoapHandle {
        self.handle.clone()
    }

    /// Ends its task and frees the socket.
    pub async fn close(mut self) {
        self.stop.cancel();
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "the CoAP endpoint ended badly");
        }
    }
}

impl Drop for CoapEndpoint {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Waits for the end of a request.
type Caller = oneshot::Sender<Result<Box<Response>, RequestError>>;

/// Marks the ids of short requests that prove an address; those of callers count from 0.
const PROVING: RequestId = 1 << 63;

/// Marks those of them before a response; they count from 0 too.
const PROVING_FOR_RESPONSE: RequestId = PROVING | 1 << 62;
/// Responses that wait until an address is proven; more are replaced by a challenge at once.
const HELD_RESPONSES_MAX: usize = 256;

/// A handled request with its response.
type HandledRequest = (Exchange, Request, Response);

struct EndpointTask {
    protocol: Protocol,
    blockwise: Blockwise,
    link: Arc<dyn DatagramSocket>,
    service: Arc<dyn CoapService>,
    proofs: AddressProofs<Peer>,
    callers: HashMap<RequestId, (Peer, Caller)>,
    /// Short requests by which addresses are proven.
    proving: HashMap<RequestId, Peer>,
    /// Responses that are too long for an unproven address, by the short requests to it.
    held: HashMap<RequestId, (Exchange, Response)>,
    held_before: u64,
    handlers: JoinSet<HandledRequest>,
}

impl EndpointTask {
    async fn run(mut self, mut commands: mpsc::Receiver<EndpointCommand>, stop: CancellationToken) {
        let link = self.link.clone();
        // One byte more than allowed, to recognise a datagram that is too long.
        let mut buffer = [0; DATAGRAM_BYTES_MAX + 1];
        loop {
            let deadline = self.protocol.next_deadline();
            tokio::select! {
                () = stop.cancelled() => return self.close().await,
                received = link.receive(&mut buffer) => self.received(received, &buffer).await,
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return self.close().await,
                },
                Some(handled) = self.handlers.join_next() => self.handled(handled),
                () = sleep_until(deadline) => self.protocol.tick(Instant::now()),
            }
            self.flush().await;
        }
    }

    /// Waits until no handler holds the socket any more, so that its address is free at once.
    async fn close(&mut self) {
        self.handlers.shutdown().await;
        self.link.close().await;
    }

    async fn received(&mut self, received: io::Result<(usize, Peer)>, buffer: &[u8]) {
        match received {
            Ok((count, peer)) => {
                match self.link.proves_address(peer) {
                    true => self.proofs.prove(peer),
                    false => self.proofs.received(peer, count),
                }
                self.protocol
                    .receive(Instant::now(), peer, &buffer[..count]);
            }
            Err(error) => {
                // On UDP this is an ICMP answer to an earlier datagram; retransmission deals with
                // it. The pause keeps a broken socket from spinning.
                tracing::debug!(%error, "receiving a datagram");
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        }
    }

    fn command(&mut self, command: EndpointCommand) {
        let now = Instant::now();
        match command {
            EndpointCommand::Request(peer, request_id, request, caller) => {
                self.prove_first(now, peer, request_id, &request);
                self.callers.insert(request_id, (peer, caller));
                self.protocol.request(now, peer, request_id, *request);
            }
            EndpointCommand::BeginSet(peer, request_id, silent, caller) => {
                self.callers.insert(request_id, (peer, caller));
                self.protocol.begin_set(now, peer, request_id, silent);
            }
            EndpointCommand::Part(peer, request_id, part, is_last) => {
                let set = (peer, request_id);
                self.protocol.send_part(now, set, &part, is_last);
            }
            EndpointCommand::Cancel(peer, request_id) => {
                self.callers.remove(&request_id);
                self.protocol.cancel(now, peer, request_id);
                // The Thing may have fallen asleep: the short request is not repeated either.
                let short = PROVING | request_id;
                if self.proving.remove(&short).is_some() {
                    self.protocol.cancel(now, peer, short);
                    self.proofs.not_answered(peer);
                }
            }
        }
    }

    /// Sends a short request before one that is too long for an unproven address; the protocol
    /// keeps their order.
    fn prove_first(&mut self, now: Instant, peer: Peer, request_id: RequestId, request: &Request) {
        if let Some(short) = self.proofs.ask_first(peer, request) {
            let request_id = PROVING | request_id;
            self.proving.insert(request_id, peer);
            self.protocol.request(now, peer, request_id, short);
        }
    }

    fn handled(&mut self, handled: Result<HandledRequest, tokio::task::JoinError>) {
        match handled {
            Ok((exchange, request, response)) => {
                let now = Instant::now();
                let response = self
                    .blockwise
                    .cut_response(now, exchange.peer, &request, response);
                match self.proofs.challenge(now, exchange.peer, &response) {
                    None => self.protocol.respond(now, exchange, &response),
                    Some(challenge) if response.code.is_success() => {
                        self.hold(now, exchange, response, &challenge);
                    }
                    Some(challenge) => self.protocol.respond(now, exchange, &challenge),
                }
                self.service.responded(exchange.peer, &request);
            }
            Err(error) => tracing::error!(%error, "a CoAP handler panicked"),
        }
    }

    /// Sends a short request to an unproven address; the response follows its answer. If one is
    /// under way the client gets the challenge.
    fn hold(&mut self, now: Instant, exchange: Exchange, response: Response, challenge: &Response) {
        let short = match self.held.len() < HELD_RESPONSES_MAX {
            true => self.proofs.ask(exchange.peer),
            false => None,
        };
        let Some(short) = short else {
            return self.protocol.respond(now, exchange, challenge);
        };
        let request_id = PROVING_FOR_RESPONSE | self.held_before;
        self.held_before += 1;
        self.held.insert(request_id, (exchange, response));
        self.proving.insert(request_id, exchange.peer);
        self.protocol.request(now, exchange.peer, request_id, short);
    }

    async fn flush(&mut self) {
        loop {
            let outputs = self.protocol.outputs();
            if outputs.is_empty() {
                return;
            }
            // Before anything is sent: the next request to a peer waits for the end of this one.
            outputs.iter().for_each(|output| self.note_answer(output));
            for output in outputs {
                match output {
                    Output::Send(peer, bytes) => {
                        if !self.proofs.may_send(peer, bytes.len()) {
                            tracing::debug!(%peer, "the address has to prove itself first");
                            continue;
                        }
                        if let Err(error) = self.link.send(&bytes, peer).await {
                            tracing::debug!(%peer, %error, "sending a datagram");
                        }
                    }
                    Output::Request(exchange, request) => self.handle(exchange, *request),
                    Output::Notification(peer, path, response) => {
                        self.service.notified(peer, &path, *response);
                    }
                    Output::Done(request_id, result) => {
                        if let Some((_, caller)) = self.callers.remove(&request_id) {
                            // The caller may have stopped waiting.
                            let _ = caller.send(result);
                        }
                    }
                }
            }
        }
    }

    /// Takes note of an answer: the address that it came from is proven by its token.
    fn note_answer(&mut self, output: &Output) {
        let Output::Done(request_id, result) = output else {
            return;
        };
        let asked = self.proving.remove(request_id);
        let called = self.callers.get(request_id).map(|(peer, _)| *peer);
        match (asked.or(called), result) {
            // A reset is what a client answers that serves nothing.
            (Some(peer), Ok(_) | Err(RequestError::Reset)) => self.proofs.prove(peer),
            (Some(peer), Err(_)) if asked.is_some() => self.proofs.not_answered(peer),
            _ => {}
        }
        if let Some((exchange, response)) = self.held.remove(request_id) {
            let now = Instant::now();
            let challenge = self.proofs.challenge(now, exchange.peer, &response);
            let response = challenge.unwrap_or(response);
            self.protocol.respond(now, exchange, &response);
        }
    }

    fn handle(&mut self, exchange: Exchange, request: Request) {
        let now = Instant::now();
        self.proofs.check(now, exchange.peer, &request);
        let policy = self.service.body_policy(exchange.peer, &request);
        let mut whole = match self.blockwise.accept(now, exchange.peer, request, policy) {
            Assembled::Complete(request) => request,
            Assembled::Reply(response) => {
                return self.protocol.respond(now, exchange, &response);
            }
        };
        if self.handlers.len() >= HANDLERS_MAX {
            let busy = Response::error(Code::UNAVAILABLE, "busy");
            return self.protocol.respond(now, exchange, &busy);
        }
        let service = self.service.clone();
        self.handlers.spawn(async move {
            // The head is kept: it names the resource whose response is cut into blocks.
            let payload = std::mem::take(&mut whole.payload);
            let head = whole.clone();
            whole.payload = payload;
            (exchange, head, service.handle(exchange.peer, whole).await)
        });
    }
}

/// Waits until an instant, or for ever without one.
pub(crate) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
