//! The identity of a data directory, which protects against a node that restarts without its data.
//!
//! A node whose data directory was wiped no longer has its votes and the list of headers that it
//! signed. Under its old identity it could vote twice in one term, or count towards a majority for
//! entries that it lost. So a key belongs to one data directory: each directory has a random
//! [`StoreId`], made when it is first opened, and the id of a key is recorded in two places.
//!
//! - A file beside the node's key ([`claim`]). The node refuses to start with another directory,
//!   before it connects to any other.
//! - The store of every peer that it ever connected to ([`verify_greeting`]): the id is in the
//!   greeting, and a peer accepts only the first one that it got with a key. So deleting the file
//!   or copying the key does not help.
//!
//! A peer that never met the node relies on the newest certificates: a node that signed one of them
//! and reports no signature, or only old ones, was wiped or restored from an old copy.
//!
//! This does not protect against a malicious owner of the key, who can claim any id.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use bytes::Bytes;
use lamplighter_store::{Cf, Durability, Kv, StoreError, WriteBatch};
use lamplighter_system::files;
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
/// Blocks by which a certificate may be ahead of the signature that a peer reports, as the peer
/// signs while its greeting is sent: the number of blocks that may be uncertified.
const SIGNED_SLACK: u64 = 256;
/// The beginning of a refusal because of the store identity; a text for the operator follows.
pub(crate) const REFUSAL: &str = "another data directory: ";

/// The reason why a node does not start with its data directory.
#[derive(Debug, thiserror::Error)]
pub enum StoreIdentityError {
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

/// The remedy for the operator.
const REMEDY: &str = "it was wiped, moved or replaced. If it was moved, set data_dir to where it \
    is. If it is lost, this node has forgotten what it voted for and signed, and can't come back \
    under its old identity: join as a new node, with a new key and a new id (`lamplighter node \
    join`), and have the old one removed by governance";

/// The random id of a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoreId([u8; 16]);

/// The greeting of a node in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeGreeting {
    pub store: StoreId,
    /// The height of the newest header that it signed.
    pub signed: Option<u64>,
}

/// The content of the file beside the key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyMark {
    chain_id: Hash,
    node: u64,
    store: String,
}

/// The path of the mark of a key: `node.key.used` beside `node.key`.
pub fn mark_path(key: &Path) -> PathBuf {
    let mut name = key.as_os_str().to_owned();
    name.push(".used");
    name.into()
}

/// Refuses a key that was used with a data directory if there is none in `data`. To be called
/// before a file is created there.
///
/// # Errors
/// It was, or the mark of the key can't be read.
pub fn require_data(key: &Path, data: &Path) -> Result<(), StoreIdentityError> {
    let has_data = data.join("db").join("CURRENT").exists();
    match read_mark(key)? {
        Some(_) if !has_data => Err(wiped(key, data)),
        _ => Ok(()),
    }
}

fn wiped(key: &Path, data: &Path) -> StoreIdentityError {
    StoreIdentityError::Wiped {
        key: key.to_owned(),
        data: data.to_owned(),
    }
}

/// Compares the open store with the key's mark. For a key that was never used it writes the mark
/// durably, before the node connects to any other.
pub(crate) fn claim(
    key: &Path,
    data: &Path,
    kv: &dyn Kv,
    chain_id: Hash,
    node: u64,
) -> Result<StoreId, StoreIdentityError> {
    let id = store_id(kv)?;
    let store = hex::encode(id.0);
    match read_mark(key)? {
        Some(mark) if mark.store != store => Err(wiped(key, data)),
        Some(mark) if mark.chain_id != chain_id || mark.node != node => {
            Err(StoreIdentityError::OtherNode {
                key: key.to_owned(),
                was: mark.node,
                was_chain: mark.chain_id,
                node,
                chain: chain_id,
            })
        }
        Some(_) => Ok(id),
        None => {
            let mark = KeyMark {
                chain_id,
                node,
                store,
            };
            write_mark(key, &mark);
            Ok(id)
        }
    }
}

fn read_mark(key: &Path) -> Result<Option<KeyMark>, StoreIdentityError> {
    let path = mark_path(key);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| StoreIdentityError::Malformed { path, source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreIdentityError::Read { path, source }),
    }
}

/// Writes the mark if the directory of the key is writable; otherwise the peers' records have to
/// suffice.
fn write_mark(key: &Path, mark: &KeyMark) {
    let path = mark_path(key);
    let mut content = serde_json::to_vec_pretty(mark).expect("a mark has a JSON form");
    content.push(b'\n');
    if let Err(error) = files::replace(&path, &content) {
        tracing::warn!(
            path = %path.display(), %error,
            "what the key is used with can't be noted beside it"
        );
    }
}

/// Reads the id of a store; creates and syncs one if there is none.
fn store_id(kv: &dyn Kv) -> Result<StoreId, StoreIdentityError> {
    if let Some(found) = kv.get(Cf::Meta, STORE_ID)? {
        return codec::decode_stored(&found).map_err(StoreIdentityError::Damaged);
    }
    let mut id = StoreId([0; 16]);
    OsRng
        .try_fill_bytes(&mut id.0)
        .map_err(|error| StoreIdentityError::Random(KeyError::Random(error)))?;
    let mut batch = WriteBatch::new();
    batch.put(Cf::Meta, STORE_ID, codec::encode(&id));
    kv.write(batch, Durability::Synced)?;
    Ok(id)
}

impl NodeGreeting {
    pub fn encode(&self) -> Bytes {
        codec::encode(self).into()
    }
}

/// The facts about a peer that this node knows without the peer's greeting.
pub(crate) struct PeerRecord {
    pub key: PublicKey,
    /// The id of the peer, if this node knows it.
    pub node: Option<u64>,
    /// The height of the newest certificate with its signature.
    pub certified: Option<u64>,
}

impl PeerRecord {
    fn name(&self) -> String {
        self.node
            .map_or_else(String::new, |node| format!(" (node {node})"))
    }
}

/// Verifies a peer's greeting, and records the data directory of a new peer durably. The error is
/// the reason to refuse the peer.
pub(crate) fn verify_greeting(
    kv: &dyn Kv,
    peer: &PeerRecord,
    greeting: &[u8],
) -> Result<(), String> {
    let greeting: NodeGreeting =
        codec::decode(greeting).map_err(|error| format!("a malformed introduction: {error}"))?;
    let key = [PEER_STORE, &peer.key.0].concat();
    let failed = |error: StoreError| format!("this node can't judge: {error}");
    let first: Option<StoreId> = match kv.get(Cf::Meta, &key).map_err(failed)? {
        Some(found) => Some(codec::decode_stored(&found).map_err(|error| error.to_string())?),
        None => None,
    };
    if first.is_some_and(|first| first != greeting.store) {
        return Err(format!(
            "{REFUSAL}this key came with another one before{}; {REMEDY}",
            peer.name()
        ));
    }
    let signed = greeting.signed;
    if let Some(certified) = peer.certified
        && signed.is_none_or(|signed| signed.saturating_add(SIGNED_SLACK) < certified)
    {
        return Err(format!(
            "{REFUSAL}this key signed block {certified}, and the directory knows of nothing after \
             {}{}; {REMEDY}",
            signed.unwrap_or(0),
            peer.name()
        ));
    }
    if first.is_none() {
        let mut batch = WriteBatch::new();
        batch.put(Cf::Meta, key, codec::encode(&greeting.store));
        kv.write(batch, Durability::Synced).map_err(failed)?;
    }
    Ok(())
}

/// The validators that refuse this node because of its data directory.
#[derive(Debug)]
pub(crate) struct IdentityRefusals {
    /// The reason of each validator.
    reasons: Mutex<BTreeMap<PublicKey, String>>,
    /// The reason, once so many refuse it that one of them is honest.
    permanent: watch::Sender<Option<String>>,
    /// The summary for the operator.
    summary: watch::Sender<Option<String>>,
}

impl Default for IdentityRefusals {
    fn default() -> Self {
        Self {
            reasons: Mutex::default(),
            permanent: watch::Sender::new(None),
            summary: watch::Sender::new(None),
        }
    }
}

impl IdentityRefusals {
    /// Records a refusal. A single validator may lie, so the refusal is permanent only when more
    /// validators refuse the node than may lie.
    pub fn record(&self, validators: &ValidatorSet, by: PublicKey, reason: &str) {
        if !reason.starts_with(REFUSAL) || validators.by_key(&by).is_none() {
            return;
        }
        let mut all = self.reasons.lock().expect("no code panics with this lock");
        all.insert(by, reason.to_owned());
        all.retain(|key, _| validators.by_key(key).is_some());
        let may_lie = validators.validators.len().saturating_sub(1) / 3;
        tracing::error!(%by, refused_by = all.len(), reason, "a validator refuses this node");
        self.publish(validators, all.len(), reason);
        if all.len() > may_lie {
            self.permanent.send_replace(Some(reason.to_owned()));
        }
    }

    /// Removes the refusals of validators that have accepted this node since.
    pub fn retract<'a>(
        &self,
        validators: &ValidatorSet,
        by: impl IntoIterator<Item = &'a PublicKey>,
    ) {
        let mut all = self.reasons.lock().expect("no code panics with this lock");
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
            Some(reason) => self.publish(validators, all.len(), reason),
            None => _ = self.summary.send_replace(None),
        }
    }

    fn publish(&self, validators: &ValidatorSet, by: usize, reason: &str) {
        let of = validators.validators.len();
        let summary = format!("{by} of {of} validators refuse this node: {reason}");
        self.summary.send_replace(Some(summary));
    }

    /// The refusing validators and the reason, for the operator.
    pub fn watch_summary(&self) -> watch::Receiver<Option<String>> {
        self.summary.subscribe()
    }

    /// Waits until the refusal is permanent; returns the reason.
    pub async fn permanent(&self) -> String {
        let mut reason = self.permanent.subscribe();
        let permanent = reason.wait_for(Option::is_some).await;
        let permanent = permanent.expect("the sender lives as long as self").clone();
        permanent.expect("it was waited for")
    }
}

#[cfg(test)]
mod tests;
