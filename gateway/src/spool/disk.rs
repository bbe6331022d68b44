//! The steps on the disk that the spool consists of, behind a trait so that tests can let each of
//! them fail.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
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
    /// Makes the replacement the log, durably. After an error it is open which of both is the log,
    /// until [`confirm`](Self::confirm) succeeds.
    fn install_replacement(&mut self) -> io::Result<()>;
    /// Makes sure that the log that is read and written is the one that a restart finds, also after
    /// a power loss.
    fn confirm(&mut self) -> io::Result<()>;
}

/// The files of a directory, which only this process uses.
#[derive(Debug)]
pub struct FileDisk {
    dir: PathBuf,
    log: File,
    /// The replacement, open since before it gets the log's name: after that nothing is opened, so
    /// nothing can fail that would leave this process with the file of the past.
    replacement: Option<File>,
    /// The name of the log leads to `log`, durably.
    is_confirmed: bool,
    sync_directory: fn(&Path) -> io::Result<()>,
    /// Locked for as long as the spool is open.
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
        Self::with_directory_sync(dir, files::sync_parent)
    }

    /// Opens the directory; `sync` syncs the directory of a file.
    pub fn with_directory_sync(dir: &Path, sync: fn(&Path) -> io::Result<()>) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        // The directory itself may be new.
        sync(dir)?;
        let lock = File::create(dir.join(LOCK))?;
        lock.try_lock().map_err(io::Error::from)?;
        // A compaction that did not end may have left it.
        match fs::remove_file(dir.join(REPLACEMENT)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let log = open_log(dir)?;
        sync(&dir.join(LOG))?;
        Ok(Self {
            dir: dir.to_owned(),
            log,
            replacement: None,
            is_confirmed: true,
            sync_directory: sync,
            _lock: lock,
        })
    }

    /// Finds out which of the two files has the name of the log, without opening it: that could
    /// fail.
    fn adopt_log(&mut self) -> io::Result<()> {
        let named = fs::metadata(self.dir.join(LOG))?.ino();
        if self.log.metadata()?.ino() != named {
            let replacement = self.replacement.as_ref().map(File::metadata).transpose()?;
            if replacement.map(|file| file.ino()) != Some(named) {
                return Err(io::Error::other("another file has the name of the log"));
            }
            if let Some(file) = self.replacement.take() {
                self.log = file;
            }
        }
        self.replacement = None;
        Ok(())
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
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(self.dir.join(REPLACEMENT))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        self.replacement = Some(file);
        Ok(())
    }

    fn install_replacement(&mut self) -> io::Result<()> {
        self.is_confirmed = false;
        fs::rename(self.dir.join(REPLACEMENT), self.dir.join(LOG))?;
        self.confirm()
    }

    fn confirm(&mut self) -> io::Result<()> {
        if self.is_confirmed {
            return Ok(());
        }
        self.adopt_log()?;
        (self.sync_directory)(&self.dir.join(LOG))?;
        self.is_confirmed = true;
        Ok(())
    }
}
