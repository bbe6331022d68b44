//! The oracle: the facts on which all nodes have to agree, and the checks against them. It is a
//! plain struct without IO and clock.

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_types::{Attestation, Certificate, Hash, Header, ValidatorSet};

use crate::raft_messages::{Leader, Place, Voters};

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{invariant}: {detail}")]
pub struct Violation {
    pub invariant: &'static str,
    pub detail: String,
}

pub type Check = Result<(), Violation>;

pub fn violation<T>(invariant: &'static str, detail: impl Into<String>) -> Result<T, Violation> {
    Err(Violation {
        invariant,
        detail: detail.into(),
    })
}

/// The answer to a client's transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub height: u64,
    pub index: u32,
    /// Digest of the receipt.
    pub receipt: Hash,
}

/// The facts observed in the whole cluster.
#[derive(Default)]
pub struct Oracle {
    /// Hash of each header, and of the set that certifies it.
    headers: BTreeMap<u64, (Hash, Hash)>,
    /// The height and index of each transaction in the chain.
    places: BTreeMap<Hash, (u64, u32)>,
    /// The leader and digest of each committed entry.
    committed: BTreeMap<u64, (Leader, Hash)>,
    /// The content of each entry that was sent.
    entries: BTreeMap<Place, Hash>,
    /// The highest vote that each node gave.
    votes: BTreeMap<u64, Leader>,
    /// The life of the node that led under each leader id.
    leaders: BTreeMap<Leader, u32>,
    /// The highest index that a leader announced as committed.
    announced_commit: Option<u64>,
    /// Voters by the place of the entry that names them, as far as they are or may come into force.
    voters: BTreeMap<u64, BTreeMap<Leader, Voters>>,
    /// Every attestation that left each node.
    attested: BTreeMap<u64, BTreeMap<u64, Hash>>,
    certificates: BTreeSet<Hash>,
    answers: BTreeMap<Hash, Answer>,
}

impl Oracle {
    /// Records a node's header at its height.
    pub fn header(&mut self, node: u64, header: &Header) -> Check {
        let (height, hash) = (header.height, header.hash());
        match self.headers.get(&height) {
            Some((known, _)) if *known != hash => violation(
                "one header per height",
                format!("node {node} has {hash} at {height}, others have {known}"),
            ),
            Some(_) => Ok(()),
            None => {
                let below = height.checked_sub(1);
                let parent = below.and_then(|below| self.headers.get(&below)).copied();
                self.headers.insert(height, (hash, header.validators_hash));
                match parent {
                    Some((parent, _)) if parent != header.parent => violation(
                        "one header per height",
                        format!("the header {height} of node {node} follows another one"),
                    ),
                    _ => Ok(()),
                }
            }
        }
    }

    pub fn knows_header(&self, height: u64) -> bool {
        self.headers.contains_key(&height)
    }

    /// Records the transactions of a new block.
    pub fn block(&mut self, height: u64, transactions: &[Hash]) -> Check {
        for (hash, index) in transactions.iter().zip(0u32..) {
            if let Some(before) = self.places.insert(*hash, (height, index)) {
                return violation(
                    "a transaction is applied at most once",
                    format!("{hash} is at {before:?} and at {:?}", (height, index)),
                );
            }
        }
        Ok(())
    }

    /// Records an applied entry; returns whether this node is the first to apply it.
    pub fn commit(&mut self, node: u64, place: Place, digest: Hash) -> Result<bool, Violation> {
        let (term, by, index) = place;
        let entry = ((term, by), digest);
        match self.committed.get(&index) {
            Some(known) if *known != entry => violation(
                "a committed entry is never replaced",
                format!("node {node} applies {entry:?} at {index}, others applied {known:?}"),
            ),
            Some(_) => Ok(false),
            None => {
                self.committed.insert(index, entry);
                // The voters of replaced entries are not in force.
                if let Some(mut named) = self.voters.remove(&index) {
                    named.retain(|leader, _| *leader == (term, by));
                    if !named.is_empty() {
                        self.voters.insert(index, named);
                    }
                }
                Ok(true)
            }
        }
    }

    /// Records an entry that names voters; they decide as soon as a leader has the entry.
    pub fn names(&mut self, (term, by, index): Place, voters: Voters) {
        let decided = self.committed.get(&index).map(|(leader, _)| *leader);
        if decided.is_none_or(|leader| leader == (term, by)) {
            self.voters
                .entry(index)
                .or_default()
                .insert((term, by), voters);
        }
    }

    /// True if these nodes are enough to commit an entry: a majority of the voters whose entry was
    /// committed last, or of voters that a leader has named since.
    pub fn is_quorum(&self, holders: &BTreeSet<u64>) -> bool {
        // The leader of a committed entry is known here only when a node applies the entry.
        let applied = self.committed.last_key_value().map(|(index, _)| *index);
        let applied = applied.unwrap_or(0);
        let in_force = self.voters.range(..=applied).next_back();
        let since = self.voters.range(applied + 1..);
        let mut candidates = in_force
            .into_iter()
            .chain(since)
            .flat_map(|(_, named)| named.values());
        candidates.any(|voters| {
            let mut sets = voters.iter();
            sets.all(|set| 2 * set.intersection(holders).count() > set.len())
        })
    }

    /// The highest log index that some node applied, with its leader.
    pub fn committed(&self) -> Option<Place> {
        let (index, ((term, by), _)) = self.committed.last_key_value()?;
        Some((*term, *by, *index))
    }

    /// Records a sent entry: each place has one content.
    pub fn entry(&mut self, place: Place, digest: Hash) -> Check {
        match self.entries.insert(place, digest) {
            Some(known) if known != digest => violation(
                "logs match at equal leader and index",
                format!("two entries at {place:?}"),
            ),
            _ => Ok(()),
        }
    }

    /// Records the vote of a node for a candidate, which may be itself.
    ///
    /// A leader id is a term and a node, and openraft orders them as pairs: a node may give a
    /// second vote in a term, but only to a candidate with a higher id, and then no longer follows
    /// the first. So what Raft says of terms holds of these pairs.
    pub fn vote(&mut self, node: u64, to: Leader) -> Check {
        match self.votes.insert(node, to) {
            Some(known) if known > to => violation(
                "a node votes once for each leader id, never for a lower one",
                format!("node {node} gave its vote to {known:?} and now to {to:?}"),
            ),
            _ => Ok(()),
        }
    }

    /// Records that a node acts as leader.
    pub fn lead(&mut self, node: u64, life: u32, leader: Leader) -> Check {
        if leader.1 != node {
            return violation(
                "one leader per leader id",
                format!("node {node} acts as {leader:?}"),
            );
        }
        if self.votes.get(&node).is_some_and(|vote| *vote < leader) {
            return violation(
                "a leader voted for itself",
                format!("node {node} acts as {leader:?} without having stood for it"),
            );
        }
        match self.leaders.insert(leader, life) {
            Some(before) if before != life => violation(
                "a leader does not go on after a restart",
                format!("node {node} acts as {leader:?} in its lives {before} and {life}"),
            ),
            _ => Ok(()),
        }
    }

    /// Records a commit that a leader announces; returns whether it is new.
    pub fn announce_commit(&mut self, node: u64, commit: Place) -> Result<bool, Violation> {
        let (term, by, index) = commit;
        match self.committed.get(&index) {
            Some((leader, _)) if *leader != (term, by) => {
                return violation(
                    "a committed entry is never replaced",
                    format!("node {node} calls {commit:?} committed, others applied {leader:?}"),
                );
            }
            _ => {}
        }
        let new = self.announced_commit.is_none_or(|last| last < index);
        self.announced_commit = self.announced_commit.max(Some(index));
        Ok(new)
    }

    /// Records an attestation that a node sends.
    pub fn attest(&mut self, node: u64, attestation: &Attestation) -> Check {
        let Attestation { height, header, .. } = attestation;
        let signed = self.attested.entry(node).or_default();
        match signed.insert(*height, *header) {
            Some(known) if known != *header => violation(
                "no node signs two headers of one height",
                format!("node {node} signed {known} and {header} at {height}"),
            ),
            _ => Ok(()),
        }
    }

    /// The highest height that a node signed, and the header.
    pub fn last_attested(&self, node: u64) -> Option<(u64, Hash)> {
        let (height, hash) = self.attested.get(&node)?.last_key_value()?;
        Some((*height, *hash))
    }

    /// Records a certificate that a node keeps. `set` is in force at its height.
    pub fn certificate(&mut self, node: u64, kept: &Certificate, set: &ValidatorSet) -> Check {
        let known = self.headers.get(&kept.height);
        if known.is_some_and(|(known, _)| *known != kept.header) {
            return violation(
                "a certificate is of the one header",
                format!(
                    "node {node} keeps one of {} at {}",
                    kept.header, kept.height
                ),
            );
        }
        if known.is_some_and(|(_, named)| *named != set.hash()) {
            return violation(
                "the set in force is the one that the header names",
                format!("node {node} has {set:?} at {}", kept.height),
            );
        }
        if !self
            .certificates
            .insert(lamplighter_types::codec::digest(kept))
        {
            return Ok(());
        }
        let signers: BTreeSet<_> = kept.signatures.iter().map(|s| s.key).collect();
        // Defined here independently of the crate that is tested.
        let quorum = match set.validators.len() {
            1 => 1,
            2 | 3 => 2,
            4 => 3,
            5 | 6 => 4,
            more => more,
        };
        let foreign = signers.iter().any(|key| set.by_key(key).is_none());
        let distinct = signers.len() == kept.signatures.len();
        let good = kept.verify(set);
        if signers.len() < quorum || foreign || !distinct || good.is_err() {
            return violation(
                "a certificate has a quorum of distinct signers in force",
                format!("node {node} keeps {kept:?}: {good:?}"),
            );
        }
        Ok(())
    }

    /// Records an answer to a client.
    pub fn answer(&mut self, hash: Hash, answer: Answer) -> Check {
        let place = (answer.height, answer.index);
        if self.places.get(&hash).is_some_and(|known| *known != place) {
            return violation(
                "a receipt names the place in the chain",
                format!("{hash} was answered with {place:?}"),
            );
        }
        match self.answers.insert(hash, answer.clone()) {
            Some(known) if known != answer => violation(
                "no receipt changes",
                format!("{hash} was answered with {known:?} and with {answer:?}"),
            ),
            _ => Ok(()),
        }
    }

    pub fn answers(&self) -> &BTreeMap<Hash, Answer> {
        &self.answers
    }

    /// The least height that a linearizable read must see.
    pub fn highest_answer(&self) -> u64 {
        self.answers.values().map(|a| a.height).max().unwrap_or(0)
    }

    /// Transactions in the chain.
    pub fn transactions(&self) -> usize {
        self.places.len()
    }

    /// The number of leader ids under which a node led.
    pub fn leaderships(&self) -> usize {
        self.leaders.len()
    }
}
