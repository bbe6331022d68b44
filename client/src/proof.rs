//! Proofs: fetched, checked from the trusted validators, and compared with the record that the node
//! sends beside them.

use std::sync::Arc;

use lamplighter_types::proof::{
    BlockPart, ProofBundle, ProofFile, Proven, ProvenRecord, ProvenSubject, Statement,
};
use lamplighter_types::{AlarmId, ConfigTarget, Hash, Id, Receipt, StateKey};
use tokio::time::Instant;

use crate::Client;
use crate::calls::{AttemptTimeouts, Call, NodeResponse};
use crate::error::ClientError;
use crate::read::config_query;
use crate::trust::{TrustAnchor, off_the_async_threads};

/// The subject of a proof.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A transaction in its block.
    Transaction(Hash),
    /// The receipt of a transaction.
    Receipt(Hash),
    /// Receipt `index` of the block at `height`: that of the block itself has no transaction.
    ReceiptAt {
        height: u64,
        index: u32,
    },
    Device(Id),
    /// The firmware and the counters of a device.
    DeviceState(Id),
    Release(Id),
    Rollout(Id),
    Deployment {
        rollout: Id,
        device: Id,
    },
    User(Id),
    Organization(Id),
    Alarm(AlarmId),
    /// The desired document of a target.
    Config(ConfigTarget),
    /// Event `index` of the block at `height`.
    Event {
        height: u64,
        index: u32,
    },
}

impl Subject {
    fn path(&self) -> String {
        match self {
            Self::Transaction(hash) => format!("/v1/proofs/transactions/{hash}"),
            Self::Receipt(hash) => format!("/v1/proofs/transactions/{hash}?receipt=true"),
            Self::ReceiptAt { height, index } => format!("/v1/proofs/receipts/{height}/{index}"),
            Self::Device(device) => format!("/v1/devices/{device}?proof=true"),
            Self::DeviceState(device) => format!("/v1/devices/{device}/state?proof=true"),
            Self::Release(release) => format!("/v1/firmware/{release}?proof=true"),
            Self::Rollout(rollout) => format!("/v1/rollouts/{rollout}?proof=true"),
            Self::Deployment { rollout, device } => {
                format!("/v1/deployments/{rollout}/{device}?proof=true")
            }
            Self::User(account) => format!("/v1/users/{account}?proof=true"),
            Self::Organization(name) => format!("/v1/organizations/{name}?proof=true"),
            Self::Alarm(AlarmId { device, sequence }) => {
                format!("/v1/alarms/{device}/{sequence}?proof=true")
            }
            Self::Config(target) => match config_query(target) {
                target if target.is_empty() => "/v1/config?proof=true".to_owned(),
                target => format!("/v1/config?{target}&proof=true"),
            },
            Self::Event { height, index } => format!("/v1/proofs/events/{height}/{index}"),
        }
    }

    /// The path for a verifier with the validators of a height.
    fn path_from(&self, trusted: u64) -> String {
        let path = self.path();
        match trusted {
            0 => path,
            _ if path.contains('?') => format!("{path}&trusted={trusted}"),
            _ => format!("{path}?trusted={trusted}"),
        }
    }

    /// The key of the subject in the state; `None` for a part of a block.
    fn key(&self) -> Option<StateKey> {
        Some(match self.clone() {
            Self::Transaction(_)
            | Self::Receipt(_)
            | Self::ReceiptAt { .. }
            | Self::Event { .. } => return None,
            Self::Device(device) => StateKey::Device { device },
            Self::DeviceState(device) => StateKey::DeviceState { device },
            Self::Release(release) => StateKey::Release { release },
            Self::Rollout(rollout) => StateKey::Rollout { rollout },
            Self::Deployment { rollout, device } => StateKey::Deployment { rollout, device },
            Self::User(account) => StateKey::Account { account },
            Self::Organization(organization) => StateKey::Organization { organization },
            Self::Alarm(AlarmId { device, sequence }) => StateKey::Alarm { device, sequence },
            Self::Config(target) => StateKey::DesiredConfig { target },
        })
    }

    /// True if the statement is about this subject.
    fn matches(&self, proven: &Statement) -> bool {
        match (&proven.subject, self) {
            (ProvenSubject::State(key), subject) => subject.key().as_ref() == Some(key),
            (ProvenSubject::Block(part), subject) => match (part, subject) {
                (BlockPart::Transaction { transaction, .. }, Self::Transaction(requested))
                | (BlockPart::Receipt { transaction, .. }, Self::Receipt(requested)) => {
                    transaction == requested
                }
                (
                    BlockPart::Event { index, .. },
                    Self::Event {
                        height,
                        index: requested,
                    },
                )
                | (
                    BlockPart::Receipt { index, .. },
                    Self::ReceiptAt {
                        height,
                        index: requested,
                    },
                ) => proven.height == *height && *index == u64::from(*requested),
                _ => false,
            },
        }
    }
}

impl Client {
    /// Fetches a proof and checks it from the validators that are trusted. If they are so old that
    /// the proof does not lead on from them, their changes are fetched first. The record that the
    /// node sends beside the proof must be the proven one. [`Statement::of`] describes what is
    /// proven.
    ///
    /// # Errors
    /// No genesis file, no such record, or a proof that does not hold or has another subject.
    pub async fn proof(&self, subject: &Subject) -> Result<(ProofBundle, Proven), ClientError> {
        match self.fetch_proof(subject).await {
            Err(error) if error.lacks_changes() => {
                self.follow_validators().await?;
                self.fetch_proof(subject).await
            }
            fetched => fetched,
        }
    }

    /// Fetches a proof that needs nothing but the genesis file, whatever newer validators this
    /// client trusts, and checks it from there: for somebody else.
    ///
    /// # Errors
    /// Those of [`proof`](Self::proof); the validators changed so often that one proof can't show
    /// it.
    pub async fn proof_from_genesis(
        &self,
        subject: &Subject,
    ) -> Result<(ProofBundle, Proven), ClientError> {
        let genesis = self.inner.config.genesis.as_ref();
        let genesis = genesis.ok_or(ClientError::NoGenesis)?;
        let anchor = TrustAnchor::in_memory(genesis.into());
        self.fetch_proof_from(&Arc::new(anchor), subject).await
    }

    async fn fetch_proof(&self, subject: &Subject) -> Result<(ProofBundle, Proven), ClientError> {
        let anchor = self.trust_anchor()?.clone();
        self.fetch_proof_from(&anchor, subject).await
    }

    async fn fetch_proof_from(
        &self,
        anchor: &Arc<TrustAnchor>,
        subject: &Subject,
    ) -> Result<(ProofBundle, Proven), ClientError> {
        let call = Call::get(subject.path_from(anchor.current().height));
        let verify = async |answer| self.checked_proof(anchor, subject, answer).await;
        Box::pin(self.call_checked(call.confirming_refusals(), verify)).await
    }

    /// Checks a proof that a node sent, and takes up in its standing that it holds.
    async fn checked_proof(
        &self,
        anchor: &Arc<TrustAnchor>,
        subject: &Subject,
        answer: NodeResponse,
    ) -> Result<(ProofBundle, Proven), ClientError> {
        let verified = match verify(anchor, subject, &answer).await {
            // The validators may have changed since the call.
            Err(error) if error.lacks_changes() => {
                Box::pin(self.follow_validators()).await?;
                verify(anchor, subject, &answer).await
            }
            verified => verified,
        };
        if let Ok((_, proven)) = &verified {
            let standings = &self.inner.nodes.standings;
            standings.proved(answer.index, proven.height);
        }
        verified
    }

    /// The receipt of a transaction, proven by one node, which has reported it.
    pub(crate) async fn proven_receipt_at(
        &self,
        index: usize,
        hash: &Hash,
        until: Instant,
    ) -> Result<(Receipt, Proven), ClientError> {
        let (anchor, subject) = (self.trust_anchor()?.clone(), Subject::Receipt(*hash));
        let silence_max = self.silence_max();
        let fetch = async || {
            let call = Call::get(subject.path_from(anchor.current().height));
            let timeouts = AttemptTimeouts { silence_max, until };
            let answer = self.attempt(index, &call, timeouts).await;
            let answer = answer.map_err(|(error, _)| error)?;
            self.checked_proof(&anchor, &subject, answer).await
        };
        let (_, proven) = match fetch().await {
            Err(error) if error.lacks_changes() => {
                Box::pin(self.follow_validators()).await?;
                fetch().await?
            }
            fetched => fetched?,
        };
        receipt_of(proven)
    }

    /// The receipt of a transaction, proven under a certificate.
    pub async fn proven_receipt(&self, hash: &Hash) -> Result<(Receipt, Proven), ClientError> {
        let (_, proven) = self.proof(&Subject::Receipt(*hash)).await?;
        receipt_of(proven)
    }
}

fn receipt_of(proven: Proven) -> Result<(Receipt, Proven), ClientError> {
    match &proven.record {
        ProvenRecord::Receipt { receipt, .. } => Ok((receipt.clone(), proven)),
        _ => Err(ClientError::WrongRecord {
            node: "the node".to_owned(),
        }),
    }
}

/// Checks a proof and that it is about the subject.
async fn verify(
    anchor: &Arc<TrustAnchor>,
    subject: &Subject,
    answer: &NodeResponse,
) -> Result<(ProofBundle, Proven), ClientError> {
    let (anchor, subject) = (anchor.clone(), subject.clone());
    let (node, body) = (answer.node.clone(), answer.body.clone());
    off_the_async_threads(move || {
        let failed = |source| ClientError::Proof {
            node: node.clone(),
            source,
        };
        let file = ProofFile::from_json(&body).map_err(failed)?;
        let proven = anchor.verify(|trusted| {
            let (proven, statement) = file.verify(trusted).map_err(failed)?;
            if subject.matches(&statement) {
                let reached = proven.trusted.clone();
                Ok((proven, reached))
            } else {
                Err(ClientError::WrongRecord { node: node.clone() })
            }
        })?;
        Ok((file.into_proof(), proven))
    })
    .await
}
