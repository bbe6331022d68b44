//! Signing and submitting.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lamplighter_types::report::key_rotation_message;
use lamplighter_types::{
    Action, Encoding, Hash, Receipt, SecretKey, SignedTransaction, Transaction, UsersAction,
};
use serde::Deserialize;

use crate::error::ClientError;
use crate::sending::Sending;
use crate::{Client, Signer};

/// How long a transaction may be on its way.
const EXPIRES_AFTER: Duration = Duration::from_secs(600);
/// How often a number that the ledger has seen already is replaced: another process may use the
/// same key.
const RENUMBERINGS_MAX: u32 = 3;

/// What a submission waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// Taken by a node.
    None,
    /// In a block.
    #[default]
    Committed,
    /// Under a certificate.
    Certified,
}

impl Wait {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Committed => "committed",
            Self::Certified => "certified",
        }
    }
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Submitted {
    pub transaction: Hash,
    /// Of its block; none while it waits.
    #[serde(default)]
    pub height: Option<u64>,
    /// Among the transactions of the block.
    #[serde(default)]
    pub index: Option<u32>,
    pub certified: bool,
    /// What it did: look at the outcome, a failed transaction is in the block too.
    #[serde(default)]
    pub receipt: Option<Receipt>,
}

impl Client {
    /// Signs an action with the next sequence number.
    pub async fn sign(&self, action: Action) -> Result<SignedTransaction, ClientError> {
        let Signer {
            account,
            secret,
            sequences,
        } = self.signer()?;
        let chain_id = self.chain_id().await?;
        if sequences.is_unknown() {
            sequences.begin_after(self.highest_sequence().await?);
        }
        let transaction = Transaction {
            sender: account.clone(),
            sequence: sequences.take()?,
            expires_ms: now_ms() + EXPIRES_AFTER.as_millis() as u64,
            action,
        };
        Ok(SignedTransaction::sign(
            &transaction,
            Encoding::Bincode,
            &chain_id,
            secret,
        ))
    }

    /// The action that puts `new` in the place of the key that this client signs with, for
    /// [`submit`](Self::submit): with the proof that whoever asks for it has the new key. When it
    /// has happened the old key is out of use for ever.
    pub async fn rotation(&self, new: &SecretKey) -> Result<Action, ClientError> {
        let Signer {
            account, secret, ..
        } = self.signer()?;
        let message = key_rotation_message(&self.chain_id().await?, account, &secret.public());
        Ok(Action::Users(UsersAction::RotateKey {
            new_key: new.public(),
            proof: new.sign(&message),
        }))
    }

    async fn highest_sequence(&self) -> Result<u64, ClientError> {
        match self.key(&self.signer()?.secret.public()).await {
            Ok(info) => Ok(info.value.highest_sequence),
            Err(error) if error.is_not_found() => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Signs and submits an action, and gives its receipt, which may tell of a failure. A number
    /// that is used is replaced; where there are several nodes, only when two of them say so.
    ///
    /// # Errors
    /// As [`submit_signed`](Self::submit_signed).
    pub async fn submit(&self, action: Action, wait: Wait) -> Result<Submitted, ClientError> {
        let mut renumberings = 0;
        loop {
            let signed = self.sign(action.clone()).await?;
            let submitted = self.submit_signed(&signed, wait).await;
            match submitted {
                Err(error) if is_about_sequence(&error) && renumberings < RENUMBERINGS_MAX => {
                    renumberings += 1;
                    self.signer()?
                        .sequences
                        .begin_after(self.highest_sequence().await?);
                }
                result => return result,
            }
        }
    }

    /// Submits what was signed before. The same bytes may be submitted any number of times.
    ///
    /// # Errors
    /// Refused by a second node too, taken by no node, or [`ClientError::Pending`] when it is not
    /// known whether it will happen.
    pub async fn submit_signed(
        &self,
        signed: &SignedTransaction,
        wait: Wait,
    ) -> Result<Submitted, ClientError> {
        let hash = signed.hash(&self.chain_id().await?);
        Sending::new(self, signed, hash, wait).run().await
    }
}

/// Whether a node says that the sequence number can't be used.
pub(crate) fn is_about_sequence(error: &ClientError) -> bool {
    let code = error.problem().map(|problem| problem.code.as_str());
    code.is_some_and(|code| code.starts_with("admission.sequence_"))
}

/// Unix time in ms; 0 if the clock is before 1970.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}
