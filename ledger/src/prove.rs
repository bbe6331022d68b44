//! Proofs of records under the newest certificate.

use std::time::Duration;

use lamplighter_state::{StateError, prove as build, tables};
use lamplighter_types::Hash;
use lamplighter_types::proof::{ProofBundle, RecordProof};

use crate::handle::{Handle, WaitError};

/// What is to be proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// That a transaction is in its block.
    Transaction(Hash),
    /// What a transaction did.
    Receipt(Hash),
    /// An event record: height of its block, and its index among the events of the block.
    Event { height: u64, index: u32 },
    /// What the state has under a key now, or that it has nothing.
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

/// The part of a proof that depends on the moment: taken while the state is still the one of the
/// header.
struct Captured {
    height: u64,
    record: RecordProof,
}

pub(crate) async fn prove(
    handle: &Handle,
    subject: Subject,
    within: Duration,
) -> Result<ProofBundle, ProveError> {
    let Captured { height, record } = capture(handle, subject)?;
    handle.wait_certified(height, within).await?;
    let chain = &handle.0.chain;
    let certified = chain.certified_height();
    Ok(build::bundle(&*chain.store(), record, height, certified)?)
}

/// One head for all keys, so that the bundles share it.
pub(crate) async fn prove_states(
    handle: &Handle,
    keys: &[Vec<u8>],
    within: Duration,
) -> Result<Vec<ProofBundle>, ProveError> {
    let chain = &handle.0.chain;
    let (height, records) = {
        let head = chain.read_head();
        let records: Result<Vec<_>, _> = keys
            .iter()
            .map(|key| build::state(&*chain.store(), &head.tree, key))
            .collect();
        (head.header.height, records?)
    };
    handle.wait_certified(height, within).await?;
    let certified = chain.certified_height();
    let bundles = records
        .into_iter()
        .map(|record| build::bundle(&*chain.store(), record, height, certified));
    Ok(bundles.collect::<Result<_, _>>()?)
}

fn capture(handle: &Handle, subject: Subject) -> Result<Captured, ProveError> {
    let chain = &handle.0.chain;
    let store = &*chain.store();
    let place = |hash: &Hash| -> Result<(u64, u32), ProveError> {
        tables::transaction_place(store, hash)?.ok_or(ProveError::NotFound)
    };
    match subject {
        Subject::Transaction(hash) => {
            let (height, index) = place(&hash)?;
            captured(height, build::transaction(store, height, index)?)
        }
        Subject::Receipt(hash) => {
            let (height, index) = place(&hash)?;
            captured(height, build::receipt(store, height, index)?)
        }
        Subject::Event { height, index } => captured(height, build::event(store, height, index)?),
        Subject::State(key) => {
            let head = chain.read_head();
            let record = build::state(store, &head.tree, &key)?;
            Ok(Captured {
                height: head.header.height,
                record,
            })
        }
    }
}

fn captured(height: u64, record: Option<RecordProof>) -> Result<Captured, ProveError> {
    Ok(Captured {
        height,
        record: record.ok_or(ProveError::NotFound)?,
    })
}
