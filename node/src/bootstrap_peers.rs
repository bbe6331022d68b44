//! The validators that a new node connects to before it has the chain.
//!
//! A new node knows the validators of the genesis file. It learns of others from the chain, which
//! it does not have yet, and all validators of the genesis may have been removed. So `lamplighter
//! node join` asks a running node for the validators and writes them to a file in the data
//! directory. That file determines who may connect, and proves nothing: the chain that they send is
//! checked from the genesis file upwards.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lamplighter_ledger::AnnouncedValidators;
use lamplighter_system::files;
use lamplighter_types::{Validator, ValidatorSet};
use serde::{Deserialize, Serialize};

/// The file in the data directory.
const FILE: &str = "peers.json";

/// The reason why the file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapPeersError {
    #[error("reading or writing {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} does not name validators", path.display())]
    Malformed {
        path: PathBuf,
        source: serde_json::Error,
    },
}

/// The validators at a height, as another node reported them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootstrapPeers {
    /// From this height on the node's own chain names the validators.
    pub height: u64,
    pub validators: Vec<Validator>,
}

impl BootstrapPeers {
    /// Reads the file of a data directory; no validators if there is none.
    pub fn read(data_dir: &Path) -> Result<Self, BootstrapPeersError> {
        let path = data_dir.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|source| BootstrapPeersError::Malformed { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(BootstrapPeersError::Io { path, source }),
        }
    }

    /// Writes the file durably.
    pub fn write(&self, data_dir: &Path) -> Result<(), BootstrapPeersError> {
        let path = data_dir.join(FILE);
        let bytes = serde_json::to_vec_pretty(self).expect("validators have a JSON form");
        fs::create_dir_all(data_dir)
            .and_then(|()| files::replace(&path, &bytes))
            .map_err(|source| BootstrapPeersError::Io { path, source })
    }
}

impl From<BootstrapPeers> for AnnouncedValidators {
    fn from(BootstrapPeers { height, validators }: BootstrapPeers) -> Self {
        let validators = ValidatorSet { validators };
        Self { height, validators }
    }
}
