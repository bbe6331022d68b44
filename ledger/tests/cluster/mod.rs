//! Whole ledgers in one process: real consensus, real execution, a fake network, the store in
//! memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lamplighter_consensus::{
    Consensus, ConsensusError, Electorate, Limits, RaftLane, StateMachine, Transport,
    TransportError,
};
use lamplighter_ledger::{
    Acceptance, Clock, Handle, Identity, Ledger, LedgerConfig, OpenError, PeerAnswer, PeerError,
    PeerGossip, PeerRequest, Peers, SystemClock, drop_diverged,
};
use lamplighter_store::MemoryKv;
use lamplighter_types::{
    Action, Encoding, GENESIS_VERSION, Genesis, GenesisAccount, GovernanceAction, GovernanceChange,
    Grant, Hash, Id, Policies, Role, Scope, SecretKey, SignedTransaction, Transaction, UsersAction,
    Validator, ValidatorSet,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

pub fn node_secret(node: u64) -> SecretKey {
    SecretKey::from_seed([node as u8; 32])
}

pub fn admin_secret() -> SecretKey {
    SecretKey::from_seed([200; 32])
}

/// The key of the second administrator, who approves the first one's proposals.
fn deputy_secret() -> SecretKey {
    SecretKey::from_seed([201; 32])
}

/// The key of a founder who is no administrator.
pub fn secret_of(account: &str) -> SecretKey {
    SecretKey::from_seed(Hash::of(account.as_bytes()).0)
}

fn founder(account: &str, role: Role) -> GenesisAccount {
    GenesisAccount {
        account: id(account),
        name: account.into(),
        key: secret_of(account).public(),
        grants: vec![Grant::founding(role, Scope::city())],
    }
}

/// The system's clock, ahead by a time that tests set; one for all nodes.
#[derive(Default)]
pub struct TestClock(AtomicU64);

impl TestClock {
    /// Lets `time` pass.
    pub fn advance(&self, time: Duration) {
        self.0.fetch_add(time.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> u64 {
        now_ms() + self.0.load(Ordering::SeqCst)
    }
}

pub fn now_ms() -> u64 {
    SystemClock.now_ms()
}

pub fn genesis(nodes: u64) -> Genesis {
    let validator = |node: u64| Validator {
        node,
        account: id(&format!("node-{node}")),
        key: node_secret(node).public(),
        address: format!("127.0.0.1:{}", 9000 + node),
    };
    let administrator = |account: &str, secret: SecretKey| GenesisAccount {
        account: id(account),
        name: account.into(),
        key: secret.public(),
        grants: vec![Grant::founding(Role::Administrator, Scope::city())],
    };
    Genesis {
        version: GENESIS_VERSION,
        name: "Test City".into(),
        created_ms: now_ms(),
        validators: ValidatorSet {
            validators: (1..=nodes).map(validator).collect(),
        },
        organization: id("city"),
        accounts: vec![
            administrator("admin", admin_secret()),
            administrator("deputy", deputy_secret()),
            founder("acme", Role::Vendor),
            founder("anna", Role::Approver),
            founder("amir", Role::Approver),
            founder("sam", Role::Security),
        ],
        policies: Policies::default(),
    }
}

/// The registration of an organization.
pub fn register(name: &str) -> Action {
    Action::Users(UsersAction::RegisterOrganization {
        organization: id(name),
        name: name.to_owned(),
    })
}

/// Sender, receiver and append in, append out.
pub type Forger = Box<dyn FnMut(u64, u64, Bytes) -> Bytes + Send>;

/// The reachable nodes, and the faults of their connections.
#[derive(Default)]
pub struct Wires {
    /// Changes appends on their way, as their sender would.
    forger: Mutex<Option<Forger>>,
    nodes: Mutex<BTreeMap<u64, (Consensus, Handle)>>,
    /// Broadcasts of each node that had a certificate.
    certified_broadcasts: Mutex<BTreeMap<u64, u32>>,
    /// Nodes that neither send nor receive attestations.
    silent: Mutex<BTreeSet<u64>>,
    /// The leader accepts the next forwarded transactions, and loses them.
    loses_next: AtomicBool,
    /// The leader accepts all forwarded transactions, and loses them.
    loses_all: AtomicBool,
    /// Messages with forwarded transactions that were lost.
    lost: AtomicU32,
    /// Forwarded transactions that a leader refused.
    refused: AtomicU32,
}

impl Wires {
    fn node(&self, node: u64) -> Option<(Consensus, Handle)> {
        self.nodes.lock().unwrap().get(&node).cloned()
    }

    /// Returns whether the transactions that are forwarded now get lost.
    fn loses(&self) -> bool {
        let next = self.loses_next.swap(false, Ordering::SeqCst);
        let loses = next || self.loses_all.load(Ordering::SeqCst);
        self.lost.fetch_add(loses.into(), Ordering::SeqCst);
        loses
    }
}

struct Wire {
    from: u64,
    wires: Arc<Wires>,
}

impl Wire {
    /// The other node, if both are connected and each has the other in its membership.
    fn connect(&self, to: u64) -> Option<(Consensus, Handle)> {
        let (from, other) = (self.wires.node(self.from)?, self.wires.node(to)?);
        let lists =
            |handle: &Handle, node| handle.watch_membership().borrow().key_of(node).is_some();
        (lists(&from.1, to) && lists(&other.1, self.from)).then_some(other)
    }
}

#[async_trait]
impl Transport for Wire {
    async fn call(
        &self,
        to: u64,
        lane: RaftLane,
        request: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, TransportError> {
        let (consensus, _) = self.connect(to).ok_or(TransportError::Unreachable(to))?;
        let request = match &mut *self.wires.forger.lock().unwrap() {
            Some(forge) if lane == RaftLane::Append => forge(self.from, to, request),
            _ => request,
        };
        let answer = tokio::time::timeout(timeout, consensus.serve(self.from, lane, request));
        let answer = answer.await.map_err(|_| TransportError::Timeout(to))?;
        answer.map_err(|e| TransportError::Refused {
            node: to,
            reason: e.to_string(),
        })
    }
}

#[async_trait]
impl Peers for Wire {
    async fn request(&self, node: u64, request: PeerRequest) -> Result<PeerAnswer, PeerError> {
        let (_, handle) = self.connect(node).ok_or(PeerError::Unreachable(node))?;
        if let PeerRequest::Submit(transactions) = &request
            && self.wires.loses()
        {
            let accepted = vec![Acceptance::Accepted; transactions.len()];
            return Ok(PeerAnswer::Submitted(accepted));
        }
        let answer = handle.serve(self.from, request).await;
        if let Ok(PeerAnswer::Submitted(accepted)) = &answer {
            let refused = accepted.iter().filter(|a| **a == Acceptance::Refused);
            let refused = refused.count() as u32;
            self.wires.refused.fetch_add(refused, Ordering::SeqCst);
        }
        answer.map_err(|e| PeerError::Refused {
            node,
            reason: e.to_string(),
        })
    }

    fn broadcast(&self, gossip: PeerGossip) {
        let mut counts = self.wires.certified_broadcasts.lock().unwrap();
        *counts.entry(self.from).or_default() += u32::from(gossip.certified.is_some());
        drop(counts);
        let silent = self.wires.silent.lock().unwrap().clone();
        if silent.contains(&self.from) {
            return;
        }
        for node in self.connected() {
            if let Some((_, handle)) = self.connect(node).filter(|_| !silent.contains(&node)) {
                let gossip = gossip.clone();
                tokio::spawn(async move { handle.handle_gossip(gossip).await.unwrap() });
            }
        }
    }

    fn connected(&self) -> Vec<u64> {
        let nodes = self.wires.nodes.lock().unwrap();
        nodes
            .keys()
            .copied()
            .filter(|node| *node != self.from)
            .collect()
    }
}

pub struct Running {
    pub handle: Handle,
    pub machine: Arc<dyn StateMachine>,
    pub consensus: Consensus,
    pub electorate: Arc<dyn Electorate>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

pub struct Cluster {
    pub genesis: Genesis,
    wires: Arc<Wires>,
    stores: BTreeMap<u64, Arc<MemoryKv>>,
    dir: TempDir,
    pub limits: Limits,
    /// Shortest and longest election timeout.
    election: [Duration; 2],
    pub running: BTreeMap<u64, Running>,
    sequence: AtomicU64,
    /// The time of the city, equal on all nodes but for the errors of their clocks.
    pub clock: Arc<TestClock>,
    clocks: BTreeMap<u64, Arc<OffsetClock>>,
}

/// The city's time with the error of one clock.
struct OffsetClock {
    city: Arc<TestClock>,
    offset_ms: AtomicI64,
}

impl OffsetClock {
    fn new(city: &Arc<TestClock>) -> Arc<Self> {
        Arc::new(Self {
            city: city.clone(),
            offset_ms: AtomicI64::new(0),
        })
    }
}

impl Clock for OffsetClock {
    fn now_ms(&self) -> u64 {
        let offset_ms = self.offset_ms.load(Ordering::SeqCst);
        self.city.now_ms().saturating_add_signed(offset_ms)
    }
}

impl Cluster {
    pub async fn start(nodes: u64) -> Self {
        Self::start_with(nodes, [150, 300].map(Duration::from_millis)).await
    }

    /// Starts with long election timeouts: the leader stays even if the machine is slow.
    pub async fn start_calm(nodes: u64) -> Self {
        let cluster = Self::start_with(nodes, [2, 4].map(Duration::from_secs)).await;
        cluster.agree_on_leader().await;
        cluster
    }

    /// Waits until all nodes follow one leader in one term. Each node stands for election once when
    /// it is bootstrapped, so the first leader may be followed at once by another. Once all agree,
    /// the terms of all these candidacies are past.
    async fn agree_on_leader(&self) {
        let leadership = |node: &Running| *node.consensus.watch_leadership().borrow();
        let agree = || {
            let mut nodes = self.running.values().map(leadership);
            let first = nodes.next().unwrap();
            first.leader.is_some()
                && nodes.all(|l| (l.term, l.leader) == (first.term, first.leader))
        };
        let wait = async {
            while !agree() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait)
            .await
            .expect("all nodes follow one leader");
    }

    async fn start_with(nodes: u64, election: [Duration; 2]) -> Self {
        let mut cluster = Self {
            genesis: genesis(nodes),
            wires: Arc::default(),
            stores: (1..=nodes)
                .map(|node| (node, Arc::new(MemoryKv::new())))
                .collect(),
            dir: TempDir::new().unwrap(),
            limits: Limits::default(),
            election,
            running: BTreeMap::new(),
            sequence: AtomicU64::new(0),
            clock: Arc::default(),
            clocks: BTreeMap::new(),
        };
        for node in 1..=nodes {
            cluster.start_node(node).await;
        }
        cluster
    }

    /// Sets the error of a node's clock.
    pub fn set_clock(&self, node: u64, offset_ms: i64) {
        self.clocks[&node]
            .offset_ms
            .store(offset_ms, Ordering::SeqCst);
    }

    /// These nodes, and no others, neither send nor receive attestations.
    pub fn silence(&self, nodes: &[u64]) {
        *self.wires.silent.lock().unwrap() = nodes.iter().copied().collect();
    }

    /// The disk of a node.
    pub fn store(&self, node: u64) -> &MemoryKv {
        &self.stores[&node]
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub async fn start_node(&mut self, node: u64) {
        self.try_start_node(node).await.unwrap();
    }

    pub async fn try_start_node(&mut self, node: u64) -> Result<(), OpenError> {
        let wire = Arc::new(Wire {
            from: node,
            wires: self.wires.clone(),
        });
        let identity = Identity {
            account: id(&format!("node-{node}")),
            secret: node_secret(node),
        };
        let (kv, dir) = (
            self.stores[&node].clone(),
            self.dir.path().join(node.to_string()),
        );
        let mut config = LedgerConfig::new(node);
        config.heartbeat_every = Duration::from_millis(200);
        config.forward_again_after = Duration::from_millis(500);
        let city = &self.clock;
        let clock = self
            .clocks
            .entry(node)
            .or_insert_with(|| OffsetClock::new(city))
            .clone();
        let artifacts = dir.join("artifacts");
        let ledger = Ledger::open(
            kv.clone(),
            self.genesis.clone(),
            config,
            identity,
            &artifacts,
            wire.clone(),
            clock,
        )
        .await?;
        let mut settings = lamplighter_consensus::ConsensusConfig::new(node, dir.join("snapshots"));
        settings.limits = self.limits.clone();
        settings.timers.heartbeat = Duration::from_millis(50);
        [settings.timers.election_min, settings.timers.election_max] = self.election;
        let machine = ledger.state_machine();
        let electorate = ledger.electorate();
        let consensus = Consensus::start(settings, kv, wire, machine.clone(), electorate.clone());
        let consensus = consensus.await.unwrap();
        let members = self
            .genesis
            .validators
            .validators
            .iter()
            .map(|v| v.node)
            .collect();
        consensus.bootstrap(&members).await.unwrap();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let handle = ledger.start(consensus.clone(), &tasks, &stop);
        tasks.close();
        let wired = (consensus.clone(), handle.clone());
        self.wires.nodes.lock().unwrap().insert(node, wired);
        self.running.insert(
            node,
            Running {
                handle,
                machine,
                consensus,
                electorate,
                tasks,
                stop,
            },
        );
        Ok(())
    }

    /// Ends a node as a crash does: unsynced writes are lost.
    pub async fn crash(&mut self, node: u64) {
        self.wires.nodes.lock().unwrap().remove(&node);
        let running = self.running.remove(&node).unwrap();
        running.stop.cancel();
        running.tasks.wait().await;
        running.consensus.shutdown().await.unwrap();
        let reopened = self.stores[&node].crash();
        self.stores.insert(node, Arc::new(reopened));
    }

    /// Changes appends on their way.
    pub fn forge(&self, forger: Forger) {
        *self.wires.forger.lock().unwrap() = Some(forger);
    }

    /// Waits until a node stops because its log has to go, and starts it again.
    pub async fn restart_diverged(&mut self, node: u64) {
        let running = &self.running[&node];
        let stopped = tokio::select! {
            halt = running.handle.contradicted() => {
                running.consensus.diverge(&halt.to_string()).await.unwrap();
                running.consensus.stopped().await
            }
            stopped = running.consensus.stopped() => stopped,
        };
        assert!(matches!(stopped, ConsensusError::Diverged(_)), "{stopped}");
        self.crash(node).await;
        let snapshots = self.dir.path().join(node.to_string()).join("snapshots");
        assert!(drop_diverged(&*self.stores[&node], &snapshots).unwrap());
        self.start_node(node).await;
    }

    /// The directory of a node's evidence.
    pub fn evidence(&self, node: u64) -> PathBuf {
        self.dir.path().join(node.to_string()).join("evidence")
    }

    /// Makes the leader lose the next transactions that are forwarded to it.
    pub fn lose_next(&self) {
        self.wires.loses_next.store(true, Ordering::SeqCst);
    }

    /// Makes the leader lose all transactions that are forwarded to it, or no more.
    pub fn lose_all(&self, loses: bool) {
        self.wires.loses_all.store(loses, Ordering::SeqCst);
    }

    pub fn has_lost(&self) -> bool {
        self.wires.lost.load(Ordering::SeqCst) > 0
    }

    /// The number of forwarded transactions that a leader refused.
    pub fn refused(&self) -> u32 {
        self.wires.refused.load(Ordering::SeqCst)
    }

    /// Broadcasts of a node that had a certificate.
    pub fn certified_broadcasts(&self, node: u64) -> u32 {
        let counts = self.wires.certified_broadcasts.lock().unwrap();
        counts.get(&node).copied().unwrap_or_default()
    }

    pub fn handle(&self, node: u64) -> &Handle {
        &self.running[&node].handle
    }

    /// A transaction of the administrator with the next sequence number.
    pub fn sign(&self, action: Action) -> SignedTransaction {
        self.sign_as("admin", &admin_secret(), action)
    }

    /// A change of the nodes: the proposal, and its approval.
    pub fn govern(&self, name: &str, change: GovernanceChange) -> [SignedTransaction; 2] {
        let changes = vec![change];
        let digest = GovernanceChange::digest(&changes);
        let propose = GovernanceAction::Propose {
            proposal: id(name),
            changes,
        };
        let approve = GovernanceAction::Approve {
            proposal: id(name),
            changes: digest,
        };
        let approve = Action::Governance(approve);
        [
            self.sign(Action::Governance(propose)),
            self.sign_as("deputy", &deputy_secret(), approve),
        ]
    }

    pub fn sign_as(&self, account: &str, secret: &SecretKey, action: Action) -> SignedTransaction {
        let sequence = self.next_number();
        self.sign_numbered(account, secret, sequence, action)
    }

    /// A sequence number above all that were used.
    pub fn next_number(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Raises the next sequence number by `count`.
    pub fn skip_numbers(&self, count: u64) {
        self.sequence.fetch_add(count, Ordering::SeqCst);
    }

    pub fn sign_numbered(
        &self,
        account: &str,
        secret: &SecretKey,
        sequence: u64,
        action: Action,
    ) -> SignedTransaction {
        let transaction = Transaction {
            sender: id(account),
            sequence,
            expires_ms: self.clock.now_ms() + 600_000,
            action,
        };
        let chain_id = self.genesis.chain_id();
        SignedTransaction::sign(&transaction, Encoding::Json, &chain_id, secret)
    }

    pub fn organization(&self, name: &str) -> SignedTransaction {
        self.sign(register(name))
    }

    pub async fn leader(&self) -> u64 {
        let (_, any) = self.running.first_key_value().unwrap();
        let mut lead = any.consensus.watch_leadership();
        let alive: Vec<u64> = self.running.keys().copied().collect();
        let led = lead.wait_for(|l| l.leader.is_some_and(|leader| alive.contains(&leader)));
        tokio::time::timeout(Duration::from_secs(20), led)
            .await
            .unwrap()
            .unwrap()
            .leader
            .unwrap()
    }

    pub async fn stop(self) {
        for (_, running) in self.running {
            running.stop.cancel();
            running.tasks.wait().await;
            running.consensus.shutdown().await.unwrap();
        }
    }
}

impl Cluster {
    /// A node's ledger on this store, without its tasks.
    pub async fn open_only(&self, node: u64, kv: &MemoryKv) -> Result<Ledger, OpenError> {
        let wire = Arc::new(Wire {
            from: node,
            wires: Arc::default(),
        });
        let identity = Identity {
            account: id(&format!("node-{node}")),
            secret: node_secret(node),
        };
        let artifacts = self.dir.path().join("opened").join("artifacts");
        Ledger::open(
            Arc::new(kv.clone()),
            self.genesis.clone(),
            LedgerConfig::new(node),
            identity,
            &artifacts,
            wire,
            Arc::new(SystemClock),
        )
        .await
    }
}
