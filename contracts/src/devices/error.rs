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
        CounterTooFar { device: Id, counter: u64, highest: u64 } = "devices.counter_too_far",
            "the counter {counter} of {device} is too far above {highest}, the highest one used";
        SecurityCounter(got: u64) = "devices.security_counter",
            "security counters end at 4294967295 (2^32 - 1), and this is {got}";
        WrongProof(device: Id) = "devices.wrong_proof",
            "the key of {device} needs a proof of possession, its signature for this device";
        KeyProtects(device: Id) = "devices.key_protects",
            "{device} has a key: below its numbers, what it has signed could be sent again. A \
             replaced key lets them begin anew";
        TooManyRotations(device: Id) = "devices.too_many_rotations",
            "{device} has rotated its key 32 times, which is the most";
        NoKey(device: Id) = "devices.no_key",
            "{device} has no key";
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
