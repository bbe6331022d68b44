//! The deterministic simulation of Lamplighter. See the README of this folder.

mod client;
mod dice;
mod disk;
pub mod entropy;
mod faults;
pub mod fleet;
mod governor;
mod machine;
mod net;
mod node;
mod observe;
pub mod plan;
pub mod planted;
pub mod run;
mod trace;
mod truth;
mod wire;
mod world;
