//! A whole city on one machine: validators, gateways and meshes of simulated Things, each a
//! separate process, with every key, file and port that they need. `lamplighter devnet up` and the
//! end-to-end tests use it.
//!
//! [`Devnet::start`] brings the city up; [`scenario::run`] takes a release through it, from the
//! vendor's upload to the confirmed image in every Thing; [`attacks::run`] tries attacks
//! that must be refused. A [`Journal`] keeps the findings of each step.

pub mod attacks;
mod city;
mod error;
mod feed;
pub mod field;
mod files;
pub mod hostile;
mod journal;
mod link;
mod network;
mod plan;
mod ports;
mod process;
mod psk;
pub mod scenario;
pub mod thing;
mod up;

pub use city::{City, Member};
pub use error::DevnetError;
pub use feed::{FeedState, FeedSubscriber};
pub use journal::{AttackOutcome, Journal, JournalAttack, JournalReport, JournalStep};
pub use link::{Link, Radio};
pub use network::{Devnet, GatewayProcess, MeshProcess, NodeProcess};
pub use plan::{GATEWAYS, Plan, THINGS, VALIDATORS};
pub use process::{Process, until_stdin_ends};
pub use up::{Options, up};
