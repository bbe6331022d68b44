//! The peers on the allow-list, their links, and the last error of each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lamplighter_system::error_chain;
use tokio::sync::watch;

use crate::config::PEERS_MAX;
use crate::error::LinkError;
use crate::link::PeerLink;
use crate::{AllowList, NodeKey};

/// The time after which the same error of the same peer is logged again.
const REPEAT_LOG_AFTER: Duration = Duration::from_secs(60);

/// The status of a peer on the allow-list.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Its address; `None` if it must dial this node.
    pub address: Option<String>,
    /// The time since it connected; `None` if it is not connected.
    pub connected_for: Option<Duration>,
    /// The greeting of its service; empty if it is not connected.
    pub greeting: Bytes,
    /// The last measured round trip of a ping.
    pub round_trip: Option<Duration>,
    /// The reason why the last connection or attempt ended.
    pub last_error: Option<String>,
}

#[derive(Default)]
struct PeerEntry {
    address: Option<String>,
    link: Option<Arc<PeerLink>>,
    last_error: Option<String>,
    logged_at: Option<Instant>,
}

/// The difference between two allow-lists.
#[derive(Debug, Default)]
pub(crate) struct AllowListChange {
    pub added: Vec<NodeKey>,
    pub removed: Vec<NodeKey>,
    pub address_changed: Vec<NodeKey>,
}

pub(crate) struct PeerTable {
    entries: RwLock<BTreeMap<NodeKey, PeerEntry>>,
    connected: watch::Sender<BTreeSet<NodeKey>>,
}

impl PeerTable {
    pub fn new() -> PeerTable {
        PeerTable {
            entries: RwLock::default(),
            connected: watch::Sender::default(),
        }
    }

    /// Replaces the allow-list, and closes the links of peers that are no longer on it.
    pub fn set(&self, local_key: NodeKey, peers: &AllowList) -> AllowListChange {
        let listed = valid_peers(local_key, peers);
        let mut entries = self.write();
        let mut change = AllowListChange::default();
        let removed = entries.keys().filter(|key| !listed.contains_key(key));
        change.removed = removed.copied().collect();
        for key in &change.removed {
            if let Some(link) = entries.remove(key).and_then(|entry| entry.link) {
                link.close(LinkError::Removed);
            }
        }
        for (key, address) in listed {
            if !entries.contains_key(&key) {
                change.added.push(key);
            }
            let entry = entries.entry(key).or_default();
            if entry.address != address {
                entry.address = address;
                change.address_changed.push(key);
            }
        }
        self.publish(&entries);
        change
    }

    /// `None` if the key is not on the list; otherwise its address, if it has one.
    pub fn find(&self, key: &NodeKey) -> Option<Option<String>> {
        self.read().get(key).map(|entry| entry.address.clone())
    }

    pub fn link(&self, key: &NodeKey) -> Option<Arc<PeerLink>> {
        self.read().get(key).and_then(|entry| entry.link.clone())
    }

    /// Uses a link for its peer from now on, and closes an older one.
    pub fn attach(&self, link: &Arc<PeerLink>) -> Result<(), LinkError> {
        let mut entries = self.write();
        // The list may have changed during the handshake.
        let entry = entries
            .get_mut(&link.key)
            .ok_or(LinkError::NotAllowed(link.key))?;
        if let Some(old) = entry.link.replace(link.clone()) {
            old.close(LinkError::Replaced);
        }
        entry.last_error = None;
        entry.logged_at = None;
        self.publish(&entries);
        Ok(())
    }

    /// Removes a link that ended, unless a newer one has replaced it.
    pub fn detach(&self, link: &Arc<PeerLink>) {
        let mut entries = self.write();
        if let Some(entry) = entries.get_mut(&link.key)
            && entry
                .link
                .as_ref()
                .is_some_and(|current| Arc::ptr_eq(current, link))
        {
            entry.link = None;
            self.publish(&entries);
        }
    }

    /// Records why a connection to a listed peer ended or was not made, and logs the error if it is
    /// new or was not logged for a while.
    pub fn record_error(&self, key: NodeKey, error: &LinkError) {
        let text = error_chain(error);
        let mut entries = self.write();
        let Some(entry) = entries.get_mut(&key) else {
            return;
        };
        let logged = entry
            .logged_at
            .is_some_and(|at| at.elapsed() < REPEAT_LOG_AFTER)
            && entry.last_error.as_ref() == Some(&text);
        if !logged {
            tracing::warn!(peer = ?key, "no connection: {text}");
            entry.logged_at = Some(Instant::now());
        }
        entry.last_error = Some(text);
    }

    pub fn close_all(&self) {
        for entry in self.read().values() {
            if let Some(link) = &entry.link {
                link.close(LinkError::Shutdown);
            }
        }
    }

    pub fn connected(&self) -> watch::Receiver<BTreeSet<NodeKey>> {
        self.connected.subscribe()
    }

    pub fn status(&self) -> BTreeMap<NodeKey, PeerStatus> {
        let entries = self.read();
        entries
            .iter()
            .map(|(key, entry)| (*key, entry.status()))
            .collect()
    }

    fn publish(&self, entries: &BTreeMap<NodeKey, PeerEntry>) {
        let linked = entries.iter().filter(|(_, entry)| entry.link.is_some());
        let now: BTreeSet<NodeKey> = linked.map(|(key, _)| *key).collect();
        self.connected.send_if_modified(|old| {
            let changed = *old != now;
            *old = now;
            changed
        });
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<NodeKey, PeerEntry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<NodeKey, PeerEntry>> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PeerEntry {
    fn status(&self) -> PeerStatus {
        let link = self.link.as_ref();
        PeerStatus {
            address: self.address.clone(),
            connected_for: link.map(|link| link.since.elapsed()),
            greeting: link.map(|link| link.greeting.clone()).unwrap_or_default(),
            round_trip: link.and_then(|link| link.round_trip()),
            last_error: self.last_error.clone(),
        }
    }
}

/// The list without this node and without invalid keys, each key once.
fn valid_peers(local_key: NodeKey, peers: &AllowList) -> BTreeMap<NodeKey, Option<String>> {
    let mut listed = BTreeMap::new();
    for peer in &peers.0 {
        if peer.key == local_key {
            continue;
        }
        if peer.key.peer_id().is_none() {
            tracing::error!(key = %peer.key, "a listed peer has no valid ed25519 key");
        } else if listed.len() >= PEERS_MAX && !listed.contains_key(&peer.key) {
            tracing::error!(key = %peer.key, PEERS_MAX, "too many peers, this one is left out");
        } else if listed.insert(peer.key, peer.address.clone()).is_some() {
            tracing::error!(key = %peer.key, "a peer is listed twice, the last entry counts");
        }
    }
    listed
}
