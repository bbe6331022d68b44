use serde::{Deserialize, Serialize};

use crate::limits::ID_BYTES_MAX;
use crate::record::Tag;
use crate::validate::{self, FieldError};
use crate::{Hash, Id, PublicKey, Scope, Signature, Version};

/// Actions on the registry of devices, in our own form and in that of IOTRegistry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum DevicesAction {
    Register {
        devices: Vec<NewDevice>,
    },
    /// Assigns a device to a gateway; `None` leaves it without one.
    AssignGateway {
        device: Id,
        gateway: Option<Id>,
    },
    /// Replaces all tags of a device.
    Tag {
        device: Id,
        tags: Vec<Tag>,
    },
    /// Offers the title to a device to another organization.
    OfferTransfer {
        device: Id,
        to: Id,
    },
    WithdrawTransfer {
        device: Id,
    },
    AcceptTransfer {
        device: Id,
    },
    Suspend {
        device: Id,
        reason: String,
    },
    Resume {
        device: Id,
    },
    /// Takes a device out of service for ever. Its id is never used again.
    Decommission {
        device: Id,
        reason: String,
    },
    /// Reports the firmware that Things run, outside any deployment.
    ReportInventory {
        reports: Vec<InventoryReport>,
    },
    /// Replaces keys of devices at the wish of the devices themselves, all or none. Their gateway
    /// sends it, after everything that their present keys have signed. Governance replaces the key
    /// of a device that can't do it any more.
    RotateKeys {
        rotations: Vec<KeyRotation>,
    },
    /// An IOTRegistry `invoke`: `createRegistrant`, `registerThing` or `registerSpec` with its hex
    /// message.
    IotRegistry {
        function: String,
        argument: String,
    },
    /// Makes a registrant (its compressed key in hex) act for an organization.
    LinkRegistrant {
        registrant: String,
        organization: Id,
    },
}

/// A device to be registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewDevice {
    pub device: Id,
    /// The organization that has the title.
    pub owner: Id,
    pub model: String,
    /// The class that a release must name to fit, e.g. `acme-lamp-v2`.
    pub hardware_class: String,
    pub district: Scope,
    pub gateway: Option<Id>,
    /// The Thing's own key, if it has one: then it signs its reports itself.
    pub key: Option<PublicKey>,
    /// The key's proof of possession
    /// ([`KeyPurpose::Device`](crate::KeyPurpose)), which says that it wants to be this device.
    pub proof: Option<Signature>,
    pub tags: Vec<Tag>,
}

/// Why a device is refused whatever the state of the ledger.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NewDeviceError {
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error("the key {0} is no point of the curve or of small order")]
    WeakKey(PublicKey),
}

impl NewDevice {
    /// Checks shape and size.
    ///
    /// # Errors
    /// The first field that no ledger takes.
    pub fn check(&self) -> Result<(), NewDeviceError> {
        let Self {
            device: _,
            owner: _,
            model,
            hardware_class,
            district: _,
            gateway: _,
            key,
            // It depends on the ledger, and is verified there.
            proof: _,
            tags,
        } = self;
        validate::name("model", model, ID_BYTES_MAX)?;
        validate::name("hardware_class", hardware_class, ID_BYTES_MAX)?;
        if let Some(key) = key
            && !key.is_acceptable()
        {
            return Err(NewDeviceError::WeakKey(*key));
        }
        Ok(Tag::check_all(tags)?)
    }
}

/// The running firmware as the Thing reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InventoryReport {
    pub device: Id,
    /// The running version, if the Thing knows one.
    pub version: Option<Version>,
    /// blake3 of the active slot.
    pub digest: Hash,
    pub security_counter: u64,
    /// Begins at 1 and rises with each report of this device: a report can't be replayed.
    pub counter: u64,
    /// The signature of the Thing's key over [`InventoryReport::message`], which docs/formats.md
    /// describes.
    pub signature: Option<Signature>,
}

/// The wish of a device to sign with another key from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeyRotation {
    pub device: Id,
    pub new_key: PublicKey,
    /// The new key's proof of possession ([`KeyPurpose::Device`](crate::KeyPurpose)).
    pub proof: Signature,
    /// One of the counters of the device's reports.
    pub counter: u64,
    /// The signature of the present key over [`KeyRotation::message`], which docs/formats.md
    /// describes.
    pub signature: Option<Signature>,
}
