//! Whom a node that joins a grown-up ledger asks first.
//!
//! A new node knows the validators of the genesis file. Later ones it learns from the chain, which
//! it does not have yet, and all that the genesis names may be gone. So `lamplighter node join`
//! asks a node who is there now and notes it in the data directory. The note says who may connect,
//! not what is true: the chain that they send is checked from the genesis file upwards.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lamplighter_types::{PublicKey, Validator};
use serde::{Deserialize, Serialize};

/// In the data directory.
const FILE: &str = "peers.json";

/// Why the note can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    #[error("reading or writing {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} does not name validators", path.display())]
    Malformed {
        path: PathBuf,
        source: serde_json::Error,
    },
}

/// The validators at a height, as somebody told them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstPeers {
    /// From here on the node's own chain knows better.
    pub height: u64,
    pub validators: Vec<Validator>,
}

impl FirstPeers {
    /// Reads the note of a data directory; nobody if there is none.
    pub fn read(data_dir: &Path) -> Result<Self, PeersError> {
        let path = data_dir.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|source| PeersError::Malformed { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(PeersError::Io { path, source }),
        }
    }

    /// Writes the note.
    pub fn write(&self, data_dir: &Path) -> Result<(), PeersError> {
        let path = data_dir.join(FILE);
        let bytes = serde_json::to_vec_pretty(self).expect("validators have a JSON form");
        fs::create_dir_all(data_dir)
            .and_then(|()| fs::write(&path, bytes))
            .map_err(|source| PeersError::Io { path, source })
    }

    /// Those to go by while the chain has this height.
    pub(crate) fn at(&self, height: u64) -> &[Validator] {
        if height < self.height {
            &self.validators
        } else {
            &[]
        }
    }

    pub(crate) fn key_of(&self, height: u64, node: u64) -> Option<PublicKey> {
        let found = self.at(height).iter().find(|v| v.node == node);
        found.map(|v| v.key)
    }

    pub(crate) fn node_of(&self, height: u64, key: &PublicKey) -> Option<u64> {
        let found = self.at(height).iter().find(|v| v.key == *key);
        found.map(|v| v.node)
    }
}
