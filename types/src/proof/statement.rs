//! The statement of a bundle: the proven record, decoded, so that a reader need not believe any
//! text beside the proof.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::{CertifiedHeader, ProofBundle, Proven, ProvenRecord, SetChange};
use crate::codec::CodecError;
use crate::{Hash, Id, PublicKey, StateKey, ValidatorSet};

/// The decoded contents of a verified bundle: the record, its name, its block, and the validators
/// that signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Statement {
    #[serde(flatten)]
    pub subject: ProvenSubject,
    /// The decoded record; null if its absence is proven.
    pub record: Value,
    /// Height and time (Unix ms) of the record's block.
    pub height: u64,
    pub time_ms: u64,
    /// The certified header to which the proof leads.
    pub head: Hash,
    pub head_height: u64,
    pub head_time_ms: u64,
    /// The validators whose signatures certify the head.
    pub signers: Vec<Signer>,
    /// The height of the set that was trusted before; 0 for that of the genesis file.
    pub trusted_height: u64,
    /// The changes that lead from there to the signers, lowest first. Others may lie between.
    pub set_changes: Vec<SignedChange>,
}

/// A block after which other validators were in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SignedChange {
    pub height: u64,
    pub time_ms: u64,
    /// The validators in force at the block whose signatures certify it; a quorum of those trusted
    /// before is among them.
    pub signers: Vec<Signer>,
}

/// The kind and name of a proven record; in JSON the members `kind` and `of`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ProvenSubject {
    /// A part of a block.
    Block(BlockPart),
    /// A record of the state, or its absence.
    State(StateKey),
}

/// A part of a block, by its place there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "of")]
pub enum BlockPart {
    Transaction {
        transaction: Hash,
        /// The sender's key that signed it.
        key: PublicKey,
        index: u64,
    },
    /// The transaction is zero in the receipt of the block itself.
    Receipt { transaction: Hash, index: u64 },
    Event {
        device: Id,
        sequence: u64,
        index: u64,
    },
}

/// The name for people, e.g. `receipt of transaction 2c1f.., number 3 of its block`.
impl fmt::Display for BlockPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transaction {
                transaction,
                key,
                index,
            } => write!(
                f,
                "transaction {transaction}, signed with the key {key}, number {index} of its block"
            ),
            Self::Receipt { transaction, index } => write!(
                f,
                "receipt of transaction {transaction}, number {index} of its block"
            ),
            Self::Event {
                device,
                sequence,
                index,
            } => write!(
                f,
                "event of device {device}, sequence {sequence}, number {index} of its block"
            ),
        }
    }
}

/// A validator that signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Signer {
    pub node: u64,
    pub account: Id,
    pub key: PublicKey,
}

/// Why the record of a valid proof can't be decoded.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    #[error(
        "the proven key {0} is of no kind that this version of the program knows, so that the \
         proof can't be decoded"
    )]
    UnknownKey(String),
    #[error("the proven {key} does not decode")]
    Record {
        key: Box<StateKey>,
        #[source]
        source: CodecError,
    },
}

impl Statement {
    /// Decodes the record of `bundle`: `proven` is the result of [`ProofBundle::verify`] with the
    /// set that is trusted since `trusted_height`.
    ///
    /// # Errors
    /// The key or the record is of a form that this version does not know.
    pub fn of(
        bundle: &ProofBundle,
        proven: &Proven,
        trusted_height: u64,
    ) -> Result<Self, StatementError> {
        let (subject, record) = decode(&proven.record)?;
        let height = |change: &SetChange| change.certified.header.height;
        let newer = bundle.set_changes.iter();
        let newer = newer.filter(|change| height(change) > trusted_height);
        let set_changes = newer.map(|change| SignedChange {
            height: height(change),
            time_ms: change.certified.header.timestamp_ms,
            signers: signers(&change.certified, &change.in_force),
        });
        let set_changes = set_changes.collect();
        Ok(Self {
            subject,
            record,
            height: proven.height,
            time_ms: proven.time_ms,
            head: proven.head,
            head_height: proven.head_height,
            head_time_ms: proven.head_time_ms,
            signers: signers(&bundle.head, &proven.trusted.set),
            trusted_height,
            set_changes,
        })
    }
}

fn decode(record: &ProvenRecord) -> Result<(ProvenSubject, Value), StatementError> {
    let (part, record) = match record {
        ProvenRecord::State { key, value } => return state(key, value.as_deref()),
        ProvenRecord::Transaction { transaction, index } => {
            let part = BlockPart::Transaction {
                transaction: transaction.hash(),
                key: transaction.envelope().key,
                index: *index,
            };
            (part, json(transaction.get()))
        }
        ProvenRecord::Receipt { receipt, index } => {
            let part = BlockPart::Receipt {
                transaction: receipt.transaction,
                index: *index,
            };
            (part, json(receipt))
        }
        ProvenRecord::Event { event, index } => {
            let part = BlockPart::Event {
                device: event.event.device.clone(),
                sequence: event.event.sequence,
                index: *index,
            };
            (part, json(event))
        }
    };
    Ok((ProvenSubject::Block(part), record))
}

fn state(key: &[u8], value: Option<&[u8]>) -> Result<(ProvenSubject, Value), StatementError> {
    let Some(named) = StateKey::parse(key) else {
        let digits = hex::encode(key);
        return Err(StatementError::UnknownKey(digits));
    };
    let record = value.map_or(Ok(Value::Null), |value| named.record(value));
    match record {
        Ok(record) => Ok((ProvenSubject::State(named), record)),
        Err(source) => Err(StatementError::Record {
            key: Box::new(named),
            source,
        }),
    }
}

fn json(record: &impl Serialize) -> Value {
    serde_json::to_value(record).expect("our types have JSON forms")
}

/// The validators of the signatures; verification has shown that all are in force.
fn signers(certified: &CertifiedHeader, in_force: &ValidatorSet) -> Vec<Signer> {
    let keys = certified.certificate.signatures.iter().map(|s| s.key);
    let validators = keys.filter_map(|key| in_force.by_key(&key));
    let signers = validators.map(|validator| Signer {
        node: validator.node,
        account: validator.account.clone(),
        key: validator.key,
    });
    let mut signers: Vec<_> = signers.collect();
    signers.sort_by_key(|signer| signer.node);
    signers
}
