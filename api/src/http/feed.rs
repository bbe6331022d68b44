//! `/v1/feed`: every notification as it is committed, as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use lamplighter_ledger::{Cursor, CursorAhead, FeedEvent as Delivery, Subscription};
use lamplighter_types::{Hash, Id, Notification, Scope};
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::Query;
use super::problem::Problem;
use super::read::parse;
use super::{App, auth};
use crate::token::Bearer;

/// Comments that keep an idle connection open through proxies.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events that are made at once; then others have their turn.
const EVENTS_PER_TURN: usize = 16;
/// A client is told of the place that it has reached at least once in so many blocks, or after so
/// long, although it wanted nothing of them: so much is read again when it reconnects.
const PLACE_EVERY_BLOCKS: u64 = 1_024;
const PLACE_EVERY: Duration = Duration::from_secs(5);

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(feed))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct FeedQuery {
    /// Begins after this cursor, `height.index`; the header `Last-Event-ID` comes before it.
    /// Without either only what is new.
    after: Option<String>,
    /// Only facts of this name, e.g. `deployment_moved`.
    kind: Option<String>,
    /// Only devices in this district and below it.
    district: Option<Scope>,
    device: Option<Id>,
}

impl FeedQuery {
    fn wants(&self, notification: &Notification) -> bool {
        let place = notification.place.as_ref();
        self.kind
            .as_ref()
            .is_none_or(|kind| *kind == notification.fact.kind())
            && self
                .device
                .as_ref()
                .is_none_or(|d| place.is_some_and(|p| p.device == *d))
            && self
                .district
                .as_ref()
                .is_none_or(|d| place.is_some_and(|p| d.covers(&p.district)))
    }
}

/// The data of one server-sent event; its id is the cursor.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct FeedEvent {
    cursor: String,
    /// Block time, Unix ms.
    time_ms: u64,
    /// Zero when the block's time alone was the cause.
    transaction: Hash,
    /// The account that signed the transaction; null when the block's time alone was the cause.
    author: Option<Id>,
    notification: Notification,
}

/// Every notification after a cursor, then those to come (`text/event-stream`). The id of each is
/// its cursor: a client that reconnects with `Last-Event-ID` misses nothing and sees nothing twice.
/// The stream begins with an id, and ids without data follow while nothing is wanted.
#[utoipa::path(get, path = "/v1/feed", tag = "feed", params(FeedQuery),
    responses((status = 200, body = FeedEvent, content_type = "text/event-stream"),
        (status = 409, description = "The cursor is ahead of this ledger.", body = Problem),
        (status = 503, body = Problem)))]
async fn feed(
    State(app): State<App>,
    bearer: Option<Extension<Bearer>>,
    Query(query): Query<FeedQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let last = headers.get("last-event-id").map(|value| value.to_str());
    let last = last
        .transpose()
        .map_err(|_| Problem::invalid("parameter", "Last-Event-ID"))?;
    let after: Option<Cursor> = last.or(query.after.as_deref()).map(parse).transpose()?;
    let permit = app.subscribers.clone().try_acquire_owned().map_err(|_| {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            "too many subscribers",
        )
    })?;
    let wants = Arc::new(move |notification: &Notification| query.wants(notification));
    let subscription = match app.handle.follow(after, wants) {
        Ok(subscription) => subscription,
        Err(ahead) => return Ok(refused(ahead)),
    };
    let reader = Reader::new(subscription, permit);
    let stop = app.stop.clone().cancelled_owned();
    let ended = auth::ended(app, bearer.map(|Extension(bearer)| bearer));
    let events = events(reader).take_until(stop).take_until(ended);
    let stream = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    // nginx gathers what it passes on until 4 KiB are full, unless it is told not to.
    Ok(([("x-accel-buffering", "no")], stream).into_response())
}

/// The client's cursor is of another ledger. Waiting would hide that from it.
fn refused(ahead: CursorAhead) -> Response {
    let problem = Problem::new(StatusCode::CONFLICT, "feed.ahead", ahead.to_string());
    ([("ledger-height", ahead.height.to_string())], problem).into_response()
}

/// A client's way through the stream. One block at a time is in memory, however slow it is.
struct Reader {
    subscription: Subscription,
    /// Of the last block that was read.
    waiting: VecDeque<Delivery>,
    /// The newest id that the client was told, and when; no time before the first.
    told: Cursor,
    told_at: Option<Instant>,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    fn new(subscription: Subscription, permit: OwnedSemaphorePermit) -> Self {
        Self {
            told: subscription.cursor(),
            subscription,
            waiting: VecDeque::new(),
            told_at: None,
            _permit: permit,
        }
    }

    /// The next events, a few; none at the end.
    async fn next(&mut self) -> Option<Vec<Event>> {
        if self.told_at.is_none() {
            return Some(vec![self.place()]);
        }
        while self.waiting.is_empty() {
            match self.subscription.next().await {
                Ok(part) => self.waiting = part?.events.into(),
                Err(error) => {
                    tracing::error!(%error, "a subscription can't read the chain");
                    return None;
                }
            }
            if self.waiting.is_empty() && self.is_place_due() {
                return Some(vec![self.place()]);
            }
        }
        tokio::task::yield_now().await;
        let count = self.waiting.len().min(EVENTS_PER_TURN);
        let deliveries: Vec<_> = self.waiting.drain(..count).collect();
        if let Some(last) = deliveries.last() {
            self.told(last.cursor);
        }
        Some(deliveries.into_iter().map(event).collect())
    }

    fn is_place_due(&self) -> bool {
        let passed = self.subscription.cursor().height - self.told.height;
        let waited = |told_at: Instant| told_at.elapsed() >= PLACE_EVERY;
        passed >= PLACE_EVERY_BLOCKS || self.told_at.is_some_and(waited)
    }

    /// An id alone: clients note it and have nothing to do (HTML standard, 9.2.6).
    fn place(&mut self) -> Event {
        let cursor = self.subscription.cursor();
        self.told(cursor);
        Event::default().id(cursor.to_string())
    }

    fn told(&mut self, cursor: Cursor) {
        self.told = cursor;
        self.told_at = Some(Instant::now());
    }
}

fn events(reader: Reader) -> impl Stream<Item = Result<Event, Infallible>> {
    let parts = stream::unfold(reader, |mut reader| async move {
        let events = reader.next().await?;
        Some((stream::iter(events.into_iter().map(Ok)), reader))
    });
    parts.flatten()
}

impl From<Delivery> for FeedEvent {
    fn from(delivery: Delivery) -> Self {
        let Delivery {
            cursor,
            time_ms,
            transaction,
            author,
            notification,
        } = delivery;
        Self {
            cursor: cursor.to_string(),
            time_ms,
            transaction,
            author,
            notification,
        }
    }
}

fn event(delivery: Delivery) -> Event {
    let data = FeedEvent::from(delivery);
    let text = serde_json::to_string(&data).expect("our types have JSON forms");
    let kind = data.notification.fact.kind();
    Event::default().id(data.cursor).event(kind).data(text)
}
