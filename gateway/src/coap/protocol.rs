//! The message and request layers of CoAP (RFC 7252 sections 4 and 5.2) without IO: datagrams, time
//! and requests go in, [`Output`]s come out. The endpoint around it owns the socket.

use std::collections::{BTreeSet, HashMap, VecDeque};

use rand::rngs::StdRng;
use rand::{Rng, RngCore};
use tokio::time::Instant;

use super::burst::{self, Bursts, EndedBurst};
use super::config::{CoapConfig, REQUESTS_MAX, SEPARATE_MAX};
use super::exchange::{
    Confirmable, Exchange, IncomingRequest, Output, PendingRequest, RequestError, RequestId, Timer,
    content, encode_or_error, parse_response,
};
use super::message::{Code, Message, MessageType, Token, confirmable_id};
use super::observation::Observations;
use super::peer::Peer;
use super::peers::{Peers, Reception};
use super::request::{Request, Response};
use super::round_trip::{RoundTrips, longer};

/// State of one endpoint.
#[derive(Debug)]
pub struct Protocol {
    config: CoapConfig,
    random: StdRng,
    peers: Peers,
    confirmables: HashMap<(Peer, u16), Confirmable>,
    round_trips: RoundTrips<Peer>,
    observations: Observations<Peer>,
    pending: HashMap<(Peer, Token), PendingRequest>,
    waiting: HashMap<Peer, VecDeque<(RequestId, Request)>>,
    waiting_count: usize,
    incoming: HashMap<Exchange, IncomingRequest>,
    bursts: Bursts,
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
            round_trips: RoundTrips::new(),
            observations: Observations::new(),
            pending: HashMap::new(),
            waiting: HashMap::new(),
            waiting_count: 0,
            incoming: HashMap::new(),
            bursts: Bursts::default(),
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
        let timer = self.timers.first().map(|(at, _)| *at);
        timer.into_iter().chain(self.bursts.next_deadline()).min()
    }

    /// Sends a request as a confirmable message, at once or after earlier ones to the same peer.
    pub fn request(&mut self, now: Instant, peer: Peer, request_id: RequestId, request: Request) {
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

    /// Begins a set of requests that are answered together, after `silent` sets without an answer.
    pub fn begin_set(&mut self, now: Instant, peer: Peer, request_id: RequestId, silent: u32) {
        if self.bursts.len() >= REQUESTS_MAX {
            return self.fail(request_id, RequestError::Busy);
        }
        let deadline = now + self.config.response_timeout;
        let replaced = self.bursts.begin(peer, request_id, silent, deadline);
        self.end_set(replaced, Err(RequestError::Busy));
    }

    /// Sends a request of a set as a non-confirmable message.
    pub fn send_part(
        &mut self,
        now: Instant,
        (peer, request_id): (Peer, RequestId),
        part: &Request,
        is_last: bool,
    ) {
        let id = self.peers.next_id(now, peer, &mut self.random);
        let token = burst::new_token(&mut self.random);
        let wait = match is_last {
            true => self.round_trips.wait(peer, self.config.ack_timeout),
            false => self.config.response_timeout,
        };
        let message = part.to_message(MessageType::NonConfirmable, id, token);
        let Ok(bytes) = message.encode() else {
            self.bursts.cancel(peer, request_id);
            return self.fail(request_id, RequestError::TooLong);
        };
        let (set, part) = ((peer, request_id), (id, token));
        // It may have been answered meanwhile.
        if self.bursts.add(now, set, part, (wait, is_last)) {
            self.outputs.push(Output::Send(peer, bytes));
        }
    }

    fn end_set(&mut self, ended: Option<EndedBurst>, result: Result<Box<Response>, RequestError>) {
        self.outputs
            .extend(ended.map(|burst| Output::Done(burst.request_id, result)));
    }

    /// Drops a request or set whose caller stopped waiting.
    pub fn cancel(&mut self, now: Instant, peer: Peer, request_id: RequestId) {
        self.bursts.cancel(peer, request_id);
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
    pub fn receive(&mut self, now: Instant, peer: Peer, bytes: &[u8]) {
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
            _ if message.code.is_request() => self.on_request(now, peer, message, bytes),
            _ if message.code.is_response() => {
                self.on_response(now, peer, &message, bytes);
            }
            // A confirmable empty message is a ping; the answer is a reset.
            MessageType::Confirmable => self.send_reset(peer, message.id),
            MessageType::NonConfirmable => {}
        }
    }

    /// Sends the response to a request that came as [`Output::Request`]; one without a code, none.
    pub fn respond(&mut self, now: Instant, exchange: Exchange, response: &Response) {
        let Some(incoming) = self.incoming.remove(&exchange) else {
            return;
        };
        self.drop_timer(incoming.deadline, Timer::Acknowledge(exchange));
        let Exchange { peer, id } = exchange;
        let is_none = response.code == Code::EMPTY;
        if incoming.confirmable && !incoming.acknowledged {
            let reply = match is_none {
                true => Message::empty(MessageType::Acknowledgement, id),
                false => response.to_message(MessageType::Acknowledgement, id, incoming.token),
            };
            let bytes = encode_or_error(&reply);
            self.peers.set_reply(peer, id, bytes.clone());
            return self.outputs.push(Output::Send(peer, bytes));
        }
        if is_none {
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
        while let Some(ended) = self.bursts.expire(now) {
            self.end_set(Some(ended), Err(RequestError::NoResponse));
        }
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

    fn start_waiting(&mut self, now: Instant, peer: Peer) {
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
                        observed: request.observe.map(|_| request.path),
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
    fn new_token(&mut self, peer: Peer) -> Token {
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
        peer: Peer,
        id: u16,
        bytes: Vec<u8>,
        request: Option<Token>,
    ) {
        let stretch = self
            .random
            .random_range(1.0..=self.config.ack_random_factor.max(1.0));
        let wait = self.round_trips.wait(peer, self.config.ack_timeout);
        let timeout = wait.mul_f64(stretch);
        let deadline = now + timeout;
        self.outputs.push(Output::Send(peer, bytes.clone()));
        self.timers.insert((deadline, Timer::Retransmit(peer, id)));
        let confirmable = Confirmable {
            bytes,
            attempts: 1,
            sent_at: now,
            timeout,
            deadline,
            request,
        };
        self.confirmables.insert((peer, id), confirmable);
    }

    fn retransmit(&mut self, now: Instant, peer: Peer, id: u16) {
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
        confirmable.timeout = longer(confirmable.timeout);
        confirmable.deadline = now + confirmable.timeout;
        self.timers
            .insert((confirmable.deadline, Timer::Retransmit(peer, id)));
        self.outputs
            .push(Output::Send(peer, confirmable.bytes.clone()));
    }

    fn on_acknowledgement(&mut self, now: Instant, peer: Peer, message: &Message) {
        let Some(confirmable) = self.confirmables.get(&(peer, message.id)) else {
            return;
        };
        let request = confirmable.request;
        let time = now.duration_since(confirmable.sent_at);
        self.round_trips.measured(peer, confirmable.attempts, time);
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

    fn on_reset(&mut self, now: Instant, peer: Peer, id: u16) {
        let ended = self.bursts.reset(peer, id);
        self.end_set(ended, Err(RequestError::Reset));
        let request = self.confirmables.get(&(peer, id)).and_then(|c| c.request);
        self.stop_retransmitting(peer, id);
        if let Some(token) = request {
            self.finish(now, peer, token, Err(RequestError::Reset));
        }
    }

    fn on_request(&mut self, now: Instant, peer: Peer, message: Message, bytes: &[u8]) {
        let received = (message.id, content(bytes));
        match self.peers.record(now, peer, received, &mut self.random) {
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
        match Request::from_message(&message).and_then(|r| r.without_sets(!self.config.q_block)) {
            Ok(request) => self
                .outputs
                .push(Output::Request(exchange, Box::new(request))),
            Err(response) => self.respond(now, exchange, &response),
        }
    }

    fn on_response(&mut self, now: Instant, peer: Peer, message: &Message, bytes: &[u8]) {
        let awaited = self.pending.contains_key(&(peer, message.token));
        let ended = self.bursts.answered(peer, message.token);
        let known = awaited || ended.is_some() || self.observations.contains(peer, message.token);
        if message.message_type == MessageType::Confirmable {
            let reply = if known {
                MessageType::Acknowledgement
            } else {
                MessageType::Reset
            };
            let reply = encode_or_error(&Message::empty(reply, message.id));
            // A response that came twice is acknowledged twice, though its request has ended.
            let received = (message.id, content(bytes));
            match self.peers.record(now, peer, received, &mut self.random) {
                Reception::Duplicate(Some(before)) => self.outputs.push(Output::Send(peer, before)),
                Reception::Duplicate(None) => {}
                Reception::New => {
                    self.peers.set_reply(peer, message.id, reply.clone());
                    self.outputs.push(Output::Send(peer, reply));
                }
                Reception::TooManyPeers => self.outputs.push(Output::Send(peer, reply)),
            }
        }
        let result = parse_response(message);
        if let Some(burst) = &ended {
            if message.code.is_success() {
                let time = now.saturating_duration_since(burst.sent_at);
                self.round_trips.measured(peer, 1, time);
            }
            return self.end_set(ended, result);
        }
        match result {
            result if awaited => self.finish(now, peer, message.token, result),
            Ok(response) if known => self.notified(now, peer, message.token, response),
            _ => {}
        }
    }

    fn notified(&mut self, now: Instant, peer: Peer, token: Token, response: Box<Response>) {
        let path = self.observations.accept(now, peer, token, &response);
        self.outputs
            .extend(path.map(|path| Output::Notification(peer, path, response)));
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
        peer: Peer,
        token: Token,
        result: Result<Box<Response>, RequestError>,
    ) {
        self.begin_observation(now, peer, token, &result);
        if let Some(request_id) = self.end_request(now, peer, token) {
            self.outputs.push(Output::Done(request_id, result));
        }
    }

    /// Begins to observe the resource of a request, if the peer agrees; its present state is the
    /// first notification.
    fn begin_observation(
        &mut self,
        now: Instant,
        peer: Peer,
        token: Token,
        result: &Result<Box<Response>, RequestError>,
    ) {
        let pending = self.pending.get(&(peer, token));
        let path = pending.and_then(|pending| pending.observed.clone());
        if let (Some(path), Ok(response)) = (path, result)
            && let Some(sequence) = response.observe.filter(|_| response.code.is_success())
        {
            let first = Output::Notification(peer, path.clone(), response.clone());
            self.observations.begin(now, peer, token, path, sequence);
            self.outputs.push(first);
        }
    }

    fn end_request(&mut self, now: Instant, peer: Peer, token: Token) -> Option<RequestId> {
        let pending = self.pending.remove(&(peer, token))?;
        self.drop_timer(pending.deadline, Timer::Response(peer, token));
        self.stop_retransmitting(peer, pending.id);
        self.peers.add_outstanding(peer, -1);
        self.start_waiting(now, peer);
        Some(pending.request_id)
    }

    fn stop_retransmitting(&mut self, peer: Peer, id: u16) {
        if let Some(confirmable) = self.confirmables.remove(&(peer, id)) {
            self.drop_timer(Some(confirmable.deadline), Timer::Retransmit(peer, id));
        }
    }

    fn drop_timer(&mut self, deadline: Option<Instant>, timer: Timer) {
        if let Some(at) = deadline {
            self.timers.remove(&(at, timer));
        }
    }

    fn send_reset(&mut self, peer: Peer, id: u16) {
        let bytes = encode_or_error(&Message::empty(MessageType::Reset, id));
        self.outputs.push(Output::Send(peer, bytes));
    }
}
