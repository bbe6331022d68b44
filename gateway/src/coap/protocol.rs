//! The message and request layers of CoAP (RFC 7252 sections 4 and 5.2) without IO: datagrams, time
//! and requests go in, [`Output`]s come out. The endpoint around it owns the socket.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;

use rand::rngs::StdRng;
use rand::{Rng, RngCore};
use thiserror::Error;
use tokio::time::Instant;

use super::config::{CoapConfig, REQUESTS_MAX, SEPARATE_MAX};
use super::message::{Code, Message, MessageType, Token, confirmable_id};
use super::peers::{Peers, Reception};
use super::request::{Request, Response};

/// Identifies an outgoing request towards its caller.
pub type RequestId = u64;

/// An incoming request that waits for its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Exchange {
    /// The peer that sent it.
    pub peer: SocketAddr,
    /// The message id of the request.
    pub id: u16,
}

/// An outgoing request got no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RequestError {
    /// The request was sent as often as allowed and never acknowledged.
    #[error("no acknowledgement after {attempts} transmissions")]
    NoAcknowledgement {
        /// The number of transmissions.
        attempts: u32,
    },
    /// The request was acknowledged, but the response did not come in time.
    #[error("no response within the time limit")]
    NoResponse,
    /// The peer refused the message.
    #[error("the peer answered with a reset")]
    Reset,
    /// The response has a malformed or unknown critical option.
    #[error("the response cannot be understood")]
    BadResponse,
    /// The request does not fit into a datagram.
    #[error("the request does not fit into a datagram")]
    TooLong,
    /// The limit of waiting requests is reached.
    #[error("too many requests are waiting")]
    Busy,
    /// The endpoint was closed.
    #[error("the endpoint is closed")]
    Closed,
}

/// An instruction to the endpoint.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a datagram.
    Send(SocketAddr, Vec<u8>),
    /// Handle a request, then call [`Protocol::respond`].
    Request(Exchange, Box<Request>),
    /// An outgoing request has ended.
    Done(RequestId, Result<Box<Response>, RequestError>),
}

#[derive(Debug)]
struct Confirmable {
    bytes: Vec<u8>,
    attempts: u32,
    timeout: std::time::Duration,
    deadline: Instant,
    /// Token of the request that it carries; none for a separate response.
    request: Option<Token>,
}

#[derive(Debug)]
struct PendingRequest {
    request_id: RequestId,
    id: u16,
    deadline: Option<Instant>,
}

#[derive(Debug)]
struct IncomingRequest {
    token: Token,
    confirmable: bool,
    acknowledged: bool,
    deadline: Option<Instant>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
enum Timer {
    Retransmit(SocketAddr, u16),
    Response(SocketAddr, Token),
    Acknowledge(Exchange),
}

/// State of one endpoint.
#[derive(Debug)]
pub struct Protocol {
    config: CoapConfig,
    random: StdRng,
    peers: Peers,
    confirmables: HashMap<(SocketAddr, u16), Confirmable>,
    pending: HashMap<(SocketAddr, Token), PendingRequest>,
    waiting: HashMap<SocketAddr, VecDeque<(RequestId, Request)>>,
    waiting_count: usize,
    incoming: HashMap<Exchange, IncomingRequest>,
    timers: BTreeSet<(Instant, Timer)>,
    outputs: Vec<Output>,
}

impl Protocol {
    /// A protocol without exchanges; `random` gives tokens, message ids and jitter.
    pub fn new(config: CoapConfig, random: StdRng) -> Protocol {
        Protocol {
            peers: Peers::new(config.exchange_lifetime),
            config,
            random,
            confirmables: HashMap::new(),
            pending: HashMap::new(),
            waiting: HashMap::new(),
            waiting_count: 0,
            incoming: HashMap::new(),
            timers: BTreeSet::new(),
            outputs: Vec::new(),
        }
    }

    /// Returns the instructions since the last call, in order.
    pub fn outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// The instant at which [`Protocol::tick`] must be called next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Sends a request as a confirmable message, at once or after earlier ones to the same peer.
    pub fn request(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        request_id: RequestId,
        request: Request,
    ) {
        if self.waiting_count + self.pending.len() >= REQUESTS_MAX {
            return self.fail(request_id, RequestError::Busy);
        }
        self.waiting
            .entry(peer)
            .or_default()
            .push_back((request_id, request));
        self.waiting_count += 1;
        self.start_waiting(now, peer);
    }

    /// Drops a request whose caller stopped waiting.
    pub fn cancel(&mut self, now: Instant, peer: SocketAddr, request_id: RequestId) {
        if let Some(queue) = self.waiting.get_mut(&peer) {
            let before = queue.len();
            queue.retain(|(t, _)| *t != request_id);
            self.waiting_count -= before - queue.len();
        }
        let mut pending = self.pending.iter();
        let found = pending.find(|(_, pending)| pending.request_id == request_id);
        if let Some((peer, token)) = found.map(|(key, _)| *key) {
            self.end_request(now, peer, token);
        }
    }

    /// Processes one datagram.
    pub fn receive(&mut self, now: Instant, peer: SocketAddr, bytes: &[u8]) {
        let message = match Message::decode(bytes) {
            Ok(message) => message,
            Err(error) => {
                tracing::debug!(%peer, %error, "datagram refused");
                if let Some(id) = confirmable_id(bytes) {
                    self.send_reset(peer, id);
                }
                return;
            }
        };
        match message.message_type {
            MessageType::Acknowledgement => self.on_acknowledgement(now, peer, &message),
            MessageType::Reset => self.on_reset(now, peer, message.id),
            _ if message.code.is_request() => self.on_request(now, peer, message),
            _ if message.code.is_response() => self.on_response(now, peer, &message),
            // A confirmable empty message is a ping; the answer is a reset.
            MessageType::Confirmable => self.send_reset(peer, message.id),
            MessageType::NonConfirmable => {}
        }
    }

    /// Sends the response to a request that came as [`Output::Request`].
    pub fn respond(&mut self, now: Instant, exchange: Exchange, response: &Response) {
        let Some(incoming) = self.incoming.remove(&exchange) else {
            return;
        };
        self.drop_timer(incoming.deadline, Timer::Acknowledge(exchange));
        let Exchange { peer, id } = exchange;
        if incoming.confirmable && !incoming.acknowledged {
            let reply = response.to_message(MessageType::Acknowledgement, id, incoming.token);
            let bytes = encode_or_error(&reply);
            self.peers.set_reply(peer, id, bytes.clone());
            self.outputs.push(Output::Send(peer, bytes));
            return;
        }
        let id = self.peers.next_id(now, peer, &mut self.random);
        let separate =
            incoming.confirmable && self.confirmables.len() < SEPARATE_MAX + REQUESTS_MAX;
        let message_type = if separate {
            MessageType::Confirmable
        } else {
            MessageType::NonConfirmable
        };
        let bytes = encode_or_error(&response.to_message(message_type, id, incoming.token));
        if separate {
            self.send_confirmable(now, peer, id, bytes, None);
        } else {
            self.outputs.push(Output::Send(peer, bytes));
        }
    }

    /// Processes the timers that have expired at `now`.
    pub fn tick(&mut self, now: Instant) {
        while let Some(&(at, timer)) = self.timers.first() {
            if at > now {
                return;
            }
            self.timers.pop_first();
            match timer {
                Timer::Retransmit(peer, id) => self.retransmit(now, peer, id),
                Timer::Response(peer, token) => {
                    self.finish(now, peer, token, Err(RequestError::NoResponse));
                }
                Timer::Acknowledge(exchange) => self.send_empty_acknowledgement(exchange),
            }
        }
    }

    fn start_waiting(&mut self, now: Instant, peer: SocketAddr) {
        while self.peers.outstanding(peer) < self.config.nstart {
            let Some(queue) = self.waiting.get_mut(&peer) else {
                return;
            };
            let Some((request_id, request)) = queue.pop_front() else {
                self.waiting.remove(&peer);
                return;
            };
            self.waiting_count -= 1;
            let id = self.peers.next_id(now, peer, &mut self.random);
            let token = self.new_token(peer);
            let message = request.to_message(MessageType::Confirmable, id, token);
            match message.encode() {
                Ok(bytes) => {
                    self.peers.add_outstanding(peer, 1);
                    let pending = PendingRequest {
                        request_id,
                        id,
                        deadline: None,
                    };
                    self.pending.insert((peer, token), pending);
                    self.send_confirmable(now, peer, id, bytes, Some(token));
                }
                Err(_) => self.fail(request_id, RequestError::TooLong),
            }
        }
    }

    /// A random token, so that an attacker off the path cannot answer in the peer's name (section
    /// 5.3.1).
    fn new_token(&mut self, peer: SocketAddr) -> Token {
        loop {
            let token = Token::new(&self.random.next_u64().to_be_bytes()).expect("8 bytes fit");
            if !self.pending.contains_key(&(peer, token)) {
                return token;
            }
        }
    }

    fn send_confirmable(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        id: u16,
        bytes: Vec<u8>,
        request: Option<Token>,
    ) {
        let stretch = self
            .random
            .random_range(1.0..=self.config.ack_random_factor.max(1.0));
        let timeout = self.config.ack_timeout.mul_f64(stretch);
        let deadline = now + timeout;
        self.outputs.push(Output::Send(peer, bytes.clone()));
        self.timers.insert((deadline, Timer::Retransmit(peer, id)));
        let confirmable = Confirmable {
            bytes,
            attempts: 1,
            timeout,
            deadline,
            request,
        };
        self.confirmables.insert((peer, id), confirmable);
    }

    fn retransmit(&mut self, now: Instant, peer: SocketAddr, id: u16) {
        let Some(confirmable) = self.confirmables.get_mut(&(peer, id)) else {
            return;
        };
        if confirmable.attempts > self.config.retransmit_max {
            let attempts = confirmable.attempts;
            let request = confirmable.request;
            self.confirmables.remove(&(peer, id));
            if let Some(token) = request {
                let error = RequestError::NoAcknowledgement { attempts };
                self.finish(now, peer, token, Err(error));
            }
            return;
        }
        confirmable.attempts += 1;
        confirmable.timeout *= 2;
        confirmable.deadline = now + confirmable.timeout;
        self.timers
            .insert((confirmable.deadline, Timer::Retransmit(peer, id)));
        self.outputs
            .push(Output::Send(peer, confirmable.bytes.clone()));
    }

    fn on_acknowledgement(&mut self, now: Instant, peer: SocketAddr, message: &Message) {
        let Some(confirmable) = self.confirmables.get(&(peer, message.id)) else {
            return;
        };
        let request = confirmable.request;
        if message.code == Code::EMPTY {
            self.stop_retransmitting(peer, message.id);
            if let Some(token) = request {
                let deadline = now + self.config.response_timeout;
                if let Some(pending) = self.pending.get_mut(&(peer, token)) {
                    pending.deadline = Some(deadline);
                    self.timers.insert((deadline, Timer::Response(peer, token)));
                }
            }
        } else if message.code.is_response() && request == Some(message.token) {
            let result = parse_response(message);
            self.finish(now, peer, message.token, result);
        }
    }

    fn on_reset(&mut self, now: Instant, peer: SocketAddr, id: u16) {
        let request = self.confirmables.get(&(peer, id)).and_then(|c| c.request);
        self.stop_retransmitting(peer, id);
        if let Some(token) = request {
            self.finish(now, peer, token, Err(RequestError::Reset));
        }
    }

    fn on_request(&mut self, now: Instant, peer: SocketAddr, message: Message) {
        match self.peers.record(now, peer, message.id, &mut self.random) {
            Reception::New => {}
            Reception::Duplicate(Some(reply)) => {
                return self.outputs.push(Output::Send(peer, reply));
            }
            Reception::Duplicate(None) | Reception::TooManyPeers => return,
        }
        let confirmable = message.message_type == MessageType::Confirmable;
        let exchange = Exchange {
            peer,
            id: message.id,
        };
        if self.incoming.contains_key(&exchange) {
            return; // Out of the duplicates' window, but still being handled.
        }
        let deadline = confirmable.then(|| now + self.config.separate_after);
        self.timers
            .extend(deadline.map(|at| (at, Timer::Acknowledge(exchange))));
        let token = message.token;
        let incoming = IncomingRequest {
            token,
            confirmable,
            acknowledged: false,
            deadline,
        };
        self.incoming.insert(exchange, incoming);
        match Request::from_message(&message) {
            Ok(request) => self
                .outputs
                .push(Output::Request(exchange, Box::new(request))),
            Err(response) => self.respond(now, exchange, &response),
        }
    }

    fn on_response(&mut self, now: Instant, peer: SocketAddr, message: &Message) {
        let known = self.pending.contains_key(&(peer, message.token));
        if message.message_type == MessageType::Confirmable {
            let reply = if known {
                MessageType::Acknowledgement
            } else {
                MessageType::Reset
            };
            let reply = encode_or_error(&Message::empty(reply, message.id));
            // A response that came twice is acknowledged twice, though its request has ended.
            match self.peers.record(now, peer, message.id, &mut self.random) {
                Reception::Duplicate(Some(before)) => self.outputs.push(Output::Send(peer, before)),
                Reception::Duplicate(None) => {}
                Reception::New => {
                    self.peers.set_reply(peer, message.id, reply.clone());
                    self.outputs.push(Output::Send(peer, reply));
                }
                Reception::TooManyPeers => self.outputs.push(Output::Send(peer, reply)),
            }
        }
        if known {
            let result = parse_response(message);
            self.finish(now, peer, message.token, result);
        }
    }

    fn send_empty_acknowledgement(&mut self, exchange: Exchange) {
        let Some(incoming) = self.incoming.get_mut(&exchange) else {
            return;
        };
        incoming.acknowledged = true;
        incoming.deadline = None;
        let reply = encode_or_error(&Message::empty(MessageType::Acknowledgement, exchange.id));
        self.peers
            .set_reply(exchange.peer, exchange.id, reply.clone());
        self.outputs.push(Output::Send(exchange.peer, reply));
    }

    /// Ends an outgoing request that was never sent.
    fn fail(&mut self, request_id: RequestId, error: RequestError) {
        self.outputs.push(Output::Done(request_id, Err(error)));
    }

    fn finish(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        token: Token,
        result: Result<Box<Response>, RequestError>,
    ) {
        if let Some(request_id) = self.end_request(now, peer, token) {
            self.outputs.push(Output::Done(request_id, result));
        }
    }

    fn end_request(&mut self, now: Instant, peer: SocketAddr, token: Token) -> Option<RequestId> {
        let pending = self.pending.remove(&(peer, token))?;
        self.drop_timer(pending.deadline, Timer::Response(peer, token));
        self.stop_retransmitting(peer, pending.id);
        self.peers.add_outstanding(peer, -1);
        self.start_waiting(now, peer);
        Some(pending.request_id)
    }

    fn stop_retransmitting(&mut self, peer: SocketAddr, id: u16) {
        if let Some(confirmable) = self.confirmables.remove(&(peer, id)) {
            self.drop_timer(Some(confirmable.deadline), Timer::Retransmit(peer, id));
        }
    }

    fn drop_timer(&mut self, deadline: Option<Instant>, timer: Timer) {
        if let Some(at) = deadline {
            self.timers.remove(&(at, timer));
        }
    }

    fn send_reset(&mut self, peer: SocketAddr, id: u16) {
        let bytes = encode_or_error(&Message::empty(MessageType::Reset, id));
        self.outputs.push(Output::Send(peer, bytes));
    }
}

fn parse_response(message: &Message) -> Result<Box<Response>, RequestError> {
    Response::from_message(message)
        .map(Box::new)
        .ok_or(RequestError::BadResponse)
}

/// Encodes a message. A response that does not fit is a fault of its handler: the client gets 5.00.
fn encode_or_error(message: &Message) -> Vec<u8> {
    message.encode().unwrap_or_else(|_| {
        let code = Code::INTERNAL_ERROR;
        let short = Message {
            code,
            options: Vec::new(),
            payload: Vec::new(),
            ..message.clone()
        };
        short
            .encode()
            .expect("a header and a token fit into a datagram")
    })
}
