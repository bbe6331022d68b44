//! What is told to users over MQTT, and whose connections end.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use lamplighter_ledger::{Cursor, FeedEvent as Delivery, Handle};
use lamplighter_types::{Fact, Scope};
use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::http::FeedEvent;
use crate::mqtt::Publisher;

/// Pause after the feed could not be read; it doubles up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Districts whose newest notification is remembered, more than a city has. One more, and all are
/// forgotten: subscribers then take what follows for a gap and ask the feed.
const DISTRICTS_MAX: usize = 4_096;

/// Publishes notifications to CMS users, and closes connections whose key or account ended.
pub async fn notifications(handle: Handle, publisher: Publisher, stop: CancellationToken) {
    let mut feed = handle.subscribe(None);
    let mut previous = Previous::default();
    let mut pause = PAUSE_FIRST;
    loop {
        let next = tokio::select! {
            next = feed.next() => next,
            () = stop.cancelled() => return,
        };
        match next {
            Ok(Some(part)) => {
                pause = PAUSE_FIRST;
                for delivery in &part.events {
                    end_connections(&publisher, &delivery.notification.fact);
                    publish(&publisher, delivery, &mut previous);
                }
            }
            Ok(None) => return,
            // It goes on where it was, so that no connection outlives its key.
            Err(error) => {
                tracing::error!(%error, "the feed can't be read: MQTT subscribers hear nothing");
                tokio::select! {
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
                    () = stop.cancelled() => return,
                }
            }
        }
    }
}

fn end_connections(publisher: &Publisher, fact: &Fact) {
    match fact {
        Fact::KeyRevoked { account: _, key } => publisher.revoked_key(&key.0),
        Fact::AccountDisabled { account } | Fact::RoleRevoked { account, .. } => {
            publisher.revoked(account.as_str());
        }
        _ => {}
    }
}

fn publish(publisher: &Publisher, delivery: &Delivery, previous: &mut Previous) {
    let Some(place) = &delivery.notification.place else {
        return;
    };
    let before = previous.replace(&place.district, delivery.cursor);
    let body = message(delivery, before);
    let kind = delivery.notification.fact.kind();
    let (district, device) = (place.district.as_str(), place.device.as_str());
    if let Err(error) = publisher.notify(&kind, district, device, body.to_string().into()) {
        tracing::warn!(%error, kind, "a notification was not published");
    }
}

/// What is published: an event of the feed, with the cursor of the notification before it.
#[derive(Serialize)]
struct Message {
    #[serde(flatten)]
    event: FeedEvent,
    previous: Option<String>,
}

fn message(delivery: &Delivery, previous: Option<Cursor>) -> Value {
    json!(Message {
        event: delivery.clone().into(),
        previous: previous.map(|cursor| cursor.to_string()),
    })
}

/// The newest notification of each district. The broker drops the oldest ones for a subscriber that
/// is too slow or away for long; one that knows what came before a message sees that some are gone.
#[derive(Default)]
struct Previous(BTreeMap<Scope, Cursor>);

impl Previous {
    /// Notes `cursor`, and gives the one before it if it is known.
    fn replace(&mut self, district: &Scope, cursor: Cursor) -> Option<Cursor> {
        if let Some(known) = self.0.get_mut(district) {
            return Some(std::mem::replace(known, cursor));
        }
        if self.0.len() >= DISTRICTS_MAX {
            self.0.clear();
        }
        self.0.insert(district.clone(), cursor);
        None
    }
}
