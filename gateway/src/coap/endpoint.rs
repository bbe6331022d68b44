//! The task around [`Protocol`]: one socket, client and server at once.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use async_trait::async_trait;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::blockwise::{Assembled, Blockwise, BodyPolicy};
use super::config::{CoapConfig, HANDLERS_MAX};
use super::echo::AddressProofs;
use super::exchange::{Exchange, Output, RequestError, RequestId};
use super::handle::{Caller, CoapHandle, EndpointCommand};
use super::message::{Code, DATAGRAM_BYTES_MAX};
use super::peer::Peer;
use super::protocol::Protocol;
use super::request::{Request, Response};
use super::socket::{DatagramSocket, Overhead};

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

    /// Takes note that a response with this code is about to be sent to a request. It is not that
    /// of the service if the peer has to prove its address first, and then repeats the request.
    fn responded(&self, _peer: Peer, _request: &Request, _code: Code) {}

    /// Handles one request. The endpoint acknowledges the request by itself if this takes long.
    async fn handle(&self, peer: Peer, request: Request) -> Response;
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
    held: HashMap<RequestId, HandledRequest>,
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
                let bytes = &buffer[..count];
                match self.link.proves_address(peer) {
                    true => self.proofs.prove(peer),
                    false => {
                        let overhead = self.overhead(peer, code_of(bytes));
                        self.proofs.received(peer, count + overhead.received);
                    }
                }
                self.protocol.receive(Instant::now(), peer, bytes);
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

    /// What is around a message with this code, as far as it counts.
    fn overhead(&self, peer: Peer, code: Code) -> Overhead {
        match self.proofs.is_proven(&peer) {
            true => Overhead::default(),
            false => self.link.overhead(peer, code),
        }
    }

    fn prove(&mut self, peer: Peer) {
        self.proofs.prove(peer);
        self.link.address_proven(peer);
    }

    /// Sends a short request before one that is too long for an unproven address; the protocol
    /// keeps their order.
    fn prove_first(&mut self, now: Instant, peer: Peer, request_id: RequestId, request: &Request) {
        let overhead = self.overhead(peer, request.method).sent;
        if let Some(short) = self.proofs.ask_first(peer, request, overhead) {
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
                match self.challenge(now, exchange.peer, &response) {
                    None => self.respond(now, exchange, &request, &response),
                    Some(challenge) if response.code.is_success() => {
                        self.hold(now, (exchange, request, response), &challenge);
                    }
                    Some(challenge) => self.respond(now, exchange, &request, &challenge),
                }
            }
            Err(error) => tracing::error!(%error, "a CoAP handler panicked"),
        }
    }

    fn challenge(&mut self, now: Instant, peer: Peer, response: &Response) -> Option<Response> {
        let overhead = self.overhead(peer, response.code).sent;
        self.proofs.challenge(now, peer, response, overhead)
    }

    fn respond(&mut self, now: Instant, to: Exchange, request: &Request, response: &Response) {
        self.protocol.respond(now, to, response);
        self.service.responded(to.peer, request, response.code);
    }

    /// Sends a short request to an unproven address; the response follows its answer. If one is
    /// under way the client gets the challenge.
    fn hold(&mut self, now: Instant, handled: HandledRequest, challenge: &Response) {
        let peer = handled.0.peer;
        let short = match self.held.len() < HELD_RESPONSES_MAX {
            true => self.proofs.ask(peer),
            false => None,
        };
        let Some(short) = short else {
            return self.respond(now, handled.0, &handled.1, challenge);
        };
        let request_id = PROVING_FOR_RESPONSE | self.held_before;
        self.held_before += 1;
        self.held.insert(request_id, handled);
        self.proving.insert(request_id, peer);
        self.protocol.request(now, peer, request_id, short);
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
                        let overhead = self.overhead(peer, code_of(&bytes)).sent;
                        if !self.proofs.may_send(peer, bytes.len() + overhead) {
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
            (Some(peer), Ok(_) | Err(RequestError::Reset)) => self.prove(peer),
            (Some(peer), Err(_)) if asked.is_some() => self.proofs.not_answered(peer),
            _ => {}
        }
        if let Some((exchange, request, response)) = self.held.remove(request_id) {
            let now = Instant::now();
            let challenge = self.challenge(now, exchange.peer, &response);
            let response = challenge.unwrap_or(response);
            self.respond(now, exchange, &request, &response);
        }
    }

    fn handle(&mut self, exchange: Exchange, request: Request) {
        let now = Instant::now();
        if self.proofs.is_answer(now, exchange.peer, &request) {
            self.prove(exchange.peer);
        }
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

/// The code of an encoded message.
fn code_of(bytes: &[u8]) -> Code {
    Code(bytes.get(1).copied().unwrap_or_default())
}

/// Waits until an instant, or for ever without one.
pub(crate) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
