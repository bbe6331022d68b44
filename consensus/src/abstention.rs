use std::sync::atomic::{AtomicBool, Ordering};

/// The reasons for which a node does not stand for election.
#[derive(Default)]
pub(crate) struct Abstention {
    disk: AtomicBool,
    clock: AtomicBool,
}

impl Abstention {
    /// Sets whether the disk is a reason; returns whether the node stands now.
    pub(crate) fn set_disk(&self, is_reason: bool) -> bool {
        self.disk.store(is_reason, Ordering::SeqCst);
        self.stands()
    }

    /// Sets whether the clock is a reason; returns whether the node stands now.
    pub(crate) fn set_clock(&self, is_reason: bool) -> bool {
        self.clock.store(is_reason, Ordering::SeqCst);
        self.stands()
    }

    fn stands(&self) -> bool {
        !self.disk.load(Ordering::SeqCst) && !self.clock.load(Ordering::SeqCst)
    }
}
