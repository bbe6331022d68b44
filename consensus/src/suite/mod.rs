//! openraft's own test suite for the log and the state machine on any store, and a small state
//! machine for tests.

mod electorate;
mod machine;

use std::future::Future;
use std::sync::Arc;

use lamplighter_store::Kv;
use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;

pub use self::electorate::{SharedVoters, TestElectorate};
pub use self::machine::KvMachine;
use crate::blocking_io::BlockingIo;
use crate::config::Limits;
use crate::log::LogStore;
use crate::openraft_state_machine::OpenraftStateMachine;
use crate::snapshot::SnapshotStore;
use crate::type_config::TypeConfig;
use crate::types::StorageError;

/// A store with its directory, for openraft's suite.
type Opened = (TempDir, LogStore, OpenraftStateMachine);

struct Builder<F>(F);

impl<F> StoreBuilder<TypeConfig, LogStore, OpenraftStateMachine, TempDir> for Builder<F>
where
    F: Fn(&TempDir) -> Arc<dyn Kv> + Send + Sync,
{
    fn build(&self) -> impl Future<Output = Result<Opened, StorageError>> + Send {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let kv = (self.0)(&dir);
        async move {
            let io = BlockingIo::default();
            let snapshots = SnapshotStore::open(&dir.path().join("snapshots"));
            let snapshots = Arc::new(snapshots.expect("the directory of snapshots opens"));
            let log = LogStore::open(kv.clone(), io, Limits::default()).await;
            let log = log.expect("the log opens");
            log.unbind();
            let machine = Arc::new(KvMachine::new(kv));
            Ok((
                dir,
                log.clone(),
                OpenraftStateMachine::new(machine, log, snapshots, io),
            ))
        }
    }
}

/// Runs openraft's suite; `open` opens a new store, in the given directory if it needs one.
///
/// # Panics
/// If the suite finds an error.
pub fn run(open: impl Fn(&TempDir) -> Arc<dyn Kv> + Send + Sync) {
    Suite::test_all(Builder(open)).expect("openraft's suite passes");
}

#[cfg(test)]
mod tests;
