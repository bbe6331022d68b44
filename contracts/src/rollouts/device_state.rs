//! The device records that rollouts read and write.

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::{Device, DeviceState, Hash, Id, ReleaseManifest};

use crate::Reader;
use crate::devices::{self, keys};
use crate::firmware;

/// Number of confirmed releases that a device's record keeps, for dependencies.
const CONFIRMED_MAX: usize = 32;

/// A device that a deployment names.
pub fn known_device(reader: &impl Reader, name: &Id) -> Result<Device, StateError> {
    devices::device(reader, name)?.ok_or_else(|| StateError::Missing {
        what: format!("the device {name} of a deployment"),
    })
}

pub fn state(reader: &impl Reader, device: &Id) -> Result<DeviceState, StateError> {
    devices::state(reader, device)?.ok_or_else(|| StateError::Missing {
        what: format!("the state of device {device}"),
    })
}

pub fn put_state(overlay: &mut Overlay, device: &Id, state: &DeviceState) {
    overlay.put(&keys::state(device), state);
}

/// Records that the device has confirmed the release, which is its new floor.
pub fn record_confirmed(state: &mut DeviceState, manifest: &ReleaseManifest) {
    state.version = Some(manifest.version);
    state.release = Some(manifest.release.clone());
    state.digest = Some(manifest.artifact);
    state.security_counter = state.security_counter.max(manifest.security_counter);
    state.drifted = false;
    state
        .confirmed
        .retain(|release| *release != manifest.release);
    state.confirmed.push(manifest.release.clone());
    if state.confirmed.len() > CONFIRMED_MAX {
        state.confirmed.remove(0);
    }
}

/// Records that the device reverted from the image `abandoned`. Returns the image that it should
/// run, if it reports another one.
pub fn record_revert(
    reader: &impl Reader,
    state: &mut DeviceState,
    running: Option<Hash>,
    abandoned: &Hash,
) -> Result<Option<Hash>, StateError> {
    if running.is_none() && state.digest.as_ref() != Some(abandoned) {
        return Ok(None);
    }
    state.digest = running;
    let confirmed = match &state.release {
        Some(release) => firmware::release(reader, release)?,
        None => None,
    };
    let expected = confirmed.map(|release| release.manifest.artifact);
    let drifted = expected.filter(|expected| running.is_some_and(|running| running != *expected));
    state.drifted = drifted.is_some();
    Ok(drifted)
}
