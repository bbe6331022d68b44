//! Approvals of releases: recorded, withdrawn, counted.

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::{Fact, Hash, Id, Notification, Release, ReleaseStatus, Role, Scope};

use super::ending::find;
use super::holding::require_held;
use super::publishing::{close, require_vendor};
use super::read::{is_expired, is_lapsed};
use super::{FirmwareError, keys};
use crate::users::ApprovalRule;
use crate::{Context, ExecutionError, Reader, governance, users};

/// The rule by which approvals of releases count.
fn rule(reader: &impl Reader, time_ms: u64) -> Result<ApprovalRule<'static>, StateError> {
    Ok(ApprovalRule {
        role: Role::Approver,
        // A release may go to any device.
        scopes: vec![Scope::city()].into(),
        policy: governance::policies(reader)?.approvals.releases,
        time_ms,
    })
}

/// Requires that enough approvals of a release count now.
pub(super) fn require_approved(
    reader: &impl Reader,
    release: &Release,
    time_ms: u64,
) -> Result<(), ExecutionError> {
    let (got, wanted) = rule(reader, time_ms)?.count(reader, &release.approvals)?;
    if got < wanted {
        let release = release.manifest.release.clone();
        return Err(FirmwareError::NotApproved {
            release,
            got,
            wanted,
        }
        .into());
    }
    Ok(())
}

/// True if enough of those that approved a release could still do so, however long ago that was.
///
/// # Errors
/// The state can't be read.
pub fn stays_approved(
    reader: &impl Reader,
    release: &Release,
    time_ms: u64,
) -> Result<bool, StateError> {
    let rule = rule(reader, time_ms)?.without_expiry();
    rule.is_met(reader, &release.approvals)
}

/// Approves a release. One that is released already takes approvals as well: they replace those
/// that expire.
pub fn approve(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    looked_at: &Hash,
) -> Result<Vec<Notification>, ExecutionError> {
    context.require(Role::Approver, &Scope::city())?;
    let mut release = find(overlay, name)?;
    let time_ms = context.block.time_ms;
    require_approvable(overlay, context, &release, looked_at)?;
    let by = &context.sender.account;
    let rule = rule(overlay, time_ms)?;
    if !rule.add(overlay, &mut release.approvals, context.approval())? {
        return Err(FirmwareError::TooManyApprovals(name.clone()).into());
    }
    let mut notifications = vec![Notification::city(Fact::ReleaseApproved {
        release: name.clone(),
        by: by.clone(),
    })];
    let is_met = rule.is_met(overlay, &release.approvals)?;
    if release.status == ReleaseStatus::Signed && is_met {
        release.status = ReleaseStatus::Released;
        release.released_ms = Some(time_ms);
        close(overlay, &release);
        notifications.push(Notification::city(Fact::ReleaseReleased {
            release: name.clone(),
        }));
    }
    overlay.put(&keys::release(name), &release);
    Ok(notifications)
}

fn require_approvable(
    overlay: &Overlay,
    context: &Context,
    release: &Release,
    looked_at: &Hash,
) -> Result<(), ExecutionError> {
    let (name, by) = (&release.manifest.release, &context.sender.account);
    let time_ms = context.block.time_ms;
    if release.status == ReleaseStatus::Revoked {
        return Err(FirmwareError::Revoked(name.clone()).into());
    }
    if *by == release.author || *by == release.manifest.vendor {
        return Err(FirmwareError::SelfApproval(by.clone()).into());
    }
    if rule(overlay, time_ms)?.waits_for_others(overlay, &release.approvals, by)? {
        return Err(FirmwareError::Approved(by.clone()).into());
    }
    if release.manifest_digest != *looked_at {
        let published = release.manifest_digest;
        return Err(FirmwareError::OtherManifest {
            published,
            looked_at: *looked_at,
        }
        .into());
    }
    if is_expired(&release.manifest, time_ms) {
        return Err(FirmwareError::Expired(name.clone()).into());
    }
    let retention = governance::policies(overlay)?.retention;
    if is_lapsed(release, time_ms, &retention) {
        return Err(FirmwareError::Lapsed(name.clone()).into());
    }
    require_vendor(overlay, &release.manifest.vendor, &release.signed.key)?;
    require_held(overlay, &release.manifest)
}

/// Withdraws the sender's approval. What has begun goes on; nothing new begins without it.
pub fn withdraw(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut release = find(overlay, name)?;
    let by = &context.sender.account;
    if !users::withdraw_approval(&mut release.approvals, by) {
        return Err(FirmwareError::NoApproval(by.clone()).into());
    }
    overlay.put(&keys::release(name), &release);
    Ok(vec![Notification::city(Fact::ReleaseApprovalWithdrawn {
        release: name.clone(),
        by: by.clone(),
    })])
}
