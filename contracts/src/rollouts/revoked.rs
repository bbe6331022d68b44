//! The search for the devices that run a revoked release. Each is named in a notification; a block
//! looks at a bounded number.

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::{Device, Fact, Hash, Id, Notification, RevocationSweep};

use super::unit::RolloutUnit;
use super::{DEVICES_SEARCHED_PER_BLOCK_MAX, device_state, keys};
use crate::{Reader, devices, governance};

/// The protocol version that began to name these devices.
const SINCE: u32 = 2;

/// Begins the search for a release that was just revoked.
pub(super) fn begin(overlay: &mut Overlay, release: &Id) -> Result<(), StateError> {
    if governance::protocol(overlay)?.version >= SINCE {
        let sweep = RevocationSweep {
            release: release.clone(),
            after: None,
            found: 0,
        };
        overlay.put(&keys::revocation_sweep(release), &sweep);
    }
    Ok(())
}

/// Tells whether a search is under way.
pub(super) fn is_searching(reader: &impl Reader) -> Result<bool, StateError> {
    Ok(!reader.page(&keys::revocation_sweeps(), None, 1)?.is_empty())
}

/// Looks at the next devices for the first search.
pub(super) fn run(unit: &mut RolloutUnit<'_>) -> Result<(), StateError> {
    let first = unit.overlay.page(&keys::revocation_sweeps(), None, 1)?;
    let Some(mut sweep) = first.into_iter().next() else {
        return Ok(());
    };
    let limit = DEVICES_SEARCHED_PER_BLOCK_MAX;
    let looked_at = devices::devices(unit.overlay, sweep.after.as_ref(), limit)?;
    let artifact = unit.release(&sweep.release)?.manifest.artifact;
    for device in &looked_at {
        if runs(unit, device, &sweep.release, &artifact)? {
            sweep.found = sweep.found.saturating_add(1);
            let release = sweep.release.clone();
            let fact = Fact::DeviceRunsRevoked { release };
            unit.notify(Notification::about_device(device, fact));
        }
    }
    let key = keys::revocation_sweep(&sweep.release);
    if looked_at.len() < limit {
        unit.overlay.delete(&key);
        unit.notify(Notification::city(Fact::RevocationTraced {
            release: sweep.release,
            devices: sweep.found,
        }));
    } else {
        sweep.after = looked_at.last().map(|device| device.device.clone());
        unit.overlay.put(&key, &sweep);
    }
    Ok(())
}

/// Tells whether the device reported the release's image, or confirmed the release last.
fn runs(
    unit: &RolloutUnit<'_>,
    device: &Device,
    release: &Id,
    artifact: &Hash,
) -> Result<bool, StateError> {
    let state = device_state::state(unit.overlay, &device.device)?;
    Ok(match state.digest {
        Some(digest) => digest == *artifact,
        None => state.release.as_ref() == Some(release),
    })
}
