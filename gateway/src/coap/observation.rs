//! The resources of peers that this endpoint observes (RFC 7641).

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

use super::message::Token;
use super::request::Response;

/// Observed resources of one peer. A notification of one more is answered by a reset, which ends
/// it.
const PER_PEER_MAX: usize = 16;
/// Observed resources of all peers together.
const OBSERVATIONS_MAX: usize = 16 * 1024;
/// After this time every notification is newer (section 3.4).
const REORDER_MAX: Duration = Duration::from_secs(128);
/// Half of the range of sequence numbers.
const HALF: u32 = 1 << 23;

#[derive(Debug)]
struct Observation {
    path: Vec<String>,
    sequence: u32,
    at: Instant,
}

/// All observed resources, by the peer and the token of the request.
#[derive(Debug)]
pub(super) struct Observations<P>(HashMap<(P, Token), Observation>);

impl<P: Eq + Hash + Copy> Observations<P> {
    pub(super) fn new() -> Self {
        Self(HashMap::new())
    }

    /// Begins to observe a resource; an earlier observation of it ends.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        peer: P,
        token: Token,
        path: Vec<String>,
        sequence: u32,
    ) {
        let is_same = |of: P, observation: &Observation| of == peer && observation.path == path;
        self.0
            .retain(|(of, _), observation| !is_same(*of, observation));
        let of_peer = self.0.keys().filter(|(of, _)| *of == peer).count();
        if of_peer >= PER_PEER_MAX || self.0.len() >= OBSERVATIONS_MAX {
            return;
        }
        let observation = Observation {
            path,
            sequence,
            at: now,
        };
        self.0.insert((peer, token), observation);
    }

    /// True if notifications with this token are expected.
    pub(super) fn contains(&self, peer: P, token: Token) -> bool {
        self.0.contains_key(&(peer, token))
    }

    /// The path of the resource that a notification is about; `None` if it is older than the last
    /// one, or ends the observation.
    pub(super) fn accept(
        &mut self,
        now: Instant,
        peer: P,
        token: Token,
        response: &Response,
    ) -> Option<Vec<String>> {
        let observation = self.0.get_mut(&(peer, token))?;
        let Some(sequence) = response.observe.filter(|_| response.code.is_success()) else {
            self.0.remove(&(peer, token));
            return None;
        };
        let before = observation.sequence;
        let is_newer = (before < sequence && sequence - before < HALF)
            || (before > sequence && before - sequence > HALF)
            || now.duration_since(observation.at) > REORDER_MAX;
        if !is_newer {
            return None;
        }
        (observation.sequence, observation.at) = (sequence, now);
        Some(observation.path.clone())
    }
}
