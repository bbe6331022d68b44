//! The measured round-trip times of peers, as CoCoA has it (draft-ietf-core-cocoa). On a slow link
//! the first wait for an acknowledgement grows with them, so that nothing is repeated in vain; on a
//! quick one that loses frames it shrinks, so that a loss does not cost two seconds.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use super::config::PEERS_MAX;

/// Shortest first wait, so that a Thing that writes its flash or verifies a signature is not asked
/// twice.
const WAIT_MIN: Duration = Duration::from_millis(250);
/// Longest first wait. It is doubled four times before a peer counts as silent.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// Transmissions of a message whose time is still measured: nobody can tell which of them was
/// acknowledged.
const MEASURED_ATTEMPTS_MAX: u32 = 3;

/// A smoothed time with its variation (RFC 6298, section 2).
#[derive(Debug, Clone, Copy)]
struct Estimate {
    smoothed: Duration,
    variation: Duration,
}

impl Estimate {
    fn with(before: Option<Estimate>, time: Duration) -> Estimate {
        match before {
            None => Estimate {
                smoothed: time,
                variation: time / 2,
            },
            Some(before) => Estimate {
                smoothed: before.smoothed * 7 / 8 + time / 8,
                variation: before.variation * 3 / 4 + before.smoothed.abs_diff(time) / 4,
            },
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Peer {
    /// The time of messages that were sent once.
    strong: Option<Estimate>,
    /// The time of messages that were repeated, from their first transmission on, which may have
    /// been lost: too long rather than too short. Without them a link on which every
    /// acknowledgement comes after the first repetition would never be measured.
    weak: Option<Estimate>,
    wait: Option<Duration>,
}

/// The estimates of all peers.
#[derive(Debug)]
pub(super) struct RoundTrips<P>(HashMap<P, Peer>);

impl<P: Eq + Hash + Copy> RoundTrips<P> {
    pub(super) fn new() -> Self {
        Self(HashMap::new())
    }

    /// Takes note of the time from the first transmission of a message to its acknowledgement.
    pub(super) fn measured(&mut self, peer: P, attempts: u32, time: Duration) {
        if attempts > MEASURED_ATTEMPTS_MAX {
            return;
        }
        if !self.0.contains_key(&peer) && self.0.len() >= PEERS_MAX {
            // All are forgotten together: they are learnt again within a few messages.
            self.0.clear();
        }
        let peer = self.0.entry(peer).or_default();
        if attempts == 1 {
            let strong = Estimate::with(peer.strong, time);
            peer.strong = Some(strong);
            // A wait as long as the time itself would repeat every other message.
            let margin = (strong.variation * 4).max(strong.smoothed / 2);
            let wait = strong.smoothed + margin;
            peer.wait = Some(peer.wait.map_or(wait, |before| before / 2 + wait / 2));
        } else {
            let weak = Estimate::with(peer.weak, time);
            peer.weak = Some(weak);
            let wait = weak.smoothed + weak.variation;
            peer.wait = Some(peer.wait.map_or(wait, |before| before * 3 / 4 + wait / 4));
        }
    }

    /// The first wait for an acknowledgement of a peer; `default` if it was not measured.
    pub(super) fn wait(&self, peer: P, default: Duration) -> Duration {
        let measured = self.0.get(&peer).and_then(|peer| peer.wait);
        measured.map_or(default, |wait| wait.clamp(WAIT_MIN, WAIT_MAX))
    }
}

/// The wait after one that was in vain: twice as long, and three times after a short one, so that a
/// peer that was quick before has 16 seconds at least to come back.
pub(super) fn longer(wait: Duration) -> Duration {
    if wait < Duration::from_secs(1) {
        wait * 3
    } else {
        wait * 2
    }
}
