//! A node's data directory from a backup: the blocks of an archive, executed again.
//!
//! What is restored reads and proves, and never takes part. Its old node has promised things that
//! no backup has: votes, entries that it acknowledged, headers that it signed, perhaps above the
//! last block of the backup. A node that forgot them could sign a second block at a height that
//! somebody has a certificate for. So a key or a node id that the chain has ever named is refused.
//!
//! The directory has no `db` before all of it is there: a restore that was ended goes on, and a
//! node can't start on half of one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lamplighter_ledger::OpenError;
use lamplighter_ledger::audit::{Auditor, Keeps};
use lamplighter_rocks::{Closed, Options, RocksKv};
use lamplighter_state::StateError;
use lamplighter_store::StoreError;
use lamplighter_system::files;
use lamplighter_types::{Genesis, PublicKey};

use crate::config::{ConfigError, NodeConfig};
use crate::key::{self, KeyError};
use crate::store_identity::mark_path;

/// The store while it is being made.
const UNFINISHED: &str = "db.restoring";
/// The store of a node.
const STORE: &str = "db";
/// What stands behind the name of a store, for its seal.
const SEAL: &str = ".seal";
/// Longest wait for a store to be closed.
const CLOSED_WITHIN: Duration = Duration::from_secs(30);

/// Why nothing is restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("the configuration is not usable")]
    Config(#[from] ConfigError),
    #[error("the key can't be read")]
    Key(#[from] KeyError),
    #[error("there is a ledger in {} already: nothing is written over it", .0.display())]
    Exists(PathBuf),
    #[error(
        "the key in {} was used with another data directory: {REMEDY}", .0.display()
    )]
    Used(PathBuf),
    #[error("node {node} or its key is one that the ledger names: {REMEDY}")]
    Named { node: u64 },
    #[error("opening the store")]
    Store(#[from] StoreError),
    #[error("the restore can't go on from what the directory has")]
    Open(#[from] OpenError),
    #[error("the store can't be read or written")]
    State(#[from] StateError),
    #[error("the store is still open")]
    StillOpen,
    #[error("moving the store to its place in {}", path.display())]
    Place { path: PathBuf, source: io::Error },
}

const REMEDY: &str = "the node has forgotten what it signed and could sign something else. Make a \
    new key and a new id (`lamplighter node join --prepare-only`)";

/// A restore that has begun.
pub struct Restore {
    pub genesis: Genesis,
    dir: PathBuf,
    node: u64,
    key: PublicKey,
    closed: Closed,
}

impl Restore {
    /// Begins a restore into the empty data directory of a configuration, or goes on with one.
    ///
    /// # Errors
    /// The directory has a ledger; the key or the id is not new.
    pub fn begin(config: &NodeConfig) -> Result<(Self, Auditor), RestoreError> {
        let (genesis, dir) = (config.read_genesis()?, config.data_dir.clone());
        let key = key::read(&config.key)?.public();
        if dir.join(STORE).exists() {
            return Err(RestoreError::Exists(dir));
        }
        if mark_path(&config.key).exists() {
            return Err(RestoreError::Used(config.key.clone()));
        }
        fs::create_dir_all(&dir).map_err(place(&dir))?;
        let kv = RocksKv::open(&dir.join(UNFINISHED), Options::default())?;
        let closed = kv.closed();
        let auditor = Auditor::open(Arc::new(kv), &genesis, &dir, Keeps::Everything)?;
        let restore = Self {
            genesis,
            dir,
            node: config.node,
            key,
            closed,
        };
        restore.check_new(&auditor)?;
        Ok((restore, auditor))
    }

    fn check_new(&self, auditor: &Auditor) -> Result<(), RestoreError> {
        match auditor.names_node(&self.genesis, self.node, &self.key)? {
            true => Err(RestoreError::Named { node: self.node }),
            false => Ok(()),
        }
    }

    /// Moves the store to its place, after all blocks were executed.
    ///
    /// # Errors
    /// The chain names the node or its key; the store can't be moved.
    pub fn finish(self, auditor: Auditor) -> Result<(), RestoreError> {
        self.check_new(&auditor)?;
        auditor.sync()?;
        drop(auditor);
        if !self.closed.wait(CLOSED_WITHIN) {
            return Err(RestoreError::StillOpen);
        }
        let from = self.dir.join(UNFINISHED);
        let to = self.dir.join(STORE);
        // The seal first: without it the store is sealed anew at its start, and not believed less.
        let (seal_from, seal_to) = (beside(&from), beside(&to));
        if seal_to.exists() {
            fs::remove_dir_all(&seal_to).map_err(place(&seal_to))?;
        }
        if seal_from.exists() {
            files::rename(&seal_from, &seal_to).map_err(place(&seal_to))?;
        }
        files::rename(&from, &to).map_err(place(&to))
    }
}

fn beside(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(SEAL);
    name.into()
}

fn place(path: &Path) -> impl FnOnce(io::Error) -> RestoreError {
    let path = path.to_owned();
    move |source| RestoreError::Place { path, source }
}
