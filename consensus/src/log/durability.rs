use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lamplighter_store::{Kv, StoreError};
use tokio::sync::{Notify, watch};

use crate::io::Io;

/// Which writes are durable. Writes are numbered from 1 on; the syncer makes all of them durable
/// that happened before it began to sync.
pub(crate) struct Durability {
    written: AtomicU64,
    syncs: AtomicU64,
    work: Notify,
    state: watch::Sender<State>,
}

#[derive(Clone, Default)]
struct State {
    synced: u64,
    failure: Option<Arc<StoreError>>,
}

impl Durability {
    pub(super) fn new() -> Self {
        Self {
            written: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            work: Notify::new(),
            state: watch::channel(State::default()).0,
        }
    }

    /// To be called after a write; returns its number.
    pub(super) fn written(&self) -> u64 {
        let number = self.written.fetch_add(1, Ordering::SeqCst) + 1;
        self.work.notify_one();
        number
    }

    /// The last write that is durable.
    pub(super) fn synced(&self) -> u64 {
        self.state.borrow().synced
    }

    pub(super) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
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
        self.wait(self.written.load(Ordering::SeqCst)).await
    }

    /// The syncer. It ends after a failure: what is on disk then is unknown, and every later write
    /// waits in vain, which stops the node.
    pub(super) async fn run(self: Arc<Self>, kv: Arc<dyn Kv>, io: Io) {
        loop {
            let target = self.written.load(Ordering::SeqCst);
            if target == self.synced() {
                self.work.notified().await;
                continue;
            }
            let store = kv.clone();
            let synced = io.sync(move || store.sync()).await;
            self.syncs.fetch_add(1, Ordering::Relaxed);
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
