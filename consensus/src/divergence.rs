//! The decision whether this node is the one whose log has to go.
//!
//! A leader that equivocates leaves honest nodes with different logs under the same log ids.
//! Neither term nor index can tell which of them another node may hold a certificate for. Each
//! node signs which digests it holds, and which it refuses ([`LogHolding`]), and every node
//! decides by the same rule.
//!
//! # The rule
//!
//! `n` voters, `f = ⌊(n-1)/3⌋` of them may lie, `p` of these are proven liars and are not counted.
//! A quorum is `q`. At the first index at which any two holdings differ:
//!
//! - A content is **dead** if at least `n - q + 1 + (f - p)` nodes hold another one, or have no
//!   entry there and refuse this one: of these at most `f - p` lie, so at least `n - q + 1` honest
//!   ones never acknowledged it, and no `q` nodes did, whatever the proven liars sign. It was
//!   never certified and never will be. It is also dead if more than `f - p` nodes refuse it: one
//!   of them is honest and found it dead.
//! - A content is **replaced** if it is dead and another one can't be, whatever the unproven liars
//!   and those that did not answer hold; or if another one with a lower digest is held by more
//!   than `f - p` nodes, so by an honest one, and is not one that an honest node refuses.
//! - This node's log goes if its content is replaced. It then refuses, durably and for good
//!   (`dropped`), *each* content there that is replaced by what it knows: those that others hold
//!   and those that others refuse, too.
//!
//! # Why a node refuses what it never held
//!
//! A node that has dropped its log holds nothing until it has caught up. If it could take any
//! content but its own, nobody would know whether it becomes one more holder of a dead content or
//! not: of five, let one lie, two hold `x`, one `y` and one `z`, `y` being the lowest. All three
//! are dead. Once the holder of `z` has dropped it, `x` has only one node against it and `y` two:
//! those that hold `x` can't go, as it is not dead to them, and the one that holds `y` can't stay
//! for good, as `x` may come alive. All would wait for the choice of an empty node, which takes
//! from whoever leads, and then for a second one to drop its log and to catch up. With its refusal
//! of `x` both others see at once that `x` is dead, and drop it while the first one restarts.
//!
//! # Why nothing that is certified is lost
//!
//! A certified content is held by `q` nodes, `q - f` of them honest, and so is never dead: the
//! honest holders stay. Before the first difference all logs are equal, and not all of them go: if
//! some content is alive its holders stay, and otherwise the honest holders of the lowest digest.
//! A node that held another content before and dropped it did so by this rule, so it was dead; a
//! node that replaced an entry because a later leader was elected had not executed it, so it had
//! signed nothing about it.
//!
//! A refusal is the statement "I would drop this one, if I had it". Up to `f - p` nodes may say so
//! of anything, of one content here and of another one there: so one more than that has to, or
//! their word is counted among the `n - q + 1 + (f - p)` nodes of a dead content, where as many
//! liars are allowed for, and a node counts once. No honest node refuses a content that is alive.
//! Nor the one that stays: if none is alive, the lowest with an honest holder is replaced by none,
//! so it is refused by no honest node, and all that dropped another one can take it.
//!
//! # Why no node takes what another one found dead
//!
//! A content that was found dead must not get new holders among those that were counted against
//! it. Let all liars be proven, and all honest nodes answer. A node that drops its log then knows
//! each content that has a holder there. Those that are dead are replaced, but for the one that
//! stays, so it refuses them from then on. (Without that, of 4,000 random runs 40 ended with a
//! certificate for a content that some node refused. The tests step through such runs.)
//!
//! Three things limit this. An answer may be lost: a node that has heard of no holder of a dead
//! content does not refuse it, and takes it if such a holder leads. To drop a log only if all have
//! answered would mend that, but then a split waits for each node that is silent or behind. What
//! was read of others may be as old as a request takes: within that time a node that was counted
//! may drop its log, start again, find a leader and take another one. And with an unproven liar
//! (`f = 2`) that is elected, a content that one honest node dropped can come back from the liar to
//! those that have never heard of it.
//!
//! # Who refuses before it holds
//!
//! A voter that has no entry at a split, because it is behind or has dropped its log for a
//! certificate, would keep the others waiting for what it will take, and that for an election that
//! only few of the split nodes can win. So it refuses what it would drop if it held it: what is
//! dead once its own refusal is counted, and replaced ([`refusals`]). It has never acknowledged
//! that content: what is in its log is durable, and what it dropped for a certificate it held
//! before that, so that a quorum is known to hold another one (or this one, and then it is not
//! dead). So the refusal is one of those that the rule counts anyway, and of the lowest content
//! with an honest holder there is none. It is durable before any other node learns of it, and made
//! while no append is under way.
//!
//! It refuses only what a proven liar made, and only if all show one log id there after equal
//! logs: how the logs of honest leaders end differently is decided by elections, and a refusal
//! would stand against the elected one. A content of which only liars may be holders it need not
//! refuse.
//!
//! # When it decides
//!
//! With all `f` liars proven, and an entry, a refusal or an answer of each honest node, always. An
//! alive content has more than `q - f - 1` honest holders, and two of them would be
//! `2q - 2f > n - f` honest nodes. If one is alive, the `q - f >= n - q + 1` holders make every
//! other dead; if none is, the lowest stays.
//!
//! With an unproven liar (`f = 2`, from seven nodes on) a split can remain: three nodes hold one
//! content and three the other, and one of the six is the unproven liar. It may be one of the
//! second three: then it and the proven liar may have signed for the first three, whose
//! certificate is complete. Or one of the first three: then the same is true of the others. No
//! node can tell the two cases apart, and the same holds if one of the six is silent. So none may
//! go until the second liar is proven, a certificate is shown, or people decide (ADR 16); the
//! nodes say so (`Metrics::differs_at`).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::NodeId;
use crate::dropped::{DEAD_MAX, DeadContents, LogContent};
use crate::election::{SignatureBytes, quorum};
use crate::log::LogDigest;
use crate::types::LeaderId;

/// Indexes that a node is asked about at once.
pub(crate) const HOLDING_MAX: usize = 512;
const DOMAIN: &[u8] = b"lamplighter/raft-holding/4\0";

/// A node's log up to an index, and the leadership that made the entry there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldContent {
    pub content: LogContent,
    pub leader: LeaderId,
}

/// The digests of a node's log at some indexes, and the contents that it refuses, signed by the
/// node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogHolding {
    /// In the order of the indexes.
    pub held: Vec<HeldContent>,
    pub dropped: Vec<LogContent>,
    pub signature: SignatureBytes,
}

impl LogHolding {
    /// The signed bytes: domain, chain id, node, the number of contents held, blake3 of all
    /// contents and of the leaderships that made those held.
    pub fn message(
        chain_id: &[u8; 32],
        node: NodeId,
        held: &[HeldContent],
        dropped: &[LogContent],
    ) -> Vec<u8> {
        let mut hasher = blake3::Hasher::new();
        for held in held {
            hasher.update(&held.leader.term.to_le_bytes());
            hasher.update(&held.leader.node_id.to_le_bytes());
        }
        for content in held.iter().map(|held| &held.content).chain(dropped) {
            hasher.update(&content.index.to_le_bytes());
            hasher.update(&content.digest.0);
        }
        let mut bytes = DOMAIN.to_vec();
        bytes.extend_from_slice(chain_id);
        bytes.extend_from_slice(&node.to_le_bytes());
        bytes.extend_from_slice(&(held.len() as u64).to_le_bytes());
        bytes.extend_from_slice(hasher.finalize().as_bytes());
        bytes
    }

    /// True if there are no more contents than a node is asked for.
    pub(crate) fn is_bounded(&self) -> bool {
        self.held.len() <= HOLDING_MAX && self.dropped.len() <= DEAD_MAX
    }
}

/// What a node holds, and what it refuses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeldDigests {
    pub held: BTreeMap<u64, LogDigest>,
    /// The leaderships that made these entries.
    pub leaders: BTreeMap<u64, LeaderId>,
    pub dropped: BTreeSet<LogContent>,
}

impl From<LogHolding> for HeldDigests {
    fn from(holding: LogHolding) -> Self {
        let contents = holding.held.iter().map(|held| held.content);
        let leaders = holding.held.iter();
        Self {
            held: contents
                .map(|content| (content.index, content.digest))
                .collect(),
            leaders: leaders
                .map(|held| (held.content.index, held.leader))
                .collect(),
            dropped: holding.dropped.into_iter().collect(),
        }
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogVerdict {
    /// Up to here no other log differs from this node's.
    Equal {
        /// The highest index at which so many hold the same that this node's log can't be dead.
        upto: Option<u64>,
        /// True if a log differs somewhere behind that.
        differs: bool,
    },
    /// Another log differs: this node's stays, for now at least.
    Keep {
        /// The first index at which the logs differ.
        index: u64,
    },
    /// This node's log goes.
    Drop {
        /// The first index at which it differs from the others.
        index: u64,
        /// The contents there that are replaced, this node's included.
        replaced: BTreeSet<LogDigest>,
    },
}

/// What is known about one index.
#[derive(Clone)]
struct Known {
    /// The contents that voters hold, this node's included; not those of proven liars.
    contents: Vec<LogDigest>,
    /// The voters that have no entry there, or did not answer.
    unknown: usize,
    /// The contents there that voters refuse, once for each of them.
    dropped: Vec<LogDigest>,
    /// The contents there that voters without an entry there refuse.
    pledged: Vec<LogDigest>,
}

impl std::fmt::Display for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for content in &self.contents {
            write!(f, "{content} ")?;
        }
        write!(f, "{} unknown", self.unknown)?;
        self.dropped
            .iter()
            .try_for_each(|content| write!(f, ", {content} refused"))
    }
}

/// The rule for one number of voters.
struct Rule {
    unproven_liars: usize,
    /// Nodes against it that make a content dead.
    needed: usize,
    /// Holders of the same that keep a content from ever being dead.
    safe: usize,
}

impl Rule {
    fn new(voters: &Voters<'_>) -> Self {
        let n = voters.all.len();
        let proven = voters.all.intersection(voters.excluded).count();
        let unproven_liars = (n.saturating_sub(1) / 3).saturating_sub(proven);
        Self {
            unproven_liars,
            needed: n + 1 - quorum(n) + unproven_liars,
            safe: quorum(n).saturating_sub(proven),
        }
    }

    fn is_refused_by_honest(&self, known: &Known, content: LogDigest) -> bool {
        count(&known.dropped, content) > self.unproven_liars
    }

    fn is_dead(&self, known: &Known, content: LogDigest) -> bool {
        let others = known.contents.len() - count(&known.contents, content);
        let against = others + count(&known.pledged, content);
        against >= self.needed || self.is_refused_by_honest(known, content)
    }

    /// True if a content is dead, and another one takes its place.
    fn is_replaced(&self, known: &Known, content: LogDigest) -> bool {
        let replaces = |other: LogDigest| {
            if other == content || self.is_refused_by_honest(known, other) {
                return false;
            }
            let holders = count(&known.contents, other);
            // Each unproven liar may show this content here and another one elsewhere.
            let others = known.contents.len() - holders + known.unknown + self.unproven_liars;
            others < self.needed || (other < content && holders > self.unproven_liars)
        };
        let mut contents = known.contents.iter().copied();
        self.is_dead(known, content) && contents.any(replaces)
    }

    /// The verdict about the first index at which the logs differ.
    fn verdict(&self, known: &Known, index: u64, local: LogDigest) -> LogVerdict {
        let shown = known.contents.iter().chain(&known.dropped);
        let replaced: BTreeSet<LogDigest> = shown
            .copied()
            .filter(|content| self.is_replaced(known, *content))
            .collect();
        match replaced.contains(&local) {
            true => LogVerdict::Drop { index, replaced },
            false => LogVerdict::Keep { index },
        }
    }
}

fn count(contents: &[LogDigest], content: LogDigest) -> usize {
    contents.iter().filter(|other| **other == content).count()
}

/// Decides by the rule above. `local` has this node's digests, without a gap from the first to
/// `dense`. `held` has the holdings of other voters, checked.
pub(crate) fn decide(
    voters: &Voters<'_>,
    local: &BTreeMap<u64, LogDigest>,
    dense: u64,
    held: &BTreeMap<NodeId, HeldDigests>,
) -> LogVerdict {
    let rule = Rule::new(voters);
    let mut upto = None;
    for (index, digest) in local {
        let known = known_at(voters, held, *index, Some(*digest));
        let same = known.contents.iter().filter(|d| *d == digest).count();
        if same < known.contents.len() {
            // Behind `dense` the difference may be an earlier one: the next comparison asks for
            // what is between.
            let node = voters.local;
            tracing::debug!(node, index, %digest, %known, "the voters' logs differ");
            return match *index <= dense {
                true => rule.verdict(&known, *index, *digest),
                false => LogVerdict::Equal {
                    upto,
                    differs: true,
                },
            };
        }
        if same >= rule.safe {
            upto = Some(*index);
        }
    }
    LogVerdict::Equal {
        upto,
        differs: false,
    }
}

/// The contents of a split beyond this node's log that it can refuse, so that the others need not
/// wait for which of them it will take; see "Who refuses before it holds" above. `end` is the last
/// entry of this node, `index` the place of the split.
pub(crate) fn refusals(
    voters: &Voters<'_>,
    end: Option<LogContent>,
    held: &BTreeMap<NodeId, HeldDigests>,
    index: u64,
) -> Option<DeadContents> {
    let is_beyond = end.is_none_or(|end| end.index < index);
    if !is_beyond || !voters.all.contains(&voters.local) || !is_one_place(voters, end, held, index)
    {
        return None;
    }
    let rule = Rule::new(voters);
    let mut known = known_at(voters, held, index, None);
    // What this node will hold is as open as what others will that have no entry there.
    known.unknown += 1;
    let is_refused = |content: &LogDigest| {
        let mut known = known.clone();
        known.pledged.push(*content);
        count(&known.contents, *content) > rule.unproven_liars && rule.is_replaced(&known, *content)
    };
    let digests: BTreeSet<LogDigest> = known.contents.iter().copied().filter(is_refused).collect();
    (!digests.is_empty()).then_some(DeadContents { index, digests })
}

/// True if all that is shown at an index is one log id of a proven liar, after logs that are equal
/// up to the entry before.
fn is_one_place(
    voters: &Voters<'_>,
    end: Option<LogContent>,
    held: &BTreeMap<NodeId, HeldDigests>,
    index: u64,
) -> bool {
    let shown = others(voters).filter_map(|node| held.get(&node));
    let shown = shown.filter(|held| held.held.contains_key(&index));
    let (mut leaders, mut before) = (BTreeSet::new(), BTreeSet::new());
    for held in shown {
        leaders.insert(held.leaders.get(&index).copied());
        before.extend(index.checked_sub(1).map(|at| held.held.get(&at).copied()));
    }
    if let Some(end) = end.filter(|end| end.index + 1 == index) {
        before.insert(Some(end.digest));
    }
    let by_liar = |leader: &Option<LeaderId>| {
        leader.is_some_and(|leader| voters.excluded.contains(&leader.node_id))
    };
    let are_equal = before.len() <= 1 && !before.contains(&None);
    are_equal && leaders.len() == 1 && leaders.iter().all(by_liar)
}

/// The other voters that are not proven to lie.
fn others<'a>(voters: &'a Voters<'_>) -> impl Iterator<Item = NodeId> + 'a {
    let counted = |node: &NodeId| !voters.excluded.contains(node) && *node != voters.local;
    voters.all.iter().copied().filter(counted)
}

fn known_at(
    voters: &Voters<'_>,
    held: &BTreeMap<NodeId, HeldDigests>,
    index: u64,
    local: Option<LogDigest>,
) -> Known {
    let others: Vec<NodeId> = others(voters).collect();
    let shown = || others.iter().filter_map(|node| held.get(node));
    let contents = shown().filter_map(|held| held.held.get(&index).copied());
    let mut contents: Vec<LogDigest> = contents.collect();
    let unknown = others.len() - contents.len();
    if voters.all.contains(&voters.local) {
        contents.extend(local);
    }
    let refused = |held: &HeldDigests| {
        let there = held.dropped.iter().filter(|dead| dead.index == index);
        there.map(|dead| dead.digest).collect::<Vec<_>>()
    };
    let empty = shown().filter(|held| !held.held.contains_key(&index));
    Known {
        contents,
        unknown,
        dropped: shown().flat_map(refused).collect(),
        pledged: empty.flat_map(refused).collect(),
    }
}

#[cfg(test)]
mod tests;
