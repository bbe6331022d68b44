//! The bytes on disk and on the wire.
//!
//! Headers are bincode 2 with the `legacy()` configuration (fixed-width little-endian), batches are
//! as they are. A frame is: length of the header (u32, little-endian), header, the rest.

use bincode::config::{Configuration, Fixint, LittleEndian, legacy};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::raft::{Batch, Entry, LogId, Membership, Payload, SnapshotMeta, StoredMembership, Vote};

/// Bytes of a header; the longest lists the files of a snapshot.
const HEADER_BYTES_MAX: usize = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CodecError {
    #[error("malformed {0}")]
    Malformed(&'static str),
    #[error("malformed {what}")]
    Decode {
        what: &'static str,
        #[source]
        source: Box<bincode::error::DecodeError>,
    },
}

fn config() -> Configuration<LittleEndian, Fixint, bincode::config::Limit<HEADER_BYTES_MAX>> {
    legacy().with_limit::<HEADER_BYTES_MAX>()
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, legacy())
        .expect("headers are plain data that can always be encoded")
}

pub(crate) fn decode<T: DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, CodecError> {
    let (value, used) = bincode::serde::decode_from_slice(bytes, config()).map_err(|source| {
        CodecError::Decode {
            what,
            source: Box::new(source),
        }
    })?;
    if used == bytes.len() {
        Ok(value)
    } else {
        Err(CodecError::Malformed(what))
    }
}

pub(crate) fn frame<T: Serialize>(header: &T, rest: &[u8]) -> Bytes {
    let header = encode(header);
    let mut out = BytesMut::with_capacity(4 + header.len() + rest.len());
    out.put_u32_le(header.len() as u32);
    out.put_slice(&header);
    out.put_slice(rest);
    out.freeze()
}

/// The header and what follows it.
pub(crate) fn unframe<T: DeserializeOwned>(
    what: &'static str,
    mut bytes: Bytes,
) -> Result<(T, Bytes), CodecError> {
    let len = bytes
        .try_get_u32_le()
        .map_err(|_| CodecError::Malformed(what))? as usize;
    if len > bytes.len() || len > HEADER_BYTES_MAX {
        return Err(CodecError::Malformed(what));
    }
    let header = bytes.split_to(len);
    Ok((decode(what, &header)?, bytes))
}

const BLANK: u8 = 0;
const BATCH: u8 = 1;
const MEMBERSHIP: u8 = 2;
const ENTRY_HEADER_BYTES: usize = 25;

/// Bytes of an entry in the log and in an append.
pub(crate) fn entry_bytes(entry: &Entry) -> usize {
    ENTRY_HEADER_BYTES
        + match &entry.payload {
            Payload::Blank => 0,
            Payload::Normal(Batch(batch)) => batch.len(),
            Payload::Membership(membership) => encode(membership).len(),
        }
}

/// Kind (u8), term, node, index (u64 each, little-endian), then the batch or the membership.
pub(crate) fn put_entry(entry: &Entry, out: &mut impl BufMut) {
    let kind = match &entry.payload {
        Payload::Blank => BLANK,
        Payload::Normal(_) => BATCH,
        Payload::Membership(_) => MEMBERSHIP,
    };
    out.put_u8(kind);
    out.put_u64_le(entry.log_id.leader_id.term);
    out.put_u64_le(entry.log_id.leader_id.node_id);
    out.put_u64_le(entry.log_id.index);
    match &entry.payload {
        Payload::Blank => {}
        Payload::Normal(Batch(batch)) => out.put_slice(batch),
        Payload::Membership(membership) => out.put_slice(&encode(membership)),
    }
}

/// A batch shares the bytes that it is read from.
pub(crate) fn get_entry(mut bytes: Bytes) -> Result<Entry, CodecError> {
    const WHAT: &str = "log entry";
    if bytes.len() < ENTRY_HEADER_BYTES {
        return Err(CodecError::Malformed(WHAT));
    }
    let kind = bytes.get_u8();
    let leader_id = openraft::CommittedLeaderId::new(bytes.get_u64_le(), bytes.get_u64_le());
    let log_id = LogId::new(leader_id, bytes.get_u64_le());
    let payload = match kind {
        BLANK if bytes.is_empty() => Payload::Blank,
        BATCH => Payload::Normal(Batch(bytes)),
        MEMBERSHIP => Payload::Membership(decode::<Membership>("membership", &bytes)?),
        _ => return Err(CodecError::Malformed(WHAT)),
    };
    Ok(Entry { log_id, payload })
}

/// What the state machine stores for us: where it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marker {
    pub log_id: LogId,
    pub membership: StoredMembership,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AppendHeader {
    pub vote: Vote,
    pub prev_log_id: Option<LogId>,
    pub leader_commit: Option<LogId>,
    /// Bytes of each entry that follows.
    pub entries: Vec<u32>,
}

pub(crate) type AppendRequest = openraft::raft::AppendEntriesRequest<crate::raft::TypeConfig>;
pub(crate) type AppendResponse = openraft::raft::AppendEntriesResponse<crate::NodeId>;

pub(crate) fn encode_append(request: &AppendRequest) -> Bytes {
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

pub(crate) fn decode_append(bytes: Bytes) -> Result<AppendRequest, CodecError> {
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
    Ok(AppendRequest {
        vote: header.vote,
        prev_log_id: header.prev_log_id,
        leader_commit: header.leader_commit,
        entries,
    })
}

/// Requests of the control lane.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ControlRequest {
    Vote(openraft::raft::VoteRequest<crate::NodeId>),
    /// Asks a leader for the index that a read has to wait for.
    ReadIndex,
    /// An append without entries, which must not wait behind large ones.
    Heartbeat {
        vote: Vote,
        prev_log_id: Option<LogId>,
        leader_commit: Option<LogId>,
    },
    /// Asks whether the node is alive.
    Ping,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ControlResponse {
    Vote(openraft::raft::VoteResponse<crate::NodeId>),
    /// None if the asked node does not lead, or could not confirm that it does.
    ReadIndex(Option<u64>),
    Heartbeat(AppendResponse),
    Pong,
}

/// One file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileInfo {
    pub name: String,
    pub bytes: u64,
    /// blake3.
    pub hash: [u8; 32],
}

/// Everything that a snapshot consists of. Its hash names the transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub meta: SnapshotMeta,
    pub files: Vec<FileInfo>,
}

impl Manifest {
    pub(crate) fn hash(&self) -> [u8; 32] {
        *blake3::hash(&encode(self)).as_bytes()
    }
}

/// Requests of the snapshot lane; the bytes of a chunk follow the header.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum SnapshotRequest {
    Offer {
        vote: Vote,
        manifest: Manifest,
    },
    Chunk {
        vote: Vote,
        manifest: [u8; 32],
        file: u32,
        offset: u64,
    },
    Install {
        vote: Vote,
        manifest: [u8; 32],
    },
    /// From a node that lost its state: what is in an image that reaches this log index.
    Describe {
        at_least: u64,
    },
    /// The next bytes of one of its files.
    Read {
        manifest: [u8; 32],
        file: u32,
        offset: u64,
    },
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SnapshotResponse {
    /// What is wanted next.
    Next { file: u32, offset: u64 },
    /// All bytes are here, and checked.
    Complete,
    /// Installed, or not needed, or refused because of a higher vote: this one.
    Done { vote: Vote },
    /// Answer to [`SnapshotRequest::Describe`].
    Image { manifest: Manifest },
    /// There is no such image, or not yet, or not any more.
    NoImage,
    /// Answer to [`SnapshotRequest::Read`].
    Piece { bytes: Bytes },
}

#[cfg(test)]
mod tests;
