//! What all tasks of one network share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use libp2p::noise;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::{LinkError, NetError, chain};
use crate::probe::PROBE_EVERY;
use crate::table::Table;
use crate::{Config, Limits, NodeKey, Service, key};

/// Refused strangers are logged at most this often; the counters have them all.
const STRANGER_LOG_EVERY: Duration = Duration::from_secs(5);

pub(crate) struct Shared {
    pub key: NodeKey,
    pub noise: noise::Config,
    pub chain_id: [u8; 32],
    pub protocol: u32,
    pub limits: Limits,
    dials_all: bool,
    pub service: Arc<dyn Service>,
    pub table: Table,
    pub counts: Counts,
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
    stranger_log: Mutex<Quiet>,
    /// By which this process knows itself when it dials its own address.
    pub instance: [u8; 16],
    /// Where the list says that this node is dialed.
    own_address: Mutex<Option<String>>,
    /// Woken when that changes.
    pub moved: Notify,
    /// What was last seen of another process with this node's key.
    pub in_use: watch::Sender<Option<InUse>>,
}

/// Another process that uses this node's key.
#[derive(Clone, Debug)]
pub(crate) struct InUse {
    /// Where, for people.
    pub told: String,
    seen: Instant,
}

/// How often things happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Links that were established.
    pub links: u64,
    /// Connections refused because the key is not on the allow-list.
    pub refused_keys: u64,
    /// Peers on the list that were refused: another chain, another protocol version, a greeting
    /// that the service did not accept.
    pub refused_hellos: u64,
    /// Inbound connections that failed before they became a link, other than by a refusal.
    pub failed_handshakes: u64,
    /// Inbound connections dropped because too many handshakes were under way.
    pub dropped_connections: u64,
    /// Links that were closed because the peer broke the protocol.
    pub violations: u64,
}

#[derive(Default)]
pub(crate) struct Counts {
    pub links: AtomicU64,
    pub refused_keys: AtomicU64,
    pub refused_hellos: AtomicU64,
    pub failed_handshakes: AtomicU64,
    pub dropped_connections: AtomicU64,
    pub violations: AtomicU64,
}

impl Shared {
    pub fn new(config: &Config, service: Arc<dyn Service>) -> Result<Shared, NetError> {
        let keypair = key::keypair(&config.secret)?;
        let noise = noise::Config::new(&keypair);
        Ok(Shared {
            key: NodeKey::of_keypair(&keypair),
            noise: noise.map_err(|source| NetError::NoiseKeys { source })?,
            chain_id: config.chain_id,
            protocol: config.protocol,
            limits: config.limits,
            dials_all: config.dials_all,
            service,
            table: Table::new(),
            counts: Counts::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            stranger_log: Mutex::default(),
            instance: rand::random(),
            own_address: Mutex::default(),
            moved: Notify::new(),
            in_use: watch::Sender::new(None),
        })
    }

    /// Whether it is us who dial a peer that has an address.
    pub fn dials(&self, key: &NodeKey) -> bool {
        self.dials_all || self.key < *key
    }

    /// Whether this key may connect to us.
    pub fn admit(&self, key: NodeKey) -> Result<(), LinkError> {
        match self.table.find(&key) {
            // The hello tells whether it is this process.
            _ if key == self.key => Ok(()),
            None => Err(LinkError::NotAllowed(key)),
            Some(Some(_address)) if self.dials(&key) => {
                let error = LinkError::WrongDirection(key);
                self.table.note(key, &error);
                Err(error)
            }
            Some(_) => Ok(()),
        }
    }

    /// Counts a failed inbound connection and logs it, but not each one of a flood.
    pub fn refused(&self, from: std::net::SocketAddr, error: &LinkError) {
        let counter = match error {
            LinkError::NotAllowed(_) => &self.counts.refused_keys,
            LinkError::OtherChain { .. }
            | LinkError::OtherProtocol { .. }
            | LinkError::Greeting { .. } => &self.counts.refused_hellos,
            _ => &self.counts.failed_handshakes,
        };
        count(counter);
        let mut quiet = self
            .stranger_log
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(unsaid) = quiet.pass() {
            tracing::warn!(%from, unsaid, "connection refused: {}", chain(error));
        }
    }
}

impl Shared {
    pub fn own_address(&self) -> Option<String> {
        let address = self.own_address.lock();
        address.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_own_address(&self, address: Option<String>) {
        let own = self.own_address.lock();
        let mut own = own.unwrap_or_else(PoisonError::into_inner);
        if *own != address {
            *own = address;
            self.moved.notify_one();
        }
    }

    /// Another process has this node's key: it `does` something somewhere.
    pub fn key_in_use(&self, does: &str) {
        let told = format!("another process uses this node's key: it {does}");
        let last = self.in_use.borrow().clone();
        let is_news = last.is_none_or(|last| last.seen.elapsed() >= PROBE_EVERY / 2);
        if is_news {
            tracing::error!(key = %self.key, "{told}; one of the two must be stopped");
        }
        let seen = Instant::now();
        self.in_use.send_replace(Some(InUse { told, seen }));
    }

    /// Takes back what nothing has confirmed for long.
    pub fn forget_old_use(&self) {
        self.in_use.send_if_modified(|last| {
            let is_old = |last: &mut InUse| last.seen.elapsed() > PROBE_EVERY * 2;
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
            refused_hellos: get(&self.refused_hellos),
            failed_handshakes: get(&self.failed_handshakes),
            dropped_connections: get(&self.dropped_connections),
            violations: get(&self.violations),
        }
    }
}

/// Lets one log line through per interval.
#[derive(Default)]
struct Quiet {
    last: Option<Instant>,
    unsaid: u64,
}

impl Quiet {
    /// How many lines were held back since the last one, if another may be said now.
    fn pass(&mut self) -> Option<u64> {
        if self
            .last
            .is_some_and(|at| at.elapsed() < STRANGER_LOG_EVERY)
        {
            self.unsaid += 1;
            return None;
        }
        self.last = Some(Instant::now());
        Some(std::mem::take(&mut self.unsaid))
    }
}
