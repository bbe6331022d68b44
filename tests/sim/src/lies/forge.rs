//! Messages of consensus as an adversary makes them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes};
use lamplighter_consensus::LogDigest;
use lamplighter_consensus::wire::{
    self, AppendAnswer, AppendBinding, AppendHeader, AppendRequest, ComparisonAnswer,
    ControlRequest, ControlResponse, ElectionProof, FileInfo, LeaderStatement, Manifest,
    RaftLogEntry, SignatureBytes, SignedVote, SnapshotRequest, SnapshotResponse,
};
use lamplighter_types::{Hash, SignedTransaction, codec};
use openraft::raft::{AppendEntriesResponse, VoteRequest, VoteResponse};
use openraft::{
    CommittedLeaderId, EmptyNode, LogId, Membership, SnapshotMeta, StoredMembership, Vote,
};
use serde::{Deserialize, Serialize};

use crate::node;
use crate::raft_messages::Place;

/// Kinds of log entries.
pub const BLANK: u8 = 0;
pub const BATCH: u8 = 1;
pub const MEMBERSHIP: u8 = 2;
/// Bytes before the content of an entry: kind, term, node, index.
const ENTRY_HEADER_BYTES: usize = 25;

type RaftMembership = Membership<u64, EmptyNode>;

/// A batch as the ledger encodes it.
#[derive(Serialize, Deserialize)]
struct ForgedBatch {
    parent: Hash,
    timestamp_ms: u64,
    transactions: Vec<SignedTransaction>,
}

pub fn vote(term: u64, node: u64, committed: bool) -> Vote<u64> {
    if committed {
        Vote::new_committed(term, node)
    } else {
        Vote::new(term, node)
    }
}

pub fn log_id((term, node, index): Place) -> LogId<u64> {
    LogId::new(CommittedLeaderId::new(term, node), index)
}

/// How a forged proof of an election is wrong.
#[derive(Clone, Copy, Debug)]
pub enum ProofFlaw {
    /// There is none.
    Missing,
    /// Everybody's votes, with signatures of nobody.
    Unsigned,
    /// Everybody's votes, all signed with the liar's key.
    LiarKey,
    /// The vote of the liar, as often as there are voters.
    Repeated,
    /// No votes.
    Empty,
}

pub const FLAWS: [ProofFlaw; 5] = [
    ProofFlaw::Missing,
    ProofFlaw::Unsigned,
    ProofFlaw::LiarKey,
    ProofFlaw::Repeated,
    ProofFlaw::Empty,
];

/// The proof of an election that did not happen.
pub fn proof(
    vote: &Vote<u64>,
    voters: &[u64],
    chain_id: &Hash,
    flaw: ProofFlaw,
) -> Option<ElectionProof> {
    let candidate = vote.leader_id.node_id;
    let mut proof = ElectionProof {
        term: vote.leader_id.term,
        candidate,
        last_log_id: None,
        votes: Vec::new(),
    };
    let secret = node::secret(candidate);
    let signed = |proof: &ElectionProof, voter| SignedVote {
        voter,
        signature: SignatureBytes(secret.sign(&proof.statement(&chain_id.0, voter)).0),
    };
    proof.votes = match flaw {
        ProofFlaw::Missing => return None,
        ProofFlaw::Empty => Vec::new(),
        ProofFlaw::Repeated => vec![signed(&proof, candidate); voters.len() + 1],
        ProofFlaw::LiarKey => voters.iter().map(|voter| signed(&proof, *voter)).collect(),
        ProofFlaw::Unsigned => {
            let signature = SignatureBytes([7; 64]);
            let unsigned = |voter: &u64| SignedVote {
                voter: *voter,
                signature,
            };
            voters.iter().map(unsigned).collect()
        }
    };
    Some(proof)
}

pub fn heartbeat(
    vote: Vote<u64>,
    prev: Option<Place>,
    commit: Option<Place>,
    proof: Option<ElectionProof>,
) -> Bytes {
    let request = ControlRequest::Heartbeat {
        vote,
        prev_log_id: prev.map(log_id),
        leader_commit: commit.map(log_id),
        proof,
    };
    wire::encode(&request).into()
}

pub fn ask_for_votes(vote: Vote<u64>, last: Option<Place>) -> Bytes {
    let request = ControlRequest::Vote {
        request: VoteRequest::new(vote, last.map(log_id)),
        log_proof: None,
    };
    wire::encode(&request).into()
}

pub fn entry(kind: u8, (term, node, index): Place, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(ENTRY_HEADER_BYTES + content.len());
    out.put_u8(kind);
    out.put_u64_le(term);
    out.put_u64_le(node);
    out.put_u64_le(index);
    out.put_slice(content);
    out
}

/// The content of an entry that names these voters.
pub fn membership(voters: &BTreeSet<u64>, all: &BTreeSet<u64>) -> Vec<u8> {
    let nodes: BTreeMap<u64, EmptyNode> = all.iter().map(|node| (*node, EmptyNode {})).collect();
    wire::encode(&RaftMembership::new(vec![voters.clone()], nodes))
}

/// Binds entries to a log under the name of a leader; what others made keeps its signature.
fn bind(
    vote: &Vote<u64>,
    prev_digest: LogDigest,
    entries: Vec<RaftLogEntry>,
    authors: &[SignatureBytes],
    chain_id: &Hash,
) -> AppendBinding {
    let secret = node::secret(vote.leader_id.node_id);
    let request = AppendRequest {
        vote: *vote,
        prev_log_id: None,
        leader_commit: None,
        entries,
    };
    let sign = |message: &[u8]| secret.sign(message).0;
    AppendBinding::signed(&request, prev_digest, authors, &chain_id.0, sign)
}

/// The entries in these bytes; none if some are no entries.
fn read(entries: &[Vec<u8>]) -> Option<Vec<RaftLogEntry>> {
    let read = |entry: &Vec<u8>| wire::get_entry(entry.clone().into()).ok();
    entries.iter().map(read).collect()
}

pub fn append(
    vote: Vote<u64>,
    prev: Option<Place>,
    commit: Option<Place>,
    proof: Option<ElectionProof>,
    entry: &[u8],
    chain_id: &Hash,
) -> Bytes {
    let before = LogDigest::EMPTY;
    let read = read(&[entry.to_vec()]);
    let header = AppendHeader {
        vote,
        prev_log_id: prev.map(log_id),
        leader_commit: commit.map(log_id),
        proof,
        binding: read.map(|entries| bind(&vote, before, entries, &[], chain_id)),
        entries: vec![entry.len() as u32],
    };
    wire::frame(&header, entry)
}

/// Alters the entries of an append, and signs them. `digests` are those of the log that the
/// receiver got, where it differs from that of the liar's node.
pub fn alter_entries(
    request: &Bytes,
    digests: &mut BTreeMap<u64, LogDigest>,
    chain_id: &Hash,
    mut alter: impl FnMut(Vec<u8>) -> Vec<u8>,
) -> Option<Bytes> {
    let (mut header, mut rest) = wire::unframe::<AppendHeader>("append", request.clone()).ok()?;
    let mut entries = Vec::new();
    for size in &header.entries {
        entries.push(alter(rest.split_to(*size as usize).to_vec()));
    }
    header.entries = entries.iter().map(|entry| entry.len() as u32).collect();
    if let Some(binding) = header.binding.take() {
        let prev = header.prev_log_id.map(|prev| prev.index);
        let known = prev.and_then(|prev| digests.get(&prev)).copied();
        let before = known.unwrap_or(binding.prev_digest);
        let read = read(&entries);
        let mut digest = before;
        for entry in read.iter().flatten() {
            digest = digest.after(entry);
            digests.insert(entry.log_id.index, digest);
        }
        let authors = &binding.authors;
        header.binding = read.map(|read| bind(&header.vote, before, read, authors, chain_id));
    }
    Some(wire::frame(&header, &entries.concat()))
}

/// Another batch under the place of this entry: the same transactions later, or not all of them.
pub fn other_batch(entry: &[u8], variant: u64) -> Option<Vec<u8>> {
    if entry.first() != Some(&BATCH) {
        return None;
    }
    let (head, content) = entry.split_at_checked(ENTRY_HEADER_BYTES)?;
    let mut batch: ForgedBatch = codec::decode(content).ok()?;
    batch.timestamp_ms = batch.timestamp_ms.saturating_add(variant);
    if variant % 2 == 1 {
        batch.transactions.pop();
    }
    Some([head, &codec::encode(&batch)].concat())
}

/// True if the ledger can read these bytes as a batch.
pub fn is_batch(bytes: &[u8]) -> bool {
    codec::decode::<ForgedBatch>(bytes).is_ok()
}

/// Bytes that are no batch under the place of this entry.
pub fn no_batch(entry: &[u8]) -> Option<Vec<u8>> {
    if entry.first() != Some(&BATCH) {
        return None;
    }
    let head = entry.get(..ENTRY_HEADER_BYTES)?;
    Some([head, b"no batch"].concat())
}

/// An image that does not exist.
pub fn manifest(last: Place, voters: &BTreeSet<u64>, bytes: u64, salt: u64) -> Manifest {
    let nodes: BTreeMap<u64, EmptyNode> = voters.iter().map(|node| (*node, EmptyNode {})).collect();
    let membership = RaftMembership::new(vec![voters.clone()], nodes);
    let meta = SnapshotMeta {
        last_log_id: Some(log_id(last)),
        last_membership: StoredMembership::new(Some(log_id(last)), membership),
        snapshot_id: format!("image-{salt}"),
    };
    let file = FileInfo {
        name: "memory.kv".to_owned(),
        bytes,
        hash: *blake3::hash(&salt.to_le_bytes()).as_bytes(),
    };
    Manifest {
        meta,
        files: vec![file],
    }
}

pub fn offer(vote: Vote<u64>, manifest: Manifest, proof: Option<ElectionProof>) -> Bytes {
    let offer = SnapshotRequest::Offer {
        vote,
        manifest,
        proof,
    };
    wire::frame(&offer, &[])
}

pub fn chunk(vote: Vote<u64>, manifest: [u8; 32], offset: u64, bytes: &[u8]) -> Bytes {
    let header = SnapshotRequest::Chunk {
        vote,
        manifest,
        file: 0,
        offset,
    };
    wire::frame(&header, bytes)
}

/// The same step of a transfer with other content; none if there is nothing to alter.
pub fn alter_snapshot(request: &Bytes, alter: impl FnOnce(&mut Manifest)) -> Option<Bytes> {
    match wire::unframe("request", request.clone()).ok()? {
        (
            SnapshotRequest::Offer {
                vote,
                mut manifest,
                proof,
            },
            _,
        ) => {
            alter(&mut manifest);
            Some(offer(vote, manifest, proof))
        }
        (chunk @ SnapshotRequest::Chunk { .. }, bytes) => {
            let mut bytes = bytes.to_vec();
            let middle = bytes.len() / 2;
            *bytes.get_mut(middle)? ^= 1;
            Some(wire::frame(&chunk, &bytes))
        }
        _ => None,
    }
}

pub type AppendResponse = AppendEntriesResponse<u64>;

fn unsigned(response: AppendResponse) -> AppendAnswer {
    AppendAnswer::Response {
        response,
        signature: None,
    }
}

pub fn append_answer(response: AppendResponse) -> Bytes {
    wire::encode(&unsigned(response)).into()
}

pub fn heartbeat_answer(response: AppendResponse) -> Bytes {
    wire::encode(&ControlResponse::Heartbeat(unsigned(response))).into()
}

/// An answer to a candidate; a granted vote is signed with the liar's key.
pub fn vote_answer(
    vote: Vote<u64>,
    last: Option<Place>,
    granted: Option<(&VoteRequest<u64>, u64, &Hash)>,
) -> Bytes {
    let signature = granted.map(|(request, voter, chain_id)| {
        let proof = ElectionProof {
            term: request.vote.leader_id.term,
            candidate: request.vote.leader_id.node_id,
            last_log_id: request.last_log_id,
            votes: Vec::new(),
        };
        let statement = proof.statement(&chain_id.0, voter);
        SignatureBytes(node::secret(voter).sign(&statement).0)
    });
    let response = VoteResponse {
        vote,
        vote_granted: granted.is_some(),
        last_log_id: last.map(log_id),
    };
    wire::encode(&ControlResponse::Vote {
        response,
        signature,
    })
    .into()
}

pub fn read_index_answer(index: u64) -> Bytes {
    wire::encode(&ControlResponse::ReadIndex(Some(index))).into()
}

pub fn snapshot_done(vote: Vote<u64>) -> Bytes {
    wire::encode(&SnapshotResponse::Done { vote }).into()
}

pub fn snapshot_complete() -> Bytes {
    wire::encode(&SnapshotResponse::Complete).into()
}

/// A statement in the name of an honest leader, signed by the liar, and evidence that is none.
pub fn comparison_answer(liar: u64, accused: u64, term: u64, chain_id: &Hash) -> Bytes {
    let mut statement = LeaderStatement {
        term,
        leader: accused,
        index: 1,
        digest: LogDigest::EMPTY,
        signature: SignatureBytes([0; 64]),
    };
    let message = statement.message(&chain_id.0);
    statement.signature = SignatureBytes(node::secret(liar).sign(&message).0);
    let answer = ComparisonAnswer {
        statements: vec![statement],
        evidence: Some(Bytes::from_static(b"no evidence")),
        holding: None,
        differs_at: Some(1 << 40),
    };
    wire::encode(&ControlResponse::Compared(Box::new(answer))).into()
}
