use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lamplighter_tls::SetupError;
use lamplighter_types::artifact::ArtifactMismatch;
use lamplighter_types::codec::CodecError;
use lamplighter_types::proof::{ProofError, ProofFileError};
use lamplighter_types::wire::problem::code;
use lamplighter_types::wire::{ArchiveError, Problem};
use lamplighter_types::{Hash, SignedTransaction};

use crate::standing::Fault;
use crate::trust::TrustAnchorError;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the address {0:?} is not of the form https://host:port or https://host:port#KEY")]
    Address(String),
    #[error(
        "{0} would be readable on the network: plain http:// is for this machine alone. Use \
         https://, or allow it in so many words where a tunnel encrypts"
    )]
    PlainAddress(String),
    #[error(
        "no key of {0} is known: this needs the genesis file, the node's key behind a # in the \
         address, or the certificate of an authority"
    )]
    NoNodeKeys(String),
    #[error("no node's address is known")]
    NoAddress,
    #[error("this needs an account and its key")]
    NoKey,
    #[error("this needs the genesis file")]
    NoGenesis,
    #[error("setting up the HTTP client")]
    Setup(#[source] reqwest::Error),
    #[error("setting up TLS to the nodes")]
    Tls(#[source] SetupError),
    #[error(
        "{node} is not a node of this ledger, or no validator any more: its TLS key is none that \
         is trusted. Put its key behind a # in the address if it follows as an observer"
    )]
    NodeKey {
        node: String,
        #[source]
        source: reqwest::Error,
    },
    #[error(
        "{node} does not speak TLS: its configuration has http.tls = \"off\", or the port is \
         another one; plain http:// works on its own machine"
    )]
    NotTls {
        node: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("no node did what was asked within {:.1} s", waited.as_secs_f64())]
    Deadline {
        waited: Duration,
        /// The error of the last attempt.
        #[source]
        last: Arc<ClientError>,
    },
    #[error("asking {node}")]
    Transport {
        node: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("{node} did not answer for {:.1} s", waited.as_secs_f64())]
    Silent { node: String, waited: Duration },
    #[error("{node} answered {}: {} ({})", problem.status, problem.detail, problem.code)]
    Problem { node: String, problem: Box<Problem> },
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
    #[error("the changes of the validators that {node} sent do not hold")]
    Validators {
        node: String,
        #[source]
        source: ProofError,
    },
    #[error(transparent)]
    Trust(#[from] TrustAnchorError),
    #[error("{node} proved something else than was asked for")]
    WrongRecord { node: String },
    #[error("a node spoke of the transaction {got} instead of {expected}")]
    WrongTransaction { expected: Hash, got: Hash },
    #[error(transparent)]
    Pending(Box<Pending>),
    #[error("{action} {}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the sequence file {} does not hold a number", path.display())]
    Sequence { path: PathBuf },
    #[error(
        "the last certified block of {node} is {certified}, and {wanted} is wanted: it is behind, \
         or it has lost blocks"
    )]
    Behind {
        node: String,
        certified: u64,
        wanted: u64,
    },
    #[error("{node} sent no page of blocks")]
    Archive {
        node: String,
        #[source]
        source: ArchiveError,
    },
    #[error("{node} sent the block {got} where {wanted} comes next")]
    ArchiveOrder { node: String, wanted: u64, got: u64 },
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
    /// Makes the error of an action on a file.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// True if another node may do better, or the same one later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Transport { .. }
            | Self::Silent { .. }
            | Self::NodeKey { .. }
            | Self::NotTls { .. }
            | Self::Deadline { .. }
            | Self::Behind { .. }
            | Self::Pending(_) => true,
            // 500: that node is damaged, the others may not be.
            Self::Problem { problem, .. } => matches!(problem.status, 429 | 500 | 502..=504),
            _ => false,
        }
    }

    /// The fault of the node that answered so; `None` if it may be as good as the others.
    pub(crate) fn fault(&self) -> Option<Fault> {
        match self {
            Self::TooLong { .. }
            | Self::Answer { .. }
            | Self::Missing { .. }
            | Self::Proof { .. }
            | Self::Validators { .. }
            | Self::WrongRecord { .. }
            | Self::WrongTransaction { .. }
            | Self::Artifact { .. }
            | Self::Archive { .. }
            | Self::ArchiveOrder { .. }
            | Self::Stream { .. } => Some(Fault::Untrue),
            _ => self.is_transient().then_some(Fault::Unserved),
        }
    }

    /// The node's problem, if a node refused.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem { problem, .. } => Some(problem.as_ref()),
            Self::Deadline { last, .. } => last.problem(),
            _ => None,
        }
    }

    /// True if the proof does not lead from the validators that are trusted to those of its head.
    /// [`Client::follow_validators`](crate::Client::follow_validators) may help.
    pub fn lacks_changes(&self) -> bool {
        let many = |problem: &Problem| problem.code == code::PROOF_MANY_CHANGES;
        match self {
            Self::Proof {
                source: ProofFileError::Proof(error),
                ..
            } => error.lacks_changes(),
            other => other.problem().is_some_and(many),
        }
    }

    /// True if the node has no such record.
    pub fn is_not_found(&self) -> bool {
        self.problem().is_some_and(|problem| problem.status == 404)
    }

    /// True if the account may not read the record.
    pub fn is_outside_rights(&self) -> bool {
        self.problem()
            .is_some_and(|problem| problem.code == code::READ_SCOPE)
    }
}

/// A transaction that was sent and is not known to be in a block. It may happen until it expires.
/// Sent again as the same bytes ([`Client::submit_signed`](crate::Client::submit_signed)) it
/// happens once; a new transaction with the same action would happen in addition.
#[derive(Debug)]
pub struct Pending {
    pub transaction: Hash,
    /// The bytes that were sent.
    pub signed: SignedTransaction,
    /// Unix time in ms after which it can't happen any more.
    pub expires_ms: u64,
    /// Addresses of the nodes that reported that they accepted it.
    pub taken_by: Vec<String>,
    /// Addresses of the nodes that it was sent to and that gave no usable answer.
    pub sent_to: Vec<String>,
    /// Addresses of the nodes that refused it, fewer than are believed: a node that has it may
    /// claim so. The reason of the first is `last`.
    pub refused_by: Vec<String>,
    pub waited: Duration,
    /// The first refusal; otherwise the error of the last attempt, if it failed.
    pub last: Option<Arc<ClientError>>,
}

impl fmt::Display for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            transaction,
            taken_by,
            sent_to,
            refused_by,
            ..
        } = self;
        let waited = self.waited.as_secs_f64();
        write!(f, "the transaction {transaction} was ")?;
        match (taken_by.as_slice(), sent_to.as_slice()) {
            ([], []) => write!(
                f,
                "refused by {}, which no other node confirms",
                refused_by.join(", ")
            )?,
            ([], nodes) => write!(f, "sent to {}", nodes.join(", "))?,
            (nodes, _) => write!(f, "taken by {}", nodes.join(", "))?,
        }
        write!(
            f,
            ", but is not known to be in a block after {waited:.1} s; it may still happen, until \
             the Unix time {} ms",
            self.expires_ms
        )
    }
}

impl Error for Pending {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.last.as_ref().map(|last| last as _)
    }
}
