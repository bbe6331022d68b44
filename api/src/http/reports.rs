//! `/v1/reports` and the timeline of a device: what several records say together.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use lamplighter_contracts::{config, firmware, rollouts};
use lamplighter_state::tables::{self, DeviceEventEntry, HistoryEntry, Subject};
use lamplighter_state::{StateError, View};
use lamplighter_store::Direction;
use lamplighter_types::filter::{DeviceField, FieldValue, Filter};
use lamplighter_types::limits::DEPLOYMENTS_PER_DEVICE_MAX;
use lamplighter_types::wire::{Cursor, Decision, DeviceSummary, Exposure, Page, TimelineEntry};
use lamplighter_types::{ConfigTarget, Deployment, DeploymentState, DesiredConfig, Hash, Id};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::devices::{DeviceQuery, parse_filter, searched};
use super::error::{ApiError, Problem, code};
use super::extract::{Path, Query};
use super::read::{self, JsonAt, PageQuery, parse, view};
use super::reader;
use crate::rights::{Record, Rights};
use crate::search::{Needs, Search, SearchedDevice};

/// Entries of one page of a timeline.
const TIMELINE_PAGE_MAX: usize = 100;
/// Rows of one page of the exposure: the deployments of each device are read.
const EXPOSURE_PAGE_MAX: usize = 200;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(devices_report))
        .routes(routes!(release_exposure))
        .routes(routes!(config_exposure))
        .routes(routes!(timeline))
}

/// Devices with what each runs, its active alarms and when it was last seen, by id. A page may
/// be short or empty while its `next` leads on.
#[utoipa::path(get, path = "/v1/reports/devices", tag = "reports", params(DeviceQuery),
    responses((status = 200, body = Page<DeviceSummary>), (status = 400, body = Problem)))]
async fn devices_report(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Query(query): Query<DeviceQuery>,
) -> Result<JsonAt<Page<DeviceSummary>>, ApiError> {
    let (page, filter) = query.parts()?;
    searched(&app, &page, rights, filter, Needs::ALL, summary).await
}

fn summary(found: SearchedDevice) -> DeviceSummary {
    let SearchedDevice {
        device,
        state,
        config,
        alarms,
        last_seen,
    } = found;
    let seen = last_seen.filter(|seen| seen.has_reported);
    let state = state.as_ref();
    DeviceSummary {
        device: device.device,
        model: device.model,
        hardware_class: device.hardware_class,
        district: device.district,
        gateway: device.gateway,
        owner: device.owner,
        status: device.status,
        tags: device.tags,
        version: state.and_then(|state| state.version),
        release: state.and_then(|state| state.release.clone()),
        drifted: state.is_some_and(|state| state.drifted),
        rollout: state.and_then(|state| state.active_rollout.clone()),
        config: config.as_ref().map(|config| config.document),
        config_applied: config.is_some_and(|config| config.applied),
        alarms,
        last_seen_ms: seen.map(|seen| seen.time_ms),
        registered_height: device.registered_height,
    }
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ExposureQuery {
    /// Waits until this node has reached the height.
    min_height: Option<u64>,
    /// Asks the leader first: the answer shows everything that was acknowledged before the request.
    #[serde(default)]
    linearizable: bool,
    /// The `next` of the page before.
    after: Option<String>,
    /// 100 if absent. 0 is taken as 1, and a number above 200 as 200.
    #[param(value_type = Option<u64>)]
    #[serde(default, deserialize_with = "read::read_limit")]
    limit: Option<usize>,
    /// Only devices that match a filter, as in `/v1/devices`.
    #[param(max_length = 2048)]
    filter: Option<String>,
}

/// Devices that run a release, by id: since when, and by whose decisions. A page may be short or
/// empty while its `next` leads on.
#[utoipa::path(get, path = "/v1/reports/exposure/release/{release}", tag = "reports",
    params(("release" = Id, Path), ExposureQuery),
    responses((status = 200, body = Page<Exposure>), (status = 400, body = Problem)))]
async fn release_exposure(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path(release): Path<Id>,
    Query(query): Query<ExposureQuery>,
) -> Result<JsonAt<Page<Exposure>>, ApiError> {
    exposure(app, rights, To::Release(release), query).await
}

/// Devices that reported a configuration document, named by its blake3, by id: since when, and by
/// whose decisions. A page may be short or empty while its `next` leads on.
#[utoipa::path(get, path = "/v1/reports/exposure/config/{digest}", tag = "reports",
    params(("digest" = Hash, Path), ExposureQuery),
    responses((status = 200, body = Page<Exposure>), (status = 400, body = Problem)))]
async fn config_exposure(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path(digest): Path<Hash>,
    Query(query): Query<ExposureQuery>,
) -> Result<JsonAt<Page<Exposure>>, ApiError> {
    exposure(app, rights, To::Config(digest), query).await
}

/// What devices are exposed to.
enum To {
    Release(Id),
    /// A configuration document.
    Config(Hash),
}

async fn exposure(
    app: App,
    rights: Rights,
    to: To,
    query: ExposureQuery,
) -> Result<JsonAt<Page<Exposure>>, ApiError> {
    let ExposureQuery {
        min_height,
        linearizable,
        after,
        limit,
        filter,
    } = query;
    let wanted = match &to {
        To::Release(release) => {
            let release = FieldValue::Text(release.to_string());
            Filter::equal(DeviceField::Release, release)
        }
        To::Config(digest) => Filter::equal(DeviceField::Config, FieldValue::Hash(*digest)),
    };
    let filter = filter.as_deref().map(parse_filter).transpose()?;
    let filter = Filter::All([Some(wanted), filter].into_iter().flatten().collect());
    let after = after.as_deref().map(parse::<Id>).transpose()?;
    let page = PageQuery {
        limit,
        ..PageQuery::default()
    };
    let limit = page.limit().min(EXPOSURE_PAGE_MAX);
    let (state, head) = view(&app, min_height, linearizable).await?;
    let read = move || {
        let search = Search {
            view: &state,
            rights: &rights.at(&state),
            filter: Some(&filter),
            needs: Needs::ALL,
            now_ms: head.timestamp_ms,
        };
        let mut sources = Sources::default();
        let found = search.page_of(after.as_ref(), limit, |device, rows| {
            rows.push(match &to {
                To::Release(release) => sources.of_release(&state, device, release)?,
                To::Config(_) => sources.of_config(&state, device)?,
            });
            Ok(())
        })?;
        let page = Page {
            items: found.items,
            next: found.next.map(|next| next.to_string()),
        };
        JsonAt::new(head.height, &page)
    };
    read::off_thread(&app, read).await
}

/// Records of which many rows are made, each read once for a page.
#[derive(Default)]
struct Sources {
    rollouts: BTreeMap<Id, Vec<Decision>>,
    releases: BTreeMap<Id, Vec<Decision>>,
    documents: BTreeMap<String, Option<DesiredConfig>>,
}

impl Sources {
    fn of_release(
        &mut self,
        view: &View,
        found: SearchedDevice,
        release: &Id,
    ) -> Result<Exposure, StateError> {
        let device = found.device.device.clone();
        let deployment = confirmed(view, &device, release)?;
        let mut row = exposed(found);
        row.decisions = self.release(view, release)?;
        row.proofs = vec![format!("/v1/devices/{device}/state?proof=true")];
        if let Some(deployment) = deployment {
            let Deployment { rollout, steps, .. } = deployment;
            let is_confirmed = |to: DeploymentState| to == DeploymentState::Confirmed;
            if let Some(step) = steps.iter().rev().find(|step| is_confirmed(step.to)) {
                row.since_ms = Some(step.time_ms);
                row.since_height = Some(step.height);
                row.attested = Some(step.attested);
            }
            row.decisions.extend(self.rollout(view, &rollout)?);
            let proof = format!("/v1/deployments/{rollout}/{device}?proof=true");
            row.proofs.push(proof);
            row.proofs
                .push(format!("/v1/rollouts/{rollout}?proof=true"));
            row.rollout = Some(rollout);
        }
        row.proofs
            .push(format!("/v1/firmware/{release}?proof=true"));
        Ok(row)
    }

    fn of_config(&mut self, view: &View, found: SearchedDevice) -> Result<Exposure, StateError> {
        let reported = found.config.clone();
        let targets = config::targets(&found.device);
        let mut row = exposed(found);
        if let Some(reported) = reported {
            let header = tables::header(&**view.store(), reported.height)?;
            row.since_ms = header.map(|header| header.timestamp_ms);
            row.since_height = Some(reported.height);
            row.attested = Some(reported.attested);
        }
        for target in targets {
            let name = format!("{target:?}");
            let document = match self.documents.get(&name) {
                Some(known) => known.clone(),
                None => {
                    let read = config::desired(view, &target)?;
                    self.documents.insert(name, read.clone());
                    read
                }
            };
            if let Some(document) = document {
                row.proofs.push(proof_of_document(&document.target));
                row.decisions.push(Decision::ConfigSet {
                    by: document.author,
                    target: document.target,
                    version: document.version,
                    height: document.height,
                });
            }
        }
        Ok(row)
    }

    fn rollout(&mut self, view: &View, rollout: &Id) -> Result<Vec<Decision>, StateError> {
        if let Some(known) = self.rollouts.get(rollout) {
            return Ok(known.clone());
        }
        let mut decisions = Vec::new();
        if let Some(record) = rollouts::rollout(view, rollout)? {
            decisions.push(Decision::RolloutPlanned {
                by: record.author,
                time_ms: record.planned_ms,
            });
            let approved = record.approvals.into_iter();
            decisions.extend(approved.map(|approval| Decision::RolloutApproved {
                by: approval.account,
                time_ms: approval.at_ms,
            }));
        }
        self.rollouts.insert(rollout.clone(), decisions.clone());
        Ok(decisions)
    }

    fn release(&mut self, view: &View, release: &Id) -> Result<Vec<Decision>, StateError> {
        if let Some(known) = self.releases.get(release) {
            return Ok(known.clone());
        }
        let mut decisions = Vec::new();
        if let Some(record) = firmware::release(view, release)? {
            decisions.push(Decision::ReleasePublished {
                by: record.author,
                time_ms: record.published_ms,
            });
            let approved = record.approvals.into_iter();
            decisions.extend(approved.map(|approval| Decision::ReleaseApproved {
                by: approval.account,
                time_ms: approval.at_ms,
            }));
        }
        self.releases.insert(release.clone(), decisions.clone());
        Ok(decisions)
    }
}

fn exposed(found: SearchedDevice) -> Exposure {
    let SearchedDevice { device, state, .. } = found;
    Exposure {
        device: device.device,
        model: device.model,
        district: device.district,
        gateway: device.gateway,
        owner: device.owner,
        status: device.status,
        version: state.as_ref().and_then(|state| state.version),
        drifted: state.is_some_and(|state| state.drifted),
        since_ms: None,
        since_height: None,
        attested: None,
        rollout: None,
        decisions: Vec::new(),
        proofs: Vec::new(),
    }
}

/// The newest deployment of a device that brought a release; none if the state keeps it no more.
fn confirmed(view: &View, device: &Id, release: &Id) -> Result<Option<Deployment>, StateError> {
    let limit = 2 * DEPLOYMENTS_PER_DEVICE_MAX;
    let deployments = rollouts::deployments_of_device(view, device, None, limit)?;
    let brought = deployments.into_iter().rev();
    Ok(brought
        .filter(|deployment| deployment.release == *release)
        .find(|deployment| deployment.state == DeploymentState::Confirmed))
}

fn proof_of_document(target: &ConfigTarget) -> String {
    let target = match target {
        ConfigTarget::Fleet => String::new(),
        ConfigTarget::Model { model } => format!("model={}&", percent_encoded(model)),
        ConfigTarget::District { district } => format!("district={district}&"),
        ConfigTarget::Device { device } => format!("device={device}&"),
    };
    format!("/v1/config?{target}proof=true")
}

/// Percent-encoding of everything but letters, digits and `-._~` (RFC 3986).
fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encoded = text.bytes().map(|byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    encoded.collect()
}

/// Everything that happened to a device, newest first: who did it, when, in which block, and where
/// its proof is. Events are in the order of their numbers. At most 100 at a time.
#[utoipa::path(get, path = "/v1/devices/{device}/timeline", tag = "devices",
    params(("device" = Id, Path), PageQuery),
    responses((status = 200, body = Page<TimelineEntry>), (status = 400, body = Problem)))]
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
        if !rights.at(&state).allows(&Record::DeviceNamed(&id))? {
            return Err(read::outside());
        }
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
        index: _,
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
        proof: transaction.map(|hash| format!("/v1/proofs/transactions/{hash}?receipt=true")),
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
