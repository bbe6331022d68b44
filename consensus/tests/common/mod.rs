//! A cluster in one thread: real nodes on in-memory stores that can crash, and a network that can
//! be cut.
#![allow(dead_code)] // Not every test file uses everything.

pub mod liar;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lamplighter_consensus::suite::{KvMachine, SharedVoters, TestElectorate};
use lamplighter_consensus::{
    Applied, Consensus, ConsensusConfig, ConsensusError, Limits, NodeId, ProposeError, RaftLane,
    Transport, TransportError,
};
use lamplighter_store::MemoryKv;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// Longer than any election, in the runtime's own time.
pub const TIMEOUT: Duration = Duration::from_secs(60);
const LATENCY: Duration = Duration::from_millis(2);

/// What a liar answers to a request: none if it is silent.
pub type LiarAnswer = dyn Fn(NodeId, RaftLane, &Bytes) -> Option<Bytes> + Send + Sync;

#[derive(Default)]
pub struct Net {
    /// Changes requests on their way, as their sender would.
    pub forger: Mutex<Option<Forger>>,
    nodes: Mutex<BTreeMap<NodeId, Consensus>>,
    /// Nodes that a test speaks for.
    liars: Mutex<BTreeMap<NodeId, Arc<LiarAnswer>>>,
    /// Nodes that neither send nor receive.
    cut: Mutex<BTreeSet<NodeId>>,
    /// Snapshot requests that still get through.
    snapshot_requests_left: Mutex<Option<u64>>,
    pub snapshot_bytes: AtomicU64,
    pub append_bytes: AtomicU64,
    /// The rate of requests on the append lane; 0 is no limit.
    pub bytes_per_second: AtomicU64,
}

/// Sender, receiver, lane and request in, request out.
pub type Forger = Box<dyn FnMut(NodeId, NodeId, RaftLane, Bytes) -> Bytes + Send>;

impl Net {
    pub fn cut(&self, node: NodeId) {
        self.cut.lock().unwrap().insert(node);
    }

    /// Answers for a node from now on.
    pub fn lie(&self, node: NodeId, answer: Arc<LiarAnswer>) {
        self.liars.lock().unwrap().insert(node, answer);
    }

    fn liar(&self, node: NodeId) -> Option<Arc<LiarAnswer>> {
        self.liars.lock().unwrap().get(&node).cloned()
    }

    pub fn heal(&self) {
        self.cut.lock().unwrap().clear();
    }

    pub fn limit_snapshot_requests(&self, limit: Option<u64>) {
        *self.snapshot_requests_left.lock().unwrap() = limit;
    }

    pub fn snapshots_are_blocked(&self) -> bool {
        *self.snapshot_requests_left.lock().unwrap() == Some(0)
    }

    fn reach(&self, from: NodeId, to: NodeId) -> Result<Consensus, TransportError> {
        let cut = self.cut.lock().unwrap();
        let node = self.nodes.lock().unwrap().get(&to).cloned();
        match node {
            Some(node) if !cut.contains(&from) && !cut.contains(&to) => Ok(node),
            _ => Err(TransportError::Unreachable(to)),
        }
    }

    async fn transmit(&self, lane: RaftLane, bytes: usize) {
        if lane != RaftLane::Append {
            return;
        }
        self.append_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let rate = self.bytes_per_second.load(Ordering::Relaxed);
        if rate > 0 {
            sleep(Duration::from_secs_f64(bytes as f64 / rate as f64)).await;
        }
    }

    fn admit(&self, to: NodeId, lane: RaftLane, bytes: usize) -> Result<(), TransportError> {
        if lane != RaftLane::Snapshot {
            return Ok(());
        }
        if let Some(left) = &mut *self.snapshot_requests_left.lock().unwrap() {
            *left = left.checked_sub(1).ok_or(TransportError::Unreachable(to))?;
        }
        self.snapshot_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(())
    }
}

pub struct Link {
    pub from: NodeId,
    pub net: Arc<Net>,
}

#[async_trait]
impl Transport for Link {
    async fn call(
        &self,
        to: NodeId,
        lane: RaftLane,
        request: Bytes,
        time: Duration,
    ) -> Result<Bytes, TransportError> {
        let exchange = async {
            sleep(LATENCY).await;
            self.net.admit(to, lane, request.len())?;
            self.net.transmit(lane, request.len()).await;
            if let Some(liar) = self.net.liar(to) {
                let answer = liar(self.from, lane, &request);
                return answer.ok_or(TransportError::Unreachable(to));
            }
            let node = self.net.reach(self.from, to)?;
            let request = match &mut *self.net.forger.lock().unwrap() {
                Some(forge) => forge(self.from, to, lane, request),
                None => request,
            };
            let answer = node.serve(self.from, lane, request).await;
            sleep(LATENCY).await;
            self.net.reach(self.from, to)?;
            answer.map_err(|error| TransportError::Refused {
                node: to,
                reason: error.to_string(),
            })
        };
        timeout(time, exchange)
            .await
            .unwrap_or(Err(TransportError::Timeout(to)))
    }
}

pub struct Node {
    pub consensus: Consensus,
    pub kv: MemoryKv,
    pub machine: Arc<KvMachine>,
}

pub struct Cluster {
    pub net: Arc<Net>,
    pub nodes: BTreeMap<NodeId, Node>,
    /// The disks of nodes that are down.
    pub down: BTreeMap<NodeId, MemoryKv>,
    pub limits: Limits,
    /// What a ledger would explain.
    pub voters: Arc<SharedVoters>,
    dir: TempDir,
}

impl Cluster {
    /// Nodes 1 to `count`, bootstrapped.
    pub async fn start(count: u64) -> Self {
        Self::with_limits(count, Limits::default()).await
    }

    pub async fn with_limits(count: u64, limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (net, nodes, down) = Default::default();
        let mut cluster = Self {
            net,
            nodes,
            down,
            limits,
            voters: Arc::default(),
            dir,
        };
        cluster.voters.set((1..=count).collect());
        for id in 1..=count {
            cluster.boot(id, MemoryKv::new()).await;
        }
        let members: BTreeSet<NodeId> = (1..=count).collect();
        for node in cluster.nodes.values() {
            node.consensus.bootstrap(&members).await.unwrap();
        }
        cluster
    }

    /// Three nodes, one of them stopped and behind the others' logs by 50 batches of 10,000 bytes,
    /// which only an image brings back.
    pub async fn with_one_behind(limits: Limits) -> (Self, NodeId) {
        let limits = Limits {
            keep_entries: 2,
            ..limits
        };
        let mut cluster = Self::with_limits(3, limits).await;
        cluster.agree().await;
        let behind = cluster.follower().await;
        cluster.kill(behind).await;
        for round in 0..50u8 {
            let text = char::from(b'a' + round % 26).to_string().repeat(10_000);
            cluster.propose(&text).await.unwrap();
        }
        let leader = cluster.leader().await;
        cluster.node(leader).trigger_snapshot().await.unwrap();
        while cluster.node(leader).metrics().purged_index.is_none() {
            sleep(Duration::from_millis(10)).await;
        }
        (cluster, behind)
    }

    pub fn config(&self, id: NodeId) -> ConsensusConfig {
        let mut config = ConsensusConfig::new(id, self.dir.path().join(id.to_string()));
        config.limits = self.limits.clone();
        config.sources = (1..=3).filter(|source| *source != id).collect();
        config.inline_io = true;
        config
    }

    pub async fn try_boot(&self, id: NodeId, kv: &MemoryKv) -> Result<Node, ConsensusError> {
        let machine = Arc::new(KvMachine::new(Arc::new(kv.clone())));
        let link = Arc::new(Link {
            from: id,
            net: self.net.clone(),
        });
        let store = Arc::new(kv.clone());
        let electorate = Arc::new(TestElectorate {
            node: id,
            voters: self.voters.clone(),
        });
        let config = self.config(id);
        let consensus = Consensus::start(config, store, link, machine.clone(), electorate).await?;
        Ok(Node {
            consensus,
            kv: kv.clone(),
            machine,
        })
    }

    /// Starts a node on what is on its disk.
    pub async fn boot(&mut self, id: NodeId, kv: MemoryKv) {
        let node = self.try_boot(id, &kv).await.unwrap();
        self.net
            .nodes
            .lock()
            .unwrap()
            .insert(id, node.consensus.clone());
        self.nodes.insert(id, node);
    }

    /// Power loss: what was not synced is gone.
    pub async fn crash(&mut self, id: NodeId) {
        self.take_down(id, MemoryKv::crash).await;
    }

    /// The process ends, the disk keeps everything.
    pub async fn kill(&mut self, id: NodeId) {
        self.take_down(id, MemoryKv::kill).await;
    }

    async fn take_down(&mut self, id: NodeId, how: impl Fn(&MemoryKv) -> MemoryKv) {
        let node = self.nodes.remove(&id).unwrap();
        self.net.nodes.lock().unwrap().remove(&id);
        // The disk first: nothing that the node still does can reach it.
        self.down.insert(id, how(&node.kv));
        node.consensus.shutdown().await.unwrap();
    }

    pub async fn restart(&mut self, id: NodeId) {
        let kv = self.down.remove(&id).unwrap();
        self.boot(id, kv).await;
    }

    /// The node that is ready to lead, once there is one among the reachable ones.
    pub async fn leader(&self) -> NodeId {
        let cut = self.net.cut.lock().unwrap().clone();
        let ready = async {
            loop {
                let leads = |(id, node): (&NodeId, &Node)| {
                    let ready =
                        node.consensus.watch_leadership().borrow().ready && !cut.contains(id);
                    ready.then_some(*id)
                };
                if let Some(id) = self.nodes.iter().find_map(leads) {
                    return id;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(TIMEOUT, ready)
            .await
            .expect("a node leads in the end")
    }

    /// The first node that is up and does not lead.
    pub async fn follower(&self) -> NodeId {
        let leader = self.leader().await;
        *self.nodes.keys().find(|id| **id != leader).unwrap()
    }

    /// The directory of a node's images.
    pub fn images(&self, id: NodeId) -> std::path::PathBuf {
        self.dir.path().join(id.to_string())
    }

    pub fn node(&self, id: NodeId) -> &Consensus {
        &self.nodes[&id].consensus
    }

    /// Proposes a batch at the leader and waits for the outcome.
    pub async fn propose(&self, batch: &str) -> Result<Applied, ProposeError> {
        let leader = self.leader().await;
        let proposal = self
            .node(leader)
            .propose(Bytes::copy_from_slice(batch.as_bytes()))
            .await?;
        proposal.outcome().await
    }

    /// Waits until every node that is up has applied what the leader has committed; returns the
    /// batches that all of them then hold.
    pub async fn agree(&self) -> Vec<String> {
        let leader = self.leader().await;
        let index = self.node(leader).read_index(TIMEOUT).await.unwrap();
        let mut seen: Vec<Vec<(u64, Bytes)>> = Vec::new();
        for node in self.nodes.values() {
            node.consensus.wait_applied(index, TIMEOUT).await.unwrap();
            seen.push(node.machine.batches().unwrap());
        }
        assert!(
            seen.windows(2).all(|pair| pair[0] == pair[1]),
            "nodes differ: {seen:?}"
        );
        let first = seen.swap_remove(0);
        first
            .iter()
            .map(|(_, batch)| String::from_utf8_lossy(batch).into_owned())
            .collect()
    }
}
