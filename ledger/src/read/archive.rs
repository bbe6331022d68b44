//! Pages of the archive: blocks for those who execute them again.

use lamplighter_state::{StateError, tables};
use lamplighter_types::wire::ArchivePage;

use crate::chain::Chain;

/// A page of the certified blocks from a height on, and the height of the last certified block.
/// The page is empty behind it. Blocks without a certificate are left out: their changes of the
/// validators could not be followed yet.
///
/// # Errors
/// The store can't be read, or lacks a part of a block.
pub(crate) fn page(chain: &Chain, from: u64) -> Result<(ArchivePage, u64), StateError> {
    // Read first, so that the view has all of it.
    let certified = chain.certified_height();
    let view = chain.consistent_view()?;
    let store = &**view.store();
    let mut page = ArchivePage::default();
    // The block of height 0 follows from the genesis file, and nobody signs it.
    for height in from.max(1)..=certified {
        let header = tables::header(store, height)?.ok_or_else(|| StateError::Missing {
            what: format!("the header {height}"),
        })?;
        let transactions = tables::encoded_transactions(store, height)?;
        let receipts = tables::encoded_receipts(store, height)?;
        let certificate = tables::certificate(store, height)?;
        page.push(&header, &transactions, &receipts, certificate.as_ref());
        if page.is_full() {
            break;
        }
    }
    Ok((page, certified))
}
