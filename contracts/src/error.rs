//! Refusals, which are part of receipts, and failures, which stop the node.

use std::error::Error;

use lamplighter_state::StateError;
use lamplighter_types::validate::FieldError;

/// The refusal of an action: part of the receipt, equal on all nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Stable code of the form `contract.reason`.
    pub code: &'static str,
    /// Text for people.
    pub message: String,
}

impl Refusal {
    /// The refusal for a contract's error. Its causes are left out: their texts come from
    /// libraries, and receipts must be equal on nodes that were built with other versions of them.
    pub fn of<E: ContractError>(error: E) -> Self {
        Self {
            code: error.code(),
            message: error.to_string(),
        }
    }
}

/// The two ways in which execution ends early. The type keeps them apart: a refusal goes into the
/// receipt, a failure stops the node.
#[derive(Debug, thiserror::Error)]
pub enum ExecutionError {
    #[error("{}", .0.message)]
    Refused(Refusal),
    #[error("the state can't be read")]
    Fatal(#[from] StateError),
}

/// The error enum of a contract: every variant has a stable code.
pub trait ContractError: Error {
    fn code(&self) -> &'static str;
}

impl<E: ContractError> From<E> for ExecutionError {
    fn from(error: E) -> Self {
        Self::Refused(Refusal::of(error))
    }
}

impl ContractError for FieldError {
    fn code(&self) -> &'static str {
        match self {
            Self::Empty { .. } => "shape.empty",
            Self::TooLong { .. } => "shape.too_long",
            Self::ControlCharacter { .. } => "shape.control_character",
            Self::Repeated { .. } => "shape.repeated",
            Self::TooLarge { .. } => "shape.too_large",
        }
    }
}
