//! Approvals of releases: recorded, withdrawn, counted.

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::limits::APPROVALS_MAX;
use lamplighter_types::{
    Approval, Fact, Hash, Id, Notification, Release, ReleaseStatus, Role, Scope,
};

use super::ending::find;
use super::holding::require_held;
use super::publishing::{close, require_vendor};
use super::read::{is_expired, is_lapsed};
use super::{FirmwareError, keys};
use crate::{Context, ExecutionError, Reader, governance, users};

/// The approvals of a release that count now, and those that it needs.
pub(super) fn count(
    reader: &impl Reader,
    approvals: &[Approval],
    time_ms: u64,
) -> Result<(usize, usize), StateError> {
    let policy = governance::policies(reader)?.approvals.releases;
    let city = [Scope::city()];
    let live = users::live_approvals(reader, approvals, Role::Approver, &city, time_ms, &policy)?;
    Ok((live, usize::from(policy.approvals.max(1))))
}

/// Requires that enough approvals of a release count now.
pub(super) fn require_approved(
    reader: &impl Reader,
    release: &Release,
    time_ms: u64,
) -> Result<(), ExecutionError> {
    let (got, wanted) = count(reader, &release.approvals, time_ms)?;
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
    // The newest approval of an account replaces its earlier one, which may count no more.
    release.approvals.retain(|approval| approval.account != *by);
    if release.approvals.len() >= APPROVALS_MAX {
        drop_dead(overlay, &mut release.approvals, time_ms)?;
    }
    if release.approvals.len() >= APPROVALS_MAX {
        return Err(FirmwareError::TooManyApprovals(name.clone()).into());
    }
    release.approvals.push(context.approval());
    let mut notifications = vec![Notification::city(Fact::ReleaseApproved {
        release: name.clone(),
        by: by.clone(),
    })];
    let (live, wanted) = count(overlay, &release.approvals, time_ms)?;
    if release.status == ReleaseStatus::Signed && live >= wanted {
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
    let (live, wanted) = count(overlay, &release.approvals, time_ms)?;
    let of_sender = |approval: &&Approval| approval.account == *by;
    let earlier: Vec<_> = release
        .approvals
        .iter()
        .filter(of_sender)
        .cloned()
        .collect();
    let (counts, _) = count(overlay, &earlier, time_ms)?;
    if counts > 0 && live < wanted {
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

/// Drops the approvals that do not count. An account may have to wait until its approval counts
/// (as a newcomer); if there is no space, it has to approve again.
fn drop_dead(
    overlay: &Overlay,
    approvals: &mut Vec<Approval>,
    time_ms: u64,
) -> Result<(), StateError> {
    let mut live = Vec::with_capacity(approvals.len());
    for approval in approvals.drain(..) {
        let (counts, _) = count(overlay, std::slice::from_ref(&approval), time_ms)?;
        if counts > 0 {
            live.push(approval);
        }
    }
    *approvals = live;
    Ok(())
}

/// Withdraws the sender's approval. What has begun goes on; nothing new begins without it.
pub fn withdraw(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut release = find(overlay, name)?;
    let by = &context.sender.account;
    let before = release.approvals.len();
    release.approvals.retain(|approval| approval.account != *by);
    if release.approvals.len() == before {
        return Err(FirmwareError::NoApproval(by.clone()).into());
    }
    overlay.put(&keys::release(name), &release);
    Ok(vec![Notification::city(Fact::ReleaseApprovalWithdrawn {
        release: name.clone(),
        by: by.clone(),
    })])
}
