//! `/v1/feed`: every notification when its block is committed, as server-sent events.

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
use lamplighter_ledger::{CursorAhead, Handle, Subscription};
use lamplighter_state::StateError;
use lamplighter_types::wire::{Cursor, FeedEvent, header};
use lamplighter_types::{Id, Notification, Scope};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::{ApiError, Problem, code};
use super::extract::Query;
use super::read::{LEDGER_HEIGHT, parse};
use super::{App, auth};
use crate::rights::Rights;
use crate::token::Bearer;

/// Comments that keep an idle connection open through proxies.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events that are made at once; then the task yields.
const EVENTS_PER_TURN: usize = 16;
/// While no notification passes the filter, the cursor alone is sent once in this many blocks, or
/// after this time. It limits how much is read again when the client reconnects.
const CURSOR_EVERY_BLOCKS: u64 = 1_024;
const CURSOR_EVERY: Duration = Duration::from_secs(5);

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(feed))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct FeedQuery {
    /// Begins after this cursor, `height.index`. The header `Last-Event-ID` has precedence. Without
    /// either, only new notifications are sent.
    after: Option<String>,
    /// Only facts of this name, e.g. `deployment_moved`.
    kind: Option<String>,
    /// Only devices in this district and below it.
    district: Option<Scope>,
    device: Option<Id>,
}

impl FeedQuery {
    fn matches(&self, notification: &Notification) -> bool {
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

/// Every notification after a cursor, then the new ones (`text/event-stream`). The id of each is
/// its cursor: a client that reconnects with `Last-Event-ID` misses nothing and sees nothing twice.
/// The stream begins with an id, and ids without data follow while no notification passes the
/// filter.
#[utoipa::path(get, path = "/v1/feed", tag = "feed", params(FeedQuery),
    responses((status = 200, body = FeedEvent, content_type = "text/event-stream"),
        (status = 409, description = "The cursor is ahead of this ledger.", body = Problem),
        (status = 503, body = Problem)))]
async fn feed(
    State(app): State<App>,
    bearer: Option<Extension<Bearer>>,
    Extension(rights): Extension<Rights>,
    Query(query): Query<FeedQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let last = headers
        .get(header::LAST_EVENT_ID)
        .map(|value| value.to_str());
    let last = last
        .transpose()
        .map_err(|_| ApiError::invalid(code::PARAMETER, "Last-Event-ID"))?;
    let after: Option<Cursor> = last.or(query.after.as_deref()).map(parse).transpose()?;
    let permit = app.subscribers.clone().try_acquire_owned();
    let permit = permit.map_err(|_| ApiError::busy("too many subscribers"))?;
    let (handle, readable) = (app.handle.clone(), rights.clone());
    let filter = Arc::new(move |notification: &Notification| {
        query.matches(notification) && may_read(&handle, &readable, notification)
    });
    let subscription = match app.handle.follow(after, filter) {
        Ok(subscription) => subscription,
        Err(ahead) => return Ok(cursor_ahead(ahead)),
    };
    let reader = FeedReader::new(subscription, permit);
    let stop = app.stop.clone().cancelled_owned();
    let revoked = auth::revoked(app, bearer.map(|Extension(bearer)| bearer), rights);
    let events = events(reader).take_until(stop).take_until(revoked);
    let stream = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    // Without this header nginx buffers the answer until it has 4 KiB.
    Ok(([("x-accel-buffering", "no")], stream).into_response())
}

/// True if an account may read a notification; it may not while the state can't be read.
fn may_read(handle: &Handle, rights: &Rights, notification: &Notification) -> bool {
    let read = || -> Result<bool, StateError> {
        let (view, _) = handle.view()?;
        rights.at(&view).allows_notification(notification)
    };
    rights.is_everything()
        || read().unwrap_or_else(|error| {
            tracing::error!(%error, "the readers of a notification can't be decided");
            false
        })
}

/// The client's cursor belongs to another ledger. Waiting would hide that from the client.
fn cursor_ahead(ahead: CursorAhead) -> Response {
    let error = ApiError::new(StatusCode::CONFLICT, code::FEED_AHEAD, ahead.to_string());
    ([(LEDGER_HEIGHT, ahead.height.to_string())], error).into_response()
}

/// A client's reader of the feed. It has one block at a time in memory, however slow the client is.
struct FeedReader {
    subscription: Subscription,
    /// Notifications of the last block that were not sent yet.
    unsent: VecDeque<FeedEvent>,
    /// The newest id that was sent, and when; no time before the first.
    sent: Cursor,
    sent_at: Option<Instant>,
    _permit: OwnedSemaphorePermit,
}

impl FeedReader {
    fn new(subscription: Subscription, permit: OwnedSemaphorePermit) -> Self {
        Self {
            sent: subscription.cursor(),
            subscription,
            unsent: VecDeque::new(),
            sent_at: None,
            _permit: permit,
        }
    }

    /// The next few events; `None` at the end.
    async fn next(&mut self) -> Option<Vec<Event>> {
        if self.sent_at.is_none() {
            return Some(vec![self.cursor_event()]);
        }
        while self.unsent.is_empty() {
            match self.subscription.next().await {
                Ok(part) => self.unsent = part?.events.into(),
                Err(error) => {
                    tracing::error!(%error, "a subscription can't read the chain");
                    return None;
                }
            }
            if self.unsent.is_empty() && self.is_cursor_due() {
                return Some(vec![self.cursor_event()]);
            }
        }
        tokio::task::yield_now().await;
        let count = self.unsent.len().min(EVENTS_PER_TURN);
        let events: Vec<_> = self.unsent.drain(..count).collect();
        if let Some(last) = events.last() {
            self.mark_sent(last.cursor);
        }
        Some(events.iter().map(sse_event).collect())
    }

    fn is_cursor_due(&self) -> bool {
        let blocks = self.subscription.cursor().height - self.sent.height;
        let is_late = |sent_at: Instant| sent_at.elapsed() >= CURSOR_EVERY;
        blocks >= CURSOR_EVERY_BLOCKS || self.sent_at.is_some_and(is_late)
    }

    /// An id alone: clients record it and do nothing else (HTML standard, 9.2.6).
    fn cursor_event(&mut self) -> Event {
        let cursor = self.subscription.cursor();
        self.mark_sent(cursor);
        Event::default().id(cursor.to_string())
    }

    fn mark_sent(&mut self, cursor: Cursor) {
        self.sent = cursor;
        self.sent_at = Some(Instant::now());
    }
}

fn events(reader: FeedReader) -> impl Stream<Item = Result<Event, Infallible>> {
    let parts = stream::unfold(reader, |mut reader| async move {
        let events = reader.next().await?;
        Some((stream::iter(events.into_iter().map(Ok)), reader))
    });
    parts.flatten()
}

fn sse_event(event: &FeedEvent) -> Event {
    let data = serde_json::to_string(event).expect("our types have JSON forms");
    let kind = event.notification.fact.kind();
    Event::default()
        .id(event.cursor.to_string())
        .event(kind)
        .data(data)
}
