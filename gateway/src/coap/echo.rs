//! Addresses that have not proven that they are the sender's (RFC 9175, and RFC 7252 section
//! 11.3): whoever spoofs the address of a victim must not make the endpoint send it more than
//! [`AMPLIFICATION_MAX`] times what he spends.
//!
//! An address is proven by an answer from it to a request of this endpoint, whose token or message
//! id nobody else knows, or by the Echo option. A message that is too long waits behind a short
//! request. If that is not answered, a response is replaced by 4.01 with a value that the client
//! has to repeat. No IO.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

use rand::RngCore;
use tokio::time::Instant;

use super::config::PEERS_MAX;
use super::message::Code;
use super::request::{Request, Response};

/// Bytes that may go to an unproven address for each byte from it.
const AMPLIFICATION_MAX: u64 = 3;
/// Bytes that may go to an address from which nothing came, so that a Thing of before a restart can
/// be asked for its name.
const UNASKED_BYTES_MAX: u64 = 128;
/// Bytes of a message beside its payload, at most but for long paths: header, token, options.
const OVERHEAD_BYTES: usize = 40;
/// A value of the Echo option counts for at least this time, and at most for twice as long.
const SLOT: Duration = Duration::from_secs(60);
/// Bytes of a value: the slot, and a keyed hash.
const VALUE_BYTES: usize = 4 + 8;

/// The traffic with an address that is not proven.
#[derive(Debug, Clone, Copy, Default)]
struct Traffic {
    received: u64,
    sent: u64,
    /// A short request is under way to it.
    is_asked: bool,
}

impl Traffic {
    fn left(&self) -> u64 {
        let allowed = match self.received {
            0 => UNASKED_BYTES_MAX,
            received => received.saturating_mul(AMPLIFICATION_MAX),
        };
        allowed.saturating_sub(self.sent)
    }
}

/// A bounded table that drops the entry that was unused for longest.
#[derive(Debug)]
struct RecentTable<P, V> {
    entries: HashMap<P, (u64, V)>,
    by_use: BTreeMap<u64, P>,
    uses: u64,
}

impl<P: Copy + Eq + Hash, V> RecentTable<P, V> {
    fn new() -> Self {
        Self {
            entries: HashMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
        }
    }

    fn contains(&self, peer: &P) -> bool {
        self.entries.contains_key(peer)
    }

    /// The entry of a peer, which is now the newest.
    fn touch(&mut self, peer: P, new: impl FnOnce() -> V) -> &mut V {
        self.uses += 1;
        if !self.contains(&peer)
            && self.entries.len() >= PEERS_MAX
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.entries.remove(&oldest);
        }
        let (used, value) = self.entries.entry(peer).or_insert_with(|| (0, new()));
        self.by_use.remove(used);
        *used = self.uses;
        self.by_use.insert(self.uses, peer);
        value
    }

    fn remove(&mut self, peer: &P) {
        if let Some((used, _)) = self.entries.remove(peer) {
            self.by_use.remove(&used);
        }
    }
}

/// The proven and the unproven addresses; strangers do not displace proven ones.
#[derive(Debug)]
pub(super) struct AddressProofs<P> {
    /// False: every address counts as proven, as for a client that knows its server.
    is_enforced: bool,
    proven: RecentTable<P, ()>,
    unproven: RecentTable<P, Traffic>,
    secret: [u8; 32],
    start: Instant,
}

impl<P: Copy + Eq + Hash + Debug> AddressProofs<P> {
    pub fn new(is_enforced: bool, now: Instant, random: &mut impl RngCore) -> Self {
        let mut secret = [0; 32];
        random.fill_bytes(&mut secret);
        Self {
            is_enforced,
            proven: RecentTable::new(),
            unproven: RecentTable::new(),
            secret,
            start: now,
        }
    }

    /// True if more may go to an address than came from it.
    pub fn is_proven(&self, peer: &P) -> bool {
        !self.is_enforced || self.proven.contains(peer)
    }

    /// Counts a datagram from an address.
    pub fn received(&mut self, peer: P, bytes: usize) {
        if self.proven.contains(&peer) {
            self.proven.touch(peer, || ());
        } else if self.is_enforced {
            self.unproven.touch(peer, Traffic::default).received += bytes as u64;
        }
    }

    /// Counts a datagram to an address, with all that is around the message; false if it must not
    /// be sent.
    pub fn may_send(&mut self, peer: P, bytes: usize) -> bool {
        if self.is_proven(&peer) {
            return true;
        }
        let traffic = self.unproven.touch(peer, Traffic::default);
        let may_send = bytes as u64 <= traffic.left();
        if may_send {
            traffic.sent += bytes as u64;
        }
        may_send
    }

    /// Takes note that an address is the sender's.
    pub fn prove(&mut self, peer: P) {
        if self.is_enforced {
            self.unproven.remove(&peer);
            self.proven.touch(peer, || ());
        }
    }

    /// The short request to send before one that is too long for an unproven address. `protection`
    /// is what the protection of a request adds to it.
    pub fn ask_first(&mut self, peer: P, request: &Request, protection: usize) -> Option<Request> {
        if self.is_proven(&peer) {
            return None;
        }
        let path: usize = request.path.iter().map(String::len).sum();
        let bytes = (request.payload.len() + path + OVERHEAD_BYTES + protection) as u64;
        let traffic = self.unproven.touch(peer, Traffic::default);
        if bytes <= traffic.left() {
            return None;
        }
        self.ask(peer)
    }

    /// The short request by which an unproven address is proven, unless it is under way.
    pub fn ask(&mut self, peer: P) -> Option<Request> {
        if self.is_proven(&peer) {
            return None;
        }
        let traffic = self.unproven.touch(peer, Traffic::default);
        // Any answer will do.
        let is_asked = std::mem::replace(&mut traffic.is_asked, true);
        (!is_asked).then(|| Request::get("/"))
    }

    /// Takes note that the short request got no answer; it may be sent again.
    pub fn not_answered(&mut self, peer: P) {
        if self.unproven.contains(&peer) {
            self.unproven.touch(peer, Traffic::default).is_asked = false;
        }
    }

    /// The challenge to send in place of a response that is too long for an unproven address.
    /// `protection` is what the protection of a response adds to it.
    pub fn challenge(
        &mut self,
        now: Instant,
        peer: P,
        response: &Response,
        protection: usize,
    ) -> Option<Response> {
        if self.is_proven(&peer) {
            return None;
        }
        let traffic = self.unproven.touch(peer, Traffic::default);
        let bytes = (response.payload.len() + OVERHEAD_BYTES + protection) as u64;
        (bytes > traffic.left()).then(|| Response {
            echo: Some(self.value(peer, self.slot(now))),
            ..Response::new(Code::UNAUTHORIZED)
        })
    }

    /// True if a request repeats the value that its address got.
    pub fn is_answer(&self, now: Instant, peer: P, request: &Request) -> bool {
        let Some(value) = &request.echo else {
            return false;
        };
        let slot = self.slot(now);
        let slots = [Some(slot), slot.checked_sub(1)];
        let mut values = slots
            .into_iter()
            .flatten()
            .map(|slot| self.value(peer, slot));
        values.any(|expected| expected == *value)
    }

    fn slot(&self, now: Instant) -> u32 {
        let slots = now.duration_since(self.start).as_secs() / SLOT.as_secs();
        u32::try_from(slots).unwrap_or(u32::MAX)
    }

    fn value(&self, peer: P, slot: u32) -> Vec<u8> {
        let slot = slot.to_be_bytes();
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        hasher.update(&slot).update(format!("{peer:?}").as_bytes());
        let mut value = slot.to_vec();
        value.extend(&hasher.finalize().as_bytes()[..VALUE_BYTES - slot.len()]);
        value
    }
}
