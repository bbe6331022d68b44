//! The audit of a ledger in a folder of its own: the store for [`lamplighter_ledger::audit`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lamplighter_ledger::OpenError;
pub use lamplighter_ledger::audit::{
    AuditError, AuditProgress, Auditor, Difference, Field, Keeps, PreparedBlock, Signatures,
    prepare,
};
use lamplighter_rocks::{Options, RocksKv};
use lamplighter_store::StoreError;
use lamplighter_types::Genesis;

/// Why an audit can't begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum AuditOpenError {
    #[error("making the folder {}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("opening the audit's store")]
    Store(#[from] StoreError),
    #[error("the audit can't go on from what the folder has")]
    Open(#[from] OpenError),
}

/// Begins an audit in a folder, or goes on with the one in it. One without signatures has a store
/// of its own, so that nobody goes on from blocks that were compared less.
///
/// # Errors
/// The folder is in use, damaged, or has the audit of another chain.
pub fn open_audit(
    folder: &Path,
    genesis: &Genesis,
    signatures: Signatures,
) -> Result<Auditor, AuditOpenError> {
    let folder = folder.join(match signatures {
        Signatures::Verified => "with-signatures",
        Signatures::LeftOut => "without-signatures",
    });
    fs::create_dir_all(&folder).map_err(|source| AuditOpenError::Folder {
        path: folder.clone(),
        source,
    })?;
    let kv = RocksKv::open(&folder.join("db"), Options::default())?;
    Ok(Auditor::open(Arc::new(kv), genesis, &folder, Keeps::State)?)
}
