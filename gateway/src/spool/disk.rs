//! The few steps on the disk that the spool is made of, apart so that tests can let each of them
//! fail.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The log file and the one that is to replace it.
pub trait Disk: Send {
    /// Everything in the log.
    fn read(&mut self) -> io::Result<Vec<u8>>;
    /// Writes at the end of the log; durable after [`sync`](Self::sync).
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the log; durable after [`sync`](Self::sync).
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    /// Writes and syncs the file that is to replace the log.
    fn write_new(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes it the log, for ever.
    fn put_in_place(&mut self) -> io::Result<()>;
}

/// Files of a directory that this process alone uses.
#[derive(Debug)]
pub struct FileDisk {
    dir: PathBuf,
    log: File,
    /// Held for as long as the spool is open.
    _lock: File,
}

const LOG: &str = "log";
const NEW: &str = "log.new";
const LOCK: &str = "lock";

impl FileDisk {
    /// Opens the directory.
    ///
    /// # Errors
    /// It can't be made or written, or another process uses it.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let lock = File::create(dir.join(LOCK))?;
        lock.try_lock().map_err(io::Error::from)?;
        // A leftover of a compaction that did not end.
        match fs::remove_file(dir.join(NEW)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let log = open_log(dir)?;
        File::open(dir)?.sync_all()?;
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

    fn write_new(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(self.dir.join(NEW))?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn put_in_place(&mut self) -> io::Result<()> {
        fs::rename(self.dir.join(NEW), self.dir.join(LOG))?;
        File::open(&self.dir)?.sync_all()?;
        self.log = open_log(&self.dir)?;
        Ok(())
    }
}
