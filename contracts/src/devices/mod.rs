//! The registry of devices: their owners, districts, gateways and running firmware.
//!
//! | action | who | refused |
//! |---|---|---|
//! | register | operator of the device's district | id or key taken, no proof of possession of the key, unknown owner, gateway of another district |
//! | assign a gateway, tag | operator of the district | decommissioned, gateway of another district or disabled |
//! | offer, withdraw a transfer of title | operator of the district who belongs to the owner | decommissioned, offered already, nothing offered |
//! | accept it | operator of the district who belongs to the organization that it was offered to | nothing offered to it |
//! | suspend, resume, decommission | operator of the district | wrong status |
//! | report inventory | the device's gateway | not active, used counter, wrong signature, unsigned though the device has a key |
//! | rotate its key | the device, through its gateway | not active, used counter, not signed by the present key, no proof of possession, key taken, 32 rotations |
//! | reset numbers, replace the key, release the hardware of a decommissioned device | governance | see [`reset`], [`replace_key`], [`reuse_hardware`] |
//! | IOTRegistry operation | relay or administrator of the whole city | see [`iotregistry`] |
//! | link a registrant to an organization | administrator of the whole city | unknown registrant or organization |
//!
//! A device's id, model, hardware class and district never change, and a decommissioned device
//! keeps its id. Its key changes by rotation or replacement only. Each new key proves that its
//! holder wants it for this device, and a former one is never a key again, so that what it signed
//! is not accepted twice; governance may release the key of a decommissioned device for another
//! id. A device's gateway must be enabled, and the gateway's district must cover the device's.
//!
//! *Reports* of a device (inventory, deployment, configuration) carry a counter that only rises.
//! For a device with a key only the reports that it signed move the counter, so that its gateway
//! can't use the numbers up. See [`accept_report`]. The counters of a device without a key rise in
//! small steps ([`VOUCHED_JUMP_MAX`]), so that a gateway can't use them up either.
//!
//! *Drift*: a device whose reported digest is neither that of its confirmed release nor that of the
//! rollout under way is marked as drifted, until it reports the right one again. The floor of the
//! security counter rises by confirmed releases and by inventories that the device signed, never by
//! the word of its gateway alone, and falls only when governance resets it.

mod access;
mod error;
mod execute;
pub mod iotregistry;
pub mod keys;
mod lifecycle;
mod ownership_transfer;
mod read;
mod registration;
mod repair;
mod reports;
#[cfg(test)]
mod tests;

pub(crate) use access::device_of_gateway;
use access::device_of_operator;
pub use access::require_active;
pub use error::DevicesError;
pub use execute::{check, execute};
pub use iotregistry::state::{iotregistry_check, iotregistry_query};
pub use read::*;
pub(crate) use repair::{check_counters, replace_key, reset, reuse_hardware};
pub use reports::{AcceptedReport, COUNTER_JUMP_MAX, VOUCHED_JUMP_MAX, accept_report};
