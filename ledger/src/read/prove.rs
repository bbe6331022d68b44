//! Proofs of records under the newest certificate.

use std::time::Duration;

use lamplighter_state::{StateError, prove as build, tables};
use lamplighter_types::Hash;
use lamplighter_types::proof::{ProofBundle, RecordProof};

use super::wait::{WaitError, wait_certified};
use crate::chain::Chain;

/// The record to prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A transaction in its block.
    Transaction(Hash),
    /// The receipt of a transaction.
    Receipt(Hash),
    /// An event record: height of its block, and its index among the events of the block.
    Event { height: u64, index: u32 },
    /// The value under a key of the newest state, or its absence.
    State(Vec<u8>),
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    #[error("there is no such record")]
    NotFound,
    #[error("the record is not certified yet")]
    Wait(#[from] WaitError),
    #[error("the node can't read what the proof is made of")]
    State(#[from] StateError),
}

/// Proves a record as soon as its block is certified. The record and its path are read at once,
/// while the state is that of the header; the header is proven after the wait.
pub(crate) async fn prove(
    chain: &Chain,
    subject: Subject,
    within: Duration,
) -> Result<ProofBundle, ProveError> {
    let (height, record) = read_record(chain, subject)?;
    wait_certified(chain, height, within).await?;
    let certified = chain.certified_height();
    Ok(build::bundle(&*chain.store(), record, height, certified)?)
}

/// Proves the values under several keys at one height, so that the bundles share the header.
pub(crate) async fn prove_states(
    chain: &Chain,
    keys: &[Vec<u8>],
    within: Duration,
) -> Result<Vec<ProofBundle>, ProveError> {
    let (height, records) = {
        let head = chain.read_head();
        let records: Result<Vec<_>, _> = keys
            .iter()
            .map(|key| build::state(&*chain.store(), &head.tree, key))
            .collect();
        (head.header.height, records?)
    };
    wait_certified(chain, height, within).await?;
    let certified = chain.certified_height();
    let bundles = records
        .into_iter()
        .map(|record| build::bundle(&*chain.store(), record, height, certified));
    Ok(bundles.collect::<Result<_, _>>()?)
}

/// The height of the block that proves the record, and the record with its path.
fn read_record(chain: &Chain, subject: Subject) -> Result<(u64, RecordProof), ProveError> {
    let store = &*chain.store();
    let place = |hash: &Hash| -> Result<(u64, u32), ProveError> {
        tables::transaction_place(store, hash)?.ok_or(ProveError::NotFound)
    };
    let (height, record) = match subject {
        Subject::Transaction(hash) => {
            let (height, index) = place(&hash)?;
            (height, build::transaction(store, height, index)?)
        }
        Subject::Receipt(hash) => {
            let (height, index) = place(&hash)?;
            (height, build::receipt(store, height, index)?)
        }
        Subject::Event { height, index } => (height, build::event(store, height, index)?),
        Subject::State(key) => {
            let head = chain.read_head();
            let record = build::state(store, &head.tree, &key)?;
            (head.header.height, Some(record))
        }
    };
    Ok((height, record.ok_or(ProveError::NotFound)?))
}
