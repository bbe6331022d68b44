use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use lamplighter_api as api;
use lamplighter_consensus::{Consensus, ConsensusError};
use lamplighter_ledger::{Handle, Identity, Ledger, OpenError, SystemClock};
use lamplighter_net::{NetError, Network};
use lamplighter_rocks::{Options, RocksKv};
use lamplighter_store::{Kv, StoreError};
use lamplighter_types::{Genesis, Id, SecretKey};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use crate::bridge::Bridge;
use crate::config::{Config, ConfigError};
use crate::disk::{Gate, Watch};
use crate::edges::EdgeThreads;
use crate::failure::Failures;
use crate::identity::{self, IdentityError};
use crate::key::{self, KeyError};
use crate::metrics::StoreMetrics;
use crate::origin::{self, OriginError};
use crate::peers::{Contacts, FirstPeers, PeersError};
use crate::scrub::Scrubber;

/// Version of what nodes say to each other.
const PEER_PROTOCOL: u32 = 2;
/// How long a node that failed takes leave of its parts.
const END_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

/// Why a node does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("the configuration can't be used")]
    Config(#[from] ConfigError),
    #[error("the node's key can't be used")]
    Key(#[from] KeyError),
    #[error("configuration, key, data directory and genesis file do not belong together")]
    Identity(#[from] Box<IdentityError>),
    #[error("the node's key and its data directory do not belong together")]
    Origin(#[from] OriginError),
    #[error("the note of the first peers")]
    Peers(#[from] PeersError),
    #[error("the other nodes refuse this one: {0}")]
    Refused(String),
    #[error(
        "what this node has promised is damaged (its log, its vote, what it signed): it must not \
         go on under its identity; replace it by a new one, `lamplighter node join`"
    )]
    Damaged(#[source] StoreError),
    #[error("the store can't be opened")]
    Store(#[from] StoreError),
    #[error("the ledger can't be opened")]
    Open(#[from] OpenError),
    #[error("the network can't be started")]
    Network(#[from] NetError),
    #[error("consensus can't be started, or stopped")]
    Consensus(#[from] ConsensusError),
    #[error("the edges can't be started")]
    Edges(#[from] api::ServeError),
    #[error("the threads of the edges can't be started")]
    Threads(#[source] std::io::Error),
    #[error("{0}")]
    Failed(Arc<str>),
    #[error("creating {0}")]
    Directory(String, #[source] std::io::Error),
}

/// A running node.
pub struct Node {
    pub handle: Handle,
    /// Where it listens, with the ports that the system chose.
    pub peer_address: SocketAddr,
    pub edges: api::EdgeAddresses,
    consensus: Consensus,
    network: Network,
    bridge: Arc<Bridge>,
    failures: Failures,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Ended last: their tasks are among the others.
    _edge_threads: EdgeThreads,
}

impl Node {
    /// Opens the data directory and starts every part, from the store up to the edges.
    pub async fn start(config: Config) -> Result<Self, NodeError> {
        let (genesis, secret) = prepare(&config)?;
        let (gate, failures) = (Gate::default(), Failures::new());
        let rocks = open_store(&config.data_dir.join("db"), &failures)?;
        let kv: Arc<dyn Kv> = Arc::new(rocks.clone());
        let bridge = Bridge::new(gate.clone(), failures.clone());
        identity::check_chain(&config, &genesis, &*kv)?;
        identity::check_founder(&config, &genesis, secret.public())?;
        let chain_id = genesis.chain_id();
        let store = origin::claim(&config.key, &config.data_dir, &*kv, chain_id, config.node)?;
        bridge.set_origin(store, kv.clone());
        let ledger = open_ledger(&config, genesis, kv.clone(), &secret, &bridge).await?;
        let first = FirstPeers::read(&config.data_dir)?;
        ledger.handle().introduce(first.into_later());
        bridge.set_ledger(ledger.handle());
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let network =
            start_network(&config, &ledger.handle(), &secret, &bridge, &tasks, &stop).await?;
        bridge.set_network(network.clone());
        let watch = watch_identity(network.clone(), bridge.clone(), ledger.handle());
        tasks.spawn(stop.clone().run_until_cancelled_owned(watch));
        let consensus = start_consensus(&config, kv, &ledger, &bridge).await?;
        let disk = Arc::new(Watch {
            dir: config.data_dir.clone(),
            config: config.disk.clone(),
            kv: rocks.clone(),
            handle: ledger.handle(),
            consensus: consensus.clone(),
            gate,
            failures: failures.clone(),
        });
        disk.look().await;
        bridge.set_consensus(consensus.clone());
        let handle = ledger.start(consensus.clone(), &tasks, &stop);
        let (edge, figures) = (edge_config(&config, &secret), StoreMetrics(rocks.clone()));
        let figures: Vec<Box<dyn api::Collector>> = vec![Box::new(figures)];
        let edge_threads = EdgeThreads::start().map_err(NodeError::Threads)?;
        let serving = edge_threads.serve(edge, handle.clone(), figures, &tasks, &stop);
        let edges = serving.await?;
        tasks.spawn(disk.run(stop.clone()));
        if config.disk.scrub_bytes_per_s > 0 {
            let scrubber = Scrubber {
                kv: rocks,
                handle: handle.clone(),
                consensus: consensus.clone(),
                images: config.data_dir.join("snapshots"),
                bytes_per_s: config.disk.scrub_bytes_per_s,
                failures: failures.clone(),
            };
            tasks.spawn(scrubber.run(stop.clone()));
        }
        tasks.spawn(end_with(failures.clone(), stop.clone()));
        let artifacts = handle.artifacts().failed();
        tasks.spawn(report_artifacts(artifacts, failures.clone(), stop.clone()));
        tasks.close();
        let peer_address = network.local_address();
        Ok(Self {
            handle,
            peer_address,
            edges,
            consensus,
            network,
            bridge,
            failures,
            tasks,
            stop,
            _edge_threads: edge_threads,
        })
    }

    /// Waits until the node stops by itself, which it does when the store, a sync or the state
    /// fails. Its service has ended then.
    pub async fn failed(&self) -> NodeError {
        tokio::select! {
            biased;
            what = self.failures.wait() => NodeError::Failed(what),
            reason = self.bridge.refusals.for_good() => NodeError::Refused(reason),
            error = self.consensus.stopped() => match self.failures.first() {
                Some(what) => NodeError::Failed(what),
                None => NodeError::Consensus(error),
            },
        }
    }

    /// Ends the edges first, then the ledger, consensus and the network. A node that failed waits
    /// for none of them for long.
    pub async fn shutdown(self) -> Result<(), NodeError> {
        self.stop.cancel();
        let Some(what) = self.failures.first() else {
            return self.end().await;
        };
        if tokio::time::timeout(END_WITHIN, self.end()).await.is_err() {
            tracing::warn!("a part of the node did not end");
        }
        Err(NodeError::Failed(what))
    }

    async fn end(self) -> Result<(), NodeError> {
        self.tasks.wait().await;
        self.consensus.shutdown().await?;
        self.network.shutdown().await;
        self.bridge.clear();
        Ok(())
    }
}

/// Opens the store, repaired if need be; whatever fails in it from now on is a failure of the node.
fn open_store(path: &Path, failures: &Failures) -> Result<RocksKv, NodeError> {
    let opened = RocksKv::open_or_repair(path, Options::default());
    let (rocks, damage) = opened.map_err(damaged)?;
    if let Some(damage) = damage {
        tracing::warn!(%damage, "repaired: what was removed comes from the other nodes");
    }
    let reported = failures.clone();
    rocks.when_failed(move |failure| reported.report(&failure.what));
    Ok(rocks)
}

/// Damage that could not be repaired from other nodes.
fn damaged(error: StoreError) -> NodeError {
    match error {
        StoreError::Corrupt { .. } => NodeError::Damaged(error),
        error => NodeError::Store(error),
    }
}

/// A sync of an artifact that failed is a failure like any other.
async fn report_artifacts(
    mut failed: watch::Receiver<Option<Arc<str>>>,
    failures: Failures,
    stop: CancellationToken,
) {
    let report = async {
        if let Ok(what) = failed.wait_for(Option::is_some).await {
            failures.report(what.as_deref().unwrap_or("syncing an artifact"));
        }
    };
    stop.run_until_cancelled(report).await;
}

/// Ends the service of a node that failed, whoever owns it.
async fn end_with(failures: Failures, stop: CancellationToken) {
    if stop.run_until_cancelled(failures.wait()).await.is_some() {
        stop.cancel();
    }
}

async fn open_ledger(
    config: &Config,
    genesis: Genesis,
    kv: Arc<dyn Kv>,
    secret: &SecretKey,
    bridge: &Arc<Bridge>,
) -> Result<Ledger, NodeError> {
    let mut settings = lamplighter_ledger::Config::new(config.node);
    settings.heartbeat_every = config.heartbeat();
    settings.clock_offset_max_ms = config.clock_offset_max_ms;
    let identity = Identity {
        account: account_of(&genesis, config.node),
        secret: secret.clone(),
    };
    let artifacts = config.data_dir.join("artifacts");
    let (peers, clock) = (bridge.clone(), Arc::new(SystemClock));
    let ledger = Ledger::open(kv, genesis, settings, identity, &artifacts, peers, clock).await?;
    let (handle, key) = (ledger.handle(), secret.public());
    let membership = handle.watch_membership().borrow().clone();
    identity::check_member(config, handle.chain_id(), &membership, key)?;
    Ok(ledger)
}

/// Reads the genesis file and the key, and makes the data directory of a new node.
fn prepare(config: &Config) -> Result<(Genesis, SecretKey), NodeError> {
    let genesis = config.read_genesis()?;
    let secret = key::read(&config.key)?;
    origin::demand_data(&config.key, &config.data_dir)?;
    std::fs::create_dir_all(&config.data_dir)
        .map_err(|e| NodeError::Directory(config.data_dir.display().to_string(), e))?;
    Ok((genesis, secret))
}

/// The account of a node; of one that was added after genesis the ledger knows it later.
fn account_of(genesis: &Genesis, node: u64) -> Id {
    match genesis.validators.by_node(node) {
        Some(validator) => validator.account.clone(),
        None => Id::new(format!("node-{node}")).expect("letters, a dash and digits are an id"),
    }
}

/// Tells the operator why the others may not take this node for who it says it is.
async fn watch_identity(network: Network, bridge: Arc<Bridge>, handle: Handle) {
    let mut refused = bridge.refusals.told();
    let mut connected = network.connected();
    connected.mark_changed();
    let mut in_use: Option<String> = None;
    loop {
        let refusal = refused.borrow_and_update().clone();
        handle.set_identity_trouble(in_use.clone().or(refusal));
        tokio::select! {
            changed = network.key_in_use(in_use.as_deref()) => in_use = changed,
            Ok(()) = refused.changed() => {}
            Ok(()) = connected.changed() => bridge.taken_by(&connected.borrow_and_update()),
        }
    }
}

async fn start_network(
    config: &Config,
    handle: &Handle,
    secret: &SecretKey,
    bridge: &Arc<Bridge>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Network, NodeError> {
    let mut contacts = Contacts::of(handle);
    let (allow, allowed) = watch::channel(contacts.list());
    let settings = lamplighter_net::Config {
        secret: Zeroizing::new(secret.seed()),
        listen: config.peer_listen,
        chain_id: handle.chain_id().0,
        protocol: PEER_PROTOCOL,
        dials_all: false,
        limits: Default::default(),
    };
    let network = Network::start(settings, allowed, bridge.clone()).await?;
    let follow = async move {
        while contacts.changed().await {
            if allow.send(contacts.list()).is_err() {
                return;
            }
        }
    };
    let stop = stop.clone();
    tasks.spawn(async move { stop.run_until_cancelled(follow).await });
    Ok(network)
}

async fn start_consensus(
    config: &Config,
    kv: Arc<dyn Kv>,
    ledger: &Ledger,
    bridge: &Arc<Bridge>,
) -> Result<Consensus, NodeError> {
    let snapshots = config.data_dir.join("snapshots");
    let mut settings = lamplighter_consensus::Config::new(config.node, snapshots);
    config.disk.limit(&mut settings.limits);
    let known = ledger
        .handle()
        .watch_membership()
        .borrow()
        .named
        .validators
        .clone();
    let told = ledger.handle().watch_later().borrow().clone();
    let told = told.iter().flat_map(|later| &later.validators.validators);
    let others = known.validators.iter().chain(told).map(|v| v.node);
    let others: BTreeSet<u64> = others.filter(|node| *node != config.node).collect();
    settings.sources = others.into_iter().collect();
    let consensus = Consensus::start(settings, kv, bridge.clone(), ledger.state_machine()).await?;
    let genesis = ledger.handle().genesis().validators.clone();
    if genesis.by_node(config.node).is_some() && consensus.metrics().voters.is_empty() {
        // Every validator of the genesis begins with the same members; later starts change nothing.
        let members = genesis.validators.iter().map(|v| v.node).collect();
        consensus.bootstrap(&members).await?;
    }
    Ok(consensus)
}

fn edge_config(config: &Config, secret: &SecretKey) -> api::EdgeConfig {
    api::EdgeConfig {
        node: config.node,
        secret: secret.clone(),
        http_listen: config.http_listen,
        admin_listen: config.admin_listen,
        mqtt_listen: config.mqtt_listen,
        mqtts_listen: config.mqtts_listen,
        mqtt_connect_time: std::time::Duration::from_secs(config.mqtt_connect_s),
        read_needs_token: config.read_needs_token,
    }
}
