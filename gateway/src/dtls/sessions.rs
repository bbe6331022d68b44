//! The table of handshakes and sessions without IO: datagrams and time go in, datagrams and the
//! plaintext of authenticated Things come out. Nothing is kept for an address before a cookie has
//! proven it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use dimpl::{Config, Dtls};

use super::cookie::expecting;
use super::counters::Counters;
use super::engine::{Engine, HANDSHAKE_TIMEOUT, Resolved, Resolver, library_config};
use super::opening::{
    APPLICATION_DATA, CHANGE_CIPHER_SPEC, Cookies, HANDSHAKE, Opening, RecordHeader,
};
use crate::coap::Peer;
use crate::credentials::{Credential, CredentialStore, KeyHolder};

/// Sessions at a time: a fifth of the Things that a gateway serves, since each has buffers of the
/// library. The one idle for longest ends for a new one.
pub const SESSIONS_MAX: usize = 2048;
/// Handshakes at a time. One takes three round trips, so that this is 40 a second over a mesh with
/// a second each; the oldest ends for a new one.
pub const HANDSHAKES_MAX: usize = 128;

/// The limits of a table; others than the default are for tests.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionLimits {
    pub(super) sessions: usize,
    pub(super) handshakes: usize,
}

impl Default for SessionLimits {
    fn default() -> SessionLimits {
        SessionLimits {
            sessions: SESSIONS_MAX,
            handshakes: HANDSHAKES_MAX,
        }
    }
}
/// The time for which a session is kept without a datagram: an hour more than the lifetime of a
/// registration that names none.
const IDLE: Duration = Duration::from_secs(25 * 3600);
/// The time after a handshake during which its last messages may have to be repeated.
const HANDSHAKE_ECHO: Duration = Duration::from_secs(120);

/// The result of a call: what to send, and what Things said.
#[derive(Debug, Default)]
pub(super) struct SessionOutput {
    pub(super) datagrams: Vec<(SocketAddr, Vec<u8>)>,
    pub(super) messages: Vec<(Peer, Vec<u8>)>,
    /// Sessions that began, each with the holder of its key.
    pub(super) begun: Vec<(u64, KeyHolder)>,
    /// Sessions that have ended.
    pub(super) ended: Vec<u64>,
}

struct Handshake {
    engine: Engine,
    credential: Option<Credential>,
    random: Vec<u8>,
    begun: Instant,
}

struct Session {
    engine: Engine,
    address: SocketAddr,
    credential: Credential,
    begun: Instant,
    used: Instant,
}

impl Session {
    fn device(&self) -> &str {
        &self.credential.holder.device
    }
}

/// All handshakes and sessions.
pub(super) struct Sessions {
    start: Instant,
    cookies: Cookies,
    credentials: CredentialStore,
    /// The settings of all handshakes: the library tests its cryptography at each new one.
    config: Arc<Config>,
    resolved: Resolved,
    pub(super) limits: SessionLimits,
    counters: Arc<Counters>,
    handshakes: HashMap<SocketAddr, Handshake>,
    sessions: HashMap<u64, Session>,
    by_address: HashMap<SocketAddr, u64>,
    by_holder: HashMap<KeyHolder, u64>,
    last_number: u64,
}

impl Sessions {
    pub(super) fn new(
        now: Instant,
        secret: [u8; 32],
        credentials: CredentialStore,
        counters: Arc<Counters>,
    ) -> Result<Sessions, dimpl::Error> {
        let resolved = Resolved::default();
        let resolver = Resolver {
            credentials: credentials.clone(),
            resolved: resolved.clone(),
        };
        Ok(Sessions {
            start: now,
            cookies: Cookies::new(secret),
            credentials,
            config: Arc::new(library_config(resolver)?),
            resolved,
            limits: SessionLimits::default(),
            counters,
            handshakes: HashMap::new(),
            sessions: HashMap::new(),
            by_address: HashMap::new(),
            by_holder: HashMap::new(),
            last_number: 0,
        })
    }

    /// Handshakes and sessions that exist.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.handshakes.len(), self.sessions.len())
    }

    /// Processes one datagram.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        address: SocketAddr,
        datagram: &[u8],
    ) -> SessionOutput {
        let mut output = SessionOutput::default();
        let Some(header) = RecordHeader::read(datagram) else {
            Counters::add(&self.counters.refused);
            return output;
        };
        if let Some(opening) = Opening::read(datagram) {
            self.on_opening(now, address, &opening, datagram, &mut output);
            return output;
        }
        let of_handshake = [HANDSHAKE, CHANGE_CIPHER_SPEC].contains(&header.content_type);
        if (of_handshake || header.epoch == 0) && self.handshakes.contains_key(&address) {
            self.on_handshake(now, address, datagram, &mut output);
            return output;
        }
        let session = self.by_address.get(&address).copied();
        let expected = |session: &Session| {
            // Plaintext after the handshake can only repeat its last messages.
            header.epoch > 0 || of_handshake && now.duration_since(session.begun) < HANDSHAKE_ECHO
        };
        match session.filter(|number| self.sessions.get(number).is_some_and(expected)) {
            Some(number) => self.on_record(now, number, header, datagram, &mut output),
            None => Counters::add(&self.counters.refused),
        }
        output
    }

    /// Encrypts a message for the peer of a session. Without the session it is dropped, as a
    /// datagram to nobody.
    pub(super) fn send(&mut self, now: Instant, peer: Peer, message: &[u8]) -> SessionOutput {
        let mut output = SessionOutput::default();
        let number = peer.session.unwrap_or_default();
        let Some(session) = self.sessions.get_mut(&number) else {
            return output;
        };
        let address = session.address;
        let send = |dtls: &mut Dtls| dtls.send_application_data(message).map(|_| ());
        match session.engine.run(now, send) {
            Ok(made) => {
                let packets = made.packets.into_iter();
                output.datagrams.extend(packets.map(|p| (address, p)));
            }
            Err(failure) => {
                tracing::info!(%peer, %failure, "a session ends");
                self.end_session(number, &mut output);
            }
        }
        output
    }

    /// Repeats messages of handshakes, and ends what is too old, or whose key was taken away.
    pub(super) fn tick(&mut self, now: Instant) -> SessionOutput {
        let mut output = SessionOutput::default();
        let due = |handshake: &Handshake| handshake.engine.deadline.is_none_or(|at| at <= now);
        let addresses: Vec<SocketAddr> = self
            .handshakes
            .iter()
            .filter(|(_, h)| due(h))
            .map(|(a, _)| *a)
            .collect();
        for address in addresses {
            self.run_handshake(now, address, |_| Ok(()), &mut output);
        }
        let old = |handshake: &Handshake| now.duration_since(handshake.begun) >= HANDSHAKE_TIMEOUT;
        let late: Vec<SocketAddr> = self
            .handshakes
            .iter()
            .filter(|(_, h)| old(h))
            .map(|(a, _)| *a)
            .collect();
        for address in late {
            self.end_handshake(address);
        }
        let idle = |session: &Session| now.duration_since(session.used) >= IDLE;
        let ended: Vec<u64> = self
            .sessions
            .iter()
            .filter(|(_, s)| idle(s))
            .map(|(n, _)| *n)
            .collect();
        for number in ended {
            self.end_session(number, &mut output);
        }
        output
    }

    /// Ends the sessions whose key is not in the file any more.
    pub(super) fn end_revoked(&mut self) -> SessionOutput {
        let mut output = SessionOutput::default();
        let credentials = self.credentials.clone();
        let revoked = |session: &Session| !credentials.holds(&session.credential);
        let ended: Vec<u64> = self
            .sessions
            .iter()
            .filter(|(_, s)| revoked(s))
            .map(|(n, _)| *n)
            .collect();
        for number in ended {
            tracing::info!(device = %self.sessions[&number].device(), "a key was taken away");
            self.end_session(number, &mut output);
        }
        output
    }

    fn on_opening(
        &mut self,
        now: Instant,
        address: SocketAddr,
        opening: &Opening<'_>,
        datagram: &[u8],
        output: &mut SessionOutput,
    ) {
        let seconds = now.duration_since(self.start).as_secs();
        let cookie = opening
            .cookie()
            .filter(|_| self.cookies.verify(seconds, address, opening));
        let Some(cookie) = cookie else {
            Counters::add(&self.counters.openings);
            let cookie = self.cookies.cookie(seconds, address, opening);
            output
                .datagrams
                .push((address, opening.verify_request(&cookie)));
            return;
        };
        let repeated = |handshake: &Handshake| handshake.random == opening.random;
        if !self.handshakes.get(&address).is_some_and(repeated) {
            self.begin_handshake(now, address, opening);
        }
        let call = |dtls: &mut Dtls| expecting(cookie, || dtls.handle_packet(datagram));
        self.run_handshake(now, address, call, output);
    }

    /// Begins a handshake at an address that was proven. A session at this address goes on until
    /// the handshake has succeeded.
    fn begin_handshake(&mut self, now: Instant, address: SocketAddr, opening: &Opening<'_>) {
        Counters::add(&self.counters.handshakes);
        self.end_handshake(address);
        if self.handshakes.len() >= self.limits.handshakes {
            let oldest = self.handshakes.iter().min_by_key(|(_, h)| h.begun);
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                self.end_handshake(oldest);
            }
        }
        let mut engine = Engine::new(self.config.clone(), now);
        // The library numbers its messages from the first hello on, which was answered without it.
        let first = opening.without_cookie();
        if let Err(failure) = engine.run(now, |dtls| dtls.handle_packet(&first)) {
            return tracing::debug!(%address, %failure, "a handshake does not begin");
        }
        let handshake = Handshake {
            engine,
            credential: None,
            random: opening.random.to_vec(),
            begun: now,
        };
        self.handshakes.insert(address, handshake);
    }

    fn on_handshake(
        &mut self,
        now: Instant,
        address: SocketAddr,
        datagram: &[u8],
        output: &mut SessionOutput,
    ) {
        self.run_handshake(now, address, |dtls| dtls.handle_packet(datagram), output);
    }

    fn run_handshake(
        &mut self,
        now: Instant,
        address: SocketAddr,
        call: impl FnOnce(&mut Dtls) -> Result<(), dimpl::Error>,
        output: &mut SessionOutput,
    ) {
        let Some(handshake) = self.handshakes.get_mut(&address) else {
            return;
        };
        let made = handshake.engine.run(now, call);
        let resolved = self.resolved.lock();
        let resolved = resolved.unwrap_or_else(PoisonError::into_inner).take();
        handshake.credential = resolved.or(handshake.credential.take());
        let made = match made {
            Ok(made) => made,
            Err(failure) => {
                tracing::debug!(%address, %failure, "a handshake ends");
                return self.end_handshake(address);
            }
        };
        let packets = made.packets.into_iter();
        output.datagrams.extend(packets.map(|p| (address, p)));
        if made.connected {
            self.begin_session(now, address, made.data, output);
        }
    }

    /// Turns a finished handshake into a session. It replaces the one at this address, and the
    /// device's earlier one with a key for the same purpose, wherever it is.
    fn begin_session(
        &mut self,
        now: Instant,
        address: SocketAddr,
        data: Vec<Vec<u8>>,
        output: &mut SessionOutput,
    ) {
        let Some(handshake) = self.handshakes.remove(&address) else {
            return;
        };
        // The library finishes no handshake without a key.
        let Some(credential) = handshake.credential else {
            Counters::add(&self.counters.handshakes_failed);
            return;
        };
        let holder = credential.holder.clone();
        let replaced = [self.by_address.get(&address), self.by_holder.get(&holder)];
        for number in replaced.map(|number| number.copied()).into_iter().flatten() {
            self.end_session(number, output);
        }
        if self.sessions.len() >= self.limits.sessions {
            let oldest = self.sessions.iter().min_by_key(|(_, s)| s.used);
            if let Some(oldest) = oldest.map(|(number, _)| *number) {
                self.end_session(oldest, output);
            }
        }
        Counters::add(&self.counters.established);
        self.last_number += 1;
        let number = self.last_number;
        let session = Session {
            engine: handshake.engine,
            address,
            credential,
            begun: now,
            used: now,
        };
        let (device, purpose) = (&holder.device, holder.purpose);
        tracing::info!(%device, ?purpose, %address, session = number, "a Thing proved its key");
        self.by_address.insert(address, number);
        self.by_holder.insert(holder.clone(), number);
        self.sessions.insert(number, session);
        output.begun.push((number, holder));
        let peer = Peer {
            address,
            session: Some(number),
        };
        output
            .messages
            .extend(data.into_iter().map(|data| (peer, data)));
    }

    fn on_record(
        &mut self,
        now: Instant,
        number: u64,
        header: RecordHeader,
        datagram: &[u8],
        output: &mut SessionOutput,
    ) {
        let Some(session) = self.sessions.get_mut(&number) else {
            return;
        };
        let address = session.address;
        let made = match session.engine.run(now, |dtls| dtls.handle_packet(datagram)) {
            Ok(made) => made,
            Err(failure) => {
                tracing::info!(device = %session.device(), %failure, "a session ends");
                return self.end_session(number, output);
            }
        };
        if !made.data.is_empty() {
            session.used = now;
        } else if header.content_type == APPLICATION_DATA {
            Counters::add(&self.counters.refused);
        }
        let peer = Peer {
            address,
            session: Some(number),
        };
        let packets = made.packets.into_iter();
        output.datagrams.extend(packets.map(|p| (address, p)));
        let messages = made.data.into_iter();
        output.messages.extend(messages.map(|data| (peer, data)));
        if made.closed {
            self.end_session(number, output);
        }
    }

    fn end_handshake(&mut self, address: SocketAddr) {
        if self.handshakes.remove(&address).is_some() {
            Counters::add(&self.counters.handshakes_failed);
        }
    }

    fn end_session(&mut self, number: u64, output: &mut SessionOutput) {
        let Some(session) = self.sessions.remove(&number) else {
            return;
        };
        Counters::add(&self.counters.sessions_ended);
        if self.by_address.get(&session.address) == Some(&number) {
            self.by_address.remove(&session.address);
        }
        let holder = &session.credential.holder;
        if self.by_holder.get(holder) == Some(&number) {
            self.by_holder.remove(holder);
        }
        output.ended.push(number);
    }
}
