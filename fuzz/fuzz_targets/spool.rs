//! The log of a gateway's spool as it may be found on a disk: opened, or refused as damaged, never
//! half of it.
#![no_main]

use std::io;
use std::sync::{Arc, Mutex};

use lamplighter_gateway::spool::{Disk, Spool};
use libfuzzer_sys::fuzz_target;

const SPOOL_BYTES_MAX: u64 = 1 << 20;

/// A log in memory.
#[derive(Clone, Default)]
struct MemoryDisk {
    log: Arc<Mutex<Vec<u8>>>,
    replacement: Vec<u8>,
}

impl MemoryDisk {
    fn with<T>(&self, change: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        change(&mut self.log.lock().expect("one thread uses it"))
    }
}

impl Disk for MemoryDisk {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.with(|log| log.clone()))
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.with(|log| log.extend_from_slice(bytes));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.with(|log| log.truncate(length as usize));
        Ok(())
    }

    fn write_replacement(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.replacement = bytes.to_vec();
        Ok(())
    }

    fn install_replacement(&mut self) -> io::Result<()> {
        let replacement = std::mem::take(&mut self.replacement);
        self.with(|log| *log = replacement);
        Ok(())
    }

    fn confirm(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fuzz_target!(|bytes: &[u8]| {
    // The checksum of each frame is right, so that the records behind it are read too.
    let mut log = Vec::new();
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first() {
        let (records, after) = after.split_at(after.len().min(usize::from(*length)));
        rest = after;
        log.extend_from_slice(&(records.len() as u32).to_le_bytes());
        log.extend_from_slice(&lamplighter_types::Hash::of(records).0[..8]);
        log.extend_from_slice(records);
    }
    for found in [log, bytes.to_vec()] {
        let disk = MemoryDisk::default();
        disk.with(|log| *log = found);
        let Ok(spool) = Spool::with_disk(Box::new(disk.clone()), SPOOL_BYTES_MAX) else {
            continue;
        };
        let before = spool.state().records();
        drop(spool);
        let again = Spool::with_disk(Box::new(disk), SPOOL_BYTES_MAX);
        let again = again.expect("what was opened once opens again");
        assert_eq!(again.state().records().len(), before.len());
    }
});
