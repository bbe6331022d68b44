//! What is certified, here and at peers.

use std::sync::atomic::Ordering;

use lamplighter_state::{StateError, tables};

use super::{Chain, first_uncertified_change};

impl Chain {
    /// The highest block that is proven to be certified, here or by a peer: it shows how far there
    /// is to go. It may be above the certificates that can be proven, and above the head.
    pub fn peer_certified_height(&self) -> u64 {
        self.peer_certified.load(Ordering::Relaxed)
    }

    /// Takes a height whose certificate was verified; returns whether none was as high.
    pub fn raise_peer_certified(&self, height: u64) -> bool {
        self.peer_certified.fetch_max(height, Ordering::Relaxed) < height
    }

    /// Returns whether the entry of the log that is `ahead` places after the last applied one is
    /// not later than one of which a block is proven to be certified. It is committed then.
    ///
    /// An entry makes one block at most. So a block that is `n` above the head is of an entry at
    /// least `n` places after the last applied one. A block that is applied meanwhile makes `n`
    /// smaller, and the answer no at worst.
    pub fn is_below_certificate(&self, ahead: u64) -> bool {
        let height = self.head().height;
        ahead <= self.peer_certified_height().saturating_sub(height)
    }

    /// The first header that changes the validators and has no certificate of its own.
    pub fn first_uncertified_change(&self) -> Result<Option<u64>, StateError> {
        first_uncertified_change(&*self.store(), self.certified_height())
    }

    /// Returns whether a block changed the validators and its header has no certificate of its own.
    pub fn lacks_certificate(&self, height: u64) -> Result<bool, StateError> {
        let store = &*self.store();
        let changed = tables::set_change(store, height)?.is_some();
        Ok(changed && tables::certificate(store, height)?.is_none())
    }
}
