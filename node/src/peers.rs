//! Whom a node talks to; and whom one asks first that joins a grown-up ledger.
//!
//! A new node knows the validators of the genesis file. Later ones it learns from the chain, which
//! it does not have yet, and all that the genesis names may be gone. So `lamplighter node join`
//! asks a node who is there now and notes it in the data directory. The note says who may connect,
//! not what is true: the chain that they send is checked from the genesis file upwards.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lamplighter_ledger::{AnnouncedValidators, Handle, HeadInfo, Membership};
use lamplighter_net::{NodeKey, Peer, Peers as AllowList};
use lamplighter_types::{Validator, ValidatorSet};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

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

    /// As the ledger takes it.
    pub(crate) fn into_later(self) -> AnnouncedValidators {
        let Self { height, validators } = self;
        let validators = ValidatorSet { validators };
        AnnouncedValidators { height, validators }
    }
}

/// Whom this node talks to: who is on the ledger, and while its chain is behind, who validates
/// later on.
pub(crate) struct Contacts {
    membership: watch::Receiver<Membership>,
    later: watch::Receiver<Option<AnnouncedValidators>>,
    head: watch::Receiver<HeadInfo>,
    /// Height of the chain when the list was made last.
    listed_at: u64,
}

impl Contacts {
    pub(crate) fn of(handle: &Handle) -> Self {
        Self {
            membership: handle.watch_membership(),
            later: handle.watch_announced_validators(),
            head: handle.watch_head(),
            listed_at: 0,
        }
    }

    /// Waits until the list may be another one; `false` when the ledger has ended.
    pub(crate) async fn changed(&mut self) -> bool {
        let ends = self.later.borrow().as_ref().map(|later| later.height);
        let listed_at = Some(self.listed_at);
        tokio::select! {
            changed = self.membership.changed() => changed.is_ok(),
            changed = self.later.changed() => changed.is_ok(),
            // The chain knows better from here on.
            reached = self.head.wait_for(|head| Some(head.height) >= ends),
                if listed_at < ends => reached.is_ok(),
        }
    }

    /// The list of this moment.
    pub(crate) fn list(&mut self) -> AllowList {
        let membership = self.membership.borrow_and_update();
        let later = self.later.borrow_and_update();
        self.listed_at = self.head.borrow().height;
        let later = later.iter().filter(|later| self.listed_at < later.height);
        let later = later.flat_map(|later| &later.validators.validators);
        let unnamed = later.filter(|validator| membership.node_of(&validator.key).is_none());
        let unnamed = unnamed.map(|v| (v.key, v.address.as_str()));
        let named = membership.all().map(|(_, key, address)| (key, address));
        let peers = named.chain(unnamed).map(|(key, address)| Peer {
            key: NodeKey(key.0),
            address: (!address.is_empty()).then(|| address.to_owned()),
        });
        AllowList(peers.collect())
    }
}
