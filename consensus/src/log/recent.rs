use std::collections::VecDeque;

use super::chain::{AuthoredEntry, ChainEnd, LogDigest, StoredEntry};
use crate::type_config::RaftLogEntry;
use crate::types::LogId;

/// An entry of the log in memory.
pub(super) struct CachedEntry {
    pub stored: StoredEntry,
    pub bytes: usize,
    /// The number of the write that it came with.
    pub write_number: u64,
}

/// Both ends of the log, and its last entries in memory. They include every entry that is not
/// durable yet.
pub(super) struct RecentEntries {
    cached: VecDeque<CachedEntry>,
    bytes: usize,
    last: Option<ChainEnd>,
    purged: Option<ChainEnd>,
    /// The end of the log that the applied state was made of, as its marker says. It may be beyond
    /// the entries here, when the state came as an image.
    applied: Option<ChainEnd>,
}

impl RecentEntries {
    pub(super) fn new(last: Option<ChainEnd>, purged: Option<ChainEnd>) -> Self {
        Self {
            cached: VecDeque::new(),
            bytes: 0,
            last,
            purged,
            applied: None,
        }
    }

    pub(super) fn last(&self) -> Option<LogId> {
        self.last.map(|end| end.log_id)
    }

    pub(super) fn purged(&self) -> Option<LogId> {
        self.purged.map(|end| end.log_id)
    }

    pub(super) fn set_applied(&mut self, end: ChainEnd) {
        self.applied = Some(end);
    }

    /// The end of the log at this index, if its digest is in memory.
    pub(super) fn end(&self, index: u64) -> Option<ChainEnd> {
        if let Some(at) = self.position(index) {
            let stored = &self.cached[at].stored;
            return Some(ChainEnd {
                log_id: stored.entry.log_id,
                digest: Some(stored.digest),
            });
        }
        let ends = [self.last, self.purged, self.applied];
        let known = |end: &ChainEnd| end.log_id.index == index && end.digest.is_some();
        ends.into_iter().flatten().find(known)
    }

    /// The digest of a cached entry.
    pub(super) fn digest(&self, log_id: LogId) -> Option<LogDigest> {
        let end = self.end(log_id.index)?;
        end.digest.filter(|_| end.log_id == log_id)
    }

    fn first_index(&self) -> Option<u64> {
        self.cached
            .front()
            .map(|cached| cached.stored.entry.log_id.index)
    }

    /// The position in memory of the entry of this index.
    fn position(&self, index: u64) -> Option<usize> {
        let first = self.first_index()?;
        let at = index.checked_sub(first)? as usize;
        (at < self.cached.len()).then_some(at)
    }

    /// The number of the write that this entry came with; 0 if it is durable or was never here.
    pub(super) fn write_number(&self, index: u64) -> u64 {
        self.position(index)
            .map_or(0, |at| self.cached[at].write_number)
    }

    /// The entries from `start` to before `end`, as many as fit into `bytes_max` but at least one;
    /// none if the first is not in memory.
    pub(super) fn get(&self, start: u64, end: u64, bytes_max: usize) -> Option<Vec<RaftLogEntry>> {
        let at = self.position(start)?;
        let mut entries = Vec::new();
        let mut bytes = 0;
        for cached in self.cached.range(at..) {
            bytes += cached.bytes;
            let over = bytes > bytes_max && !entries.is_empty();
            if cached.stored.entry.log_id.index >= end || over {
                break;
            }
            entries.push(cached.stored.entry.clone());
        }
        Some(entries)
    }

    /// The entries from `start` to `end`, this one included; none if not all are in memory.
    pub(super) fn authored(&self, start: u64, end: u64) -> Option<Vec<AuthoredEntry>> {
        let (first, last) = (self.position(start)?, self.position(end)?);
        let cached = self.cached.range(first..=last.max(first));
        Some(
            cached
                .map(|cached| AuthoredEntry::from(&cached.stored))
                .collect(),
        )
    }

    /// The digests from `start` to `end`, this one included; none if not all are in memory.
    pub(super) fn digests(&self, start: u64, end: u64) -> Option<Vec<(u64, LogDigest)>> {
        let (first, last) = (self.position(start)?, self.position(end)?);
        let cached = self.cached.range(first..=last.max(first));
        let digest =
            |cached: &CachedEntry| (cached.stored.entry.log_id.index, cached.stored.digest);
        Some(cached.map(digest).collect())
    }

    /// Adds the entries of one write, and removes the oldest durable ones beyond the limit.
    pub(super) fn append(
        &mut self,
        entries: Vec<CachedEntry>,
        write_number: u64,
        synced: u64,
        bytes_max: usize,
    ) {
        for cached in entries {
            let index = cached.stored.entry.log_id.index;
            let follows = self
                .cached
                .back()
                .is_none_or(|last| last.stored.entry.log_id.index + 1 == index);
            if !follows {
                self.clear();
            }
            self.last = Some(ChainEnd {
                log_id: cached.stored.entry.log_id,
                digest: Some(cached.stored.digest),
            });
            self.bytes += cached.bytes;
            self.cached.push_back(CachedEntry {
                write_number,
                ..cached
            });
        }
        while self.bytes > bytes_max
            && self
                .cached
                .front()
                .is_some_and(|oldest| oldest.write_number <= synced)
        {
            self.pop_front();
        }
    }

    fn clear(&mut self) {
        self.cached.clear();
        self.bytes = 0;
    }

    fn pop_front(&mut self) {
        if let Some(cached) = self.cached.pop_front() {
            self.bytes -= cached.bytes;
        }
    }

    /// Removes the entries from this index on; `last` is the last one on disk afterwards.
    pub(super) fn truncate(&mut self, index: u64, last: Option<ChainEnd>) {
        while self
            .cached
            .back()
            .is_some_and(|cached| cached.stored.entry.log_id.index >= index)
        {
            if let Some(cached) = self.cached.pop_back() {
                self.bytes -= cached.bytes;
            }
        }
        self.last = last.or(self.purged);
    }

    /// Removes the entries up to this one.
    pub(super) fn purge(&mut self, upto: ChainEnd) {
        while self
            .first_index()
            .is_some_and(|first| first <= upto.log_id.index)
        {
            self.pop_front();
        }
        self.purged = Some(upto);
        if self.last() < Some(upto.log_id) {
            self.last = Some(upto);
        }
    }
}
