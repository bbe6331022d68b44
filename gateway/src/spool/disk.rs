//! The steps on the disk that the spool consists of, behind a trait so that tests can let each of
//! them fail.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use lamplighter_system::files;

/// The log file and its replacement.
pub trait Disk: Send {
    /// Reads the whole log.
    fn read(&mut self) -> io::Result<Vec<u8>>;
    /// Writes at the end of the log; durable after [`sync`](Self::sync).
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the log; durable after [`sync`](Self::sync).
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    /// Writes and syncs a replacement of the log.
    fn write_replacement(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes the replacement the log, durably.
    fn install_replacement(&mut self) -> io::Result<()>;
}

/// The files of a directory, which only this process uses.
#[derive(Debug)]
pub struct FileDisk {
    dir: PathBuf,
    log: File,
    /// DeferredReports for as long as the spool is open.
    _lock: File,
}

const LOG: &str = "log";
const REPLACEMENT: &str = "log.new";
const LOCK: &str = "lock";

impl FileDisk {
    /// Opens the directory.
    ///
    /// # Errors
    /// The directory can't be made or written, or another process uses it.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let lock = File::create(dir.join(LOCK))?;
        lock.try_lock().map_err(io::Error::from)?;
        // A compaction that did not end may have left it.
        match fs::remove_file(dir.join(REPLACEMENT)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let log = open_log(dir)?;
        files::sync_parent(&dir.join(LOG))?;
        Ok(Self {
            dir: dir.to_owned(),
            log,
            _lock: lock,
        })
    }
}

fn open_log(dir: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let mut log = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(dir.join(LOG))?;
    log.seek(SeekFrom::End(0))?;
    Ok(log)
}

impl Disk for FileDisk {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.log.seek(SeekFrom::Start(0))?;
        self.log.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.log.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.log.sync_data()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.log.set_len(length)?;
        self.log.seek(SeekFrom::Start(length)).map(drop)
    }

    fn write_replacement(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(self.dir.join(REPLACEMENT))?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn install_replacement(&mut self) -> io::Result<()> {
        files::rename(&self.dir.join(REPLACEMENT), &self.dir.join(LOG))?;
        self.log = open_log(&self.dir)?;
        Ok(())
    }
}
