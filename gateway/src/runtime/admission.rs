//! The admission of Things: a Thing may register if its endpoint name stands for a device of this
//! gateway.

use lamplighter_types::{Hash, Id};

use super::device_table::DeviceTable;
use crate::config::PlainCoap;
use crate::credentials::{CredentialStore, DeviceKey, Protection};
use crate::lwm2m::Endpoints;
use crate::south::{ServedDevices, ThingKey};

/// The rules for endpoint names, and the devices as last proven.
pub(super) struct ThingAdmission {
    pub endpoints: Endpoints,
    pub devices: DeviceTable,
    /// The ledger that Things sign for.
    pub chain_id: Hash,
    pub plain: PlainCoap,
    /// The keys of Things, if there is DTLS or OSCORE.
    pub credentials: Option<CredentialStore>,
}

impl ServedDevices for ThingAdmission {
    fn resolve(&self, endpoint_name: &str) -> Option<String> {
        let device = self.endpoints.device(endpoint_name)?.to_string();
        self.devices.admits(&device).then_some(device)
    }

    fn serves(&self, endpoint: &str) -> bool {
        self.devices.admits(endpoint)
    }

    fn key(&self, endpoint: &str) -> Option<ThingKey> {
        let device = self.devices.get(&Id::new(endpoint).ok()?)?;
        let chain_id = self.chain_id;
        device.key.map(|key| ThingKey { chain_id, key })
    }

    fn device_key(&self, endpoint: &str, preferred: Protection) -> Option<DeviceKey> {
        self.credentials.as_ref()?.device_key(endpoint, preferred)
    }

    fn admits_plain(&self, endpoint: &str) -> bool {
        let mut credentials = self.credentials.iter();
        match self.plain {
            PlainCoap::Everybody => true,
            PlainCoap::WithoutCredentials => !credentials.any(|store| store.has_device(endpoint)),
            PlainCoap::Never => false,
        }
    }
}
