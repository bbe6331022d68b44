//! The steps of a release: upload, publication, approval and rollout.

use std::collections::BTreeMap;
use std::time::Duration;

use lamplighter_client::Client;
use lamplighter_system::unix_ms;
use lamplighter_types::{
    Action, DeferralPolicy, FirmwareAction, Hash, Id, ReleaseManifest, ReleaseStatus, RolloutPlan,
    RolloutStatus, RolloutsAction, Selection, SignedRelease, StepTimers, codec,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{HARDWARE_CLASS, MODEL, RELEASE, VERSION};
use crate::DevnetError;
use crate::city::{district, id};
use crate::feed::{FeedSubscriber, name_of};
use crate::journal::Progress;
use crate::network::{Devnet, submit_action};

/// Time for the validators to fetch an image from each other.
const STORED_WITHIN: Duration = Duration::from_secs(60);
const MINUTE_MS: u64 = 60_000;

/// Uploads the image as the vendor.
pub(super) async fn upload(devnet: &Devnet) -> Result<Value, DevnetError> {
    let vendor = devnet.client("vendor")?;
    let uploaded = vendor.upload(&devnet.firmware.0, &mut |_, _| {}).await;
    let (digest, size_bytes) = uploaded.map_err(DevnetError::client("uploading the image"))?;
    Ok(json!({ "digest": digest, "bytes": size_bytes }))
}

/// Waits until a quorum of validators has signed that it holds an image; it cannot be approved
/// before.
pub(crate) async fn wait_stored(
    devnet: &Devnet,
    feed: &FeedSubscriber,
    artifact: Hash,
) -> Result<Value, DevnetError> {
    let quorum = devnet.city.genesis.validators.quorum() as u32;
    let stored =
        |seen: &crate::FeedState| seen.holders.get(&artifact).is_some_and(|n| *n >= quorum);
    let seen = feed
        .until(
            "a quorum of validators stores the image",
            STORED_WITHIN,
            stored,
        )
        .await?;
    Ok(json!({ "holders": seen.holders.get(&artifact), "quorum": quorum }))
}

/// The manifest of an image, which a vendor signs.
pub(crate) fn manifest_of(release: &str, vendor: &str, image: &[u8]) -> ReleaseManifest {
    ReleaseManifest {
        release: id(release),
        vendor: id(vendor),
        version: VERSION,
        artifact: Hash::of(image),
        size_bytes: image.len() as u64,
        hardware_classes: vec![HARDWARE_CLASS.to_owned()],
        security_counter: 2,
        replaces_from: None,
        depends_on: Vec::new(),
        expires_ms: None,
        critical: false,
        provenance: None,
    }
}

pub(crate) async fn publish(client: &Client, release: SignedRelease) -> Result<(), DevnetError> {
    let action = Action::Firmware(FirmwareAction::Publish { release });
    submit_action(client, "publishing a release", action)
        .await
        .map(drop)
}

pub(super) async fn publish_release(devnet: &Devnet) -> Result<Value, DevnetError> {
    let manifest = manifest_of(RELEASE, "vendor", &devnet.firmware.1);
    let signed = SignedRelease::sign(&manifest, &devnet.city.member("vendor").secret);
    publish(&devnet.client("vendor")?, signed).await?;
    Ok(json!({ "release": RELEASE, "manifest": codec::digest(&manifest) }))
}

/// Approves a release as the client's member.
pub(crate) async fn approve_as(
    client: &Client,
    manifest: &ReleaseManifest,
) -> Result<(), DevnetError> {
    let release = manifest.release.clone();
    let action = FirmwareAction::Approve {
        release,
        manifest: codec::digest(manifest),
    };
    submit_action(client, "approving a release", Action::Firmware(action))
        .await
        .map(drop)
}

pub(super) async fn approve(devnet: &Devnet) -> Result<Value, DevnetError> {
    let manifest = manifest_of(RELEASE, "vendor", &devnet.firmware.1);
    for approver in ["approver-1", "approver-2"] {
        approve_as(&devnet.client(approver)?, &manifest).await?;
    }
    let release = devnet.client("auditor")?.release(&manifest.release).await;
    let release = release
        .map_err(DevnetError::client("reading the release"))?
        .value;
    match release.status {
        ReleaseStatus::Released => {
            let by = release.approvals.iter().map(|approval| &approval.account);
            Ok(json!({ "by": by.collect::<Vec<_>>() }))
        }
        status => Err(DevnetError::Unexpected(format!(
            "the approved release is {}",
            name_of(&status)
        ))),
    }
}

/// A plan for all lamps of the city.
pub(crate) fn plan_for(rollout: &str, release: &str) -> RolloutPlan {
    RolloutPlan {
        rollout: id(rollout),
        release: id(release),
        selection: Selection::Filter {
            district: district(""),
            model: Some(MODEL.to_owned()),
            hardware_class: None,
            tag: None,
        },
        error_percent_max: 50,
        error_sample_min: 4,
        deferral: DeferralPolicy {
            count_max: 2,
            total_ms_max: 60 * MINUTE_MS,
        },
        timers: StepTimers {
            offer_ms: 10 * MINUTE_MS,
            download_ms: 10 * MINUTE_MS,
            install_ms: 10 * MINUTE_MS,
            trial_ms: 10 * MINUTE_MS,
        },
        retries_max: 2,
    }
}

/// A rollout with the time of its approval.
#[derive(Clone, Debug, Serialize)]
pub struct StartedRollout {
    rollout: Id,
    approved_ms: u64,
}

/// Plans, approves and starts a rollout.
pub(crate) async fn begin(
    devnet: &Devnet,
    plan: RolloutPlan,
) -> Result<StartedRollout, DevnetError> {
    let operator = devnet.client("operator")?;
    let rollout = plan.rollout.clone();
    let digest = codec::digest(&plan);
    let action = |action| Action::Rollouts(action);
    submit_action(
        &operator,
        "planning a rollout",
        action(RolloutsAction::Plan { plan }),
    )
    .await?;
    let approval = RolloutsAction::Approve {
        rollout: rollout.clone(),
        plan: digest,
    };
    submit_action(
        &devnet.client("approver-1")?,
        "approving a rollout",
        action(approval),
    )
    .await?;
    let approved_ms = unix_ms();
    let start = RolloutsAction::Start {
        rollout: rollout.clone(),
    };
    submit_action(&operator, "starting a rollout", action(start)).await?;
    Ok(StartedRollout {
        rollout,
        approved_ms,
    })
}

/// Things by the state of their deployment, e.g. `confirmed 17, downloading 3`.
fn state_counts(states: &BTreeMap<String, u64>) -> String {
    let parts = states
        .iter()
        .map(|(state, count)| format!("{state} {count}"));
    parts.collect::<Vec<_>>().join(", ")
}

/// Prints the progress of the rollout until it ends; returns its figures.
pub(super) async fn finish(
    devnet: &Devnet,
    feed: &FeedSubscriber,
    begun: &StartedRollout,
    mut progress: Progress,
) -> Result<Value, DevnetError> {
    let rollout = &begun.rollout;
    let within = devnet.link.rollout_within();
    let ended = feed.until("the rollout ends", within, |seen| {
        progress.print(state_counts(&seen.by_state(rollout)));
        seen.rollouts
            .get(rollout)
            .is_some_and(|status| *status != RolloutStatus::Running)
    });
    ended.await?;
    let seen = feed.seen();
    let states = seen.by_state(&begun.rollout);
    let status = seen.rollouts.get(&begun.rollout).copied();
    let last_ms = seen.confirmed_ms.get(&begun.rollout).copied().unwrap_or(0);
    let seconds = last_ms.saturating_sub(begun.approved_ms) as f64 / 1000.0;
    let confirmed = states.get("confirmed").copied().unwrap_or(0) as usize;
    if status != Some(RolloutStatus::Finished) || confirmed != devnet.plan.things {
        let found = format!(
            "the rollout is {}: {}",
            name_of(&status),
            state_counts(&states)
        );
        return Err(DevnetError::Unexpected(found));
    }
    Ok(json!({
        "deployments": states, "status": "finished",
        "seconds_from_approval_to_last_confirmation": seconds,
    }))
}
