use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

#[derive(Debug, Default)]
struct State {
    is_closed: Mutex<bool>,
    changed: Condvar,
}

/// Tells when a store is closed: RocksDB has ended its threads and released the directory.
///
/// A process must not exit before: RocksDB's threads would use what the exit has destroyed.
#[derive(Clone, Debug, Default)]
pub struct Closed(Arc<State>);

impl Closed {
    /// Blocks until the store is closed, for at most `timeout`; false if it is still open then.
    pub fn wait(&self, timeout: Duration) -> bool {
        let State { is_closed, changed } = &*self.0;
        let guard = is_closed.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(guard, timeout, |is_closed| !*is_closed);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The last field of a store: it is dropped when everything else of the store is.
#[derive(Default)]
pub(crate) struct ClosedOnDrop(pub Closed);

impl Drop for ClosedOnDrop {
    fn drop(&mut self) {
        let State { is_closed, changed } = &*self.0.0;
        *is_closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }
}
