use std::error::Error;

use lamplighter_state::StateError;
use lamplighter_types::validate::FieldError;

/// Why an action was refused: part of the receipt, equal on all nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Stable, `contract.reason`.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

impl Refusal {
    /// The receipt's form of a contract's error. Its causes are left out: their texts come from
    /// libraries, and receipts must be equal on nodes that were built with other versions of
    /// them.
    pub fn of<E: ContractError>(error: E) -> Self {
        Self {
            code: error.code(),
            message: error.to_string(),
        }
    }
}

/// The two ways in which execution can end early. The type keeps them apart: the first goes
/// into the receipt, the second stops the node.
#[derive(Debug, thiserror::Error)]
pub enum ExecutionError {
    #[error("{}", .0.message)]
    Refused(Refusal),
    #[error("the state can't be read")]
    Fatal(#[from] StateError),
}

/// A contract's own error enum: every variant has a stable code.
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
