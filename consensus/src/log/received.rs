use std::collections::{BTreeMap, VecDeque};

use super::chain::LogDigest;
use crate::NodeId;
use crate::evidence::LINKS_MAX;
use crate::statement::LeaderStatement;

/// Statements that wait for their entry: appends on their way through openraft, with one for each
/// entry. One whose entry is in the log already is never removed by it, so the oldest makes place.
const RECEIVED_MAX: usize = 4 * LINKS_MAX;
/// Leaderships of which the newest statement is kept: those of a few elections, within which other
/// nodes have compared them.
const LEADERSHIPS_MAX: usize = 8;

/// Statements of leaders: those about entries that are on their way into the log, and the newest of
/// each leadership about entries that are in it, or were.
#[derive(Default)]
pub(super) struct ReceivedStatements {
    pending: VecDeque<LeaderStatement>,
    newest: BTreeMap<(u64, NodeId), LeaderStatement>,
}

impl ReceivedStatements {
    pub(super) fn add(&mut self, statement: LeaderStatement) {
        if self.pending.len() >= RECEIVED_MAX {
            self.pending.pop_front();
        }
        self.pending.push_back(statement);
    }

    /// Removes and returns the statements about the entry of this index and digest, which is now
    /// in the log.
    pub(super) fn store(&mut self, index: u64, digest: LogDigest) -> Vec<LeaderStatement> {
        let is_of = |s: &LeaderStatement| s.index == index && s.digest == digest;
        let mut found = Vec::new();
        while let Some(at) = self.pending.iter().position(is_of) {
            let statement = self.pending.remove(at).expect("it was found there");
            self.add_stored(statement);
            found.push(statement);
        }
        found
    }

    /// Adds a statement that the log has.
    pub(super) fn add_stored(&mut self, statement: LeaderStatement) {
        let leadership = (statement.term, statement.leader);
        let newest = self.newest.entry(leadership).or_insert(statement);
        if newest.index < statement.index {
            *newest = statement;
        }
        while self.newest.len() > LEADERSHIPS_MAX {
            self.newest.pop_first();
        }
    }

    /// The newest statement of each of the last leaderships.
    pub(super) fn newest(&self) -> Vec<LeaderStatement> {
        self.newest.values().copied().collect()
    }
}
