//! What becomes of transactions that wait in the pool when the state changes under them: each that
//! can't be in a block any more is answered at once, on whatever node it waits. A block answers
//! those that it has; another transaction with the same number or a key that was revoked decides
//! over those that it has not. An account that was disabled may be enabled again: it decides only
//! over those that never left this node.

use std::collections::BTreeMap;

use lamplighter_contracts::admission::{self, AdmissionError};
use lamplighter_contracts::tables::Table;
use lamplighter_contracts::users;
use lamplighter_state::{Overlay, StateError};
use lamplighter_types::{Id, PublicKey, SequenceError};

use crate::chain::Chain;
use crate::machine::{Executed, commitment};
use crate::pool::{Pending, Pool};
use crate::ticket::Verdict;

/// Looks anew at what waits of the keys that a block touched.
pub(crate) fn after_block(chain: &Chain, pool: &Pool, block: &Executed) -> Result<(), StateError> {
    for (key, sender) in touched(pool, block) {
        if pool.has_key(&key) {
            of_key(chain, pool, &key, &sender)?;
        }
    }
    Ok(())
}

/// Looks anew at everything that waits: an image has replaced the chain by a newer one.
pub(crate) fn all(chain: &Chain, pool: &Pool) -> Result<(), StateError> {
    for (key, _) in pool.keys() {
        for transaction in pool.of_key(&key, |_| true) {
            one(chain, pool, &transaction)?;
        }
    }
    Ok(())
}

/// Answers a transaction if it is in the chain already, or this node sees that it can't come into
/// it.
pub(crate) fn one(chain: &Chain, pool: &Pool, transaction: &Pending) -> Result<(), StateError> {
    if let Some(refusal) = refusal(chain, transaction)? {
        refuse(chain, pool, transaction, refusal)?;
    }
    Ok(())
}

fn refusal(chain: &Chain, transaction: &Pending) -> Result<Option<AdmissionError>, StateError> {
    let time_ms = chain.head().timestamp_ms;
    let overlay = Overlay::new(chain.newest_view());
    Ok(admission::admit(&overlay, transaction, time_ms)?.err())
}

/// The keys whose numbers, record or account the block changed, with their accounts.
fn touched(pool: &Pool, block: &Executed) -> BTreeMap<PublicKey, Id> {
    let signed = block.transactions.iter();
    let signed = signed.map(|t| (t.envelope().key, t.get().sender.clone()));
    let mut touched: BTreeMap<_, _> = signed.collect();
    let writes = &block.changes.writes;
    let of_users = [Table::Key as u8, Table::Account as u8];
    let names_users = |key: &[u8]| key.first().is_some_and(|table| of_users.contains(table));
    // Few blocks do: they register, revoke or disable somebody.
    if writes.keys().any(|key| names_users(key)) {
        touched.extend(pool.keys().into_iter().filter(|(key, sender)| {
            let (key, account) = (users::keys::key(key), users::keys::account(sender));
            writes.contains_key(key.as_bytes()) || writes.contains_key(account.as_bytes())
        }));
    }
    touched
}

/// What is the same for all transactions of a key is read once: a thousand may wait.
fn of_key(chain: &Chain, pool: &Pool, key: &PublicKey, sender: &Id) -> Result<(), StateError> {
    let standing = admission::standing(&chain.newest_view(), key, sender)?;
    let refusal = |sequence| match &standing {
        Err(refusal) => Some(refusal.clone()),
        Ok((_, window)) => window.check(sequence).err().map(AdmissionError::from),
    };
    for transaction in pool.of_key(key, |sequence| refusal(sequence).is_some()) {
        if let Some(refusal) = refusal(transaction.get().sequence) {
            refuse(chain, pool, &transaction, refusal)?;
        }
    }
    Ok(())
}

/// What is not for good is not said of a transaction that ever left this node: a block with it may
/// come after one that lets it in again, whoever has taken or refused it since.
fn refuse(
    chain: &Chain,
    pool: &Pool,
    transaction: &Pending,
    refusal: AdmissionError,
) -> Result<(), StateError> {
    let (hash, for_good) = (transaction.hash(), is_for_good(&refusal));
    match verdict(chain, transaction, refusal)? {
        refused @ Verdict::Refused(_) if !for_good => pool.resolve_unsent(&hash, &refused),
        verdict => pool.resolve(&hash, &verdict),
    }
    Ok(())
}

/// A number that is used may have been used by this very transaction: its receipt is the answer.
fn verdict(
    chain: &Chain,
    transaction: &Pending,
    refusal: AdmissionError,
) -> Result<Verdict, StateError> {
    Ok(match commitment(chain, &transaction.hash())? {
        Some(commitment) => Verdict::Committed(commitment),
        None => Verdict::Refused(refusal),
    })
}

/// Whether no block to come can change it.
fn is_for_good(refusal: &AdmissionError) -> bool {
    match refusal {
        AdmissionError::KeyRevoked { .. }
        | AdmissionError::NotYourKey { .. }
        | AdmissionError::Expired { .. }
        | AdmissionError::Sequence(
            SequenceError::Used { .. } | SequenceError::TooOld { .. } | SequenceError::OutOfRange,
        ) => true,
        AdmissionError::UnknownKey { .. }
        | AdmissionError::AccountDisabled { .. }
        | AdmissionError::ExpiresTooLate { .. }
        | AdmissionError::ProtocolVersion { .. }
        | AdmissionError::Sequence(SequenceError::TooFar { .. }) => false,
    }
}
