//! The bounded table of peers: the next message id towards each, and the ids that each used, to
//! find duplicates.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use rand::RngCore;
use tokio::time::Instant;

use super::config::{DUPLICATES_PER_PEER_MAX, PEERS_MAX};
use super::peer::Peer;

/// The result of recording a message id.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reception {
    /// The id is new within the lifetime of an exchange.
    New,
    /// The id was received before; with its reply, if there is one yet.
    Duplicate(Option<Vec<u8>>),
    /// The table is full of peers that are busy.
    TooManyPeers,
}

#[derive(Debug)]
struct ReceivedMessage {
    id: u16,
    content: u64,
    at: Instant,
    reply: Option<Vec<u8>>,
}

#[derive(Debug)]
struct PeerRecord {
    next_id: u16,
    outstanding: usize,
    received: VecDeque<ReceivedMessage>,
    used_at: Instant,
}

/// The table of peers.
#[derive(Debug)]
pub(super) struct Peers {
    lifetime: Duration,
    peers: HashMap<Peer, PeerRecord>,
}

impl Peers {
    pub(super) fn new(lifetime: Duration) -> Peers {
        Peers {
            lifetime,
            peers: HashMap::new(),
        }
    }

    /// Records a message id and returns whether it is new. A duplicate has the same content too
    /// (section 4.2): a Thing that booted counts from the beginning, and another one may have its
    /// address now.
    pub(super) fn record(
        &mut self,
        now: Instant,
        peer: Peer,
        (id, content): (u16, u64),
        random: &mut impl RngCore,
    ) -> Reception {
        if !self.peers.contains_key(&peer) && !self.make_room() {
            return Reception::TooManyPeers;
        }
        let lifetime = self.lifetime;
        let peer = self.entry(now, peer, random);
        while peer
            .received
            .front()
            .is_some_and(|m| now.duration_since(m.at) >= lifetime)
        {
            peer.received.pop_front();
        }
        if let Some(message) = peer
            .received
            .iter()
            .find(|m| (m.id, m.content) == (id, content))
        {
            return Reception::Duplicate(message.reply.clone());
        }
        if peer.received.len() >= DUPLICATES_PER_PEER_MAX {
            peer.received.pop_front();
        }
        peer.received.push_back(ReceivedMessage {
            id,
            content,
            at: now,
            reply: None,
        });
        Reception::New
    }

    /// Keeps the reply to the newest message with this id, for duplicates of it.
    pub(super) fn set_reply(&mut self, peer: Peer, id: u16, reply: Vec<u8>) {
        let message = self
            .peers
            .get_mut(&peer)
            .and_then(|p| p.received.iter_mut().rev().find(|m| m.id == id));
        if let Some(message) = message {
            message.reply = Some(reply);
        }
    }

    /// The next message id towards a peer: consecutive from a random start (section 4.4).
    pub(super) fn next_id(&mut self, now: Instant, peer: Peer, random: &mut impl RngCore) -> u16 {
        if !self.peers.contains_key(&peer) && !self.make_room() {
            return random.next_u32() as u16;
        }
        let peer = self.entry(now, peer, random);
        peer.next_id = peer.next_id.wrapping_add(1);
        peer.next_id
    }

    /// Outgoing requests that the peer has not answered.
    pub(super) fn outstanding(&self, peer: Peer) -> usize {
        self.peers.get(&peer).map_or(0, |p| p.outstanding)
    }

    pub(super) fn add_outstanding(&mut self, peer: Peer, change: isize) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.outstanding = peer.outstanding.saturating_add_signed(change);
        }
    }

    fn entry(&mut self, now: Instant, peer: Peer, random: &mut impl RngCore) -> &mut PeerRecord {
        let peer = self.peers.entry(peer).or_insert_with(|| PeerRecord {
            next_id: random.next_u32() as u16,
            outstanding: 0,
            received: VecDeque::new(),
            used_at: now,
        });
        peer.used_at = now;
        peer
    }

    /// Makes room for one more peer by dropping the one that was idle for longest.
    fn make_room(&mut self) -> bool {
        if self.peers.len() < PEERS_MAX {
            return true;
        }
        let idle = self.peers.iter().filter(|(_, p)| p.outstanding == 0);
        let Some(oldest) = idle.min_by_key(|(_, p)| p.used_at).map(|(addr, _)| *addr) else {
            return false;
        };
        self.peers.remove(&oldest);
        true
    }
}
