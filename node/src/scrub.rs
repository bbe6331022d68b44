//! The scrubber: reads the files of the disk slowly and periodically and compares them with their
//! digests, so that damage is found before the data are needed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lamplighter_consensus::Consensus;
use lamplighter_ledger::Handle;
use lamplighter_ledger::artifacts::ArtifactScrub;
use lamplighter_rocks::{RocksKv, Scrub};
use lamplighter_store::StoreError;
use lamplighter_system::error_chain;
use tokio_util::sync::CancellationToken;

use crate::fatal_errors::FatalErrors;

/// The interval of steps; each also records new tables.
const STEP_INTERVAL: Duration = Duration::from_secs(1);

/// Steps between two checks of images, which share nearly all of their files with the store.
const IMAGES_STEPS: u64 = 16;

/// Scrubs the store, the images and the artifacts.
pub(crate) struct Scrubber {
    pub kv: RocksKv,
    pub handle: Handle,
    pub consensus: Consensus,
    /// The directory of the images.
    pub images: PathBuf,
    pub bytes_per_s: u64,
    pub fatal_errors: FatalErrors,
}

impl Scrubber {
    /// Runs until the node stops. Damage to the store ends it, a damaged artifact is moved aside
    /// and fetched again, a damaged image is replaced by a new one.
    pub async fn run(self, stop: CancellationToken) {
        let steps = async {
            let (mut tables, mut artifacts) = (Scrub::default(), ArtifactScrub::default());
            let mut images = 0;
            for step in 1u64.. {
                tokio::time::sleep(STEP_INTERVAL).await;
                if let Err(error) = self.tables(&mut tables).await {
                    self.fatal_errors.report(&error_chain(&error));
                    return;
                }
                if step % IMAGES_STEPS == 0
                    && let Err(error) = self.images(&mut images).await
                {
                    tracing::warn!(error = error_chain(&error), "images are not scrubbed");
                }
                let artifact_store = self.handle.artifacts();
                artifact_store.scrub(&mut artifacts, self.bytes_per_s).await;
            }
        };
        stop.run_until_cancelled(steps).await;
    }

    async fn tables(&self, scrub: &mut Scrub) -> Result<(), StoreError> {
        let (kv, mut at, bytes) = (self.kv.clone(), std::mem::take(scrub), self.bytes_per_s);
        let step = tokio::task::spawn_blocking(move || {
            kv.note_tables()?;
            kv.scrub(&mut at, bytes).map(|()| at)
        });
        *scrub = step.await.expect("scrubbing does not panic")?;
        Ok(())
    }

    async fn images(&self, at: &mut usize) -> Result<(), StoreError> {
        let (kv, dir, mut next) = (self.kv.clone(), self.images.clone(), *at);
        let bytes = self.bytes_per_s;
        let step = tokio::task::spawn_blocking(move || {
            let damage = kv.scrub_images(&images_in(&dir)?, &mut next, bytes)?;
            Ok((damage, next))
        });
        let result: Result<_, StoreError> = step.await.expect("scrubbing does not panic");
        let (damage, next) = result?;
        *at = next;
        if let Some(damage) = damage {
            tracing::error!(%damage, "an image for other nodes is damaged; a new one is made");
            if let Err(error) = self.consensus.trigger_snapshot().await {
                tracing::warn!(%error, "no new image is made");
            }
        }
        Ok(())
    }
}

/// The directories of the complete images.
fn images_in(dir: &Path) -> Result<BTreeSet<PathBuf>, StoreError> {
    let entries = std::fs::read_dir(dir).map_err(StoreError::io("list", dir))?;
    let mut images = BTreeSet::new();
    for entry in entries {
        let entry = entry.map_err(StoreError::io("list", dir))?;
        if entry.file_name().to_string_lossy().starts_with("snapshot-") {
            images.insert(entry.path().join("data"));
        }
    }
    Ok(images)
}
