//! Real processes under real faults, and a check of their clients' histories.
//!
//! Four validators, each in a separate network namespace, are killed, stopped, partitioned and
//! given wrong clocks, while clients send signed transactions and read. At the end the chain of
//! every node is read block by block, and [`check`] compares it with the answers to each client.

mod cast;
pub mod check;
mod client;
mod cluster;
mod error;
mod fleet;
pub mod history;
pub mod links;
mod nemesis;
mod network;
mod reader;
pub mod report;
mod run;
pub mod timeline;
mod world;

#[cfg(test)]
mod tests;

pub use error::ChaosError;
pub use run::{ChaosOptions, FaultKind, run};
