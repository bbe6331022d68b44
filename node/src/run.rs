use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lamplighter_api as api;
use lamplighter_consensus::{Consensus, ConsensusError};
use lamplighter_ledger::{Handle, Identity, Ledger, OpenError, SystemClock, drop_diverged};
use lamplighter_net::{NetError, Network};
use lamplighter_rocks::{Closed, Options, RocksKv};
use lamplighter_store::{Kv, StoreError};
use lamplighter_types::{Genesis, Id, PublicKey, SecretKey};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use crate::bootstrap_peers::{BootstrapPeers, BootstrapPeersError};
use crate::config::{ConfigError, NodeConfig};
use crate::disk::{self, ConsensusGate, DiskMonitor};
use crate::edges::{EdgeThreads, edge_config};
use crate::fatal_errors::FatalErrors;
use crate::identity::{self, IdentityError};
use crate::key::{self, KeyError};
use crate::ledger_peers::LedgerPeers;
use crate::liveness::Liveness;
use crate::metrics::StoreMetrics;
use crate::peer_service::PeerService;
use crate::raft_transport::RaftTransport;
use crate::scrub::Scrubber;
use crate::store_identity::{self, IdentityRefusals, StoreIdentityError};

/// The version of the messages between nodes.
pub const PEER_PROTOCOL: u32 = 2;
/// The timeout of the shutdown of a node that failed.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// The reason why a node does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("the configuration can't be used")]
    Config(#[from] ConfigError),
    #[error("the node's key can't be used")]
    Key(#[from] KeyError),
    #[error("configuration, key, data directory and genesis file do not belong together")]
    Identity(#[from] Box<IdentityError>),
    #[error("the node's key and its data directory do not belong together")]
    StoreIdentity(#[from] StoreIdentityError),
    #[error("the note of the first peers")]
    BootstrapPeers(#[from] BootstrapPeersError),
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
    #[error("this node's log is not the others': it has to start again")]
    Diverged(String),
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
    /// The address for other nodes, with the port that the system chose.
    pub peer_address: SocketAddr,
    pub edges: api::EdgeAddresses,
    config: NodeConfig,
    consensus: Consensus,
    network: Network,
    refusals: Arc<IdentityRefusals>,
    fatal_errors: FatalErrors,
    tasks: TaskTracker,
    stop: CancellationToken,
    closed: Closed,
    /// Dropped last, after their tasks have ended.
    _edge_threads: EdgeThreads,
}

impl Node {
    /// Opens the data directory and starts every part, from the store up to the edges.
    pub async fn start(config: NodeConfig) -> Result<Self, NodeError> {
        let (genesis, secret) = prepare(&config)?;
        let fatal_errors = FatalErrors::new();
        let rocks = open_store(&config.data_dir.join("db"), &fatal_errors)?;
        let (closed, stop) = (rocks.closed(), CancellationToken::new());
        let started = Self::start_on(rocks, config, genesis, secret, fatal_errors, &stop).await;
        if started.is_err() {
            stop.cancel();
            wait_closed(closed).await;
        }
        started
    }

    /// Starts every part above the store.
    async fn start_on(
        rocks: RocksKv,
        config: NodeConfig,
        genesis: Genesis,
        secret: SecretKey,
        fatal_errors: FatalErrors,
        stop: &CancellationToken,
    ) -> Result<Self, NodeError> {
        let gate = ConsensusGate::default();
        let kv: Arc<dyn Kv> = Arc::new(rocks.clone());
        identity::check_chain(&config, &genesis, &*kv)?;
        identity::check_founder(&config, &genesis, secret.public())?;
        let chain_id = genesis.chain_id();
        let store =
            store_identity::claim(&config.key, &config.data_dir, &*kv, chain_id, config.node)?;
        let peers = Arc::new(LedgerPeers::new(gate.clone()));
        let ledger = open_ledger(&config, genesis, kv.clone(), &secret, peers.clone()).await?;
        let (stop, tasks) = (stop.clone(), TaskTracker::new());
        let service = PeerService::new(
            ledger.handle(),
            kv.clone(),
            store,
            gate.clone(),
            fatal_errors.clone(),
        );
        let network = start_network(&config, &secret, &service, &tasks, &stop).await?;
        peers.connect(&network, service.directory.clone());
        let identity = publish_identity(network.clone(), service.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(identity));
        let transport = Arc::new(RaftTransport {
            network: network.downgrade(),
            directory: service.directory.clone(),
            gate: gate.clone(),
        });
        let consensus = start_consensus(&config, kv, &ledger, transport).await?;
        let disk = Arc::new(DiskMonitor {
            dir: config.data_dir.clone(),
            config: config.disk.clone(),
            kv: rocks.clone(),
            handle: ledger.handle(),
            consensus: consensus.clone(),
            gate,
            fatal_errors: fatal_errors.clone(),
        });
        disk.check().await;
        let set = service.consensus.set(consensus.clone());
        assert!(set.is_ok(), "a node starts consensus once");
        let handle = ledger.start(consensus.clone(), &tasks, &stop);
        let edge_threads = EdgeThreads::start().map_err(NodeError::Threads)?;
        let figures: Vec<Box<dyn api::Collector>> = vec![Box::new(StoreMetrics(rocks.clone()))];
        let edge = edge_config(&config, &secret);
        let serving = edge_threads.serve(edge, handle.clone(), figures, &tasks, &stop);
        let node = Self {
            edges: serving.await?,
            peer_address: network.local_address(),
            handle,
            config: config.clone(),
            consensus,
            network,
            refusals: service.refusals.clone(),
            fatal_errors,
            tasks,
            stop,
            closed: rocks.closed(),
            _edge_threads: edge_threads,
        };
        node.watch_disk(&config, disk, rocks);
        Ok(node)
    }

    /// Starts the tasks that find errors of the disk, and those that act on fatal errors.
    fn watch_disk(&self, config: &NodeConfig, disk: Arc<DiskMonitor>, kv: RocksKv) {
        let (tasks, stop) = (&self.tasks, || self.stop.clone());
        tasks.spawn(disk.run(stop()));
        if config.disk.scrub_bytes_per_s > 0 {
            let scrubber = Scrubber {
                kv,
                handle: self.handle.clone(),
                consensus: self.consensus.clone(),
                images: config.data_dir.join("snapshots"),
                bytes_per_s: config.disk.scrub_bytes_per_s,
                fatal_errors: self.fatal_errors.clone(),
            };
            tasks.spawn(scrubber.run(stop()));
        }
        tasks.spawn(stop_on_error(self.fatal_errors.clone(), stop()));
        let artifacts = self.handle.artifacts().failed();
        tasks.spawn(report_artifacts(
            artifacts,
            self.fatal_errors.clone(),
            stop(),
        ));
        tasks.close();
    }

    /// What tells whether the node makes progress.
    pub fn liveness(&self) -> Liveness {
        Liveness {
            handle: self.handle.clone(),
            consensus: self.consensus.clone(),
            admin: self.edges.admin,
        }
    }

    /// Waits until the node stops by itself: the store, a sync or the state failed, and its service
    /// has ended.
    pub async fn failed(&self) -> NodeError {
        tokio::select! {
            biased;
            what = self.fatal_errors.wait() => NodeError::Failed(what),
            reason = self.refusals.permanent() => NodeError::Refused(reason),
            halt = self.handle.contradicted() => {
                let reason = halt.to_string();
                match self.consensus.diverge(&reason).await {
                    Ok(()) => NodeError::Diverged(reason),
                    Err(error) => NodeError::Consensus(error),
                }
            }
            error = self.consensus.stopped() => match (self.fatal_errors.first(), error) {
                (Some(what), _) => NodeError::Failed(what),
                (None, ConsensusError::Diverged(reason)) => NodeError::Diverged(reason),
                (None, error) => NodeError::Consensus(error),
            },
        }
    }

    /// Starts again after [`NodeError::Diverged`]: the start drops log and state, and the node
    /// catches up under its identity.
    pub async fn restart(self) -> Result<Self, NodeError> {
        let config = self.config.clone();
        if let Err(error) = self.shutdown().await {
            tracing::warn!(%error, "the node that starts again did not end cleanly");
        }
        Self::start(config).await
    }

    /// Ends the edges first, then the ledger, consensus and the network, and closes the store. A
    /// node that failed waits for them only for a short time.
    pub async fn shutdown(self) -> Result<(), NodeError> {
        self.stop.cancel();
        let closed = self.closed.clone();
        let ended = match self.fatal_errors.first() {
            None => self.end().await,
            Some(what) => {
                let ended = tokio::time::timeout(SHUTDOWN_TIMEOUT, self.end()).await;
                if ended.is_err() {
                    tracing::warn!("a part of the node did not end");
                }
                Err(NodeError::Failed(what))
            }
        };
        wait_closed(closed).await;
        ended
    }

    async fn end(self) -> Result<(), NodeError> {
        self.tasks.wait().await;
        self.consensus.shutdown().await?;
        self.network.shutdown().await;
        Ok(())
    }
}

/// Waits until nothing holds the store any more, so that the process can exit and the directory can
/// be opened again.
async fn wait_closed(closed: Closed) {
    let waited = tokio::task::spawn_blocking(move || closed.wait(SHUTDOWN_TIMEOUT)).await;
    if !waited.unwrap_or_default() {
        tracing::warn!("the store is still in use");
    }
}

/// Opens the store, and repairs it if needed. Any later error of it is fatal for the node.
fn open_store(path: &Path, fatal_errors: &FatalErrors) -> Result<RocksKv, NodeError> {
    let opened = RocksKv::open_or_repair(path, Options::default());
    let (rocks, damage) = opened.map_err(damaged)?;
    if let Some(damage) = damage {
        tracing::warn!(%damage, "repaired: what was removed comes from the other nodes");
    }
    let fatal_errors = fatal_errors.clone();
    rocks.when_failed(move |failure| fatal_errors.report(&failure.what));
    Ok(rocks)
}

/// Distinguishes damage that other nodes cannot repair.
fn damaged(error: StoreError) -> NodeError {
    match error {
        StoreError::Corrupt { .. } => NodeError::Damaged(error),
        error => NodeError::Store(error),
    }
}

/// Reports a failed sync of an artifact as a fatal error.
async fn report_artifacts(
    mut failed: watch::Receiver<Option<Arc<str>>>,
    fatal_errors: FatalErrors,
    stop: CancellationToken,
) {
    let report = async {
        if let Ok(what) = failed.wait_for(Option::is_some).await {
            fatal_errors.report(what.as_deref().unwrap_or("syncing an artifact"));
        }
    };
    stop.run_until_cancelled(report).await;
}

/// Ends the service of a node that failed.
async fn stop_on_error(fatal_errors: FatalErrors, stop: CancellationToken) {
    if stop
        .run_until_cancelled(fatal_errors.wait())
        .await
        .is_some()
    {
        stop.cancel();
    }
}

async fn open_ledger(
    config: &NodeConfig,
    genesis: Genesis,
    kv: Arc<dyn Kv>,
    secret: &SecretKey,
    peers: Arc<LedgerPeers>,
) -> Result<Ledger, NodeError> {
    drop_diverged(&*kv, &config.data_dir.join("snapshots"))?;
    let mut settings = lamplighter_ledger::LedgerConfig::new(config.node);
    settings.heartbeat_every = config.heartbeat();
    settings.clock_offset_max_ms = config.clock_offset_max_ms;
    settings.mempool.per_account_max = config.quotas.pending_transactions as usize;
    settings.uploads_per_account_max = config.quotas.uploads as usize;
    let identity = Identity {
        account: account_of(&genesis, config.node),
        secret: secret.clone(),
    };
    let artifacts = config.data_dir.join("artifacts");
    let clock = Arc::new(SystemClock);
    let ledger = Ledger::open(kv, genesis, settings, identity, &artifacts, peers, clock).await?;
    let (handle, key) = (ledger.handle(), secret.public());
    let membership = handle.watch_membership().borrow().clone();
    identity::check_member(config, handle.chain_id(), &membership, key)?;
    handle.add_bootstrap_validators(BootstrapPeers::read(&config.data_dir)?.into());
    Ok(ledger)
}

/// Reads the genesis file and the key, and creates the data directory of a new node.
fn prepare(config: &NodeConfig) -> Result<(Genesis, SecretKey), NodeError> {
    let genesis = config.read_genesis()?;
    let secret = key::read(&config.key)?;
    store_identity::require_data(&config.key, &config.data_dir)?;
    std::fs::create_dir_all(&config.data_dir)
        .map_err(|e| NodeError::Directory(config.data_dir.display().to_string(), e))?;
    Ok((genesis, secret))
}

/// The account of a node. For a node that was added after genesis it is a placeholder until the
/// ledger names the node.
fn account_of(genesis: &Genesis, node: u64) -> Id {
    match genesis.validators.by_node(node) {
        Some(validator) => validator.account.clone(),
        None => Id::new(format!("node-{node}")).expect("letters, a dash and digits are an id"),
    }
}

/// Reports to the operator why other nodes may not accept this node's identity.
async fn publish_identity(network: Network, service: Arc<PeerService>) {
    let mut refused = service.refusals.watch_summary();
    let mut connected = network.connected();
    connected.mark_changed();
    let mut in_use: Option<String> = None;
    loop {
        let refusal = refused.borrow_and_update().clone();
        let report = in_use.clone().or(refusal);
        service.ledger.set_identity_trouble(report);
        tokio::select! {
            changed = network.key_in_use(in_use.as_deref()) => in_use = changed,
            Ok(()) = refused.changed() => {}
            Ok(()) = connected.changed() => {
                // A connected peer has accepted this node: its handshake came after the check.
                let peers = connected.borrow_and_update().clone();
                let keys: Vec<_> = peers.iter().map(|key| PublicKey(key.0)).collect();
                service.refusals.retract(&service.directory.validators(), &keys);
            }
        }
    }
}

async fn start_network(
    config: &NodeConfig,
    secret: &SecretKey,
    service: &Arc<PeerService>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Network, NodeError> {
    let mut directory = service.directory.clone();
    let (allow_list, allowed) = watch::channel(directory.allow_list());
    let settings = lamplighter_net::NetConfig {
        secret: Zeroizing::new(secret.seed()),
        listen: config.peer_listen,
        chain_id: service.ledger.chain_id().0,
        protocol: PEER_PROTOCOL,
        dials_all: false,
        limits: Default::default(),
    };
    let network = Network::start(settings, allowed, service.clone()).await?;
    let follow = async move {
        while directory.changed().await {
            if allow_list.send(directory.allow_list()).is_err() {
                return;
            }
        }
    };
    let stop = stop.clone();
    tasks.spawn(async move { stop.run_until_cancelled(follow).await });
    Ok(network)
}

async fn start_consensus(
    config: &NodeConfig,
    kv: Arc<dyn Kv>,
    ledger: &Ledger,
    transport: Arc<RaftTransport>,
) -> Result<Consensus, NodeError> {
    let snapshots = config.data_dir.join("snapshots");
    let mut settings = lamplighter_consensus::ConsensusConfig::new(config.node, snapshots);
    config.disk.limit(&mut settings.limits);
    settings.free_bytes = Some(disk::free_bytes);
    let named = transport.directory.validators();
    let announced = ledger
        .handle()
        .watch_announced_validators()
        .borrow()
        .clone();
    let announced = announced
        .iter()
        .flat_map(|upcoming| &upcoming.validators.validators);
    let others = named.validators.iter().chain(announced).map(|v| v.node);
    let others: BTreeSet<u64> = others.filter(|node| *node != config.node).collect();
    settings.sources = others.into_iter().collect();
    let consensus = Consensus::start(
        settings,
        kv,
        transport,
        ledger.state_machine(),
        ledger.electorate(),
    )
    .await?;
    let genesis = ledger.handle().genesis().validators.clone();
    if genesis.by_node(config.node).is_some() && consensus.metrics().voters.is_empty() {
        // All validators of the genesis begin with the same members; later starts change nothing.
        let members = genesis.validators.iter().map(|v| v.node).collect();
        consensus.bootstrap(&members).await?;
    }
    Ok(consensus)
}
