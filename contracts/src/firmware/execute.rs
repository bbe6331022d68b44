//! The actions on releases and artifacts.

use lamplighter_state::Overlay;
use lamplighter_types::limits::{
    ARTIFACT_BYTES_MAX, ID_BYTES_MAX, SECURITY_COUNTER_MAX, SMALL_LIST_MAX, TEXT_BYTES_MAX,
    TRANSACTION_BYTES_MAX,
};
use lamplighter_types::{FirmwareAction, Notification, ReleaseManifest, codec};

use super::{FirmwareError, approving, ending, holding, publishing};
use crate::{Context, ExecutionError, validate};

/// Checks shape and size, without the signature.
pub fn check(action: &FirmwareAction) -> Result<(), FirmwareError> {
    match action {
        FirmwareAction::Publish { release } => {
            validate::at_most("manifest", &release.manifest.0, TRANSACTION_BYTES_MAX)?;
            let manifest = codec::decode(&release.manifest.0);
            let manifest = manifest.map_err(|_| FirmwareError::Manifest)?;
            check_manifest(&manifest)?;
        }
        FirmwareAction::Deprecate { release: _, reason }
        | FirmwareAction::Revoke { release: _, reason } => {
            validate::text("reason", reason, TEXT_BYTES_MAX)?;
        }
        FirmwareAction::HoldArtifact {
            artifact: _,
            size_bytes,
        }
        | FirmwareAction::DropArtifact {
            artifact: _,
            size_bytes,
        } => check_size(*size_bytes)?,
        FirmwareAction::Approve {
            release: _,
            manifest: _,
        }
        | FirmwareAction::WithdrawApproval { release: _ }
        | FirmwareAction::Withdraw { release: _ } => {}
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
        FirmwareAction::Publish { release } => publishing::publish(overlay, context, release),
        FirmwareAction::Approve { release, manifest } => {
            approving::approve(overlay, context, release, manifest)
        }
        FirmwareAction::Deprecate { release, reason } => {
            ending::deprecate(overlay, context, release, reason)
        }
        FirmwareAction::Revoke { release, reason } => {
            ending::revoke(overlay, context, release, reason)
        }
        FirmwareAction::HoldArtifact {
            artifact,
            size_bytes,
        } => holding::hold(overlay, context, artifact, *size_bytes),
        FirmwareAction::DropArtifact {
            artifact,
            size_bytes,
        } => holding::drop_artifact(overlay, context, artifact, *size_bytes),
        FirmwareAction::WithdrawApproval { release } => {
            approving::withdraw(overlay, context, release)
        }
        FirmwareAction::Withdraw { release } => ending::withdraw(overlay, context, release),
    }
}
