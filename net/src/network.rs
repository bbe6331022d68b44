//! The handle by which the rest of the node uses the network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::error::{NetError, ServiceError};
use crate::link::PeerLink;
use crate::network_state::{Counters, KeyConflict, NetworkState};
use crate::peer_table::PeerStatus;
use crate::{AllowList, Lane, NetConfig, NodeKey, accept, dial, probe};

/// The handler of the messages that peers send.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// Answers a request. Requests run concurrently, up to the lane's limit for each peer. The
    /// future is dropped when the caller's timeout has passed or the link has ended; work that must
    /// finish anyway belongs into a task of its own.
    async fn request(&self, from: NodeKey, lane: Lane, body: Bytes) -> Result<Bytes, ServiceError>;

    /// Handles a notification. Those of one peer and lane come one after the other in the order of
    /// sending. Answers behind it on the lane may have to wait until it returns, so it must not
    /// wait for a request to the same peer on the same lane.
    async fn notify(&self, from: NodeKey, lane: Lane, body: Bytes);

    /// The greeting in this node's handshake, at most [`crate::GREETING_BYTES_MAX`] bytes: a name,
    /// a height. The network does not read it.
    fn greeting(&self) -> Bytes {
        Bytes::new()
    }

    /// Verifies the greeting of a peer that is on the allow-list. An error is the reason to refuse
    /// it, which is sent to the peer, truncated to [`crate::ERROR_TEXT_BYTES_MAX`] bytes.
    async fn verify_greeting(&self, _from: NodeKey, _greeting: Bytes) -> Result<(), String> {
        Ok(())
    }

    /// Called when a peer refused this node's handshake, with the reason that the peer sent.
    fn on_refused(&self, _by: NodeKey, _reason: &str) {}
}

/// A node's network. Clones share it; the last one dropped stops it.
#[derive(Clone)]
pub struct Network {
    inner: Arc<RunningNetwork>,
}

/// A reference that does not keep the network running, for the parts that the network's service
/// owns.
#[derive(Clone)]
pub struct WeakNetwork(Weak<RunningNetwork>);

impl WeakNetwork {
    /// The network, while it runs.
    pub fn upgrade(&self) -> Option<Network> {
        self.0.upgrade().map(|inner| Network { inner })
    }
}

struct RunningNetwork {
    state: Arc<NetworkState>,
    local_address: SocketAddr,
    _stop: DropGuard,
}

impl Network {
    /// Listens, and keeps all `peers` connected from now on, also as the list changes.
    ///
    /// # Errors
    /// [`NetError::Secret`], [`NetError::NoiseKeys`], and [`NetError::Listen`] if the address is
    /// in use or not of this machine.
    pub async fn start(
        config: NetConfig,
        peers: watch::Receiver<AllowList>,
        service: Arc<dyn Service>,
    ) -> Result<Network, NetError> {
        let state = Arc::new(NetworkState::new(&config, service)?);
        let address = config.listen;
        let listen = |source| NetError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let local_address = listener.local_addr().map_err(listen)?;
        tracing::info!(key = %state.key, %local_address, "network started");
        state.tasks.spawn(accept::run(state.clone(), listener));
        state.tasks.spawn(follow_allow_list(state.clone(), peers));
        state.tasks.spawn(probe::run(state.clone()));
        let stop = state.stop.clone().drop_guard();
        Ok(Network {
            inner: Arc::new(RunningNetwork {
                state,
                local_address,
                _stop: stop,
            }),
        })
    }

    /// A reference that does not keep the network running.
    pub fn downgrade(&self) -> WeakNetwork {
        WeakNetwork(Arc::downgrade(&self.inner))
    }

    /// This node's own key.
    pub fn key(&self) -> NodeKey {
        self.inner.state.key
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

    /// Queues a notification, in order with others of this lane. It is not acknowledged.
    ///
    /// # Errors
    /// `TooLarge`, `NotConnected`, `Disconnected`, and `Busy` if the queue is full; then the
    /// notification is dropped.
    pub fn notify(&self, to: NodeKey, lane: Lane, body: Bytes) -> Result<(), NetError> {
        self.link(to)?.lane(lane).notify(body)
    }

    /// The peers that are connected, now and as it changes.
    pub fn connected(&self) -> watch::Receiver<BTreeSet<NodeKey>> {
        self.inner.state.table.connected()
    }

    /// All peers on the allow-list, for status pages.
    pub fn status(&self) -> BTreeMap<NodeKey, PeerStatus> {
        self.inner.state.table.status()
    }

    /// Counts since the start, for metrics.
    pub fn counters(&self) -> Counters {
        self.inner.state.counts.get()
    }

    /// Waits until the report about another process with this node's key differs from `known`;
    /// returns the report, a text for the operator.
    pub async fn key_in_use(&self, known: Option<&str>) -> Option<String> {
        let mut key_conflict = self.inner.state.key_conflict.subscribe();
        let report = |now: &Option<KeyConflict>| now.as_ref().map(|now| now.report.clone());
        let changed = key_conflict
            .wait_for(|now| report(now).as_deref() != known)
            .await;
        report(&changed.expect("the sender lives as long as self"))
    }

    /// Closes all links and the port, and waits until every task has ended.
    pub async fn shutdown(&self) {
        let state = &self.inner.state;
        state.table.close_all();
        state.stop.cancel();
        state.tasks.close();
        state.tasks.wait().await;
    }

    fn link(&self, to: NodeKey) -> Result<Arc<PeerLink>, NetError> {
        self.inner
            .state
            .table
            .link(&to)
            .ok_or(NetError::NotConnected { to })
    }
}

/// The handle of a dialing task, which wakes it and ends it.
struct Dialer {
    address_changed: Arc<Notify>,
    _stop: DropGuard,
}

/// Adds and removes dialers as the allow-list changes.
async fn follow_allow_list(state: Arc<NetworkState>, mut peers: watch::Receiver<AllowList>) {
    let mut dialers: BTreeMap<NodeKey, Dialer> = BTreeMap::new();
    loop {
        let list = peers.borrow_and_update().clone();
        let local = list.0.iter().find(|peer| peer.key == state.key);
        state.set_advertised_address(local.and_then(|peer| peer.address.clone()));
        let change = state.table.set(state.key, &list);
        tracing::debug!(?change, "allow-list");
        for key in change.removed {
            dialers.remove(&key);
        }
        for key in change.added.into_iter().filter(|key| state.dials(key)) {
            dialers.insert(key, dialer(&state, key));
        }
        for dialer in change
            .address_changed
            .iter()
            .filter_map(|key| dialers.get(key))
        {
            dialer.address_changed.notify_one();
        }
        let changed = state.stop.run_until_cancelled(peers.changed()).await;
        match changed {
            None => return,
            Some(Ok(())) => {}
            // The sender of the list was dropped, so it cannot change any more.
            Some(Err(_)) => return state.stop.cancelled().await,
        }
    }
}

fn dialer(state: &Arc<NetworkState>, key: NodeKey) -> Dialer {
    let (address_changed, stop) = (Arc::new(Notify::new()), CancellationToken::new());
    let guard = stop.clone().drop_guard();
    let task = dial::run(state.clone(), key, address_changed.clone(), stop);
    state.tasks.spawn(task);
    Dialer {
        address_changed,
        _stop: guard,
    }
}
