//! The timeline of a device: its changes and events together.

use axum::Extension;
use axum::extract::State;
use lamplighter_state::tables::{self, DeviceEventEntry, HistoryEntry, Subject};
use lamplighter_state::{StateError, View};
use lamplighter_store::Direction;
use lamplighter_types::wire::{Cursor, Page, TimelineEntry};
use lamplighter_types::{Hash, Id};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::devices::require_listed;
use super::error::{ApiError, Problem, code};
use super::extract::{Path, Query};
use super::read::{JsonAt, PageQuery, parse, view};
use super::reader;
use crate::rights::Rights;

/// Entries of one page of a timeline.
const TIMELINE_PAGE_MAX: usize = 100;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(timeline))
}

/// Everything that happened to a device, newest first: who did it, when, in which block, and where
/// its proof is. Events are in the order of their numbers. At most 100 at a time.
#[utoipa::path(get, path = "/v1/devices/{device}/timeline", tag = "devices",
    params(("device" = Id, Path), PageQuery),
    responses((status = 200, body = Page<TimelineEntry>), (status = 400, body = Problem),
        (status = 404, body = Problem)))]
async fn timeline(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path(id): Path<Id>,
    Query(query): Query<PageQuery>,
) -> Result<JsonAt<Page<TimelineEntry>>, ApiError> {
    let after = query.after.as_deref().map(parse_place).transpose()?;
    let limit = query.limit().min(TIMELINE_PAGE_MAX);
    let (state, head) = view(&app, query.min_height, query.linearizable).await?;
    let read = move || {
        require_listed(&state, &rights, &id)?;
        let page = timeline_page(&state, &id, after.unwrap_or_default(), limit)?;
        JsonAt::new(head.height, &page)
    };
    app.handle
        .read_in_turn(reader::account().as_ref(), read)
        .await
}

/// A place in a timeline: the last change and the last event that were shown; none at its begin.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    change: Option<Cursor>,
    event: Option<u64>,
}

/// Reads a place, as `42.0:7`; either side may be empty.
fn parse_place(text: &str) -> Result<Place, ApiError> {
    fn side<T: std::str::FromStr>(text: &str) -> Result<Option<T>, ApiError> {
        (!text.is_empty()).then(|| parse(text)).transpose()
    }
    let Some((change, event)) = text.split_once(':') else {
        let detail = "the place in a timeline is change:event";
        return Err(ApiError::invalid(code::PARAMETER, detail));
    };
    Ok(Place {
        change: side(change)?,
        event: side(event)?,
    })
}

fn place_text(place: &Place) -> String {
    let change = place.change.map(|change| change.to_string());
    let event = place.event.map(|event| event.to_string());
    format!(
        "{}:{}",
        change.unwrap_or_default(),
        event.unwrap_or_default()
    )
}

fn timeline_page(
    state: &View,
    device: &Id,
    after: Place,
    limit: usize,
) -> Result<Page<TimelineEntry>, StateError> {
    let store = &**state.store();
    let subject = Subject::Device(device.clone());
    let change = after.change.map(|cursor| (cursor.height, cursor.index));
    let changes = tables::history(store, &subject, change, Direction::Backward, limit)?;
    let events = tables::device_events(store, device, after.event, Direction::Backward, limit)?;
    let (mut changes, mut events) = (
        changes.into_iter().peekable(),
        events.into_iter().peekable(),
    );
    let (mut items, mut place) = (Vec::new(), after);
    while items.len() < limit {
        let change_height = changes.peek().map(|change| change.height);
        let event_height = events.peek().map(|event| event.height);
        // Within a block what the ledger did to an event comes after it.
        let next_is_change = change_height >= event_height;
        if let Some(change) = changes.next_if(|_| next_is_change) {
            place.change = Some(Cursor {
                height: change.height,
                index: change.index,
            });
            items.push(of_change(change));
        } else if let Some(event) = events.next() {
            place.event = Some(event.record.event.sequence);
            items.push(of_event(event));
        } else {
            break;
        }
    }
    let is_full = items.len() >= limit;
    let next = is_full.then(|| place_text(&place));
    Ok(Page { items, next })
}

fn of_change(change: HistoryEntry) -> TimelineEntry {
    let HistoryEntry {
        height,
        index,
        authorship,
        receipt,
    } = change;
    let transaction = Some(receipt.transaction).filter(|hash| *hash != Hash::ZERO);
    TimelineEntry {
        time_ms: authorship.time_ms,
        height,
        author: authorship.author,
        key: authorship.key,
        transaction,
        notifications: receipt.notifications,
        event: None,
        proof: Some(match transaction {
            Some(hash) => format!("/v1/proofs/transactions/{hash}?receipt=true"),
            None => format!("/v1/proofs/receipts/{height}/{index}"),
        }),
    }
}

fn of_event(event: DeviceEventEntry) -> TimelineEntry {
    let DeviceEventEntry {
        height,
        index,
        record,
    } = event;
    TimelineEntry {
        // Block time.
        time_ms: record.received_ms,
        height,
        author: Some(record.gateway.clone()),
        key: None,
        transaction: None,
        notifications: Vec::new(),
        event: Some(record),
        proof: Some(format!("/v1/proofs/events/{height}/{index}")),
    }
}
