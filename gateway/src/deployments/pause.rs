//! The pause before a Thing that finds proofs outdated gets another one.

use std::time::Duration;

use lamplighter_system::Backoff;

/// Shortest and longest pause. A block that the Thing waits for comes within a minute, and a proof
/// costs the node one of all open work: a Thing that is never content shall not keep it busy.
const PAUSE_MIN: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// What follows when a Thing wants a newer proof. The first one is asked for at once; each further
/// one, as long as nothing comes of the order, after a longer pause.
#[derive(Debug)]
pub(super) struct ProofPause {
    asked: bool,
    backoff: Backoff,
    /// Unix time before which nothing is done; 0 if there is none.
    until_ms: u64,
}

impl Default for ProofPause {
    fn default() -> Self {
        Self {
            asked: false,
            backoff: Backoff::new(PAUSE_MIN, PAUSE_MAX),
            until_ms: 0,
        }
    }
}

impl ProofPause {
    /// Takes note that the Thing wants a newer proof.
    pub(super) fn outdated(&mut self, now_ms: u64) {
        if std::mem::replace(&mut self.asked, true) {
            self.until_ms = now_ms + self.backoff.next_pause().as_millis() as u64;
        }
    }

    /// True during a pause.
    pub(super) fn is_paused(&self, now_ms: u64) -> bool {
        now_ms < self.until_ms
    }

    /// True once when a pause has ended.
    pub(super) fn ends(&mut self, now_ms: u64) -> bool {
        let ends = self.until_ms > 0 && now_ms >= self.until_ms;
        if ends {
            self.until_ms = 0;
        }
        ends
    }
}
