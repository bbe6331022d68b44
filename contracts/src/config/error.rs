use lamplighter_types::Id;
use lamplighter_types::json::JsonError;

use crate::ContractError;
use crate::validate::FieldError;

/// Why the config contract refuses an action.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error("the document, {0}")]
    Document(JsonError),
    #[error("the document is not a JSON object")]
    NotAnObject,
    #[error("the document of the whole city is that of the fleet")]
    UseFleet,
    #[error("there is no device {0}, or it is decommissioned")]
    NoSuchDevice(Id),
    #[error("version {replaces} would be replaced, but the current one is {current}")]
    OtherVersion { replaces: u64, current: u64 },
}

impl ContractError for ConfigError {
    fn code(&self) -> &'static str {
        match self {
            Self::Field(error) => error.code(),
            Self::Document(_) => "config.document",
            Self::NotAnObject => "config.not_an_object",
            Self::UseFleet => "config.use_fleet",
            Self::NoSuchDevice(_) => "config.no_such_device",
            Self::OtherVersion { .. } => "config.other_version",
        }
    }
}
