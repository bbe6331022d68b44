//! Messages of consensus as an adversary makes them. The layout is that of the crate `consensus`.

use std::collections::{BTreeMap, BTreeSet};

use bincode::config::legacy;
use bytes::{BufMut, Bytes, BytesMut};
use lamplighter_types::{Hash, SignedTransaction, codec};
use openraft::raft::{VoteRequest, VoteResponse};
use openraft::{
    CommittedLeaderId, EmptyNode, LogId, Membership, SnapshotMeta, StoredMembership, Vote,
};
use serde::{Deserialize, Serialize};

use crate::raft_messages::Place;

/// Kinds of log entries.
pub const BLANK: u8 = 0;
pub const BATCH: u8 = 1;
pub const MEMBERSHIP: u8 = 2;
/// Bytes before the content of an entry: kind, term, node, index.
const ENTRY_HEADER_BYTES: usize = 25;

type RaftMembership = Membership<u64, EmptyNode>;

#[derive(Serialize)]
enum Control {
    Vote(VoteRequest<u64>),
    #[expect(dead_code, reason = "it holds the place of the original")]
    ReadIndex,
    Heartbeat {
        vote: Vote<u64>,
        prev_log_id: Option<LogId<u64>>,
        leader_commit: Option<LogId<u64>>,
    },
}

#[derive(Serialize)]
enum ControlAnswer {
    Vote(VoteResponse<u64>),
    ReadIndex(Option<u64>),
    Heartbeat(AppendAnswer),
}

/// An answer to an append or a heartbeat; the order is that of openraft.
#[derive(Serialize)]
pub enum AppendAnswer {
    Success,
    PartialSuccess(Option<LogId<u64>>),
    #[expect(dead_code, reason = "it holds the place of the original")]
    Conflict,
    HigherVote(Vote<u64>),
}

#[derive(Serialize, Deserialize)]
struct AppendHeader {
    vote: Vote<u64>,
    prev_log_id: Option<LogId<u64>>,
    leader_commit: Option<LogId<u64>>,
    entries: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
pub struct FileInfo {
    pub name: String,
    pub bytes: u64,
    pub hash: [u8; 32],
}

#[derive(Serialize, Deserialize)]
pub struct Manifest {
    pub meta: SnapshotMeta<u64, EmptyNode>,
    pub files: Vec<FileInfo>,
}

#[derive(Serialize, Deserialize)]
pub enum Snapshot {
    Offer {
        vote: Vote<u64>,
        manifest: Manifest,
    },
    Chunk {
        vote: Vote<u64>,
        manifest: [u8; 32],
        file: u32,
        offset: u64,
    },
}

#[derive(Serialize)]
enum SnapshotAnswer {
    #[expect(dead_code, reason = "it holds the place of the original")]
    Next,
    Complete,
    Done {
        vote: Vote<u64>,
    },
}

/// A batch as the ledger encodes it.
#[derive(Serialize, Deserialize)]
struct ForgedBatch {
    parent: Hash,
    timestamp_ms: u64,
    transactions: Vec<SignedTransaction>,
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, legacy()).expect("plain data can be encoded")
}

fn frame<T: Serialize>(header: &T, payload: &[u8]) -> Bytes {
    let header = encode(header);
    let mut out = BytesMut::with_capacity(4 + header.len() + payload.len());
    out.put_u32_le(header.len() as u32);
    out.put_slice(&header);
    out.put_slice(payload);
    out.freeze()
}

/// Splits a frame into its header and the rest.
fn unframe<T: serde::de::DeserializeOwned>(bytes: &Bytes) -> Option<(T, Bytes)> {
    let length = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let (header, _) =
        bincode::serde::decode_from_slice(bytes.get(4..4 + length)?, legacy()).ok()?;
    Some((header, bytes.slice(4 + length..)))
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

pub fn heartbeat(vote: Vote<u64>, prev: Option<Place>, commit: Option<Place>) -> Bytes {
    let (prev_log_id, leader_commit) = (prev.map(log_id), commit.map(log_id));
    let request = Control::Heartbeat {
        vote,
        prev_log_id,
        leader_commit,
    };
    encode(&request).into()
}

pub fn ask_for_votes(vote: Vote<u64>, last: Option<Place>) -> Bytes {
    encode(&Control::Vote(VoteRequest::new(vote, last.map(log_id)))).into()
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
    encode(&RaftMembership::new(vec![voters.clone()], nodes))
}

pub fn append(
    vote: Vote<u64>,
    prev: Option<Place>,
    commit: Option<Place>,
    entries: &[Vec<u8>],
) -> Bytes {
    let header = AppendHeader {
        vote,
        prev_log_id: prev.map(log_id),
        leader_commit: commit.map(log_id),
        entries: entries.iter().map(|entry| entry.len() as u32).collect(),
    };
    frame(&header, &entries.concat())
}

/// Alters the entries of an append.
pub fn alter_entries(request: &Bytes, mut alter: impl FnMut(Vec<u8>) -> Vec<u8>) -> Option<Bytes> {
    let (header, mut rest) = unframe::<AppendHeader>(request)?;
    let mut entries = Vec::new();
    for size in &header.entries {
        entries.push(alter(rest.split_to(*size as usize).to_vec()));
    }
    let sizes = entries.iter().map(|entry| entry.len() as u32).collect();
    let header = AppendHeader {
        entries: sizes,
        ..header
    };
    Some(frame(&header, &entries.concat()))
}

/// Another batch under the place of this entry: the same transactions later, or none of them.
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

impl Manifest {
    pub fn hash(&self) -> [u8; 32] {
        *blake3::hash(&encode(self)).as_bytes()
    }
}

pub fn offer(vote: Vote<u64>, manifest: Manifest) -> Bytes {
    frame(&Snapshot::Offer { vote, manifest }, &[])
}

pub fn chunk(vote: Vote<u64>, manifest: [u8; 32], offset: u64, bytes: &[u8]) -> Bytes {
    let header = Snapshot::Chunk {
        vote,
        manifest,
        file: 0,
        offset,
    };
    frame(&header, bytes)
}

/// The same step of a transfer with other content; none if there is nothing to alter.
pub fn alter_snapshot(request: &Bytes, alter: impl FnOnce(&mut Manifest)) -> Option<Bytes> {
    match unframe::<Snapshot>(request)? {
        (Snapshot::Offer { vote, mut manifest }, _) => {
            alter(&mut manifest);
            Some(offer(vote, manifest))
        }
        (chunk @ Snapshot::Chunk { .. }, bytes) => {
            let mut bytes = bytes.to_vec();
            let middle = bytes.len() / 2;
            *bytes.get_mut(middle)? ^= 1;
            Some(frame(&chunk, &bytes))
        }
    }
}

pub fn append_answer(answer: &AppendAnswer) -> Bytes {
    encode(answer).into()
}

pub fn heartbeat_answer(answer: AppendAnswer) -> Bytes {
    encode(&ControlAnswer::Heartbeat(answer)).into()
}

pub fn vote_answer(vote: Vote<u64>, granted: bool, last: Option<Place>) -> Bytes {
    let answer = VoteResponse {
        vote,
        vote_granted: granted,
        last_log_id: last.map(log_id),
    };
    encode(&ControlAnswer::Vote(answer)).into()
}

pub fn read_index_answer(index: u64) -> Bytes {
    encode(&ControlAnswer::ReadIndex(Some(index))).into()
}

pub fn snapshot_done(vote: Vote<u64>) -> Bytes {
    encode(&SnapshotAnswer::Done { vote }).into()
}

pub fn snapshot_complete() -> Bytes {
    encode(&SnapshotAnswer::Complete).into()
}
