//! Evidence that a leader signed two logs for one term.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::NodeId;
use crate::log::{ChainLink, LogDigest};
use crate::statement::LeaderStatement;

/// Links in one piece of evidence: many times the entries of an append, and every append has a
/// statement.
pub(crate) const LINKS_MAX: usize = 1_024;

/// Two statements of one leader and one term that are not about one growing log.
///
/// The first covers the log up to its index. The second is of the same or a higher index, and
/// [`links`](Self::links) lead from [`base`](Self::base), the digest of *its* log at the first
/// index, to its digest. Digests can't be computed backwards, so the leader had `base` there when
/// it signed the second statement, and something else when it signed the first. An honest leader
/// does not: see `statement`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderEvidence {
    pub first: LeaderStatement,
    pub second: LeaderStatement,
    /// The digest of the second statement's log at the first statement's index.
    pub base: LogDigest,
    /// The entries after the first index up to the second.
    pub links: Vec<ChainLink>,
}

/// Why something is no evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    #[error("the statements are not of one leader and one term, in the order of their indexes")]
    Unrelated,
    #[error("a signature is not the leader's")]
    Signature,
    #[error("the links do not lead to the second statement")]
    Links,
    #[error("both statements are about the same log")]
    SameLog,
}

impl LeaderEvidence {
    /// The node that signed both.
    pub fn leader(&self) -> NodeId {
        self.first.leader
    }

    /// The log index at which the two logs are known to differ.
    pub fn index(&self) -> u64 {
        self.first.index
    }

    /// Checks everything; `verify` checks a signature of the leader under a message.
    ///
    /// # Errors
    /// The statements do not contradict each other, or were not signed by the leader.
    pub fn check(
        &self,
        chain_id: &[u8; 32],
        verify: impl Fn(&[u8], &[u8; 64]) -> bool,
    ) -> Result<(), EvidenceError> {
        let (first, second) = (&self.first, &self.second);
        let related = first.leader == second.leader && first.term == second.term;
        let distance = second.index.checked_sub(first.index);
        if !related || distance.is_none() {
            return Err(EvidenceError::Unrelated);
        }
        if distance != Some(self.links.len() as u64) || self.links.len() > LINKS_MAX {
            return Err(EvidenceError::Links);
        }
        let links = self.links.iter();
        if links.fold(self.base, |digest, link| digest.after_link(link)) != second.digest {
            return Err(EvidenceError::Links);
        }
        if self.base == first.digest {
            return Err(EvidenceError::SameLog);
        }
        let signed = |s: &LeaderStatement| verify(&s.message(chain_id), &s.signature.0);
        if !signed(first) || !signed(second) {
            return Err(EvidenceError::Signature);
        }
        Ok(())
    }
}

/// The evidence that a node keeps. Adding is durable before it returns; what is kept excludes the
/// node that it is about.
pub trait EvidenceArchive: Send + Sync + 'static {
    /// The nodes of which evidence is kept, at most [`EVIDENCE_MAX`].
    fn accused(&self) -> Vec<NodeId>;

    /// One piece of evidence of a node, in the form in which it is passed on.
    fn read(&self, accused: NodeId) -> Option<Bytes>;

    /// Keeps evidence that this node found. It is checked again.
    fn add_found(&self, evidence: &LeaderEvidence);

    /// Keeps evidence of another node, if it is evidence: nothing in it is believed.
    fn add_received(&self, from: NodeId, evidence: &Bytes);
}

/// Pieces of evidence that a node keeps and passes on.
pub const EVIDENCE_MAX: usize = 64;
/// Bytes of one piece in the form in which it is passed on.
pub const EVIDENCE_BYTES_MAX: usize = 512 << 10;

#[cfg(test)]
mod tests;
