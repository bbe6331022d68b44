use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::lwm2m::Registry;

/// The table of registrations; clones share it. The manager alone changes it; the service reads in
/// it which Thing is at an address. No lock is held across a wait.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedRegistry(Arc<RwLock<Registry>>);

impl SharedRegistry {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Registry> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Registry> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
