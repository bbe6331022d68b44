//! `/v1/reports`: what several records say together.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use lamplighter_contracts::{config, firmware, rollouts};
use lamplighter_state::tables;
use lamplighter_state::{StateError, View};
use lamplighter_types::filter::{DeviceField, FieldValue, Filter};
use lamplighter_types::limits::DEPLOYMENTS_PER_DEVICE_MAX;
use lamplighter_types::wire::{Decision, DeviceSummary, Exposure, Page};
use lamplighter_types::{ConfigTarget, Deployment, DeploymentState, DesiredConfig, Hash, Id};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::devices::{DeviceQuery, parse_filter, searched};
use super::error::{ApiError, Problem};
use super::extract::{Path, Query};
use super::read::{self, JsonAt, PageQuery, parse, view};
use crate::rights::{Kind, Record, Rights, RightsAt};
use crate::search::{Needs, Search, SearchedDevice};

/// Rows of one page of the exposure: the deployments of each device are read.
const EXPOSURE_PAGE_MAX: usize = 200;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(devices_report))
        .routes(routes!(release_exposure))
        .routes(routes!(config_exposure))
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
    let readable = rights.clone();
    let read = move || {
        let rights = readable.at(&state);
        let search = Search {
            view: &state,
            rights: &rights,
            filter: Some(&filter),
            needs: Needs::ALL,
            now_ms: head.timestamp_ms,
        };
        let mut sources = Sources::new(&state, &rights);
        let found = search.page_of(after.as_ref(), limit, |device, rows| {
            rows.push(match &to {
                To::Release(release) => sources.of_release(device, release)?,
                To::Config(_) => sources.of_config(device)?,
            });
            Ok(())
        })?;
        let page = Page {
            items: found.items,
            next: found.next.map(|next| next.to_string()),
        };
        JsonAt::new(head.height, &page)
    };
    // The decisions are those of releases, rollouts and documents.
    read::read_for(&app, &rights, Kind::Release, read).await
}

/// Records of which many rows are made, each read once for a page. A device may run what a rollout
/// brought that concerns its reader no more, or never did: of the decisions a row has those of
/// records that the account may read, and the paths of their proofs.
struct Sources<'a> {
    view: &'a View,
    rights: &'a RightsAt<'a>,
    rollouts: BTreeMap<Id, Option<Vec<Decision>>>,
    releases: BTreeMap<Id, Option<Vec<Decision>>>,
    documents: BTreeMap<String, Option<DesiredConfig>>,
}

impl<'a> Sources<'a> {
    fn new(view: &'a View, rights: &'a RightsAt<'a>) -> Self {
        Self {
            view,
            rights,
            rollouts: BTreeMap::new(),
            releases: BTreeMap::new(),
            documents: BTreeMap::new(),
        }
    }

    fn of_release(&mut self, found: SearchedDevice, release: &Id) -> Result<Exposure, StateError> {
        let device = found.device.device.clone();
        let deployment = confirmed(self.view, &device, release)?;
        let mut row = exposed(found);
        row.proofs = vec![format!("/v1/devices/{device}/state?proof=true")];
        if let Some(deployment) = deployment {
            let Deployment { rollout, steps, .. } = deployment;
            let is_confirmed = |to: DeploymentState| to == DeploymentState::Confirmed;
            if let Some(step) = steps.iter().rev().find(|step| is_confirmed(step.to)) {
                row.since_ms = Some(step.time_ms);
                row.since_height = Some(step.height);
                row.attested = Some(step.attested);
            }
            let proof = format!("/v1/deployments/{rollout}/{device}?proof=true");
            row.proofs.push(proof);
            if let Some(decisions) = self.rollout(&rollout)? {
                row.decisions.extend(decisions);
                let proof = format!("/v1/rollouts/{rollout}?proof=true");
                row.proofs.push(proof);
            }
            row.rollout = Some(rollout);
        }
        if let Some(decisions) = self.release(release)? {
            // They came before those of the rollout.
            row.decisions.splice(..0, decisions);
            let proof = format!("/v1/firmware/{release}?proof=true");
            row.proofs.push(proof);
        }
        Ok(row)
    }

    fn of_config(&mut self, found: SearchedDevice) -> Result<Exposure, StateError> {
        let reported = found.config.clone();
        let targets = config::targets(&found.device);
        let mut row = exposed(found);
        if let Some(reported) = reported {
            let header = tables::header(&**self.view.store(), reported.height)?;
            row.since_ms = header.map(|header| header.timestamp_ms);
            row.since_height = Some(reported.height);
            row.attested = Some(reported.attested);
        }
        for target in targets {
            let name = format!("{target:?}");
            let document = match self.documents.get(&name) {
                Some(known) => known.clone(),
                None => {
                    let readable = self.rights.allows(&Record::Config(&target))?;
                    let read = match readable {
                        true => config::desired(self.view, &target)?,
                        false => None,
                    };
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

    /// The decisions about a rollout; none if the account may not read it.
    fn rollout(&mut self, rollout: &Id) -> Result<Option<Vec<Decision>>, StateError> {
        if let Some(known) = self.rollouts.get(rollout) {
            return Ok(known.clone());
        }
        let mut decisions = None;
        if let Some(record) = rollouts::rollout(self.view, rollout)?
            && self.rights.allows(&Record::Rollout(&record))?
        {
            let planned = Decision::RolloutPlanned {
                by: record.author,
                time_ms: record.planned_ms,
            };
            let approved = record.approvals.into_iter();
            let approved = approved.map(|approval| Decision::RolloutApproved {
                by: approval.account,
                time_ms: approval.at_ms,
            });
            decisions = Some(std::iter::once(planned).chain(approved).collect());
        }
        self.rollouts.insert(rollout.clone(), decisions.clone());
        Ok(decisions)
    }

    /// The decisions about a release; none if the account may not read it.
    fn release(&mut self, release: &Id) -> Result<Option<Vec<Decision>>, StateError> {
        if let Some(known) = self.releases.get(release) {
            return Ok(known.clone());
        }
        let mut decisions = None;
        if let Some(record) = firmware::release(self.view, release)?
            && self.rights.allows(&Record::Release(&record))?
        {
            let published = Decision::ReleasePublished {
                by: record.author,
                time_ms: record.published_ms,
            };
            let approved = record.approvals.into_iter();
            let approved = approved.map(|approval| Decision::ReleaseApproved {
                by: approval.account,
                time_ms: approval.at_ms,
            });
            decisions = Some(std::iter::once(published).chain(approved).collect());
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
