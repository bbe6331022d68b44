use lamplighter_types::{Device, Fact, Notification, Place};

/// A notification about no device in particular.
pub fn in_city(fact: Fact) -> Notification {
    Notification { place: None, fact }
}

/// A notification about a device, for those who follow it, its gateway or its district.
pub fn about_device(device: &Device, fact: Fact) -> Notification {
    let place = Place {
        device: device.device.clone(),
        district: device.district.clone(),
        gateway: device.gateway.clone(),
    };
    Notification {
        place: Some(place),
        fact,
    }
}
