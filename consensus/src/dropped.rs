//! What a node keeps of the logs that it dropped.
//!
//! - The **dead contents**: the index and the digest at which it left a log, and the digests there
//!   for which it would have left it, too. It takes no append that leads there again, whoever sends
//!   it: a leader that has not decided yet would otherwise feed the same content to the node that
//!   has just dropped it, or another one that goes as well. It also tells the others, as an honest
//!   node refuses only what can't be certified. A node that never held such a content refuses it
//!   for the same reason, see `divergence`.
//! - The **statements** of leaders about the dropped log. With those about the log that took its
//!   place they may be evidence that nobody had when the log was dropped.
//! - The **ends** of what each leadership made, if a certificate contradicted the log: it is not
//!   known where that log went wrong until the liar is.

use std::collections::BTreeSet;

use lamplighter_store::{Cf, KvView, StoreError};
use serde::{Deserialize, Serialize};

use crate::NodeId;
use crate::codec;
use crate::log::LogDigest;
use crate::statement::LeaderStatement;
use crate::types::LogId;

/// The record of [`Cf::Meta`].
pub(crate) const DROPPED: &[u8] = b"raft/dropped";
/// Dead contents that are kept, the newest: each drop needed a leader that was elected and lied,
/// and leaves fewer contents than there are voters.
pub(crate) const DEAD_MAX: usize = 64;
/// Statements that are kept, the newest.
const STATEMENTS_MAX: usize = 64;

/// A log up to an index: its digest there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogContent {
    pub index: u64,
    pub digest: LogDigest,
}

/// The contents of one index that are dead, that of a dropped log among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeadContents {
    pub index: u64,
    pub digests: BTreeSet<LogDigest>,
}

/// What is kept of dropped logs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DroppedLogs {
    /// The contents that this node refuses.
    pub dead: Vec<LogContent>,
    pub statements: Vec<LeaderStatement>,
    /// The last entry that each leadership made in a log that a certificate contradicted.
    ends: Vec<LogId>,
}

impl DroppedLogs {
    pub(crate) fn read(kv: &dyn KvView) -> Result<Self, StoreError> {
        let record = kv.get(Cf::Meta, DROPPED)?;
        let decoded = record.map(|bytes| codec::decode("record of dropped logs", &bytes));
        let decoded = decoded.transpose().map_err(|error| StoreError::Corrupt {
            path: "the record of dropped logs".into(),
            what: error.to_string(),
            source: None,
        })?;
        Ok(decoded.unwrap_or_default())
    }

    /// True if this node left a log for which that digest is dead, and refuses it.
    pub(crate) fn is_dead(&self, index: u64, digest: LogDigest) -> bool {
        self.dead.contains(&LogContent { index, digest })
    }

    /// The record after one more log is dropped: by the rule of `divergence` with the contents
    /// that are dead, or because a certificate contradicts it. A certificate is above what was
    /// decided before: nothing is refused any more.
    pub(crate) fn with(
        &self,
        dead: Option<&DeadContents>,
        statements: Vec<LeaderStatement>,
        ends: Vec<LogId>,
    ) -> Self {
        let mut next = self.clone();
        match dead {
            Some(dead) => {
                next.dead.extend(self.new_of(dead));
                next.ends = Vec::new();
            }
            None => {
                next.dead = Vec::new();
                next.ends = ends;
            }
        }
        let new = statements.into_iter();
        next.statements
            .extend(new.filter(|s| !self.statements.contains(s)));
        keep_last(&mut next.dead, DEAD_MAX);
        keep_last(&mut next.statements, STATEMENTS_MAX);
        next
    }

    /// The record with refusals of what this node does not hold; none if they are all there.
    pub(crate) fn refusing(&self, dead: &DeadContents) -> Option<Self> {
        let mut next = self.clone();
        next.dead.extend(self.new_of(dead));
        keep_last(&mut next.dead, DEAD_MAX);
        (next != *self).then_some(next)
    }

    /// The contents that this node does not refuse yet.
    fn new_of(&self, dead: &DeadContents) -> impl Iterator<Item = LogContent> {
        let contents = dead.digests.iter().map(|digest| LogContent {
            index: dead.index,
            digest: *digest,
        });
        contents.filter(|content| !self.dead.contains(content))
    }

    /// The last entry before the last leaderships of proven liars, if this is about a log with such
    /// entries: what follows it may never have been in the log of another node. A liar that leads
    /// again may have made up entries of its earlier leadership as well; an honest leader that came
    /// between would not have continued such a log.
    pub(crate) fn before_liars(
        &self,
        is_excluded: impl Fn(NodeId) -> bool,
    ) -> Option<Option<LogId>> {
        let made_by_liar = |end: &LogId| is_excluded(end.leader_id.node_id);
        let last = self.ends.iter().rposition(made_by_liar)?;
        let before = self.ends[..last].iter().rev();
        Some(before.copied().find(|end| !made_by_liar(end)))
    }
}

fn keep_last<T>(list: &mut Vec<T>, max: usize) {
    list.drain(..list.len().saturating_sub(max));
}

#[cfg(test)]
mod tests;
