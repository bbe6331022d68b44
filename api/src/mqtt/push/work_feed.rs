//! Work as it comes up: what a notification of the feed means for the gateways that are connected
//! here, and what is still open for them.

use std::sync::Arc;
use std::time::Duration;

use lamplighter_contracts::devices;
use lamplighter_ledger::{FeedEvent, NotificationFilter, Subscription};
use lamplighter_state::StateError;
use lamplighter_system::error_chain;
use lamplighter_types::wire::work::WorkItem;
use lamplighter_types::{ConfigTarget, DeploymentState, Fact};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::open_work::{self, WorkSelection};
use crate::mqtt::Shared;

/// Looking for open work of all gateways takes at most one part in so many of the time.
const LOOK_PAUSE_FACTOR: u32 = 4;
/// Pause after the feed could not be read.
const FEED_RETRY: Duration = Duration::from_secs(1);

/// Sends new work of a feed to the gateways that are connected here, until the node stops. Notifies
/// `resend` when all of them may have some. The feed began before the first connection.
pub async fn collect(shared: Arc<Shared>, feed: Subscription, resend: Arc<Notify>) {
    let mut feed = feed.matching(work_facts());
    loop {
        let next = tokio::select! {
            next = feed.next() => next,
            () = shared.stop.cancelled() => return,
        };
        match next {
            Ok(Some(step)) => {
                if !step.events.is_empty() {
                    collect_all(&shared, step.events, &resend).await;
                }
            }
            Ok(None) => return,
            Err(error) => {
                let error = error_chain(&error);
                tracing::error!(
                    error,
                    "the feed can't be read: gateways get all their work again"
                );
                sleep(FEED_RETRY).await;
                feed = shared.handle.subscribe(None).matching(work_facts());
                for gateway in shared.sessions.connected() {
                    shared.work.send_all(&gateway);
                }
            }
        }
    }
}

/// The notifications from which work follows.
fn work_facts() -> NotificationFilter {
    Arc::new(|notification| {
        matches!(
            notification.fact,
            Fact::DesiredSet { .. }
                | Fact::DeploymentMoved { .. }
                | Fact::ConfigReported { .. }
                | Fact::DeviceRegistered
                | Fact::DeviceAssigned { .. }
                | Fact::DeviceSuspended { .. }
                | Fact::DeviceResumed
                | Fact::DeviceDecommissioned { .. }
                | Fact::DeviceKeyReplaced { .. }
        )
    })
}

/// Looks for open work of all gateways that are connected here when `wanted` is notified, until the
/// node stops: a document of many devices has changed. However often that happens meanwhile, one
/// gateway is looked at after the other.
pub async fn look_for_all(shared: Arc<Shared>, wanted: Arc<Notify>) {
    loop {
        tokio::select! {
            () = wanted.notified() => {}
            () = shared.stop.cancelled() => return,
        }
        let start = Instant::now();
        for gateway in shared.sessions.connected() {
            if shared.stop.is_cancelled() {
                return;
            }
            if let Err(error) = shared.work.scan(&gateway, WorkSelection::Open).await {
                let error = error_chain(&error);
                tracing::error!(error, %gateway, "the work of a gateway can't be read");
                shared.work.inspect(&gateway);
            }
        }
        tokio::select! {
            () = sleep(start.elapsed() * LOOK_PAUSE_FACTOR) => {}
            () = shared.stop.cancelled() => return,
        }
    }
}

/// Adds the work that follows from notifications, on a thread that may wait for the disk.
async fn collect_all(shared: &Arc<Shared>, events: Vec<FeedEvent>, resend: &Arc<Notify>) {
    let (shared, resend) = (Arc::clone(shared), Arc::clone(resend));
    let collected = tokio::task::spawn_blocking(move || {
        for event in &events {
            if let Err(error) = collect_one(&shared, event, &resend) {
                let error = error_chain(&error);
                tracing::error!(error, "new work can't be read: all open work is looked for");
                resend.notify_one();
            }
        }
    });
    if let Err(error) = collected.await {
        tracing::error!(%error, "new work was not collected");
    }
}

/// Adds the work that follows from a notification for the gateways that are connected here.
fn collect_one(shared: &Shared, event: &FeedEvent, resend: &Notify) -> Result<(), StateError> {
    let notification = &event.notification;
    if let Fact::DesiredSet { target, .. } = &notification.fact
        && !matches!(target, ConfigTarget::Device { .. })
    {
        resend.notify_one();
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
        // One that is reported with another document than the desired one is open again.
        Fact::DesiredSet { .. } | Fact::ConfigReported { .. } => WorkItem::Config { device },
        Fact::DeviceRegistered
        | Fact::DeviceAssigned { .. }
        | Fact::DeviceSuspended { .. }
        | Fact::DeviceResumed
        | Fact::DeviceDecommissioned { .. }
        | Fact::DeviceKeyReplaced { .. } => WorkItem::Device { device },
        _ => return Ok(()),
    };
    let (view, _) = shared.handle.view()?;
    let record = devices::device(&view, &place.device)?;
    let assigned = record.as_ref().and_then(|d| d.gateway.clone());
    for gateway in place.gateway.iter().chain(assigned.iter()) {
        if !shared.sessions.is_connected(gateway) {
            continue;
        }
        if matches!(notification.fact, Fact::ConfigReported { .. })
            && !open_work::is_open(&view, gateway, &item)?
        {
            continue;
        }
        let mut items = vec![item.clone()];
        if let (WorkItem::Device { .. }, Some(device)) = (&item, &record) {
            items.extend(open_work::of_device(&view, device)?);
        }
        shared.work.add(gateway, items);
    }
    Ok(())
}

/// True if a gateway has to act on a state: one that the ledger brings about. States that the
/// gateway itself reported it knows.
fn concerns_gateway(state: DeploymentState) -> bool {
    use DeploymentState::*;
    !matches!(
        state,
        Offered | Downloading | Downloaded | Installing | Staged | Trial
    )
}
