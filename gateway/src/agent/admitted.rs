//! Which Things may register: those whose endpoint name stands for a device of this gateway.

use super::devices::Devices;
use crate::lwm2m::Endpoints;
use crate::south::ServedDevices;

/// The rules for names, and the devices as last proven.
pub(super) struct Admitted {
    pub endpoints: Endpoints,
    pub devices: Devices,
}

impl ServedDevices for Admitted {
    fn resolve(&self, endpoint_name: &str) -> Option<String> {
        let device = self.endpoints.device(endpoint_name)?.to_string();
        self.devices.admits(&device).then_some(device)
    }

    fn serves(&self, endpoint: &str) -> bool {
        self.devices.admits(endpoint)
    }
}
