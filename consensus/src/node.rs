use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lamplighter_store::Kv;
use openraft::EmptyNode;
use openraft::error::{ClientWriteError, Fatal as RaftFatal, InitializeError, RaftError};
use openraft::raft::ClientWriteResult;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::abstention::Abstention;
use crate::append_check::AppendCheck;
use crate::blocking_io::BlockingIo;
use crate::compaction::Compaction;
use crate::comparison::LogComparison;
use crate::config::ConsensusConfig;
use crate::control_client::ControlClient;
use crate::electorate::Electorate;
use crate::error::{ConsensusError, MembershipError, ProposeError, ReadError, ServeError};
use crate::last_contact::LastContact;
use crate::leadership::{self, Leadership};
use crate::log::LogStore;
use crate::membership::MembershipChanger;
use crate::metrics::Metrics;
use crate::open::{open_disk, open_elections};
use crate::openraft_network::OpenraftNetwork;
use crate::openraft_state_machine::OpenraftStateMachine;
use crate::peer_server::PeerServer;
use crate::recovery::Recovery;
use crate::snapshot::{
    SnapshotReceiver, SnapshotSpace, SnapshotThrottle, SnapshotTransfer, fetch_snapshot,
};
use crate::snapshot_source::{SnapshotLease, SnapshotSource};
use crate::state_machine::StateMachine;
use crate::transport::{RaftLane, Transport};
use crate::type_config::{ProposedBatch, Raft, TypeConfig};
use crate::types::{MEMBERS_MAX, NodeId};

/// Pause between two attempts to get the read index, when no node could answer the first.
const READ_RETRY: Duration = Duration::from_millis(50);

/// The handle of a running node; clones share it. The node ends with [`Consensus::shutdown`] or
/// with the last handle.
#[derive(Clone)]
pub struct Consensus(Arc<RunningConsensus>);

struct RunningConsensus {
    node_id: NodeId,
    batch_bytes_max: usize,
    raft: Raft,
    log: LogStore,
    peers: ControlClient,
    server: Arc<PeerServer>,
    membership: MembershipChanger,
    leadership: watch::Receiver<Leadership>,
    recovery: Arc<Recovery>,
    transfer: watch::Receiver<Option<SnapshotTransfer>>,
    /// The proposals that may still be made at once.
    proposals: Arc<Semaphore>,
    abstention: Abstention,
    stop: watch::Sender<bool>,
    _tasks: [AbortOnDropHandle<()>; 4],
}

/// A batch that was applied on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its place in the log.
    pub log_index: u64,
    /// The term in which it was proposed.
    pub term: u64,
    /// The state machine's response.
    pub response: Bytes,
}

/// A batch that was proposed and has no outcome yet. Dropping it does not stop the batch.
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
            Ok(Ok(applied)) => Ok(Applied {
                log_index: applied.log_id.index,
                term: applied.log_id.leader_id.term,
                response: applied.data.0,
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

impl Consensus {
    /// Starts a node. It continues with the contents of the store's [`Cf::Meta`] and [`Cf::Log`];
    /// the state machine has to keep its state in the same store (see [`StateMachine`]).
    ///
    /// If the log there begins after the state machine's state, a snapshot is fetched from
    /// [`ConsensusConfig::sources`] first, however long that takes.
    ///
    /// # Errors
    /// [`ConsensusError::WrongNode`] if the store belongs to another node.
    pub async fn start(
        config: ConsensusConfig,
        kv: Arc<dyn Kv>,
        transport: Arc<dyn Transport>,
        machine: Arc<dyn StateMachine>,
        electorate: Arc<dyn Electorate>,
    ) -> Result<Self, ConsensusError> {
        let raft_config = Arc::new(config.raft()?);
        let (io, config) = (BlockingIo::new(&config), Arc::new(config));
        let (log, snapshots) = open_disk(&config, kv.clone(), io).await?;
        let elections = open_elections(&config, electorate, kv.clone(), log.clone()).await?;
        let mut receiver = SnapshotReceiver::new(snapshots.clone(), SnapshotSpace::new(&config));
        if let Some(at_least) = log.purged_beyond(&*machine)? {
            fetch_snapshot(at_least, &mut receiver, &*transport, &machine, &config).await?;
        }
        let last_contact = Arc::new(LastContact::default());
        let throttle = Arc::new(SnapshotThrottle::new(config.limits.snapshot_bytes_per_s));
        let network = OpenraftNetwork {
            transport: transport.clone(),
            log: log.clone(),
            config: config.clone(),
            machine: machine.clone(),
            last_contact: last_contact.clone(),
            throttle: throttle.clone(),
            elections: elections.clone(),
            signed: Arc::default(),
        };
        let state_machine =
            OpenraftStateMachine::new(machine.clone(), log.clone(), snapshots.clone(), io);
        let (compaction, applied) = (state_machine.compaction(), state_machine.applied_voters());
        let id = config.node_id;
        let raft = Raft::new(id, raft_config, network, log.clone(), state_machine).await;
        let raft = raft.map_err(|error| ConsensusError::Raft(error.into()))?;
        elections.voters.connect(raft.metrics(), applied);
        let (stop, stopped) = watch::channel(false);
        let set = compaction.set(Compaction {
            metrics: raft.metrics(),
            log: log.clone(),
            limits: config.limits.clone(),
            last_contact,
            stop: stopped,
        });
        assert!(set.is_ok(), "the state machine was made above");
        let checks = AppendCheck {
            io,
            log: log.clone(),
            machine: machine.clone(),
            voters: elections.voters.clone(),
        };
        let electorate = elections.voters.electorate.clone();
        let recovery = Recovery::new(raft.clone(), log.clone(), kv, io, electorate)?;
        let peers = ControlClient::new(transport, config.timers.heartbeat * 2);
        let comparison = LogComparison::new(&elections, log, peers.clone(), Arc::new(recovery));
        let source = SnapshotSource {
            raft: raft.clone(),
            config,
            machine,
            snapshots,
            throttle,
            lease: SnapshotLease::default(),
        };
        let progress = receiver.progress();
        let server = PeerServer::new(elections, checks, receiver, source, Arc::new(comparison));
        Ok(Self::new(server, peers, progress, stop))
    }

    fn new(
        server: Arc<PeerServer>,
        peers: ControlClient,
        transfer: watch::Receiver<Option<SnapshotTransfer>>,
        stop: watch::Sender<bool>,
    ) -> Self {
        let (raft, config) = (server.raft.clone(), server.config.clone());
        let (log, comparison) = (server.log.clone(), server.comparison.clone());
        let recovery = comparison.recovery.clone();
        let (published, leadership) = watch::channel(Leadership::default());
        let confirmed_within = config.timers.election_max;
        let publish = leadership::publish(raft.metrics(), confirmed_within, published);
        let request = request_snapshots_by_size(raft.clone(), log.clone());
        let tasks = [
            AbortOnDropHandle::new(tokio::spawn(publish)),
            AbortOnDropHandle::new(tokio::spawn(request)),
            AbortOnDropHandle::new(tokio::spawn(comparison.run())),
            AbortOnDropHandle::new(tokio::spawn(recovery.clone().await_floor())),
        ];
        let caught_up = config.limits.caught_up_entries;
        Self(Arc::new(RunningConsensus {
            node_id: config.node_id,
            batch_bytes_max: config.limits.batch_bytes_max,
            membership: MembershipChanger::new(raft.clone(), peers.clone(), caught_up),
            transfer,
            server,
            proposals: Arc::new(Semaphore::new(config.limits.proposals_max)),
            raft,
            log,
            peers,
            leadership,
            recovery,
            abstention: Abstention::default(),
            stop,
            _tasks: tasks,
        }))
    }

    /// Proposes a batch. Batches are ordered as the calls were made (more exactly: as their futures
    /// were first polled). Waits while [`crate::Limits::proposals_max`] of them have no outcome.
    pub async fn propose(&self, batch: Bytes) -> Result<Proposal, ProposeError> {
        let bytes_max = self.0.batch_bytes_max;
        if batch.len() > bytes_max {
            return Err(ProposeError::TooLarge {
                bytes: batch.len(),
                bytes_max,
            });
        }
        let permit = self.0.proposals.clone().acquire_owned().await;
        let permit = permit.map_err(|_| ProposeError::Stopped)?;
        let answer = self.0.raft.client_write_ff(ProposedBatch(batch)).await;
        let answer = answer.map_err(|_: RaftFatal<NodeId>| ProposeError::Stopped)?;
        Ok(Proposal {
            answer,
            _permit: permit,
        })
    }

    /// The leader, and whether this node is ready to lead, now and as it changes.
    pub fn watch_leadership(&self) -> watch::Receiver<Leadership> {
        self.0.leadership.clone()
    }

    /// True if this node believes that it leads.
    pub fn is_leader(&self) -> bool {
        self.0.leadership.borrow().leader == Some(self.0.node_id)
    }

    /// Stops this node from leading and from standing for election, or allows both again. A node is
    /// passive while its disk is full: it does not use up terms while no node may answer it, and so
    /// does not depose the leader when it comes back.
    pub async fn set_passive(&self, passive: bool) -> Result<(), ConsensusError> {
        let raft = &self.0.raft;
        let stands = self.0.abstention.set_disk(passive);
        self.0.recovery.set_passive(!stands);
        if passive && self.is_leader() {
            // A leader steps down by standing for election; its request for votes reaches no node.
            let triggered = raft.trigger().elect().await;
            triggered.map_err(|error| ConsensusError::Raft(error.into()))?;
        }
        Ok(())
    }

    /// Stops this node from standing for election while its clock is in doubt, or allows it again.
    /// If it leads, the others end that: they do not [follow](StateMachine::may_follow) it.
    pub fn set_clock_wrong(&self, is_wrong: bool) {
        let stands = self.0.abstention.set_clock(is_wrong);
        self.0.recovery.set_passive(!stands);
    }

    /// The log index that a read has to see to see everything that was committed before this call.
    /// When it returns, this node has applied that much.
    pub async fn read_index(&self, deadline: Duration) -> Result<u64, ReadError> {
        let end = Instant::now() + deadline;
        let index = timeout_at(end, self.0.committed_index());
        let index = index.await.unwrap_or(Err(ReadError::Deadline(deadline)))?;
        let applied = timeout_at(end, self.0.wait_applied(index));
        let applied = applied.await.unwrap_or(Err(ReadError::Deadline(deadline)));
        applied.map(|()| index)
    }

    /// Waits until this node has applied the entry of this index.
    pub async fn wait_applied(&self, index: u64, deadline: Duration) -> Result<(), ReadError> {
        let applied = timeout(deadline, self.0.wait_applied(index)).await;
        applied.unwrap_or(Err(ReadError::Deadline(deadline)))
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

    /// Adds a node that follows without a vote, and waits until it has caught up. Only the leader
    /// changes members.
    pub async fn add_learner(
        &self,
        node: NodeId,
        deadline: Duration,
    ) -> Result<(), MembershipError> {
        self.0.membership.add_learner(node, deadline).await
    }

    /// Removes nodes that have no vote.
    pub async fn remove_learners(
        &self,
        nodes: BTreeSet<NodeId>,
        deadline: Duration,
    ) -> Result<(), MembershipError> {
        self.0.membership.remove_learners(nodes, deadline).await
    }

    /// Makes exactly these nodes the voters. New ones have to be learners; those that lose their
    /// vote are removed.
    ///
    /// # Errors
    /// [`MembershipError::NoLiveQuorum`] if no majority of the new voters is alive and has caught
    /// up: such a cluster could never decide anything again.
    pub async fn change_membership(
        &self,
        voters: BTreeSet<NodeId>,
        deadline: Duration,
    ) -> Result<(), MembershipError> {
        self.0.membership.change_voters(voters, deadline).await
    }

    /// Answers a request that came in on a lane from a node whose identity is proven.
    pub async fn serve(
        &self,
        from: NodeId,
        lane: RaftLane,
        request: Bytes,
    ) -> Result<Bytes, ServeError> {
        self.0.server.serve(from, lane, request).await
    }

    /// The metrics of this moment.
    pub fn metrics(&self) -> Metrics {
        let (syncs, incoming) = (self.0.log.syncs(), *self.0.transfer.borrow());
        Metrics {
            differs_at: self.0.server.comparison.differs_at(),
            ..Metrics::new(&self.0.raft.metrics().borrow(), syncs, incoming)
        }
    }

    /// Waits until the task that decides for this node has looked at a question, after all that
    /// was asked before.
    ///
    /// # Errors
    /// It has ended.
    pub async fn answers(&self) -> Result<(), ConsensusError> {
        let answered = self.0.raft.with_raft_state(|_| ()).await;
        answered.map_err(|error| ConsensusError::Raft(error.into()))
    }

    /// Waits until the node stops; returns the reason.
    pub async fn stopped(&self) -> ConsensusError {
        let mut metrics = self.0.raft.metrics();
        let stopped = metrics
            .wait_for(|metrics| metrics.running_state.is_err())
            .await;
        let error = stopped
            .ok()
            .and_then(|metrics| metrics.running_state.clone().err());
        match self.0.recovery.diverged().await {
            Some(reason) => ConsensusError::Diverged(reason),
            None => match error {
                Some(RaftFatal::Stopped) | None => ConsensusError::Stopped,
                Some(error) => ConsensusError::Raft(error.into()),
            },
        }
    }

    /// Stops this node, whose log is proven not to be the others', and notes durably that log and
    /// state are dropped at the next start ([`crate::reset`]).
    ///
    /// # Errors
    /// [`ConsensusError::DivergedAgain`]: the node goes on as it is.
    pub async fn diverge(&self, reason: &str) -> Result<(), ConsensusError> {
        self.0.recovery.diverge(reason, None).await
    }

    /// Requests a snapshot, and with it a purge of the log. It is made in the background.
    pub async fn trigger_snapshot(&self) -> Result<(), ConsensusError> {
        let triggered = self.0.raft.trigger().snapshot().await;
        triggered.map_err(|error| ConsensusError::Raft(error.into()))
    }

    /// Stops taking part. Nothing is lost: what was acknowledged is durable.
    pub async fn shutdown(&self) -> Result<(), ConsensusError> {
        self.0.proposals.close();
        let ended = self.0.raft.shutdown().await;
        self.0.stop.send_replace(true);
        ended.map_err(|error| ConsensusError::Raft(error.into()))
    }
}

impl RunningConsensus {
    /// The index up to which entries were committed when a majority confirmed the leader.
    async fn committed_index(&self) -> Result<u64, ReadError> {
        loop {
            if self.raft.metrics().borrow().running_state.is_err() {
                return Err(ReadError::Stopped);
            }
            let leader = self.leadership.borrow().leader;
            let index = match leader {
                Some(leader) if leader == self.node_id => self.server.read_index().await,
                Some(leader) => self.peers.read_index(leader).await,
                None => None,
            };
            if let Some(index) = index {
                return Ok(index);
            }
            sleep(READ_RETRY).await;
        }
    }

    async fn wait_applied(&self, index: u64) -> Result<(), ReadError> {
        let mut metrics = self.raft.metrics();
        let applied = metrics.wait_for(|metrics| {
            let applied = metrics.last_applied.map(|log_id| log_id.index);
            metrics.running_state.is_err() || applied >= Some(index)
        });
        match applied.await {
            Ok(metrics) if metrics.running_state.is_ok() => Ok(()),
            _ => Err(ReadError::Stopped),
        }
    }
}

/// openraft's own tasks hold each other, so they have to be shut down.
impl Drop for RunningConsensus {
    fn drop(&mut self) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (raft, stop) = (self.raft.clone(), self.stop.clone());
            // No owner is left to whom a failure could be returned.
            runtime.spawn(async move {
                raft.shutdown().await.ok();
                stop.send_replace(true);
            });
        }
    }
}

async fn request_snapshots_by_size(raft: Raft, log: LogStore) {
    loop {
        log.snapshot_due().await;
        if raft.trigger().snapshot().await.is_err() {
            return;
        }
    }
}
