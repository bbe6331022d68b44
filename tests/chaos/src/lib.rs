//! Real processes under real faults, and clients whose histories are judged.
//!
//! Four validators, each in a network namespace of its own, are killed, stopped, parted from each
//! other and given wrong clocks, while clients send signed transactions and read. At the end the
//! chain of every node is read block by block, and [`check`] compares it with what each client was
//! told.

pub mod check;
mod client;
mod cluster;
mod error;
mod fleet;
pub mod history;
mod lab;
pub mod links;
mod nemesis;
mod reader;
pub mod report;
mod run;
pub mod timeline;
mod world;

#[cfg(test)]
mod tests;

pub use error::ChaosError;
pub use run::{Kind, Options, run};
