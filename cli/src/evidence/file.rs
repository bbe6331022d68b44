//! The data of evidence: what it is about, and proof files one after the other.
//!
//! Every item is checked by itself from the genesis file, and has the path of validators to its own
//! head. So a part of a file is evidence too, and any verifier of proofs can read it. What a file
//! is said to be about, and that it is whole, is proven by nothing: an audit of the ledger finds
//! what was left out.

use lamplighter_types::proof::{
    ProofFile, Proven, ProvenRecord, ProvenSubject, Statement, TrustedSet,
};
use lamplighter_types::{Hash, Id, codec};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::describe;
use crate::failure::Failure;
use crate::time::utc;

/// The version of the form.
pub const EVIDENCE_VERSION: u32 = 1;
/// Proofs of a file, beyond the most changes with two proofs each and the records.
const ITEMS_MAX: usize = 5_000;

/// What a file is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum EvidenceOf {
    Device(Id),
    Release(Id),
    Rollout(Id),
    Account(Id),
    /// Unix times in ms; the end does not belong to it.
    Period {
        from_ms: u64,
        until_ms: u64,
    },
}

impl EvidenceOf {
    pub fn words(&self) -> String {
        match self {
            Self::Device(id) => format!("the device {id}"),
            Self::Release(id) => format!("the release {id}"),
            Self::Rollout(id) => format!("the rollout {id}"),
            Self::Account(id) => format!("the account {id}"),
            Self::Period { from_ms, until_ms } => {
                format!("the time from {} to {}", utc(*from_ms), utc(*until_ms))
            }
        }
    }
}

/// The data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidenceFile {
    /// Version of this form.
    evidence: u32,
    /// The digest of the genesis file.
    pub chain_id: Hash,
    pub of: EvidenceOf,
    /// Where there is more, if the file was cut.
    pub next: Option<String>,
    /// Proof files, each a `proof` with its `record`.
    pub items: Vec<Value>,
}

/// An item that holds.
#[derive(Clone, Debug)]
pub struct CheckedItem {
    pub proven: Proven,
    pub statement: Statement,
}

impl EvidenceFile {
    pub fn new(chain_id: Hash, of: EvidenceOf, next: Option<String>, items: Vec<Value>) -> Self {
        Self {
            evidence: EVIDENCE_VERSION,
            chain_id,
            of,
            next,
            items,
        }
    }

    /// True for a text with the one member that no other file has, whether or not the rest holds.
    pub fn is_one(text: &str) -> bool {
        let read = codec::decode_json::<Value>(text.as_bytes());
        read.is_ok_and(|value| value.get("evidence").is_some())
    }

    /// Reads the data.
    ///
    /// # Errors
    /// It is malformed, of another version, or has too many items.
    pub fn from_json(text: &str) -> Result<Self, Failure> {
        let file: Self =
            codec::decode_json(text.as_bytes()).map_err(Failure::during("reading the evidence"))?;
        if file.evidence != EVIDENCE_VERSION {
            let version = file.evidence;
            return Err(Failure::plain(format!(
                "the evidence has the version {version}, and this program reads {EVIDENCE_VERSION}"
            )));
        }
        if file.items.len() > ITEMS_MAX {
            return Err(Failure::plain("the evidence has too many items"));
        }
        Ok(file)
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("our types have JSON forms")
    }

    /// Checks every item from a trusted set.
    ///
    /// # Errors
    /// The first item that does not hold.
    pub fn verify(&self, trusted: &TrustedSet) -> Result<Vec<CheckedItem>, Failure> {
        let mut checked = Vec::with_capacity(self.items.len());
        for (number, item) in self.items.iter().enumerate() {
            let wrong = || Failure::during(format!("item {number} proves nothing"));
            let file = ProofFile::from_json(item.to_string().as_bytes()).map_err(wrong())?;
            if item.get("proof").is_none() {
                let words = format!("item {number} has no record beside its proof");
                return Err(Failure::plain(words));
            }
            let (proven, statement) = file.verify(trusted).map_err(wrong())?;
            checked.push(CheckedItem { proven, statement });
        }
        Ok(checked)
    }
}

impl CheckedItem {
    /// The item in words, without its place and time.
    pub fn words(&self) -> String {
        match &self.proven.record {
            ProvenRecord::Transaction { transaction, .. } => {
                let transaction = transaction.get();
                let action = describe::action(&transaction.action);
                format!("{} asks: {action}", transaction.sender)
            }
            ProvenRecord::Receipt { receipt, .. } => {
                let facts = describe::receipt(receipt).join("; ");
                match receipt.transaction {
                    Hash::ZERO => format!("by the time of the block: {facts}"),
                    _ => format!("what came of it: {facts}"),
                }
            }
            ProvenRecord::Event { event, .. } => {
                let event = &event.event;
                format!(
                    "event {} of {}: {}, {}, {}",
                    event.sequence,
                    event.device,
                    event.kind,
                    describe::words(&event.severity),
                    event.data
                )
            }
            ProvenRecord::State { .. } => match (&self.statement.subject, self.is_absent()) {
                (ProvenSubject::State(key), true) => format!("there is no {key}"),
                (ProvenSubject::State(key), false) => key.to_string(),
                (ProvenSubject::Block(part), _) => part.to_string(),
            },
        }
    }

    fn is_absent(&self) -> bool {
        self.statement.record.is_null()
    }

    /// The item in a line.
    pub fn line(&self) -> String {
        let Statement {
            height, time_ms, ..
        } = &self.statement;
        format!("{}  block {height}  {}", utc(*time_ms), self.words())
    }
}
