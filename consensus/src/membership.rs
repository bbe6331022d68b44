//! Changes of the cluster's members, which only the leader makes.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, EmptyNode};
use tokio::time::timeout;

use crate::MembershipError;
use crate::control_client::ControlClient;
use crate::election::quorum;
use crate::type_config::Raft;
use crate::types::{MEMBERS_MAX, NodeId, RaftMetrics};

type ChangeError = RaftError<NodeId, ClientWriteError<NodeId, EmptyNode>>;

/// Adds and removes members. [`crate::Consensus`] documents the methods.
pub(crate) struct MembershipChanger {
    raft: Raft,
    peers: ControlClient,
    caught_up_entries: u64,
}

impl MembershipChanger {
    /// A node that is at most `caught_up_entries` behind the leader has caught up.
    pub(crate) fn new(raft: Raft, peers: ControlClient, caught_up_entries: u64) -> Self {
        Self {
            raft,
            peers,
            caught_up_entries,
        }
    }

    pub(crate) async fn add_learner(
        &self,
        node: NodeId,
        deadline: Duration,
    ) -> Result<(), MembershipError> {
        let members = self.membership().nodes().count();
        if members >= MEMBERS_MAX {
            return Err(MembershipError::Size(members + 1));
        }
        let added = async {
            let added = self.raft.add_learner(node, EmptyNode {}, false).await;
            added.map_err(convert)?;
            let mut metrics = self.raft.metrics();
            let caught_up = metrics.wait_for(|metrics| self.has_caught_up(metrics, node));
            caught_up.await.map_err(|_| MembershipError::Stopped)?;
            Ok(())
        };
        timeout(deadline, added)
            .await
            .unwrap_or(Err(MembershipError::Deadline(deadline)))
    }

    pub(crate) async fn remove_learners(
        &self,
        nodes: BTreeSet<NodeId>,
        deadline: Duration,
    ) -> Result<(), MembershipError> {
        let change = ChangeMembers::RemoveNodes(nodes);
        finish(deadline, self.raft.change_membership(change, false)).await
    }

    pub(crate) async fn change_voters(
        &self,
        voters: BTreeSet<NodeId>,
        deadline: Duration,
    ) -> Result<(), MembershipError> {
        if voters.is_empty() || voters.len() > MEMBERS_MAX {
            return Err(MembershipError::Size(voters.len()));
        }
        self.check_quorum(&voters).await?;
        finish(deadline, self.raft.change_membership(voters, false)).await
    }

    fn membership(&self) -> crate::types::Membership {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        metrics.membership_config.membership().clone()
    }

    /// True if a node has nearly all of this leader's log.
    fn has_caught_up(&self, metrics: &RaftMetrics, node: NodeId) -> bool {
        if node == metrics.id {
            return true;
        }
        let replication = metrics.replication.as_ref();
        let Some(matched) = replication.and_then(|nodes| nodes.get(&node).copied().flatten())
        else {
            return false;
        };
        let last = metrics.last_log_index.unwrap_or(0);
        last.saturating_sub(matched.index) <= self.caught_up_entries
    }

    async fn check_quorum(&self, voters: &BTreeSet<NodeId>) -> Result<(), MembershipError> {
        let metrics = self.raft.metrics().borrow().clone();
        if metrics.current_leader != Some(metrics.id) {
            return Err(MembershipError::NotLeader {
                leader: metrics.current_leader,
            });
        }
        let members = metrics.membership_config.membership();
        let is_member = |node: &NodeId| members.get_node(node).is_some();
        if let Some(node) = voters.iter().find(|node| !is_member(node)) {
            return Err(MembershipError::NotLearner(*node));
        }
        let alive = voters
            .iter()
            .map(async |node| *node == metrics.id || self.peers.is_alive(*node).await);
        let alive = futures::future::join_all(alive).await;
        let live: BTreeSet<NodeId> = voters
            .iter()
            .zip(alive)
            .filter(|(node, alive)| *alive && self.has_caught_up(&metrics, **node))
            .map(|(node, _)| *node)
            .collect();
        if live.len() >= quorum(voters.len()) {
            return Ok(());
        }
        Err(MembershipError::NoLiveQuorum {
            voters: voters.clone(),
            live,
        })
    }
}

async fn finish<T>(
    deadline: Duration,
    change: impl Future<Output = Result<T, ChangeError>>,
) -> Result<(), MembershipError> {
    match timeout(deadline, change).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(convert(error)),
        Err(_) => Err(MembershipError::Deadline(deadline)),
    }
}

fn convert(error: ChangeError) -> MembershipError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            MembershipError::NotLeader {
                leader: forward.leader_id,
            }
        }
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => match error {
            ChangeMembershipError::InProgress(_) => MembershipError::InProgress,
            ChangeMembershipError::EmptyMembership(_) => MembershipError::Size(0),
            ChangeMembershipError::LearnerNotFound(error) => {
                MembershipError::NotLearner(error.node_id)
            }
        },
        RaftError::Fatal(_) => MembershipError::Stopped,
    }
}
