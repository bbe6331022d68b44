use lamplighter_types::{DeviceStatus, Id, NewDeviceError, PublicKey, Scope};

use crate::refusal::refusals;
use crate::validate::FieldError;

refusals! {
    /// Why the devices contract refuses an action.
    pub enum DevicesError [Field(FieldError)] {
        UnknownDevice(device: Id) = "devices.unknown_device",
            "there is no device {device}";
        DeviceExists(device: Id) = "devices.device_exists",
            "the id {device} is or was that of a device";
        WeakKey(key: PublicKey) = "devices.weak_key",
            "the key {key} is no point of the curve or of small order";
        KeyTaken { key: PublicKey, device: Id } = "devices.key_taken",
            "the key {key} is or was that of the device {device}";
        UnknownOrganization(organization: Id) = "devices.unknown_organization",
            "there is no organization {organization}";
        NotAGateway(account: Id) = "devices.not_a_gateway",
            "{account} is not a gateway in use";
        GatewayElsewhere { gateway: Id, district: Scope } = "devices.gateway_elsewhere",
            "the district of gateway {gateway} does not cover {district}";
        WrongStatus { device: Id, status: DeviceStatus } = "devices.wrong_status",
            "the device {device} is {status}";
        NotOfOrganization { account: Id, organization: Id } = "devices.not_of_organization",
            "{account} does not belong to {organization}";
        OwnerAlready(organization: Id) = "devices.owner_already",
            "{organization} has the title already";
        Offered { device: Id, to: Id } = "devices.offered",
            "the title of {device} is offered to {to} already";
        NotOffered(device: Id) = "devices.not_offered",
            "the title of {device} is not offered";
        NotYourDevice { device: Id, account: Id } = "devices.not_your_device",
            "{account} is not the gateway of {device}";
        WrongSignature(device: Id) = "devices.wrong_signature",
            "the report of {device} is not signed by its key";
        Unsigned(device: Id) = "devices.unsigned",
            "{device} has a key of its own, which did not sign this report";
        CounterUsed { device: Id, counter: u64, highest: u64 } = "devices.counter_used",
            "the counter {counter} of {device} is not above {highest}, the highest one used";
        UnknownRegistrant(registrant: String) = "devices.unknown_registrant",
            "there is no registrant {registrant}";
    }
}

impl From<NewDeviceError> for DevicesError {
    fn from(error: NewDeviceError) -> Self {
        match error {
            NewDeviceError::Field(error) => Self::Field(error),
            NewDeviceError::WeakKey(key) => Self::WeakKey(key),
        }
    }
}
