//! A link: the established connection to one peer, with its lanes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lamplighter_system::error_chain;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::error::LinkError;
use crate::handshake::EstablishedConnection;
use crate::lane::client::{LaneClient, OutgoingFrame};
use crate::lane::server;
use crate::network_state::{NetworkState, count};
use crate::{Lane, NodeKey, keepalive};

/// The time to exchange the reasons for closing a link with the peer.
pub(crate) const CLOSE_REASON_MAX: Duration = Duration::from_millis(300);

/// The state of a link.
pub(crate) struct PeerLink {
    pub key: NodeKey,
    pub greeting: Bytes,
    pub since: Instant,
    pub stop: CancellationToken,
    lanes: [LaneClient; Lane::ALL.len()],
    /// Microseconds; 0 before the first pong.
    round_trip_us: AtomicU64,
    close_reason: OnceLock<LinkError>,
}

type Queues = [mpsc::Receiver<OutgoingFrame>; Lane::ALL.len()];

impl PeerLink {
    fn new(state: &NetworkState, key: NodeKey, greeting: Bytes) -> (PeerLink, Queues) {
        let pairs = Lane::ALL.map(|lane| LaneClient::new(key, lane));
        let mut queues = Vec::with_capacity(Lane::ALL.len());
        let lanes = pairs.map(|(client, queue)| {
            queues.push(queue);
            client
        });
        let link = PeerLink {
            key,
            greeting,
            since: Instant::now(),
            stop: state.stop.child_token(),
            lanes,
            round_trip_us: AtomicU64::new(0),
            close_reason: OnceLock::new(),
        };
        let queues = queues.try_into();
        (
            link,
            queues.unwrap_or_else(|_| unreachable!("one queue for each lane")),
        )
    }

    pub fn lane(&self, lane: Lane) -> &LaneClient {
        &self.lanes[lane.index()]
    }

    /// Ends the link; the first reason counts.
    pub fn close(&self, reason: LinkError) {
        self.close_reason.get_or_init(|| reason);
        self.stop.cancel();
    }

    /// The reason why the link ended: the end of the whole network, if no other was set.
    pub fn close_reason(&self) -> &LinkError {
        self.close_reason.get_or_init(|| LinkError::Shutdown)
    }

    pub fn round_trip(&self) -> Option<Duration> {
        match self.round_trip_us.load(Ordering::Relaxed) {
            0 => None,
            us => Some(Duration::from_micros(us)),
        }
    }

    pub fn set_round_trip(&self, measured: Duration) {
        self.round_trip_us
            .store(measured.as_micros().max(1) as u64, Ordering::Relaxed);
    }

    /// A lane on which the peer seems to have lost a request.
    pub fn overdue_lane(&self) -> Option<Lane> {
        Lane::ALL
            .into_iter()
            .find(|lane| self.lane(*lane).has_overdue())
    }
}

/// Runs a link until it ends, and returns how long it was up.
pub(crate) async fn run(state: &Arc<NetworkState>, established: EstablishedConnection) -> Duration {
    let EstablishedConnection {
        key,
        greeting,
        mut mux,
        reader,
        writer,
        lanes,
    } = established;
    let (link, queues) = PeerLink::new(state, key, greeting);
    let link = Arc::new(link);
    if let Err(reason) = state.table.attach(&link) {
        link.close(reason);
    } else {
        count(&state.counts.links);
        tracing::info!(peer = ?key, "connected");
    }
    let mut queues = queues.map(Some);
    let mut tasks = JoinSet::new();
    for (lane, stream) in lanes {
        let queue = queues[lane.index()]
            .take()
            .expect("the handshake gave each lane once");
        tasks.spawn(server::run(
            state.clone(),
            link.clone(),
            lane,
            stream,
            queue,
        ));
    }
    let keepalive = keepalive::run(state.limits, link.clone(), reader, writer);
    let mut keepalive = state.tasks.spawn(keepalive);
    let reason = tokio::select! {
        () = link.stop.cancelled() => None,
        Some(ended) = tasks.join_next() => Some(ended.unwrap_or(LinkError::Closed)),
        Some(_stream) = mux.inbound.recv() => Some(LinkError::TooManyStreams),
        ended = &mut mux.ended => Some(ended.unwrap_or(LinkError::Closed)),
    };
    state.table.detach(&link);
    link.lanes.iter().for_each(LaneClient::close);
    if let Some(reason) = reason {
        // The peer's close frame may still be unread; its reason is better than this one.
        let stopped = link.stop.cancelled();
        if reason.is_violation() || timeout(CLOSE_REASON_MAX, stopped).await.is_err() {
            link.close(reason);
        }
    }
    if timeout(CLOSE_REASON_MAX, &mut keepalive).await.is_err() {
        keepalive.abort();
    }
    log_end(state, &link);
    link.since.elapsed()
}

fn log_end(state: &NetworkState, link: &PeerLink) {
    let reason = link.close_reason();
    if reason.is_violation() {
        count(&state.counts.violations);
    }
    tracing::info!(peer = ?link.key, "disconnected: {}", error_chain(reason));
    if !matches!(reason, LinkError::Replaced | LinkError::Shutdown) {
        state.table.record_error(link.key, reason);
    }
}
