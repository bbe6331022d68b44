use std::collections::BTreeSet;
use std::time::Duration;

use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, EmptyNode};
use tokio::time::timeout;

use crate::MembershipError;
use crate::node::Consensus;
use crate::raft::NodeId;
use crate::serve::MEMBERS_MAX;

type ChangeError = RaftError<NodeId, ClientWriteError<NodeId, EmptyNode>>;

impl Consensus {
    /// Lets a node follow without a vote, and waits until it has caught up. To be asked of the
    /// leader, as all changes.
    pub async fn add_learner(
        &self,
        node: NodeId,
        deadline: Duration,
    ) -> Result<(), MembershipError> {
        let metrics = self.metrics();
        let members = metrics.voters.len() + metrics.learners.len();
        if members >= MEMBERS_MAX {
            return Err(MembershipError::Size(members + 1));
        }
        let added = self.0.raft.add_learner(node, EmptyNode {}, true);
        finish(deadline, added).await
    }

    /// Removes nodes that have no vote.
    pub async fn remove_learners(
        &self,
        nodes: BTreeSet<NodeId>,
        deadline: Duration,
    ) -> Result<(), MembershipError> {
        let removed = self
            .0
            .raft
            .change_membership(ChangeMembers::RemoveNodes(nodes), false);
        finish(deadline, removed).await
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
        if voters.is_empty() || voters.len() > MEMBERS_MAX {
            return Err(MembershipError::Size(voters.len()));
        }
        self.check_quorum(&voters)?;
        let changed = self.0.raft.change_membership(voters, false);
        finish(deadline, changed).await
    }

    fn check_quorum(&self, voters: &BTreeSet<NodeId>) -> Result<(), MembershipError> {
        let metrics = self.metrics();
        if metrics.leader != Some(metrics.node_id) {
            return Err(MembershipError::NotLeader {
                leader: metrics.leader,
            });
        }
        let known =
            |node: &NodeId| metrics.voters.contains(node) || metrics.learners.contains(node);
        if let Some(node) = voters.iter().find(|node| !known(node)) {
            return Err(MembershipError::NotLearner(*node));
        }
        let limits = &self.0.config.limits;
        let behind = |node: &NodeId| {
            let matched = metrics.matched_index.get(node).copied().flatten();
            let next = |index: Option<u64>| index.map_or(0, |index| index + 1);
            next(metrics.last_log_index).saturating_sub(next(matched))
        };
        let within = self.0.config.timers.election_max;
        let is_live = |node: &NodeId| {
            *node == metrics.node_id
                || (self.0.peers.is_live(*node, within) && behind(node) <= limits.caught_up_entries)
        };
        let live: BTreeSet<NodeId> = voters.iter().copied().filter(is_live).collect();
        if live.len() > voters.len() / 2 {
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
