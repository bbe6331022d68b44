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
use super::config::{Config, HANDLERS_MAX};
use super::link::Link;
use super::message::{Code, DATAGRAM_BYTES_MAX};
use super::protocol::{Exchange, Output, Protocol, RequestError, Ticket};
use super::request::{Request, Response};

/// Requests that callers have handed over and the task has not seen yet.
const COMMANDS_MAX: usize = 64;

/// Answers requests.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// Whether the blocks of a request are put together first, up to [`Config::body_bytes_max`]. A
    /// firmware package is not; and whoever serves strangers should keep them apart.
    fn body_policy(&self, _peer: SocketAddr, _request: &Request) -> BodyPolicy {
        BodyPolicy::Known
    }

    /// Handles one request. A slow handler costs the client nothing: the endpoint acknowledges the
    /// request in between.
    async fn handle(&self, peer: SocketAddr, request: Request) -> Response;
}

#[derive(Debug)]
enum Command {
    Request(
        SocketAddr,
        Ticket,
        Box<Request>,
        oneshot::Sender<Result<Box<Response>, RequestError>>,
    ),
    Cancel(SocketAddr, Ticket),
}

/// Sends requests through a running endpoint; clones share it.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    tickets: Arc<AtomicU64>,
    config: Arc<Config>,
    local_addr: SocketAddr,
}

/// Withdraws a request whose caller stopped waiting, so that it does not hold up the next one.
struct Withdraw<'a> {
    handle: &'a Handle,
    peer: SocketAddr,
    ticket: Option<Ticket>,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            // If the queue is full the request merely runs into its own time limit.
            let _ = self
                .handle
                .commands
                .try_send(Command::Cancel(self.peer, ticket));
        }
    }
}

impl Handle {
    /// Sends one request as one message and waits for its response.
    pub async fn exchange(
        &self,
        peer: SocketAddr,
        request: Request,
    ) -> Result<Response, RequestError> {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        let command = Command::Request(peer, ticket, Box::new(request), sender);
        self.commands
            .send(command)
            .await
            .map_err(|_| RequestError::Closed)?;
        let mut withdraw = Withdraw {
            handle: self,
            peer,
            ticket: Some(ticket),
        };
        let result = receiver.await.map_err(|_| RequestError::Closed);
        withdraw.ticket = None;
        Ok(*result??)
    }

    /// Timers and limits of the endpoint.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The address that the endpoint is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

/// A running endpoint; dropping it closes it.
#[derive(Debug)]
pub struct Endpoint {
    handle: Handle,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Endpoint {
    /// Binds a UDP socket and serves it.
    pub async fn bind(
        addr: SocketAddr,
        config: Config,
        service: Arc<dyn Service>,
    ) -> io::Result<Endpoint> {
        Endpoint::start(Arc::new(UdpSocket::bind(addr).await?), config, service)
    }

    /// Serves a socket, with tokens and jitter from the operating system's randomness.
    pub fn start(
        link: Arc<dyn Link>,
        config: Config,
        service: Arc<dyn Service>,
    ) -> io::Result<Endpoint> {
        Endpoint::start_seeded(link, config, service, StdRng::from_os_rng())
    }

    /// Serves a socket with the given source of randomness, for repeatable tests.
    pub fn start_seeded(
        link: Arc<dyn Link>,
        config: Config,
        service: Arc<dyn Service>,
        random: StdRng,
    ) -> io::Result<Endpoint> {
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let handle = Handle {
            commands,
            tickets: Arc::new(AtomicU64::new(0)),
            config: Arc::new(config.clone()),
            local_addr: link.local_addr()?,
        };
        let stop = CancellationToken::new();
        let driver = Driver {
            blockwise: Blockwise::new(&config),
            protocol: Protocol::new(config, random),
            link,
            service,
            callers: HashMap::new(),
            handlers: JoinSet::new(),
        };
        let task = tokio::spawn(driver.run(receiver, stop.clone()));
        Ok(Endpoint { handle, stop, task })
    }

    /// Sends requests through this endpoint.
    pub fn handle(&self) -> Handle {
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

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A handled request: what to answer, and the request that it answers.
type Handled = (Exchange, Request, Response);

struct Driver {
    protocol: Protocol,
    blockwise: Blockwise,
    link: Arc<dyn Link>,
    service: Arc<dyn Service>,
    callers: HashMap<Ticket, oneshot::Sender<Result<Box<Response>, RequestError>>>,
    handlers: JoinSet<Handled>,
}

impl Driver {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>, stop: CancellationToken) {
        let link = self.link.clone();
        // One byte more than allowed, so that a datagram that is too long is seen to be so.
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

    fn command(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Request(peer, ticket, request, caller) => {
                self.callers.insert(ticket, caller);
                self.protocol.request(now, peer, ticket, *request);
            }
            Command::Cancel(peer, ticket) => {
                self.callers.remove(&ticket);
                self.protocol.cancel(now, peer, ticket);
            }
        }
    }

    fn handled(&mut self, handled: Result<Handled, tokio::task::JoinError>) {
        match handled {
            Ok((exchange, request, response)) => {
                let now = Instant::now();
                let response = self.blockwise.slice(now, exchange.peer, &request, response);
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
                    Output::Handle(exchange, request) => self.handle(exchange, *request),
                    Output::Done(ticket, result) => {
                        if let Some(caller) = self.callers.remove(&ticket) {
                            // The caller may have gone; then nobody wants the result.
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
            Assembled::Whole(request) => request,
            Assembled::Answer(response) => {
                return self.protocol.respond(now, exchange, &response);
            }
        };
        if self.handlers.len() >= HANDLERS_MAX {
            let busy = Response::error(Code::UNAVAILABLE, "busy");
            return self.protocol.respond(now, exchange, &busy);
        }
        let service = self.service.clone();
        self.handlers.spawn(async move {
            // What names the resource is kept, to find the response's next blocks by it.
            let payload = std::mem::take(&mut whole.payload);
            let head = whole.clone();
            whole.payload = payload;
            (exchange, head, service.handle(exchange.peer, whole).await)
        });
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
