//! The deterministic simulation of Lamplighter. See the README of this folder.

mod bounds;
mod client;
mod disk;
pub mod entropy;
mod faults;
pub mod fleet;
pub mod lies;
mod measures;
mod membership;
mod net;
mod node;
mod observe;
mod oracle;
pub mod plan;
pub mod planted;
mod raft_messages;
mod rng;
pub mod run;
mod split;
mod state_machine;
mod trace;
mod world;
