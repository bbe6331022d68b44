//! The events of a run in order: a hash of all of them, and the last ones as text.

use std::collections::VecDeque;
use std::time::Duration;

/// Events that are kept for the report of a failure.
const KEPT_MAX: usize = 400;

/// The events of a run.
pub struct Trace {
    hasher: blake3::Hasher,
    kept: VecDeque<String>,
    count: u64,
    /// Prints every event as it happens.
    loud: bool,
}

impl Trace {
    pub fn new(loud: bool) -> Self {
        Self {
            hasher: blake3::Hasher::new(),
            kept: VecDeque::with_capacity(KEPT_MAX),
            count: 0,
            loud,
        }
    }

    /// Adds an event at a time since the start.
    pub fn add(&mut self, at: Duration, event: &str) {
        let line = format!("{:>9.3} {event}", at.as_secs_f64());
        self.hasher.update(line.as_bytes());
        self.hasher.update(b"\n");
        self.count += 1;
        if self.loud {
            eprintln!("{line}");
        }
        if self.kept.len() == KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(line);
    }

    /// Events so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Equal for equal runs.
    pub fn hash(&self) -> String {
        self.hasher.finalize().to_hex()[..16].to_owned()
    }

    /// The last events, oldest first.
    pub fn last(&self, count: usize) -> Vec<String> {
        let skipped = self.kept.len().saturating_sub(count);
        self.kept.iter().skip(skipped).cloned().collect()
    }
}
