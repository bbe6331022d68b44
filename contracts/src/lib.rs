//! The contracts: the rules of the city's registries. Each depends on state, context and action
//! alone: with anything else two nodes could make different blocks of one batch.
//!
//! `check` validates an action without the state (shape and size); `execute` carries it out on an
//! overlay. A refused action changes nothing and its error code is in the receipt; a failure to
//! read the state stops the node.
//!
//! The module of each contract documents who may do what. A right over a device is a role whose
//! scope covers the device's district; a right over the whole city is a role with the empty scope.

pub mod admission;
pub mod allowance;
mod batch;
pub mod config;
mod context;
pub mod devices;
mod error;
pub mod events;
pub mod execute;
pub mod firmware;
pub mod genesis;
pub mod governance;
mod reader;
pub mod refusal;
pub mod rollouts;
#[cfg(test)]
mod tests;
pub mod users;

pub use admission::AdmissionError;
pub use context::{BlockContext, Context, Forbidden};
pub use error::ExecutionError;
pub use lamplighter_types::{tables, validate};
pub use reader::Reader;
pub use refusal::{ContractError, Refusal};
