//! A link: the established connection to one peer, with its lanes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::error::{LinkError, chain};
use crate::handshake::Established;
use crate::lane::client::{LaneClient, Outgoing};
use crate::lane::server;
use crate::shared::{Shared, count};
use crate::{Lane, NodeKey, pulse};

/// Time to tell the peer why we part, and to hear why it does.
pub(crate) const BYE_MAX: Duration = Duration::from_millis(300);

pub(crate) struct Link {
    pub key: NodeKey,
    pub greeting: Bytes,
    pub since: Instant,
    pub stop: CancellationToken,
    lanes: [LaneClient; Lane::ALL.len()],
    /// Microseconds; 0 before the first pong.
    round_trip_us: AtomicU64,
    why: OnceLock<LinkError>,
}

type Queues = [mpsc::Receiver<Outgoing>; Lane::ALL.len()];

impl Link {
    fn new(shared: &Shared, key: NodeKey, greeting: Bytes) -> (Link, Queues) {
        let pairs = Lane::ALL.map(|lane| LaneClient::new(key, lane));
        let mut queues = Vec::with_capacity(Lane::ALL.len());
        let lanes = pairs.map(|(client, queue)| {
            queues.push(queue);
            client
        });
        let link = Link {
            key,
            greeting,
            since: Instant::now(),
            stop: shared.stop.child_token(),
            lanes,
            round_trip_us: AtomicU64::new(0),
            why: OnceLock::new(),
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
    pub fn close(&self, why: LinkError) {
        self.why.get_or_init(|| why);
        self.stop.cancel();
    }

    /// Why the link ended. Without a reason it was the end of the whole network.
    pub fn why(&self) -> &LinkError {
        self.why.get_or_init(|| LinkError::Shutdown)
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

    /// A lane with a request that the peer seems to have lost.
    pub fn overdue_lane(&self) -> Option<Lane> {
        Lane::ALL
            .into_iter()
            .find(|lane| self.lane(*lane).has_overdue())
    }
}

/// Runs a link until it ends, and returns how long it was up.
pub(crate) async fn run(shared: &Arc<Shared>, established: Established) -> Duration {
    let Established {
        key,
        greeting,
        mut mux,
        reader,
        writer,
        lanes,
    } = established;
    let (link, queues) = Link::new(shared, key, greeting);
    let link = Arc::new(link);
    if let Err(why) = shared.table.attach(&link) {
        link.close(why);
    } else {
        count(&shared.counts.links);
        tracing::info!(peer = ?key, "connected");
    }
    let mut queues = queues.map(Some);
    let mut tasks = JoinSet::new();
    for (lane, stream) in lanes {
        let queue = queues[lane.index()]
            .take()
            .expect("the handshake gave each lane once");
        tasks.spawn(server::run(
            shared.clone(),
            link.clone(),
            lane,
            stream,
            queue,
        ));
    }
    let pulse = pulse::run(shared.limits, link.clone(), reader, writer);
    let mut pulse = shared.tasks.spawn(pulse);
    let why = tokio::select! {
        () = link.stop.cancelled() => None,
        Some(ended) = tasks.join_next() => Some(ended.unwrap_or(LinkError::Closed)),
        Some(_stream) = mux.inbound.recv() => Some(LinkError::TooManyStreams),
        ended = &mut mux.ended => Some(ended.unwrap_or(LinkError::Closed)),
    };
    shared.table.detach(&link);
    link.lanes.iter().for_each(LaneClient::close);
    if let Some(why) = why {
        // The peer's goodbye may still be in the link stream, and says more than an end does.
        let told = link.stop.cancelled();
        if why.is_violation() || timeout(BYE_MAX, told).await.is_err() {
            link.close(why);
        }
    }
    if timeout(BYE_MAX, &mut pulse).await.is_err() {
        pulse.abort();
    }
    ended(shared, &link);
    link.since.elapsed()
}

fn ended(shared: &Shared, link: &Link) {
    let why = link.why();
    if why.is_violation() {
        count(&shared.counts.violations);
    }
    tracing::info!(peer = ?link.key, "disconnected: {}", chain(why));
    if !matches!(why, LinkError::Replaced | LinkError::Shutdown) {
        shared.table.note(link.key, why);
    }
}
