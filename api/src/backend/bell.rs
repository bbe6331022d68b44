//! What the node says by itself: new heads, and work as it comes up.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lamplighter_contracts::devices;
use lamplighter_ledger::{FeedEvent as Delivery, Handle};
use lamplighter_state::{StateError, prove};
use lamplighter_types::work::WorkItem;
use lamplighter_types::{ConfigTarget, DeploymentState, Fact, Id};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::queue::WorkQueue;
use super::work::{self, Wanted};
use crate::mqtt::Publisher;

/// Heads are told no more often: under load there are a hundred blocks a second.
const HEAD_EVERY: Duration = Duration::from_millis(500);
/// Work that is open is told again after so long.
const AGAIN_EVERY: Duration = Duration::from_secs(10);
/// Looking for it takes at most one part in so many of the time, however many devices there are.
const REST: u32 = 10;
/// After the feed could not be read.
const FEED_AGAIN_AFTER: Duration = Duration::from_secs(1);

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

/// Tells gateways that are connected here of new work at once. `wide` is rung when all of them may
/// have some.
pub async fn work(
    handle: Handle,
    publisher: Publisher,
    queue: WorkQueue,
    wide: Arc<Notify>,
    stop: CancellationToken,
) {
    let mut feed = handle.subscribe(None);
    loop {
        let next = tokio::select! {
            next = feed.next() => next,
            () = stop.cancelled() => return,
        };
        match next {
            Ok(Some(part)) => {
                for delivery in &part.events {
                    if let Err(error) = note(&handle, &publisher, delivery, &queue, &wide) {
                        let error = crate::http::chain(&error);
                        tracing::error!(error, "new work can't be read");
                    }
                }
            }
            Ok(None) => return,
            Err(error) => {
                let error = crate::http::chain(&error);
                tracing::error!(error, "the feed can't be read: gateways are told all anew");
                tokio::time::sleep(FEED_AGAIN_AFTER).await;
                feed = handle.subscribe(None);
                for gateway in connected(&publisher) {
                    queue.list(&gateway);
                }
            }
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

/// Tells gateways now and then, and when `wide` was rung, of what is still open. One gateway is
/// looked at after the other, however often it was rung meanwhile.
pub async fn reminders(
    publisher: Publisher,
    queue: WorkQueue,
    wide: Arc<Notify>,
    stop: CancellationToken,
) {
    let mut pause = AGAIN_EVERY;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = wide.notified() => {}
            () = stop.cancelled() => return,
        }
        let begun = Instant::now();
        for gateway in connected(&publisher) {
            if stop.is_cancelled() {
                return;
            }
            if let Err(error) = queue.look(&gateway, Wanted::Open).await {
                let error = crate::http::chain(&error);
                tracing::error!(error, %gateway, "the work of a gateway can't be read");
            }
        }
        pause = AGAIN_EVERY.max(begun.elapsed() * REST);
    }
}

/// Adds what a notification means for the gateways that are connected here.
fn note(
    handle: &Handle,
    publisher: &Publisher,
    delivery: &Delivery,
    queue: &WorkQueue,
    wide: &Notify,
) -> Result<(), StateError> {
    let notification = &delivery.notification;
    if let Fact::DesiredSet { target, .. } = &notification.fact
        && !matches!(target, ConfigTarget::Device { .. })
    {
        wide.notify_one();
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
        let mut items = vec![item.clone()];
        if let (WorkItem::Device { .. }, Some(device)) = (&item, &record) {
            items.extend(work::of_device(&view, device)?);
        }
        queue.add(gateway, items);
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
