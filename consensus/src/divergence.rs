//! The decision whether this node is the one whose log has to go.
//!
//! A leader that equivocates leaves honest nodes with different logs under the same log ids.
//! Neither term nor index can tell which of them another node may hold a certificate for. Each node
//! signs which digests it holds ([`LogHolding`]), and every node decides by the same rule.
//!
//! # The rule
//!
//! `n` voters, `f = ⌊(n-1)/3⌋` of them may lie, `p` of these are proven liars and are not counted.
//! A quorum is `q`. At the first index at which any two holdings differ:
//!
//! - A content is **dead** if at least `n - q + 1 + (f - p)` nodes hold another one: of these at
//!   most `f - p` lie, so at least `n - q + 1` honest ones never acknowledged it, and no `q` nodes
//!   did, whatever the proven liars sign. It was never certified and never will be.
//! - This node's log goes if its content is dead and another one can't be, whatever the unproven
//!   liars and those that did not answer hold; or if another one with a lower digest is held by
//!   more than `f - p` nodes, so by an honest one.
//!
//! # Why nothing that is certified is lost
//!
//! A certified content is held by `q` nodes, `q - f` of them honest, and so is never dead: the
//! honest holders stay. Before the first difference all logs are equal, and not all of them go: if
//! some content is alive its holders stay, and otherwise the honest holders of the lowest digest. A
//! node that held another content before and dropped it did so by this rule, so it was dead;
//! a node that replaced an entry because a later leader was elected had not executed it, so it had
//! signed nothing about it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::NodeId;
use crate::election::{SignatureBytes, quorum};
use crate::log::LogDigest;

/// Digests in one holding: the entries of several seconds, in which differing logs are noticed.
pub(crate) const HOLDING_MAX: usize = 1_024;
const DOMAIN: &[u8] = b"lamplighter/raft-holding/2\0";

/// The digests of a node's log at consecutive indexes, signed by the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogHolding {
    /// The index of the first digest.
    pub first: u64,
    pub digests: Vec<LogDigest>,
    pub signature: SignatureBytes,
}

impl LogHolding {
    /// The signed bytes: domain, chain id, node, first index, blake3 of all digests.
    pub fn message(
        chain_id: &[u8; 32],
        node: NodeId,
        first: u64,
        digests: &[LogDigest],
    ) -> Vec<u8> {
        let mut hasher = blake3::Hasher::new();
        for digest in digests {
            hasher.update(&digest.0);
        }
        let mut bytes = DOMAIN.to_vec();
        bytes.extend_from_slice(chain_id);
        bytes.extend_from_slice(&node.to_le_bytes());
        bytes.extend_from_slice(&first.to_le_bytes());
        bytes.extend_from_slice(hasher.finalize().as_bytes());
        bytes
    }
}

/// The digests that a node holds at consecutive indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeldDigests {
    pub first: u64,
    pub digests: Vec<LogDigest>,
}

impl HeldDigests {
    fn at(&self, index: u64) -> Option<LogDigest> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.digests.get(at).copied()
    }
}

/// The voters of a comparison.
pub(crate) struct Voters<'a> {
    pub all: &'a BTreeSet<NodeId>,
    /// Proven liars among them.
    pub excluded: &'a BTreeSet<NodeId>,
    pub local: NodeId,
}

/// What the holdings mean for this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogVerdict {
    /// Every voter's log is this node's.
    Equal,
    /// Some voter's log is not known, or differs: this node's stays.
    Keep,
    /// This node's log goes.
    Drop {
        /// The first index at which it differs from the others.
        index: u64,
    },
}

/// Decides by the rule above. `held` has the holdings of other voters, checked.
pub(crate) fn decide(
    voters: &Voters<'_>,
    local: &HeldDigests,
    held: &BTreeMap<NodeId, HeldDigests>,
) -> LogVerdict {
    let counted = |node: &NodeId| !voters.excluded.contains(node) && *node != voters.local;
    let others: Vec<NodeId> = voters.all.iter().copied().filter(counted).collect();
    let indexes = local.first..local.first + local.digests.len() as u64;
    for index in indexes {
        let known: Vec<LogDigest> = others
            .iter()
            .filter_map(|node| held.get(node)?.at(index))
            .collect();
        let local_digest = local.at(index).expect("the index is one of these digests");
        if known.iter().any(|digest| *digest != local_digest) {
            let unknown = others.len() - known.len();
            return if is_dropped(voters, local_digest, &known, unknown) {
                LogVerdict::Drop { index }
            } else {
                LogVerdict::Keep
            };
        }
    }
    let last = local.first + local.digests.len().saturating_sub(1) as u64;
    let all_known = others
        .iter()
        .all(|node| held.get(node).is_some_and(|held| held.at(last).is_some()));
    if all_known {
        LogVerdict::Equal
    } else {
        LogVerdict::Keep
    }
}

fn is_dropped(
    voters: &Voters<'_>,
    local_digest: LogDigest,
    known: &[LogDigest],
    unknown: usize,
) -> bool {
    let n = voters.all.len();
    let proven = voters.all.intersection(voters.excluded).count();
    let unproven_liars = (n.saturating_sub(1) / 3).saturating_sub(proven);
    let needed = n + 1 - quorum(n) + unproven_liars;
    let holders_of_others = |digest: LogDigest| known.iter().filter(|d| **d != digest).count();
    if holders_of_others(local_digest) < needed {
        return false;
    }
    let local_votes = usize::from(voters.all.contains(&voters.local));
    let contents: BTreeSet<LogDigest> = known
        .iter()
        .copied()
        .filter(|d| *d != local_digest)
        .collect();
    contents.into_iter().any(|content| {
        // Each unproven liar may show this content here and another one elsewhere.
        let others = holders_of_others(content) + local_votes + unknown + unproven_liars;
        let alive = others < needed;
        let holders = known.iter().filter(|digest| **digest == content).count();
        alive || (content < local_digest && holders > unproven_liars)
    })
}

#[cfg(test)]
mod tests;
