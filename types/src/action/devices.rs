use serde::{Deserialize, Serialize};

use crate::limits::ID_BYTES_MAX;
use crate::record::Tag;
use crate::validate::{self, FieldError};
use crate::{Hash, Id, PublicKey, Scope, Signature, Version};

/// The registry of devices, natively and in the IOTRegistry form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum DevicesAction {
    Register {
        devices: Vec<NewDevice>,
    },
    /// `None` takes the device from its gateway.
    AssignGateway {
        device: Id,
        gateway: Option<Id>,
    },
    /// Replaces all tags.
    Tag {
        device: Id,
        tags: Vec<Tag>,
    },
    /// Offers the title to another organization.
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
    /// For ever; the id is not given again.
    Decommission {
        device: Id,
        reason: String,
    },
    /// What the Thing runs, outside any deployment.
    ReportInventory {
        reports: Vec<InventoryReport>,
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
    /// What a release must name to fit, e.g. `acme-lamp-v2`.
    pub hardware_class: String,
    pub district: Scope,
    pub gateway: Option<Id>,
    /// The Thing's own key, if it has one: then it signs its reports itself.
    pub key: Option<PublicKey>,
    pub tags: Vec<Tag>,
}

/// Why no ledger registers a device, whatever its state.
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
    /// From 1, above all earlier ones of this device: a report can't be replayed.
    pub counter: u64,
    /// By the Thing's key over [`InventoryReport::message`], which docs/formats.md describes.
    pub signature: Option<Signature>,
}
