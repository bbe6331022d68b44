//! The tables of a node beside the state: blocks, receipts, events, certificates, the history of
//! headers, indexes, and the head of the chain. The functions `put_*` add to the one batch of a
//! block; the others read.
//!
//! Damaged rows are [`StateError::Corrupt`], never a panic.

mod blocks;
mod chain;
mod device_terms;
mod devices;
mod feed;
mod history;
mod image;
pub(crate) mod keys;
mod lists;
mod row;
#[cfg(test)]
mod tests;
mod validators;

pub use blocks::{
    BlockLists, block, count_places, encoded_events, encoded_receipts, encoded_transactions,
    events, header, header_hash, headers_after, headers_before, put_block, put_changes,
    put_encoded_block, put_indexes, receipt, receipts, transaction, transaction_place,
};
pub use chain::{
    attested, certificate, certificates_up_to, count_history_nodes, head_height, history_node,
    installing, last_attested, load_history, marker, newest_certified, position, prune_attested,
    put_attested, put_certificate, put_history, put_installing, put_marker, put_position,
};
pub use device_terms::{
    DeviceTerm, LastSeen, all_seen, devices_indexed, devices_with, having_term, index_seen,
    last_seen, put_device_terms, put_devices_indexed, put_record_terms, ranges_with_terms,
    remove_device_terms,
};
pub use devices::{DeviceEventEntry, device_event, device_events, event};
pub use feed::{FeedKey, feed_indexed, index_feed_block, next_feed_block};
pub use history::{Authorship, HistoryEntry, Subject, history};
pub use image::proven_ranges;
pub use lists::EncodedList;
pub use validators::{
    SetChangeRow, SetPathStep, last_set_change, last_set_path, put_set_path, put_validators,
    set_change, set_changes, set_changes_before, set_path, validators_at,
};
