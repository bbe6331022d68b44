//! The reports that have left the spool because the ledger has them. A Thing whose answer was
//! lost, or that booted while it waited for it, sends a report again. By then the first copy may
//! be on the ledger: the second one would be refused for its counter, and become a dead letter.

use std::collections::{HashSet, VecDeque};

use lamplighter_types::{Hash, codec};

use crate::spool::OutgoingReport;

/// Reports that are remembered, 64 bytes each: those of a minute at the gateway's full speed. A
/// Thing repeats a report within seconds.
const REPORTS_MAX: usize = 8_192;

/// The newest reports that the ledger has accepted, by the digest of all their bytes: a report
/// with a counter that was used before, and another content, is none of them. They are forgotten
/// at a restart; then the ledger refuses a copy.
#[derive(Debug, Default)]
pub(super) struct RecentReports {
    digests: HashSet<Hash>,
    order: VecDeque<Hash>,
}

impl RecentReports {
    pub(super) fn insert(&mut self, outgoing: &OutgoingReport) {
        let digest = digest_of(outgoing);
        if !self.digests.insert(digest) {
            return;
        }
        self.order.push_back(digest);
        if self.order.len() > REPORTS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.digests.remove(&oldest);
        }
    }

    pub(super) fn contains(&self, outgoing: &OutgoingReport) -> bool {
        self.digests.contains(&digest_of(outgoing))
    }
}

fn digest_of(outgoing: &OutgoingReport) -> Hash {
    Hash::of(&codec::encode(outgoing))
}
