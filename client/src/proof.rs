//! Proofs: fetched, checked against the genesis file, and compared with what the node says beside
//! them.

use lamplighter_types::proof::{
    BlockPart, ProofBundle, ProofFile, Proven, ProvenRecord, ProvenSubject, Statement,
};
use lamplighter_types::{AlarmId, ConfigTarget, Hash, Id, Receipt, StateKey};

use crate::Client;
use crate::calls::Call;
use crate::error::ClientError;
use crate::read::config_query;

/// What a proof is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// That a transaction is in its block.
    Transaction(Hash),
    /// The receipt of a transaction.
    Receipt(Hash),
    Device(Id),
    /// What a device runs.
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

    /// The key of the state under which it stands; none of what stands in a block.
    fn key(&self) -> Option<StateKey> {
        Some(match self.clone() {
            Self::Transaction(_) | Self::Receipt(_) | Self::Event { .. } => return None,
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

    /// Whether what was proven is this.
    fn is(&self, proven: &Statement) -> bool {
        match (&proven.subject, self) {
            (ProvenSubject::State(key), subject) => subject.key().as_ref() == Some(key),
            (ProvenSubject::Block(part), subject) => match (part, subject) {
                (BlockPart::Transaction { transaction, .. }, Self::Transaction(asked))
                | (BlockPart::Receipt { transaction, .. }, Self::Receipt(asked)) => {
                    transaction == asked
                }
                (
                    BlockPart::Event { index, .. },
                    Self::Event {
                        height,
                        index: asked,
                    },
                ) => proven.height == *height && *index == u64::from(*asked),
                _ => false,
            },
        }
    }
}

impl Client {
    /// Fetches a proof and checks it against the genesis file; what the node says beside it must be
    /// what is proven. [`Statement::of`] tells what that is.
    ///
    /// # Errors
    /// No genesis file, no such record, or a proof that does not hold or is of something else.
    pub async fn proof(&self, subject: &Subject) -> Result<(ProofBundle, Proven), ClientError> {
        let genesis = self.genesis()?;
        let answer = self.call(Call::get(subject.path())).await?;
        let failed = |source| ClientError::Proof {
            node: answer.node.clone(),
            source,
        };
        let file = ProofFile::from_json(&answer.body).map_err(failed)?;
        let (proven, statement) = file.verify(genesis).map_err(failed)?;
        match subject.is(&statement) {
            true => Ok((file.into_proof(), proven)),
            false => Err(ClientError::OtherRecord { node: answer.node }),
        }
    }

    /// The receipt of a transaction, proven under a certificate.
    pub async fn proven_receipt(&self, hash: &Hash) -> Result<(Receipt, Proven), ClientError> {
        let (_, proven) = self.proof(&Subject::Receipt(*hash)).await?;
        match &proven.record {
            ProvenRecord::Receipt { receipt, .. } => Ok((receipt.clone(), proven.clone())),
            _ => Err(ClientError::OtherRecord {
                node: "the node".to_owned(),
            }),
        }
    }
}
