
//! The edge of a node: what the outside world talks to.

pub mod mqtt;
