//! The statements of leaders: signatures under the digest of the log that they send.
//!
//! A leader signs, for each append that has entries, the term, itself, the index of the last entry
//! and the digest of its log up to there. The digest covers the whole log, so one signature binds
//! everything that the leader ever sent up to that entry. It also signs each entry that it makes,
//! so that later leaders can show whose it is.
//!
//! # An honest leader signs one log per term
//!
//! A leader never truncates its log while it leads, so all digests that it signs in one term are of
//! one growing log. It signs the digest that is in its store, never one of a request. After a crash
//! it may have lost entries that it had sent and signed, but then it never leads the same term
//! again (`LogStore::resign`), so a replacement of those entries has a higher term. The same append
//! sent twice has the same digest, and a replay is an old signature under a digest of the same log.

use std::collections::VecDeque;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::NodeId;
use crate::election::SignatureBytes;
use crate::log::LogDigest;

const DOMAIN: &[u8] = b"lamplighter/raft-append/2\0";

/// A leader's signed statement about its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderStatement {
    /// The term in which it leads.
    pub term: u64,
    /// The leader, which signs.
    pub leader: NodeId,
    /// The index of the last entry that the digest covers.
    pub index: u64,
    /// The digest of the leader's log up to that entry.
    pub digest: LogDigest,
    /// The leader's signature under [`message`](Self::message).
    pub signature: SignatureBytes,
}

impl LeaderStatement {
    /// The signed bytes: domain, chain id, term, leader, index (u64 each, little-endian), digest.
    pub fn message(&self, chain_id: &[u8; 32]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(DOMAIN.len() + 32 + 24 + 32);
        bytes.extend_from_slice(DOMAIN);
        bytes.extend_from_slice(chain_id);
        for number in [self.term, self.leader, self.index] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.digest.0);
        bytes
    }
}

/// Statements that this node keeps after it signed them: those of the appends under way to all
/// other nodes.
const SIGNED_MAX: usize = 64;

/// The last statements that this node signed. A leader sends one entry to each other node, as its
/// maker and as the sender, and all of them get the same signature.
#[derive(Default)]
pub(crate) struct SignedStatements(Mutex<VecDeque<LeaderStatement>>);

impl SignedStatements {
    /// The signature of this node under a statement; that of the argument does not count.
    pub(crate) fn sign(
        &self,
        statement: &LeaderStatement,
        sign: impl FnOnce(&LeaderStatement) -> [u8; 64],
    ) -> SignatureBytes {
        let mut kept = self.0.lock().expect("no code panics with this lock");
        let same = |known: &&LeaderStatement| {
            (known.term, known.leader, known.index, known.digest)
                == (
                    statement.term,
                    statement.leader,
                    statement.index,
                    statement.digest,
                )
        };
        if let Some(known) = kept.iter().rev().find(same) {
            return known.signature;
        }
        let signature = SignatureBytes(sign(statement));
        if kept.len() == SIGNED_MAX {
            kept.pop_front();
        }
        kept.push_back(LeaderStatement {
            signature,
            ..*statement
        });
        signature
    }
}

#[cfg(test)]
mod tests;
