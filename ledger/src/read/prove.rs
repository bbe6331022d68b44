//! Proofs of records under the newest certificate.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use lamplighter_state::tree::BegunProof;
use lamplighter_state::{StateError, View, prove as build, tables};
use lamplighter_types::Hash;
use lamplighter_types::proof::{ProofBundle, RecordProof, SetPath};

use super::wait::{WaitError, wait_certified};
use crate::blocking::Blocking;
use crate::chain::{Chain, Head};

/// The record to prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A transaction in its block.
    Transaction(Hash),
    /// The receipt of a transaction.
    Receipt(Hash),
    /// A receipt by its height and index: that of the block itself has no transaction.
    ReceiptAt { height: u64, index: u32 },
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
    #[error(
        "this node's newest certificate is of height {certified}: it can prove nothing to a \
         verifier with the validators of height {trusted}"
    )]
    Behind { certified: u64, trusted: u64 },
    #[error(
        "the changes of the validators since height {trusted} are more than one proof can have: \
         /v1/proofs/validators has them in pages"
    )]
    ManyChanges { trusted: u64 },
    #[error("the node can't read what the proof is made of")]
    State(#[from] StateError),
}

/// Proves a record as soon as its block is certified, for a verifier with the validators of the
/// height `trusted`. The record and its path are read at once, while the state is that of the
/// header; the header is proven after the wait.
pub(crate) async fn prove(
    chain: &Arc<Chain>,
    blocking: Blocking,
    subject: Subject,
    trusted: u64,
    within: Duration,
) -> Result<ProofBundle, ProveError> {
    check_not_behind(chain, trusted)?;
    // A transaction is proven with all the others of its block.
    let reader = Arc::clone(chain);
    let read = move || read_record(&reader, subject);
    let (height, record) = blocking.run(read).await?;
    // The header of a change is certified by the set before it: the verifier needs a later one.
    let above_trusted = if trusted == 0 { 0 } else { trusted + 1 };
    wait_certified(chain, height.max(above_trusted), within).await?;
    let certified = chain.certified_height();
    let store = chain.store();
    let make = move || build::bundle(&*store, record, height, certified, trusted);
    blocking.run(make).await.map_err(|error| match error {
        StateError::ManyChanges { trusted } => ProveError::ManyChanges { trusted },
        error => ProveError::State(error),
    })
}

/// Proves the values under several keys at one height, so that the bundles share the header. They
/// have the newest changes of the validators alone, at most `changes`.
pub(crate) async fn prove_states(
    chain: &Arc<Chain>,
    blocking: Blocking,
    keys: Vec<Vec<u8>>,
    changes: usize,
    within: Duration,
) -> Result<Vec<ProofBundle>, ProveError> {
    let reader = Arc::clone(chain);
    let read = move || read_states(&reader, &keys);
    let (height, records) = blocking.run(read).await?;
    wait_certified(chain, height, within).await?;
    let (store, certified) = (chain.store(), chain.certified_height());
    let make = move || build::recent_header_proof(&*store, height, certified, changes);
    let proof = blocking.run(make).await?;
    let bundles = records.into_iter();
    Ok(bundles
        .map(|record| build::with_record(record, proof.clone()))
        .collect())
}

/// Changes of the validators that lead on from those of the height `trusted`.
pub(crate) async fn set_path(
    chain: &Chain,
    blocking: Blocking,
    trusted: u64,
) -> Result<SetPath, ProveError> {
    check_not_behind(chain, trusted)?;
    let (store, certified) = (chain.store(), chain.certified_height());
    let find = move || build::set_path(&*store, trusted, certified);
    Ok(blocking.run(find).await?)
}

/// Checks that this node knows what follows the validators of the height `trusted`.
fn check_not_behind(chain: &Chain, trusted: u64) -> Result<(), ProveError> {
    let certified = chain.certified_height();
    if certified < trusted {
        return Err(ProveError::Behind { certified, trusted });
    }
    Ok(())
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
        Subject::ReceiptAt { height, index } => (height, build::receipt(store, height, index)?),
        Subject::Event { height, index } => (height, build::event(store, height, index)?),
        Subject::State(key) => {
            let (height, mut records) = read_states(chain, &[key])?;
            (height, records.pop())
        }
    };
    Ok((height, record.ok_or(ProveError::NotFound)?))
}

/// The newest height, and the values under keys in the state of that height with their paths. The
/// disk is read when the head is free again: a block that waits for it does not wait for the disk.
fn read_states(chain: &Chain, keys: &[Vec<u8>]) -> Result<(u64, Vec<RecordProof>), StateError> {
    let begin = |head: &Head| {
        let begun = keys.iter().map(|key| head.tree.begin_proof(key));
        let begun: Vec<_> = begun.collect::<Result<_, _>>()?;
        Ok::<_, StateError>((head.header.height, chain.consistent_view()?, begun))
    };
    let complete = |(height, view, begun): (u64, View, Vec<BegunProof>)| {
        let begun = keys.iter().zip(begun);
        let records = begun.map(|(key, begun)| build::complete_state(&**view.store(), key, begun));
        Ok((height, records.collect::<Result<_, StateError>>()?))
    };
    let begun = begin(&chain.read_head())?;
    match complete(begun) {
        // A block was written meanwhile, and another page in the place of one of these.
        Err(StateError::Mismatch { .. }) => {
            let head = chain.read_head();
            complete(begin(&head)?)
        }
        done => done,
    }
}
