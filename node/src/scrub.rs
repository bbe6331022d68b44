//! Reads again and again what is on the disk, slowly, and compares it with its digests: bytes that
//! change are found before somebody needs them.

use std::time::Duration;

use lamplighter_ledger::Handle;
use lamplighter_ledger::artifacts::ArtifactScrub;
use lamplighter_rocks::{RocksKv, Scrub};
use tokio_util::sync::CancellationToken;

use crate::failure::Failures;

/// Between two steps. New tables are noted in each.
const STEP_EVERY: Duration = Duration::from_secs(1);

/// Runs until the node stops. Damage to the store ends it, a damaged artifact is moved aside and
/// fetched again.
pub(crate) async fn run(
    kv: RocksKv,
    handle: Handle,
    bytes_per_s: u64,
    failures: Failures,
    stop: CancellationToken,
) {
    let steps = async {
        let (mut tables, mut artifacts) = (Scrub::default(), ArtifactScrub::default());
        loop {
            tokio::time::sleep(STEP_EVERY).await;
            let (kv, mut at) = (kv.clone(), std::mem::take(&mut tables));
            let step = tokio::task::spawn_blocking(move || {
                kv.note_tables()?;
                kv.scrub(&mut at, bytes_per_s).map(|()| at)
            });
            match step.await {
                Ok(Ok(at)) => tables = at,
                Ok(Err(error)) => failures.report(&crate::causes(&error)),
                Err(_) => return,
            }
            handle.artifacts().scrub(&mut artifacts, bytes_per_s).await;
        }
    };
    stop.run_until_cancelled(steps).await;
}
