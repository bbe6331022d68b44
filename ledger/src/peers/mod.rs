//! The other nodes: answers to their requests, validators that the chain does not name yet, and how
//! far this node is behind.

pub(crate) mod health;
pub(crate) mod progress;
pub(crate) mod server;
pub(crate) mod validator_discovery;
