use bytes::Bytes;
use openraft::CommittedLeaderId;
use proptest::prelude::*;

use super::*;
use crate::election::SignatureBytes;
use crate::type_config::{EntryPayload, ProposedBatch, RaftLogEntry};

/// The leader that sends two contents, in its term.
const LIAR: (u64, NodeId) = (2, 9);

/// A log of a node, as its store has it, and what it shows of it.
#[derive(Default)]
struct TestLog {
    stored: Vec<StoredEntry>,
    received: ReceivedStatements,
}

impl TestLog {
    fn append(&mut self, (term, leader): (u64, NodeId), batch: &'static [u8]) {
        let index = self.stored.len() as u64;
        let entry = RaftLogEntry {
            log_id: LogId::new(CommittedLeaderId::new(term, leader), index),
            payload: EntryPayload::Normal(ProposedBatch(Bytes::from_static(batch))),
        };
        let before = self
            .stored
            .last()
            .map_or(LogDigest::EMPTY, |last| last.digest);
        let digest = before.after(&entry);
        let statement = LeaderStatement {
            term,
            leader,
            index,
            digest,
            signature: SignatureBytes([leader as u8; 64]),
        };
        let stored = StoredEntry::new(entry, digest, &[statement]);
        self.received.add_entry(&stored);
        self.stored.push(stored);
    }

    fn truncate(&mut self, length: usize) {
        self.stored.truncate(length);
        self.received.truncate(self.stored.last());
    }

    /// True if this log and a statement of the other node are evidence: it has the leader's
    /// signature for another content at the same place.
    fn contradicts(&self, statement: &LeaderStatement) -> bool {
        let stored = self.stored.get(statement.index as usize);
        let local = stored.and_then(StoredEntry::author_statement);
        local.is_some_and(|local| {
            (local.term, local.leader) == (statement.term, statement.leader)
                && local.digest != statement.digest
        })
    }

    fn finds(&self, other: &Self) -> bool {
        let shown = other.received.newest();
        shown.iter().any(|statement| self.contradicts(statement))
    }
}

/// What happens to one of two logs behind the first entry at which they differ: how many more
/// entries of the liar come, how many of them a later leader cuts, and how many leaderships of the
/// node's own follow.
fn growth() -> impl Strategy<Value = (usize, usize, usize)> {
    (0usize..6, 0usize..8, 0usize..6)
}

proptest! {
    /// Whatever else two nodes with two contents took and lost, what they show is evidence.
    #[test]
    fn two_contents_meet(one in growth(), other in growth()) {
        let mut logs = [TestLog::default(), TestLog::default()];
        let contents: [&[u8]; 2] = [b"this", b"that"];
        for (at, (more, cut, leaderships)) in [one, other].into_iter().enumerate() {
            let log = &mut logs[at];
            log.append((1, 1), b"common");
            log.append(LIAR, contents[at]);
            for _ in 0..more {
                log.append(LIAR, b"more");
            }
            log.truncate(2 + more.saturating_sub(cut));
            for term in 0..leaderships as u64 {
                log.append((3 + 2 * term + at as u64, at as u64), b"own");
            }
        }
        let [one, other] = &logs;
        prop_assert!(one.finds(other) || other.finds(one));
    }
}

#[test]
fn a_cut_log_shows_its_new_end() {
    let mut log = TestLog::default();
    for _ in 0..4 {
        log.append(LIAR, b"entry");
    }
    log.append((3, 1), b"entry");
    log.truncate(3);
    let ends = log.received.ends();
    assert_eq!(ends, [log.stored[2].entry.log_id]);
    log.truncate(0);
    assert!(log.received.ends().is_empty());
}
