//! The file that is handed to an auditor: a bundle alone, or with the record that it proves beside
//! it, as nodes answer `?proof=true`.
//!
//! Everything in the file is either proven or makes the file invalid: there is no unknown or
//! repeated member, no second spelling of a value, no record but the proven one. So two readers
//! can't see two different things in a valid file.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    PROOF_JSON_BYTES_MAX, ProofBundle, ProofError, Proven, Statement, StatementError, TrustedSet,
    check_length,
};
use crate::codec::{self, CodecError};

/// Bytes of a file: the JSON form of a bundle, and of a record, which is shorter than the largest
/// proof.
pub const PROOF_FILE_BYTES_MAX: usize = PROOF_JSON_BYTES_MAX + 1024 * 1024;

/// Characters of a value that an error shows: enough to recognise it.
const SHOWN_MAX: usize = 120;

/// A proof, with the record that it is claimed to prove. Nothing in it may be believed before
/// [`ProofFile::verify`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProofFile {
    /// The record as JSON; a file that is a bundle alone has none.
    record: Option<Value>,
    proof: ProofBundle,
}

/// Why a file proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum ProofFileError {
    #[error("the file is no proof")]
    Malformed(#[source] CodecError),
    #[error(
        "the file has the member {0:?}: beside \"proof\" only \"record\" is expected, which is \
         compared with what is proven"
    )]
    Unexpected(String),
    #[error("the file has a \"proof\" without the \"record\" that it proves")]
    NoRecord,
    #[error("the proof is not written in its one form: a member is missing or spelt otherwise")]
    NotCanonical,
    #[error("the proof does not hold")]
    Proof(#[from] ProofError),
    #[error("what the proof says can't be read")]
    Statement(#[from] StatementError),
    #[error("the record in the file is not the one that is proven: {0}")]
    OtherRecord(String),
}

impl ProofFile {
    /// The file of a verified proof with its statement.
    pub fn new(proof: ProofBundle, statement: &Statement) -> Self {
        Self {
            record: Some(statement.record.clone()),
            proof,
        }
    }

    /// Decodes a file, or the answer of a node.
    ///
    /// # Errors
    /// It is too long, no proof, or has a part that no proof covers.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ProofFileError> {
        check_length(bytes, PROOF_FILE_BYTES_MAX).map_err(ProofFileError::Malformed)?;
        let tree = codec::decode_json(bytes).map_err(ProofFileError::Malformed)?;
        let (record, proof) = split_members(tree)?;
        let text = proof.to_string();
        let bundle: ProofBundle =
            codec::decode_json(text.as_bytes()).map_err(ProofFileError::Malformed)?;
        // A member that is left out for "none" would be read so here, and perhaps not elsewhere.
        if serde_json::to_value(&bundle).is_ok_and(|again| again == proof) {
            Ok(Self {
                record,
                proof: bundle,
            })
        } else {
            Err(ProofFileError::NotCanonical)
        }
    }

    /// The indented JSON form, for people.
    pub fn to_json(&self) -> Vec<u8> {
        let bytes = match &self.record {
            Some(_) => serde_json::to_vec_pretty(self),
            None => serde_json::to_vec_pretty(&self.proof),
        };
        bytes.expect("our types have JSON forms")
    }

    /// The bundle alone.
    pub fn into_proof(self) -> ProofBundle {
        self.proof
    }

    /// Checks the proof from a trusted set, or from that of a genesis file, decodes the proven
    /// record, and compares the record in the file with it.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn verify(
        &self,
        trusted: impl Into<TrustedSet>,
    ) -> Result<(Proven, Statement), ProofFileError> {
        let trusted = trusted.into();
        let proven = self.proof.verify(&trusted)?;
        let statement = Statement::of(&self.proof, &proven, trusted.height)?;
        match &self.record {
            Some(stated) if *stated != statement.record => {
                let where_they_differ = difference("record", stated, &statement.record);
                Err(ProofFileError::OtherRecord(where_they_differ))
            }
            _ => Ok((proven, statement)),
        }
    }
}

/// Splits a file into the record, if it has one, and the bundle.
fn split_members(tree: Value) -> Result<(Option<Value>, Value), ProofFileError> {
    let mut members = match tree {
        Value::Object(members) if members.contains_key("proof") => members,
        alone => return Ok((None, alone)),
    };
    let proof = members.remove("proof").unwrap_or_default();
    let record = members.remove("record").ok_or(ProofFileError::NoRecord)?;
    match members.into_iter().next() {
        Some((name, _)) => Err(ProofFileError::Unexpected(name.chars().take(64).collect())),
        None => Ok((Some(record), proof)),
    }
}

/// The first place at which two values differ, with both values.
fn difference(at: &str, stated: &Value, proven: &Value) -> String {
    if let (Value::Object(stated), Value::Object(proven)) = (stated, proven) {
        let names = stated.keys().chain(proven.keys());
        let differing = names.into_iter().find(|n| stated.get(*n) != proven.get(*n));
        if let Some(name) = differing {
            let of = |members: &Map<String, Value>| members.get(name).cloned().unwrap_or_default();
            return difference(&format!("{at}.{name}"), &of(stated), &of(proven));
        }
    }
    let (stated, proven) = (shown(stated), shown(proven));
    format!("{at} is {stated} in the file, {proven} is proven")
}

/// The beginning of a value, without characters that would change how a terminal shows the rest.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    let plain = |c: char| c.is_alphanumeric() || c.is_ascii_graphic() || c == ' ';
    let beginning = text.chars().take(SHOWN_MAX);
    beginning.map(|c| if plain(c) { c } else { '?' }).collect()
}
