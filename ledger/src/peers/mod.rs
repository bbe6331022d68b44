//! The other nodes: messages beside Raft, answers to requests, validators that the chain does not
//! name yet, and how far this node is behind.

pub(crate) mod message;
pub(crate) mod progress;
pub(crate) mod server;
pub(crate) mod validator_discovery;
