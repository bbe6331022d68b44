use std::collections::BTreeSet;
use std::time::Duration;

use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, EmptyNode};
use tokio::time::timeout;

use crate::MembershipError;
use crate::node::{Consensus, Metrics};
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
        let added = async {
            self.0
                .raft
                .add_learner(node, EmptyNode {}, false)
                .await
                .map_err(convert)?;
            let mut metrics = self.0.raft.metrics();
            loop {
                if self.has_caught_up(&self.metrics(), node) {
                    return Ok(());
                }
                metrics
                    .changed()
                    .await
                    .map_err(|_| MembershipError::Stopped)?;
            }
        };
        timeout(deadline, added)
            .await
            .unwrap_or(Err(MembershipError::Deadline(deadline)))
    }

    /// Whether a node has nearly all of this leader's log.
    fn has_caught_up(&self, metrics: &Metrics, node: NodeId) -> bool {
        if node == metrics.node_id {
            return true;
        }
        let Some(matched) = metrics.matched_index.get(&node).copied().flatten() else {
            return false;
        };
        let behind = metrics.last_log_index.unwrap_or(0).saturating_sub(matched);
        behind <= self.0.config.limits.caught_up_entries
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
        self.check_quorum(&voters).await?;
        let changed = self.0.raft.change_membership(voters, false);
        finish(deadline, changed).await
    }

    async fn check_quorum(&self, voters: &BTreeSet<NodeId>) -> Result<(), MembershipError> {
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
        let asked = voters.iter().map(|node| self.0.is_alive(*node));
        let alive = futures::future::join_all(asked).await;
        let live: BTreeSet<NodeId> = voters
            .iter()
            .zip(alive)
            .filter(|(node, alive)| *alive && self.has_caught_up(&metrics, **node))
            .map(|(node, _)| *node)
            .collect();
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
