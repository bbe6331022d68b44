use std::io;
use std::path::PathBuf;
use std::time::Duration;

use lamplighter_types::Hash;
use lamplighter_types::artifact::ArtifactMismatch;
use lamplighter_types::codec::CodecError;
use lamplighter_types::proof::ProofFileError;
use serde::Deserialize;

/// What a node says is wrong (RFC 9457).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Problem {
    #[serde(default)]
    pub status: u16,
    /// Stable, e.g. `admission.sequence_used`.
    #[serde(default)]
    pub code: String,
    /// For people.
    #[serde(default)]
    pub detail: String,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the address {0:?} is not of the form http://host:port")]
    Address(String),
    #[error("no node's address is known")]
    NoAddress,
    #[error("this needs an account and its key")]
    NoKey,
    #[error("this needs the genesis file")]
    NoGenesis,
    #[error("setting up the HTTP client")]
    Setup(#[source] reqwest::Error),
    #[error("no node answered within {waited:?}")]
    Deadline {
        waited: Duration,
        /// What the last attempt met.
        #[source]
        last: Box<ClientError>,
    },
    #[error("asking {node}")]
    Transport {
        node: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("{node} answered {}: {} ({})", problem.status, problem.detail, problem.code)]
    Problem { node: String, problem: Problem },
    #[error("{node} answered more than {limit} bytes")]
    TooLong { node: String, limit: usize },
    #[error("the answer of {node} is not what the interface promises")]
    Answer {
        node: String,
        #[source]
        source: CodecError,
    },
    #[error("{node} answered without {what}")]
    Missing { node: String, what: &'static str },
    #[error("the proof that {node} gave does not hold")]
    Proof {
        node: String,
        #[source]
        source: ProofFileError,
    },
    #[error("{node} proved something else than was asked for")]
    OtherRecord { node: String },
    #[error("a node spoke of the transaction {got} instead of {expected}")]
    OtherTransaction { expected: Hash, got: Hash },
    #[error("the transaction is in no block after {waited:?}; the same bytes may be sent again")]
    Pending { transaction: Hash, waited: Duration },
    #[error("{doing} {}", path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the sequence file {} does not hold a number", path.display())]
    Sequence { path: PathBuf },
    #[error("the bytes that {node} sent are not those of the artifact")]
    Artifact {
        node: String,
        #[source]
        source: ArtifactMismatch,
    },
    #[error("the event stream of {node} is malformed: {what}")]
    Stream { node: String, what: &'static str },
}

impl ClientError {
    /// Whether another node, or the same one later, may do better.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Transport { .. } | Self::Deadline { .. } | Self::Pending { .. } => true,
            Self::Problem { problem, .. } => matches!(problem.status, 429 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// The node's problem, if a node refused.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem { problem, .. } => Some(problem),
            Self::Deadline { last, .. } => last.problem(),
            _ => None,
        }
    }

    /// Whether the node has no such thing.
    pub fn is_not_found(&self) -> bool {
        self.problem().is_some_and(|problem| problem.status == 404)
    }
}
