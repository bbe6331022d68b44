//! The table of contexts and sessions without IO: datagrams go in, messages of Things that are
//! known by their keys come out, and the other way round. A session is a context at an address; a
//! Thing may have a few.

use std::net::SocketAddr;

use rand::RngCore;

use super::context::RequestBinding;
use super::contexts::{Context, Contexts};
use super::counts::{RejectCounts, RejectReason, Rejected};
use super::message::unprotect;
use super::option::{OSCORE, OscoreOption};
use super::replay::ReplayWindow;
use super::session::{Answers, Outgoing, Repetition};
use super::sessions::Sessions;
use crate::coap::message::{CoapOption, Code, Message, MessageType, encode_uint};
use crate::coap::{Overhead, Peer};
use crate::credentials::{CredentialStore, KeyHolder};

/// Bytes of an answer for each byte of a datagram whose address is not proven, as at the endpoint.
const AMPLIFICATION_MAX: usize = 3;
/// Numbers of the options Observe, Echo, and of outer blocks.
const OBSERVE: u16 = 6;
const ECHO: u16 = 252;
const BLOCKS: [u16; 4] = [19, 23, 27, 31];
const MAX_AGE: u16 = 14;

/// What a datagram turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// It is not protected.
    Plain,
    /// A message of a Thing.
    Message(Peer, Vec<u8>),
    /// It is answered with this datagram, and nothing else.
    Reply(Vec<u8>),
    /// It is dropped.
    Nothing,
    /// It is dropped, since the numbers are used up.
    NoNumbers,
}

/// What becomes of a message to a Thing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is sent there as this datagram.
    Datagram(SocketAddr, Vec<u8>),
    /// There is no such session any more, or the message has no place.
    Nothing,
    /// A higher ceiling is needed first.
    NoNumbers,
}

/// What became of a response.
enum Taken {
    /// The message inside.
    New(Vec<u8>),
    /// It was taken before, or is older than one that was.
    Before,
}

/// All contexts in use, and their sessions.
pub(super) struct OscoreTable {
    contexts: Contexts,
    pub(super) sessions: Sessions,
    counts: RejectCounts,
    rejected: Option<Rejected>,
}

impl OscoreTable {
    /// A table whose contexts begin at `start`; nothing is sent before [`Self::raise`].
    pub(super) fn new(credentials: CredentialStore, start: u64) -> OscoreTable {
        OscoreTable {
            contexts: Contexts::new(credentials, start),
            sessions: Sessions::new(),
            counts: RejectCounts::default(),
            rejected: None,
        }
    }

    /// Counts of what was not taken, and the newest of these messages.
    pub(super) fn rejected(&self) -> (RejectCounts, Option<Rejected>) {
        (self.counts, self.rejected.clone())
    }

    /// What the protection of a peer adds to a message with this code.
    pub(super) fn overhead(&self, peer: Peer, code: Code) -> Overhead {
        let session = peer.session.and_then(|number| self.sessions.get(number));
        let context = session.and_then(|session| self.contexts.get(&session.thing_id));
        let overhead = context.map(|context| context.overhead(code));
        overhead.unwrap_or_default()
    }

    /// Takes note that the address of a session is the Thing's.
    pub(super) fn prove_address(&mut self, peer: Peer) {
        let number = peer.session.unwrap_or_default();
        if let Some(session) = self.sessions.get_mut(number) {
            session.is_proven = true;
        }
    }

    /// The ceiling that has to be durable next.
    pub(super) fn next_ceiling(&self) -> u64 {
        self.contexts.next_ceiling()
    }

    /// Allows the numbers below a ceiling that is durable.
    pub(super) fn raise(&mut self, ceiling: u64) {
        self.contexts.raise(ceiling);
    }

    /// The holder of the key of a session.
    pub(super) fn holder(&self, session: u64) -> Option<&KeyHolder> {
        let session = self.sessions.get(session)?;
        let context = self.contexts.get(&session.thing_id)?;
        Some(&context.credential.holder)
    }

    /// Processes one datagram.
    pub(super) fn receive(&mut self, address: SocketAddr, datagram: &[u8]) -> Received {
        let Ok(message) = Message::decode(datagram) else {
            return Received::Plain;
        };
        if message.code == Code::EMPTY {
            return self.on_empty(address, &message, datagram);
        }
        let mut values = message.values(CoapOption::from(OSCORE));
        let (Some(value), None) = (values.next(), values.next()) else {
            return self.on_plain(address, &message);
        };
        let numbers = || message.options.iter().map(|(number, _)| *number);
        if numbers().any(|n| {
            matches!(
                CoapOption::from(n),
                CoapOption::ProxyUri | CoapOption::ProxyScheme
            )
        }) {
            return Received::Plain;
        }
        let option = OscoreOption::decode(value);
        let in_blocks = numbers().any(|number| BLOCKS.contains(&number));
        let option = option.filter(|_| !in_blocks && !message.payload.is_empty());
        self.forget_revoked();
        let result = match (&option, message.code.is_request()) {
            (Some(option), true) => self.on_request(address, &message, option, datagram),
            (Some(option), false) => return self.on_response(address, &message, option),
            (None, _) => Err(RejectReason::Malformed),
        };
        result.unwrap_or_else(|reason| {
            self.counts.add(reason);
            let kid = option.as_ref().and_then(|option| option.kid.as_deref());
            let rejected = Rejected::new(address, reason, kid);
            tracing::debug!(%rejected, "a protected message is refused");
            self.rejected = Some(rejected);
            match message.message_type {
                MessageType::Confirmable if message.code.is_request() => {
                    refused(&message, reason, AMPLIFICATION_MAX * datagram.len())
                }
                _ => Received::Nothing,
            }
        })
    }

    /// Protects a message to the peer of a session.
    pub(super) fn send(&mut self, peer: Peer, bytes: &[u8]) -> Sent {
        self.forget_revoked();
        let number = peer.session.unwrap_or_default();
        let Some(session) = self.sessions.get_mut(number) else {
            return Sent::Nothing;
        };
        let Ok(message) = Message::decode(bytes) else {
            return Sent::Nothing;
        };
        session.expect_acknowledgement(&message);
        let (address, content) = (session.address, blake3::hash(bytes));
        if message.code == Code::EMPTY {
            session.keep_reply(&message, bytes);
            return Sent::Datagram(address, bytes.to_vec());
        }
        if let Some(datagram) = session.sent_before(&message, &content) {
            return Sent::Datagram(address, datagram.to_vec());
        }
        match message.code.is_request() {
            true => self.send_request(number, &message, content),
            false => self.send_response(number, &message),
        }
    }

    fn send_request(&mut self, number: u64, message: &Message, content: blake3::Hash) -> Sent {
        let Some(session) = self.sessions.get_mut(number) else {
            return Sent::Nothing;
        };
        let Some(partial_iv) = self.contexts.next_number(&session.thing_id) else {
            return Sent::NoNumbers;
        };
        let context = self.contexts.get(&session.thing_id);
        let Some(bytes) = context.and_then(|context| context.request(message, partial_iv)) else {
            return Sent::Nothing;
        };
        let observes = message.uint(CoapOption::from(OBSERVE)) == Some(0);
        let request = Outgoing {
            id: message.id,
            token: message.token,
            partial_iv,
            answers: Answers::new(observes),
        };
        session.begin_outgoing(request, message, content, &bytes);
        Sent::Datagram(session.address, bytes)
    }

    fn send_response(&mut self, number: u64, message: &Message) -> Sent {
        let Some(session) = self.sessions.get_mut(number) else {
            return Sent::Nothing;
        };
        let Some(binding) = session.answered(message) else {
            return Sent::Nothing;
        };
        let Some(partial_iv) = self.contexts.next_number(&session.thing_id) else {
            return Sent::NoNumbers;
        };
        let context = self.contexts.get(&session.thing_id);
        let protect = |context: &Context| context.response(message, partial_iv, binding);
        let Some(bytes) = context.and_then(protect) else {
            return Sent::Nothing;
        };
        session.keep_reply(message, &bytes);
        Sent::Datagram(session.address, bytes)
    }

    /// An acknowledgement or a reset, which is not protected, is of the session that expects it.
    fn on_empty(&mut self, address: SocketAddr, message: &Message, datagram: &[u8]) -> Received {
        let is_answer = matches!(
            message.message_type,
            MessageType::Acknowledgement | MessageType::Reset
        );
        for number in self.sessions.at(address) {
            if let Some(session) = self.sessions.get_mut(number)
                && is_answer
                && session.expects(message.id)
            {
                session.end_transmission(message.id);
                return Received::Message(peer(address, number), datagram.to_vec());
            }
        }
        Received::Plain
    }

    /// A plain error that acknowledges a protected request. The other side has no server, or no key
    /// (any more): the request fails as after a reset, which is not protected either. A plain
    /// success is never taken for a response to a protected request.
    fn on_plain(&mut self, address: SocketAddr, message: &Message) -> Received {
        let is_error = message.code.is_response() && !message.code.is_success();
        if !is_error || message.message_type != MessageType::Acknowledgement {
            return Received::Plain;
        }
        for number in self.sessions.at(address) {
            let Some(session) = self.sessions.get_mut(number) else {
                continue;
            };
            let request = session.request(message.token);
            if request.is_none_or(|request| request.id != message.id) {
                continue;
            }
            session.end_transmission(message.id);
            let reset = Message::empty(MessageType::Reset, message.id).encode();
            return reset.map_or(Received::Nothing, |reset| {
                Received::Message(peer(address, number), reset)
            });
        }
        Received::Plain
    }

    fn on_request(
        &mut self,
        address: SocketAddr,
        message: &Message,
        option: &OscoreOption,
        datagram: &[u8],
    ) -> Result<Received, RejectReason> {
        let content = blake3::hash(datagram);
        for number in self.sessions.at(address) {
            let Some(session) = self.sessions.get(number) else {
                continue;
            };
            if let Repetition::Repeated(reply) = session.repetition(message.id, &content) {
                // Anybody can repeat it, with the Thing's address.
                let allowed = AMPLIFICATION_MAX * datagram.len();
                let reply = reply.filter(|reply| session.is_proven || reply.len() <= allowed);
                return Ok(reply.map_or(Received::Nothing, Received::Reply));
            }
        }
        let (Some(kid), Some(partial_iv)) = (&option.kid, option.partial_iv) else {
            return Err(RejectReason::Malformed);
        };
        let context = self.contexts.find(kid, option.kid_context.as_deref());
        let context = context.ok_or(RejectReason::UnknownContext)?;
        let number = partial_iv.number();
        if context.window.is_some_and(|window| !window.is_new(number)) {
            return Err(RejectReason::Replayed);
        }
        let binding = RequestBinding {
            kid: kid.clone(),
            partial_iv,
        };
        let nonce = context.security.recipient_nonce(&partial_iv);
        let inner = unprotect(&context.security, message, &nonce, &binding);
        let inner = inner.filter(|inner| inner.code.is_request());
        let mut inner = inner.ok_or(RejectReason::Undecryptable)?;
        let challenge = context.challenge;
        let is_fresh = |(option, value): &(u16, Vec<u8>)| *option == ECHO && *value == challenge;
        let answered = inner.options.iter().any(is_fresh);
        inner.options.retain(|option| !is_fresh(option));
        match &mut context.window {
            Some(window) => window.record(number),
            None if answered => context.window = Some(ReplayWindow::after(number)),
            None => return Ok(self.challenge(kid, message, &binding)),
        }
        let session = self.session(address, kid);
        if let Some(session) = self.sessions.get_mut(session) {
            session.begin_incoming(message, content, binding);
        }
        let bytes = inner.encode().map_err(|_| RejectReason::Undecryptable)?;
        Ok(Received::Message(peer(address, session), bytes))
    }

    /// Asks for a request that is certainly newer than the start (appendix B.1.2).
    fn challenge(&mut self, kid: &[u8], request: &Message, binding: &RequestBinding) -> Received {
        self.counts.challenged += 1;
        let Some(partial_iv) = self.contexts.next_number(kid) else {
            return Received::NoNumbers;
        };
        let Some(context) = self.contexts.get(kid) else {
            return Received::Nothing;
        };
        let (message_type, id) = match request.message_type {
            MessageType::Confirmable => (MessageType::Acknowledgement, request.id),
            _ => (MessageType::NonConfirmable, rand::rng().next_u32() as u16),
        };
        let response = Message {
            message_type,
            code: Code::UNAUTHORIZED,
            id,
            token: request.token,
            options: vec![(ECHO, context.challenge.to_vec())],
            payload: Vec::new(),
        };
        let bytes = context.response(&response, partial_iv, binding);
        bytes.map_or(Received::Nothing, Received::Reply)
    }

    fn on_response(
        &mut self,
        address: SocketAddr,
        message: &Message,
        option: &OscoreOption,
    ) -> Received {
        for number in self.sessions.at(address) {
            let Some(taken) = self.response_of(number, message, option) else {
                continue;
            };
            if let Taken::New(bytes) = taken {
                self.sessions.touch(number);
                return Received::Message(peer(address, number), bytes);
            }
            if message.message_type != MessageType::Confirmable {
                return Received::Nothing;
            }
            // Its acknowledgement was lost. The endpoint, which forgets, does not see it again.
            let reply = Message::empty(MessageType::Acknowledgement, message.id).encode();
            return reply.map_or(Received::Nothing, Received::Reply);
        }
        self.counts.responses += 1;
        Received::Nothing
    }

    /// What a session has of a response; `None` if it asked for none with this token, or the Thing
    /// did not make it.
    fn response_of(
        &mut self,
        number: u64,
        message: &Message,
        option: &OscoreOption,
    ) -> Option<Taken> {
        let session = self.sessions.get_mut(number)?;
        let context = self.contexts.get(&session.thing_id)?;
        let request = session.request(message.token)?;
        let binding = context.binding(request.partial_iv);
        let nonce = match &option.partial_iv {
            Some(number) => context.security.recipient_nonce(number),
            None => context.security.sender_nonce(&request.partial_iv),
        };
        let mut inner = unprotect(&context.security, message, &nonce, &binding)?;
        if !inner.code.is_response() {
            return None;
        }
        let observe = inner.options.iter_mut().find(|(n, _)| *n == OBSERVE);
        if observe.is_some() && !request.answers.observes() {
            return None;
        }
        let Some(place) = request.answers.accept(option.partial_iv.as_ref()) else {
            return Some(Taken::Before);
        };
        if let Some((_, value)) = observe {
            *value = encode_uint(place & 0xFF_FFFF);
        }
        let id = request.id;
        session.end_transmission(id);
        inner.encode().ok().map(Taken::New)
    }

    /// The session of a context at an address.
    fn session(&mut self, address: SocketAddr, thing_id: &[u8]) -> u64 {
        let (number, begins) = self.sessions.find_or_begin(address, thing_id);
        let context = self.contexts.get(thing_id).filter(|_| begins);
        if let Some(holder) = context.map(|context| &context.credential.holder) {
            let (device, purpose) = (&holder.device, holder.purpose);
            tracing::info!(%device, ?purpose, %address, number, "a Thing uses its OSCORE key");
        }
        number
    }

    /// Ends the sessions whose keys are not in the file any more.
    fn forget_revoked(&mut self) {
        for (thing_id, context) in self.contexts.take_revoked() {
            let device = &context.credential.holder.device;
            tracing::info!(%device, "an OSCORE key was taken away");
            self.sessions.end_all(&thing_id);
        }
    }
}

fn peer(address: SocketAddr, session: u64) -> Peer {
    Peer {
        address,
        session: Some(session),
    }
}

/// The answer to a request that is not understood; it tells nobody more than he sent, and has at
/// most this many bytes.
fn refused(request: &Message, reason: RejectReason, bytes_max: usize) -> Received {
    let (code, text) = match reason {
        RejectReason::Malformed => (Code::BAD_OPTION, "Failed to decode COSE"),
        RejectReason::UnknownContext => (Code::UNAUTHORIZED, "Security context not found"),
        RejectReason::Replayed => (Code::UNAUTHORIZED, "Replay detected"),
        RejectReason::Undecryptable => (Code::BAD_REQUEST, "Decryption failed"),
    };
    let encode = |text: &str| {
        let response = Message {
            message_type: MessageType::Acknowledgement,
            code,
            id: request.id,
            token: request.token,
            options: vec![(MAX_AGE, Vec::new())],
            payload: text.as_bytes().to_vec(),
        };
        let bytes = response.encode().ok();
        bytes.filter(|bytes| bytes.len() <= bytes_max)
    };
    let reply = encode(text).or_else(|| encode(""));
    reply.map_or(Received::Nothing, Received::Reply)
}
