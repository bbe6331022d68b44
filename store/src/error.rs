use std::error::Error;
use std::path::PathBuf;

/// Errors of a store.
///
/// None of these is deterministic: another node may well succeed. A caller that gets one while
/// applying blocks has to stop.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refused.
    #[error("{operation} {}", path.display())]
    Io {
        /// The operation, in words that fit before the path.
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The storage engine refused, for instance because the disk is full.
    #[error("{operation}")]
    Backend {
        operation: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// Stored bytes are not what was written.
    #[error("damaged data in {}: {what}", path.display())]
    Corrupt {
        path: PathBuf,
        what: String,
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// Another process has the directory open.
    #[error("{} is in use by another process", path.display())]
    Locked {
        path: PathBuf,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A write or a sync failed before, so it is not known what is on the disk. The store takes no
    /// more writes.
    #[error("the store takes no more writes since it failed: {what}")]
    Failed { what: String },
    /// The store of a process that has crashed; only the in-memory twin knows this state.
    #[error("the store is closed")]
    Closed,
    /// A failure injected by a test.
    #[error("injected failure of a write")]
    Injected,
}

impl StoreError {
    /// An error of the file system, ready for `map_err`.
    pub fn io(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> StoreError {
        let path = path.into();
        move |source| StoreError::Io {
            operation,
            path,
            source,
        }
    }
}
