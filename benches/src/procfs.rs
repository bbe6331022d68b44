//! Figures of Linux about processes, the processor and folders.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::BenchError;

/// Ticks of `/proc/PID/stat` and `/proc/stat` per second: part of Linux's interface to programs on
/// the supported architectures, whatever the kernel's own clock.
const TICKS_PER_SECOND: u64 = 100;
/// Unit of `st_blocks`, whatever the file system's block.
const BLOCK_BYTES: u64 = 512;

/// Memory of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Resident memory now.
    pub now_bytes: u64,
    /// Most resident memory since its start.
    pub peak_bytes: u64,
}

/// Open files of a process, sockets and pipes among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OpenFiles {
    /// Table files of a store, which it may keep open up to a number.
    pub tables: u64,
    pub others: u64,
}

/// The size of a data directory on the disk. A file with two names counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskUse {
    /// Table files of the store.
    pub tables_bytes: u64,
    /// All other files of the store, mainly the write-ahead log.
    pub logs_bytes: u64,
    /// Files that only a snapshot has: tables that the store has rewritten since.
    pub kept_bytes: u64,
}

impl DiskUse {
    pub fn all_bytes(&self) -> u64 {
        self.tables_bytes + self.logs_bytes + self.kept_bytes
    }
}

fn ticks(count: u64) -> Duration {
    Duration::from_millis(count * 1_000 / TICKS_PER_SECOND)
}

fn read<T>(path: PathBuf, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, BenchError> {
    let text = fs::read_to_string(&path).map_err(BenchError::io("reading", &path))?;
    parse(&text).ok_or(BenchError::Proc(path))
}

/// Processor time that a process has used, in user and kernel mode.
pub fn cpu(pid: u32) -> Result<Duration, BenchError> {
    read(format!("/proc/{pid}/stat").into(), parse_stat)
}

/// Fields 14 and 15 of `proc_pid_stat(5)`; the name in field 2 may hold anything, so count from its
/// end.
pub fn parse_stat(text: &str) -> Option<Duration> {
    let (_, after_name) = text.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(ticks(user + system))
}

/// Processor time that all processes have used on all cores, including stolen time.
pub fn cpu_of_all() -> Result<Duration, BenchError> {
    read("/proc/stat".into(), parse_cpu)
}

/// User, nice, system, idle, iowait, irq, softirq, steal of `proc_stat(5)`.
pub fn parse_cpu(text: &str) -> Option<Duration> {
    let fields = text
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_ascii_whitespace();
    let values: Vec<u64> = fields
        .take(8)
        .map(|field| field.parse().ok())
        .collect::<Option<_>>()?;
    let [user, nice, system, _, _, irq, softirq, steal] = values.try_into().ok()?;
    Some(ticks(user + nice + system + irq + softirq + steal))
}

pub fn memory(pid: u32) -> Result<Memory, BenchError> {
    read(format!("/proc/{pid}/status").into(), parse_status)
}

/// `VmRSS` and `VmHWM` of `proc_pid_status(5)`.
pub fn parse_status(text: &str) -> Option<Memory> {
    let bytes = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line
            .strip_prefix(':')?
            .trim()
            .strip_suffix(" kB")?
            .parse()
            .ok()?;
        Some(kib * 1_024)
    };
    Some(Memory {
        now_bytes: bytes("VmRSS")?,
        peak_bytes: bytes("VmHWM")?,
    })
}

/// Bytes that a process has caused to be written to the disk.
pub fn written_bytes(pid: u32) -> Result<u64, BenchError> {
    read(format!("/proc/{pid}/io").into(), |text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("write_bytes:"))?;
        line.trim().parse().ok()
    })
}

/// `Threads` of `proc_pid_status(5)`.
pub fn threads(pid: u32) -> Result<u64, BenchError> {
    read(format!("/proc/{pid}/status").into(), |text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("Threads:"))?;
        line.trim().parse().ok()
    })
}

/// Counts the open files in `/proc/PID/fd`. Files that are closed meanwhile are left out.
pub fn open_files(pid: u32) -> Result<OpenFiles, BenchError> {
    let folder = PathBuf::from(format!("/proc/{pid}/fd"));
    let failed = || BenchError::io("listing", &folder);
    let mut open = OpenFiles::default();
    for entry in fs::read_dir(&folder).map_err(failed())? {
        match fs::read_link(entry.map_err(failed())?.path()) {
            Ok(target) if is_table(&target) => open.tables += 1,
            Ok(_) => open.others += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed()(error)),
        }
    }
    Ok(open)
}

/// True if a file is a table of a store, even one that is deleted and still open.
fn is_table(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    name.trim_end_matches(" (deleted)").ends_with(".sst")
}

/// Calls `visit` for every file of a folder and of the folders in it. Files that are removed
/// meanwhile are left out.
fn walk(folder: &Path, visit: &mut dyn FnMut(&Path, &fs::Metadata)) -> Result<(), BenchError> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let failed = || BenchError::io("reading the folder", &folder);
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(failed())?,
        };
        for entry in entries {
            let entry = entry.map_err(failed())?;
            match entry.metadata() {
                Ok(data) if data.is_dir() => folders.push(entry.path()),
                Ok(data) => visit(&entry.path(), &data),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(BenchError::io("looking at", entry.path())(error)),
            }
        }
    }
    Ok(())
}

/// The length of a file or, if that is less, the size that `du` counts. So neither holes count, nor
/// the space that a store reserves ahead of its log.
fn allocated_bytes(data: &fs::Metadata) -> u64 {
    data.len().min(data.blocks() * BLOCK_BYTES)
}

/// The size of a folder on the disk.
pub fn disk_bytes(folder: &Path) -> Result<u64, BenchError> {
    Ok(disk_use(folder)?.all_bytes())
}

/// The size of a node's data directory on the disk, by kind.
pub fn disk_use(folder: &Path) -> Result<DiskUse, BenchError> {
    let mut used = DiskUse::default();
    let mut seen = BTreeSet::new();
    let mut snapshot_files = Vec::new();
    walk(folder, &mut |path, data| {
        let of_snapshot = path
            .components()
            .any(|part| part.as_os_str() == "snapshots");
        if of_snapshot {
            snapshot_files.push((data.ino(), allocated_bytes(data)));
        } else if seen.insert(data.ino()) {
            let sum = if is_table(path) {
                &mut used.tables_bytes
            } else {
                &mut used.logs_bytes
            };
            *sum += allocated_bytes(data);
        }
    })?;
    let only_kept = snapshot_files
        .into_iter()
        .filter(|(inode, _)| seen.insert(*inode));
    used.kept_bytes = only_kept.map(|(_, bytes)| bytes).sum();
    Ok(used)
}
