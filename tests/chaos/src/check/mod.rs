//! Judges histories against the chain. Pure: no clock, no network.
//!
//! The ledger is one order of blocks, so every answer has a place in it, and what clients may see
//! follows from three rules:
//!
//! - *The chain is what was acknowledged*: a receipt that a client has is in the chain of every
//!   node, once, at the same height and index, with the same bytes. What was refused is not there.
//! - *A read at a height shows the state of that height*, computed here from the blocks alone.
//! - *Real time*: what begins after something else was answered comes after it in the order. That
//!   holds for writes, and for reads that asked for it (linearizable); it makes the whole history
//!   strictly serializable, since places are totally ordered.

mod chain;
mod corrupt;
mod order;
mod reads;
mod writes;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use lamplighter_types::Hash;
use serde::Serialize;

use crate::history::{History, Place};

pub use chain::{ChainBlock, Count, Digest, Effect, Entry, Model, Version};
pub use corrupt::{ALL, Corruption, Evidence};
use order::Order;

/// Described in full; more are only counted.
const SAMPLES_MAX: usize = 10;

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Acknowledged, and not in the chain.
    Lost,
    /// In the chain more than once.
    Doubled,
    /// A receipt differs from the chain's, in place or bytes.
    Changed,
    /// A client was told that it can't be in a block, and it is.
    RefusedYetThere,
    /// Nothing was heard of it, it is not in the chain, and it has not expired either.
    Undecided,
    /// In a block of a time at which it had expired.
    Expired,
    /// Began after another was answered, and stands before it.
    OutOfOrder,
    /// A linearizable read did not show what was acknowledged before it.
    Stale,
    /// A read did not show the state of its height.
    WrongRead,
    /// A transaction succeeded that must fail, or the other way round.
    WrongOutcome,
    /// Headers that do not follow each other.
    BrokenChain,
    /// Two nodes have different blocks of one height.
    NodesDiffer,
}

/// How often something was wrong, and the first few times in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub count: u64,
    pub samples: Vec<String>,
}

/// What the checker found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    pub faults: BTreeMap<Fault, Tally>,
    /// Receipts of successes; each transaction counts once.
    pub acknowledged: u64,
    /// Receipts of failures.
    pub acknowledged_failed: u64,
    pub refused: u64,
    /// Nothing definite was heard; of these so many are in the chain.
    pub unknown: u64,
    pub unknown_there: u64,
    /// Receipts that were asked for again and compared.
    pub compared_again: u64,
    pub reads: u64,
    pub linearizable_reads: u64,
    pub blocks: u64,
    pub transactions: u64,
}

impl Findings {
    pub fn count(&self, fault: Fault) -> u64 {
        self.faults.get(&fault).map_or(0, |tally| tally.count)
    }

    /// Whether nothing was wrong.
    pub fn is_good(&self) -> bool {
        self.faults.is_empty()
    }

    fn add(&mut self, fault: Fault, what: impl FnOnce() -> String) {
        let tally = self.faults.entry(fault).or_default();
        tally.count += 1;
        if tally.samples.len() < SAMPLES_MAX {
            tally.samples.push(what());
        }
    }
}

/// The chain, indexed.
struct Chain {
    model: Model,
    places: HashMap<Hash, Place>,
    height: u64,
    /// Time of the last block.
    last_ms: u64,
}

/// Judges a history against the chain of one node and the digests of the others, each from height 1
/// on without a gap.
pub fn check(history: &History, chain: &[ChainBlock], others: &[Vec<Digest>]) -> Findings {
    let mut findings = Findings {
        blocks: chain.len() as u64,
        ..Findings::default()
    };
    compare_nodes(chain, others, &mut findings);
    let chain = index(chain, &mut findings);
    let order = Order::of(history);
    writes::check(&history.writes, &chain, &order, &mut findings);
    reads::check(&history.reads, &chain, &order, &mut findings);
    findings
}

fn compare_nodes(chain: &[ChainBlock], others: &[Vec<Digest>], findings: &mut Findings) {
    for (node, other) in others.iter().enumerate() {
        if other.len() != chain.len() {
            let (here, there) = (chain.len(), other.len());
            findings.add(Fault::NodesDiffer, || {
                format!("{here} blocks against {there} of node {}", node + 2)
            });
        }
        for (block, digest) in chain.iter().zip(other) {
            if block.digest() != *digest {
                findings.add(Fault::NodesDiffer, || {
                    format!("block {} of node {}: {digest:?}", block.height, node + 2)
                });
            }
        }
    }
}

fn index(blocks: &[ChainBlock], findings: &mut Findings) -> Chain {
    let mut chain = Chain {
        model: Model::default(),
        places: HashMap::new(),
        height: blocks.last().map_or(0, |block| block.height),
        last_ms: blocks.last().map_or(0, |block| block.timestamp_ms),
    };
    for pair in blocks.windows(2) {
        let follows = pair[1].height == pair[0].height + 1
            && pair[1].parent == pair[0].header
            && pair[1].timestamp_ms > pair[0].timestamp_ms;
        if !follows {
            findings.add(Fault::BrokenChain, || {
                format!("{} does not follow {}", pair[1].height, pair[0].height)
            });
        }
    }
    for block in blocks {
        for (at, entry) in (0..).zip(&block.entries) {
            take(&mut chain, block, at, entry, findings);
        }
    }
    chain
}

fn take(chain: &mut Chain, block: &ChainBlock, at: u32, entry: &Entry, findings: &mut Findings) {
    findings.transactions += 1;
    let place = Place {
        height: block.height,
        index: at,
        receipt: entry.receipt,
        succeeded: entry.succeeded,
    };
    if let Some(first) = chain.places.insert(entry.transaction, place) {
        findings.add(Fault::Doubled, || {
            let transaction = entry.transaction;
            format!(
                "{transaction} at {}.{} and {}.{at}",
                first.height, first.index, block.height
            )
        });
    }
    if entry.expires_ms <= block.timestamp_ms {
        findings.add(Fault::Expired, || {
            format!("{} in block {}", entry.transaction, block.height)
        });
    }
    if let Some(wrong) = chain.model.take(block.height, entry) {
        findings.add(Fault::WrongOutcome, || {
            format!("{}.{at}: {wrong}", block.height)
        });
    }
}
