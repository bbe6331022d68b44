use std::path::Path;

use lamplighter_store::StoreError;
use rocksdb::ErrorKind;

/// Converts an error of RocksDB. Its message names the file where there is one.
pub(crate) fn convert(operation: &str, dir: &Path, error: rocksdb::Error) -> StoreError {
    let message: &str = error.as_ref();
    if message.contains("lock hold by current process") || message.contains("While lock file") {
        return StoreError::Locked {
            path: dir.to_owned(),
            source: Box::new(error),
        };
    }
    if error.kind() == ErrorKind::Corruption {
        let what = message.to_owned();
        return StoreError::Corrupt {
            path: dir.to_owned(),
            what,
            source: Some(Box::new(error)),
        };
    }
    let operation = format!("{operation} in {}", dir.display());
    StoreError::Backend {
        operation,
        source: Box::new(error),
    }
}
