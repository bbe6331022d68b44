//! The steps with gateways and Things: start, images, configuration, alarms.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lamplighter_types::{
    Action, AlarmChange, AlarmId, ConfigAction, ConfigTarget, EventsAction, Hash, Id, Severity,
};
use serde_json::{Value, json};

use super::{VERSION, gateway_name, lamp, things};
use crate::DevnetError;
use crate::feed::FeedSubscriber;
use crate::field::ThingCommand;
use crate::network::{Devnet, submit_action};

/// Time for all Things to register and to report their running image.
const UP_WITHIN: Duration = Duration::from_secs(120);
/// Time for a configuration to be applied everywhere.
const APPLIED_WITHIN: Duration = Duration::from_secs(120);
/// Time for an event to come through gateway and ledger to a subscriber.
const EVENT_WITHIN: Duration = Duration::from_secs(60);
const CONFIGURATION: &str = r#"{"dimming":{"at":"23:30","percent":40},"heartbeat_s":60}"#;

pub(super) async fn start(
    devnet: &mut Devnet,
    feed: &FeedSubscriber,
) -> Result<Value, DevnetError> {
    for gateway in 0..devnet.plan.gateways {
        devnet.start_gateway(&gateway_name(gateway), Vec::new())?;
        let mesh = things(devnet, gateway);
        devnet.start_mesh(gateway, &mesh)?;
    }
    let count = devnet.plan.things;
    let all = |seen: &crate::FeedState| seen.inventories.len() >= count;
    let seen = feed
        .until("every Thing has reported what it runs", UP_WITHIN, all)
        .await?;
    devnet.check()?;
    Ok(json!({ "gateways": devnet.plan.gateways, "things": seen.inventories.len() }))
}

/// Compares the active slot of each Thing with the file, byte by byte.
pub(super) async fn compare(devnet: &mut Devnet) -> Result<Value, DevnetError> {
    let expected = devnet.firmware.1.clone();
    let digest = Hash::of(&expected);
    let mut held = BTreeMap::new();
    for mesh in &mut devnet.meshes {
        let devices: Vec<_> = mesh
            .config
            .things
            .iter()
            .map(|t| t.device.clone())
            .collect();
        for device in devices {
            let (image, status) = (mesh.image(&device).await?, mesh.status(&device).await?);
            if image != expected || status.digest != digest || status.version != VERSION {
                let found = format!("{device} runs {} with {} bytes", status.digest, image.len());
                return Err(DevnetError::Unexpected(found));
            }
            let (bytes, slot) = (image.len(), status.slot);
            let reported = json!({ "bytes": bytes, "digest": status.digest, "slot": slot });
            held.insert(device, reported);
        }
    }
    Ok(json!({ "file_bytes": expected.len(), "file_digest": digest, "things": held }))
}

/// Changes the configuration of the fleet and waits until each Thing has applied it.
pub(super) async fn configure(
    devnet: &Devnet,
    feed: &FeedSubscriber,
) -> Result<Value, DevnetError> {
    let action = ConfigAction::SetDesired {
        target: ConfigTarget::Fleet,
        document: CONFIGURATION.to_owned(),
        replaces_version: 0,
    };
    submit_action(
        &devnet.client("operator")?,
        "setting the configuration",
        Action::Config(action),
    )
    .await?;
    let auditor = devnet.client("auditor")?;
    let device = lamp(1);
    let read = auditor.device_config(&device).await;
    let wanted = read
        .map_err(DevnetError::client("reading a configuration"))?
        .value;
    let count = devnet.plan.things;
    let applied = |seen: &crate::FeedState| {
        seen.applied
            .values()
            .filter(|document| **document == wanted.hash)
            .count()
            >= count
    };
    feed.until(
        "every Thing has applied the configuration",
        APPLIED_WITHIN,
        applied,
    )
    .await?;
    let read = auditor.device_config(&device).await;
    let now = read
        .map_err(DevnetError::client("reading a configuration"))?
        .value;
    if now.in_sync {
        Ok(json!({ "document": now.effective, "digest": now.hash, "applied_by": count }))
    } else {
        Err(DevnetError::Unexpected(format!("{device} is not in sync")))
    }
}

/// Lets a lamp raise an alarm, acknowledges it as the operator, and lets the lamp clear it. Each
/// step reaches the subscriber. The alarm of another lamp is left for a person to acknowledge.
pub(super) async fn alarm(
    devnet: &mut Devnet,
    feed: &FeedSubscriber,
) -> Result<Value, DevnetError> {
    let begun = Instant::now();
    let device = lamp(1);
    let alarm = raise(devnet, feed, &device, LAMP_FAILURE, r#"{"lamp":"dark"}"#).await?;
    let ms = begun.elapsed().as_millis() as u64;
    let comment = "a lamp was sent for".to_owned();
    let acknowledged = alarm.clone();
    let action = EventsAction::Acknowledge {
        alarm: acknowledged,
        comment,
    };
    let operator = devnet.client("operator")?;
    submit_action(&operator, "acknowledging an alarm", Action::Events(action)).await?;
    let known = |seen: &crate::FeedState| seen.alarms.get(&alarm) == Some(&true);
    let what = "the acknowledgement reaches a subscriber";
    feed.until(what, EVENT_WITHIN, known).await?;
    clear(devnet, feed, &device, LAMP_FAILURE, r#"{"lamp":"lit"}"#).await?;
    let other = lamp(devnet.plan.things.min(2));
    let open = raise(devnet, feed, &other, LAMP_FAILURE, r#"{"lamp":"flickers"}"#).await?;
    Ok(
        json!({ "device": device, "sequence": alarm.sequence, "ms_from_lamp_to_subscriber": ms,
        "open": open }),
    )
}

const LAMP_FAILURE: &str = "lampFailure";
/// A smaller city has a single lamp, whose alarm of the first kind stays open.
const CABINET_OPEN: &str = "cabinetDoorOpen";

fn alarm_of(device: &Id, kind: &str, alarm: AlarmChange, data: &str) -> ThingCommand {
    ThingCommand::Raise {
        device: device.clone(),
        kind: kind.to_owned(),
        severity: Severity::Major,
        alarm,
        data: data.to_owned(),
    }
}

/// Lets a lamp raise an alarm and waits until a subscriber knows it.
async fn raise(
    devnet: &mut Devnet,
    feed: &FeedSubscriber,
    device: &Id,
    kind: &str,
    data: &str,
) -> Result<AlarmId, DevnetError> {
    let command = alarm_of(device, kind, AlarmChange::Raise, data);
    let raised = devnet.mesh_of(device)?.command(&command).await?;
    let sequence = raised.as_u64().ok_or_else(|| {
        DevnetError::Unexpected(format!("{device} gave {raised} as the number of its event"))
    })?;
    let alarm = AlarmId {
        device: device.clone(),
        sequence,
    };
    let seen = |seen: &crate::FeedState| seen.alarms.contains_key(&alarm);
    let what = "the alarm reaches a subscriber";
    feed.until(what, EVENT_WITHIN, seen).await?;
    Ok(alarm)
}

/// Lets a lamp clear its alarm of a kind and waits until a subscriber knows it.
async fn clear(
    devnet: &mut Devnet,
    feed: &FeedSubscriber,
    device: &Id,
    kind: &str,
    data: &str,
) -> Result<(), DevnetError> {
    let count = |seen: &crate::FeedState| seen.counts.get("alarm_cleared").copied();
    let before = count(&feed.seen()).unwrap_or_default();
    let command = alarm_of(device, kind, AlarmChange::Clear, data);
    devnet.mesh_of(device)?.command(&command).await?;
    let cleared = |seen: &crate::FeedState| count(seen) > Some(before);
    let what = "the end of the alarm reaches a subscriber";
    feed.until(what, EVENT_WITHIN, cleared).await?;
    Ok(())
}

/// Lets the last lamp replace its key: the ledger has the new one, and an alarm that it signed.
pub(super) async fn rotate_key(
    devnet: &mut Devnet,
    feed: &FeedSubscriber,
) -> Result<Value, DevnetError> {
    let device = lamp(devnet.plan.things);
    let auditor = devnet.client("auditor")?;
    let reading = || DevnetError::client("reading a device");
    let before = auditor.device(&device).await.map_err(reading())?.value;
    let command = ThingCommand::RotateKey {
        device: device.clone(),
    };
    let asked = devnet.mesh_of(&device)?.command(&command).await?;
    let replaced = |seen: &crate::FeedState| seen.counts.contains_key("device_key_replaced");
    let what = "the new key of a lamp reaches a subscriber";
    feed.until(what, EVENT_WITHIN, replaced).await?;
    let now = auditor.device(&device).await.map_err(reading())?.value;
    if json!(now.key) != asked || now.key == before.key {
        let found = format!(
            "the ledger has the key {:?} of {device}, not {asked}",
            now.key
        );
        return Err(DevnetError::Unexpected(found));
    }
    let alarm = raise(devnet, feed, &device, CABINET_OPEN, r#"{"door":"open"}"#).await?;
    clear(devnet, feed, &device, CABINET_OPEN, r#"{"door":"shut"}"#).await?;
    Ok(json!({ "device": device, "key": asked, "signed_with_it": alarm }))
}

/// The subscriber's counts of notifications.
pub(super) async fn events(feed: &FeedSubscriber) -> Result<Value, DevnetError> {
    let seen = feed.seen();
    match (seen.disorder, &seen.ended) {
        (0, None) => Ok(json!({ "total": seen.total(), "by_kind": seen.counts })),
        _ => Err(DevnetError::Unexpected(
            "the feed came out of order, or ended".to_owned(),
        )),
    }
}
