//! Sets of non-confirmable requests that are answered together (RFC 9177), without IO: one set for
//! each peer is under way, and an answer to any of its messages ends it.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use rand::RngCore;
use tokio::time::Instant;

use super::exchange::RequestId;
use super::message::Token;
use super::peer::Peer;

/// Bytes of the tokens: 32 bits of randomness (RFC 7252 section 5.3.1), so that a block of 64 bytes
/// still fits one frame of a radio.
const TOKEN_BYTES: usize = 4;

/// A token for a message of a set.
pub(super) fn new_token(random: &mut impl RngCore) -> Token {
    let mut bytes = [0; TOKEN_BYTES];
    random.fill_bytes(&mut bytes);
    Token::new(&bytes).expect("4 bytes fit")
}

#[derive(Debug)]
struct Burst {
    request_id: RequestId,
    /// Message ids and tokens.
    parts: Vec<(u16, Token)>,
    sent_at: Instant,
    deadline: Instant,
    /// Sets before it in a row that were not answered: its wait is doubled for each.
    silent: u32,
}

/// A set that has ended.
#[derive(Debug)]
pub(super) struct EndedBurst {
    pub(super) request_id: RequestId,
    /// The instant of its last message.
    pub(super) sent_at: Instant,
}

/// The sets under way.
#[derive(Debug, Default)]
pub(super) struct Bursts {
    bursts: HashMap<Peer, Burst>,
    deadlines: BTreeSet<(Instant, Peer)>,
}

impl Bursts {
    /// Begins a set; returns the one that it replaces. Its time ends at `deadline` even if nothing
    /// is sent.
    pub(super) fn begin(
        &mut self,
        peer: Peer,
        request_id: RequestId,
        silent: u32,
        deadline: Instant,
    ) -> Option<EndedBurst> {
        let replaced = self.remove(peer);
        self.deadlines.insert((deadline, peer));
        let burst = Burst {
            request_id,
            parts: Vec::new(),
            sent_at: deadline,
            deadline,
            silent,
        };
        self.bursts.insert(peer, burst);
        replaced
    }

    /// Sets under way.
    pub(super) fn len(&self) -> usize {
        self.bursts.len()
    }

    /// Adds a message; an answer is awaited for `wait` from now on, or, after the last message, for
    /// longer if sets before were silent. False if the set has ended.
    pub(super) fn add(
        &mut self,
        now: Instant,
        (peer, request_id): (Peer, RequestId),
        part: (u16, Token),
        (wait, is_last): (Duration, bool),
    ) -> bool {
        let burst = self.bursts.get_mut(&peer);
        let Some(burst) = burst.filter(|burst| burst.request_id == request_id) else {
            return false;
        };
        burst.parts.push(part);
        burst.sent_at = now;
        let doublings = if is_last { burst.silent.min(8) } else { 0 };
        self.deadlines.remove(&(burst.deadline, peer));
        burst.deadline = now + wait * (1 << doublings);
        self.deadlines.insert((burst.deadline, peer));
        true
    }

    /// Ends the set that a message with this token belongs to.
    pub(super) fn answered(&mut self, peer: Peer, token: Token) -> Option<EndedBurst> {
        let burst = self.bursts.get(&peer)?;
        let is_part = burst.parts.iter().any(|(_, part)| *part == token);
        is_part.then(|| self.remove(peer))?
    }

    /// Ends the set that a message with this id belongs to.
    pub(super) fn reset(&mut self, peer: Peer, id: u16) -> Option<EndedBurst> {
        let burst = self.bursts.get(&peer)?;
        let is_part = burst.parts.iter().any(|(part, _)| *part == id);
        is_part.then(|| self.remove(peer))?
    }

    /// Ends a set whose caller stopped waiting.
    pub(super) fn cancel(&mut self, peer: Peer, request_id: RequestId) {
        let burst = self.bursts.get(&peer);
        if burst.is_some_and(|burst| burst.request_id == request_id) {
            self.remove(peer);
        }
    }

    /// The earliest end of the time of a set.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Ends a set whose time has passed.
    pub(super) fn expire(&mut self, now: Instant) -> Option<EndedBurst> {
        let (_, peer) = *self.deadlines.first().filter(|(at, _)| *at <= now)?;
        self.remove(peer)
    }

    fn remove(&mut self, peer: Peer) -> Option<EndedBurst> {
        let burst = self.bursts.remove(&peer)?;
        self.deadlines.remove(&(burst.deadline, peer));
        Some(EndedBurst {
            request_id: burst.request_id,
            sent_at: burst.sent_at,
        })
    }
}
