//! The health of the store: its first failure, and its listener.

use std::fmt;
use std::path::Path;
use std::sync::{Mutex, OnceLock};

use lamplighter_store::StoreError;
use lamplighter_system::error_chain;

use crate::repair::damage_in;
use crate::seal::tables;

/// Bytes kept of a message that RocksDB logs.
const LOGGED_BYTES_MAX: usize = 1_000;

/// Why a store takes no more writes. It stays so until it is opened again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The operation and its error, with the file where there is one.
    pub what: String,
    /// Whether stored bytes are not what was written; otherwise a write or a sync failed.
    pub damaged: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

type Listener = Box<dyn Fn(&Failure) + Send + Sync>;

/// The first failure and its listener.
#[derive(Default)]
pub(crate) struct Health {
    failure: OnceLock<Failure>,
    listener: OnceLock<Listener>,
}

impl Health {
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.get()
    }

    /// An error after a failure.
    pub fn check(&self) -> Result<(), StoreError> {
        match self.failure.get() {
            Some(failure) => Err(StoreError::Failed {
                what: failure.what.clone(),
            }),
            None => Ok(()),
        }
    }

    /// A write or a sync failed, or a compaction came across damage.
    pub fn broke(&self, dir: &Path, error: StoreError) -> StoreError {
        if matches!(error, StoreError::Corrupt { .. }) {
            return self.read(dir, error);
        }
        self.fail(&error, false);
        error
    }

    /// Handles a failed read. It is a failure of the store when the bytes are damaged.
    pub fn read(&self, dir: &Path, error: StoreError) -> StoreError {
        if !matches!(error, StoreError::Corrupt { .. }) {
            return error;
        }
        if self.failure.get().is_none()
            && let Err(error) = mark(dir, &error)
        {
            tracing::error!(
                error = error_chain(&error),
                "the damage could not be recorded"
            );
        }
        self.damaged(error)
    }

    /// Stored bytes were found that are not what was written.
    pub fn damaged(&self, error: StoreError) -> StoreError {
        self.fail(&error, true);
        error
    }

    fn fail(&self, error: &StoreError, damaged: bool) {
        self.set(Failure {
            what: error_chain(error),
            damaged,
        });
    }

    pub fn set(&self, failure: Failure) {
        if self.failure.set(failure).is_err() {
            return;
        }
        let failure = self.failure.get().expect("it was just set");
        tracing::error!(%failure, "the store takes no more writes");
        if let Some(listener) = self.listener.get() {
            listener(failure);
        }
    }

    /// Sets the listener, and calls it at once if there was a failure. A second listener is never
    /// called.
    pub fn listen(&self, listener: Listener) {
        if self.listener.set(listener).is_ok()
            && let (Some(failure), Some(listener)) = (self.failure.get(), self.listener.get())
        {
            listener(failure);
        }
    }
}

/// Records for the next opening the damage that a read came across.
fn mark(dir: &Path, error: &StoreError) -> Result<(), StoreError> {
    match damage_in(dir, error_chain(error)) {
        Some(damage) => tables::mark(dir, Some(&damage)),
        None => tables::mark(dir, None),
    }
}

/// The last error that RocksDB logged. RocksDB reports errors of background work in its log only.
#[derive(Default)]
pub(crate) struct LastLoggedError(Mutex<String>);

impl LastLoggedError {
    pub fn record(&self, message: &str) {
        if !message.contains("rror") {
            return;
        }
        let kept: String = message.chars().take(LOGGED_BYTES_MAX).collect();
        *self.0.lock().expect("nobody panics with the lock") = kept;
    }

    pub fn last(&self) -> String {
        self.0.lock().expect("nobody panics with the lock").clone()
    }
}
