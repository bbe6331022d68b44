//! Tests of the tree, the tables and the making of proofs, through the public interface.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod fixture;
mod history;
mod prove;
mod record_cache;
mod set_path;
mod speed;
mod tables;
mod tree;
