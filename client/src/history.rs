//! Transactions in blocks, and the histories of records.

use lamplighter_types::wire::{HistoryEntry, Page, TransactionName, TransactionRecord};
use lamplighter_types::{AlarmId, ConfigTarget, Id};

use crate::Client;
use crate::error::ClientError;
use crate::read::{Read, config_query, escape};

/// The record of a history.
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

impl Client {
    /// A transaction in a block, named by its hash or its place, decoded, with its receipt.
    pub async fn transaction(
        &self,
        name: impl Into<TransactionName>,
    ) -> Result<TransactionRecord, ClientError> {
        let name = name.into();
        Ok(self.get(&format!("/v1/transactions/{name}")).await?.value)
    }

    /// The changes of a record, newest first.
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
