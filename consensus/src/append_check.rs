//! The check of a leader's append and heartbeat against this node's own log. openraft believes a
//! leader in every field; what passes here it can believe.
//!
//! - The entries follow each other and the one before them, none is newer than the leader, and they
//!   fit the log that the leader stood for election with.
//! - At or below this node's commit, every entry is the one that this node has; it is then left
//!   out. openraft takes any entry there for its own.
//! - An entry of this node is replaced only by a later leadership, above the commit, and not by a
//!   leader whose log ended with entries of the same leadership.
//! - The leader's commit becomes the entry at that place of this node's log, or of the request; a
//!   commit below this node's own is left out. openraft compares commits by term first.
//! - A membership entry is one that the ledger explains. If it does not yet, the entries before it
//!   are accepted.
//! - A batch is one that the state machine may acknowledge now; if not, again the entries before it
//!   are accepted.

use std::collections::BTreeSet;
use std::sync::Arc;

use openraft::RaftLogId;

use crate::NodeId;
use crate::blocking_io::BlockingIo;
use crate::codec;
use crate::election::{ElectionProof, Voters};
use crate::log::LogStore;
use crate::message::AppendRequest;
use crate::state_machine::StateMachine;
use crate::type_config::{EntryPayload, ProposedBatch, RaftLogEntry};
use crate::types::{LeaderId, LogId, MEMBERS_MAX, Marker, Membership};

/// No log comes near this index: a node that made an entry each microsecond would need 140,000
/// years. Sums with it do not overflow.
const INDEX_MAX: u64 = u64::MAX >> 2;

/// The reason why an append does not reach openraft.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    /// No correct leader sends this.
    #[error("{0}")]
    Invalid(String),
    /// This node could not read its own log or state.
    #[error("{0}")]
    Failed(String),
}

fn invalid<T>(reason: impl Into<String>) -> Result<T, AppendError> {
    Err(AppendError::Invalid(reason.into()))
}

fn failed(error: impl std::fmt::Display) -> AppendError {
    AppendError::Failed(error.to_string())
}

/// A request that openraft may have.
#[derive(Debug)]
pub(crate) struct CheckedAppend {
    pub request: AppendRequest,
    /// The last entry that a success acknowledges, if entries were left out because the ledger
    /// does not explain a membership among them yet, or the state machine may not acknowledge a
    /// batch yet.
    pub cut_after: Option<Option<LogId>>,
}

/// Checks appends; the caller lets no two of them, or an installation, be under way at once.
pub(crate) struct AppendCheck {
    pub io: BlockingIo,
    pub log: LogStore,
    pub machine: Arc<dyn StateMachine>,
    pub voters: Arc<Voters>,
}

/// True if an entry can be of a log that a leader stood for election with, followed by its own
/// entries.
pub(crate) fn fits(log_id: LogId, proof: &ElectionProof) -> bool {
    if log_id.index > INDEX_MAX {
        return false;
    }
    match proof.last_log_id {
        Some(last) if log_id.index < last.index => log_id.leader_id <= last.leader_id,
        Some(last) if log_id.index == last.index => log_id == last,
        _ => log_id.leader_id == proof.leader(),
    }
}

/// Checks what the request says in itself.
pub(crate) fn check_shape(
    request: &AppendRequest,
    proof: &ElectionProof,
) -> Result<(), AppendError> {
    let mut last = request.prev_log_id;
    if let Some(prev) = last
        && !fits(prev, proof)
    {
        return invalid(format!(
            "the entry before, {prev}, is none of this leader's log"
        ));
    }
    for entry in &request.entries {
        let log_id = entry.log_id;
        let index = last.map_or(0, |last| last.index + 1);
        let ordered = last.is_none_or(|last| last.leader_id <= log_id.leader_id);
        if log_id.index != index || !ordered || !fits(log_id, proof) {
            return invalid(format!("entry {log_id} out of order"));
        }
        last = Some(log_id);
    }
    match request.leader_commit {
        Some(commit) if commit.leader_id > proof.leader() => {
            invalid(format!("a commit {commit} of another leader"))
        }
        _ => Ok(()),
    }
}

impl AppendCheck {
    /// The last entry that this node knows as committed.
    pub(crate) fn committed(&self, applied: Option<LogId>) -> Option<LogId> {
        let committed = [self.log.committed(), applied, self.log.purged()];
        committed
            .into_iter()
            .flatten()
            .max_by_key(|log_id| log_id.index)
    }

    /// The entry of this node at an index; none if it has none, or not any more.
    async fn log_id(&self, index: u64) -> Result<Option<LogId>, AppendError> {
        if let Some(known) = [self.log.last(), self.log.purged()]
            .into_iter()
            .flatten()
            .find(|log_id| log_id.index == index)
        {
            return Ok(Some(known));
        }
        if self.log.last().is_none_or(|last| last.index < index) {
            return Ok(None);
        }
        let end = self.log.end(index).await.map_err(failed)?;
        Ok(end.map(|end| end.log_id))
    }

    /// Checks a request whose leadership is proven, and changes it to what openraft may have.
    pub(crate) async fn check(
        &self,
        request: AppendRequest,
        proof: &ElectionProof,
        applied: Option<LogId>,
    ) -> Result<CheckedAppend, AppendError> {
        check_shape(&request, proof)?;
        let committed = self.committed(applied);
        let commit = request.leader_commit;
        let mut request = self.without_committed(request, committed).await?;
        self.check_replaced(&request, proof).await?;
        let unexplained = self.cut_unexplained(&mut request).await?;
        let cut_after = self.cut_early(&mut request, proof).await?.or(unexplained);
        request.leader_commit = match commit {
            Some(commit) if committed.is_none_or(|known| known.index < commit.index) => {
                self.commit_in_log(commit, &request).await?
            }
            _ => None,
        };
        Ok(CheckedAppend { request, cut_after })
    }

    /// Compares what is not above the commit with this node's log, and leaves it out.
    async fn without_committed(
        &self,
        mut request: AppendRequest,
        committed: Option<LogId>,
    ) -> Result<AppendRequest, AppendError> {
        let Some(committed) = committed else {
            return Ok(request);
        };
        let named = request.prev_log_id.into_iter();
        let named = named.chain(request.entries.iter().map(|entry| entry.log_id));
        for log_id in named.filter(|log_id| log_id.index <= committed.index) {
            let local = if log_id.index == committed.index {
                Some(committed)
            } else {
                self.log_id(log_id.index).await?
            };
            // A purged entry can't be compared. It is left out all the same.
            if local.is_some_and(|local| local != log_id) {
                return invalid(format!("{log_id} in place of a committed entry"));
            }
        }
        if request
            .prev_log_id
            .is_none_or(|prev| prev.index < committed.index)
        {
            let at = request
                .entries
                .partition_point(|entry| entry.log_id.index <= committed.index);
            request.entries.drain(..at);
            request.prev_log_id = Some(committed);
        }
        Ok(request)
    }

    /// Checks the first entry of this node that the request would replace, if there is one.
    async fn check_replaced(
        &self,
        request: &AppendRequest,
        proof: &ElectionProof,
    ) -> Result<(), AppendError> {
        let Some(last) = self.log.last() else {
            return Ok(());
        };
        // The usual case: the entries follow this node's last one.
        if request.prev_log_id == Some(last) {
            return Ok(());
        }
        let named = request.prev_log_id.into_iter();
        let named = named.chain(request.entries.iter().map(|entry| entry.log_id));
        for log_id in named.take_while(|log_id| log_id.index <= last.index) {
            match self.log_id(log_id.index).await? {
                Some(local) if local != log_id => return may_replace(local, last, proof),
                _ => {}
            }
        }
        Ok(())
    }

    /// The entry of this node's log, as it will be after the request, at the place of a commit; at
    /// most the last one of the request.
    async fn commit_in_log(
        &self,
        commit: LogId,
        request: &AppendRequest,
    ) -> Result<Option<LogId>, AppendError> {
        let last = request.entries.last().map(|entry| entry.log_id);
        let Some(last) = last.or(request.prev_log_id) else {
            return Ok(None);
        };
        if commit.index >= last.index {
            return Ok(Some(last));
        }
        let named = request
            .entries
            .iter()
            .find(|entry| entry.log_id.index == commit.index);
        let local = match named {
            Some(entry) => Some(*entry.get_log_id()),
            None => self.log_id(commit.index).await?,
        };
        match local {
            Some(local) if local == commit => Ok(Some(local)),
            // The log differs before the request's first entry, and openraft will find that out.
            _ => Ok(None),
        }
    }

    /// Removes the first membership entry that the ledger does not explain, and all after it.
    async fn cut_unexplained(
        &self,
        request: &mut AppendRequest,
    ) -> Result<Option<Option<LogId>>, AppendError> {
        let memberships =
            |entry: &RaftLogEntry| matches!(entry.payload, EntryPayload::Membership(_));
        if !request.entries.iter().any(memberships) {
            return Ok(None);
        }
        let floor = self.applied_place().await?;
        for (at, entry) in request.entries.iter().enumerate() {
            let EntryPayload::Membership(membership) = &entry.payload else {
                continue;
            };
            check_size(membership)?;
            // What this node has in its log already it has explained before.
            if self.log_id(entry.log_id.index).await? == Some(entry.log_id) {
                continue;
            }
            if !is_explained(membership, floor, &self.voters) {
                request.entries.truncate(at);
                let last = request.entries.last().map(|entry| entry.log_id);
                return Ok(Some(last.or(request.prev_log_id)));
            }
        }
        Ok(None)
    }

    /// Removes the first batch that may not be acknowledged yet, and all after it. What this node
    /// has in its log already it has acknowledged before.
    async fn cut_early(
        &self,
        request: &mut AppendRequest,
        proof: &ElectionProof,
    ) -> Result<Option<Option<LogId>>, AppendError> {
        for (at, entry) in request.entries.iter().enumerate() {
            let EntryPayload::Normal(ProposedBatch(batch)) = &entry.payload else {
                continue;
            };
            if self.machine.may_acknowledge(batch)
                || self.log_id(entry.log_id.index).await? == Some(entry.log_id)
                || self.is_committed(entry.log_id.index).await?
            {
                continue;
            }
            // Only then is it its own: an entry names any leader of an earlier term.
            let is_proposer = entry.log_id.leader_id == proof.leader();
            self.machine
                .on_early_batch(proof.candidate, batch, is_proposer);
            request.entries.truncate(at);
            let last = request.entries.last().map(|entry| entry.log_id);
            return Ok(Some(last.or(request.prev_log_id)));
        }
        Ok(None)
    }

    /// Returns whether the state machine knows that the entry at `index` is committed: then this
    /// node is behind, and what its clock says of the entry decides nothing any more.
    async fn is_committed(&self, index: u64) -> Result<bool, AppendError> {
        // First what is applied, then how far that reached: one block more makes it a no.
        let applied = self
            .applied()
            .await?
            .map_or(0, |marker| marker.log_id.index);
        Ok(self.machine.is_committed(index.saturating_sub(applied)))
    }

    /// The position of what the state machine applied last.
    async fn applied(&self) -> Result<Option<Marker>, AppendError> {
        let machine = self.machine.clone();
        let marker = self
            .io
            .run(move || machine.applied())
            .await
            .map_err(failed)?;
        marker
            .map(|marker| codec::decode("marker", &marker))
            .transpose()
            .map_err(failed)
    }

    /// The place, among the ledger's sets, of the voters that this node applied last. Raft's
    /// voters never go back behind them.
    async fn applied_place(&self) -> Result<u64, AppendError> {
        let marker = self.applied().await?;
        let electorate = &self.voters.electorate;
        let sets = marker.map(|marker| marker.membership.membership().get_joint_config().clone());
        let places = sets
            .iter()
            .flatten()
            .filter_map(|set| electorate.explains(set));
        Ok(places.min().unwrap_or(0))
    }
}

/// Checks that a leader may replace an entry of this node, whose log ends with `last`.
fn may_replace(local: LogId, last: LogId, proof: &ElectionProof) -> Result<(), AppendError> {
    let leader: LeaderId = proof.leader();
    if local.leader_id >= leader {
        return invalid(format!("a leader that replaces its own entry {local}"));
    }
    let claimed = proof.last_log_id;
    if claimed
        .is_some_and(|claimed| claimed.leader_id == last.leader_id && local.index <= claimed.index)
    {
        return invalid(format!(
            "a leader that replaces {local}, which it claimed to have"
        ));
    }
    Ok(())
}

fn check_size(membership: &Membership) -> Result<(), AppendError> {
    let sets = membership.get_joint_config();
    let known = |node: &NodeId| membership.get_node(node).is_some();
    let complete = sets
        .iter()
        .all(|set| !set.is_empty() && set.iter().all(known));
    if sets.is_empty() || sets.len() > 2 || !complete || membership.nodes().count() > MEMBERS_MAX {
        return invalid("an impossible membership");
    }
    Ok(())
}

/// True if the ledger explains the voters of a membership, none of them older than `floor`, and
/// names all members.
///
/// A node that replays its log gets each entry after the block that explains it, and waits for the
/// certificate of that block: the answer is "not yet", never a refusal for good. It may also know
/// newer sets than the leader did when that made the entry. So an older set is accepted as long as
/// it is not older than the voters that this node applied.
pub(crate) fn is_explained(membership: &Membership, floor: u64, voters: &Voters) -> bool {
    let electorate = &voters.electorate;
    let explained = |set: &BTreeSet<NodeId>| electorate.explains(set) >= Some(floor);
    let mut members = membership.nodes().map(|(node, _)| *node);
    membership.get_joint_config().iter().all(explained)
        && members.all(|node| electorate.names(node))
}
