//! Third stage: committed batches become blocks on this node's chain, and tickets are resolved.

pub(crate) mod chain;
pub(crate) mod resolver;
pub(crate) mod snapshot;
pub(crate) mod snapshot_check;
pub(crate) mod state_machine;
