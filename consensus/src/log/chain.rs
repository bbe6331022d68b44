//! The digest chain of the log: each entry's digest covers the entry and all before it.
//!
//! `digest(i) = blake3(domain || digest(i - 1) || head(i) || blake3(payload(i)))`, where the head
//! has the kind, the term, the leader and the index of the entry (25 bytes), and the digest before
//! the first entry is zero. Two logs with the same digest at an index are equal up to there, so a
//! signature under one digest covers the whole log. The payload stands in it by its own hash: what
//! lies between two digests can be shown in 57 bytes an entry, however large the batches are.

use bytes::{Buf, BufMut, Bytes};
use serde::{Deserialize, Serialize};

use crate::codec::CodecError;
use crate::election::SignatureBytes;
use crate::message::{
    ENTRY_HEADER_BYTES, entry_bytes, entry_header, get_entry, payload_hash, put_entry,
};
use crate::statement::LeaderStatement;
use crate::type_config::RaftLogEntry;
use crate::types::LogId;

const DOMAIN: &[u8] = b"lamplighter/raft-log/2\0";
const DIGEST_BYTES: usize = 32;
/// Term, leader and signature of a statement.
const STATEMENT_BYTES: usize = 8 + 8 + 64;
const SIGNATURE_BYTES: usize = 64;
/// Bits of the last byte: what a stored entry has.
const SIGNED: u8 = 1;
const AUTHORED: u8 = 2;

/// The digest of a log up to an entry, this one included.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct LogDigest(pub [u8; DIGEST_BYTES]);

impl std::fmt::Display for LogDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", hex::encode(&self.0[..4]))
    }
}

impl LogDigest {
    /// The digest before the first entry.
    pub const EMPTY: Self = Self([0; DIGEST_BYTES]);

    /// The digest after one more entry.
    pub fn after(self, entry: &RaftLogEntry) -> Self {
        self.after_link(&ChainLink::of(entry))
    }

    /// The digest after an entry of which only the link is known.
    pub fn after_link(self, link: &ChainLink) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(DOMAIN).update(&self.0);
        hasher.update(&link.header).update(&link.payload);
        Self(*hasher.finalize().as_bytes())
    }
}

/// The part of an entry that its digest covers: its head, and the hash of its payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainLink {
    /// Kind, term, leader and index, as in the log.
    pub header: [u8; ENTRY_HEADER_BYTES],
    /// blake3 of the payload.
    pub payload: [u8; 32],
}

impl ChainLink {
    pub(crate) fn of(entry: &RaftLogEntry) -> Self {
        Self {
            header: entry_header(entry),
            payload: payload_hash(entry),
        }
    }
}

/// A statement of a leader about this log, and what leads to it from an earlier entry.
#[derive(Clone, Debug)]
pub(crate) struct LinkedStatement {
    /// The digest at the earlier entry.
    pub base: LogDigest,
    /// The entries after it up to the statement's.
    pub links: Vec<ChainLink>,
    pub statement: LeaderStatement,
}

/// An end of the log: a log id, and the digest of the log up to there if it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChainEnd {
    pub log_id: LogId,
    /// None only for a purge beyond the entries of this node, which the marker of the state does
    /// not explain: nothing can be appended to such a log.
    pub digest: Option<LogDigest>,
}

/// An entry as it is stored: the entry, the digest of the log up to it, and what leaders signed
/// about that digest. An entry that this node made as leader has nothing of it.
#[derive(Clone, Debug)]
pub struct StoredEntry {
    pub entry: RaftLogEntry,
    pub digest: LogDigest,
    /// The statement of the leader that sent the entry, if it was the last of an append; otherwise
    /// of the one that made it.
    pub statement: Option<LeaderStatement>,
    /// The signature of the leader that made the entry, if the statement is of another.
    pub author: Option<SignatureBytes>,
}

impl StoredEntry {
    /// An entry with the statements that came for it.
    pub(crate) fn new(
        entry: RaftLogEntry,
        digest: LogDigest,
        statements: &[LeaderStatement],
    ) -> Self {
        let made = |s: &&LeaderStatement| is_author(&entry, s);
        let author = statements.iter().find(made);
        let sender = statements.iter().find(|s| !made(s));
        Self {
            digest,
            statement: sender.or(author).copied(),
            author: sender.and(author).map(|statement| statement.signature),
            entry,
        }
    }

    /// The signature of the leader that made the entry, if another node sent it.
    pub(crate) fn author_signature(&self) -> Option<SignatureBytes> {
        let statement = self.statement.filter(|s| is_author(&self.entry, s));
        self.author.or(statement.map(|s| s.signature))
    }

    /// The statement of the leader that made the entry, if another node sent it.
    pub(crate) fn author_statement(&self) -> Option<LeaderStatement> {
        let log_id = self.entry.log_id;
        self.author_signature().map(|signature| LeaderStatement {
            term: log_id.leader_id.term,
            leader: log_id.leader_id.node_id,
            index: log_id.index,
            digest: self.digest,
            signature,
        })
    }

    /// The statements about the digest.
    pub(crate) fn statements(&self) -> impl Iterator<Item = LeaderStatement> {
        let author = self.author.and_then(|_| self.author_statement());
        self.statement.into_iter().chain(author)
    }

    pub(crate) fn end(&self) -> ChainEnd {
        ChainEnd {
            log_id: self.entry.log_id,
            digest: Some(self.digest),
        }
    }

    /// The bytes for the store: the entry, then its digest, then term, leader and signature of a
    /// statement, then the author's signature, then a byte that says which of them are there.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let tail = DIGEST_BYTES + STATEMENT_BYTES + SIGNATURE_BYTES + 1;
        let mut out = Vec::with_capacity(entry_bytes(&self.entry) + tail);
        put_entry(&self.entry, &mut out);
        out.put_slice(&self.digest.0);
        let mut has = 0;
        if let Some(statement) = &self.statement {
            out.put_u64_le(statement.term);
            out.put_u64_le(statement.leader);
            out.put_slice(&statement.signature.0);
            has |= SIGNED;
        }
        if let Some(author) = &self.author {
            out.put_slice(&author.0);
            has |= AUTHORED;
        }
        out.put_u8(has);
        out
    }

    /// Reads a stored entry; its batch shares the bytes.
    pub fn decode(mut bytes: Bytes) -> Result<Self, CodecError> {
        const WHAT: &str = "stored log entry";
        let (signed, authored) = match bytes.last() {
            Some(has) if has & !(SIGNED | AUTHORED) == 0 => {
                (has & SIGNED != 0, has & AUTHORED != 0)
            }
            _ => return Err(CodecError::Malformed(WHAT)),
        };
        let statement_bytes = if signed { STATEMENT_BYTES } else { 0 };
        let author_bytes = if authored { SIGNATURE_BYTES } else { 0 };
        let tail = DIGEST_BYTES + statement_bytes + author_bytes + 1;
        let at = bytes.len().checked_sub(tail);
        let mut tail = bytes.split_off(at.ok_or(CodecError::Malformed(WHAT))?);
        let entry = get_entry(bytes)?;
        let mut digest = LogDigest::EMPTY;
        tail.copy_to_slice(&mut digest.0);
        let statement = signed.then(|| {
            let (term, leader) = (tail.get_u64_le(), tail.get_u64_le());
            LeaderStatement {
                term,
                leader,
                index: entry.log_id.index,
                digest,
                signature: take_signature(&mut tail),
            }
        });
        let author = authored.then(|| take_signature(&mut tail));
        Ok(Self {
            entry,
            digest,
            statement,
            author,
        })
    }
}

/// True if the statement is of the leader that made the entry.
fn is_author(entry: &RaftLogEntry, statement: &LeaderStatement) -> bool {
    let author = entry.log_id.leader_id;
    (statement.term, statement.leader) == (author.term, author.node_id)
}

fn take_signature(bytes: &mut Bytes) -> SignatureBytes {
    let mut signature = SignatureBytes([0; SIGNATURE_BYTES]);
    bytes.copy_to_slice(&mut signature.0);
    signature
}

/// An entry of this log as it is signed: where it is, the digest there, and the signature of the
/// leader that made it, if that is not this node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AuthoredEntry {
    pub log_id: LogId,
    pub digest: LogDigest,
    pub author: Option<SignatureBytes>,
}

impl From<&StoredEntry> for AuthoredEntry {
    fn from(stored: &StoredEntry) -> Self {
        Self {
            log_id: stored.entry.log_id,
            digest: stored.digest,
            author: stored.author_signature(),
        }
    }
}

#[cfg(test)]
mod tests;
