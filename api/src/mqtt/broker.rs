//! The router of rumqttd, supervised: it carries what many clients read (headers, notifications).
//! It is only ever given topics and filters that the node made, so none of its known panics can be
//! reached; should it die all the same, its clients are closed and a new one is started.

use std::collections::{BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use rumqttd::local::{LinkBuilder, LinkRx, LinkTx};
use rumqttd::{Notification, Router, RouterConfig, SegmentConfig};
use tokio_util::sync::CancellationToken;

use super::counters::Counters;
use super::limits::{
    NOTIFY_SEGMENT_BYTES, ROUTER_BATCH, ROUTER_PAUSE, ROUTER_TICK, SEGMENT_BYTES, SEGMENTS,
};
use super::link::{Link, Lost, lost};
use super::topics::NOTIFY_ROUTES;

/// Client id of the node's own link. Account ids begin with a letter or digit, so no client can
/// take it over.
const NODE: &str = "_node";
/// A topic without readers: any event wakes a router that sleeps although somebody has messages.
const TICK: &str = "tick";
/// The node's link besides those of the clients.
const OWN_LINKS: usize = 1;

/// The router is gone or has no place.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// It died; a new one is being started.
    #[error("linking to the message router")]
    Link(#[source] Lost),
    /// The task that links was not run to its end.
    #[error("waiting for a link to the message router")]
    Join(#[source] tokio::task::JoinError),
}

type Built = Result<(LinkTx, LinkRx, Notification), Lost>;
type Builder = dyn Fn(&str, bool) -> Built + Send + Sync;

struct Running {
    number: u64,
    build: Arc<Builder>,
    node: Mutex<LinkTx>,
}

/// Starts routers, links clients to the running one and publishes for the node.
pub struct Broker {
    config: RouterConfig,
    running: RwLock<Arc<Running>>,
    counters: Arc<Counters>,
}

impl Broker {
    /// Starts a router and the task that replaces it when it dies.
    pub fn start(
        connections: usize,
        counters: Arc<Counters>,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, BrokerError> {
        let config = router_config(connections);
        let (running, rx) = start_router(&config, 0)?;
        let running = RwLock::new(Arc::new(running));
        let broker = Arc::new(Self {
            config,
            running,
            counters,
        });
        tokio::spawn(Arc::clone(&broker).supervise(rx, stop));
        Ok(broker)
    }

    /// Publishes for every link whose filters match `route`, with the topic the clients see.
    pub fn publish(&self, route: &str, topic: &str, payload: &[u8]) {
        self.send(route, seal(topic, payload));
    }

    /// Makes the router look at all its links. It goes to sleep when the first of them was just
    /// removed, even if others have messages, and would wake up only with the next event.
    pub fn tick(&self) {
        self.send(TICK, Bytes::new());
    }

    /// Number of the router that runs now; a session at an earlier one is lost.
    pub fn number(&self) -> u64 {
        self.running().number
    }

    /// Links a client. `build` waits for the router, so it does not run on the async threads.
    pub async fn attach(
        self: &Arc<Self>,
        client: &str,
        clean: bool,
    ) -> Result<(Link, bool), BrokerError> {
        let running = self.running();
        let (build, number) = (Arc::clone(&running.build), running.number);
        let client = client.to_owned();
        let linked = tokio::task::spawn_blocking(move || {
            // rumqttd unwraps an answer that a dying router does not give.
            std::panic::catch_unwind(AssertUnwindSafe(|| build(&client, clean)))
        });
        let built = linked.await.map_err(BrokerError::Join)?;
        let gone = lost("the router died while linking");
        let (tx, rx, hello) = built.unwrap_or(Err(gone)).map_err(BrokerError::Link)?;
        Ok(Link::new(Arc::clone(self), number, tx, rx, hello))
    }

    fn running(&self) -> Arc<Running> {
        Arc::clone(&self.running.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn send(&self, route: &str, payload: Bytes) {
        let running = self.running();
        let mut node = running.node.lock().unwrap_or_else(PoisonError::into_inner);
        // Waits when 1,000 events are queued at the router, whose thread never waits for us.
        if node.publish(route.to_owned(), payload).is_err() {
            tracing::warn!(
                route,
                "a message was lost because the message router had died"
            );
        }
    }

    async fn supervise(self: Arc<Self>, mut rx: LinkRx, stop: CancellationToken) {
        loop {
            let started = Instant::now();
            tokio::select! {
                () = until_gone(&mut rx) => {}
                () = self.keep_awake() => {}
                () = stop.cancelled() => return,
            }
            self.counters.router_restarts.add(1);
            tracing::error!("the message router died; its clients are closed, a new one starts");
            if started.elapsed() < ROUTER_PAUSE {
                tokio::time::sleep(ROUTER_PAUSE).await;
            }
            match start_router(&self.config, self.number() + 1) {
                Ok((running, new)) => {
                    rx = new;
                    *self.running.write().unwrap_or_else(PoisonError::into_inner) =
                        Arc::new(running);
                }
                Err(error) => tracing::error!(%error, "the message router could not be started"),
            }
        }
    }

    async fn keep_awake(&self) {
        let mut every = tokio::time::interval(ROUTER_TICK);
        loop {
            every.tick().await;
            self.tick();
        }
    }

    #[cfg(test)]
    pub fn kill_router(&self) {
        // rumqttd slices a topic inside its first character as soon as there is a filter.
        self.send("\u{e9}", Bytes::from_static(b"x"));
    }
}

async fn until_gone(rx: &mut LinkRx) {
    while rx.next().await.is_ok() {}
}

fn start_router(config: &RouterConfig, number: u64) -> Result<(Running, LinkRx), BrokerError> {
    let events = Router::new(0, config.clone()).spawn();
    let build: Arc<Builder> = Arc::new(move |client: &str, clean: bool| {
        LinkBuilder::new(client, events.clone())
            .clean_session(clean)
            .build()
            .map_err(Box::new)
    });
    let (node, rx, _) = build(NODE, true).map_err(BrokerError::Link)?;
    Ok((
        Running {
            number,
            build,
            node: Mutex::new(node),
        },
        rx,
    ))
}

fn router_config(connections: usize) -> RouterConfig {
    let notify = SegmentConfig {
        max_segment_size: NOTIFY_SEGMENT_BYTES,
        max_segment_count: SEGMENTS,
    };
    RouterConfig {
        max_connections: connections + OWN_LINKS,
        max_outgoing_packet_count: ROUTER_BATCH,
        max_segment_size: SEGMENT_BYTES,
        max_segment_count: SEGMENTS,
        custom_segment: Some(HashMap::from([(NOTIFY_ROUTES.to_owned(), notify)])),
        initialized_filters: None,
        shared_subscriptions_strategy: Default::default(),
    }
}

/// Joins the topic that clients see and the payload into the payload of the router's message.
fn seal(topic: &str, payload: &[u8]) -> Bytes {
    let mut sealed = BytesMut::with_capacity(2 + topic.len() + payload.len());
    sealed.put_u16(topic.len() as u16);
    sealed.extend_from_slice(topic.as_bytes());
    sealed.extend_from_slice(payload);
    sealed.freeze()
}

/// Takes apart what `seal` joined.
pub fn open(mut sealed: Bytes) -> Option<(String, Bytes)> {
    let length = usize::from(u16::from_be_bytes([*sealed.first()?, *sealed.get(1)?]));
    if sealed.len() < 2 + length {
        return None;
    }
    let payload = sealed.split_off(2 + length);
    let topic = std::str::from_utf8(&sealed[2..]).ok()?.to_owned();
    Some((topic, payload))
}

/// What the router still knows of a client that left with a session.
#[derive(Debug, Clone)]
pub struct Saved {
    /// The router that knows it.
    pub number: u64,
    /// The filters it had there.
    pub routes: BTreeSet<String>,
}
