//! Signing and submitting.

use std::time::Duration;

use lamplighter_system::unix_ms;
use lamplighter_types::wire::{KeyInfo, Submitted, Wait, problem};
use lamplighter_types::{
    Action, Encoding, Hash, KeyPurpose, PublicKey, SecretKey, Signature, SignedTransaction,
    Transaction, UsersAction,
};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::calls::AttemptTimeouts;
use crate::error::ClientError;
use crate::read::key_call;
use crate::submission::Submission;
use crate::{Client, Signer};

/// Time from signing to expiry.
const EXPIRES_AFTER: Duration = Duration::from_secs(600);
/// A sequence number that the ledger has seen already is replaced this many times: another process
/// may use the same key.
const RENUMBERINGS_MAX: u32 = 3;
/// Nodes whose word about the highest sequence number is waited for, where there are so many: the
/// second highest of three is not the lie of one.
const SEQUENCE_ANSWERS: usize = 3;

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
            sequences.start_after(self.highest_sequence().await?);
        }
        let transaction = Transaction {
            sender: account.clone(),
            sequence: sequences.next()?,
            expires_ms: unix_ms() + EXPIRES_AFTER.as_millis() as u64,
            action,
        };
        Ok(SignedTransaction::sign(
            &transaction,
            Encoding::Bincode,
            &chain_id,
            secret,
        ))
    }

    /// The action that replaces the key of this client by `new`, for [`submit`](Self::submit). It
    /// carries a signature of the new key, which proves that the sender has it. Afterwards the old
    /// key can never be used again.
    pub async fn rotation(&self, new: &SecretKey) -> Result<Action, ClientError> {
        Ok(Action::Users(UsersAction::RotateKey {
            new_key: new.public(),
            proof: self.possession(new).await?,
        }))
    }

    /// The action that adds the key `new` to the account of this client, for
    /// [`submit`](Self::submit).
    pub async fn addition(&self, new: &SecretKey, label: String) -> Result<Action, ClientError> {
        Ok(Action::Users(UsersAction::AddKey {
            key: new.public(),
            label,
            proof: self.possession(new).await?,
        }))
    }

    /// The proof that the holder of `new` wants it for the account of this client.
    async fn possession(&self, new: &SecretKey) -> Result<Signature, ClientError> {
        let account = &self.signer()?.account;
        let chain_id = self.chain_id().await?;
        Ok(new.prove(KeyPurpose::Account, &chain_id, account))
    }

    /// The highest sequence number that the ledger has seen of this client's key. One node could
    /// lead the client astray, so of three answers the second highest is taken.
    async fn highest_sequence(&self) -> Result<u64, ClientError> {
        let key = self.signer()?.secret.public();
        let nodes = self.inner.nodes.list.len();
        if nodes >= SEQUENCE_ANSWERS {
            let until = Instant::now() + self.silence_max();
            let mut answers = JoinSet::new();
            for index in self.inner.nodes.in_turn() {
                let client = self.clone();
                answers.spawn(async move { client.sequence_at(index, &key, until).await });
            }
            let mut known = Vec::new();
            while let Some(answer) = answers.join_next().await {
                known.extend(answer.ok().flatten());
                if known.len() == SEQUENCE_ANSWERS {
                    known.sort_unstable();
                    return Ok(known[SEQUENCE_ANSWERS - 2]);
                }
            }
        }
        match self.key(&key).await {
            Ok(info) => Ok(info.value.highest_sequence),
            Err(error) if error.is_not_found() => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// The highest sequence number of the key at one node, if it answers.
    async fn sequence_at(&self, index: usize, key: &PublicKey, until: Instant) -> Option<u64> {
        let answer = self
            .attempt(index, &key_call(key), AttemptTimeouts::until(until))
            .await;
        match answer.map(|answer| answer.json::<KeyInfo>()) {
            Ok(info) => Some(info.ok()?.highest_sequence),
            Err((error, _)) => error.is_not_found().then_some(0),
        }
    }

    /// Signs and submits an action, and returns its receipt, which may be one of a failure. A
    /// sequence number that is already used is replaced; where there are several nodes, only when
    /// two of them refuse it.
    ///
    /// # Errors
    /// As [`submit_signed`](Self::submit_signed).
    pub async fn submit(&self, action: Action, wait: Wait) -> Result<Submitted, ClientError> {
        self.submit_noted(action, wait, |_, _| {}).await
    }

    /// Submits an action as [`submit`](Self::submit) does. `note` gets each signed transaction with
    /// its hash before it is sent, so that its bytes can be kept and sent again whatever happens.
    ///
    /// # Errors
    /// As [`submit_signed`](Self::submit_signed).
    pub async fn submit_noted(
        &self,
        action: Action,
        wait: Wait,
        mut note: impl FnMut(&SignedTransaction, Hash),
    ) -> Result<Submitted, ClientError> {
        let mut renumberings = 0;
        loop {
            let signed = self.sign(action.clone()).await?;
            let hash = signed.hash(&self.chain_id().await?);
            note(&signed, hash);
            let submitted = self.submit_signed(&signed, wait).await;
            match submitted {
                Err(error) if is_about_sequence(&error) && renumberings < RENUMBERINGS_MAX => {
                    renumberings += 1;
                    self.signer()?
                        .sequences
                        .start_after(self.highest_sequence().await?);
                }
                result => return result,
            }
        }
    }

    /// Submits a signed transaction. The same bytes may be submitted any number of times.
    ///
    /// # Errors
    /// The refusal, if a second node refused it too or there is but one; the last error, if no node
    /// received it; or [`ClientError::Pending`] when it is not known whether it will happen: it was
    /// sent, or one node alone refused it while the others did not answer.
    pub async fn submit_signed(
        &self,
        signed: &SignedTransaction,
        wait: Wait,
    ) -> Result<Submitted, ClientError> {
        let hash = signed.hash(&self.chain_id().await?);
        // Everything below is in one future otherwise, on the stack of whoever waits for it.
        Box::pin(Submission::new(self, signed, hash, wait).run()).await
    }
}

/// True for the refusal of a sequence number.
pub(crate) fn is_about_sequence(error: &ClientError) -> bool {
    let problem = error.problem();
    problem.is_some_and(|p| p.code.starts_with(problem::SEQUENCE_CODES))
}
