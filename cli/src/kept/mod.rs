//! The transactions that this user's commands sent and whose outcome they did not learn. Their
//! bytes are kept, so that they can be asked for and sent again, also after a command was stopped.
//!
//! A transaction is written before it is sent, and its file is removed when its outcome is known:
//! between any two steps the bytes of a transaction that may happen are on the disk.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use lamplighter_system::files;
use lamplighter_types::{Hash, SignedTransaction, codec};

/// Transactions of one ledger that are kept: of a script that runs without a quorum for long. The
/// oldest goes first.
const KEPT_MAX: usize = 256;
/// A transaction that has expired is kept for so long, since someone may ask what became of it.
const KEPT_EXPIRED_MS: u64 = 7 * 24 * 3_600_000;
/// Largest file that is read: more than the JSON of the longest transaction.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A transaction that is kept.
#[derive(Clone, Debug)]
pub struct KeptTransaction {
    pub transaction: Hash,
    pub signed: SignedTransaction,
    /// Unix time in ms after which it can't happen any more.
    pub expires_ms: u64,
}

/// The folder of the kept transactions of one ledger.
#[derive(Clone, Debug)]
pub struct KeptTransactions {
    folder: PathBuf,
    chain_id: Hash,
}

/// The folder for what programs keep of this user: `$XDG_STATE_HOME`, or `~/.local/state`.
pub fn state_folder() -> Option<PathBuf> {
    let absolute = |name: &str| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    let home = || Some(absolute("HOME")?.join(".local/state"));
    let state = absolute("XDG_STATE_HOME").or_else(home)?;
    Some(state.join("lamplighter"))
}

impl KeptTransactions {
    pub fn new(state: &Path, chain_id: Hash) -> Self {
        Self {
            folder: state.join("pending").join(chain_id.to_string()),
            chain_id,
        }
    }

    /// The file of a transaction: what `transaction send` takes.
    pub fn file(&self, transaction: &Hash) -> PathBuf {
        self.folder.join(format!("{transaction}.json"))
    }

    /// Keeps a transaction; only this user can read it. Makes room first.
    ///
    /// # Errors
    /// The folder or the file can't be written.
    pub fn keep(
        &self,
        transaction: &Hash,
        signed: &SignedTransaction,
        now_ms: u64,
    ) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)?;
        self.make_room(now_ms)?;
        let path = self.file(transaction);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let json = serde_json::to_vec(signed)?;
        // Under its own name only once it is whole.
        let beside = path.with_extension(format!("{}.new", std::process::id()));
        let mut file: File = options.open(&beside)?;
        file.write_all(&json)?;
        file.sync_all()?;
        files::rename(&beside, &path)
    }

    /// Forgets a transaction whose outcome is known.
    ///
    /// # Errors
    /// The file can't be removed.
    pub fn forget(&self, transaction: &Hash) -> io::Result<()> {
        match fs::remove_file(self.file(transaction)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// All that are kept, those first that expire first. Files that hold no transaction of this
    /// ledger are left out.
    ///
    /// # Errors
    /// The folder can't be read.
    pub fn list(&self) -> io::Result<Vec<KeptTransaction>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut kept = Vec::new();
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            let is_json = path
                .extension()
                .is_some_and(|extension| extension == "json");
            if is_json && entry.metadata()?.len() <= FILE_BYTES_MAX {
                kept.extend(self.read(&path)?);
            }
        }
        kept.sort_by_key(|one| (one.expires_ms, one.transaction));
        Ok(kept)
    }

    fn read(&self, path: &Path) -> io::Result<Option<KeptTransaction>> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            // Another command has just learned its outcome.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let Ok(signed) = codec::decode_json::<SignedTransaction>(&bytes) else {
            return Ok(None);
        };
        let transaction = signed.hash(&self.chain_id);
        let expires_ms = signed.decode_payload().ok().map(|t| t.expires_ms);
        let kept = expires_ms.filter(|_| path == self.file(&transaction));
        Ok(kept.map(|expires_ms| KeptTransaction {
            transaction,
            signed,
            expires_ms,
        }))
    }

    fn make_room(&self, now_ms: u64) -> io::Result<()> {
        let kept = self.list()?;
        let surplus = (kept.len() + 1).saturating_sub(KEPT_MAX);
        for (position, one) in kept.iter().enumerate() {
            let is_old = one.expires_ms.saturating_add(KEPT_EXPIRED_MS) < now_ms;
            if position < surplus || is_old {
                self.forget(&one.transaction)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
