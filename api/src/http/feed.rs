//! `/v1/feed`: every notification as it is committed, as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures::{Stream, StreamExt, stream};
use lamplighter_ledger::{Cursor, Delivery, Subscription};
use lamplighter_types::{Hash, Id, Notification, Scope};
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::Query;
use super::problem::Problem;
use super::read::parse;
use super::{App, auth};
use crate::token::Bearer;

/// Comments that keep an idle connection open through proxies.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

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
    notification: Notification,
}

/// Every notification after a cursor, then those to come (`text/event-stream`). The id of each is
/// its cursor: a client that reconnects with `Last-Event-ID` misses nothing and sees nothing twice.
#[utoipa::path(get, path = "/v1/feed", tag = "feed", params(FeedQuery),
    responses((status = 200, body = FeedEvent, content_type = "text/event-stream"),
        (status = 503, body = Problem)))]
async fn feed(
    State(app): State<App>,
    bearer: Option<Extension<Bearer>>,
    Query(query): Query<FeedQuery>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
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
    let subscription = app.handle.subscribe(after);
    let stop = app.stop.clone().cancelled_owned();
    let ended = auth::ended(app, bearer.map(|Extension(bearer)| bearer));
    let events = events(subscription, query, permit)
        .take_until(stop)
        .take_until(ended);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// One block at a time is in memory, however slow the client is.
fn events(
    subscription: Subscription,
    query: FeedQuery,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let state = (subscription, query, permit);
    let blocks = stream::unfold(state, |(mut subscription, query, permit)| async move {
        let deliveries = match subscription.next().await {
            Ok(deliveries) => deliveries?,
            Err(error) => {
                tracing::error!(%error, "a subscription can't read the chain");
                return None;
            }
        };
        let wanted = deliveries
            .into_iter()
            .filter(|d| query.wants(&d.notification));
        let events: Vec<_> = wanted.map(|d| Ok(event(d))).collect();
        Some((stream::iter(events), (subscription, query, permit)))
    });
    blocks.flatten()
}

fn event(delivery: Delivery) -> Event {
    let Delivery {
        cursor,
        time_ms,
        transaction,
        notification,
    } = delivery;
    let (id, kind) = (cursor.to_string(), notification.fact.kind());
    let data = FeedEvent {
        cursor: id.clone(),
        time_ms,
        transaction,
        notification,
    };
    let text = serde_json::to_string(&data).expect("our types have JSON forms");
    Event::default().id(id).event(kind).data(text)
}
