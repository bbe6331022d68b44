use std::collections::VecDeque;

use crate::raft::{Entry, LogId};

pub(super) struct Slot {
    pub entry: Entry,
    pub bytes: usize,
    /// Number of the write that it came with.
    pub written: u64,
}

/// Both ends of the log, and its last entries in memory. An entry that is not durable yet is always
/// among them.
pub(super) struct Recent {
    slots: VecDeque<Slot>,
    bytes: usize,
    last: Option<LogId>,
    purged: Option<LogId>,
}

impl Recent {
    pub(super) fn new(last: Option<LogId>, purged: Option<LogId>) -> Self {
        Self {
            slots: VecDeque::new(),
            bytes: 0,
            last,
            purged,
        }
    }

    pub(super) fn last(&self) -> Option<LogId> {
        self.last
    }

    pub(super) fn purged(&self) -> Option<LogId> {
        self.purged
    }

    fn first_index(&self) -> Option<u64> {
        self.slots.front().map(|slot| slot.entry.log_id.index)
    }

    /// The slots of a range that begins in memory.
    fn position(&self, index: u64) -> Option<usize> {
        let first = self.first_index()?;
        let at = index.checked_sub(first)? as usize;
        (at < self.slots.len()).then_some(at)
    }

    /// Number of the write that brought this entry and with it all before; 0 if it is known to be
    /// durable or was never here.
    pub(super) fn written(&self, index: u64) -> u64 {
        self.position(index).map_or(0, |at| self.slots[at].written)
    }

    /// The entries from `start` to before `end`, as many as fit into `bytes_max` but at least one;
    /// none if the first is not in memory.
    pub(super) fn get(&self, start: u64, end: u64, bytes_max: usize) -> Option<Vec<Entry>> {
        let at = self.position(start)?;
        let mut entries = Vec::new();
        let mut bytes = 0;
        for slot in self.slots.range(at..) {
            bytes += slot.bytes;
            let over = bytes > bytes_max && !entries.is_empty();
            if slot.entry.log_id.index >= end || over {
                break;
            }
            entries.push(slot.entry.clone());
        }
        Some(entries)
    }

    /// Adds entries that came with one write, and forgets the oldest beyond the limit unless they
    /// came after the write that is known to be durable.
    pub(super) fn append(&mut self, slots: Vec<Slot>, written: u64, synced: u64, bytes_max: usize) {
        for slot in slots {
            let index = slot.entry.log_id.index;
            let follows = self
                .slots
                .back()
                .is_none_or(|last| last.entry.log_id.index + 1 == index);
            if !follows {
                self.clear();
            }
            self.last = Some(slot.entry.log_id);
            self.bytes += slot.bytes;
            self.slots.push_back(Slot { written, ..slot });
        }
        while self.bytes > bytes_max
            && self
                .slots
                .front()
                .is_some_and(|oldest| oldest.written <= synced)
        {
            self.pop_front();
        }
    }

    fn clear(&mut self) {
        self.slots.clear();
        self.bytes = 0;
    }

    fn pop_front(&mut self) {
        if let Some(slot) = self.slots.pop_front() {
            self.bytes -= slot.bytes;
        }
    }

    /// Removes the entries from this index on; `last` is what then is the last one on disk.
    pub(super) fn truncate(&mut self, index: u64, last: Option<LogId>) {
        while self
            .slots
            .back()
            .is_some_and(|slot| slot.entry.log_id.index >= index)
        {
            if let Some(slot) = self.slots.pop_back() {
                self.bytes -= slot.bytes;
            }
        }
        self.last = last.or(self.purged);
    }

    /// Removes the entries up to this one.
    pub(super) fn purge(&mut self, upto: LogId) {
        while self.first_index().is_some_and(|first| first <= upto.index) {
            self.pop_front();
        }
        self.purged = Some(upto);
        self.last = self.last.max(Some(upto));
    }
}
