//! The state that all tasks of one network share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lamplighter_system::error_chain;
use libp2p::noise;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::{LinkError, NetError};
use crate::peer_table::PeerTable;
use crate::probe::PROBE_EVERY;
use crate::{NetConfig, NetLimits, NodeKey, Service, key};

/// The shortest time between two log lines about refused connections; the counters have them all.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(5);

pub(crate) struct NetworkState {
    pub key: NodeKey,
    pub noise: noise::Config,
    pub chain_id: [u8; 32],
    pub protocol: u32,
    pub limits: NetLimits,
    dials_all: bool,
    pub service: Arc<dyn Service>,
    pub table: PeerTable,
    pub counts: Counts,
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
    refusal_log: Mutex<LogThrottle>,
    /// The random id by which this process recognises itself when it dials its own address.
    pub instance: [u8; 16],
    /// The address of this node on the allow-list.
    advertised_address: Mutex<Option<String>>,
    /// Notified when that address changes.
    pub address_changed: Notify,
    /// The last report about another process with this node's key.
    pub key_conflict: watch::Sender<Option<KeyConflict>>,
}

/// A report about another process that uses this node's key.
#[derive(Clone, Debug)]
pub(crate) struct KeyConflict {
    /// The text for the operator.
    pub report: String,
    seen: Instant,
}

/// The counters of a network since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Links that were established.
    pub links: u64,
    /// Connections refused because the key is not on the allow-list.
    pub refused_keys: u64,
    /// Peers on the list that were refused: another chain, another protocol version, a greeting
    /// that the service did not accept.
    pub refused_handshakes: u64,
    /// Inbound connections that failed before they became a link, other than by a refusal.
    pub failed_handshakes: u64,
    /// Inbound connections dropped because too many handshakes were under way.
    pub dropped_connections: u64,
    /// Links that were closed because the peer violated the protocol.
    pub violations: u64,
}

#[derive(Default)]
pub(crate) struct Counts {
    pub links: AtomicU64,
    pub refused_keys: AtomicU64,
    pub refused_handshakes: AtomicU64,
    pub failed_handshakes: AtomicU64,
    pub dropped_connections: AtomicU64,
    pub violations: AtomicU64,
}

impl NetworkState {
    pub fn new(config: &NetConfig, service: Arc<dyn Service>) -> Result<NetworkState, NetError> {
        let keypair = key::keypair(&config.secret)?;
        let noise = noise::Config::new(&keypair);
        Ok(NetworkState {
            key: NodeKey::of_keypair(&keypair),
            noise: noise.map_err(|source| NetError::NoiseKeys { source })?,
            chain_id: config.chain_id,
            protocol: config.protocol,
            limits: config.limits,
            dials_all: config.dials_all,
            service,
            table: PeerTable::new(),
            counts: Counts::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            refusal_log: Mutex::default(),
            instance: rand::random(),
            advertised_address: Mutex::default(),
            address_changed: Notify::new(),
            key_conflict: watch::Sender::new(None),
        })
    }

    /// True if this node, and not the peer, dials a peer that has an address.
    pub fn dials(&self, key: &NodeKey) -> bool {
        self.dials_all || self.key < *key
    }

    /// Checks whether this key may connect to this node.
    pub fn admit(&self, key: NodeKey) -> Result<(), LinkError> {
        match self.table.find(&key) {
            // The handshake shows whether it is this process.
            _ if key == self.key => Ok(()),
            None => Err(LinkError::NotAllowed(key)),
            Some(Some(_address)) if self.dials(&key) => {
                let error = LinkError::WrongDirection(key);
                self.table.record_error(key, &error);
                Err(error)
            }
            Some(_) => Ok(()),
        }
    }

    /// Counts a failed inbound connection, and logs it unless there are too many.
    pub fn count_refused(&self, from: std::net::SocketAddr, error: &LinkError) {
        let counter = match error {
            LinkError::NotAllowed(_) => &self.counts.refused_keys,
            LinkError::OtherChain { .. }
            | LinkError::OtherProtocol { .. }
            | LinkError::Greeting { .. } => &self.counts.refused_handshakes,
            _ => &self.counts.failed_handshakes,
        };
        count(counter);
        let mut throttle = self
            .refusal_log
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(suppressed) = throttle.pass() {
            tracing::warn!(%from, suppressed, "connection refused: {}", error_chain(error));
        }
    }

    pub fn advertised_address(&self) -> Option<String> {
        let address = self.advertised_address.lock();
        address.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_advertised_address(&self, address: Option<String>) {
        let current = self.advertised_address.lock();
        let mut current = current.unwrap_or_else(PoisonError::into_inner);
        if *current != address {
            *current = address;
            self.address_changed.notify_one();
        }
    }

    /// Reports another process with this node's key, whose `activity` is a verb with its place.
    pub fn report_key_conflict(&self, activity: &str) {
        let report = format!("another process uses this node's key: it {activity}");
        let last = self.key_conflict.borrow().clone();
        let is_new = last.is_none_or(|last| last.seen.elapsed() >= PROBE_EVERY / 2);
        if is_new {
            tracing::error!(key = %self.key, "{report}; one of the two must be stopped");
        }
        let seen = Instant::now();
        self.key_conflict
            .send_replace(Some(KeyConflict { report, seen }));
    }

    /// Withdraws a report that nothing has confirmed for long.
    pub fn expire_key_conflict(&self) {
        self.key_conflict.send_if_modified(|last| {
            let is_old = |last: &mut KeyConflict| last.seen.elapsed() > PROBE_EVERY * 2;
            last.take_if(is_old).is_some()
        });
    }
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counts {
    pub fn get(&self) -> Counters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            links: get(&self.links),
            refused_keys: get(&self.refused_keys),
            refused_handshakes: get(&self.refused_handshakes),
            failed_handshakes: get(&self.failed_handshakes),
            dropped_connections: get(&self.dropped_connections),
            violations: get(&self.violations),
        }
    }
}

/// Allows one log line per interval.
#[derive(Default)]
struct LogThrottle {
    last: Option<Instant>,
    suppressed: u64,
}

impl LogThrottle {
    /// The number of lines suppressed since the last one, if another line is allowed now.
    fn pass(&mut self) -> Option<u64> {
        if self
            .last
            .is_some_and(|at| at.elapsed() < REFUSAL_LOG_INTERVAL)
        {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(Instant::now());
        Some(std::mem::take(&mut self.suppressed))
    }
}
