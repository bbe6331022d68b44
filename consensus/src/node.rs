use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use lamplighter_store::{Batch as KvBatch, Cf, Durability, Kv};
use openraft::error::{ClientWriteError, Fatal as RaftFatal, InitializeError, RaftError};
use openraft::raft::ClientWriteResult;
use openraft::{EmptyNode, RaftMetrics};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::adapter::Adapter;
use crate::codec::{self, ControlRequest, ControlResponse};
use crate::compaction::Compaction;
use crate::config::Config;
use crate::error::{ConsensusError, ProposeError, ReadError, ServeError};
use crate::io::{Guarded, Io};
use crate::lead::{self, Lead};
use crate::log::LogStore;
use crate::machine::StateMachine;
use crate::network::{Heard, Network};
use crate::raft::{Batch, NodeId, Raft, TypeConfig};
use crate::serve::MEMBERS_MAX;
use crate::snapshot::{Lent, Pace, Receiver, SnapshotStore, Transfer, fetch_if_behind};
use crate::transport::{Lane, Transport};

const NODE_ID: &[u8] = b"raft/node_id";
/// Between two questions for the read index, when nobody could answer the first.
const READ_RETRY: Duration = Duration::from_millis(50);

/// The handle of a running node; clones share it. The node ends with [`Consensus::shutdown`] or
/// with the last handle.
#[derive(Clone)]
pub struct Consensus(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub raft: Raft,
    pub config: Arc<Config>,
    pub io: Io,
    pub log: LogStore,
    pub receiver: Arc<Mutex<Receiver>>,
    pub snapshots: Arc<SnapshotStore>,
    pub lent: Lent,
    pub pace: Arc<Pace>,
    transport: Arc<dyn Transport>,
    lead: watch::Receiver<Lead>,
    proposals: Arc<Semaphore>,
    /// The highest commit index that a leader told.
    commit: AtomicU64,
    pub machine: Arc<dyn StateMachine>,
    /// An image is being installed: entries that follow it have to wait.
    pub installing: AtomicBool,
    transfer: watch::Receiver<Option<Transfer>>,
    stop: watch::Sender<bool>,
    _tasks: [Guarded; 2],
}

/// A batch that was applied on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its place in the log.
    pub log_index: u64,
    /// The term in which it was proposed.
    pub term: u64,
    /// What the state machine answered.
    pub response: Bytes,
}

/// A batch on its way. Dropping it does not stop the batch.
#[derive(Debug)]
pub struct Proposal {
    answer: oneshot::Receiver<ClientWriteResult<TypeConfig>>,
    _permit: OwnedSemaphorePermit,
}

impl Proposal {
    /// Waits until the batch is applied on this node. See [`ProposeError`] for what an error says
    /// about the batch.
    pub async fn outcome(self) -> Result<Applied, ProposeError> {
        match self.answer.await {
            Ok(Ok(done)) => Ok(Applied {
                log_index: done.log_id.index,
                term: done.log_id.leader_id.term,
                response: done.data.0,
            }),
            Ok(Err(ClientWriteError::ForwardToLeader(forward))) => Err(ProposeError::NotLeader {
                leader: forward.leader_id,
            }),
            Ok(Err(ClientWriteError::ChangeMembershipError(_))) | Err(_) => {
                Err(ProposeError::Stopped)
            }
        }
    }
}

/// What a node tells about itself. Indexes are log indexes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    pub node_id: NodeId,
    pub term: u64,
    pub leader: Option<NodeId>,
    /// `Learner`, `Follower`, `Candidate`, `Leader` or `Shutdown`.
    pub role: &'static str,
    /// Why the node stopped, if it did.
    pub failure: Option<String>,
    pub last_log_index: Option<u64>,
    pub applied_index: Option<u64>,
    pub snapshot_index: Option<u64>,
    pub purged_index: Option<u64>,
    pub voters: BTreeSet<NodeId>,
    pub learners: BTreeSet<NodeId>,
    /// On a leader: up to where each node's log is known to equal its own.
    pub matched_index: BTreeMap<NodeId, Option<u64>>,
    /// On a leader: since when no majority answered.
    pub quorum_ack_age_ms: Option<u64>,
    /// Syncs of the log since the start.
    pub syncs: u64,
    /// The image that is coming in, if one is.
    pub incoming: Option<Transfer>,
}

impl Consensus {
    /// Starts a node. Whatever is in the store's [`Cf::Meta`] and [`Cf::Log`] goes on; the state
    /// machine has to keep its state in the same store (see [`StateMachine`]).
    ///
    /// If the log there begins after what the state machine has, an image is fetched from
    /// [`Config::sources`] first, however long that takes.
    ///
    /// # Errors
    /// [`ConsensusError::WrongNode`] if the store belongs to another node.
    pub async fn start(
        config: Config,
        kv: Arc<dyn Kv>,
        transport: Arc<dyn Transport>,
        machine: Arc<dyn StateMachine>,
    ) -> Result<Self, ConsensusError> {
        let raft_config = Arc::new(config.raft()?);
        let (io, node_id) = (Io::of(&config), config.node_id);
        let (log, snapshots) = open_disk(&config, kv, io).await?;
        let mut receiver = Receiver::new(snapshots.clone(), config.limits.snapshot_bytes_max);
        fetch_if_behind(&log, &mut receiver, &*transport, &machine, &config).await?;
        let config = Arc::new(config);
        let heard = Arc::new(Heard::default());
        let pace = Arc::new(Pace::new(config.limits.snapshot_bytes_per_s));
        let network = Network {
            transport: transport.clone(),
            log: log.clone(),
            config: config.clone(),
            machine: machine.clone(),
            heard: heard.clone(),
            pace: pace.clone(),
        };
        let adapter = Adapter::new(machine.clone(), log.clone(), snapshots.clone(), io);
        let compaction = adapter.compaction();
        let raft = Raft::new(node_id, raft_config, network, log.clone(), adapter)
            .await
            .map_err(|error| ConsensusError::Raft(error.into()))?;

        let (sender, lead) = watch::channel(Lead::default());
        let confirmed_within = config.timers.election_max;
        let tasks = [
            Guarded::spawn(lead::follow(raft.metrics(), confirmed_within, sender)),
            Guarded::spawn(snapshot_when_grown(raft.clone(), log.clone())),
        ];
        let (stop, stopped) = watch::channel(false);
        let set = compaction.set(Compaction {
            metrics: raft.metrics(),
            log: log.clone(),
            limits: config.limits.clone(),
            heard,
            stop: stopped,
        });
        assert!(set.is_ok(), "the adapter was made above");
        let transfer = receiver.progress();
        Ok(Self(Arc::new(Inner {
            raft,
            io,
            log,
            receiver: Arc::new(Mutex::new(receiver)),
            snapshots,
            lent: Lent::default(),
            pace,
            transport,
            lead,
            proposals: Arc::new(Semaphore::new(config.limits.proposals_max)),
            commit: AtomicU64::new(0),
            machine,
            installing: AtomicBool::new(false),
            transfer,
            stop,
            _tasks: tasks,
            config,
        })))
    }

    /// Proposes a batch. Batches are ordered as the calls were made (more exactly: as their futures
    /// were first polled). Waits while [`crate::Limits::proposals_max`] of them are under way; the
    /// [`Proposal`] waits for the outcome.
    pub async fn propose(&self, batch: Bytes) -> Result<Proposal, ProposeError> {
        let bytes_max = self.0.config.limits.batch_bytes_max;
        if batch.len() > bytes_max {
            return Err(ProposeError::TooLarge {
                bytes: batch.len(),
                bytes_max,
            });
        }
        let permit = self.0.proposals.clone().acquire_owned().await;
        let permit = permit.map_err(|_| ProposeError::Stopped)?;
        let answer = self.0.raft.client_write_ff(Batch(batch)).await;
        let answer = answer.map_err(|_: RaftFatal<NodeId>| ProposeError::Stopped)?;
        Ok(Proposal {
            answer,
            _permit: permit,
        })
    }

    /// Who leads, and whether this node is ready to; changes arrive here.
    pub fn lead(&self) -> watch::Receiver<Lead> {
        self.0.lead.clone()
    }

    /// Whether this node believes that it leads.
    pub fn is_leader(&self) -> bool {
        self.0.lead.borrow().leader == Some(self.0.config.node_id)
    }

    /// The log index that a read has to see to see everything that was committed before this call.
    /// When it returns, this node has applied that much.
    pub async fn read_index(&self, deadline: Duration) -> Result<u64, ReadError> {
        let ends = Instant::now() + deadline;
        let read = async {
            let index = self.0.ask_read_index().await?;
            let mut metrics = self.0.raft.metrics();
            let applied = metrics.wait_for(|metrics| {
                let applied = metrics.last_applied.map(|log_id| log_id.index);
                metrics.running_state.is_err() || applied >= Some(index)
            });
            match applied.await {
                Ok(metrics) if metrics.running_state.is_ok() => Ok(index),
                _ => Err(ReadError::Stopped),
            }
        };
        timeout_at(ends, read)
            .await
            .unwrap_or(Err(ReadError::Deadline(deadline)))
    }

    /// Makes a new cluster of these voters, this node among them. To be called on every one of them
    /// with the same members, any number of times; a cluster that exists stays as it is.
    pub async fn bootstrap(&self, members: &BTreeSet<NodeId>) -> Result<(), ConsensusError> {
        if members.is_empty() || members.len() > MEMBERS_MAX {
            return Err(ConsensusError::Members(format!(
                "{} members",
                members.len()
            )));
        }
        let nodes: BTreeMap<NodeId, EmptyNode> =
            members.iter().map(|node| (*node, EmptyNode {})).collect();
        match self.0.raft.initialize(nodes).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(RaftError::APIError(InitializeError::NotInMembers(error))) => {
                Err(ConsensusError::Members(error.to_string()))
            }
            Err(RaftError::Fatal(error)) => Err(ConsensusError::Raft(error.into())),
        }
    }

    /// Answers a request that came in on a lane from a node whose identity is proven.
    pub async fn serve(
        &self,
        from: NodeId,
        lane: Lane,
        request: Bytes,
    ) -> Result<Bytes, ServeError> {
        self.0.serve(from, lane, request).await
    }

    /// The figures of this moment.
    pub fn metrics(&self) -> Metrics {
        let (syncs, incoming) = (self.0.log.syncs(), *self.0.transfer.borrow());
        metrics(&self.0.raft.metrics().borrow(), syncs, incoming)
    }

    /// Waits until this node has applied the entry of this index.
    pub async fn wait_applied(&self, index: u64, deadline: Duration) -> Result<(), ReadError> {
        let mut metrics = self.0.raft.metrics();
        let applied = metrics.wait_for(|metrics| {
            let applied = metrics.last_applied.map(|log_id| log_id.index);
            metrics.running_state.is_err() || applied >= Some(index)
        });
        match timeout(deadline, applied).await {
            Ok(Ok(metrics)) if metrics.running_state.is_ok() => Ok(()),
            Ok(_) => Err(ReadError::Stopped),
            Err(_) => Err(ReadError::Deadline(deadline)),
        }
    }

    /// Waits until the node stops, and says why.
    pub async fn stopped(&self) -> ConsensusError {
        let mut metrics = self.0.raft.metrics();
        let stopped = metrics
            .wait_for(|metrics| metrics.running_state.is_err())
            .await;
        match stopped
            .ok()
            .and_then(|metrics| metrics.running_state.clone().err())
        {
            Some(RaftFatal::Stopped) | None => ConsensusError::Stopped,
            Some(error) => ConsensusError::Raft(error.into()),
        }
    }

    /// Asks for a snapshot, and with it a purge of the log. It is made beside everything else.
    pub async fn trigger_snapshot(&self) -> Result<(), ConsensusError> {
        let asked = self.0.raft.trigger().snapshot().await;
        asked.map_err(|error| ConsensusError::Raft(error.into()))
    }

    /// Stops taking part. Nothing is lost: what was acknowledged is durable.
    pub async fn shutdown(&self) -> Result<(), ConsensusError> {
        self.0.proposals.close();
        let ended = self.0.raft.shutdown().await;
        self.0.stop.send_replace(true);
        ended.map_err(|error| ConsensusError::Raft(error.into()))
    }
}

/// openraft's own tasks hold each other; they have to be told.
impl Drop for Inner {
    fn drop(&mut self) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (raft, stop) = (self.raft.clone(), self.stop.clone());
            // Nobody is left who could be told of a failure.
            runtime.spawn(async move {
                raft.shutdown().await.ok();
                stop.send_replace(true);
            });
        }
    }
}

impl Inner {
    pub(crate) fn commit(&self) -> u64 {
        self.commit.load(Ordering::Relaxed)
    }

    pub(crate) fn raise_commit(&self, index: u64) {
        self.commit.fetch_max(index, Ordering::Relaxed);
    }

    /// The read index, if this node leads and a majority confirms it.
    pub(crate) async fn leader_read_index(&self) -> Option<u64> {
        let (read, _) = self.raft.get_read_log_id().await.ok()?;
        Some(read.map_or(0, |log_id| log_id.index))
    }

    async fn ask_read_index(&self) -> Result<u64, ReadError> {
        loop {
            if self.raft.metrics().borrow().running_state.is_err() {
                return Err(ReadError::Stopped);
            }
            let leader = self.lead.borrow().leader;
            let index = match leader {
                Some(leader) if leader == self.config.node_id => self.leader_read_index().await,
                Some(leader) => self.ask_leader(leader).await,
                None => None,
            };
            if let Some(index) = index {
                return Ok(index);
            }
            sleep(READ_RETRY).await;
        }
    }

    async fn ask_leader(&self, leader: NodeId) -> Option<u64> {
        match self.ask(leader, &ControlRequest::ReadIndex).await {
            Some(ControlResponse::ReadIndex(index)) => index,
            _ => None,
        }
    }

    /// Whether a node is there at this moment.
    pub(crate) async fn is_alive(&self, node: NodeId) -> bool {
        node == self.config.node_id
            || self.ask(node, &ControlRequest::Ping).await == Some(ControlResponse::Pong)
    }

    async fn ask(&self, node: NodeId, request: &ControlRequest) -> Option<ControlResponse> {
        let request = codec::encode(request).into();
        let time = self.config.timers.heartbeat * 2;
        let answer = self
            .transport
            .call(node, Lane::Control, request, time)
            .await
            .ok()?;
        codec::decode("answer", &answer).ok()
    }
}

/// Log and snapshots, when the data directory is this node's.
async fn open_disk(
    config: &Config,
    kv: Arc<dyn Kv>,
    io: Io,
) -> Result<(LogStore, Arc<SnapshotStore>), ConsensusError> {
    let (node_id, store) = (config.node_id, kv.clone());
    io.run(move || claim(&*store, node_id)).await?;
    let dir = config.snapshot_dir.clone();
    let snapshots = io.run(move || SnapshotStore::open(&dir)).await;
    let snapshots = snapshots.map_err(|error| ConsensusError::Snapshots(error.into()))?;
    let mut log = LogStore::open(kv, io, config.limits.clone()).await?;
    let resigned = log.resign(node_id).await;
    resigned.map_err(|error| ConsensusError::Raft(error.into()))?;
    Ok((log, Arc::new(snapshots)))
}

/// Writes the node's id into an empty store, or compares it.
fn claim(kv: &dyn Kv, node_id: NodeId) -> Result<(), ConsensusError> {
    let failed = |source| ConsensusError::Store {
        doing: "claim the data directory",
        source,
    };
    match kv.get(Cf::Meta, NODE_ID).map_err(failed)? {
        Some(found) => {
            let found = codec::decode("node id", &found)
                .map_err(|error| ConsensusError::Corrupt(error.to_string()))?;
            if found == node_id {
                Ok(())
            } else {
                Err(ConsensusError::WrongNode {
                    expected: node_id,
                    found,
                })
            }
        }
        None => {
            let mut batch = KvBatch::new();
            batch.put(Cf::Meta, NODE_ID, codec::encode(&node_id));
            kv.write(batch, Durability::Synced).map_err(failed)
        }
    }
}

async fn snapshot_when_grown(raft: Raft, log: LogStore) {
    loop {
        log.grown().await;
        if raft.trigger().snapshot().await.is_err() {
            return;
        }
    }
}

fn metrics(
    raft: &RaftMetrics<NodeId, EmptyNode>,
    syncs: u64,
    incoming: Option<Transfer>,
) -> Metrics {
    let membership = raft.membership_config.membership();
    let matched = raft.replication.iter().flatten();
    Metrics {
        node_id: raft.id,
        term: raft.current_term,
        leader: raft.current_leader,
        role: role(raft.state),
        failure: raft.running_state.as_ref().err().map(ToString::to_string),
        last_log_index: raft.last_log_index,
        applied_index: raft.last_applied.map(|log_id| log_id.index),
        snapshot_index: raft.snapshot.map(|log_id| log_id.index),
        purged_index: raft.purged.map(|log_id| log_id.index),
        voters: membership.voter_ids().collect(),
        learners: membership.learner_ids().collect(),
        matched_index: matched
            .map(|(node, log_id)| (*node, log_id.map(|log_id| log_id.index)))
            .collect(),
        quorum_ack_age_ms: raft.millis_since_quorum_ack,
        syncs,
        incoming,
    }
}

fn role(state: openraft::ServerState) -> &'static str {
    match state {
        openraft::ServerState::Learner => "Learner",
        openraft::ServerState::Follower => "Follower",
        openraft::ServerState::Candidate => "Candidate",
        openraft::ServerState::Leader => "Leader",
        openraft::ServerState::Shutdown => "Shutdown",
    }
}
