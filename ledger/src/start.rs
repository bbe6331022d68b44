use std::path::Path;
use std::sync::{Arc, OnceLock};

use lamplighter_consensus::{Consensus, ConsensusError, Electorate, StateMachine};
use lamplighter_contracts::genesis;
use lamplighter_state::tables::BlockLists;
use lamplighter_state::tree::{FetchedPages, LeafChanges, Tree};
use lamplighter_state::{Overlay, StateError, View, tables};
use lamplighter_store::{Durability, Kv, StoreError, WriteBatch};
use lamplighter_types::merkle::{History, list};
use lamplighter_types::{Genesis, GenesisError, HEADER_VERSION, Hash, Header, SecretKey};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::alarms::Alarms;
use crate::apply::snapshot;
use crate::apply::snapshot_check::{ImageError, load_head};
use crate::apply::state_machine::LedgerStateMachine;
use crate::artifacts::replicate::{ArtifactReplicator, releases};
use crate::artifacts::{ArtifactError, ArtifactLimits, Artifacts};
use crate::blocking::Blocking;
use crate::certify::attester::Attester;
use crate::certify::certifier::Certifier;
use crate::certify::fetch::CertificateFetcher;
use crate::chain::{Chain, ExecutedBlock, Head, put_block};
use crate::clock::Clock;
use crate::clock_comparison::ClockComparison;
use crate::config::LedgerConfig;
use crate::evidence::EvidenceStore;
use crate::handle::{Handle, Stages};
use crate::message::Peers;
use crate::order::electorate::LedgerElectorate;
use crate::order::forwarder::Forwarder;
use crate::order::leader_contact::LeaderContact;
use crate::order::reconciler::MembershipReconciler;
use crate::order::sequencer::Sequencer;
use crate::peers::health::HealthMonitor;
use crate::peers::progress::{Progress, ProgressMonitor};
use crate::peers::server::PeerServer;
use crate::peers::validator_discovery::{ValidatorAnnouncements, ValidatorDiscovery};
use crate::read::device_index;
use crate::read::feed::{Feed, complete_index};
use crate::submit::admission::Admission;
use crate::submit::mempool::Mempool;
use crate::submit::node_account::{Identity, NodeAccount};
use crate::submit::resolver::TicketResolver;

/// Why a node's ledger does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the genesis file is not usable")]
    Genesis(#[from] GenesisError),
    #[error("the genesis can't be carried out: {0}")]
    Install(String),
    #[error("the data directory can't be used")]
    State(#[from] StateError),
    #[error("the store failed")]
    Store(#[from] StoreError),
    #[error("the artifacts can't be opened")]
    Artifacts(#[from] ArtifactError),
    #[error("the evidence can't be read")]
    Evidence(#[source] std::io::Error),
    #[error("the installation of an image was interrupted, and the image can't be used any more")]
    HalfInstalled(#[source] ImageError),
}

/// A node's ledger before consensus runs.
pub struct Ledger {
    handle: Handle,
    state_machine: Arc<LedgerStateMachine>,
    config: LedgerConfig,
    secret: SecretKey,
    clock: Arc<dyn Clock>,
}

impl Ledger {
    /// Opens the chain in `kv`, or begins it with the genesis block. Needs a tokio runtime.
    ///
    /// # Errors
    /// A genesis that is not usable, data of another chain, or a state that is not the one its
    /// header names.
    pub async fn open(
        kv: Arc<dyn Kv>,
        genesis: Genesis,
        config: LedgerConfig,
        identity: Identity,
        artifacts: &Path,
        peers: Arc<dyn Peers>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        genesis.check()?;
        let blocking = if config.inline {
            Blocking::Inline
        } else {
            Blocking::Threads
        };
        // Beside the artifacts, where an operator finds it.
        let evidence = artifacts.with_file_name("evidence");
        let data_dir = artifacts.parent().unwrap_or(Path::new("."));
        let limits = ArtifactLimits {
            uploads_per_account_max: config.uploads_per_account_max,
            ..ArtifactLimits::default()
        };
        let tree = Tree::on_disk(data_dir, config.tree_keys_in_memory);
        let artifacts = Artifacts::open(artifacts.to_owned(), limits).await?;
        let open = move || open_chain(kv, genesis, tree);
        let chain = Arc::new(blocking.run(open).await?);
        let mempool = Arc::new(Mempool::new(config.mempool.clone()));
        let resolver = TicketResolver::new(chain.clone(), mempool.clone());
        let alarms = Arc::new(Alarms::new(clock.clone()));
        let evidence = EvidenceStore::open(evidence, chain.clone(), alarms.clone());
        let evidence = Arc::new(evidence.map_err(OpenError::Evidence)?);
        let clocks = Arc::new(ClockComparison::new(
            config.node,
            config.clock_offset_max_ms,
            clock.clone(),
            chain.clone(),
            peers.clone(),
        ));
        let state_machine = LedgerStateMachine {
            chain,
            mempool,
            resolver,
            blocking,
            alarms,
            clocks,
            installation: watch::Sender::new(None),
        };
        let secret = identity.secret.clone();
        let stages = stages(
            &state_machine,
            &config,
            identity,
            artifacts,
            peers,
            &clock,
            evidence,
        );
        Ok(Self {
            handle: Handle(Arc::new(stages)),
            state_machine: Arc::new(state_machine),
            config,
            secret,
            clock,
        })
    }

    /// The state machine for consensus to drive.
    pub fn state_machine(&self) -> Arc<dyn StateMachine> {
        self.state_machine.clone()
    }

    /// The voters, for consensus to ask.
    pub fn electorate(&self) -> Arc<dyn Electorate> {
        let stages = &self.handle.0;
        Arc::new(LedgerElectorate {
            chain: stages.chain.clone(),
            announced: stages.announcements.watch(),
            secret: self.secret.clone(),
            evidence: stages.evidence.clone(),
        })
    }

    /// The handle, so that the node can serve others before the tasks run. Forwarded transactions
    /// are not accepted before [`start`](Self::start).
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Starts the tasks with a consensus that drives [`state_machine`](Self::state_machine). They
    /// end with `stop`.
    pub fn start(
        self,
        consensus: Consensus,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Handle {
        let stages = &self.handle.0;
        let set = stages.consensus.set(consensus.clone());
        assert!(set.is_ok(), "a ledger is started once: start consumes it");
        self.spawn_order(&consensus, tasks, stop);
        self.spawn_certify(tasks, stop);
        self.spawn_peers(consensus, tasks, stop);
        let replicator = ArtifactReplicator {
            node: self.config.node,
            chain: stages.chain.clone(),
            artifacts: stages.artifacts.clone(),
            node_account: stages.node_account.clone(),
            peers: stages.peers.clone(),
            alarms: stages.alarms.clone(),
            blocking: self.state_machine.blocking,
        };
        let feed = stages.feed.subscribe(None).matching(releases());
        tasks.spawn(replicator.run(feed, stop.clone()));
        self.handle
    }

    fn spawn_order(&self, consensus: &Consensus, tasks: &TaskTracker, stop: &CancellationToken) {
        let stages = &self.handle.0;
        let sequencer = Sequencer {
            config: self.config.clone(),
            chain: stages.chain.clone(),
            mempool: stages.mempool.clone(),
            clock: self.clock.clone(),
            clocks: self.state_machine.clocks.clone(),
            consensus: consensus.clone(),
        };
        let forwarder = Forwarder {
            config: self.config.clone(),
            mempool: stages.mempool.clone(),
            resolver: self.state_machine.resolver.clone(),
            peers: stages.peers.clone(),
            consensus: consensus.clone(),
        };
        let reconciler = MembershipReconciler {
            chain: stages.chain.clone(),
            consensus: consensus.clone(),
        };
        tasks.spawn(sequencer.run(stop.clone()));
        tasks.spawn(forwarder.run(stop.clone()));
        tasks.spawn(reconciler.run(stop.clone()));
        let contact = stages.leader_contact.clone();
        let peers = stages.peers.clone();
        tasks.spawn(contact.run(consensus.clone(), peers, stop.clone()));
    }

    fn spawn_certify(&self, tasks: &TaskTracker, stop: &CancellationToken) {
        let stages = &self.handle.0;
        let attester = Attester {
            config: self.config.clone(),
            secret: self.secret.clone(),
            chain: stages.chain.clone(),
            certifier: stages.certifier.clone(),
            peers: stages.peers.clone(),
            alarms: stages.alarms.clone(),
            clock: self.clock.clone(),
            blocking: self.state_machine.blocking,
        };
        let fetcher = CertificateFetcher {
            chain: stages.chain.clone(),
            certifier: stages.certifier.clone(),
            peers: stages.peers.clone(),
        };
        tasks.spawn(attester.run(stop.clone()));
        tasks.spawn(fetcher.run(stop.clone()));
    }

    fn spawn_peers(&self, consensus: Consensus, tasks: &TaskTracker, stop: &CancellationToken) {
        let stages = &self.handle.0;
        let health = HealthMonitor {
            chain: stages.chain.clone(),
            alarms: stages.alarms.clone(),
            clocks: self.state_machine.clocks.clone(),
            announcements: stages.announcements.clone(),
            consensus: consensus.clone(),
        };
        let monitor = ProgressMonitor {
            chain: stages.chain.clone(),
            certifier: stages.certifier.clone(),
            peers: stages.peers.clone(),
            consensus,
            installation: stages.installation.clone(),
            progress: stages.progress.clone(),
        };
        let discovery = ValidatorDiscovery {
            chain: stages.chain.clone(),
            announcements: stages.announcements.clone(),
            certifier: stages.certifier.clone(),
            peers: stages.peers.clone(),
            progress: stages.progress.subscribe(),
            blocking: self.state_machine.blocking,
            heartbeat_every: self.config.heartbeat_every,
        };
        tasks.spawn(health.run(stop.clone()));
        tasks.spawn(monitor.run(stop.clone()));
        tasks.spawn(discovery.run(stop.clone()));
    }
}

/// Everything that works before consensus runs.
fn stages(
    state_machine: &LedgerStateMachine,
    config: &LedgerConfig,
    identity: Identity,
    artifacts: Artifacts,
    peers: Arc<dyn Peers>,
    clock: &Arc<dyn Clock>,
    evidence: Arc<EvidenceStore>,
) -> Stages {
    let LedgerStateMachine {
        chain,
        mempool,
        resolver,
        blocking,
        alarms,
        clocks,
        installation,
    } = state_machine;
    let leader_contact = Arc::new(LeaderContact::new());
    let admission = Arc::new(Admission::start(
        chain.clone(),
        mempool.clone(),
        resolver.clone(),
        alarms.clone(),
        leader_contact.clone(),
        *blocking,
    ));
    let node_account = NodeAccount::new(identity, chain.clone(), admission.clone(), clock.clone());
    let consensus = Arc::new(OnceLock::new());
    let peer_server = PeerServer {
        chain: chain.clone(),
        mempool: mempool.clone(),
        artifacts: artifacts.clone(),
        blocking: *blocking,
        clock: clock.clone(),
        consensus: consensus.clone(),
    };
    Stages {
        node: config.node,
        certifier: Arc::new(Certifier::new(
            chain.clone(),
            alarms.clone(),
            evidence.clone(),
        )),
        feed: Feed::new(chain.clone(), *blocking),
        announcements: Arc::new(ValidatorAnnouncements::new(chain.clone())),
        chain: chain.clone(),
        alarms: alarms.clone(),
        evidence,
        blocking: *blocking,
        clocks: clocks.clone(),
        mempool: mempool.clone(),
        admission,
        node_account: Arc::new(node_account),
        consensus,
        leader_contact,
        installation: installation.subscribe(),
        peers,
        peer_server,
        progress: watch::Sender::new(Progress::default()),
        identity_trouble: watch::Sender::new(None),
        artifacts,
    }
}

/// Drops log and state of a node that noted that they are not the others', before its ledger is
/// opened; returns whether there was a note. It catches up like a new node, and keeps its identity,
/// its vote, what it attested, and its evidence.
///
/// # Errors
/// The store or the directory of images failed: the next start does it again.
pub fn drop_diverged(kv: &dyn Kv, snapshots: &Path) -> Result<bool, ConsensusError> {
    lamplighter_consensus::reset(kv, snapshots, |batch| tables::put_installing(batch, None))
}

/// Opens the chain, with an empty tree for its state.
fn open_chain(kv: Arc<dyn Kv>, genesis: Genesis, tree: Tree) -> Result<Chain, OpenError> {
    snapshot::resume(&*kv, &genesis, tree.empty_like()).map_err(OpenError::HalfInstalled)?;
    let head = match tables::head_height(&*kv)? {
        Some(_) => load_head(kv.clone(), &genesis.chain_id(), tree)?,
        None => create_genesis_block(&kv, &genesis, tree)?,
    };
    complete_index(&*kv, head.header.height)?;
    device_index::complete(&*kv, head.header.height)?;
    Ok(Chain::new(kv, genesis, head)?)
}

/// Makes and writes the block of height 0, which is the same on every node: it follows from the
/// genesis file alone. Its state comes into an empty tree.
pub(crate) fn create_genesis_block(
    kv: &Arc<dyn Kv>,
    genesis: &Genesis,
    mut tree: Tree,
) -> Result<Head, OpenError> {
    let mut overlay = Overlay::new(View::new(kv.clone()));
    genesis::install(&mut overlay, genesis).map_err(|e| OpenError::Install(e.to_string()))?;
    overlay.commit();
    let changes = overlay.into_changes();
    let state_root = tree.update(&LeafChanges::of(&changes), FetchedPages::default())?;
    let empty = list::block_root(std::iter::empty::<&[u8]>());
    let history = History::new();
    let header = Header {
        version: HEADER_VERSION,
        chain_id: genesis.chain_id(),
        height: 0,
        parent: Hash::ZERO,
        timestamp_ms: genesis.created_ms,
        tx_root: empty,
        receipt_root: empty,
        event_root: empty,
        state_root,
        history_root: history.root(),
        validators_hash: genesis.validators.hash(),
        batch: Hash::ZERO,
        position: Hash::ZERO,
    };
    let validators = Arc::new(genesis.validators.clone());
    let hash = header.hash();
    let block = ExecutedBlock {
        header: header.clone(),
        transactions: Vec::new(),
        receipts: Vec::new(),
        refused: Vec::new(),
        lists: BlockLists::of(&[], &[], &changes.events),
        changes,
    };
    let mut head = Head {
        hash,
        header,
        tree,
        history,
        validators: validators.clone(),
    };
    let mut writes = WriteBatch::new();
    put_block(&mut writes, &mut head, &block, Some(&validators))?;
    kv.write(writes, Durability::Synced)?;
    Ok(head)
}
