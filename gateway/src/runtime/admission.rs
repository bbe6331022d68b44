//! The admission of Things: a Thing may register if its endpoint name stands for a device of this
//! gateway.

use super::device_table::DeviceTable;
use crate::lwm2m::Endpoints;
use crate::south::ServedDevices;

/// The rules for endpoint names, and the devices as last proven.
pub(super) struct ThingAdmission {
    pub endpoints: Endpoints,
    pub devices: DeviceTable,
}

impl ServedDevices for ThingAdmission {
    fn resolve(&self, endpoint_name: &str) -> Option<String> {
        let device = self.endpoints.device(endpoint_name)?.to_string();
        self.devices.admits(&device).then_some(device)
    }

    fn serves(&self, endpoint: &str) -> bool {
        self.devices.admits(endpoint)
    }
}
