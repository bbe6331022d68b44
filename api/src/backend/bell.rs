//! What the node says by itself: new heads, and work as it comes up.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lamplighter_contracts::devices;
use lamplighter_ledger::{Delivery, Handle};
use lamplighter_state::{StateError, prove};
use lamplighter_types::work::WorkItem;
use lamplighter_types::{ConfigTarget, DeploymentState, Fact, Id};
use tokio_util::sync::CancellationToken;

use super::gather::Gathered;
use super::work;
use crate::mqtt::Publisher;

/// Heads are told no more often: under load there are a hundred blocks a second.
const HEAD_EVERY: Duration = Duration::from_millis(500);
/// Work that is open is told again after so long.
const AGAIN_EVERY: Duration = Duration::from_secs(10);

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// Publishes the newest certified header, retained.
pub async fn heads(handle: Handle, publisher: Publisher, stop: CancellationToken) {
    let mut certified = handle.watch_certified();
    loop {
        let height = *certified.borrow_and_update();
        if height > 0 {
            match handle
                .view()
                .and_then(|(v, _)| prove::certified_header(&**v.store(), height))
            {
                Ok(head) => {
                    let text = serde_json::to_vec(&head).expect("our types have JSON forms");
                    if let Err(error) = publisher.publish_head(text.into()) {
                        tracing::warn!(%error, "the head was not published");
                    }
                }
                Err(error) => tracing::error!(%error, "the certified head can't be read"),
            }
        }
        let next = async {
            tokio::time::sleep(HEAD_EVERY).await;
            certified.changed().await
        };
        tokio::select! {
            changed = next => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

/// Tells gateways that are connected here of new work at once, and of all that is open now and
/// then.
pub async fn work(handle: Handle, publisher: Publisher, stop: CancellationToken) {
    let mut feed = handle.subscribe(None);
    let mut again = tokio::time::interval(AGAIN_EVERY);
    again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut waiting = Gathered::default();
    loop {
        tokio::select! {
            next = feed.next() => match next {
                Ok(Some(part)) => {
                    for delivery in &part.deliveries {
                        if let Err(error) = note(&handle, &publisher, delivery, &mut waiting) {
                            tracing::error!(%error, "new work can't be read");
                        }
                    }
                }
                Ok(None) | Err(_) => return,
            },
            () = waiting.is_due() => {
                for (gateway, items) in waiting.take() {
                    work::send(&handle, &publisher, &gateway, items).await;
                }
            }
            _ = again.tick() => remind(&handle, &publisher, &mut waiting),
            () = stop.cancelled() => return,
        }
    }
}

fn connected(publisher: &Publisher) -> Vec<Id> {
    publisher
        .connected()
        .into_iter()
        .filter_map(|id| Id::new(id).ok())
        .collect()
}

fn remind(handle: &Handle, publisher: &Publisher, waiting: &mut Gathered) {
    for gateway in connected(publisher) {
        match work::open(handle, &gateway) {
            Ok(items) => {
                let open = items
                    .into_iter()
                    .filter(|i| !matches!(i, WorkItem::Device { .. }));
                waiting.add(gateway, open);
            }
            Err(error) => tracing::error!(%error, "the work of a gateway can't be read"),
        }
    }
}

/// Adds what a notification means for the gateways that are connected here.
fn note(
    handle: &Handle,
    publisher: &Publisher,
    delivery: &Delivery,
    waiting: &mut Gathered,
) -> Result<(), StateError> {
    let notification = &delivery.notification;
    if let Fact::DesiredSet { target, .. } = &notification.fact
        && !matches!(target, ConfigTarget::Device { .. })
    {
        remind(handle, publisher, waiting);
        return Ok(());
    }
    let Some(place) = &notification.place else {
        return Ok(());
    };
    let device = place.device.clone();
    let item = match &notification.fact {
        Fact::DeploymentMoved { rollout, to, .. } if concerns_gateway(*to) => {
            WorkItem::Deployment {
                rollout: rollout.clone(),
                device,
            }
        }
        Fact::DesiredSet { .. } => WorkItem::Config { device },
        Fact::DeviceRegistered
        | Fact::DeviceAssigned { .. }
        | Fact::DeviceSuspended { .. }
        | Fact::DeviceResumed
        | Fact::DeviceDecommissioned { .. } => WorkItem::Device { device },
        _ => return Ok(()),
    };
    let (view, _) = handle.view()?;
    let record = devices::device(&view, &place.device)?;
    let new_gateway = record.as_ref().and_then(|d| d.gateway.clone());
    for gateway in place.gateway.iter().chain(new_gateway.iter()) {
        if !publisher.is_connected(gateway.as_str()) {
            continue;
        }
        waiting.add(gateway.clone(), [item.clone()]);
        if let (WorkItem::Device { .. }, Some(device)) = (&item, &record) {
            waiting.add(gateway.clone(), work::of_device(&view, device)?);
        }
    }
    Ok(())
}

/// States that the ledger brings about and the gateway has to hear of; what the gateway itself
/// reported it knows.
fn concerns_gateway(state: DeploymentState) -> bool {
    use DeploymentState::*;
    !matches!(
        state,
        Offered | Downloading | Downloaded | Installing | Staged | Trial
    )
}
