use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use lamplighter_types::Hash;
use lamplighter_types::artifact::ArtifactMismatch;

/// Why an artifact can't be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    #[error("{action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// The content of the disk is unknown now, and another sync would prove nothing: the node
    /// stops.
    #[error("syncing {}", path.display())]
    Unsynced { path: PathBuf, source: io::Error },
    #[error("the artifacts take nothing more since a sync failed: {0}")]
    Failed(Arc<str>),
    #[error("the bytes are not those of artifact {digest}")]
    Mismatch {
        digest: Hash,
        #[source]
        source: ArtifactMismatch,
    },
    #[error("the bytes have the digest {got}, not {digest}; what was uploaded is dropped")]
    WrongDigest { digest: Hash, got: Hash },
    #[error("the upload stands at byte {expected}, not {got}")]
    Offset { expected: u64, got: u64 },
    #[error("{0} uploads are under way at this node, no more are taken now")]
    TooManyUploads(usize),
    #[error(
        "this account has {0} unfinished uploads at this node, which is the most allowed: finish \
         or drop one, or wait; they expire after a day without a byte"
    )]
    TooManyAccountUploads(usize),
    #[error(
        "the accounts of this organization have {0} unfinished uploads at this node, which is the \
         most allowed: finish or drop one, or wait; they expire after a day without a byte"
    )]
    TooManyOrganizationUploads(usize),
    #[error(
        "what this organization has uploaded or published, and no approver has released, would \
         take more than the {bytes_max} bytes allowed"
    )]
    OrganizationQuota { bytes_max: u64 },
    #[error("a release names artifact {0}, so it is not dropped")]
    Published(Hash),
    #[error("the artifacts would take more than the {bytes_max} bytes allowed")]
    Quota { bytes_max: u64 },
    #[error("there is no artifact {0} here")]
    Missing(Hash),
    #[error("artifact {digest} on this disk was damaged in group {group} and was moved aside")]
    Damaged { digest: Hash, group: u64 },
    #[error("a range of {length} bytes from {offset} is not in an artifact of {size_bytes}")]
    Range {
        offset: u64,
        length: u64,
        size_bytes: u64,
    },
    #[error("no peer gave artifact {0}")]
    NoPeer(Hash),
}

impl ArtifactError {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    pub(crate) fn unsynced(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Unsynced { path, source }
    }

    pub(crate) fn mismatch(digest: Hash) -> impl FnOnce(ArtifactMismatch) -> Self {
        move |source| Self::Mismatch { digest, source }
    }
}
