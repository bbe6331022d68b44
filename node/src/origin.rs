//! Guards against a node that comes back without its memory.
//!
//! A node whose data directory was wiped has forgotten what it voted for and which headers it
//! signed. Under its old identity it could vote twice in one term, or count towards a majority for
//! what it no longer has. So a key belongs to one data directory: each directory has a random
//! [`StoreId`], made when it is first opened, and two things remember which one a key came with.
//!
//! - A file beside the node's key ([`claim`]). The node itself refuses to start with another
//!   directory, before it says anything to anybody.
//! - Every peer that it ever connected to ([`judge`]): the id is in the hello, and the first one
//!   that a peer saw under a key is the only one that it accepts. So a file that was deleted, or a
//!   key that was copied, does not help.
//!
//! A peer that never met the node goes by the newest certificates: who signed one of them and says
//! that it never signed anything, or nothing for long, was wiped, or was set back to an old copy.
//!
//! Somebody who has the key and wants to do harm can claim any id: this is not against that.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use bytes::Bytes;
use lamplighter_store::{Batch, Cf, Durability, Kv, StoreError};
use lamplighter_types::codec::{self, CodecError};
use lamplighter_types::{Hash, PublicKey, ValidatorSet};
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::key::KeyError;

/// → the id of this data directory
const STORE_ID: &[u8] = b"node/store";
/// public key → the id of the data directory with which a peer came first
const PEER_STORE: &[u8] = b"node/peer/";
/// Blocks that a certificate may be ahead of what a peer says that it signed: while its hello is on
/// its way it goes on signing. As many as may be uncertified.
const SIGNED_SLACK: u64 = 256;
/// How a refusal begins that is about this; after it comes text for people.
pub(crate) const REFUSAL: &str = "another data directory: ";

/// Why a node does not start with its data directory.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    #[error(
        "the key {} belongs to a data directory that is not in {}: {REMEDY}",
        key.display(), data.display()
    )]
    Wiped { key: PathBuf, data: PathBuf },
    #[error(
        "the key {} was used by node {was} of chain {was_chain}, and this configuration is of node \
         {node} of chain {chain}",
        key.display()
    )]
    OtherNode {
        key: PathBuf,
        was: u64,
        was_chain: Hash,
        node: u64,
        chain: Hash,
    },
    #[error("reading {}, which says what the key was used with", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} does not say what the key was used with", path.display())]
    Malformed {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("the id of the data directory is damaged")]
    Damaged(#[source] CodecError),
    #[error("the store failed")]
    Store(#[from] StoreError),
    #[error("making an id for the data directory")]
    Random(#[from] KeyError),
}

/// What to do about it.
const REMEDY: &str = "it was wiped, moved or replaced. If it was moved, set data_dir to where it \
    is. If it is lost, this node has forgotten what it voted for and signed, and can't come back \
    under its old identity: join as a new node, with a new key and a new id (`lamplighter node \
    join`), and have the old one removed by governance";

/// The name of a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoreId([u8; 16]);

/// What a node says of itself in the hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Introduction {
    pub store: StoreId,
    /// The highest header that it ever signed.
    pub signed: Option<u64>,
}

/// The file beside the key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    chain_id: Hash,
    node: u64,
    store: String,
}

/// Where the mark of a key is: `node.key.used` beside `node.key`.
pub fn mark_path(key: &Path) -> PathBuf {
    let mut name = key.as_os_str().to_owned();
    name.push(".used");
    name.into()
}

/// Refuses a key that was used with a data directory if there is none in `data`. To be called
/// before anything is made there.
pub(crate) fn demand_data(key: &Path, data: &Path) -> Result<(), OriginError> {
    let has_data = data.join("db").join("CURRENT").exists();
    match read_mark(key)? {
        Some(_) if !has_data => Err(wiped(key, data)),
        _ => Ok(()),
    }
}

fn wiped(key: &Path, data: &Path) -> OriginError {
    OriginError::Wiped {
        key: key.to_owned(),
        data: data.to_owned(),
    }
}

/// Compares the open store with the key's mark. Of a key that was never used it makes the mark,
/// durably, before anybody hears of the node.
pub(crate) fn claim(
    key: &Path,
    data: &Path,
    kv: &dyn Kv,
    chain_id: Hash,
    node: u64,
) -> Result<StoreId, OriginError> {
    let id = store_id(kv)?;
    let store = hex::encode(id.0);
    match read_mark(key)? {
        Some(mark) if mark.store != store => Err(wiped(key, data)),
        Some(mark) if mark.chain_id != chain_id || mark.node != node => {
            Err(OriginError::OtherNode {
                key: key.to_owned(),
                was: mark.node,
                was_chain: mark.chain_id,
                node,
                chain: chain_id,
            })
        }
        Some(_) => Ok(id),
        None => {
            let mark = Mark {
                chain_id,
                node,
                store,
            };
            write_mark(key, &mark);
            Ok(id)
        }
    }
}

fn read_mark(key: &Path) -> Result<Option<Mark>, OriginError> {
    let path = mark_path(key);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| OriginError::Malformed { path, source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(OriginError::Read { path, source }),
    }
}

/// Keys may lie where nothing can be written. Then the peers' memory has to do.
fn write_mark(key: &Path, mark: &Mark) {
    let path = mark_path(key);
    if let Err(error) = try_write_mark(&path, mark) {
        tracing::warn!(
            path = %path.display(), %error,
            "what the key is used with can't be noted beside it"
        );
    }
}

fn try_write_mark(path: &Path, mark: &Mark) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    serde_json::to_writer_pretty(&mut file, mark)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// The id of a store, made and synced when there is none.
fn store_id(kv: &dyn Kv) -> Result<StoreId, OriginError> {
    if let Some(found) = kv.get(Cf::Meta, STORE_ID)? {
        return codec::decode_stored(&found).map_err(OriginError::Damaged);
    }
    let mut id = StoreId([0; 16]);
    OsRng
        .try_fill_bytes(&mut id.0)
        .map_err(|error| OriginError::Random(KeyError::Random(error)))?;
    let mut batch = Batch::new();
    batch.put(Cf::Meta, STORE_ID, codec::encode(&id));
    kv.write(batch, Durability::Synced)?;
    Ok(id)
}

impl Introduction {
    pub fn encode(&self) -> Bytes {
        codec::encode(self).into()
    }
}

/// What is known of a peer beside its introduction.
pub(crate) struct Known {
    pub key: PublicKey,
    /// Its id, if this node knows it.
    pub node: Option<u64>,
    /// The highest of the newest certificates that has its signature.
    pub certified: Option<u64>,
}

impl Known {
    fn name(&self) -> String {
        self.node
            .map_or_else(String::new, |node| format!(" (node {node})"))
    }
}

/// Judges a peer's introduction, and remembers the data directory of one that is new, durably. The
/// error is the reason to refuse it.
pub(crate) fn judge(kv: &dyn Kv, known: &Known, greeting: &[u8]) -> Result<(), String> {
    let introduction: Introduction =
        codec::decode(greeting).map_err(|error| format!("a malformed introduction: {error}"))?;
    let key = [PEER_STORE, &known.key.0].concat();
    let failed = |error: StoreError| format!("this node can't judge: {error}");
    let first: Option<StoreId> = match kv.get(Cf::Meta, &key).map_err(failed)? {
        Some(found) => Some(codec::decode_stored(&found).map_err(|error| error.to_string())?),
        None => None,
    };
    if first.is_some_and(|first| first != introduction.store) {
        return Err(format!(
            "{REFUSAL}this key came with another one before{}; {REMEDY}",
            known.name()
        ));
    }
    let signed = introduction.signed;
    if let Some(certified) = known.certified
        && signed.is_none_or(|signed| signed + SIGNED_SLACK < certified)
    {
        return Err(format!(
            "{REFUSAL}this key signed block {certified}, and the directory knows of nothing after \
             {}{}; {REMEDY}",
            signed.unwrap_or(0),
            known.name()
        ));
    }
    if first.is_none() {
        let mut batch = Batch::new();
        batch.put(Cf::Meta, key, codec::encode(&introduction.store));
        kv.write(batch, Durability::Synced).map_err(failed)?;
    }
    Ok(())
}

/// Who refuses this node because of its data directory.
#[derive(Debug)]
pub(crate) struct Refusals {
    /// Each with its reason.
    by: Mutex<BTreeMap<PublicKey, String>>,
    /// The reason, once so many refuse it that one of them is honest.
    for_good: watch::Sender<Option<String>>,
    /// What an operator should know of it, before that.
    told: watch::Sender<Option<String>>,
}

impl Default for Refusals {
    fn default() -> Self {
        Self {
            by: Mutex::default(),
            for_good: watch::Sender::new(None),
            told: watch::Sender::new(None),
        }
    }
}

impl Refusals {
    /// Notes a refusal. One validator alone may lie, so more of them must say the same than may
    /// lie.
    pub fn note(&self, validators: &ValidatorSet, by: PublicKey, reason: &str) {
        if !reason.starts_with(REFUSAL) || validators.by_key(&by).is_none() {
            return;
        }
        let mut all = self.by.lock().expect("nobody panics with the lock");
        all.insert(by, reason.to_owned());
        all.retain(|key, _| validators.by_key(key).is_some());
        let may_lie = validators.validators.len().saturating_sub(1) / 3;
        tracing::error!(%by, refused_by = all.len(), reason, "a validator refuses this node");
        self.tell(validators, all.len(), reason);
        if all.len() > may_lie {
            self.for_good.send_replace(Some(reason.to_owned()));
        }
    }

    /// Takes back the refusals of those that have taken this node since.
    pub fn take_back<'a>(
        &self,
        validators: &ValidatorSet,
        by: impl IntoIterator<Item = &'a PublicKey>,
    ) {
        let mut all = self.by.lock().expect("nobody panics with the lock");
        let before = all.len();
        for key in by {
            if all.remove(key).is_some() {
                tracing::info!(by = %key, "a validator that refused this node takes it now");
            }
        }
        all.retain(|key, _| validators.by_key(key).is_some());
        if all.len() == before {
            return;
        }
        match all.values().next() {
            Some(reason) => self.tell(validators, all.len(), reason),
            None => _ = self.told.send_replace(None),
        }
    }

    fn tell(&self, validators: &ValidatorSet, by: usize, reason: &str) {
        let of = validators.validators.len();
        let told = format!("{by} of {of} validators refuse this node: {reason}");
        self.told.send_replace(Some(told));
    }

    /// Who refuses this node and why, for people.
    pub fn told(&self) -> watch::Receiver<Option<String>> {
        self.told.subscribe()
    }

    /// Waits until this node has no place among the others any more; says why.
    pub async fn for_good(&self) -> String {
        let mut reason = self.for_good.subscribe();
        let found = reason.wait_for(Option::is_some).await;
        let found = found.expect("the sender lives as long as self").clone();
        found.expect("it was waited for")
    }
}

#[cfg(test)]
mod tests;
