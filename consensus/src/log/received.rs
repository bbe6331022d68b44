use std::collections::VecDeque;

use super::chain::LogDigest;
use crate::statement::LeaderStatement;

/// Statements that wait for their entry: appends on their way through openraft. One whose entry is
/// in the log already is never removed by it, so the oldest makes place.
const RECEIVED_MAX: usize = 16;

/// Statements of leaders about entries that are on their way into the log.
#[derive(Default)]
pub(super) struct ReceivedStatements(VecDeque<LeaderStatement>);

impl ReceivedStatements {
    pub(super) fn add(&mut self, statement: LeaderStatement) {
        if self.0.len() >= RECEIVED_MAX {
            self.0.pop_front();
        }
        self.0.push_back(statement);
    }

    /// Removes and returns the statement about the entry of this index and digest.
    pub(super) fn remove(&mut self, index: u64, digest: LogDigest) -> Option<LeaderStatement> {
        let is_of = |s: &LeaderStatement| s.index == index && s.digest == digest;
        let at = self.0.iter().position(is_of)?;
        self.0.remove(at)
    }
}
