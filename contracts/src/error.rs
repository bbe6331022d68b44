//! The two ways in which execution ends early.

use lamplighter_state::StateError;

use crate::refusal::{ContractError, Refusal};

/// The two ways in which execution ends early. The type keeps them apart: a refusal goes into the
/// receipt, a failure stops the node.
#[derive(Debug, thiserror::Error)]
pub enum ExecutionError {
    #[error("{0}")]
    Refused(Refusal),
    #[error("the state can't be read")]
    Fatal(#[from] StateError),
}

impl<E: ContractError> From<E> for ExecutionError {
    fn from(error: E) -> Self {
        Self::Refused(Refusal::of(error))
    }
}
