//! The quorum of copies that an entry needs before it counts as committed.
//!
//! openraft commits what a majority holds. A certificate needs more for 5 voters and from 7 on, and
//! so does an election; the gate lets openraft learn of a copy only when there are enough for such
//! a quorum. Where a majority is one, as for 3, 4 and 6 voters, nothing ever waits here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::proof::{is_quorum, quorum};
use super::voters::Voters;
use crate::NodeId;
use crate::types::{LeaderId, LogId};

/// The progress of the other nodes under one leadership of this node.
struct Copies {
    leader: LeaderId,
    /// When its first answer came.
    begun: Instant,
    /// The last entry that each node acknowledged as durable.
    matched: BTreeMap<NodeId, LogId>,
    /// When each node's last successful answer was requested.
    answered: BTreeMap<NodeId, Instant>,
}

impl Copies {
    fn new(leader: LeaderId) -> Self {
        Self {
            leader,
            begun: Instant::now(),
            matched: BTreeMap::new(),
            answered: BTreeMap::new(),
        }
    }
}

/// Counts acknowledged copies and answers on the leader.
pub(crate) struct CommitGate {
    node_id: NodeId,
    voters: Arc<Voters>,
    copies: watch::Sender<Copies>,
}

/// True if openraft's majority is a quorum of every part.
fn is_majority_enough(joint: &[BTreeSet<NodeId>]) -> bool {
    joint
        .iter()
        .all(|voters| voters.len() / 2 + 1 >= quorum(voters.len()))
}

impl CommitGate {
    pub(crate) fn new(node_id: NodeId, voters: Arc<Voters>) -> Self {
        Self {
            node_id,
            voters,
            copies: watch::Sender::new(Copies::new(LeaderId::default())),
        }
    }

    /// Records that a node accepts this leader, as it answered a request that was sent at `asked`.
    pub(crate) fn record_answer(&self, leader: LeaderId, node: NodeId, asked: Instant) {
        self.change(leader, |copies| {
            copies.answered.insert(node, asked);
        });
    }

    /// Records that a node holds all entries up to this one.
    pub(crate) fn record_copy(&self, leader: LeaderId, node: NodeId, last: LogId) {
        self.change(leader, |copies| {
            let matched = copies.matched.entry(node).or_insert(last);
            *matched = last.max(*matched);
        });
    }

    /// Records that a node does not know this leadership any more.
    pub(crate) fn forget_answer(&self, leader: LeaderId, node: NodeId) {
        self.change(leader, |copies| {
            copies.answered.remove(&node);
        });
    }

    /// True if a node has accepted this leadership.
    pub(crate) fn is_accepted(&self, leader: LeaderId, node: NodeId) -> bool {
        let copies = self.copies.borrow();
        copies.leader == leader && copies.answered.contains_key(&node)
    }

    /// Records that a node lost entries that it had acknowledged.
    pub(crate) fn forget(&self, leader: LeaderId, node: NodeId) {
        self.change(leader, |copies| {
            copies.matched.remove(&node);
        });
    }

    fn change(&self, leader: LeaderId, change: impl FnOnce(&mut Copies)) {
        self.copies.send_modify(|copies| {
            if copies.leader < leader {
                *copies = Copies::new(leader);
            }
            if copies.leader == leader {
                change(copies);
            }
        });
    }

    /// Waits until a quorum of the voters holds the entry, this node included, whose own copy
    /// openraft waits for. False if there is none within the time.
    pub(crate) async fn holds(&self, leader: LeaderId, last: LogId, within: Duration) -> bool {
        let mut copies = self.copies.subscribe();
        let enough = copies.wait_for(|copies| {
            let joint = self.voters.of_log();
            let held = |(node, matched): (&NodeId, &LogId)| (*matched >= last).then_some(*node);
            copies.leader == leader
                && (is_majority_enough(&joint) || {
                    let nodes = copies.matched.iter().filter_map(held);
                    is_quorum(&joint, &nodes.chain([self.node_id]).collect())
                })
        });
        timeout(within, enough).await.is_ok()
    }

    /// True if a quorum without this node answered requests of this leader that were sent within
    /// the last `within`, or elected it within that time.
    pub(crate) fn is_confirmed_without(
        &self,
        leader: LeaderId,
        node: NodeId,
        within: Duration,
    ) -> bool {
        self.change(leader, |_| {});
        let copies = self.copies.borrow();
        let lately = |at: &Instant| at.elapsed() <= within;
        if copies.leader == leader && lately(&copies.begun) {
            return true;
        }
        let nodes = copies.answered.iter().filter(|(_, at)| lately(at));
        let nodes = nodes.map(|(node, _)| *node).filter(|other| *other != node);
        let nodes = nodes.chain([self.node_id]).collect();
        copies.leader == leader && is_quorum(&self.voters.of_log(), &nodes)
    }

    /// True if openraft's own majority confirms this leader, and no more answers are needed.
    pub(crate) fn is_majority_enough(&self) -> bool {
        is_majority_enough(&self.voters.of_log())
    }

    /// Waits until a quorum of the voters answered requests of this leader that were sent after
    /// `since`. False if they don't within the time.
    pub(crate) async fn confirmed_since(
        &self,
        leader: LeaderId,
        since: Instant,
        within: Duration,
    ) -> bool {
        let mut copies = self.copies.subscribe();
        let confirmed = copies.wait_for(|copies| {
            let answered = |(node, at): (&NodeId, &Instant)| (*at >= since).then_some(*node);
            let nodes = copies.answered.iter().filter_map(answered);
            let nodes = nodes.chain([self.node_id]).collect();
            copies.leader == leader && is_quorum(&self.voters.of_log(), &nodes)
        });
        timeout(within, confirmed).await.is_ok()
    }
}
