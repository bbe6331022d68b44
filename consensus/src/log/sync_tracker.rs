use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lamplighter_store::{Kv, StoreError};
use tokio::sync::{Notify, watch};

use crate::blocking_io::BlockingIo;

/// Tracks which writes are durable. Writes are numbered from 1; a sync makes all of them durable
/// that happened before it began.
pub(super) struct SyncTracker {
    writes: AtomicU64,
    count: AtomicU64,
    written: Notify,
    state: watch::Sender<SyncState>,
}

#[derive(Clone, Default)]
struct SyncState {
    /// The last write that is durable.
    synced: u64,
    failure: Option<Arc<StoreError>>,
}

impl SyncTracker {
    pub(super) fn new() -> Self {
        Self {
            writes: AtomicU64::new(0),
            count: AtomicU64::new(0),
            written: Notify::new(),
            state: watch::channel(SyncState::default()).0,
        }
    }

    /// Records a write that has returned; returns its number.
    pub(super) fn record_write(&self) -> u64 {
        let number = self.writes.fetch_add(1, Ordering::SeqCst) + 1;
        self.written.notify_one();
        number
    }

    /// The last write that is durable.
    pub(super) fn synced(&self) -> u64 {
        self.state.borrow().synced
    }

    /// The number of syncs since the start.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until the write is durable.
    pub(super) async fn wait(&self, number: u64) -> Result<(), Arc<StoreError>> {
        let mut state = self.state.subscribe();
        let reached = state
            .wait_for(|state| state.synced >= number || state.failure.is_some())
            .await
            .expect("the sender lives as long as self");
        match &reached.failure {
            Some(failure) if reached.synced < number => Err(failure.clone()),
            _ => Ok(()),
        }
    }

    pub(super) async fn wait_all(&self) -> Result<(), Arc<StoreError>> {
        self.wait(self.writes.load(Ordering::SeqCst)).await
    }

    /// Syncs after writes. It ends after a failure: the content of the disk is unknown then, and no
    /// later write becomes durable, which stops the node.
    pub(super) async fn run(self: Arc<Self>, kv: Arc<dyn Kv>, io: BlockingIo) {
        loop {
            let target = self.writes.load(Ordering::SeqCst);
            if target == self.synced() {
                self.written.notified().await;
                continue;
            }
            let store = kv.clone();
            let synced = io.sync(move || store.sync()).await;
            self.count.fetch_add(1, Ordering::Relaxed);
            match synced {
                Ok(()) => self.state.send_modify(|state| state.synced = target),
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "sync failed");
                    self.state
                        .send_modify(|state| state.failure = Some(Arc::new(error)));
                    return;
                }
            }
        }
    }
}
