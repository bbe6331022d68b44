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
use super::message::{Code, DATAGRAM_BYTES_MAX};
use super::protocol::{Exchange, Output, Protocol, RequestError, RequestId};
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
    fn body_policy(&self, _peer: SocketAddr, _request: &Request) -> BodyPolicy {
        BodyPolicy::Registered
    }

    /// Handles one request. The endpoint acknowledges the request by itself if this takes long.
    async fn handle(&self, peer: SocketAddr, request: Request) -> Response;
}

#[derive(Debug)]
enum EndpointCommand {
    Request(
        SocketAddr,
        RequestId,
        Box<Request>,
        oneshot::Sender<Result<Box<Response>, RequestError>>,
    ),
    Cancel(SocketAddr, RequestId),
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
struct CancelOnDrop<'a> {
    handle: &'a CoapHandle,
    peer: SocketAddr,
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

impl CoapHandle {
    /// Sends one request as one message and waits for its response.
    pub async fn exchange(
        &self,
        peer: SocketAddr,
        request: Request,
    ) -> Result<Response, RequestError> {
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
        let task = EndpointTask {
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

/// A handled request with its response.
type HandledRequest = (Exchange, Request, Response);

struct EndpointTask {
    protocol: Protocol,
    blockwise: Blockwise,
    link: Arc<dyn DatagramSocket>,
    service: Arc<dyn CoapService>,
    callers: HashMap<RequestId, oneshot::Sender<Result<Box<Response>, RequestError>>>,
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
                () = stop.cancelled() => return,
                received = link.receive(&mut buffer) => self.received(received, &buffer).await,
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                Some(handled) = self.handlers.join_next() => self.handled(handled),
                () = sleep_until(deadline) => self.protocol.tick(Instant::now()),
            }
            self.flush().await;
        }
    }

    async fn received(&mut self, received: io::Result<(usize, SocketAddr)>, buffer: &[u8]) {
        match received {
            Ok((count, peer)) => {
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
                self.callers.insert(request_id, caller);
                self.protocol.request(now, peer, request_id, *request);
            }
            EndpointCommand::Cancel(peer, request_id) => {
                self.callers.remove(&request_id);
                self.protocol.cancel(now, peer, request_id);
            }
        }
    }

    fn handled(&mut self, handled: Result<HandledRequest, tokio::task::JoinError>) {
        match handled {
            Ok((exchange, request, response)) => {
                let now = Instant::now();
                let response = self
                    .blockwise
                    .cut_response(now, exchange.peer, &request, response);
                self.protocol.respond(now, exchange, &response);
            }
            Err(error) => tracing::error!(%error, "a CoAP handler panicked"),
        }
    }

    async fn flush(&mut self) {
        loop {
            let outputs = self.protocol.outputs();
            if outputs.is_empty() {
                return;
            }
            for output in outputs {
                match output {
                    Output::Send(peer, bytes) => {
                        if let Err(error) = self.link.send(&bytes, peer).await {
                            tracing::debug!(%peer, %error, "sending a datagram");
                        }
                    }
                    Output::Request(exchange, request) => self.handle(exchange, *request),
                    Output::Done(request_id, result) => {
                        if let Some(caller) = self.callers.remove(&request_id) {
                            // The caller may have stopped waiting.
                            let _ = caller.send(result);
                        }
                    }
                }
            }
        }
    }

    fn handle(&mut self, exchange: Exchange, request: Request) {
        let now = Instant::now();
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
