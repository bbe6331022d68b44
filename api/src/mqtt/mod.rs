//! The MQTT edge: gateways and users over MQTT 3.1.1 and 5.
//!
//! A client publishes transactions to the ledger and reads what the ledger brings about; clients
//! send each other nothing. So there is no message router here: a publication goes to
//! [`submit`], and each connection sends its own messages ([`push`]). Of rumqttd the codec is used;
//! its server does not face the network, our [`listener`] does, with one task for each
//! [`connection`].
//!
//! | topic | direction | content |
//! |---|---|---|
//! | `lamplighter/1/gw/{gw}/tx` | gateway → node | one signed transaction; PUBACK after admission |
//! | `lamplighter/1/gw/{gw}/receipt` | node → gateway | receipts; also `receipt/{name}` |
//! | `lamplighter/1/gw/{gw}/sync` | gateway → node | asks for open work; may name its devices |
//! | `lamplighter/1/gw/{gw}/work` | node → gateway | work for its devices, with proof |
//! | `lamplighter/1/head` | node → all | newest certified header, retained |
//! | `lamplighter/1/notify/{kind}/{district}/{device}` | node → users | notifications |
//!
//! # The rules, and where they are
//! 1. Only packets that a client may send reach rumqttd's codec ([`codec`]).
//! 2. Topics and filters are those of the table, ASCII, short, at most 64 ([`topics`]).
//! 3. Client id = account id ([`connection::handshake`]).
//! 4. 3.1.1 gets no properties; no topic aliases; property bytes are capped ([`codec`]).
//! 5. A takeover waits until the old connection has ended ([`session`]); wills are kept and
//!    submitted here (`connection::will`).
//! 6. QoS 2 publications are received once, at most 100 unreleased; QoS 2 subscriptions are granted
//!    as 1 (`connection::receive`). Only the node retains a message: the head.
//! 7. An acknowledgement of a message that was not sent closes the connection.
//! 8. Handshakes run in the connection's task, with times and caps ([`listener`], [`limits`]).
//! 9. A slow reader costs no memory: receipts and work wait in a bounded mailbox ([`session`]), the
//!    head is one value, and notifications are read again from the ledger's feed
//!    ([`push::notifications`]).
//! 10. Every size is a constant with a reason ([`limits`]).

mod accounts;
mod certified;
mod codec;
mod connection;
mod counters;
pub mod limits;
mod listener;
mod push;
mod session;
mod submit;
#[cfg(test)]
mod tests;
mod topics;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lamplighter_ledger::Handle;
use lamplighter_tls as tls;
use lamplighter_types::{Account, AccountKind, PublicKey};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::address_shares::AddressShares;
use crate::token::Tokens;
use accounts::Accounts;
use certified::CertifiedGateways;
use push::notifications::NotificationHub;
use push::work_queue::WorkQueue;
use push::{head, notifications, work_feed};
use session::{Rates, SessionRegistry};

pub use counters::{Counter, Counters, EdgeMetrics};

/// Time for connections to close when the node stops.
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
pub struct MqttConfig {
    /// Where to listen.
    pub listen: Vec<Listen>,
    /// The node's certificate and key; needed where `listen` has TLS.
    pub identity: Option<tls::Identity>,
    /// From TCP connection to complete CONNECT; no longer than `busy_connect_time` while many
    /// connections are in between.
    pub connect_time: Duration,
    pub busy_connect_time: Duration,
    /// From the first byte of a packet to its last.
    pub packet_time: Duration,
    /// Keepalive in seconds of a client that asks for none.
    pub keepalive_default: u16,
    /// Longest keepalive in seconds of an MQTT 5 client.
    pub keepalive_max: u16,
    /// Filters of one session.
    pub subscriptions_max: usize,
    /// A client takes what it is sent within this time, or is cut.
    pub write_time: Duration,
    /// Longest life of a session without a connection.
    pub session_time: Duration,
    /// Connections of known accounts.
    pub connections_max: usize,
    /// Connections before their CONNECT.
    pub pending_max: usize,
    /// Connections of one address before their CONNECT.
    pub pending_per_address: usize,
    /// Packets a second of one account.
    pub packets_per_second: u32,
    /// Bytes a second of one account.
    pub bytes_per_second: u32,
    /// File of the gateways that have shown a certificate; `None` to remember them until the end.
    pub certified_gateways: Option<PathBuf>,
}

impl Default for MqttConfig {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            identity: None,
            connect_time: limits::CONNECT_TIME,
            busy_connect_time: limits::CONNECT_TIME_BUSY,
            packet_time: limits::PACKET_TIME,
            keepalive_default: limits::KEEPALIVE_DEFAULT,
            keepalive_max: limits::KEEPALIVE_MAX,
            subscriptions_max: limits::FILTERS_MAX,
            write_time: limits::WRITE_TIME,
            session_time: limits::SESSION_TIME,
            connections_max: limits::CONNECTIONS_MAX,
            pending_max: limits::PENDING_MAX,
            pending_per_address: limits::PENDING_PER_ADDRESS,
            packets_per_second: limits::PACKETS_PER_SECOND,
            bytes_per_second: limits::BYTES_PER_SECOND,
            certified_gateways: None,
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
    /// The address is taken or not one of this machine.
    #[error("listening for MQTT on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The file of the gateways that have shown a certificate.
    #[error("reading {}", path.display())]
    CertifiedGateways {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// The certificate or its key is not usable.
    #[error("preparing TLS for MQTT")]
    Tls(#[source] tls::SetupError),
}

/// The parts that all connections share.
pub(crate) struct Shared {
    config: MqttConfig,
    handle: Handle,
    accounts: Arc<Accounts>,
    sessions: Arc<SessionRegistry>,
    /// Gateways that are not let in by a token.
    certified: Arc<CertifiedGateways>,
    /// The newest certified header as JSON; `None` until there is one.
    head: watch::Sender<Option<Bytes>>,
    notifications: NotificationHub,
    work: WorkQueue,
    /// Transactions whose receipt is still to be sent.
    receipts: Arc<Semaphore>,
    counters: Arc<Counters>,
    /// Connections before their CONNECT.
    pending: Arc<Semaphore>,
    /// The share of each address in them.
    pending_shares: AddressShares,
    /// Connections of known accounts.
    places: Arc<Semaphore>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Shared {
    fn new(
        config: MqttConfig,
        handle: Handle,
        accounts: Arc<Accounts>,
    ) -> Result<Self, StartError> {
        let certified = match &config.certified_gateways {
            Some(path) => {
                let opened = CertifiedGateways::open(path);
                let path = path.clone();
                opened.map_err(|source| StartError::CertifiedGateways { path, source })?
            }
            None => CertifiedGateways::default(),
        };
        let (counters, stop) = (Arc::new(Counters::default()), CancellationToken::new());
        let rates = Rates {
            packets: config.packets_per_second,
            bytes: config.bytes_per_second,
            subscriptions: config.subscriptions_max,
        };
        let sessions = Arc::new(SessionRegistry::new(rates, Arc::clone(&counters)));
        let tasks = TaskTracker::new();
        Ok(Self {
            accounts,
            certified: Arc::new(certified),
            head: watch::Sender::default(),
            notifications: NotificationHub::new(handle.clone(), Arc::clone(&counters)),
            work: WorkQueue::new(
                handle.clone(),
                Arc::clone(&sessions),
                Arc::clone(&counters),
                tasks.clone(),
                stop.clone(),
            ),
            sessions,
            receipts: Arc::new(Semaphore::new(limits::RECEIPTS_MAX)),
            pending: Arc::new(Semaphore::new(config.pending_max)),
            pending_shares: AddressShares::new(config.pending_per_address),
            places: Arc::new(Semaphore::new(config.connections_max)),
            counters,
            stop,
            tasks,
            handle,
            config,
        })
    }

    /// Remembers that a gateway has a certificate. People may use several programs and are let in
    /// by either.
    fn remember_certificate(&self, account: &Account) {
        if account.kind != AccountKind::Gateway || !self.certified.add(&account.account) {
            return;
        }
        let certified = Arc::clone(&self.certified);
        self.tasks.spawn_blocking(move || save(&certified));
    }
}

/// The running MQTT edge of a node.
pub struct Edge {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
}

impl Edge {
    /// Binds the addresses and begins to accept. Must run inside tokio.
    pub fn start(config: MqttConfig, handle: Handle, tokens: Tokens) -> Result<Self, StartError> {
        // Before the first client, which misses none then.
        let (notifications_feed, work_feed) = (handle.subscribe(None), handle.subscribe(None));
        let listeners = bind_all(&config)?;
        let accounts = Arc::new(Accounts::new(handle.clone(), tokens));
        let acceptor = match &config.identity {
            Some(identity) => {
                let accounts = Arc::clone(&accounts);
                let is_registered = move |key: &PublicKey| accounts.by_key(key).is_some();
                let server = tls::server(identity, is_registered).map_err(StartError::Tls)?;
                Some(TlsAcceptor::from(Arc::new(server)))
            }
            None => None,
        };
        let shared = Arc::new(Shared::new(config, handle, accounts)?);
        let addresses = listeners.iter().map(|(address, ..)| *address).collect();
        for (_, tls, listener) in listeners {
            let acceptor = acceptor.clone().filter(|_| tls);
            shared
                .tasks
                .spawn(listener::accept(Arc::clone(&shared), listener, acceptor));
        }
        let resend = Arc::new(Notify::new());
        let tasks = &shared.tasks;
        tasks.spawn(sweep(Arc::clone(&shared)));
        tasks.spawn(head::run(Arc::clone(&shared)));
        tasks.spawn(notifications::run(Arc::clone(&shared), notifications_feed));
        let collect = work_feed::collect(Arc::clone(&shared), work_feed, Arc::clone(&resend));
        tasks.spawn(collect);
        tasks.spawn(work_feed::look_for_all(Arc::clone(&shared), resend));
        let work = shared.work.clone();
        tasks.spawn(async move { work.remind().await });
        Ok(Self { shared, addresses })
    }

    /// The addresses that are listened on, in the order of the configuration.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The counters.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.counters)
    }

    /// Closes all connections, with the reason for MQTT 5 clients, and stops listening. Sessions
    /// end, and wills are not published: the clients will be back.
    pub async fn stop(self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        let ended = self.shared.tasks.wait();
        if tokio::time::timeout(STOP_TIME, ended).await.is_err() {
            tracing::warn!("some MQTT connections did not end in time");
        }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

type BoundListener = (SocketAddr, bool, TcpListener);

fn bind_all(config: &MqttConfig) -> Result<Vec<BoundListener>, StartError> {
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

/// Writes the gateways with certificates. The next sweep tries again what fails.
fn save(certified: &CertifiedGateways) {
    if let Err(error) = certified.save() {
        let text = "the gateways with certificates can't be written";
        tracing::error!(%error, "{text}: a restart would forget the newest");
    }
}

/// Removes expired sessions and ends connections whose key was revoked, at intervals.
async fn sweep(shared: Arc<Shared>) {
    let mut interval = tokio::time::interval(limits::SWEEP_TIME);
    loop {
        tokio::select! {
            _ = interval.tick() => {
                shared.sessions.sweep();
                let shared = Arc::clone(&shared);
                // It may wait for the disk.
                let check = move || {
                    shared.sessions.revoke_invalid(&shared.accounts);
                    save(&shared.certified);
                };
                if let Err(error) = tokio::task::spawn_blocking(check).await {
                    tracing::error!(%error, "the keys of connected clients were not checked");
                }
            }
            () = shared.stop.cancelled() => return,
        }
    }
}
