//! Third stage: committed batches become blocks on this node's chain; images of the chain are made,
//! checked and installed.

pub(crate) mod execution;
pub(crate) mod snapshot;
pub(crate) mod snapshot_check;
pub(crate) mod state_machine;
