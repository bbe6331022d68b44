//! Admission of transactions to a block: the key is registered and in use, the sequence number is
//! new, and the transaction has not expired.
//!
//! It is checked twice: by the mempool against the newest state, and by execution, whose answer
//! counts. A transaction that is not admitted leaves no trace.

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::limits::EXPIRES_AFTER_MS_MAX;
use lamplighter_types::protocol::{NEW_VARIANTS, NewVariant, required_version};
use lamplighter_types::{
    Account, Id, PublicKey, ReplayWindow, SequenceError, Transaction, Verified,
};

use crate::refusal::refusals;
use crate::users::keys;
use crate::{Reader, governance};

refusals! {
    /// Why a transaction is left out of the block.
    pub enum AdmissionError [] {
        UnknownKey { key: PublicKey } = "admission.unknown_key",
            "no account has the key {key}";
        KeyRevoked { key: PublicKey } = "admission.key_revoked",
            "the key {key} was revoked";
        NotYourKey { key: PublicKey, sender: Id } = "admission.not_your_key",
            "the key {key} is not one of {sender}";
        AccountDisabled { account: Id } = "admission.account_disabled",
            "the account {account} is disabled";
        Expired { expires_ms: u64, time_ms: u64 } = "admission.expired",
            "the transaction expired at {expires_ms}, it is {time_ms}";
        ExpiresTooLate { latest_ms: u64 } = "admission.expires_too_late",
            "expires_ms may be at most {latest_ms}";
        ProtocolVersion { needed: u32, in_force: u32 } = "admission.protocol_version",
            "the transaction needs protocol version {needed}, {in_force} is in force";
        SequenceUsed { sequence: u64 } = "admission.sequence_used",
            "the sequence number {sequence} was used before";
        SequenceTooOld { sequence: u64, lowest: u64 } = "admission.sequence_too_old",
            "the sequence number {sequence} is below the window, which begins at {lowest}";
        SequenceOutOfRange = "admission.sequence_out_of_range",
            "sequence numbers begin at 1 and end at 9007199254740991 (2^53 - 1)";
        SequenceTooFar { sequence: u64, highest: u64 } = "admission.sequence_too_far",
            "the sequence number {sequence} is more than 2^32 above the highest one used, \
             {highest}";
    }
}

impl From<SequenceError> for AdmissionError {
    fn from(error: SequenceError) -> Self {
        match error {
            SequenceError::Used { sequence } => Self::SequenceUsed { sequence },
            SequenceError::TooOld { sequence, lowest } => Self::SequenceTooOld { sequence, lowest },
            SequenceError::OutOfRange => Self::SequenceOutOfRange,
            SequenceError::TooFar { sequence, highest } => {
                Self::SequenceTooFar { sequence, highest }
            }
        }
    }
}

/// The sender's account, if the transaction may come into a block of the time `time_ms`.
///
/// # Errors
/// The outer one when the state can't be read, the inner one when the transaction is refused.
pub fn admit(
    overlay: &Overlay,
    transaction: &Verified<Transaction>,
    time_ms: u64,
) -> Result<Result<Account, AdmissionError>, StateError> {
    let examined = examine(overlay, transaction, time_ms)?;
    Ok(examined.map(|(account, _)| account))
}

/// Checks admission as [`admit`] does, over any reader, and returns the replay window of the key
/// too.
pub fn examine(
    reader: &impl Reader,
    transaction: &Verified<Transaction>,
    time_ms: u64,
) -> Result<Result<(Account, ReplayWindow), AdmissionError>, StateError> {
    let key = transaction.envelope().key;
    let Transaction {
        sender,
        sequence,
        expires_ms,
        action: _,
    } = transaction.get();
    let (account, window) = match standing(reader, &key, sender)? {
        Ok(standing) => standing,
        Err(error) => return Ok(Err(error)),
    };
    if let Err(error) = in_time(*expires_ms, time_ms) {
        return Ok(Err(error));
    }
    if let Err(error) = check_version(reader, transaction.get(), NEW_VARIANTS)? {
        return Ok(Err(error));
    }
    match window.check(*sequence) {
        Ok(()) => Ok(Ok((account, window))),
        Err(error) => Ok(Err(error.into())),
    }
}

/// The account and the replay window of a key, if the account may send with it now. This part of
/// admission is the same for all transactions of the key.
///
/// # Errors
/// Those of [`admit`].
pub fn standing(
    reader: &impl Reader,
    key: &PublicKey,
    sender: &Id,
) -> Result<Result<(Account, ReplayWindow), AdmissionError>, StateError> {
    let key = *key;
    let Some(record) = reader.get(&keys::key(&key))? else {
        return Ok(Err(AdmissionError::UnknownKey { key }));
    };
    if record.revoked {
        return Ok(Err(AdmissionError::KeyRevoked { key }));
    }
    if record.account != *sender {
        return Ok(Err(AdmissionError::NotYourKey {
            key,
            sender: sender.clone(),
        }));
    }
    let account = reader
        .get(&keys::account(sender))?
        .ok_or_else(|| StateError::Missing {
            what: format!("the account {sender} of a key"),
        })?;
    if account.disabled {
        return Ok(Err(AdmissionError::AccountDisabled {
            account: account.account,
        }));
    }
    let window = reader.get(&keys::replay_window(&key))?.unwrap_or_default();
    Ok(Ok((account, window)))
}

/// Refuses a transaction with variants of a later protocol version: older nodes, which can't decode
/// it, leave it out too. The state is read only if there are such variants.
pub(crate) fn check_version(
    reader: &impl Reader,
    transaction: &Transaction,
    new: &[NewVariant],
) -> Result<Result<(), AdmissionError>, StateError> {
    let needed = required_version(transaction, new);
    if needed > 1 {
        let in_force = governance::protocol(reader)?.version;
        if needed > in_force {
            return Ok(Err(AdmissionError::ProtocolVersion { needed, in_force }));
        }
    }
    Ok(Ok(()))
}

fn in_time(expires_ms: u64, time_ms: u64) -> Result<(), AdmissionError> {
    if expires_ms <= time_ms {
        return Err(AdmissionError::Expired {
            expires_ms,
            time_ms,
        });
    }
    let latest_ms = time_ms.saturating_add(EXPIRES_AFTER_MS_MAX);
    if expires_ms > latest_ms {
        return Err(AdmissionError::ExpiresTooLate { latest_ms });
    }
    Ok(())
}
