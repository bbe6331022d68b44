//! The table of contexts and sessions without IO: datagrams go in, messages of Things that are
//! known by their keys come out, and the other way round. A session is a context at an address; a
//! Thing may have a few.

use std::collections::HashMap;
use std::net::SocketAddr;

use rand::RngCore;

use super::context::RequestBinding;
use super::contexts::{Context, Contexts};
use super::message::unprotect;
use super::option::{OSCORE, OscoreOption};
use super::replay::ReplayWindow;
use super::session::{Observation, Outgoing, Repetition, Session};
use crate::coap::Peer;
use crate::coap::message::{CoapOption, Code, Message, MessageType, encode_uint};
use crate::credentials::{CredentialStore, KeyHolder};

/// Sessions at a time: as many as Things that a gateway serves, and some at two addresses. The one
/// that was unused for longest ends for a new one.
pub const SESSIONS_MAX: usize = 12_000;
/// Addresses of one Thing at a time: it may fetch a package from another port than that from which
/// it registered.
const ADDRESSES_MAX: usize = 4;
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

/// Why a request is refused without protection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RejectReason {
    Malformed,
    UnknownContext,
    Replayed,
    Undecryptable,
}

/// All contexts in use, and their sessions.
pub(super) struct OscoreTable {
    contexts: Contexts,
    sessions: HashMap<u64, Session>,
    by_address: HashMap<SocketAddr, Vec<u64>>,
    last_session: u64,
    uses: u64,
}

impl OscoreTable {
    /// A table whose contexts begin at `start`; nothing is sent before [`Self::raise`].
    pub(super) fn new(credentials: CredentialStore, start: u64) -> OscoreTable {
        OscoreTable {
            contexts: Contexts::new(credentials, start),
            sessions: HashMap::new(),
            by_address: HashMap::new(),
            last_session: Peer::OSCORE_SESSIONS,
            uses: 0,
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
        let session = self.sessions.get(&session)?;
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
        let result = match (option, message.code.is_request()) {
            (Some(option), true) => self.on_request(address, &message, &option, datagram),
            (Some(option), false) => Ok(self.on_response(address, &message, &option)),
            (None, _) => Err(RejectReason::Malformed),
        };
        result.unwrap_or_else(|reason| {
            tracing::debug!(%address, ?reason, "a protected message is refused");
            match message.message_type {
                MessageType::Confirmable if message.code.is_request() => refused(&message, reason),
                _ => Received::Nothing,
            }
        })
    }

    /// Protects a message to the peer of a session.
    pub(super) fn send(&mut self, peer: Peer, bytes: &[u8]) -> Sent {
        self.forget_revoked();
        let number = peer.session.unwrap_or_default();
        let Some(session) = self.sessions.get_mut(&number) else {
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
        let Some(session) = self.sessions.get_mut(&number) else {
            return Sent::Nothing;
        };
        let Some(partial_iv) = self.contexts.next_number(&session.thing_id) else {
            return Sent::NoNumbers;
        };
        let context = self.contexts.get(&session.thing_id);
        let Some(bytes) = context.and_then(|context| context.request(message, partial_iv)) else {
            return Sent::Nothing;
        };
        let is_confirmable = message.message_type == MessageType::Confirmable;
        let observes = message.uint(CoapOption::from(OBSERVE)) == Some(0);
        session.begin_outgoing(Outgoing {
            id: message.id,
            token: message.token,
            partial_iv,
            sent: is_confirmable.then(|| (content, bytes.clone())),
            observation: observes.then(Observation::default),
        });
        Sent::Datagram(session.address, bytes)
    }

    fn send_response(&mut self, number: u64, message: &Message) -> Sent {
        let Some(session) = self.sessions.get_mut(&number) else {
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
    fn on_empty(&self, address: SocketAddr, message: &Message, datagram: &[u8]) -> Received {
        let of_session = |number: &&u64| {
            let session = self.sessions.get(number);
            session.is_some_and(|session| session.expects(message.id))
        };
        let is_answer = matches!(
            message.message_type,
            MessageType::Acknowledgement | MessageType::Reset
        );
        let numbers = self.by_address.get(&address).into_iter().flatten();
        match numbers.into_iter().filter(|_| is_answer).find(of_session) {
            Some(number) => Received::Message(peer(address, *number), datagram.to_vec()),
            None => Received::Plain,
        }
    }

    /// A plain error that acknowledges a protected request. The other side has no server, or no key
    /// (any more): the request fails as after a reset, which is not protected either. A plain
    /// success is never taken for a response to a protected request.
    fn on_plain(&mut self, address: SocketAddr, message: &Message) -> Received {
        let is_error = message.code.is_response() && !message.code.is_success();
        if !is_error || message.message_type != MessageType::Acknowledgement {
            return Received::Plain;
        }
        let numbers = self.by_address.get(&address).cloned().unwrap_or_default();
        let refused = |number: &u64| {
            let session = self.sessions.get_mut(number);
            let request = session.and_then(|session| session.request(message.token));
            request.is_some_and(|request| request.id == message.id)
        };
        let Some(number) = numbers.into_iter().find(refused) else {
            return Received::Plain;
        };
        let reset = Message::empty(MessageType::Reset, message.id);
        let reset = reset.encode();
        reset.map_or(Received::Nothing, |reset| {
            Received::Message(peer(address, number), reset)
        })
    }

    fn on_request(
        &mut self,
        address: SocketAddr,
        message: &Message,
        option: &OscoreOption,
        datagram: &[u8],
    ) -> Result<Received, RejectReason> {
        let content = blake3::hash(datagram);
        for number in self.by_address.get(&address).into_iter().flatten() {
            let known = self.sessions[number].repetition(message.id, &content);
            if let Repetition::Repeated(reply) = known {
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
        if let Some(session) = self.sessions.get_mut(&session) {
            session.begin_incoming(message, content, binding);
        }
        let bytes = inner.encode().map_err(|_| RejectReason::Undecryptable)?;
        Ok(Received::Message(peer(address, session), bytes))
    }

    /// Asks for a request that is certainly newer than the start (appendix B.1.2).
    fn challenge(&mut self, kid: &[u8], request: &Message, binding: &RequestBinding) -> Received {
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
        let numbers = self.by_address.get(&address).cloned().unwrap_or_default();
        for number in numbers {
            if let Some(bytes) = self.response_of(number, message, option) {
                return Received::Message(peer(address, number), bytes);
            }
        }
        Received::Nothing
    }

    /// The response that a session waits for; `None` if it waits for none with this token, or this
    /// is none.
    fn response_of(
        &mut self,
        number: u64,
        message: &Message,
        option: &OscoreOption,
    ) -> Option<Vec<u8>> {
        let session = self.sessions.get_mut(&number)?;
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
        if let Some((_, value)) = observe {
            let observation = request.observation.as_mut()?;
            let place = observation.accept(option.partial_iv.as_ref())?;
            *value = encode_uint(place & 0xFF_FFFF);
        }
        inner.encode().ok()
    }

    /// The session of a context at an address.
    fn session(&mut self, address: SocketAddr, thing_id: &[u8]) -> u64 {
        self.uses += 1;
        let at_address = self.by_address.get(&address).into_iter().flatten();
        for number in at_address.copied().collect::<Vec<_>>() {
            if let Some(session) = self.sessions.get_mut(&number)
                && session.thing_id == thing_id
            {
                session.used = self.uses;
                return number;
            }
        }
        self.begin_session(address, thing_id)
    }

    fn begin_session(&mut self, address: SocketAddr, thing_id: &[u8]) -> u64 {
        let sessions = self.contexts.get(thing_id).map(|context| &context.sessions);
        let mut ended = sessions
            .filter(|all| all.len() >= ADDRESSES_MAX)
            .and_then(|all| all.front().copied());
        if self.sessions.len() >= SESSIONS_MAX {
            let oldest = self.sessions.iter().min_by_key(|(_, session)| session.used);
            ended = ended.or(oldest.map(|(number, _)| *number));
        }
        if let Some(number) = ended {
            self.end_session(number);
        }
        self.last_session += 1;
        let number = self.last_session;
        let mut session = Session::new(address, thing_id.to_vec());
        session.used = self.uses;
        self.sessions.insert(number, session);
        self.by_address.entry(address).or_default().push(number);
        if let Some(context) = self.contexts.get_mut(thing_id) {
            context.sessions.push_back(number);
            let (device, purpose) = (
                &context.credential.holder.device,
                context.credential.holder.purpose,
            );
            tracing::info!(%device, ?purpose, %address, number, "a Thing uses its OSCORE key");
        }
        number
    }

    fn end_session(&mut self, number: u64) {
        let Some(session) = self.sessions.remove(&number) else {
            return;
        };
        if let Some(at_address) = self.by_address.get_mut(&session.address) {
            at_address.retain(|other| *other != number);
            if at_address.is_empty() {
                self.by_address.remove(&session.address);
            }
        }
        if let Some(context) = self.contexts.get_mut(&session.thing_id) {
            context.sessions.retain(|other| *other != number);
        }
    }

    /// Ends the sessions whose keys are not in the file any more.
    fn forget_revoked(&mut self) {
        for context in self.contexts.take_revoked() {
            let device = &context.credential.holder.device;
            tracing::info!(%device, "an OSCORE key was taken away");
            for number in context.sessions {
                self.end_session(number);
            }
        }
    }
}

fn peer(address: SocketAddr, session: u64) -> Peer {
    Peer {
        address,
        session: Some(session),
    }
}

/// The answer to a request that is not understood; it tells nobody more than he sent.
fn refused(request: &Message, reason: RejectReason) -> Received {
    let (code, text) = match reason {
        RejectReason::Malformed => (Code::BAD_OPTION, "Failed to decode COSE"),
        RejectReason::UnknownContext => (Code::UNAUTHORIZED, "Security context not found"),
        RejectReason::Replayed => (Code::UNAUTHORIZED, "Replay detected"),
        RejectReason::Undecryptable => (Code::BAD_REQUEST, "Decryption failed"),
    };
    let response = Message {
        message_type: MessageType::Acknowledgement,
        code,
        id: request.id,
        token: request.token,
        options: vec![(MAX_AGE, Vec::new())],
        payload: text.as_bytes().to_vec(),
    };
    response.encode().map_or(Received::Nothing, Received::Reply)
}
