//! The actions on releases and artifacts.

use lamplighter_state::Overlay;
use lamplighter_types::limits::{
    ARTIFACT_BYTES_MAX, ID_BYTES_MAX, SMALL_LIST_MAX, TEXT_BYTES_MAX, TRANSACTION_BYTES_MAX,
};
use lamplighter_types::{
    AccountKind, Artifact, Fact, FirmwareAction, Hash, Id, KeyRecord, Notification, PublicKey,
    Release, ReleaseManifest, ReleaseStatus, Role, Scope, SignedRelease, Validator, codec,
};

use super::read::is_expired;
use super::{FirmwareError, keys};
use crate::{Context, ExecutionError, governance, rollouts, users, validate};

/// MCUboot and similar boot loaders keep the counter in 32 bits.
const SECURITY_COUNTER_MAX: u64 = u32::MAX as u64;

/// Checks shape and size, without the signature.
pub fn check(action: &FirmwareAction) -> Result<(), FirmwareError> {
    match action {
        FirmwareAction::Publish { release } => {
            validate::at_most("manifest", &release.manifest.0, TRANSACTION_BYTES_MAX)?;
            let manifest =
                codec::decode(&release.manifest.0).map_err(|_| FirmwareError::Manifest)?;
            check_manifest(&manifest)?;
        }
        FirmwareAction::Deprecate { release: _, reason }
        | FirmwareAction::Revoke { release: _, reason } => {
            validate::text("reason", reason, TEXT_BYTES_MAX)?;
        }
        FirmwareAction::HoldArtifact {
            artifact: _,
            size_bytes,
        } => check_size(*size_bytes)?,
        FirmwareAction::Approve {
            release: _,
            manifest: _,
        } => {}
    }
    Ok(())
}

fn check_size(size_bytes: u64) -> Result<(), FirmwareError> {
    if size_bytes == 0 || size_bytes > ARTIFACT_BYTES_MAX {
        return Err(FirmwareError::Size(size_bytes));
    }
    Ok(())
}

fn check_manifest(manifest: &ReleaseManifest) -> Result<(), FirmwareError> {
    let ReleaseManifest {
        release,
        vendor: _,
        version: _,
        artifact: _,
        size_bytes,
        hardware_classes,
        security_counter,
        replaces_from: _,
        depends_on,
        expires_ms,
        critical: _,
        provenance: _,
    } = manifest;
    check_size(*size_bytes)?;
    validate::list("hardware_classes", hardware_classes, SMALL_LIST_MAX)?;
    for class in hardware_classes {
        validate::name("hardware_classes", class, ID_BYTES_MAX)?;
    }
    validate::distinct("hardware_classes", hardware_classes)?;
    if *security_counter > SECURITY_COUNTER_MAX {
        return Err(FirmwareError::SecurityCounter(*security_counter));
    }
    validate::number("expires_ms", expires_ms.unwrap_or(0))?;
    validate::at_most("depends_on", depends_on, SMALL_LIST_MAX)?;
    validate::distinct("depends_on", depends_on)?;
    if depends_on.contains(release) {
        return Err(FirmwareError::DependsOnItself(release.clone()));
    }
    Ok(())
}

/// Carries out a checked action.
pub fn execute(
    overlay: &mut Overlay,
    context: &Context,
    action: &FirmwareAction,
) -> Result<Vec<Notification>, ExecutionError> {
    match action {
        FirmwareAction::Publish { release } => publish(overlay, context, release),
        FirmwareAction::Approve { release, manifest } => {
            approve(overlay, context, release, manifest)
        }
        FirmwareAction::Deprecate { release, reason } => {
            deprecate(overlay, context, release, reason)
        }
        FirmwareAction::Revoke { release, reason } => revoke(overlay, context, release, reason),
        FirmwareAction::HoldArtifact {
            artifact,
            size_bytes,
        } => hold(overlay, context, artifact, *size_bytes),
    }
}

fn publish(
    overlay: &mut Overlay,
    context: &Context,
    signed: &SignedRelease,
) -> Result<Vec<Notification>, ExecutionError> {
    let manifest = signed.verify().map_err(|_| FirmwareError::Signature)?;
    let sender = &context.sender;
    if sender.account != manifest.vendor && !sender.has_role_somewhere(Role::Operator) {
        let (account, vendor) = (sender.account.clone(), manifest.vendor);
        return Err(FirmwareError::NotPublisher { account, vendor }.into());
    }
    require_vendor(overlay, &manifest.vendor, &signed.key)?;
    let key = keys::release(&manifest.release);
    if overlay.exists(&key)? {
        return Err(FirmwareError::Exists(manifest.release).into());
    }
    if is_expired(&manifest, context.block.time_ms) {
        return Err(FirmwareError::Expired(manifest.release).into());
    }
    for dependency in &manifest.depends_on {
        if !overlay.exists(&keys::release(dependency))? {
            return Err(FirmwareError::UnknownDependency(dependency.clone()).into());
        }
    }
    expect_artifact(overlay, &manifest)?;
    let (release, artifact) = (manifest.release.clone(), manifest.artifact);
    let record = Release {
        manifest,
        signed: signed.clone(),
        manifest_digest: signed.manifest_digest(),
        status: ReleaseStatus::Signed,
        author: sender.account.clone(),
        approvals: Vec::new(),
        reason: String::new(),
        published_height: context.block.height,
    };
    overlay.put(&key, &record);
    Ok(vec![Notification::city(Fact::ReleasePublished {
        release,
        artifact,
    })])
}

/// Requires that `key` is in use by `vendor`, and that `vendor` has the role of one.
fn require_vendor(overlay: &Overlay, vendor: &Id, key: &PublicKey) -> Result<(), ExecutionError> {
    let Some(account) = users::account(overlay, vendor)? else {
        return Err(FirmwareError::UnknownVendor(vendor.clone()).into());
    };
    match overlay.get(&users::keys::key(key))? {
        Some(KeyRecord {
            account: _,
            revoked: true,
        }) => {
            return Err(FirmwareError::KeyRevoked(*key).into());
        }
        Some(KeyRecord {
            account,
            revoked: false,
        }) if account == *vendor => {}
        Some(_) | None => {
            return Err(FirmwareError::ForeignKey {
                vendor: vendor.clone(),
                key: *key,
            }
            .into());
        }
    }
    if account.disabled || !account.has_role_somewhere(Role::Vendor) {
        return Err(FirmwareError::NotVendor(account.account).into());
    }
    Ok(())
}

/// Sets the artifact's record to the size in the manifest, unless a quorum holds another size.
fn expect_artifact(
    overlay: &mut Overlay,
    manifest: &ReleaseManifest,
) -> Result<(), ExecutionError> {
    let (digest, size_bytes) = (manifest.artifact, manifest.size_bytes);
    let key = keys::artifact(&digest);
    if let Some(known) = overlay.get(&key)? {
        if known.size_bytes == size_bytes {
            return Ok(());
        }
        let (holders, quorum) = holders_in_force(overlay, &known)?;
        if holders >= quorum {
            let known_bytes = known.size_bytes;
            let error = FirmwareError::SizeMismatch {
                artifact: digest,
                known_bytes,
                size_bytes,
            };
            return Err(error.into());
        }
    }
    overlay.put(
        &key,
        &Artifact {
            digest,
            size_bytes,
            holders: Vec::new(),
        },
    );
    Ok(())
}

/// The number of validators in force that hold the artifact, and the number of a quorum.
fn holders_in_force(
    overlay: &Overlay,
    artifact: &Artifact,
) -> Result<(usize, usize), ExecutionError> {
    let set = governance::validator_set(overlay)?;
    let in_force = artifact
        .holders
        .iter()
        .filter(|node| set.by_node(**node).is_some());
    Ok((in_force.count(), set.quorum()))
}

fn find(overlay: &Overlay, release: &Id) -> Result<Release, ExecutionError> {
    let found = overlay.get(&keys::release(release))?;
    Ok(found.ok_or_else(|| FirmwareError::Unknown(release.clone()))?)
}

fn approve(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    looked_at: &Hash,
) -> Result<Vec<Notification>, ExecutionError> {
    context.require(Role::Approver, &Scope::city())?;
    let mut release = find(overlay, name)?;
    let by = &context.sender.account;
    if release.status != ReleaseStatus::Signed {
        return Err(FirmwareError::NotPending(name.clone()).into());
    }
    if *by == release.author || *by == release.manifest.vendor {
        return Err(FirmwareError::SelfApproval(by.clone()).into());
    }
    if release.approvals.contains(by) {
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
    if is_expired(&release.manifest, context.block.time_ms) {
        return Err(FirmwareError::Expired(name.clone()).into());
    }
    require_vendor(overlay, &release.manifest.vendor, &release.signed.key)?;
    require_held(overlay, &release.manifest)?;
    release.approvals.push(by.clone());
    let mut notifications = vec![Notification::city(Fact::ReleaseApproved {
        release: name.clone(),
        by: by.clone(),
    })];
    let wanted = usize::from(governance::policies(overlay)?.release_approvals.max(1));
    if release.approvals.len() >= wanted {
        release.status = ReleaseStatus::Released;
        notifications.push(Notification::city(Fact::ReleaseReleased {
            release: name.clone(),
        }));
    }
    overlay.put(&keys::release(name), &release);
    Ok(notifications)
}

fn require_held(overlay: &Overlay, manifest: &ReleaseManifest) -> Result<(), ExecutionError> {
    let (holders, quorum) = match overlay.get(&keys::artifact(&manifest.artifact))? {
        Some(artifact) if artifact.size_bytes == manifest.size_bytes => {
            holders_in_force(overlay, &artifact)?
        }
        Some(_) | None => (0, governance::validator_set(overlay)?.quorum()),
    };
    if holders < quorum {
        return Err(FirmwareError::NotHeld { holders, quorum }.into());
    }
    Ok(())
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

fn deprecate(
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

fn revoke(
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
    release.status = ReleaseStatus::Revoked;
    release.reason = reason.to_owned();
    overlay.put(&keys::release(name), &release);
    let revoked = Fact::ReleaseRevoked {
        release: name.clone(),
        reason: reason.to_owned(),
    };
    let mut notifications = vec![Notification::city(revoked)];
    notifications.extend(rollouts::recall(overlay, &context.block, name)?);
    Ok(notifications)
}

fn hold(
    overlay: &mut Overlay,
    context: &Context,
    digest: &Hash,
    size_bytes: u64,
) -> Result<Vec<Notification>, ExecutionError> {
    let set = governance::validator_set(overlay)?;
    let sender = &context.sender;
    let is_sender = |v: &&Validator| v.account == sender.account;
    let validator = set.validators.iter().find(is_sender);
    let Some(validator) = validator.filter(|_| sender.kind == AccountKind::Node) else {
        return Err(FirmwareError::NotValidator(sender.account.clone()).into());
    };
    let key = keys::artifact(digest);
    let new = || Artifact {
        digest: *digest,
        size_bytes,
        holders: Vec::new(),
    };
    let mut artifact = overlay.get(&key)?.unwrap_or_else(new);
    if artifact.size_bytes != size_bytes {
        let (artifact, known_bytes) = (*digest, artifact.size_bytes);
        return Err(FirmwareError::SizeMismatch {
            artifact,
            known_bytes,
            size_bytes,
        }
        .into());
    }
    let Err(at) = artifact.holders.binary_search(&validator.node) else {
        return Ok(Vec::new());
    };
    artifact.holders.insert(at, validator.node);
    // Nodes that left the set do not count and are removed: the list stays as short as the set.
    artifact.holders.retain(|node| set.by_node(*node).is_some());
    overlay.put(&key, &artifact);
    let (artifact, node, holders) = (*digest, validator.node, artifact.holders.len() as u32);
    Ok(vec![Notification::city(Fact::ArtifactHeld {
        artifact,
        node,
        holders,
    })])
}
