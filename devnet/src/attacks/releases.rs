//! Attacks with releases that must not be installed.

use std::time::Duration;

use lamplighter_types::{
    Action, FirmwareAction, GovernanceAction, GovernanceChange, Id, ReleaseManifest, Role,
    RolloutPlan, RolloutsAction, Scope, Selection, SignedRelease, SkipReason, UsersAction, codec,
};

use super::{image_of, must_fail, register_user, unregistered_key};
use crate::DevnetError;
use crate::city::id;
use crate::feed::{FeedSubscriber, name_of};
use crate::journal::Journal;
use crate::network::{Devnet, submit_action};
use crate::scenario::{approve_as, begin, lamp, manifest_of, plan_for, publish, wait_stored};

/// Time for a rollout to consider a device.
const LOOKED_AT_WITHIN: Duration = Duration::from_secs(60);

fn publish_action(release: SignedRelease) -> Action {
    Action::Firmware(FirmwareAction::Publish { release })
}

fn approve_action(manifest: &ReleaseManifest) -> Action {
    let release = manifest.release.clone();
    Action::Firmware(FirmwareAction::Approve {
        release,
        manifest: codec::digest(manifest),
    })
}

/// Grants roles of power, which one administrator proposes and another approves.
async fn grant(devnet: &Devnet, account: &str, roles: &[Role]) -> Result<(), DevnetError> {
    let change = |role: &Role| GovernanceChange::Grant {
        account: id(account),
        role: *role,
        scope: Scope::city(),
    };
    let changes: Vec<_> = roles.iter().map(change).collect();
    let proposal = id(&format!("roles-of-{account}"));
    let approve = GovernanceAction::Approve {
        proposal: proposal.clone(),
        changes: GovernanceChange::digest(&changes),
    };
    let propose = GovernanceAction::Propose { proposal, changes };
    for (administrator, action) in [("admin-1", propose), ("admin-2", approve)] {
        let client = devnet.client(administrator)?;
        submit_action(&client, "granting a role", Action::Governance(action)).await?;
    }
    Ok(())
}

pub(super) async fn run(
    devnet: &mut Devnet,
    feed: &FeedSubscriber,
    journal: &mut Journal,
) -> Result<(), DevnetError> {
    keys(devnet, journal).await?;
    people(devnet, journal).await?;
    devices(devnet, feed, journal).await
}

/// Releases signed by a key that is not, or no longer, the vendor's.
async fn keys(devnet: &mut Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    let operator = devnet.client("operator")?;
    let manifest = manifest_of("unregistered-key", "vendor", &devnet.firmware.1);
    let signed = SignedRelease::sign(&manifest, &unregistered_key()?);
    let verdict = must_fail(&operator, publish_action(signed), &["firmware.foreign_key"]).await;
    journal.attack("a release signed by an unregistered key", verdict);

    let manifest = manifest_of("changed-manifest", "vendor", &devnet.firmware.1);
    let mut signed = SignedRelease::sign(&manifest, &devnet.city.member("vendor").secret);
    let other = manifest_of("changed-manifest-2", "vendor", &devnet.firmware.1);
    signed.manifest.0 = codec::encode(&other);
    let codes = ["firmware.signature", "firmware.manifest"];
    let verdict = must_fail(&operator, publish_action(signed), &codes).await;
    journal.attack("a manifest that was not signed", verdict);

    register_user(devnet, "former-vendor").await?;
    grant(devnet, "former-vendor", &[Role::Vendor]).await?;
    let former = devnet.city.member("former-vendor").secret.clone();
    let account = id("former-vendor");
    let revoke = UsersAction::RevokeKey {
        account,
        key: former.public(),
    };
    submit_action(
        &devnet.client("security")?,
        "revoking a key",
        Action::Users(revoke),
    )
    .await?;
    let manifest = manifest_of("revoked-key", "former-vendor", &devnet.firmware.1);
    let signed = SignedRelease::sign(&manifest, &former);
    let codes = ["firmware.key_revoked", "firmware.foreign_key"];
    let verdict = must_fail(&operator, publish_action(signed), &codes).await;
    journal.attack("a release signed by a revoked key", verdict);
    Ok(())
}

/// Releases approved by their author, twice by one person, or by too few.
async fn people(devnet: &mut Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    register_user(devnet, "rival").await?;
    grant(devnet, "rival", &[Role::Vendor, Role::Approver]).await?;
    let rival = devnet.client("rival")?;
    let manifest = manifest_of("rival-1.1.0", "rival", &devnet.firmware.1);
    publish(
        &rival,
        SignedRelease::sign(&manifest, &devnet.city.member("rival").secret),
    )
    .await?;
    let verdict = must_fail(&rival, approve_action(&manifest), &["firmware.own_release"]).await;
    journal.attack("a release approved by its author", verdict);

    let approver = devnet.client("approver-1")?;
    approve_as(&approver, &manifest).await?;
    let verdict = must_fail(&approver, approve_action(&manifest), &["firmware.approved"]).await;
    journal.attack("a second approval by the same person", verdict);

    let action = RolloutsAction::Plan {
        plan: plan_for("rival-rollout", "rival-1.1.0"),
    };
    let operator = devnet.client("operator")?;
    let codes = ["firmware.not_released"];
    let verdict = must_fail(&operator, Action::Rollouts(action), &codes).await;
    journal.attack("a rollout of a release that one person approved", verdict);
    Ok(())
}

/// Releases below the security counter of a device, and for other hardware.
async fn devices(
    devnet: &Devnet,
    feed: &FeedSubscriber,
    journal: &mut Journal,
) -> Result<(), DevnetError> {
    let device = lamp(1);
    let (image, artifact) = image_of("an image with a hole");
    let path = devnet.files.write("lamp-firmware-0.9.0.bin", &image)?;
    let uploaded = devnet.client("vendor")?.upload(&path, &mut |_, _| {}).await;
    uploaded.map_err(DevnetError::client("uploading an image"))?;
    let mut old = manifest_of("lamp-firmware-0.9.0", "vendor", &image);
    old.security_counter = 1;
    let mut other = manifest_of("other-lamp-1.1.0", "vendor", &image);
    other.hardware_classes = vec!["other-lamp".to_owned()];
    for manifest in [&old, &other] {
        let signed = SignedRelease::sign(manifest, &devnet.city.member("vendor").secret);
        publish(&devnet.client("vendor")?, signed).await?;
        wait_stored(devnet, feed, artifact).await?;
        for approver in ["approver-1", "approver-2"] {
            approve_as(&devnet.client(approver)?, manifest).await?;
        }
    }
    let verdict = skipped(devnet, feed, &device, &old, SkipReason::SecurityCounter).await;
    journal.attack("a release with a lower security counter", verdict);
    let verdict = skipped(devnet, feed, &device, &other, SkipReason::HardwareClass).await;
    journal.attack("a release for another hardware class", verdict);
    Ok(())
}

/// A plan for these devices alone.
pub(super) fn plan_for_list(rollout: &str, release: &Id, devices: &[Id]) -> RolloutPlan {
    RolloutPlan {
        selection: Selection::List {
            devices: devices.to_vec(),
        },
        error_percent_max: 100,
        ..plan_for(rollout, release.as_str())
    }
}

/// Rolls a release out to one device, which must be skipped for this reason.
async fn skipped(
    devnet: &Devnet,
    feed: &FeedSubscriber,
    device: &Id,
    manifest: &ReleaseManifest,
    reason: SkipReason,
) -> Result<String, DevnetError> {
    let rollout = id(&format!("bad-{}", manifest.release));
    let devices = std::slice::from_ref(device);
    begin(
        devnet,
        plan_for_list(rollout.as_str(), &manifest.release, devices),
    )
    .await?;
    let looked = |seen: &crate::FeedState| seen.skipped.iter().any(|(of, ..)| *of == rollout);
    let seen = feed
        .until("the device is looked at", LOOKED_AT_WITHIN, looked)
        .await?;
    let wanted = (rollout.clone(), device.clone(), reason);
    if seen.skipped.contains(&wanted) && seen.by_state(&rollout).is_empty() {
        Ok(format!(
            "{device} is left out by the contract: {}",
            name_of(&reason)
        ))
    } else {
        Err(DevnetError::Unexpected(format!("{:?}", seen.skipped)))
    }
}
