//! What the machine does at best of the two things that every transaction needs: a signature
//! verified, and bytes that are safe on the disk.

mod disk;
mod signatures;

use std::path::Path;
use std::time::Duration;

use crate::error::BenchError;
use crate::report::{Ceilings, SyncRate};

/// Long enough for a rate; more would only warm the room.
const MEASURE_MAX: Duration = Duration::from_secs(3);

/// A growing file's fdatasync once more, for what is measured next.
pub fn fdatasync(dir: &Path, seconds: u64) -> Result<SyncRate, BenchError> {
    disk::extending(dir, 1, MEASURE_MAX.min(Duration::from_secs(seconds)))
}

/// Measures each ceiling for at most `seconds` seconds, in a quiet machine.
pub fn measure(dir: &Path, seconds: u64) -> Result<Ceilings, BenchError> {
    let within = MEASURE_MAX.min(Duration::from_secs(seconds));
    let messages = signatures::Messages::new();
    Ok(Ceilings {
        signs_per_second: messages.sign(within),
        single_verifications_per_second: messages.verify_single(within),
        batch_verifications_per_second: messages.verify_batch(within),
        fdatasync_extending: disk::extending(dir, 1, within)?,
        fdatasync_overwriting: disk::overwriting(dir, 1, within)?,
        fdatasync_extending_4_files: disk::extending(dir, 4, within)?,
        fdatasync_overwriting_4_files: disk::overwriting(dir, 4, within)?,
    })
}
