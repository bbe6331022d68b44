//! Who is on the allow-list, who is connected, and what went wrong last with each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use crate::config::PEERS_MAX;
use crate::error::{LinkError, chain};
use crate::link::Link;
use crate::{NodeKey, Peers};

/// The same trouble with the same peer is logged again after this time.
const REPEAT_LOG_AFTER: Duration = Duration::from_secs(60);

/// What a status page says about a peer on the allow-list.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Where it is dialed; `None` if it must dial us.
    pub address: Option<String>,
    /// Since when it is connected; `None` if it is not.
    pub connected_for: Option<Duration>,
    /// What its service said in the hello; empty if it is not connected.
    pub greeting: Bytes,
    /// Last measured round trip of a ping.
    pub round_trip: Option<Duration>,
    /// Why the last connection or attempt ended.
    pub last_error: Option<String>,
}

#[derive(Default)]
struct Entry {
    address: Option<String>,
    link: Option<Arc<Link>>,
    last_error: Option<String>,
    logged_at: Option<Instant>,
}

/// What a new allow-list changed.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub added: Vec<NodeKey>,
    pub removed: Vec<NodeKey>,
    pub moved: Vec<NodeKey>,
}

pub(crate) struct Table {
    entries: RwLock<BTreeMap<NodeKey, Entry>>,
    connected: watch::Sender<BTreeSet<NodeKey>>,
}

impl Table {
    pub fn new() -> Table {
        Table {
            entries: RwLock::default(),
            connected: watch::Sender::default(),
        }
    }

    /// Takes over a new allow-list and closes the links of those who are no longer on it.
    pub fn set(&self, own: NodeKey, peers: &Peers) -> Change {
        let listed = usable(own, peers);
        let mut entries = self.write();
        let mut change = Change::default();
        let gone = entries.keys().filter(|key| !listed.contains_key(key));
        change.removed = gone.copied().collect();
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
                change.moved.push(key);
            }
        }
        self.publish(&entries);
        change
    }

    /// `None` if the key is not on the list; otherwise its address, if it has one.
    pub fn find(&self, key: &NodeKey) -> Option<Option<String>> {
        self.read().get(key).map(|entry| entry.address.clone())
    }

    pub fn link(&self, key: &NodeKey) -> Option<Arc<Link>> {
        self.read().get(key).and_then(|entry| entry.link.clone())
    }

    /// Makes a link the one that is used for its peer; an older one is closed.
    pub fn attach(&self, link: &Arc<Link>) -> Result<(), LinkError> {
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

    /// Takes a link that ended out, unless a newer one has its place.
    pub fn detach(&self, link: &Arc<Link>) {
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

    /// Remembers why a connection to a listed peer ended or was not made, and logs it if it is
    /// new or was not said for a while.
    pub fn note(&self, key: NodeKey, error: &LinkError) {
        let text = chain(error);
        let mut entries = self.write();
        let Some(entry) = entries.get_mut(&key) else {
            return;
        };
        let said = entry
            .logged_at
            .is_some_and(|at| at.elapsed() < REPEAT_LOG_AFTER)
            && entry.last_error.as_ref() == Some(&text);
        if !said {
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

    fn publish(&self, entries: &BTreeMap<NodeKey, Entry>) {
        let linked = entries.iter().filter(|(_, entry)| entry.link.is_some());
        let now: BTreeSet<NodeKey> = linked.map(|(key, _)| *key).collect();
        self.connected.send_if_modified(|old| {
            let changed = *old != now;
            *old = now;
            changed
        });
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<NodeKey, Entry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<NodeKey, Entry>> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
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

/// The list without ourselves and without what cannot be a peer, each key once.
fn usable(own: NodeKey, peers: &Peers) -> BTreeMap<NodeKey, Option<String>> {
    let mut listed = BTreeMap::new();
    for peer in &peers.0 {
        if peer.key == own {
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
