//! The thread that writes the seal.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lamplighter_store::StoreError;

use super::digests::FileDigests;
use super::files::{self, folder, log_number, manifest_number};
use crate::health::Health;

/// The seal that survives a power loss.
pub(crate) const DURABLE: &str = "sealed";
/// The seal that survives the end of the process.
pub(crate) const NOW: &str = "sealed-now";
/// The pause between two rounds while there is work.
const PAUSE: Duration = Duration::from_millis(30);
/// The longest wait for a sync already in progress.
const SYNC_WITHIN: Duration = Duration::from_millis(30);
/// The pause between two seals that survive a power loss.
const DURABLE_EVERY: Duration = Duration::from_secs(1);
/// The pause between two rounds without a sync: a flush in the background lets the manifest grow.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Default)]
struct SyncCounts {
    /// Syncs that have begun.
    begun: u64,
    /// The last of those that are done, by its number.
    done: u64,
    /// The number of finished syncs when the last round began.
    sealed_syncs: u64,
    ends: bool,
}

/// Counts the syncs of a store.
#[derive(Default)]
pub(crate) struct Syncs {
    counts: Mutex<SyncCounts>,
    changed: Condvar,
}

impl Syncs {
    fn lock(&self) -> MutexGuard<'_, SyncCounts> {
        self.counts.lock().expect("nobody panics with the lock")
    }

    /// Counts a sync that begins, and returns its number.
    pub fn begin(&self) -> u64 {
        let mut counts = self.lock();
        counts.begun += 1;
        counts.begun
    }

    /// Counts a sync that succeeded.
    pub fn done(&self, number: u64) {
        let mut counts = self.lock();
        counts.done = counts.done.max(number);
        self.changed.notify_all();
    }

    /// Waits for a sync that no round has seen, until an instant at most; `false` at the end.
    fn wait(&self, until: Instant) -> bool {
        let mut counts = self.lock();
        loop {
            if counts.ends {
                return false;
            }
            if counts.done > counts.sealed_syncs {
                counts.sealed_syncs = counts.done;
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            let waited = self.changed.wait_timeout(counts, left);
            counts = waited.expect("nobody panics with the lock").0;
        }
    }

    /// Waits until a sync that begins after this call is done; `false` after the timeout.
    fn another(&self, within: Duration) -> bool {
        let mut counts = self.lock();
        let after = counts.begun;
        let end = Instant::now() + within;
        while counts.done <= after && !counts.ends {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(counts, left);
            counts = waited.expect("nobody panics with the lock").0;
        }
        counts.done > after
    }

    fn end(&self) {
        self.lock().ends = true;
        self.changed.notify_all();
    }
}

/// Seals the growing files of one store.
pub(crate) struct Sealer {
    syncs: Arc<Syncs>,
    thread: Option<JoinHandle<()>>,
}

impl Sealer {
    /// Starts the thread for a store that was just opened.
    pub fn start(dir: &Path, syncs: Arc<Syncs>, health: Arc<Health>) -> Result<Self, StoreError> {
        let folder = folder(dir);
        fs::create_dir_all(&folder).map_err(StoreError::io("create", &folder))?;
        let mut work = Work {
            dir: dir.to_owned(),
            folder,
            sealed: BTreeMap::new(),
            health,
        };
        // Before anything is promised: the seal of the last run does not hold any more.
        work.seal(&syncs, true)
            .map_err(StoreError::io("seal", dir))?;
        let sealer_syncs = syncs.clone();
        let run = move || work.run(&sealer_syncs);
        let thread = std::thread::Builder::new().name("seal".to_owned());
        let thread = thread.spawn(run).map_err(StoreError::io("seal", dir))?;
        Ok(Self {
            syncs,
            thread: Some(thread),
        })
    }
}

impl Drop for Sealer {
    fn drop(&mut self) {
        self.syncs.end();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that seals panicked");
        }
    }
}

struct Work {
    dir: PathBuf,
    folder: PathBuf,
    sealed: BTreeMap<String, FileDigests>,
    health: Arc<Health>,
}

impl Work {
    fn run(mut self, syncs: &Syncs) {
        let mut durable_at: Option<Instant> = None;
        loop {
            let running = syncs.wait(durable_at.unwrap_or_else(|| Instant::now() + LOOK_EVERY));
            let durable =
                !running || durable_at.is_some_and(|durable_at| durable_at <= Instant::now());
            if self.health.failure().is_some() {
                return;
            }
            let changed = match self.seal(syncs, durable) {
                Ok(changed) => changed,
                Err(error) => {
                    let error = StoreError::io("seal", &self.folder)(error);
                    self.health.broke(&self.dir, error);
                    return;
                }
            };
            if !running {
                return;
            }
            if durable {
                durable_at = None;
            } else if changed {
                durable_at.get_or_insert_with(|| Instant::now() + DURABLE_EVERY);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Takes the lengths, waits until they are synced, and writes the seal. Returns whether
    /// anything was new.
    fn seal(&mut self, syncs: &Syncs, durable: bool) -> io::Result<bool> {
        let mut longer = Vec::new();
        let mut present = BTreeMap::new();
        for name in files::names(&self.dir)? {
            if log_number(&name).is_none() && manifest_number(&name).is_none() {
                continue;
            }
            // Files come and go while we look.
            let file = match File::open(self.dir.join(&name)) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let bytes = file.metadata()?.len();
            let recorded = self.sealed.remove(&name).unwrap_or_default();
            if recorded.bytes != bytes {
                longer.push((name.clone(), file, bytes));
            }
            present.insert(name, recorded);
        }
        let deleted = !std::mem::replace(&mut self.sealed, present).is_empty();
        if !durable && !deleted && longer.is_empty() {
            return Ok(false);
        }
        self.make_durable(&longer, syncs)?;
        for (name, file, bytes) in longer {
            self.sealed.entry(name).or_default().grow(&file, bytes)?;
        }
        self.write(durable)?;
        Ok(true)
    }

    /// Makes the lengths durable. RocksDB syncs the manifest whenever it grows, but we can see it
    /// grow before that sync, so it is synced here. The logs are synced by the user of the store,
    /// or here when there is no such sync.
    fn make_durable(&self, longer: &[(String, File, u64)], syncs: &Syncs) -> io::Result<()> {
        let logs = longer.iter().any(|(name, ..)| log_number(name).is_some());
        let logs_synced = !logs || syncs.another(SYNC_WITHIN);
        for (name, file, _) in longer {
            if !logs_synced || log_number(name).is_none() {
                file.sync_data()?;
            }
        }
        Ok(())
    }

    fn write(&self, durable: bool) -> io::Result<()> {
        let lines = self.sealed.iter();
        let lines: Vec<_> = lines
            .map(|(name, digests)| format!("{name} {}", digests.to_line()))
            .collect();
        if durable {
            files::replace(&self.folder.join(DURABLE), &lines)?;
        }
        files::write(&self.folder.join(NOW), &lines)
    }
}
