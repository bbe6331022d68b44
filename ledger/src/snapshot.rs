//! Images of the whole chain, for a node that is too far behind to follow the log.

use std::path::Path;

use lamplighter_state::tree::Tree;
use lamplighter_state::{StateError, tables};
use lamplighter_store::{Batch, Cf, Direction, Durability, KeyRange, KvView};
use lamplighter_types::Hash;
use lamplighter_types::merkle::History;

use crate::chain::{Chain, Head, nodes_in};

/// Bytes of one write while an image is installed.
const INSTALL_BATCH_BYTES: usize = 4 << 20;

/// Writes an image and returns the marker of consensus that is in it.
pub(crate) fn build(chain: &Chain, dir: &Path) -> Result<Vec<u8>, StateError> {
    chain.kv().checkpoint(dir)?;
    let image = chain.kv().read_checkpoint(dir)?;
    let marker = tables::marker(&*image)?;
    marker.ok_or_else(|| StateError::Missing {
        what: "the marker in a new image".to_owned(),
    })
}

/// Replaces the chain by an image that another node built, after its state was found to have the
/// root that its header names.
pub(crate) fn install(chain: &Chain, dir: &Path) -> Result<(), StateError> {
    let image = chain.kv().read_checkpoint(dir)?;
    let head = load_head(image.clone(), &chain.chain_id())?;
    let mut batch = Batch::new();
    tables::put_installing(&mut batch, true);
    chain.kv().write(batch, Durability::Synced)?;
    for cf in Cf::ALL.into_iter().filter(|cf| cf.is_shared()) {
        copy(chain, &*image, cf)?;
    }
    let mut batch = Batch::new();
    tables::put_installing(&mut batch, false);
    chain.kv().write(batch, Durability::Synced)?;
    chain.advance(|old| {
        *old = head;
        Ok(())
    })
}

fn copy(chain: &Chain, image: &dyn KvView, cf: Cf) -> Result<(), StateError> {
    let mut batch = Batch::new();
    batch.delete_range(cf, KeyRange::all());
    for entry in image.scan(cf, KeyRange::all(), Direction::Forward)? {
        let (key, value) = entry?;
        batch.put(cf, key, value);
        if batch.size_bytes() >= INSTALL_BATCH_BYTES {
            chain
                .kv()
                .write(std::mem::take(&mut batch), Durability::Unsynced)?;
        }
    }
    chain.kv().write(batch, Durability::Unsynced)?;
    Ok(())
}

/// Reads the head from a store and checks what it is built on: the chain, the state tree's root.
///
/// # Errors
/// Another chain's data; a state that does not have the root in its header.
pub(crate) fn load_head(
    store: std::sync::Arc<dyn KvView>,
    chain_id: &Hash,
) -> Result<Head, StateError> {
    let height = tables::head_height(&*store)?.ok_or_else(|| StateError::Missing {
        what: "the head".to_owned(),
    })?;
    let header = tables::header(&*store, height)?.ok_or_else(|| StateError::Missing {
        what: format!("the header {height}"),
    })?;
    if header.chain_id != *chain_id {
        return Err(StateError::Mismatch {
            what: "the chain of the data directory",
            expected: chain_id.to_string(),
            got: header.chain_id.to_string(),
        });
    }
    let tree = Tree::load(&*store)?;
    if tree.root() != header.state_root {
        return Err(StateError::Mismatch {
            what: "the root of the stored state",
            expected: header.state_root.to_string(),
            got: tree.root().to_string(),
        });
    }
    let history: History = tables::load_history(&*store, height + 1)?;
    let last_batch = tables::last_batch(&*store)?;
    let view = lamplighter_state::View::new(store);
    let validators = nodes_in(&view)?.validators;
    let hash = header.hash();
    Ok(Head {
        header,
        hash,
        tree,
        history,
        validators,
        last_batch,
    })
}
