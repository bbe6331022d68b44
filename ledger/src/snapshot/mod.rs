//! Images of the whole chain, for a node that is too far behind to follow the log.
//!
//! An image is a checkpoint of the store with one more file, [`PROOF`]: the proof that its header
//! is certified, which is there as soon as the validators have signed it. A receiver checks all of
//! it from the genesis file upwards before it replaces a byte of its own (see `check`). Readers see
//! the old chain until the new one is whole. A crash in between leaves a note of the image that was
//! being installed, and the next start begins with installing it anew.

mod check;

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use lamplighter_state::{StateError, prove, tables};
use lamplighter_store::{Batch, Cf, Direction, Durability, KeyRange, Kv, KvView, StoreError};
use lamplighter_types::Genesis;
use lamplighter_types::limits::PROOF_BYTES_MAX;
use lamplighter_types::proof::HeaderProof;
use tokio::sync::watch;

use crate::blocking::Blocking;
use crate::chain::Chain;

pub use self::check::ImageError;
pub(crate) use self::check::{check, load_head};

/// The file of an image that proves its header; no store has a file of that name.
const PROOF: &str = "header-proof";
/// Bytes of one write while an image is installed.
const INSTALL_BATCH_BYTES: usize = 4 << 20;

/// How far the installation of an image has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installation {
    /// Of the image's header.
    pub height: u64,
    /// Bytes of keys and values that are written.
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

/// Waits until the header of an image of this node is certified, and adds the proof. As long as it
/// is not certified nobody would take the image.
pub(crate) async fn seal(
    chain: &std::sync::Arc<Chain>,
    blocking: Blocking,
    dir: &Path,
) -> Result<(), StateError> {
    if dir.join(PROOF).exists() {
        return Ok(());
    }
    let (kv, path) = (chain.kv().clone(), dir.to_owned());
    let height = blocking.run(move || height_of(&*kv, &path)).await?;
    let mut certified = chain.watch_certified();
    loop {
        let newest = *certified.borrow_and_update();
        // Nobody signs the genesis header; the first certificate above proves it.
        if newest >= height.max(1) {
            let proof = prove::header_proof(&*chain.store(), height, newest)?;
            let path = dir.join(PROOF);
            let written = blocking.run(move || write_synced(&path, &proof.to_bytes()));
            return Ok(written.await?);
        }
        if certified.changed().await.is_err() {
            return Err(StateError::Missing {
                what: format!("the certificate at height {height}"),
            });
        }
    }
}

fn height_of(kv: &dyn Kv, dir: &Path) -> Result<u64, StateError> {
    let image = kv.read_checkpoint(dir)?;
    tables::head_height(&*image)?.ok_or_else(|| StateError::Missing {
        what: "the head in an image".to_owned(),
    })
}

/// Whole or not there, whatever happens meanwhile.
fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    // Not a name that an image is sent with.
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        fs::File::open(path.parent().unwrap_or(path))?.sync_all()
    };
    write().map_err(StoreError::io("write the proof of an image", path))
}

/// Replaces the chain by an image that was checked.
pub(crate) fn install(
    chain: &Chain,
    dir: &Path,
    progress: &watch::Sender<Option<Installation>>,
) -> Result<(), StateError> {
    let image = chain.kv().read_checkpoint(dir)?;
    let head = load_head(image.clone(), &chain.chain_id())?;
    chain.pin_readers()?;
    replace(&**chain.kv(), &*image, dir, head.header.height, progress)?;
    chain.replace(head)
}

/// Goes on with an installation that a crash interrupted, before the chain is opened.
pub(crate) fn resume(kv: &dyn Kv, genesis: &Genesis) -> Result<(), ImageError> {
    let Some(dir) = tables::installing(kv)? else {
        return Ok(());
    };
    let dir = PathBuf::from(dir);
    tracing::info!(image = %dir.display(), "an installation was interrupted: it begins again");
    let (image, head) = check(kv, &dir, genesis)?;
    let progress = watch::Sender::new(None);
    replace(kv, &*image, &dir, head.header.height, &progress)?;
    // It was a transfer's, which is over. It only takes space.
    if let Some(Err(error)) = dir.parent().map(fs::remove_dir_all) {
        tracing::warn!(image = %dir.display(), %error, "an image that was installed stays");
    }
    Ok(())
}

/// The note is durable before anything is replaced, and goes when all is.
fn replace(
    kv: &dyn Kv,
    image: &dyn KvView,
    dir: &Path,
    height: u64,
    progress: &watch::Sender<Option<Installation>>,
) -> Result<(), StateError> {
    let mut batch = Batch::new();
    tables::put_installing(&mut batch, Some(&dir.to_string_lossy()));
    kv.write(batch, Durability::Synced)?;
    let mut done = Installation { height, bytes: 0 };
    let proven = tables::newest_certified(image, 0)?.unwrap_or(0);
    for cf in Cf::ALL.into_iter().filter(|cf| cf.is_shared()) {
        copy(kv, image, cf, proven, |bytes| {
            done.bytes += bytes;
            progress.send_replace(Some(done));
        })?;
    }
    let mut batch = Batch::new();
    tables::put_installing(&mut batch, None);
    kv.write(batch, Durability::Synced)?;
    progress.send_replace(None);
    tracing::info!(height, bytes = done.bytes, "an image is installed");
    Ok(())
}

/// Certificates above the newest proven one were not checked and stay behind. This node's own are
/// of the same chain, and it may have one that nobody can make again: they stay.
fn copy(
    kv: &dyn Kv,
    image: &dyn KvView,
    cf: Cf,
    proven: u64,
    mut wrote: impl FnMut(u64),
) -> Result<(), StateError> {
    let mut batch = Batch::new();
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
            wrote(batch.size_bytes() as u64);
            kv.write(std::mem::take(&mut batch), Durability::Unsynced)?;
        }
    }
    wrote(batch.size_bytes() as u64);
    kv.write(batch, Durability::Unsynced)?;
    Ok(())
}

fn read_proof(dir: &Path) -> Result<HeaderProof, ImageError> {
    let path = dir.join(PROOF);
    // It comes from another node, and may be as large as an image.
    let read = || -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let limit = PROOF_BYTES_MAX as u64 + 1;
        fs::File::open(&path)?.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(StoreError::io("read the proof of an image", &path))?;
    HeaderProof::from_bytes(&bytes).map_err(ImageError::Proof)
}
