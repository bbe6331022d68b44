//! The state of the ledger at a height: records under keys, the overlay that buffers the writes of
//! a block, the tree whose root every header has, and the tables of blocks, receipts and events.

mod error;
mod key;
mod overlay;
pub mod prove;
mod record_cache;
pub mod set_path;
pub mod tables;
pub mod tree;
mod view;

#[cfg(test)]
mod tests;

pub use error::StateError;
pub use key::Key;
pub use overlay::{Changes, Growth, Overlay};
pub use record_cache::RecordCache;
pub use view::{EncodedRecord, View};
