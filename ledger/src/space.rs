use std::fmt;
use std::sync::RwLock;

/// The disk is so full that this node takes no transactions and no part in consensus, before
/// anything breaks. It answers reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskFull {
    /// What was free at the last look.
    pub free_bytes: u64,
    /// What must be free.
    pub reserve_bytes: u64,
}

impl fmt::Display for DiskFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes >> 20;
        write!(
            f,
            "read-only: the disk has {} MiB free and the reserve is {} MiB; free some space and \
             this node goes on by itself",
            mib(self.free_bytes),
            mib(self.reserve_bytes)
        )
    }
}

/// Whether there is space, as the node's watch over the disk last said, and since when (Unix ms)
/// there is none.
#[derive(Default)]
pub(crate) struct Space(RwLock<Option<(DiskFull, u64)>>);

impl Space {
    pub fn set(&self, full: Option<DiskFull>, now_ms: u64) {
        let mut known = self.0.write().expect("nobody panics with the lock");
        let since_ms = known.map_or(now_ms, |(_, since_ms)| since_ms);
        *known = full.map(|full| (full, since_ms));
    }

    pub fn full(&self) -> Option<DiskFull> {
        self.noticed().map(|(full, _)| full)
    }

    pub fn noticed(&self) -> Option<(DiskFull, u64)> {
        *self.0.read().expect("nobody panics with the lock")
    }
}
