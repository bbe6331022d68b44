use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::message::{FileInfo, Manifest};
use super::space::SnapshotSpace;
use super::store::INCOMING;
use super::{
    DATA, FILES_MAX, SnapshotDir, SnapshotError, SnapshotStore, hash_file, is_plain, remove,
    sync_dir,
};
use crate::codec;

/// The file that names the leader of a transfer.
const LEADER: &str = "leader";

/// Receives at most one snapshot at a time. Blocks on the disk.
pub(crate) struct SnapshotReceiver {
    store: Arc<SnapshotStore>,
    space: SnapshotSpace,
    /// The proven leader, as term and node, whose transfer this is.
    leader: Option<(u64, u64)>,
    incoming: Option<IncomingSnapshot>,
    progress: watch::Sender<Option<SnapshotTransfer>>,
}

/// The progress of a snapshot that is being received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotTransfer {
    /// The last log index in the snapshot.
    pub log_index: u64,
    /// Bytes that were received.
    pub bytes: u64,
    pub bytes_total: u64,
    /// The part of `bytes` that was here when the transfer began or continued.
    pub bytes_before: u64,
}

struct IncomingSnapshot {
    hash: [u8; 32],
    manifest: Manifest,
    path: PathBuf,
    /// Bytes of each file that were received.
    present: Vec<u64>,
    /// True for each file that was compared with its hash.
    checked: Vec<bool>,
}

/// The next step of a transfer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TransferStep {
    /// The sender sends these bytes next.
    Next { file: u32, offset: u64 },
    /// All bytes were received and checked.
    Complete,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    /// The sender is at fault.
    #[error("{0}")]
    Invalid(String),
    #[error(transparent)]
    Failed(#[from] SnapshotError),
}

fn invalid<T>(reason: impl Into<String>) -> Result<T, ReceiveError> {
    Err(ReceiveError::Invalid(reason.into()))
}

impl SnapshotReceiver {
    pub(crate) fn new(store: Arc<SnapshotStore>, space: SnapshotSpace) -> Self {
        Self {
            store,
            space,
            leader: None,
            incoming: None,
            progress: watch::Sender::new(None),
        }
    }

    /// The progress of the transfer; none while there is no transfer.
    pub(crate) fn progress(&self) -> watch::Receiver<Option<SnapshotTransfer>> {
        self.progress.subscribe()
    }

    /// Removes a transfer that another leader than this one began, as term and node. After a
    /// restart the leader that began it is in the directory.
    pub(crate) fn begin_leadership(&mut self, leader: (u64, u64)) -> Result<(), SnapshotError> {
        if self.leader == Some(leader) {
            return Ok(());
        }
        self.leader = Some(leader);
        if let Some(path) = incoming_of(self.store.dir(), leader)? {
            return remove_others(self.store.dir(), &path);
        }
        self.incoming = None;
        self.progress.send_replace(None);
        remove_others(self.store.dir(), Path::new(""))
    }

    /// Begins a transfer, or continues one that was interrupted. Ends any other transfer.
    pub(crate) fn offer(&mut self, manifest: Manifest) -> Result<TransferStep, ReceiveError> {
        self.check(&manifest)?;
        let hash = manifest.hash();
        if self
            .incoming
            .as_ref()
            .is_none_or(|incoming| incoming.hash != hash)
        {
            self.incoming = None;
            let path = self
                .store
                .dir()
                .join(format!("{INCOMING}{}", hex::encode(hash)));
            remove_others(self.store.dir(), &path)?;
            self.space.check(self.store.dir(), &path, &manifest)?;
            let incoming = IncomingSnapshot::open(hash, manifest, path)?;
            incoming.note_leader(self.leader)?;
            let transfer = incoming.transfer();
            tracing::info!(
                bytes_before = transfer.bytes_before,
                bytes_total = transfer.bytes_total,
                log_index = transfer.log_index,
                "an image begins to come in, or goes on"
            );
            self.progress.send_replace(Some(transfer));
            self.incoming = Some(incoming);
        }
        self.step()
    }

    fn check(&self, manifest: &Manifest) -> Result<(), ReceiveError> {
        let files = &manifest.files;
        if files.is_empty() || files.len() > FILES_MAX {
            return invalid(format!("a snapshot of {} files", files.len()));
        }
        if !files.iter().all(|file| is_plain(&file.name)) {
            return invalid("a file with an impossible name");
        }
        if !files.is_sorted_by(|a, b| a.name < b.name) {
            return invalid("files that are not in order");
        }
        let total = files
            .iter()
            .try_fold(0u64, |sum, file| sum.checked_add(file.bytes));
        match total {
            Some(total) if total <= self.space.bytes_max => Ok(()),
            _ => invalid(format!("a snapshot over {} bytes", self.space.bytes_max)),
        }
    }

    /// Writes a piece, and returns the next step. A piece that was not requested changes nothing.
    pub(crate) fn chunk(
        &mut self,
        hash: [u8; 32],
        file: u32,
        offset: u64,
        bytes: Bytes,
    ) -> Result<TransferStep, ReceiveError> {
        let incoming = self.transfer(hash)?;
        if incoming.next() == (TransferStep::Next { file, offset }) {
            incoming.write(file as usize, offset, &bytes)?;
            let bytes = incoming.present.iter().sum();
            self.progress.send_modify(|progress| {
                if let Some(transfer) = progress {
                    transfer.bytes = bytes;
                }
            });
        }
        self.step()
    }

    /// Ends a transfer whose files are all here.
    pub(crate) fn complete(&mut self, hash: [u8; 32]) -> Result<ReceivedSnapshot, ReceiveError> {
        if self.transfer(hash)?.next() != TransferStep::Complete {
            return invalid("a snapshot that is not complete");
        }
        let incoming = self.incoming.take();
        let Some(IncomingSnapshot { manifest, path, .. }) = incoming else {
            return invalid("no snapshot is under way");
        };
        self.progress.send_replace(None);
        Ok(ReceivedSnapshot {
            manifest,
            snapshot: SnapshotDir::new(path, true),
        })
    }

    fn transfer(&mut self, hash: [u8; 32]) -> Result<&mut IncomingSnapshot, ReceiveError> {
        match &mut self.incoming {
            Some(incoming) if incoming.hash == hash => Ok(incoming),
            _ => invalid("a piece of a snapshot that was not offered"),
        }
    }

    fn step(&mut self) -> Result<TransferStep, ReceiveError> {
        match &self.incoming {
            Some(incoming) => Ok(incoming.next()),
            None => invalid("no snapshot is under way"),
        }
    }
}

/// A snapshot that was received. Unless it is adopted it is removed with the handle.
pub(crate) struct ReceivedSnapshot {
    pub manifest: Manifest,
    pub snapshot: Arc<SnapshotDir>,
}

impl IncomingSnapshot {
    fn open(hash: [u8; 32], manifest: Manifest, path: PathBuf) -> Result<Self, SnapshotError> {
        let data = path.join(DATA);
        fs::create_dir_all(&data).map_err(SnapshotError::io("create", &data))?;
        let count = manifest.files.len();
        let (present, checked) = (vec![0; count], vec![false; count]);
        let mut incoming = Self {
            hash,
            manifest,
            path,
            present,
            checked,
        };
        for at in 0..count {
            incoming.load(at)?;
        }
        sync_dir(&data)?;
        Ok(incoming)
    }

    /// Writes down whose transfer it is, for the time after a restart.
    fn note_leader(&self, leader: Option<(u64, u64)>) -> Result<(), SnapshotError> {
        let Some(leader) = leader else {
            return Ok(());
        };
        let file = self.path.join(LEADER);
        fs::write(&file, codec::encode(&leader)).map_err(SnapshotError::io("write", &file))
    }

    fn transfer(&self) -> SnapshotTransfer {
        let bytes = self.present.iter().sum();
        let last = self.manifest.meta.last_log_id;
        SnapshotTransfer {
            log_index: last.map_or(0, |log_id| log_id.index),
            bytes,
            bytes_total: self.manifest.files.iter().map(|file| file.bytes).sum(),
            bytes_before: bytes,
        }
    }

    fn file(&self, at: usize) -> (&FileInfo, PathBuf) {
        let info = &self.manifest.files[at];
        (info, self.path.join(DATA).join(&info.name))
    }

    /// Loads the state of a file that was received before; a complete one is kept only if its hash
    /// is right.
    fn load(&mut self, at: usize) -> Result<(), SnapshotError> {
        let (info, path) = self.file(at);
        let bytes = info.bytes;
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(SnapshotError::io("open", &path))?;
        let metadata = file
            .metadata()
            .map_err(SnapshotError::io("look at", &path))?;
        self.present[at] = metadata.len();
        if metadata.len() > bytes {
            self.reset(at)?;
        }
        if self.present[at] == bytes && !self.verify(at)? {
            self.reset(at)?;
        }
        Ok(())
    }

    fn reset(&mut self, at: usize) -> Result<(), SnapshotError> {
        let (_, path) = self.file(at);
        fs::write(&path, b"").map_err(SnapshotError::io("empty", &path))?;
        self.present[at] = 0;
        self.checked[at] = false;
        Ok(())
    }

    fn verify(&mut self, at: usize) -> Result<bool, SnapshotError> {
        let (info, path) = self.file(at);
        let equal = hash_file(&path)? == info.hash;
        self.checked[at] = equal;
        Ok(equal)
    }

    fn next(&self) -> TransferStep {
        match self.checked.iter().position(|checked| !checked) {
            Some(at) => TransferStep::Next {
                file: at as u32,
                offset: self.present[at],
            },
            None => TransferStep::Complete,
        }
    }

    fn write(&mut self, at: usize, offset: u64, bytes: &[u8]) -> Result<(), ReceiveError> {
        let (info, path) = self.file(at);
        let end = offset + bytes.len() as u64;
        if bytes.is_empty() || end > info.bytes {
            return invalid("a piece that does not fit its file");
        }
        let whole = end == info.bytes;
        write_at(&path, offset, bytes, whole).map_err(SnapshotError::io("write", &path))?;
        self.present[at] = end;
        if whole && !self.verify(at)? {
            self.reset(at)?;
            return invalid(format!(
                "{} is not the file that was offered",
                path.display()
            ));
        }
        Ok(())
    }
}

fn write_at(path: &Path, offset: u64, bytes: &[u8], sync: bool) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)?;
    if sync { file.sync_all() } else { Ok(()) }
}

/// The directory of a transfer that this leader began.
fn incoming_of(dir: &Path, leader: (u64, u64)) -> Result<Option<PathBuf>, SnapshotError> {
    for entry in fs::read_dir(dir).map_err(SnapshotError::io("list", dir))? {
        let path = entry.map_err(SnapshotError::io("list", dir))?.path();
        let is_incoming = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(INCOMING);
        // A note that can't be read is of no leader.
        let noted = fs::read(path.join(LEADER)).unwrap_or_default();
        if path.file_name().is_some_and(is_incoming) && noted == codec::encode(&leader) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Removes the remains of other transfers, which only take space.
fn remove_others(dir: &Path, path: &Path) -> Result<(), SnapshotError> {
    for entry in fs::read_dir(dir).map_err(SnapshotError::io("list", dir))? {
        let other = entry.map_err(SnapshotError::io("list", dir))?.path();
        let name = other
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with(INCOMING) && other != path {
            remove(&other)?;
        }
    }
    Ok(())
}
