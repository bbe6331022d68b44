//! Log entries as bytes, and the messages of the control and append lanes.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::codec::{CodecError, decode, encode, unframe};
use crate::election::{ElectionProof, SignatureBytes};
use crate::type_config::{EntryPayload, ProposedBatch, RaftLogEntry, TypeConfig};
use crate::types::{LogId, Membership, NodeId, Vote};

const BLANK: u8 = 0;
const BATCH: u8 = 1;
const MEMBERSHIP: u8 = 2;
const ENTRY_HEADER_BYTES: usize = 25;

/// Bytes of an entry in the log and in an append.
pub fn entry_bytes(entry: &RaftLogEntry) -> usize {
    ENTRY_HEADER_BYTES
        + match &entry.payload {
            EntryPayload::Blank => 0,
            EntryPayload::Normal(ProposedBatch(batch)) => batch.len(),
            EntryPayload::Membership(membership) => encode(membership).len(),
        }
}

/// Writes an entry: kind (u8), term, node, index (u64 each, little-endian), then the batch or the
/// membership.
pub fn put_entry(entry: &RaftLogEntry, out: &mut impl BufMut) {
    let kind = match &entry.payload {
        EntryPayload::Blank => BLANK,
        EntryPayload::Normal(_) => BATCH,
        EntryPayload::Membership(_) => MEMBERSHIP,
    };
    out.put_u8(kind);
    out.put_u64_le(entry.log_id.leader_id.term);
    out.put_u64_le(entry.log_id.leader_id.node_id);
    out.put_u64_le(entry.log_id.index);
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
}

pub type AppendRequest = openraft::raft::AppendEntriesRequest<TypeConfig>;
pub type AppendResponse = openraft::raft::AppendEntriesResponse<NodeId>;

/// An append as it is sent: openraft's request, and what the receiver checks it by.
#[derive(Debug)]
pub struct AppendMessage {
    pub request: AppendRequest,
    pub proof: Option<ElectionProof>,
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

pub fn encode_append(request: &AppendRequest, proof: Option<&ElectionProof>) -> Bytes {
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
}

#[cfg(test)]
mod tests;
