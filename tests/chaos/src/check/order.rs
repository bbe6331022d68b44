//! What was known to somebody at a moment: the furthest place in the order of the ledger that any
//! answer had shown by then.

use crate::history::{History, Seen};

/// A place: height, and index among the transactions; a read is behind all of its block.
pub type Position = (u64, u64);

/// A read of a height has seen the whole block.
pub const WHOLE_BLOCK: u64 = u64::MAX;

/// Answers by their time, with the furthest place shown until then.
#[derive(Debug, Default)]
pub struct Order(Vec<(u64, Position)>);

impl Order {
    /// From every receipt and every read that says its height.
    pub fn of(history: &History) -> Self {
        let receipts = history.writes.iter().filter_map(|write| {
            let (at_us, place) = write.acknowledged()?;
            Some((at_us, (place.height, u64::from(place.index))))
        });
        let reads = history.reads.iter().filter_map(|read| match read.seen {
            Seen::NoOrganization(_) => None,
            _ => Some((read.at_us, (read.height, WHOLE_BLOCK))),
        });
        let mut shown: Vec<(u64, Position)> = receipts.chain(reads).collect();
        shown.sort_unstable();
        let mut furthest = (0, 0);
        for (_, position) in &mut shown {
            furthest = furthest.max(*position);
            *position = furthest;
        }
        Self(shown)
    }

    /// The furthest place shown by an answer that came before this moment.
    pub fn before(&self, moment_us: u64) -> Position {
        let earlier = self.0.partition_point(|(at_us, _)| *at_us < moment_us);
        earlier.checked_sub(1).map_or((0, 0), |last| self.0[last].1)
    }
}
