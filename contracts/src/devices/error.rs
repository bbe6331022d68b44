use lamplighter_types::crypto::BadSignature;
use lamplighter_types::{DeviceStatus, Id, NewDeviceError, PublicKey, Scope};

use crate::ContractError;
use crate::validate::FieldError;

/// Why the devices contract refuses an action.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DevicesError {
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error("there is no device {0}")]
    UnknownDevice(Id),
    #[error("the id {0} is or was that of a device")]
    DeviceExists(Id),
    #[error("the key {0} is no point of the curve or of small order")]
    WeakKey(PublicKey),
    #[error("the key {key} is or was that of the device {device}")]
    KeyTaken { key: PublicKey, device: Id },
    #[error("there is no organization {0}")]
    UnknownOrganization(Id),
    #[error("{0} is not a gateway in use")]
    NotAGateway(Id),
    #[error("the district of gateway {gateway} does not cover {district:?}")]
    GatewayElsewhere { gateway: Id, district: Scope },
    #[error("the device {device} is {status:?}")]
    WrongStatus { device: Id, status: DeviceStatus },
    #[error("{account} does not belong to {organization}")]
    NotOfOrganization { account: Id, organization: Id },
    #[error("{0} has the title already")]
    OwnerAlready(Id),
    #[error("the title of {device} is offered to {to} already")]
    Offered { device: Id, to: Id },
    #[error("the title of {0} is not offered")]
    NotOffered(Id),
    #[error("{account} is not the gateway of {device}")]
    NotYourDevice { device: Id, account: Id },
    #[error("the report of {0} is not signed by its key")]
    WrongSignature(Id, #[source] BadSignature),
    #[error("{0} has a key of its own, which did not sign this report")]
    Unsigned(Id),
    #[error("the counter {counter} of {device} is not above {highest}, the highest one used")]
    CounterUsed {
        device: Id,
        counter: u64,
        highest: u64,
    },
    #[error("the key for {0} did not sign its introduction")]
    WrongProof(Id, #[source] BadSignature),
    #[error("{0} has no key")]
    NoKey(Id),
    #[error("there is no registrant {0}")]
    UnknownRegistrant(String),
}

impl From<NewDeviceError> for DevicesError {
    fn from(error: NewDeviceError) -> Self {
        match error {
            NewDeviceError::Field(error) => Self::Field(error),
            NewDeviceError::WeakKey(key) => Self::WeakKey(key),
        }
    }
}

impl ContractError for DevicesError {
    fn code(&self) -> &'static str {
        match self {
            Self::Field(error) => error.code(),
            Self::UnknownDevice(_) => "devices.unknown_device",
            Self::DeviceExists(_) => "devices.device_exists",
            Self::WeakKey(_) => "devices.weak_key",
            Self::KeyTaken { .. } => "devices.key_taken",
            Self::UnknownOrganization(_) => "devices.unknown_organization",
            Self::NotAGateway(_) => "devices.not_a_gateway",
            Self::GatewayElsewhere { .. } => "devices.gateway_elsewhere",
            Self::WrongStatus { .. } => "devices.wrong_status",
            Self::NotOfOrganization { .. } => "devices.not_of_organization",
            Self::OwnerAlready(_) => "devices.owner_already",
            Self::Offered { .. } => "devices.offered",
            Self::NotOffered(_) => "devices.not_offered",
            Self::NotYourDevice { .. } => "devices.not_your_device",
            Self::WrongSignature(..) => "devices.wrong_signature",
            Self::Unsigned(_) => "devices.unsigned",
            Self::CounterUsed { .. } => "devices.counter_used",
            Self::WrongProof(..) => "devices.wrong_proof",
            Self::NoKey(_) => "devices.no_key",
            Self::UnknownRegistrant(_) => "devices.unknown_registrant",
        }
    }
}
