//! `/v1/feed`: every notification when its block is committed, as server-sent events or over a
//! WebSocket.

mod reader;
pub mod websocket;

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
use lamplighter_ledger::{CursorAhead, Handle};
use lamplighter_state::StateError;
use lamplighter_state::tables::FeedKey;
use lamplighter_types::wire::{Cursor, FeedEvent, header};
use lamplighter_types::{Id, Notification, Scope};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use reader::{FeedMessage, FeedReader};

use super::error::{ApiError, Problem, code};
use super::extract::Query;
use super::read::{LEDGER_HEIGHT, parse};
use super::{App, auth};
use crate::rights::Rights;
use crate::token::Bearer;

/// Comments that keep an idle connection open through proxies.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(feed))
        .routes(routes!(websocket::feed_over_websocket))
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
    /// What blocks with a match are found by: all of these.
    fn keys(&self) -> Vec<Vec<FeedKey>> {
        let device = self.device.clone().map(FeedKey::Device);
        let kind = self.kind.clone().map(FeedKey::Kind);
        let district = self.district.clone().map(FeedKey::District);
        let keys = device.into_iter().chain(kind).chain(district);
        keys.map(|key| vec![key]).collect()
    }

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
    let reader = match open(&app, (bearer.as_deref(), &rights), query, &headers)? {
        Ok(reader) => reader,
        Err(ahead) => return Ok(cursor_ahead(ahead)),
    };
    let stop = app.stop.clone().cancelled_owned();
    let revoked = auth::revoked(app, bearer.map(|Extension(bearer)| bearer), rights);
    let events = events(reader).take_until(stop).take_until(revoked);
    let stream = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    // Without this header nginx buffers the answer until it has 4 KiB.
    Ok(([("x-accel-buffering", "no")], stream).into_response())
}

/// Begins to read the feed for a request, or returns that its cursor is ahead.
fn open(
    app: &App,
    (bearer, rights): (Option<&Bearer>, &Rights),
    query: FeedQuery,
    headers: &HeaderMap,
) -> Result<Result<FeedReader, CursorAhead>, ApiError> {
    let last = headers
        .get(header::LAST_EVENT_ID)
        .map(|value| value.to_str());
    let last = last
        .transpose()
        .map_err(|_| ApiError::invalid(code::PARAMETER, "Last-Event-ID"))?;
    let after: Option<Cursor> = last.or(query.after.as_deref()).map(parse).transpose()?;
    let permit = app.subscribers.clone().try_acquire_owned();
    let permit = permit.map_err(|_| ApiError::busy("too many subscribers"))?;
    let active = app.quotas.begin_stream(bearer.map(|b| &b.account))?;
    let keys = query.keys();
    let (handle, readable) = (app.handle.clone(), rights.clone());
    let filter = Arc::new(move |notification: &Notification| {
        query.matches(notification) && may_read(&handle, &readable, notification)
    });
    let followed = app.handle.follow(after, filter);
    Ok(followed.map(|subscription| {
        let subscription = subscription.indexed_by(keys);
        let account = bearer.map(|bearer| &bearer.account);
        FeedReader::new(subscription.for_account(account), (permit, active))
    }))
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

fn events(reader: FeedReader) -> impl Stream<Item = Result<Event, Infallible>> {
    let events = |messages: Vec<FeedMessage>| {
        let events = messages.iter().map(|message| Ok(sse_event(message)));
        stream::iter(events.collect::<Vec<_>>())
    };
    reader.into_messages().map(events).flatten()
}

/// An id alone is recorded by clients, and they do nothing else (HTML standard, 9.2.6).
fn sse_event(message: &FeedMessage) -> Event {
    let event = Event::default().id(message.id.to_string());
    let Some(data) = &message.data else {
        return event;
    };
    let json = serde_json::to_string(data).expect("our types have JSON forms");
    event.event(data.notification.fact.kind()).data(json)
}
