//! Messages that no correct node sends.

use std::collections::BTreeSet;

use lamplighter_consensus::suite::TestElectorate;
use lamplighter_consensus::wire::{
    self, AppendAnswer, AppendBinding, AppendRequest, AppendResponse, ControlRequest,
    ControlResponse, ElectionProof, EntryPayload, LogId, Membership, RaftLogEntry, SignatureBytes,
    SignedVote, StoredEntry, Vote,
};
use lamplighter_consensus::{Electorate, NodeId, RaftLane, ServeError};
use lamplighter_store::{Cf, KvView};
use openraft::CommittedLeaderId;

use super::Cluster;

pub fn log_id(term: u64, node: NodeId, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term, node), index)
}

pub fn term(cluster: &Cluster, node: NodeId) -> u64 {
    cluster.node(node).metrics().term
}

/// The log of a node: the ids of its entries.
pub fn log(cluster: &Cluster, node: NodeId) -> Vec<LogId> {
    let kv = &cluster.nodes[&node].kv;
    let indexes = 0..=cluster.node(node).metrics().last_log_index.unwrap_or(0);
    let entries = indexes.filter_map(|index| kv.get(Cf::Log, &index.to_be_bytes()).unwrap());
    entries
        .map(|entry| StoredEntry::decode(entry).unwrap().entry.log_id)
        .collect()
}

/// The proof that a node would have if these had voted for it.
pub fn proof(
    cluster: &Cluster,
    term: u64,
    candidate: NodeId,
    last_log_id: Option<LogId>,
    voters: &[NodeId],
) -> ElectionProof {
    let mut proof = ElectionProof {
        term,
        candidate,
        last_log_id,
        votes: Vec::new(),
    };
    for voter in voters {
        let electorate = TestElectorate {
            node: *voter,
            voters: cluster.voters.clone(),
        };
        let statement = proof.statement(&electorate.chain_id(), *voter);
        let signature = SignatureBytes(electorate.sign(&statement));
        proof.votes.push(SignedVote {
            voter: *voter,
            signature,
        });
    }
    proof
}

/// True if a node took what a leader sent.
pub fn accepted(answer: &Result<AppendAnswer, ServeError>) -> bool {
    matches!(answer, Ok(AppendAnswer::Response { response, .. })
        if !matches!(response, AppendResponse::HigherVote(_) | AppendResponse::Conflict))
}

/// Sends a heartbeat in a node's name.
pub async fn heartbeat(
    cluster: &Cluster,
    to: NodeId,
    vote: Vote,
    at: (Option<LogId>, Option<LogId>),
    proof: Option<ElectionProof>,
) -> Result<AppendAnswer, ServeError> {
    let request = ControlRequest::Heartbeat {
        vote,
        prev_log_id: at.0,
        leader_commit: at.1,
        proof,
    };
    let from = vote.leader_id.node_id;
    let bytes = wire::encode(&request).into();
    let answer = cluster
        .node(to)
        .serve(from, RaftLane::Control, bytes)
        .await?;
    match wire::decode("answer", &answer).unwrap() {
        ControlResponse::Heartbeat(answer) => Ok(answer),
        other => panic!("{other:?}"),
    }
}

/// Signs entries as those that continue the receiver's log.
fn binding(cluster: &Cluster, to: NodeId, request: &AppendRequest) -> AppendBinding {
    let stored = |log_id: LogId| {
        let row = cluster.nodes[&to]
            .kv
            .get(Cf::Log, &log_id.index.to_be_bytes());
        let stored = StoredEntry::decode(row.unwrap()?).unwrap();
        (stored.entry.log_id == log_id).then_some(stored.digest)
    };
    let prev_digest = request.prev_log_id.and_then(stored).unwrap_or_default();
    let electorate = TestElectorate {
        node: request.vote.leader_id.node_id,
        voters: cluster.voters.clone(),
    };
    let chain_id = electorate.chain_id();
    AppendBinding::signed(request, prev_digest, &[], &chain_id, |bytes| {
        electorate.sign(bytes)
    })
}

pub async fn append(
    cluster: &Cluster,
    to: NodeId,
    request: &AppendRequest,
    proof: Option<&ElectionProof>,
) -> Result<AppendAnswer, ServeError> {
    let from = request.vote.leader_id.node_id;
    let binding = binding(cluster, to, request);
    let bytes = wire::encode_append(request, proof, Some(binding));
    let answer = cluster
        .node(to)
        .serve(from, RaftLane::Append, bytes)
        .await?;
    Ok(wire::decode("answer", &answer).unwrap())
}

pub fn blank(log_id: LogId) -> RaftLogEntry {
    RaftLogEntry {
        log_id,
        payload: EntryPayload::Blank,
    }
}

pub fn membership(log_id: LogId, voters: &[NodeId], learners: &[NodeId]) -> RaftLogEntry {
    let sets = vec![voters.iter().copied().collect::<BTreeSet<_>>()];
    let nodes: BTreeSet<NodeId> = voters.iter().chain(learners).copied().collect();
    RaftLogEntry {
        log_id,
        payload: EntryPayload::Membership(Membership::new(sets, nodes)),
    }
}
