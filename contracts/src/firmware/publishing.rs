//! Publication of releases, and the bound of those that wait for approval.

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::{
    Account, Artifact, Fact, Id, KeyRecord, Notification, PublicKey, Release, ReleaseManifest,
    ReleaseStatus, Role, SignedRelease,
};

use super::holding::holders_in_force;
use super::read::{is_expired, is_lapsed};
use super::{FirmwareError, OPEN_RELEASES_PER_ORGANIZATION_MAX, keys};
use crate::{Context, ExecutionError, Reader, governance, users};

/// Records of one digest, each with another size, that a publication looks at.
const SIZES_COMPARED: usize = 32;

pub fn publish(
    overlay: &mut Overlay,
    context: &Context,
    signed: &SignedRelease,
) -> Result<Vec<Notification>, ExecutionError> {
    let manifest = signed.verify().map_err(|_| FirmwareError::Signature)?;
    let vendor = require_vendor(overlay, &manifest.vendor, &signed.key)?;
    require_publisher(&context.sender, &vendor)?;
    let time_ms = context.block.time_ms;
    if is_expired(&manifest, time_ms) {
        return Err(FirmwareError::Expired(manifest.release).into());
    }
    for dependency in &manifest.depends_on {
        if !overlay.exists(&keys::release(dependency))? {
            return Err(FirmwareError::UnknownDependency(dependency.clone()).into());
        }
    }
    let organization = &context.sender.organization;
    let mut notifications = prune(overlay, organization, time_ms)?;
    let open = Reader::page(
        overlay,
        &keys::open_releases(organization),
        None,
        OPEN_RELEASES_PER_ORGANIZATION_MAX,
    )?;
    if open.len() >= OPEN_RELEASES_PER_ORGANIZATION_MAX {
        return Err(FirmwareError::TooManyOpen(organization.clone()).into());
    }
    if overlay.exists(&keys::release(&manifest.release))? {
        return Err(FirmwareError::Exists(manifest.release).into());
    }
    require_size(overlay, &manifest)?;
    let (release, artifact) = (manifest.release.clone(), manifest.artifact);
    let record = Release {
        manifest,
        signed: signed.clone(),
        manifest_digest: signed.manifest_digest(),
        status: ReleaseStatus::Signed,
        author: context.sender.account.clone(),
        organization: organization.clone(),
        approvals: Vec::new(),
        reason: String::new(),
        published_height: context.block.height,
        published_ms: time_ms,
        released_ms: None,
        ended_ms: None,
    };
    insert(overlay, &record)?;
    notifications.push(Notification::city(Fact::ReleasePublished {
        release,
        artifact,
    }));
    Ok(notifications)
}

/// Requires that the sender is the vendor, or operates a district in which the vendor's role
/// counts.
fn require_publisher(sender: &Account, vendor: &Account) -> Result<(), FirmwareError> {
    let operated = || sender.grants.iter().filter(|g| g.role == Role::Operator);
    let served = || vendor.grants.iter().filter(|g| g.role == Role::Vendor);
    let shared = operated().any(|operated| {
        served().any(|served| {
            served.scope.covers(&operated.scope) || operated.scope.covers(&served.scope)
        })
    });
    if sender.account == vendor.account || shared {
        return Ok(());
    }
    Err(FirmwareError::NotPublisher {
        account: sender.account.clone(),
        vendor: vendor.account.clone(),
    })
}

/// The vendor's account. Requires that `key` is in use by `name`, and that `name` is a vendor.
pub(super) fn require_vendor(
    overlay: &Overlay,
    name: &Id,
    key: &PublicKey,
) -> Result<Account, ExecutionError> {
    let Some(account) = users::account(overlay, name)? else {
        return Err(FirmwareError::UnknownVendor(name.clone()).into());
    };
    match overlay.get(&users::keys::key(key))? {
        Some(KeyRecord { revoked: true, .. }) => {
            return Err(FirmwareError::KeyRevoked(*key).into());
        }
        Some(KeyRecord { account, .. }) if account == *name => {}
        Some(_) | None => {
            return Err(FirmwareError::ForeignKey {
                vendor: name.clone(),
                key: *key,
            }
            .into());
        }
    }
    if account.disabled || !account.has_role_somewhere(Role::Vendor) {
        return Err(FirmwareError::NotVendor(account.account).into());
    }
    Ok(account)
}

/// Refuses a size other than the one that a quorum holds: such a release could never be approved.
fn require_size(overlay: &Overlay, manifest: &ReleaseManifest) -> Result<(), ExecutionError> {
    let (digest, size_bytes) = (manifest.artifact, manifest.size_bytes);
    let known = Reader::page(overlay, &keys::artifacts_of(&digest), None, SIZES_COMPARED)?;
    for artifact in known {
        let (holders, quorum) = holders_in_force(overlay, &artifact)?;
        if artifact.size_bytes != size_bytes && holders >= quorum {
            return Err(FirmwareError::SizeMismatch {
                artifact: digest,
                known_bytes: artifact.size_bytes,
                size_bytes,
            }
            .into());
        }
    }
    Ok(())
}

/// Stores a new release, its indexes and the record of its artifact, whose holders stay as they
/// are.
fn insert(overlay: &mut Overlay, release: &Release) -> Result<(), StateError> {
    let ReleaseManifest {
        release: name,
        artifact: digest,
        size_bytes,
        ..
    } = &release.manifest;
    overlay.put(&keys::release(name), release);
    overlay.put(&keys::release_of(digest, name), name);
    overlay.put(&keys::open_release(&release.organization, name), name);
    let key = keys::artifact(digest, *size_bytes);
    let new = || Artifact {
        digest: *digest,
        size_bytes: *size_bytes,
        releases: 0,
        holders: Vec::new(),
    };
    let mut artifact = overlay.get(&key)?.unwrap_or_else(new);
    artifact.releases = artifact.releases.saturating_add(1);
    overlay.put(&key, &artifact);
    Ok(())
}

/// Removes a release that was never approved from the state, with its indexes, and with the record
/// of its artifact if no other release has it. The history keeps it.
pub(super) fn remove(overlay: &mut Overlay, release: &Release) -> Result<(), StateError> {
    let ReleaseManifest {
        release: name,
        artifact: digest,
        size_bytes,
        ..
    } = &release.manifest;
    overlay.delete(&keys::release(name));
    overlay.delete(&keys::release_of(digest, name));
    overlay.delete(&keys::open_release(&release.organization, name));
    let key = keys::artifact(digest, *size_bytes);
    let Some(mut artifact) = overlay.get(&key)? else {
        return Ok(());
    };
    artifact.releases = artifact.releases.saturating_sub(1);
    match artifact.releases {
        0 => overlay.delete(&key),
        _ => overlay.put(&key, &artifact),
    }
    Ok(())
}

/// Removes the organization's releases whose time for approval is over, which are few.
fn prune(
    overlay: &mut Overlay,
    organization: &Id,
    time_ms: u64,
) -> Result<Vec<Notification>, ExecutionError> {
    let retention = governance::policies(overlay)?.retention;
    let open = Reader::page(
        overlay,
        &keys::open_releases(organization),
        None,
        OPEN_RELEASES_PER_ORGANIZATION_MAX,
    )?;
    let mut notifications = Vec::new();
    for name in open {
        let Some(release) = overlay.get(&keys::release(&name))? else {
            continue;
        };
        let over = is_lapsed(&release, time_ms, &retention);
        if over || is_expired(&release.manifest, time_ms) {
            remove(overlay, &release)?;
            notifications.push(Notification::city(Fact::ReleaseLapsed { release: name }));
        }
    }
    Ok(notifications)
}

/// Closes the time for approval: the release counts to its organization no more.
pub(super) fn close(overlay: &mut Overlay, release: &Release) {
    let name = &release.manifest.release;
    overlay.delete(&keys::open_release(&release.organization, name));
}
