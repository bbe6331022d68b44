//! The oracle: the facts on which all nodes have to agree, and the checks against them. It is a
//! plain struct without IO and clock.

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_types::{Attestation, Certificate, Hash, Header, ValidatorSet};

use crate::lies::LiePlan;
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

/// The signatures of a certificate. Defined here independently of the crate that is tested.
pub fn quorum(nodes: usize) -> usize {
    match nodes {
        0 | 1 => 1,
        2 | 3 => 2,
        4 => 3,
        5 => 4,
        6 => 4,
        7 => 5,
        more => more,
    }
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
    /// The digest of each batch that an honest leader sent.
    batches: BTreeMap<Place, Hash>,
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
    liars: BTreeSet<u64>,
    /// The voters of the beginning, of whom the honest ones keep their vote.
    founders: BTreeSet<u64>,
    /// The leader that ordered each block of a run with liars.
    ordered_by: BTreeMap<Hash, Leader>,
    /// The block of each entry of a run with liars, by the header before it: its header, none if
    /// the batch was void.
    blocks: BTreeMap<(Place, Option<Hash>, Hash), Option<Hash>>,
    /// The certified header of each height.
    certified: BTreeMap<u64, Hash>,
}

impl Oracle {
    pub fn new(lies: Option<&LiePlan>) -> Self {
        Self {
            liars: lies.map(|lies| lies.liars.clone()).unwrap_or_default(),
            ..Self::default()
        }
    }

    fn is_liar(&self, node: u64) -> bool {
        self.liars.contains(&node)
    }

    /// True if an honest leader ordered this block.
    pub fn is_honest_block(&self, header: &Hash) -> bool {
        let by = self.ordered_by.get(header);
        by.is_none_or(|(_, by)| !self.is_liar(*by))
    }

    /// Records a batch that an honest leader sent.
    pub fn sent(&mut self, place: Place, batch: Hash) {
        self.batches.entry(place).or_insert(batch);
    }

    /// True if a node got another batch than the one that an honest leader had sent under that
    /// place: by a lying leader of a later term.
    pub fn is_replaced(&self, place: Place, batch: Hash) -> bool {
        let sent = self.batches.get(&place);
        !self.liars.is_empty() && sent.is_some_and(|sent| *sent != batch)
    }

    /// The leader that is to be held responsible for an entry.
    pub fn responsible(&self, place: Place, batch: Hash) -> Leader {
        let liar = self.liars.first().copied().unwrap_or(0);
        let by = match self.is_replaced(place, batch) {
            true => liar,
            false => place.1,
        };
        (place.0, by)
    }

    /// Records a header, and the leader that ordered its block where that is known.
    pub fn ordered_header(
        &mut self,
        node: u64,
        header: &Header,
        ordered_by: Option<Leader>,
    ) -> Check {
        if let Some(leader) = ordered_by {
            self.ordered_by.entry(header.hash()).or_insert(leader);
        }
        self.header(node, header)
    }

    /// Checks the block of an entry: every node makes the same one of it, and no node passes over
    /// what is a block to others.
    pub fn block_of(
        &mut self,
        node: u64,
        place: Place,
        batch: Option<Hash>,
        parent: Hash,
        made: Option<Hash>,
    ) -> Check {
        let (_, by) = self.responsible(place, batch.unwrap_or(Hash::ZERO));
        if self.is_liar(by) {
            return Ok(());
        }
        match self.blocks.insert((place, batch, parent), made) {
            Some(known) if known != made => violation(
                "an honest leader's entry is the same block everywhere",
                format!("node {node} makes {made:?} of {place:?}, others made {known:?}"),
            ),
            _ => Ok(()),
        }
    }

    /// Checks a membership entry that an honest node takes into its log: those who do not lie never
    /// lose their vote in a run with liars.
    pub fn explains(&mut self, node: u64, place: Place, voters: &Voters) -> Check {
        if self.liars.is_empty() {
            return Ok(());
        }
        if self.founders.is_empty() {
            self.founders = voters.iter().flatten().copied().collect();
        }
        let mut honest = self.founders.difference(&self.liars);
        let keeps = |set: &BTreeSet<u64>, node: &u64| set.contains(node);
        if honest.all(|node| voters.iter().all(|set| keeps(set, node))) {
            return Ok(());
        }
        violation(
            "a membership is one that the ledger explains",
            format!("node {node} takes {voters:?} at {place:?}"),
        )
    }

    /// Records a node's header at its height.
    pub fn header(&mut self, node: u64, header: &Header) -> Check {
        if !self.is_honest_block(&header.hash()) {
            // A lying leader may order different batches at different nodes. What comes of it
            // shows when one of them is certified.
            return Ok(());
        }
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
                    Some((parent, _)) if parent != header.parent && self.liars.is_empty() => {
                        violation(
                            "one header per height",
                            format!("the header {height} of node {node} follows another one"),
                        )
                    }
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
        let (term, by) = self.responsible(place, digest);
        let index = place.2;
        let entry = ((term, by), digest);
        match self.committed.get(&index) {
            Some(((_, leader), _)) if self.is_liar(*leader) && !self.is_liar(by) => {
                self.committed.insert(index, entry);
                Ok(true)
            }
            Some(known) if *known != entry && !self.is_liar(by) => violation(
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
            sets.all(|set| {
                let copies = set.intersection(holders).count();
                // Where there are liars, as many as for a certificate.
                copies >= quorum(set.len()) || (self.liars.is_empty() && 2 * copies > set.len())
            })
        })
    }

    /// The highest log index that some node applied, with its leader.
    pub fn committed(&self) -> Option<Place> {
        let (index, ((term, by), _)) = self.committed.last_key_value()?;
        Some((*term, *by, *index))
    }

    /// Records a sent entry: each place has one content.
    pub fn entry(&mut self, place: Place, digest: Hash) -> Check {
        if self.is_liar(place.1) {
            return Ok(());
        }
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
            Some((leader, _))
                if *leader != (term, by) && !self.is_liar(by) && !self.is_liar(leader.1) =>
            {
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
        let first = self.certified.entry(kept.height).or_insert(kept.header);
        if *first != kept.header {
            return violation(
                "no two certified headers of one height",
                format!("{} and {} at {}", first, kept.header, kept.height),
            );
        }
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
        let foreign = signers.iter().any(|key| set.by_key(key).is_none());
        let distinct = signers.len() == kept.signatures.len();
        let good = kept.verify(set);
        if signers.len() < quorum(set.validators.len()) || foreign || !distinct || good.is_err() {
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

    /// The certified header of a height, where one is known.
    pub fn certified(&self) -> &BTreeMap<u64, Hash> {
        &self.certified
    }

    /// The highest height of an honest leader's block.
    pub fn highest_header(&self) -> u64 {
        self.headers.keys().next_back().copied().unwrap_or(0)
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
