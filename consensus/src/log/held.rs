//! What the log holds at some indexes, for its comparison with those of other nodes.

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_store::StoreError;

use super::{LogDigest, LogStore};
use crate::divergence::HeldContent;
use crate::dropped::LogContent;
use crate::types::LogId;

impl LogStore {
    /// What the log has at some indexes. Those that follow each other are read at once.
    pub(crate) async fn held(
        &self,
        indexes: &BTreeSet<u64>,
    ) -> Result<Vec<HeldContent>, StoreError> {
        let mut held = BTreeMap::new();
        if let Some(first) = indexes.first() {
            let follows = |(at, index): (usize, &u64)| *index == first + at as u64;
            let run = indexes
                .iter()
                .enumerate()
                .take_while(|(at, index)| follows((*at, index)));
            let last = first + run.count() as u64 - 1;
            for entry in self.authored(*first, last).await? {
                held.insert(entry.log_id.index, (entry.log_id, entry.digest));
            }
        }
        for index in indexes {
            if held.contains_key(index) || self.last().is_none_or(|last| last.index < *index) {
                continue;
            }
            let end = self.end(*index).await?;
            held.extend(end.and_then(|end| Some((*index, (end.log_id, end.digest?)))));
        }
        let content = |(index, (log_id, digest)): (u64, (LogId, LogDigest))| HeldContent {
            content: LogContent { index, digest },
            leader: log_id.leader_id,
        };
        Ok(held.into_iter().map(content).collect())
    }
}
