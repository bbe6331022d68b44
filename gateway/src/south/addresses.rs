//! The addresses of registered Things, which the endpoint looks at before it keeps their blocks.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

/// The set; clones share it. The manager writes it, and it is no larger than its table.
#[derive(Debug, Clone, Default)]
pub(super) struct Addresses(Arc<RwLock<BTreeSet<SocketAddr>>>);

impl Addresses {
    pub(super) fn contains(&self, peer: SocketAddr) -> bool {
        let set = self.0.read().unwrap_or_else(PoisonError::into_inner);
        set.contains(&peer)
    }

    pub(super) fn set(&self, peers: impl Iterator<Item = SocketAddr>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = peers.collect();
    }
}
