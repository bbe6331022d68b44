//! The messages of the snapshot lane.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec;
use crate::election::ElectionProof;
use crate::types::{SnapshotMeta, Vote};

/// One file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    pub name: String,
    pub bytes: u64,
    /// blake3.
    pub hash: [u8; 32],
}

/// The contents of a snapshot. Its hash identifies the transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub meta: SnapshotMeta,
    pub files: Vec<FileInfo>,
}

impl Manifest {
    pub fn hash(&self) -> [u8; 32] {
        *blake3::hash(&codec::encode(self)).as_bytes()
    }
}

/// Requests of the snapshot lane; the bytes of a chunk follow the header.
#[derive(Debug, Serialize, Deserialize)]
pub enum SnapshotRequest {
    Offer {
        vote: Vote,
        manifest: Manifest,
        /// The proof of the leadership; pieces follow only an offer whose leadership is proven.
        proof: Option<ElectionProof>,
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
    /// A node that lost its state asks for the manifest of a snapshot that reaches this log index.
    Describe {
        at_least: u64,
    },
    /// Asks for the next bytes of one of its files.
    Read {
        manifest: [u8; 32],
        file: u32,
        offset: u64,
    },
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotResponse {
    /// The receiver wants these bytes next.
    Next { file: u32, offset: u64 },
    /// The receiver has all bytes and has checked them.
    Complete,
    /// The snapshot is installed, or not needed, or refused because of this higher vote.
    Done { vote: Vote },
    /// Answer to [`SnapshotRequest::Describe`].
    Image { manifest: Manifest },
    /// The node does not have such a snapshot now.
    NoImage,
    /// Answer to [`SnapshotRequest::Read`].
    Piece { bytes: Bytes },
    /// The receiver does not know the leadership: the offer comes again with the proof.
    Unproven,
}
