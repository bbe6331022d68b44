//! The search for the devices that run a revoked release. Each is named in a notification; a block
//! looks at a bounded number. A device that reports the image afterwards is named then.

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::{
    Device, DeviceState, Fact, Hash, Id, Notification, Release, ReleaseStatus, RevocationSweep,
};

use super::unit::RolloutUnit;
use super::{
    DEVICES_SEARCHED_PER_BLOCK_MAX, RELEASES_OF_IMAGE_MAX, REVOCATIONS_PER_WALK_MAX, device_state,
    keys,
};
use crate::{Reader, devices, firmware, governance};

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

/// Looks at the next devices. All searches that are at the same device share the walk; those of
/// releases that were revoked since it began wait for its end, and share the next one.
pub(super) fn run(unit: &mut RolloutUnit<'_>) -> Result<(), StateError> {
    let sweeps = unit
        .overlay
        .page(&keys::revocation_sweeps(), None, REVOCATIONS_PER_WALK_MAX)?;
    let Some(after) = sweeps.iter().map(|sweep| sweep.after.clone()).max() else {
        return Ok(());
    };
    let limit = DEVICES_SEARCHED_PER_BLOCK_MAX;
    let looked_at = devices::devices(unit.overlay, after.as_ref(), limit)?;
    let mut states = Vec::with_capacity(looked_at.len());
    for device in &looked_at {
        states.push(device_state::state(unit.overlay, &device.device)?);
    }
    for mut sweep in sweeps.into_iter().filter(|sweep| sweep.after == after) {
        let artifact = unit.release(&sweep.release)?.manifest.artifact;
        for (device, state) in looked_at.iter().zip(&states) {
            if runs(state, &sweep.release, &artifact) {
                sweep.found = sweep.found.saturating_add(1);
                unit.notify(named(device, sweep.release.clone()));
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
    }
    Ok(())
}

/// Tells whether the device reported the release's image, or confirmed the release last.
fn runs(state: &DeviceState, release: &Id, artifact: &Hash) -> bool {
    match state.digest {
        Some(digest) => digest == *artifact,
        None => state.release.as_ref() == Some(release),
    }
}

fn named(device: &Device, release: Id) -> Notification {
    Notification::about_device(device, Fact::DeviceRunsRevoked { release })
}

/// Names a device that reports another image than `before`, for each revoked release that has it:
/// it was installing when the release was revoked, or went back to an old image.
///
/// # Errors
/// The state can't be read.
pub fn image_reported(
    reader: &impl Reader,
    device: &Device,
    before: Option<Hash>,
    state: &DeviceState,
) -> Result<Vec<Notification>, StateError> {
    let Some(digest) = state.digest.filter(|digest| before != Some(*digest)) else {
        return Ok(Vec::new());
    };
    let of_image = firmware::keys::releases_of(&digest);
    let mut notifications = Vec::new();
    for name in reader.page(&of_image, None, RELEASES_OF_IMAGE_MAX)? {
        let release = firmware::release(reader, &name)?;
        if release.is_some_and(|release| is_recalled(&release))
            && governance::protocol(reader)?.version >= SINCE
            && !is_still_searched(reader, &name, &device.device)?
        {
            notifications.push(named(device, name));
        }
    }
    Ok(notifications)
}

/// Tells whether the release was revoked after it could be deployed.
fn is_recalled(release: &Release) -> bool {
    release.status == ReleaseStatus::Revoked && release.released_ms.is_some()
}

/// Tells whether the search for a release comes to the device later, and names it then.
fn is_still_searched(reader: &impl Reader, release: &Id, device: &Id) -> Result<bool, StateError> {
    let sweep = reader.get(&keys::revocation_sweep(release))?;
    Ok(sweep.is_some_and(|sweep| sweep.after.is_none_or(|after| after < *device)))
}
