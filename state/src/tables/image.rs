//! The rows of an image that a receiver takes over.

use lamplighter_store::{Cf, KeyRange};

use super::keys::{
    EVENTS, HEAD, HEADERS, HISTORY, PLACES, POSITION, RECEIPTS, StoreTable, TRANSACTIONS,
    VALIDATORS,
};
use super::row;

/// The ranges of keys, by column family, of everything in an image of a chain with this height that
/// its header proves. Another row is a stranger's word, and is not taken over: certificates are
/// checked one by one, indexes follow from the blocks.
pub fn proven_ranges(height: u64) -> Vec<(Cf, KeyRange)> {
    let up_to = |table: StoreTable| {
        let end = table.height(height.saturating_add(1));
        (table.cf, KeyRange::between(table.height(0), end))
    };
    let all = |table: StoreTable| (table.cf, row::whole(table));
    let only = |table: StoreTable| {
        let mut end = table.only();
        end.push(0);
        (table.cf, KeyRange::between(table.only(), end))
    };
    vec![
        (Cf::State, KeyRange::all()),
        up_to(HEADERS),
        up_to(TRANSACTIONS),
        up_to(RECEIPTS),
        up_to(EVENTS),
        all(PLACES),
        all(HISTORY),
        up_to(VALIDATORS),
        only(HEAD),
        only(POSITION),
    ]
}
