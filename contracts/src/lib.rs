//! The rules of the city's registries. Every function here is a function of state, context and action alone:
//! anything else would let two nodes make different blocks of one batch.
//!
//! `check` looks at an action alone (shape and size); `execute` carries it out on an overlay. A refused
//! action changes nothing and its error code is in the receipt; a failure to read the state stops the node.

mod context;
pub mod devices;
mod error;
pub mod tables;

pub use context::{BlockContext, Context, Forbidden};
pub use error::{ContractError, ExecutionError, Refusal};
