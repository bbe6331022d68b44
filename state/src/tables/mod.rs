//! The tables of a node beside the state: blocks, receipts, events, certificates, the history of
//! headers, indexes, and the head of the chain. The functions `put_*` add to the one batch of a
//! block; the others read.
//!
//! Damaged rows are [`StateError::Corrupt`], never a panic.

mod blocks;
mod chain;
mod devices;
mod history;
pub(crate) mod keys;
mod lists;
mod row;
#[cfg(test)]
mod tests;
mod validators;

pub use blocks::{
    block, count_places, encoded_events, encoded_receipts, encoded_transactions, events, header,
    header_hash, headers_after, headers_before, put_block, put_changes, receipt, receipts,
    transaction, transaction_place,
};
pub use chain::{
    attested, certificate, certificates_up_to, head_height, history_node, installing,
    last_attested, last_batch, load_history, marker, newest_certified, prune_attested,
    put_attested, put_certificate, put_history, put_installing, put_last_batch, put_marker,
};
pub use devices::{DeviceEventEntry, device_event, device_events, event};
pub use history::{Authorship, HistoryEntry, Subject, authorship, history};
pub use validators::{
    SetChangeRow, SetPathStep, last_set_change, last_set_path, put_set_path, put_validators,
    set_change, set_changes, set_path, validators_at,
};
