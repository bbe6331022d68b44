//! The MQTT edge: gateways and users over MQTT 3.1.1 and 5.
//!
//! rumqttd is embedded, but its own server does not face the network: our listener and guard do,
//! one task per connection, and use rumqttd's codecs, router and local links behind them.
//!
//! | topic | direction | content |
//! |---|---|---|
//! | `lamplighter/1/gw/{gw}/tx` | gateway → node | one signed transaction; PUBACK after admission |
//! | `lamplighter/1/gw/{gw}/receipt` | node → gateway | receipts; also `receipt/{name}` |
//! | `lamplighter/1/gw/{gw}/sync` | gateway → node | asks for what is open; may say which devices it holds |
//! | `lamplighter/1/gw/{gw}/work` | node → gateway | work for its devices, with proof |
//! | `lamplighter/1/head` | node → all | newest certified header, retained |
//! | `lamplighter/1/notify/{kind}/{district}/{device}` | node → users | notifications |
//!
//! A district `north/harbour` is one level, `north:harbour`; the whole city is `-`.
//!
//! # The rules, and where they live
//! 1. Only packets that a client may send reach the codec ([`wire`]).
//! 2. Topics and filters are those of the table, ASCII, short, at most 64 ([`topics`]); what the
//!    router sees is made by the node alone, so a client cannot make it keep anything.
//! 3. Client id = account id ([`connect`]); the node's own link begins with `_`, no account does.
//! 4. 3.1.1 gets no properties; no topic aliases; property bytes are capped ([`wire`]).
//! 5. A takeover waits until the old connection has left the router ([`seat`], [`link`]); wills are
//!    kept and published here ([`will`]).
//! 6. QoS 2 in is taken once, at most 100 unreleased; QoS 2 out is granted as 1 ([`inbound`]). Only
//!    the node keeps a message: the head.
//! 7. PUBACKs reach the router in its order, an unsolicited one closes ([`link`], [`inbound`]).
//! 8. Handshakes run in the connection's task, with times and caps ([`listener`], [`limits`]).
//! 9. Linking runs on blocking threads; the router is supervised ([`broker`]).
//! 10. Every size is a constant with a reason ([`limits`]).
//!
//! What one client reads (receipts, work) waits in its own bounded mailbox instead of the router,
//! whose log drops QoS 1 messages under a slow reader and is never freed. What many read (headers,
//! notifications) goes through the router, which stores it once for all.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use lamplighter_tls as tls;
use lamplighter_types::PublicKey;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod backend;
mod broker;
mod connect;
mod connection;
mod counters;
mod ending;
mod inbound;
mod intake;
pub mod limits;
mod link;
mod listener;
mod outbound;
mod properties;
mod publisher;
mod rate;
mod seat;
#[cfg(test)]
mod tests;
mod topics;
mod will;
mod wire;

pub use backend::{
    Account, AccountKind, Admitted, Backend, Encoding, Login, LoginError, Reach, Submission,
    SubmitError, SyncReason,
};
pub use broker::BrokerError;
pub use counters::{Counter, Counters};
pub use publisher::{PublishError, Publisher};
pub use seat::Undelivered;

use broker::Broker;
use rate::Rates;
use seat::Seats;

/// How long connections may take to say goodbye when the node stops.
const STOP_TIME: Duration = Duration::from_secs(5);

/// One address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// Address and port; port 0 takes a free one.
    pub address: SocketAddr,
    /// TLS 1.3; without it only loopback addresses are allowed.
    pub tls: bool,
}

/// Settings of the edge. The defaults are the constants of [`limits`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: Vec<Listen>,
    /// The node's certificate and key; needed where `listen` has TLS.
    pub identity: Option<tls::Identity>,
    /// From TCP connection to complete CONNECT. While many are waited for, no longer than
    /// [`limits::CONNECT_TIME_BUSY`].
    pub connect_time: Duration,
    /// A client takes what it is sent within this time, or is cut.
    pub write_time: Duration,
    /// Longest life of a session without a connection.
    pub session_time: Duration,
    /// Connections of known accounts.
    pub connections_max: usize,
    /// Connections before their CONNECT.
    pub pending_max: usize,
    /// Packets a second of one account.
    pub packets_per_second: u32,
    /// Bytes a second of one account.
    pub bytes_per_second: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            identity: None,
            connect_time: limits::CONNECT_TIME,
            write_time: limits::WRITE_TIME,
            session_time: limits::SESSION_TIME,
            connections_max: limits::CONNECTIONS_MAX,
            pending_max: limits::PENDING_MAX,
            packets_per_second: limits::PACKETS_PER_SECOND,
            bytes_per_second: limits::BYTES_PER_SECOND,
        }
    }
}

/// The edge could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Passwords and transactions would be readable on the network.
    #[error("MQTT without TLS is only allowed on loopback, not on {0}")]
    PlainOutside(SocketAddr),
    /// TLS without certificate.
    #[error("MQTT with TLS on {0} needs the node's certificate")]
    NoIdentity(SocketAddr),
    /// The address is taken or not ours.
    #[error("listening for MQTT on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The certificate or its key is not usable.
    #[error("preparing TLS for MQTT")]
    Tls(#[source] tls::SetupError),
    /// The router did not start.
    #[error("starting the message router")]
    Broker(#[source] BrokerError),
}

/// What all connections share.
pub(crate) struct Shared {
    config: Config,
    backend: Arc<dyn Backend>,
    broker: Arc<Broker>,
    seats: Seats,
    head: Mutex<Option<Bytes>>,
    counters: Arc<Counters>,
    pending: Arc<Semaphore>,
    places: Arc<Semaphore>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Shared {
    fn head(&self) -> Option<Bytes> {
        self.head
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Ends the connections whose key is no longer their account's. They are told of as it happens;
    /// this is for what was missed, e.g. when the node got a whole image of the chain.
    fn check_keys(&self) {
        for seat in self.seats.all() {
            let Some(key) = seat.key() else { continue };
            let account = self.backend.account_of_key(&key);
            if account.is_none_or(|account| account.id != seat.id) {
                seat.revoke();
            }
        }
    }

    fn keep_head(&self, payload: Bytes) {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = Some(payload);
    }
}

/// The running MQTT edge of a node.
pub struct Edge {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
}

impl Edge {
    /// Binds the addresses, starts the router and begins to accept. Must run inside tokio.
    pub fn start(config: Config, backend: Arc<dyn Backend>) -> Result<Self, StartError> {
        let listeners = bind_all(&config)?;
        let acceptor = match &config.identity {
            Some(identity) => {
                let registry = Arc::clone(&backend);
                let is_registered =
                    move |key: &PublicKey| registry.account_of_key(&key.0).is_some();
                let server = tls::server(identity, is_registered).map_err(StartError::Tls)?;
                Some(TlsAcceptor::from(Arc::new(server)))
            }
            None => None,
        };
        let (counters, stop) = (Arc::new(Counters::default()), CancellationToken::new());
        let broker = Broker::start(config.connections_max, Arc::clone(&counters), stop.clone())
            .map_err(StartError::Broker)?;
        let rates = Rates {
            packets: config.packets_per_second,
            bytes: config.bytes_per_second,
        };
        let shared = Arc::new(Shared {
            backend,
            broker,
            seats: Seats::new(rates, Arc::clone(&counters)),
            head: Mutex::default(),
            counters,
            pending: Arc::new(Semaphore::new(config.pending_max)),
            places: Arc::new(Semaphore::new(config.connections_max)),
            stop,
            tasks: TaskTracker::new(),
            config,
        });
        let addresses = listeners.iter().map(|(address, ..)| *address).collect();
        for (_, tls, listener) in listeners {
            let acceptor = acceptor.clone().filter(|_| tls);
            shared
                .tasks
                .spawn(listener::accept(Arc::clone(&shared), listener, acceptor));
        }
        shared.tasks.spawn(sweep(Arc::clone(&shared)));
        Ok(Self { shared, addresses })
    }

    /// The addresses that are listened on, in the order of the configuration.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The node's side.
    pub fn publisher(&self) -> Publisher {
        Publisher::new(Arc::clone(&self.shared))
    }

    /// What was counted.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.counters)
    }

    /// Closes all connections, telling MQTT 5 clients why, and stops listening. Sessions end, and
    /// wills are not published: the clients will be back.
    pub async fn stop(self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        if tokio::time::timeout(STOP_TIME, self.shared.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("some MQTT connections did not end in time");
        }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

type Bound = (SocketAddr, bool, TcpListener);

fn bind_all(config: &Config) -> Result<Vec<Bound>, StartError> {
    let bind = |listen: &Listen| {
        let Listen { address, tls } = *listen;
        if !tls && !address.ip().is_loopback() {
            return Err(StartError::PlainOutside(address));
        }
        if tls && config.identity.is_none() {
            return Err(StartError::NoIdentity(address));
        }
        let failed = |source| StartError::Bind { address, source };
        let listener = listener::bind(address).map_err(failed)?;
        Ok((listener.local_addr().map_err(failed)?, tls, listener))
    };
    config.listen.iter().map(bind).collect()
}

async fn sweep(shared: Arc<Shared>) {
    let mut every = tokio::time::interval(limits::SWEEP_TIME);
    loop {
        tokio::select! {
            _ = every.tick() => {
                shared.seats.sweep();
                let shared = Arc::clone(&shared);
                // It may wait for the disk.
                let checked = tokio::task::spawn_blocking(move || shared.check_keys());
                if let Err(error) = checked.await {
                    tracing::error!(%error, "keys of connected clients were not looked at");
                }
            }
            () = shared.stop.cancelled() => return,
        }
    }
}
