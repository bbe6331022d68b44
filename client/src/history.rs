//! Who did what, and when: transactions in blocks, and the changes of records.

use lamplighter_types::{Action, AlarmId, ConfigTarget, Hash, Id, PublicKey, Receipt};
use serde::{Deserialize, Serialize};

use crate::Client;
use crate::error::ClientError;
use crate::read::{Page, Read, config_query, escape};

/// A record whose changes are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistoryOf {
    Device(Id),
    Release(Id),
    Rollout(Id),
    User(Id),
    Organization(Id),
    /// The desired document of a target.
    Config(ConfigTarget),
    Alarm(AlarmId),
    Proposal(Id),
    /// The ledger itself: its nodes, policies and protocol.
    Governance,
}

impl HistoryOf {
    fn path(&self) -> String {
        match self {
            Self::Device(device) => format!("/v1/devices/{device}/history?"),
            Self::Release(release) => format!("/v1/firmware/{release}/history?"),
            Self::Rollout(rollout) => format!("/v1/rollouts/{rollout}/history?"),
            Self::User(account) => format!("/v1/users/{account}/history?"),
            Self::Organization(name) => format!("/v1/organizations/{name}/history?"),
            Self::Config(target) => format!("/v1/config/history?{}&", config_query(target)),
            Self::Alarm(AlarmId { device, sequence }) => {
                format!("/v1/alarms/{device}/{sequence}/history?")
            }
            Self::Proposal(proposal) => format!("/v1/proposals/{proposal}/history?"),
            Self::Governance => "/v1/governance/history?".to_owned(),
        }
    }
}

/// One change of a record: who made it, when, and what it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// `height.index` of the receipt.
    pub cursor: String,
    pub height: u64,
    /// Block time, Unix ms.
    pub time_ms: u64,
    /// The account that signed; none when the block's time alone was the cause.
    pub author: Option<Id>,
    /// The key that signed; none as the author is.
    pub key: Option<PublicKey>,
    /// Zero when the block's time alone was the cause.
    pub transaction: Hash,
    /// With the notifications about the record only.
    pub receipt: Receipt,
}

/// What a transaction in a block says, decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecodedTransaction {
    pub transaction: Hash,
    /// The account that acts.
    pub sender: Id,
    /// The key that signed.
    pub key: PublicKey,
    pub sequence: u64,
    /// Unix time in ms from which on it could no longer happen.
    pub expires_ms: u64,
    pub action: Action,
}

/// A transaction in a block, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionRecord {
    pub transaction: Hash,
    /// The account that acts.
    pub sender: Id,
    /// The key that signed.
    pub key: PublicKey,
    pub sequence: u64,
    /// Unix time in ms from which on it could no longer happen.
    pub expires_ms: u64,
    pub action: Action,
    /// Block time, Unix ms.
    pub time_ms: u64,
    /// Of its block.
    pub height: u64,
    /// Among the transactions of the block.
    pub index: u32,
    pub certified: bool,
    /// What it did: look at the outcome, a failed transaction is in the block too.
    pub receipt: Receipt,
}

impl Client {
    /// A transaction in a block, decoded, and what became of it.
    pub async fn transaction(&self, hash: &Hash) -> Result<TransactionRecord, ClientError> {
        Ok(self.get(&format!("/v1/transactions/{hash}")).await?.value)
    }

    /// Who changed a record, when and how, newest first.
    pub async fn history(
        &self,
        of: &HistoryOf,
        after: Option<&str>,
    ) -> Result<Read<Page<HistoryEntry>>, ClientError> {
        let after = after.map(|after| format!("after={}", escape(after)));
        let path = of.path() + after.as_deref().unwrap_or_default();
        self.get(&path).await
    }
}
