use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use lamplighter_system::files;

use super::{DATA, META, SnapshotDir, SnapshotError, remove, sync_dir};
use crate::codec;
use crate::state_machine::StateMachine;
use crate::types::{Marker, SnapshotMeta};

const PREFIX: &str = "snapshot-";
const BUILDING: &str = "building";
const ADOPTING: &str = "adopting";
pub(super) const INCOMING: &str = "incoming-";

type CurrentSnapshot = (SnapshotMeta, Arc<SnapshotDir>);

/// The snapshots of this node: at most one is current.
pub(crate) struct SnapshotStore {
    dir: PathBuf,
    current: Mutex<Option<CurrentSnapshot>>,
}

/// A snapshot that was built and is not current yet.
pub(crate) struct BuiltSnapshot {
    path: PathBuf,
    marker: Option<Marker>,
}

impl BuiltSnapshot {
    /// The directory of the state machine's files.
    pub(crate) fn data(&self) -> PathBuf {
        self.path.join(DATA)
    }
}

impl SnapshotStore {
    /// Finds the newest complete snapshot and removes the remains of interruptions.
    pub(crate) fn open(dir: &Path) -> Result<Self, SnapshotError> {
        fs::create_dir_all(dir).map_err(SnapshotError::io("create", dir))?;
        let mut current: Option<(SnapshotMeta, PathBuf)> = None;
        for entry in fs::read_dir(dir).map_err(SnapshotError::io("list", dir))? {
            let path = entry.map_err(SnapshotError::io("list", dir))?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if name.starts_with(INCOMING) {
                continue;
            }
            let meta = if name.starts_with(PREFIX) {
                read_meta(&path)?
            } else {
                None
            };
            let newer = |meta: &SnapshotMeta| {
                current
                    .as_ref()
                    .is_none_or(|(known, _)| known.last_log_id < meta.last_log_id)
            };
            match meta {
                Some(meta) if newer(&meta) => {
                    if let Some((_, old)) = current.replace((meta, path)) {
                        remove(&old)?;
                    }
                }
                _ => remove(&path)?,
            }
        }
        let current = current.map(|(meta, path)| (meta, SnapshotDir::new(path, false)));
        Ok(Self {
            dir: dir.to_owned(),
            current: Mutex::new(current),
        })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn current(&self) -> Option<CurrentSnapshot> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<CurrentSnapshot>> {
        self.current
            .lock()
            .expect("no code panics while it holds this lock")
    }

    /// Lets the state machine build an image; openraft builds one at a time.
    pub(crate) fn build(&self, machine: &dyn StateMachine) -> Result<BuiltSnapshot, SnapshotError> {
        let path = self.dir.join(BUILDING);
        remove(&path)?;
        fs::create_dir(&path).map_err(SnapshotError::io("create", &path))?;
        let marker = machine.build_snapshot(&path.join(DATA))?;
        let malformed = |what: String| SnapshotError::Malformed {
            path: path.clone(),
            what,
        };
        let marker: Option<Marker> = marker
            .map(|marker| codec::decode("marker", &marker))
            .transpose()
            .map_err(|error| malformed(error.to_string()))?;
        Ok(BuiltSnapshot { path, marker })
    }

    /// Makes a built snapshot the current one, unless a newer one was installed meanwhile.
    pub(crate) fn finish(&self, built: BuiltSnapshot) -> Result<CurrentSnapshot, SnapshotError> {
        let BuiltSnapshot { path, marker } = built;
        let last_log_id = marker.as_ref().map(|marker| marker.log_id);
        let newer = |(known, _): &CurrentSnapshot| known.last_log_id > last_log_id;
        if let Some(current) = self.current().filter(newer) {
            remove(&path)?;
            return Ok(current);
        }
        let meta = SnapshotMeta {
            last_log_id,
            last_membership: marker.map(|marker| marker.membership).unwrap_or_default(),
            snapshot_id: self.unused_name(last_log_id.map_or(0, |log_id| log_id.index)),
        };
        self.keep(meta, &path)
    }

    /// Makes a snapshot from another node, which is installed, the current one.
    pub(crate) fn adopt(
        &self,
        meta: SnapshotMeta,
        snapshot: &SnapshotDir,
    ) -> Result<CurrentSnapshot, SnapshotError> {
        let meta = SnapshotMeta {
            snapshot_id: self.unused_name(meta.last_log_id.map_or(0, |log_id| log_id.index)),
            ..meta
        };
        if snapshot.path.parent() == Some(&self.dir) {
            return self.keep(meta, &snapshot.path);
        }
        let path = self.dir.join(ADOPTING);
        remove(&path)?;
        link_all(&snapshot.data(), &path)?;
        self.keep(meta, &path)
    }

    /// An empty directory for a snapshot of another node.
    pub(crate) fn blank(&self) -> Result<Arc<SnapshotDir>, SnapshotError> {
        let path = self.dir.join(format!("{INCOMING}blank"));
        let data = path.join(DATA);
        fs::create_dir_all(&data).map_err(SnapshotError::io("create", &data))?;
        Ok(SnapshotDir::new(path, true))
    }

    /// A name that no snapshot uses yet.
    fn unused_name(&self, index: u64) -> String {
        let taken = |name: &String| self.dir.join(format!("{PREFIX}{name}")).exists();
        let mut names = (0u64..).map(|round| format!("{index}-{round}"));
        names
            .find(|name| !taken(name))
            .expect("there are more numbers than directories")
    }

    /// Makes a directory that is complete and synced the current snapshot by renaming it.
    fn keep(&self, meta: SnapshotMeta, from: &Path) -> Result<CurrentSnapshot, SnapshotError> {
        write_meta(from, &meta)?;
        let to = self.dir.join(format!("{PREFIX}{}", meta.snapshot_id));
        files::rename(from, &to).map_err(SnapshotError::io("rename", from))?;
        let current = (meta, SnapshotDir::new(to, false));
        if let Some((_, old)) = self.lock().replace(current.clone()) {
            old.set_obsolete();
        }
        Ok(current)
    }
}

fn write_meta(path: &Path, meta: &SnapshotMeta) -> Result<(), SnapshotError> {
    let file = path.join(META);
    files::replace(&file, &codec::encode(meta)).map_err(SnapshotError::io("write", &file))
}

/// Reads the description of a snapshot; none if the directory has no complete one.
fn read_meta(path: &Path) -> Result<Option<SnapshotMeta>, SnapshotError> {
    let file = path.join(META);
    match fs::read(&file) {
        Ok(bytes) => Ok(codec::decode("snapshot", &bytes).ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(SnapshotError::io("read", &file)(error)),
    }
}

/// Links the files into a second directory; copies them where the file system has no links.
fn link_all(data: &Path, to: &Path) -> Result<(), SnapshotError> {
    let target = to.join(DATA);
    fs::create_dir_all(&target).map_err(SnapshotError::io("create", &target))?;
    for entry in fs::read_dir(data).map_err(SnapshotError::io("list", data))? {
        let from = entry.map_err(SnapshotError::io("list", data))?.path();
        let to = target.join(from.file_name().unwrap_or_default());
        fs::hard_link(&from, &to)
            .or_else(|_| fs::copy(&from, &to).map(|_| ()))
            .map_err(SnapshotError::io("copy", &from))?;
    }
    sync_dir(&target)
}
