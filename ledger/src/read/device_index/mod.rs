//! The index of devices of a store that is older than the index, or to which an older program added
//! blocks.

#[cfg(test)]
mod tests;

use lamplighter_state::{StateError, tables};
use lamplighter_store::{Cf, Direction, Durability, Kv, WriteBatch};

/// Bytes of one write while the index is made.
const BUILD_BATCH_BYTES: usize = 4 << 20;

/// Makes the index where it is not that of the newest block: its terms from the state, and the
/// times at which devices were last seen from the blocks that it lacks. Until it is complete the
/// store has no height of it, so that after a crash it is made again.
pub(crate) fn complete(kv: &dyn Kv, head: u64) -> Result<(), StateError> {
    let indexed = tables::devices_indexed(kv)?;
    if indexed == Some(head) {
        return Ok(());
    }
    let first = indexed.map_or(0, |indexed| indexed.saturating_add(1));
    tracing::info!(first, head, "the index of devices is made");
    let mut batch = WriteBatch::new();
    tables::remove_device_terms(&mut batch);
    kv.write(std::mem::take(&mut batch), Durability::Unsynced)?;
    for range in tables::ranges_with_terms() {
        for entry in kv.scan(Cf::State, range, Direction::Forward)? {
            let (key, record) = entry?;
            tables::put_record_terms(&mut batch, &key, &record)?;
            write_if_large(kv, &mut batch)?;
        }
    }
    for height in first..=head {
        tables::index_seen(kv, &mut batch, height)?;
        write_if_large(kv, &mut batch)?;
    }
    tables::put_devices_indexed(&mut batch, head);
    kv.write(batch, Durability::Unsynced)?;
    tracing::info!(head, "the index of devices is complete");
    Ok(())
}

fn write_if_large(kv: &dyn Kv, batch: &mut WriteBatch) -> Result<(), StateError> {
    if batch.size_bytes() >= BUILD_BATCH_BYTES {
        kv.write(std::mem::take(batch), Durability::Unsynced)?;
    }
    Ok(())
}
