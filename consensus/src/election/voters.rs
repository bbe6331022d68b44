//! The voters of this moment: those of Raft's log and those of the ledger.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::NodeId;
use crate::electorate::Electorate;
use crate::types::{RaftMetrics, Vote};

/// The time for which a leader is followed that the ledger has removed: it has to carry out its
/// own removal, which is two entries of the log.
const REMOVED_LEADER_TIME: Duration = Duration::from_secs(10);

/// The voters after the last applied entry of Raft's log: two sets while they change.
#[derive(Default)]
pub(crate) struct AppliedVoters(Mutex<Vec<BTreeSet<NodeId>>>);

impl AppliedVoters {
    pub(crate) fn set(&self, sets: Vec<BTreeSet<NodeId>>) {
        *self.0.lock().expect("no code panics with this lock") = sets;
    }

    fn sets(&self) -> Vec<BTreeSet<NodeId>> {
        let sets = self.0.lock().expect("no code panics with this lock");
        sets.clone()
    }
}

/// Answers which nodes may vote and lead.
pub(crate) struct Voters {
    pub electorate: Arc<dyn Electorate>,
    /// Set when openraft runs.
    metrics: OnceLock<watch::Receiver<RaftMetrics>>,
    /// Set when openraft runs.
    applied: OnceLock<Arc<AppliedVoters>>,
    /// The leader that the ledger removed, and since when it is followed all the same.
    removed_leader: Mutex<Option<(NodeId, Instant)>>,
}

impl Voters {
    pub(crate) fn new(electorate: Arc<dyn Electorate>) -> Self {
        Self {
            electorate,
            metrics: OnceLock::new(),
            applied: OnceLock::new(),
            removed_leader: Mutex::default(),
        }
    }

    /// Sets what the openraft that has started says of itself.
    pub(crate) fn connect(
        &self,
        metrics: watch::Receiver<RaftMetrics>,
        applied: Arc<AppliedVoters>,
    ) {
        let set = self.metrics.set(metrics).is_ok() && self.applied.set(applied).is_ok();
        assert!(set, "a node starts openraft once");
    }

    /// The effective voters of Raft's log: two sets while they change, none before openraft runs.
    pub(crate) fn of_log(&self) -> Vec<BTreeSet<NodeId>> {
        let Some(metrics) = self.metrics.get() else {
            return Vec::new();
        };
        let metrics = metrics.borrow();
        metrics
            .membership_config
            .membership()
            .get_joint_config()
            .clone()
    }

    /// The vote of this node.
    pub(crate) fn local_vote(&self) -> Vote {
        let metrics = self.metrics.get();
        metrics.map_or_else(Vote::default, |metrics| metrics.borrow().vote)
    }

    pub(crate) fn votes_in_log(&self, node: NodeId) -> bool {
        self.of_log().iter().any(|set| set.contains(&node))
    }

    /// The sets of which a quorum elects a leader, in the eyes of this node: those of its log;
    /// those that it applied, as the last entries of its log may be in no other; and each of the
    /// ledger's, as its log may be older than the members are.
    pub(crate) fn electing(&self) -> Vec<Vec<BTreeSet<NodeId>>> {
        let of_log = self.of_log();
        let applied = self.applied.get().map(|applied| applied.sets());
        let applied = applied.filter(|sets| *sets != of_log);
        let of_raft = [Some(of_log), applied].into_iter().flatten();
        let of_raft = of_raft.filter(|sets| !sets.is_empty());
        let of_ledger = self.electorate.electors().into_iter().map(|set| vec![set]);
        of_raft.chain(of_ledger).collect()
    }

    /// True if the answer of a node may count as a voter's.
    pub(crate) fn is_voter(&self, node: NodeId) -> bool {
        !self.electorate.is_excluded(node)
            && (self.votes_in_log(node) || self.electorate.may_vote(node))
    }

    /// True if a node may stand for election: not if the ledger has removed it, although Raft's log
    /// still has its vote.
    pub(crate) fn may_stand(&self, node: NodeId) -> bool {
        !self.electorate.is_excluded(node) && self.electorate.may_vote(node)
    }

    /// True if a node may lead. One that the ledger removed may for a limited time, if Raft's log
    /// has its vote, or if it leads: it goes on until its removal is committed, and a little longer
    /// so that the others know.
    pub(crate) fn may_lead(&self, node: NodeId) -> bool {
        if self.electorate.is_excluded(node) {
            return false;
        }
        if self.electorate.may_vote(node) {
            return true;
        }
        let vote = self.local_vote();
        let leads = vote.committed && vote.leader_id.node_id == node;
        if !leads && !self.votes_in_log(node) {
            return false;
        }
        let mut removed = self
            .removed_leader
            .lock()
            .expect("no code panics with this lock");
        let since = match *removed {
            Some((known, since)) if known == node => since,
            _ => removed.insert((node, Instant::now())).1,
        };
        since.elapsed() <= REMOVED_LEADER_TIME
    }
}
