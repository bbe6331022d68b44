//! Images of the whole chain, for a node that is too far behind to follow the log.
//!
//! An image is a checkpoint of the store with one more file, [`PROOF_FILE`]: the proof that its
//! header is certified, added as soon as the validators have signed it. A receiver checks all of it
//! from the genesis file upwards before it replaces a byte of its own (see `snapshot_check`), takes
//! over only the rows that were checked, and makes the indexes anew.
//!
//! The image is offered as one of the entry that carried its last block, although its sender may
//! have applied more: that entry's marker has its digest in the certified header. What came after
//! it and made no block (changes of the membership, void batches) the receiver gets by the log.
//! Readers see the old chain until the new one is whole. A crash in between leaves a record of the
//! image that was being installed, and the next start begins with installing it again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lamplighter_state::tree::Tree;
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

/// Writes an image and returns the marker of its last block's entry; none before the first block.
pub(crate) fn build(chain: &Chain, dir: &Path) -> Result<Option<Vec<u8>>, StateError> {
    chain.kv().checkpoint(dir)?;
    let image = chain.kv().read_checkpoint(dir)?;
    tables::position(&*image)
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
    let head = load_head(image.clone(), &chain.chain_id(), chain.empty_tree())?;
    chain.pin_reads()?;
    replace(&**chain.kv(), &*image, dir, head.header.height, progress)?;
    chain.replace(head)
}

/// Repeats an installation that a crash interrupted, before the chain is opened.
pub(crate) fn resume(kv: &dyn Kv, genesis: &Genesis, empty: Tree) -> Result<(), ImageError> {
    let Some(dir) = tables::installing(kv)? else {
        return Ok(());
    };
    let dir = PathBuf::from(dir);
    tracing::info!(image = %dir.display(), "an installation was interrupted: it begins again");
    let (image, head) = check(kv, &dir, genesis, empty)?;
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
    let mut copy = Copy {
        kv,
        batch: WriteBatch::new(),
        written: Installation { height, bytes: 0 },
        progress,
    };
    for cf in Cf::ALL.into_iter().filter(|cf| cf.is_shared()) {
        // This node's certificates are kept: they are of the same chain, and one of them may be
        // impossible to make again.
        if cf != Cf::Certificates {
            copy.batch.delete_range(cf, KeyRange::all());
        }
    }
    copy.proven_rows(image)?;
    copy.indexes(image)?;
    copy.certificates(image)?;
    copy.marker(image)?;
    let bytes = copy.finish()?;
    let mut batch = WriteBatch::new();
    tables::put_installing(&mut batch, None);
    kv.write(batch, Durability::Synced)?;
    progress.send_replace(None);
    tracing::info!(height, bytes, "an image is installed");
    Ok(())
}

/// The writes of an installation, some megabytes at a time.
struct Copy<'a> {
    kv: &'a dyn Kv,
    batch: WriteBatch,
    written: Installation,
    progress: &'a watch::Sender<Option<Installation>>,
}

impl Copy<'_> {
    fn proven_rows(&mut self, image: &dyn KvView) -> Result<(), StateError> {
        for (cf, range) in tables::proven_ranges(self.written.height) {
            for entry in image.scan(cf, range, Direction::Forward)? {
                let (key, value) = entry?;
                if cf == Cf::State {
                    tables::put_record_terms(&mut self.batch, &key, &value)?;
                }
                self.batch.put(cf, key, value);
                self.write_if_large()?;
            }
            self.write()?;
        }
        Ok(())
    }

    /// The indexes are made of the blocks: the sender's could name anything.
    fn indexes(&mut self, image: &dyn KvView) -> Result<(), StateError> {
        for height in 0..=self.written.height {
            let receipts = tables::receipts(image, height)?;
            let receipts: Vec<_> = receipts.into_iter().map(Arc::new).collect();
            let events = tables::events(image, height)?;
            let header = tables::header(image, height)?;
            let header = header.ok_or_else(|| StateError::Missing {
                what: format!("the header {height} of an image"),
            })?;
            tables::put_indexes(&mut self.batch, &header, &receipts, &events);
            self.write_if_large()?;
        }
        Ok(())
    }

    /// The certificates that were checked: the newest proves every header but those that change the
    /// validators, which have their own. Where this node has one it stays, whoever signed the
    /// other: the paths of set changes (`set_path`) are made of it.
    fn certificates(&mut self, image: &dyn KvView) -> Result<(), StateError> {
        let Some(newest) = tables::newest_certified(image, 0)? else {
            return Ok(());
        };
        for change in tables::set_changes(image, 1..newest)? {
            let (height, ..) = change?;
            self.certificate(image, height)?;
            self.write_if_large()?;
        }
        self.certificate(image, newest)
    }

    fn certificate(&mut self, image: &dyn KvView, height: u64) -> Result<(), StateError> {
        if tables::certificate(self.kv, height)?.is_none() {
            let certified = prove::certified_header(image, height)?;
            tables::put_certificate(&mut self.batch, &certified.certificate);
        }
        Ok(())
    }

    /// This node continues after the last block's entry, whatever its sender had applied.
    fn marker(&mut self, image: &dyn KvView) -> Result<(), StateError> {
        if let Some(position) = tables::position(image)? {
            tables::put_marker(&mut self.batch, &position);
        }
        Ok(())
    }

    fn write_if_large(&mut self) -> Result<(), StateError> {
        if self.batch.size_bytes() >= INSTALL_BATCH_BYTES {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), StateError> {
        let batch = std::mem::take(&mut self.batch);
        let bytes = self.written.bytes.saturating_add(batch.size_bytes() as u64);
        self.written.bytes = bytes;
        self.kv.write(batch, Durability::Unsynced)?;
        self.progress.send_replace(Some(self.written));
        Ok(())
    }

    /// Writes the rest and returns the bytes of all.
    fn finish(mut self) -> Result<u64, StateError> {
        self.write()?;
        Ok(self.written.bytes)
    }
}
