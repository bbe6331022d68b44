//! Reads of the chain: waiting for a height, the feed of notifications, proofs.

pub(crate) mod device_index;
pub(crate) mod feed;
pub(crate) mod prove;
pub(crate) mod wait;
