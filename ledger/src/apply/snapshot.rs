//! Images of the whole chain, for a node that is too far behind to follow the log.
//!
//! An image is a checkpoint of the store with one more file, [`PROOF_FILE`]: the proof that its
//! header is certified, added as soon as the validators have signed it. A receiver checks all of it
//! from the genesis file upwards before it replaces a byte of its own (see `snapshot_check`).
//! Readers see the old chain until the new one is whole. A crash in between leaves a record of the
//! image that was being installed, and the next start begins with installing it again.

use std::fs;
use std::path::{Path, PathBuf};

use lamplighter_state::{StateError, prove, tables};
use lamplighter_store::{Cf, Direction, Durability, KeyRange, Kv, KvView, StoreError, WriteBatch};
use lamplighter_system::files;
use lamplighter_types::Genesis;
use tokio::sync::watch;

use super::snapshot_check::{ImageError, PROOF_FILE, check, load_head};
use crate::blocking::Blocking;
use crate::chain::Chain;

/// Bytes of one write while an image is installed.
const INSTALL_BATCH_BYTES: usize = 4 << 20;

/// The progress of an image's installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installation {
    /// Height of the image.
    pub height: u64,
    /// Bytes of keys and values written so far.
    pub bytes: u64,
}

/// Writes an image and returns the marker of consensus that is in it.
pub(crate) fn build(chain: &Chain, dir: &Path) -> Result<Vec<u8>, StateError> {
    chain.kv().checkpoint(dir)?;
    let image = chain.kv().read_checkpoint(dir)?;
    let marker = tables::marker(&*image)?;
    marker.ok_or_else(|| StateError::Missing {
        what: "the marker in a new image".to_owned(),
    })
}

/// Waits until the header of this node's image is certified, and adds the proof. No node would take
/// the image before.
pub(crate) async fn seal(chain: &Chain, blocking: Blocking, dir: &Path) -> Result<(), StateError> {
    if dir.join(PROOF_FILE).exists() {
        return Ok(());
    }
    let (kv, path) = (chain.kv().clone(), dir.to_owned());
    let (height, trusted) = blocking.run(move || heights_of(&*kv, &path)).await?;
    let mut certified = chain.watch_certified();
    loop {
        let newest = *certified.borrow_and_update();
        // The genesis header is not signed; the first certificate above proves it.
        if newest >= height.max(1) {
            let store = chain.store();
            let prove = move || prove::header_proof(&*store, height, newest, trusted);
            let proof = blocking.run(prove).await?;
            let path = dir.join(PROOF_FILE);
            // Its temporary name is none that an image is sent with.
            let write = move || {
                files::replace(&path, &proof.to_bytes())
                    .map_err(StoreError::io("write the proof of an image", &path))
            };
            return Ok(blocking.run(write).await?);
        }
        if certified.changed().await.is_err() {
            return Err(StateError::Missing {
                what: format!("the certificate at height {height}"),
            });
        }
    }
}

/// The height of an image, and that of the last change of the validators to which its certificates
/// lead: a receiver needs the proof from there.
fn heights_of(kv: &dyn Kv, dir: &Path) -> Result<(u64, u64), StateError> {
    let image = kv.read_checkpoint(dir)?;
    let height = tables::head_height(&*image)?.ok_or_else(|| StateError::Missing {
        what: "the head in an image".to_owned(),
    })?;
    let mut trusted = 0;
    for change in tables::set_changes(&*image, 1..u64::MAX)? {
        let (height, ..) = change?;
        if tables::certificate(&*image, height)?.is_none() {
            break;
        }
        trusted = height;
    }
    Ok((height, trusted))
}

/// Replaces the chain by an image that was checked.
pub(crate) fn install(
    chain: &Chain,
    dir: &Path,
    progress: &watch::Sender<Option<Installation>>,
) -> Result<(), StateError> {
    let image = chain.kv().read_checkpoint(dir)?;
    let head = load_head(image.clone(), &chain.chain_id())?;
    chain.pin_reads()?;
    replace(&**chain.kv(), &*image, dir, head.header.height, progress)?;
    chain.replace(head)
}

/// Repeats an installation that a crash interrupted, before the chain is opened.
pub(crate) fn resume(kv: &dyn Kv, genesis: &Genesis) -> Result<(), ImageError> {
    let Some(dir) = tables::installing(kv)? else {
        return Ok(());
    };
    let dir = PathBuf::from(dir);
    tracing::info!(image = %dir.display(), "an installation was interrupted: it begins again");
    let (image, head) = check(kv, &dir, genesis)?;
    let progress = watch::Sender::new(None);
    replace(kv, &*image, &dir, head.header.height, &progress)?;
    // The folder belonged to a transfer that has ended: it only takes space.
    if let Some(Err(error)) = dir.parent().map(fs::remove_dir_all) {
        tracing::warn!(image = %dir.display(), %error, "an image that was installed stays");
    }
    Ok(())
}

/// Replaces the chain in the store. The record of the installation is durable before anything is
/// replaced, and is deleted after all is.
fn replace(
    kv: &dyn Kv,
    image: &dyn KvView,
    dir: &Path,
    height: u64,
    progress: &watch::Sender<Option<Installation>>,
) -> Result<(), StateError> {
    let mut batch = WriteBatch::new();
    tables::put_installing(&mut batch, Some(&dir.to_string_lossy()));
    kv.write(batch, Durability::Synced)?;
    let mut written = Installation { height, bytes: 0 };
    let proven = tables::newest_certified(image, 0)?.unwrap_or(0);
    for cf in Cf::ALL.into_iter().filter(|cf| cf.is_shared()) {
        copy(kv, image, cf, proven, |bytes| {
            written.bytes += bytes;
            progress.send_replace(Some(written));
        })?;
    }
    let mut batch = WriteBatch::new();
    tables::put_installing(&mut batch, None);
    kv.write(batch, Durability::Synced)?;
    progress.send_replace(None);
    tracing::info!(height, bytes = written.bytes, "an image is installed");
    Ok(())
}

/// Copies one column family. The image's certificates above the newest proven one were not checked
/// and are not copied. This node's certificates are kept: they are of the same chain, and one of
/// them may be impossible to make again.
fn copy(
    kv: &dyn Kv,
    image: &dyn KvView,
    cf: Cf,
    proven: u64,
    mut report: impl FnMut(u64),
) -> Result<(), StateError> {
    let mut batch = WriteBatch::new();
    let range = match cf {
        Cf::Certificates => tables::certificates_up_to(proven),
        _ => {
            batch.delete_range(cf, KeyRange::all());
            KeyRange::all()
        }
    };
    for entry in image.scan(cf, range, Direction::Forward)? {
        let (key, value) = entry?;
        batch.put(cf, key, value);
        if batch.size_bytes() >= INSTALL_BATCH_BYTES {
            report(batch.size_bytes() as u64);
            kv.write(std::mem::take(&mut batch), Durability::Unsynced)?;
        }
    }
    report(batch.size_bytes() as u64);
    kv.write(batch, Durability::Unsynced)?;
    Ok(())
}
