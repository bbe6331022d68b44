use std::collections::{BTreeMap, VecDeque};

use super::chain::{LogDigest, StoredEntry};
use crate::NodeId;
use crate::evidence::LINKS_MAX;
use crate::statement::LeaderStatement;
use crate::types::{LeaderId, LogId};

/// Statements that wait for their entry: appends on their way through openraft, with one for each
/// entry. One whose entry is in the log already is never removed by it, so the oldest makes place.
const RECEIVED_MAX: usize = 4 * LINKS_MAX;
/// Leaderships of which statements are kept: those of a few elections, within which other nodes
/// have compared them.
const LEADERSHIPS_MAX: usize = 16;

/// The end of the entries that one leadership made, in this node's log.
#[derive(Clone, Copy)]
struct MadeEnd {
    log_id: LogId,
    /// The leader's signature; none if this node made the entry, or did not know the key.
    statement: Option<LeaderStatement>,
}

/// Statements of leaders: those about entries that are on their way into the log, the newest of
/// each leadership about entries that are in it, or were, and the one at the end of the entries
/// that each leadership made.
///
/// # Two logs that differ under one log id meet in a statement
///
/// Such logs differ under every later log id that they share, too. Let a leader have made the last
/// of those. In one of the two logs its entries end first, at an index at which the other log has
/// an entry of the same leadership with another digest. Both nodes have that leader's signature for
/// what they hold there, and the first one shows it: it is the end of what that leader made.
#[derive(Default)]
pub(super) struct ReceivedStatements {
    pending: VecDeque<LeaderStatement>,
    newest: BTreeMap<(u64, NodeId), LeaderStatement>,
    /// The ends, by the leadership, which only grows along a log.
    ends: BTreeMap<LeaderId, MadeEnd>,
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
    fn add_stored(&mut self, statement: LeaderStatement) {
        let leadership = (statement.term, statement.leader);
        let newest = self.newest.entry(leadership).or_insert(statement);
        if newest.index < statement.index {
            *newest = statement;
        }
        while self.newest.len() > LEADERSHIPS_MAX {
            self.newest.pop_first();
        }
    }

    /// Adds an entry that the log has, and the statements in it.
    pub(super) fn add_entry(&mut self, stored: &StoredEntry) {
        for statement in stored.statements() {
            self.add_stored(statement);
        }
        let log_id = stored.entry.log_id;
        let end = MadeEnd {
            log_id,
            statement: stored.author_statement(),
        };
        let known = self.ends.entry(log_id.leader_id).or_insert(end);
        if known.log_id.index <= log_id.index {
            *known = end;
        }
        while self.ends.len() > LEADERSHIPS_MAX {
            self.ends.pop_first();
        }
    }

    /// Removes the ends behind the last entry of the log, which was cut.
    pub(super) fn truncate(&mut self, last: Option<&StoredEntry>) {
        let Some(last) = last else {
            self.ends.clear();
            return;
        };
        let log_id = last.entry.log_id;
        self.ends.retain(|leader, _| *leader < log_id.leader_id);
        self.add_entry(last);
    }

    /// The ends of what the last leaderships made, in the order of the log.
    pub(super) fn ends(&self) -> Vec<LogId> {
        self.ends.values().map(|end| end.log_id).collect()
    }

    /// What the last leaderships signed: where what each made ends in this log, and the newest.
    pub(super) fn newest(&self) -> Vec<LeaderStatement> {
        let ends = self.ends.values().filter_map(|end| end.statement);
        let mut statements: Vec<LeaderStatement> = ends.collect();
        for newest in self.newest.values() {
            if !statements.contains(newest) {
                statements.push(*newest);
            }
        }
        statements
    }
}

#[cfg(test)]
mod tests;
