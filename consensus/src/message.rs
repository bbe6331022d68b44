//! Log entries as bytes, and the messages of the control and append lanes.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::codec::{CodecError, decode, encode, unframe};
use crate::divergence::LogHolding;
use crate::election::{ElectionProof, SignatureBytes};
use crate::log::LogDigest;
use crate::statement::LeaderStatement;
use crate::type_config::{EntryPayload, ProposedBatch, RaftLogEntry, TypeConfig};
use crate::types::{LogId, Membership, NodeId, Vote};

const BLANK: u8 = 0;
const BATCH: u8 = 1;
const MEMBERSHIP: u8 = 2;
/// Bytes of an entry before its payload.
pub(crate) const ENTRY_HEADER_BYTES: usize = 25;

/// Bytes of an entry in the log and in an append.
pub fn entry_bytes(entry: &RaftLogEntry) -> usize {
    ENTRY_HEADER_BYTES
        + match &entry.payload {
            EntryPayload::Blank => 0,
            EntryPayload::Normal(ProposedBatch(batch)) => batch.len(),
            EntryPayload::Membership(membership) => encode(membership).len(),
        }
}

/// The bytes of an entry before its payload: kind (u8), term, node, index (u64 each,
/// little-endian).
pub(crate) fn entry_header(entry: &RaftLogEntry) -> [u8; ENTRY_HEADER_BYTES] {
    let kind = match &entry.payload {
        EntryPayload::Blank => BLANK,
        EntryPayload::Normal(_) => BATCH,
        EntryPayload::Membership(_) => MEMBERSHIP,
    };
    let mut header = [kind; ENTRY_HEADER_BYTES];
    let mut rest = &mut header[1..];
    rest.put_u64_le(entry.log_id.leader_id.term);
    rest.put_u64_le(entry.log_id.leader_id.node_id);
    rest.put_u64_le(entry.log_id.index);
    header
}

/// The hash of what follows the header.
pub(crate) fn payload_hash(entry: &RaftLogEntry) -> [u8; 32] {
    let hash = match &entry.payload {
        EntryPayload::Blank => blake3::hash(&[]),
        EntryPayload::Normal(ProposedBatch(batch)) => blake3::hash(batch),
        EntryPayload::Membership(membership) => blake3::hash(&encode(membership)),
    };
    *hash.as_bytes()
}

/// Writes an entry: its header, then the batch or the membership.
pub fn put_entry(entry: &RaftLogEntry, out: &mut impl BufMut) {
    out.put_slice(&entry_header(entry));
    match &entry.payload {
        EntryPayload::Blank => {}
        EntryPayload::Normal(ProposedBatch(batch)) => out.put_slice(batch),
        EntryPayload::Membership(membership) => out.put_slice(&encode(membership)),
    }
}

/// Reads an entry; a batch shares the bytes that it is read from.
pub fn get_entry(mut bytes: Bytes) -> Result<RaftLogEntry, CodecError> {
    const WHAT: &str = "log entry";
    if bytes.len() < ENTRY_HEADER_BYTES {
        return Err(CodecError::Malformed(WHAT));
    }
    let kind = bytes.get_u8();
    let leader_id = openraft::CommittedLeaderId::new(bytes.get_u64_le(), bytes.get_u64_le());
    let log_id = LogId::new(leader_id, bytes.get_u64_le());
    let payload = match kind {
        BLANK if bytes.is_empty() => EntryPayload::Blank,
        BATCH => EntryPayload::Normal(ProposedBatch(bytes)),
        MEMBERSHIP => EntryPayload::Membership(decode::<Membership>("membership", &bytes)?),
        _ => return Err(CodecError::Malformed(WHAT)),
    };
    Ok(RaftLogEntry { log_id, payload })
}

/// The header of an append; the entries follow it.
#[derive(Debug, Serialize, Deserialize)]
pub struct AppendHeader {
    pub vote: Vote,
    pub prev_log_id: Option<LogId>,
    pub leader_commit: Option<LogId>,
    /// The proof of the leadership, until the receiver has accepted one of this term.
    pub proof: Option<ElectionProof>,
    /// Bytes of each entry that follows.
    pub entries: Vec<u32>,
    /// The digests that the entries are between; an append without entries needs none.
    pub binding: Option<AppendBinding>,
}

/// What binds an append to the leader's log: the digest of that log before the entries, the
/// leader's signature under the one after them, and the signatures of those that made the entries
/// (see `statement`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppendBinding {
    pub prev_digest: LogDigest,
    pub signature: SignatureBytes,
    /// For each entry the signature of the leader that made it, under the digest at the entry.
    pub authors: Vec<SignatureBytes>,
}

pub type AppendRequest = openraft::raft::AppendEntriesRequest<TypeConfig>;
pub type AppendResponse = openraft::raft::AppendEntriesResponse<NodeId>;

/// An append as it is sent: openraft's request, and what the receiver checks it by.
#[derive(Debug)]
pub struct AppendMessage {
    pub request: AppendRequest,
    pub proof: Option<ElectionProof>,
    pub binding: Option<AppendBinding>,
}

/// The answer to an append or a heartbeat.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppendAnswer {
    /// openraft's response. A voter that follows the leader signs its vote again, so that the
    /// leader can prove itself to nodes that don't know those who elected it.
    Response {
        response: AppendResponse,
        signature: Option<SignatureBytes>,
    },
    /// The receiver does not know the leadership: the request comes again with the proof.
    Unproven,
}

pub fn encode_append(
    request: &AppendRequest,
    proof: Option<&ElectionProof>,
    binding: Option<AppendBinding>,
) -> Bytes {
    let sizes: Vec<u32> = request
        .entries
        .iter()
        .map(|entry| entry_bytes(entry) as u32)
        .collect();
    let entries_bytes = sizes.iter().map(|size| *size as usize).sum::<usize>();
    let header = encode(&AppendHeader {
        vote: request.vote,
        prev_log_id: request.prev_log_id,
        leader_commit: request.leader_commit,
        proof: proof.cloned(),
        entries: sizes,
        binding,
    });
    let mut out = BytesMut::with_capacity(4 + header.len() + entries_bytes);
    out.put_u32_le(header.len() as u32);
    out.put_slice(&header);
    for entry in &request.entries {
        put_entry(entry, &mut out);
    }
    out.freeze()
}

pub fn decode_append(bytes: Bytes) -> Result<AppendMessage, CodecError> {
    let (header, mut rest) = unframe::<AppendHeader>("append", bytes)?;
    if header.entries.len() > rest.len() / ENTRY_HEADER_BYTES {
        return Err(CodecError::Malformed("append"));
    }
    let mut entries = Vec::with_capacity(header.entries.len());
    for size in header.entries {
        let size = size as usize;
        if size > rest.len() {
            return Err(CodecError::Malformed("append"));
        }
        entries.push(get_entry(rest.split_to(size))?);
    }
    if !rest.is_empty() {
        return Err(CodecError::Malformed("append"));
    }
    Ok(AppendMessage {
        request: AppendRequest {
            vote: header.vote,
            prev_log_id: header.prev_log_id,
            leader_commit: header.leader_commit,
            entries,
        },
        proof: header.proof,
        binding: header.binding,
    })
}

/// Requests of the control lane.
#[derive(Debug, Serialize, Deserialize)]
pub enum ControlRequest {
    Vote {
        request: openraft::raft::VoteRequest<NodeId>,
        /// The proof of the leadership that made the candidate's last entry, for voters that
        /// don't know that term.
        log_proof: Option<ElectionProof>,
    },
    /// Asks a leader for the index that a read has to wait for.
    ReadIndex,
    /// An append without entries, which must not wait behind large ones.
    Heartbeat {
        vote: Vote,
        prev_log_id: Option<LogId>,
        leader_commit: Option<LogId>,
        /// As in [`AppendHeader::proof`].
        proof: Option<ElectionProof>,
    },
    /// Asks whether the node is alive.
    Ping,
    /// Asks for what leaders signed, and what the node's log holds.
    Compare(ComparisonRequest),
}

/// A request to compare logs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComparisonRequest {
    /// The nodes of which the asking node has evidence.
    pub accused: Vec<NodeId>,
    /// The indexes at which the asking node wants to know what the other one's log holds.
    pub indexes: Vec<u64>,
}

/// What a node knows of leaders, and holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComparisonAnswer {
    /// What the last leaderships signed about this node's log, and about one that it dropped.
    pub statements: Vec<LeaderStatement>,
    /// Evidence of a node of which the asking node has none.
    pub evidence: Option<Bytes>,
    /// The digests at those indexes, if this node knows of a proven liar.
    pub holding: Option<LogHolding>,
    /// The first index at which this node knows that another voter's log differs from its own.
    pub differs_at: Option<u64>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlResponse {
    Vote {
        response: openraft::raft::VoteResponse<NodeId>,
        /// The signature under the vote, if it was granted.
        signature: Option<SignatureBytes>,
    },
    /// None if the node does not lead, or could not confirm that it does.
    ReadIndex(Option<u64>),
    Heartbeat(AppendAnswer),
    Pong,
    Compared(Box<ComparisonAnswer>),
}

#[cfg(test)]
mod tests;
