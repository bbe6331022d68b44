//! The check of histories against the chain, without clock and network.
//!
//! The ledger is one order of blocks, so every answer has a position in it, and three rules tell
//! which answers are right:
//!
//! - *The chain has what was acknowledged*: a receipt that a client has is in the chain of every
//!   node, once, at the same height and index, with the same bytes. A refused transaction is not.
//! - *A read at a height shows the state of that height*, computed here from the blocks alone.
//! - *Real time*: a request that begins after another was answered comes after it in the order.
//!   This holds for writes, and for linearizable reads; it makes the whole history strictly
//!   serializable, since positions are totally ordered.

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

use crate::history::{History, ReceiptPosition};

pub use chain::{
    ActionEffect, BlockDigest, ChainBlock, ChainEntry, DocumentVersion, EventCount, Model,
};
pub use corrupt::{ALL, Corruption, Evidence};
use order::KnownOrder;

/// Faults that are described in full; more are only counted.
const SAMPLES_MAX: usize = 10;

/// A violation of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// An acknowledged transaction is not in the chain.
    Lost,
    /// A transaction is in the chain more than once.
    Doubled,
    /// A receipt differs from the chain's, in position or bytes.
    Changed,
    /// A refused transaction is in a block.
    RefusedYetThere,
    /// An unanswered transaction is not in the chain, and has not expired either.
    Undecided,
    /// A transaction is in a block after its expiry.
    Expired,
    /// A transaction that began after another was answered has a position before it.
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

/// The count of a fault, with descriptions of the first ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FaultTally {
    pub count: u64,
    pub samples: Vec<String>,
}

/// The findings of the checker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    pub faults: BTreeMap<Fault, FaultTally>,
    /// Receipts of successes; each transaction counts once.
    pub acknowledged: u64,
    /// Receipts of failures.
    pub acknowledged_failed: u64,
    pub refused: u64,
    /// Transactions without a definite answer, and how many of these are in the chain.
    pub unknown: u64,
    pub unknown_there: u64,
    /// Receipts that were requested again and compared.
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

    /// True if there is no fault.
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
    places: HashMap<Hash, ReceiptPosition>,
    height: u64,
    /// Time of the last block.
    last_ms: u64,
}

/// Checks a history against the chain of one node and the digests of the others, each from height 1
/// on without a gap.
pub fn check(history: &History, chain: &[ChainBlock], others: &[Vec<BlockDigest>]) -> Findings {
    let mut findings = Findings {
        blocks: chain.len() as u64,
        ..Findings::default()
    };
    compare_nodes(chain, others, &mut findings);
    let chain = index(chain, &mut findings);
    let order = KnownOrder::from_history(history);
    writes::check(&history.writes, &chain, &order, &mut findings);
    reads::check(&history.reads, &chain, &order, &mut findings);
    findings
}

fn compare_nodes(chain: &[ChainBlock], others: &[Vec<BlockDigest>], findings: &mut Findings) {
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
            add_entry(&mut chain, block, at, entry, findings);
        }
    }
    chain
}

fn add_entry(
    chain: &mut Chain,
    block: &ChainBlock,
    at: u32,
    entry: &ChainEntry,
    findings: &mut Findings,
) {
    findings.transactions += 1;
    let place = ReceiptPosition {
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
    if let Some(wrong) = chain.model.apply(block.height, entry) {
        findings.add(Fault::WrongOutcome, || {
            format!("{}.{at}: {wrong}", block.height)
        });
    }
}
