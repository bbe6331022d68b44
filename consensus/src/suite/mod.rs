//! openraft's own test suite over our log and state machine adapter on any store, and a small state
//! machine for tests.

mod machine;

use std::future::Future;
use std::sync::Arc;

use lamplighter_store::Kv;
use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;

pub use self::machine::KvMachine;
use crate::adapter::Adapter;
use crate::config::Limits;
use crate::io::Io;
use crate::log::LogStore;
use crate::raft::{StorageError, TypeConfig};
use crate::snapshot::SnapshotStore;

struct Builder<F>(F);

impl<F> StoreBuilder<TypeConfig, LogStore, Adapter, TempDir> for Builder<F>
where
    F: Fn(&TempDir) -> Arc<dyn Kv> + Send + Sync,
{
    fn build(
        &self,
    ) -> impl Future<Output = Result<(TempDir, LogStore, Adapter), StorageError>> + Send {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let kv = (self.0)(&dir);
        async move {
            let io = Io::default();
            let snapshots = SnapshotStore::open(&dir.path().join("snapshots"));
            let snapshots = Arc::new(snapshots.expect("the directory of snapshots opens"));
            let log = LogStore::open(kv.clone(), io, Limits::default()).await;
            let log = log.expect("the log opens");
            let machine = Arc::new(KvMachine::new(kv));
            Ok((dir, log.clone(), Adapter::new(machine, log, snapshots, io)))
        }
    }
}

/// Runs openraft's suite; `open` opens a new store, in the given directory if it needs one.
///
/// # Panics
/// When something is not as openraft wants it.
pub fn run(open: impl Fn(&TempDir) -> Arc<dyn Kv> + Send + Sync) {
    Suite::test_all(Builder(open)).expect("openraft's suite passes");
}

#[cfg(test)]
mod tests;
