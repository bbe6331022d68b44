//! Signing and submitting.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lamplighter_types::{Action, Encoding, Hash, Receipt, SignedTransaction, Transaction, codec};
use reqwest::Method;
use serde::Deserialize;
use tokio::time::Instant;

use crate::calls::Call;
use crate::error::ClientError;
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
    fn name(self) -> &'static str {
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
            sequences.at_least(self.highest_sequence().await?);
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

    async fn highest_sequence(&self) -> Result<u64, ClientError> {
        match self.key(&self.signer()?.secret.public()).await {
            Ok(info) => Ok(info.value.highest_sequence),
            Err(error) if error.is_not_found() => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Signs and submits an action, and gives its receipt, which may tell of a failure.
    ///
    /// # Errors
    /// Refused by a node, or not in a block before the deadline.
    pub async fn submit(&self, action: Action, wait: Wait) -> Result<Submitted, ClientError> {
        let mut renumberings = 0;
        loop {
            let signed = self.sign(action.clone()).await?;
            let submitted = self.submit_signed(&signed, wait).await;
            let used = |error: &ClientError| {
                let code = error.problem().map(|problem| problem.code.as_str());
                code.is_some_and(|code| code.starts_with("admission.sequence_"))
            };
            match submitted {
                Err(error) if used(&error) && renumberings < RENUMBERINGS_MAX => {
                    renumberings += 1;
                    self.signer()?
                        .sequences
                        .at_least(self.highest_sequence().await?);
                }
                result => return result,
            }
        }
    }

    /// Submits what was signed before. The same bytes may be submitted any number of times.
    ///
    /// # Errors
    /// Refused, unreachable, or [`ClientError::Pending`] when the deadline came before the block.
    pub async fn submit_signed(
        &self,
        signed: &SignedTransaction,
        wait: Wait,
    ) -> Result<Submitted, ClientError> {
        let expected = signed.hash(&self.chain_id().await?);
        let begun = Instant::now();
        let until = begun + self.inner.config.deadline;
        let body: bytes::Bytes = codec::encode(signed).into();
        loop {
            let left_ms = until.saturating_duration_since(Instant::now()).as_millis();
            let path = format!("/v1/transactions?wait={}&timeout_ms={left_ms}", wait.name());
            let call = Call::new(Method::POST, path).octets(body.clone());
            let submitted: Submitted = self.call(call).await?.json()?;
            if submitted.transaction != expected {
                return Err(ClientError::OtherTransaction {
                    expected,
                    got: submitted.transaction,
                });
            }
            if let Some(receipt) = &submitted.receipt
                && receipt.transaction != expected
            {
                let got = receipt.transaction;
                return Err(ClientError::OtherTransaction { expected, got });
            }
            if submitted.receipt.is_some() || wait == Wait::None {
                return Ok(submitted);
            }
            if Instant::now() >= until {
                let waited = begun.elapsed();
                return Err(ClientError::Pending {
                    transaction: expected,
                    waited,
                });
            }
        }
    }

    /// What became of a transaction, as a node says.
    pub async fn transaction(&self, hash: &Hash) -> Result<Submitted, ClientError> {
        self.call(Call::get(format!("/v1/transactions/{hash}")))
            .await?
            .json()
    }
}

/// Unix time in ms; 0 if the clock is before 1970.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}
