//! The known order at a moment: the furthest position in the ledger that any answer had shown by
//! then.

use crate::history::{History, ReadResult};

/// A position: height, and index among the transactions; a read is after all of its block.
pub type Position = (u64, u64);

/// Index of a read, which has seen the whole block.
pub const WHOLE_BLOCK: u64 = u64::MAX;

/// Answers by their time, with the furthest position shown until then.
#[derive(Debug, Default)]
pub struct KnownOrder(Vec<(u64, Position)>);

impl KnownOrder {
    /// The order known from every receipt and every read with a height.
    pub fn from_history(history: &History) -> Self {
        let receipts = history.writes.iter().filter_map(|write| {
            let (at_us, place) = write.acknowledged()?;
            Some((at_us, (place.height, u64::from(place.index))))
        });
        let reads = history.reads.iter().filter_map(|read| match read.result {
            ReadResult::NoOrganization(_) => None,
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

    /// The furthest position shown by an answer that came before this moment.
    pub fn before(&self, moment_us: u64) -> Position {
        let earlier = self.0.partition_point(|(at_us, _)| *at_us < moment_us);
        earlier.checked_sub(1).map_or((0, 0), |last| self.0[last].1)
    }
}
