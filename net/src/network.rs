//! The handle by which the rest of the node uses the network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::error::{NetError, ServiceError};
use crate::link::Link;
use crate::shared::{Counters, InUse, Shared};
use crate::table::PeerStatus;
use crate::{Config, Lane, NodeKey, Peers, accept, dial, probe};

/// What a node does with what its peers send.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// Answers a request. Requests run side by side, up to the lane's limit for each peer. The
    /// future is dropped when the caller's timeout has passed or the link has ended; what must
    /// be finished anyway belongs into a task of its own.
    async fn request(&self, from: NodeKey, lane: Lane, body: Bytes) -> Result<Bytes, ServiceError>;

    /// Takes a notification. One after the other for each peer and lane, in the order of
    /// sending; while one is being taken, answers behind it on the lane may have to wait, so it
    /// must not wait for a request to the same peer on the same lane.
    async fn notify(&self, from: NodeKey, lane: Lane, body: Bytes);

    /// What peers are told in the hello, at most [`crate::GREETING_BYTES_MAX`] bytes: a name, a
    /// height. The network does not look into it.
    fn greeting(&self) -> Bytes {
        Bytes::new()
    }

    /// Judges the greeting of a peer that is on the allow-list. An error is the reason to refuse
    /// it, which the peer is told, cut at [`crate::ERROR_TEXT_BYTES_MAX`] bytes.
    async fn judge(&self, _from: NodeKey, _greeting: Bytes) -> Result<(), String> {
        Ok(())
    }

    /// Hears that a peer refused this node in the hello, and why in the peer's words.
    fn refused(&self, _by: NodeKey, _reason: &str) {}
}

/// A node's network. Clones share it; the last one dropped stops it.
#[derive(Clone)]
pub struct Network {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    local_address: SocketAddr,
    _stop: DropGuard,
}

impl Network {
    /// Listens, and keeps all `peers` connected from now on, also as the list changes.
    ///
    /// # Errors
    /// [`NetError::Secret`], [`NetError::NoiseKeys`], and [`NetError::Listen`] if the address is
    /// in use or not ours.
    pub async fn start(
        config: Config,
        peers: watch::Receiver<Peers>,
        service: Arc<dyn Service>,
    ) -> Result<Network, NetError> {
        let shared = Arc::new(Shared::new(&config, service)?);
        let address = config.listen;
        let listen = |source| NetError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let local_address = listener.local_addr().map_err(listen)?;
        tracing::info!(key = %shared.key, %local_address, "network started");
        shared.tasks.spawn(accept::run(shared.clone(), listener));
        shared.tasks.spawn(follow(shared.clone(), peers));
        shared.tasks.spawn(probe::run(shared.clone()));
        let stop = shared.stop.clone().drop_guard();
        Ok(Network {
            inner: Arc::new(Inner {
                shared,
                local_address,
                _stop: stop,
            }),
        })
    }

    /// This node's own key.
    pub fn key(&self) -> NodeKey {
        self.inner.shared.key
    }

    /// The address on which connections are accepted, with the port that the system chose.
    pub fn local_address(&self) -> SocketAddr {
        self.inner.local_address
    }

    /// Sends a request and waits for the answer, at most `timeout`
    /// (and [`crate::REQUEST_TIMEOUT_MAX`]).
    ///
    /// # Errors
    /// `TooLarge`, `NotConnected`, `Busy` (at once, if the lane's limit is reached), `Timeout`,
    /// `Disconnected` (at once, when the link is lost), `Service` (what the peer answered).
    pub async fn request(
        &self,
        to: NodeKey,
        lane: Lane,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, NetError> {
        self.link(to)?.lane(lane).request(body, timeout).await
    }

    /// Queues a notification, in order with others of this lane; there is no word on whether it
    /// arrived.
    ///
    /// # Errors
    /// `TooLarge`, `NotConnected`, `Disconnected`, and `Busy` if the queue is full; then the
    /// notification is dropped.
    pub fn notify(&self, to: NodeKey, lane: Lane, body: Bytes) -> Result<(), NetError> {
        self.link(to)?.lane(lane).notify(body)
    }

    /// The peers that are connected, now and as it changes.
    pub fn connected(&self) -> watch::Receiver<BTreeSet<NodeKey>> {
        self.inner.shared.table.connected()
    }

    /// All peers on the allow-list, for status pages.
    pub fn status(&self) -> BTreeMap<NodeKey, PeerStatus> {
        self.inner.shared.table.status()
    }

    /// Counts since the start, for metrics.
    pub fn counters(&self) -> Counters {
        self.inner.shared.counts.get()
    }

    /// Waits until something else is known of another process with this node's key than `known`;
    /// returns what, for people.
    pub async fn key_in_use(&self, known: Option<&str>) -> Option<String> {
        let mut in_use = self.inner.shared.in_use.subscribe();
        let told = |now: &Option<InUse>| now.as_ref().map(|now| now.told.clone());
        let changed = in_use.wait_for(|now| told(now).as_deref() != known).await;
        told(&changed.expect("the sender lives as long as self"))
    }

    /// Says goodbye to all peers, closes the port and waits until no task is left.
    pub async fn shutdown(&self) {
        let shared = &self.inner.shared;
        shared.table.close_all();
        shared.stop.cancel();
        shared.tasks.close();
        shared.tasks.wait().await;
    }

    fn link(&self, to: NodeKey) -> Result<Arc<Link>, NetError> {
        self.inner
            .shared
            .table
            .link(&to)
            .ok_or(NetError::NotConnected { to })
    }
}

/// A dialing task, and how to wake and end it.
struct Dialer {
    moved: Arc<Notify>,
    _stop: DropGuard,
}

/// Follows the allow-list.
async fn follow(shared: Arc<Shared>, mut peers: watch::Receiver<Peers>) {
    let mut dialers: BTreeMap<NodeKey, Dialer> = BTreeMap::new();
    loop {
        let list = peers.borrow_and_update().clone();
        let own = list.0.iter().find(|peer| peer.key == shared.key);
        shared.set_own_address(own.and_then(|peer| peer.address.clone()));
        let change = shared.table.set(shared.key, &list);
        tracing::debug!(?change, "allow-list");
        for key in change.removed {
            dialers.remove(&key);
        }
        for key in change.added.into_iter().filter(|key| shared.dials(key)) {
            dialers.insert(key, dialer(&shared, key));
        }
        for dialer in change.moved.iter().filter_map(|key| dialers.get(key)) {
            dialer.moved.notify_one();
        }
        let changed = shared.stop.run_until_cancelled(peers.changed()).await;
        match changed {
            None => return,
            Some(Ok(())) => {}
            // The list's owner is gone, so it cannot change any more.
            Some(Err(_)) => return shared.stop.cancelled().await,
        }
    }
}

fn dialer(shared: &Arc<Shared>, key: NodeKey) -> Dialer {
    let (moved, stop) = (Arc::new(Notify::new()), CancellationToken::new());
    let guard = stop.clone().drop_guard();
    let task = dial::run(shared.clone(), key, moved.clone(), stop);
    shared.tasks.spawn(task);
    Dialer {
        moved,
        _stop: guard,
    }
}
