//! Ends of releases: withdrawn before approval, deprecated, revoked. One person is enough for each.

use lamplighter_state::Overlay;
use lamplighter_types::{Fact, Id, Notification, Release, ReleaseStatus, Role, Scope};

use super::publishing::{close, remove};
use super::{FirmwareError, keys};
use crate::{Context, ExecutionError, rollouts};

pub(super) fn find(overlay: &Overlay, release: &Id) -> Result<Release, ExecutionError> {
    let found = overlay.get(&keys::release(release))?;
    Ok(found.ok_or_else(|| FirmwareError::Unknown(release.clone()))?)
}

/// Requires that the sender is the release's vendor or has `role` for the whole city.
fn require_vendor_or_role(
    context: &Context,
    release: &Release,
    role: Role,
) -> Result<(), FirmwareError> {
    let sender = &context.sender;
    if sender.account == release.manifest.vendor || sender.has_role(role, &Scope::city()) {
        return Ok(());
    }
    Err(FirmwareError::NotInCharge(sender.account.clone()))
}

/// Takes back a release that nobody has released: its vendor or its author was wrong. Its id and
/// its place among the open releases of the organization are free again.
pub fn withdraw(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
) -> Result<Vec<Notification>, ExecutionError> {
    let release = find(overlay, name)?;
    let by = &context.sender.account;
    if *by != release.author && *by != release.manifest.vendor {
        return Err(FirmwareError::NotInCharge(by.clone()).into());
    }
    if release.status != ReleaseStatus::Signed {
        return Err(FirmwareError::NotPending(name.clone()).into());
    }
    remove(overlay, &release)?;
    Ok(vec![Notification::city(Fact::ReleaseWithdrawn {
        release: name.clone(),
    })])
}

pub fn deprecate(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    reason: &str,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut release = find(overlay, name)?;
    require_vendor_or_role(context, &release, Role::Operator)?;
    if release.status != ReleaseStatus::Released {
        return Err(FirmwareError::NotReleased(name.clone()).into());
    }
    release.status = ReleaseStatus::Deprecated;
    release.reason = reason.to_owned();
    overlay.put(&keys::release(name), &release);
    Ok(vec![Notification::city(Fact::ReleaseDeprecated {
        release: name.clone(),
    })])
}

pub fn revoke(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    reason: &str,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut release = find(overlay, name)?;
    require_vendor_or_role(context, &release, Role::Security)?;
    if release.status == ReleaseStatus::Revoked {
        return Err(FirmwareError::Revoked(name.clone()).into());
    }
    if release.status == ReleaseStatus::Signed {
        close(overlay, &release);
    }
    release.status = ReleaseStatus::Revoked;
    release.ended_ms = Some(context.block.time_ms);
    release.reason = reason.to_owned();
    overlay.put(&keys::release(name), &release);
    let revoked = Fact::ReleaseRevoked {
        release: name.clone(),
        reason: reason.to_owned(),
    };
    let mut notifications = vec![Notification::city(revoked)];
    // What nobody released has no rollout and runs nowhere.
    if release.released_ms.is_some() {
        notifications.extend(rollouts::recall(overlay, &context.block, name)?);
    }
    Ok(notifications)
}
