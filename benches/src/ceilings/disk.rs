//! The rate of the disk: blocks of 4 KiB made durable one by one, in a file that grows and in one
//! of full size.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::BenchError;
use crate::report::{SyncRate, percentile};

const BLOCK: [u8; 4_096] = [0xA5; 4_096];
/// Size of the file that is overwritten in a ring.
const RING_BLOCKS: u64 = 2_048;
/// Bounds the growing file to 400 MB on a disk whose syncs cost nothing.
const SYNCS_MAX: usize = 100_000;

/// Appends to `files` files at once.
pub fn extending(dir: &Path, files: usize, within: Duration) -> Result<SyncRate, BenchError> {
    measure(dir, files, within, None)
}

/// Overwrites `files` files at once, which were written in full before.
pub fn overwriting(dir: &Path, files: usize, within: Duration) -> Result<SyncRate, BenchError> {
    measure(dir, files, within, Some(RING_BLOCKS))
}

fn measure(
    dir: &Path,
    files: usize,
    within: Duration,
    ring: Option<u64>,
) -> Result<SyncRate, BenchError> {
    let files: Vec<File> = (0..files)
        .map(|_| prepared(dir, ring))
        .collect::<Result<_, _>>()?;
    let begun = Instant::now();
    let taken: Vec<_> = std::thread::scope(|scope| {
        let syncs = |file| scope.spawn(move || sync(file, within, ring));
        let threads: Vec<_> = files.iter().map(syncs).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join();
        threads
            .into_iter()
            .map(join)
            .map(|r| r.expect("the thread does not panic"))
            .collect()
    });
    let elapsed = begun.elapsed().as_secs_f64();
    let mut times_us = Vec::new();
    for times in taken {
        times_us.extend(times.map_err(BenchError::io("syncing a file in", dir))?);
    }
    times_us.sort_unstable();
    Ok(SyncRate {
        per_second: times_us.len() as f64 / elapsed,
        p10_us: percentile(&times_us, 10.0),
        p50_us: percentile(&times_us, 50.0),
        p99_us: percentile(&times_us, 99.0),
    })
}

/// An unnamed file, which is removed with its handle.
fn prepared(dir: &Path, ring: Option<u64>) -> Result<File, BenchError> {
    let failed = || BenchError::io("preparing a file in", dir);
    let file = tempfile::tempfile_in(dir).map_err(failed())?;
    for block in 0..ring.unwrap_or(0) {
        file.write_all_at(&BLOCK, block * BLOCK.len() as u64)
            .map_err(failed())?;
    }
    file.sync_all().map_err(failed())?;
    Ok(file)
}

fn sync(file: &File, within: Duration, ring: Option<u64>) -> std::io::Result<Vec<u32>> {
    let until = Instant::now() + within;
    let mut times_us = Vec::new();
    for block in 0_u64.. {
        let begun = Instant::now();
        if begun >= until || times_us.len() >= SYNCS_MAX {
            break;
        }
        let place = ring.map_or(block, |ring| block % ring);
        file.write_all_at(&BLOCK, place * BLOCK.len() as u64)?;
        file.sync_data()?;
        times_us.push(begun.elapsed().as_micros() as u32);
    }
    Ok(times_us)
}
