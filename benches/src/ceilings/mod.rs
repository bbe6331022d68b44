//! The ceilings of the machine for the two needs of every transaction: verifying a signature, and
//! making bytes durable on the disk.

mod disk;
mod signatures;

use std::path::Path;
use std::time::Duration;

use crate::error::BenchError;
use crate::report::{Ceilings, SyncRate};

/// Duration of one measurement; a longer one gives no better rate.
const MEASURE_MAX: Duration = Duration::from_secs(3);

/// Measures the fdatasync of a growing file once more, for the next phase.
pub fn fdatasync(dir: &Path, seconds: u64) -> Result<SyncRate, BenchError> {
    disk::extending(dir, 1, MEASURE_MAX.min(Duration::from_secs(seconds)))
}

/// Measures each ceiling for at most `seconds` seconds, in a quiet machine.
pub fn measure(dir: &Path, seconds: u64) -> Result<Ceilings, BenchError> {
    let within = MEASURE_MAX.min(Duration::from_secs(seconds));
    let messages = signatures::SignedMessages::new();
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
