//! Queries of configuration.

use std::collections::BTreeMap;

use lamplighter_state::StateError;
use lamplighter_types::json::{self, JsonValue};
use lamplighter_types::{ConfigTarget, DesiredConfig, Device, Hash, Id, ReportedConfig};

use super::keys;
use super::merge::merge;
use crate::Reader;

/// The desired document of one target.
pub fn desired(
    reader: &impl Reader,
    target: &ConfigTarget,
) -> Result<Option<DesiredConfig>, StateError> {
    reader.get(&keys::desired(target))
}

/// The last report of a device about its configuration.
pub fn reported(reader: &impl Reader, device: &Id) -> Result<Option<ReportedConfig>, StateError> {
    reader.get(&keys::reported(device))
}

/// The effective document of a device and its blake3 digest; `{}` if nothing was set.
///
/// # Errors
/// The state can't be read.
pub fn effective(reader: &impl Reader, device: &Device) -> Result<(String, Hash), StateError> {
    let mut document = JsonValue::Object(BTreeMap::new());
    for target in targets(device) {
        if let Some(layer) = desired(reader, &target)? {
            merge(&mut document, stored(&layer)?);
        }
    }
    let text = document.canonical();
    let hash = Hash::of(text.as_bytes());
    Ok((text, hash))
}

/// The targets whose documents a device gets, the least specific first.
pub fn targets(device: &Device) -> Vec<ConfigTarget> {
    let mut targets = vec![
        ConfigTarget::Fleet,
        ConfigTarget::Model {
            model: device.model.clone(),
        },
    ];
    let districts = device.district.ancestry().into_iter().skip(1);
    targets.extend(districts.map(|district| ConfigTarget::District { district }));
    targets.push(ConfigTarget::Device {
        device: device.device.clone(),
    });
    targets
}

fn stored(desired: &DesiredConfig) -> Result<JsonValue, StateError> {
    json::parse(&desired.document, &json::CONFIGURATION).map_err(|error| StateError::Mismatch {
        what: "a stored configuration document",
        expected: "JSON that was checked before".to_owned(),
        got: error.to_string(),
    })
}
