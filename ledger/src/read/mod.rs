//! Reads of the chain: waiting for a height, the feed of notifications, proofs, the archive.

pub(crate) mod archive;
pub(crate) mod device_index;
pub(crate) mod feed;
pub(crate) mod prove;
pub(crate) mod wait;
