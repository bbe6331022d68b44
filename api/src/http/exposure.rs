//! `/v1/reports/exposure`: the devices that run a release or have a configuration document, since
//! when, and by whose decisions.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use lamplighter_contracts::{config, firmware, rollouts};
use lamplighter_state::tables::{self, HistoryEntry, Subject};
use lamplighter_state::{StateError, View};
use lamplighter_store::Direction;
use lamplighter_types::filter::{DeviceField, FieldValue, Filter};
use lamplighter_types::limits::DEPLOYMENTS_PER_DEVICE_MAX;
use lamplighter_types::wire::{Decision, Exposure, Page};
use lamplighter_types::{ConfigTarget, Deployment, DeploymentState, DesiredConfig, Fact, Hash, Id};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::devices::parse_filter;
use super::error::{ApiError, Problem};
use super::extract::{Path, Query};
use super::read::{self, JsonAt, PageQuery, parse, view};
use crate::rights::{Kind, Record, Rights, RightsAt};
use crate::search::{Needs, Search, SearchedDevice};

/// Rows of one page: the deployments of each device are read.
const EXPOSURE_PAGE_MAX: usize = 200;
/// Changes of a release or rollout that are read at once.
const CHANGES_AT_ONCE: usize = 256;
/// Changes of a release or rollout that are read for its decisions, the newest ones: one read of a
/// tenth of a second. A row says when its decisions are older.
const CHANGES_READ_MAX: usize = 16_384;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(release_exposure))
        .routes(routes!(config_exposure))
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
    responses((status = 200, body = Page<Exposure>), (status = 400, body = Problem),
        (status = 404, description = "No such release.", body = Problem)))]
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
        if let To::Release(release) = &to
            && firmware::release(&state, release)?.is_none()
        {
            return Err(ApiError::not_found(format!("release {release}")));
        }
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
    /// The decisions about releases and rollouts; none if the account may not read them.
    decided: BTreeMap<Subject, Option<Decided>>,
    /// The documents as they are now.
    documents: BTreeMap<String, Option<DesiredConfig>>,
}

impl<'a> Sources<'a> {
    fn new(view: &'a View, rights: &'a RightsAt<'a>) -> Self {
        Self {
            view,
            rights,
            decided: BTreeMap::new(),
            documents: BTreeMap::new(),
        }
    }

    fn of_release(&mut self, found: SearchedDevice, release: &Id) -> Result<Exposure, StateError> {
        let device = found.device.device.clone();
        let deployment = confirmed(self.view, &device, release)?;
        let mut row = exposed(found);
        row.proofs = vec![format!("/v1/devices/{device}/state?proof=true")];
        let path = format!("/v1/firmware/{release}?proof=true");
        let mut subjects = vec![(Subject::Release(release.clone()), path)];
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
            let path = format!("/v1/rollouts/{rollout}?proof=true");
            subjects.push((Subject::Rollout(rollout.clone()), path));
            row.rollout = Some(rollout);
        }
        for (subject, path) in subjects {
            if let Some(decided) = self.decided(subject)? {
                let in_force = decided.in_force(row.since_height);
                row.decisions_cut |= decided.is_cut && !in_force.iter().any(is_beginning);
                row.decisions.extend(in_force);
                row.proofs.push(path);
            }
        }
        Ok(row)
    }

    fn of_config(&mut self, found: SearchedDevice) -> Result<Exposure, StateError> {
        let reported = found.config.clone();
        let targets = config::targets(&found.device);
        let mut row = exposed(found);
        let Some(reported) = reported else {
            return Ok(row);
        };
        let header = tables::header(&**self.view.store(), reported.height)?;
        row.since_ms = header.map(|header| header.timestamp_ms);
        row.since_height = Some(reported.height);
        row.attested = Some(reported.attested);
        for target in targets {
            let Some(document) = self.document(&target)? else {
                continue;
            };
            if document.height <= reported.height {
                row.proofs.push(proof_of_document(&target));
                row.decisions.push(Decision::ConfigSet {
                    by: document.author,
                    target,
                    version: document.version,
                    height: document.height,
                });
            } else if let Some((decision, proof)) = set_before(self.view, target, reported.height)?
            {
                row.decisions.push(decision);
                row.proofs.push(proof);
            }
        }
        Ok(row)
    }

    /// The desired document of a target, as it is now; none if the account may not read it.
    fn document(&mut self, target: &ConfigTarget) -> Result<Option<DesiredConfig>, StateError> {
        let name = format!("{target:?}");
        if let Some(known) = self.documents.get(&name) {
            return Ok(known.clone());
        }
        let read = match self.rights.allows(&Record::Config(target))? {
            true => config::desired(self.view, target)?,
            false => None,
        };
        self.documents.insert(name, read.clone());
        Ok(read)
    }

    /// The decisions about a release or rollout; none if the account may not read them.
    fn decided(&mut self, subject: Subject) -> Result<Option<&Decided>, StateError> {
        if !self.decided.contains_key(&subject) {
            let read = match self.rights.allows(&Record::of_history(&subject))? {
                true => Some(Decided::read(self.view, &subject, CHANGES_READ_MAX)?),
                false => None,
            };
            self.decided.insert(subject.clone(), read);
        }
        Ok(self.decided.get(&subject).and_then(Option::as_ref))
    }
}

/// The decisions about a release or rollout, of its history.
struct Decided {
    /// The changes in which people decided, oldest first.
    changes: Vec<HistoryEntry>,
    /// Older changes were not read.
    is_cut: bool,
}

impl Decided {
    /// Reads the newest `limit` changes.
    fn read(view: &View, subject: &Subject, limit: usize) -> Result<Self, StateError> {
        let (store, newest_first) = (&**view.store(), Direction::Backward);
        let (mut changes, mut after, mut count) = (Vec::new(), None, 0);
        let is_cut = loop {
            let at_once = CHANGES_AT_ONCE.min(limit - count);
            if at_once == 0 {
                break !tables::history(store, subject, after, newest_first, 1)?.is_empty();
            }
            let read = tables::history(store, subject, after, newest_first, at_once)?;
            let Some(last) = read.last() else {
                break false;
            };
            after = Some((last.height, last.index));
            count += read.len();
            // Who pauses and resumes a rollout for ever does not fill the memory.
            changes.extend(read.into_iter().filter(is_decision));
        };
        changes.reverse();
        Ok(Self { changes, is_cut })
    }

    /// What was in force in a block; today without one. What was approved again after it, or
    /// withdrawn, is not what brought a device there.
    fn in_force(&self, height: Option<u64>) -> Vec<Decision> {
        let is_until = |change: &&HistoryEntry| height.is_none_or(|height| change.height <= height);
        let mut made = Vec::new();
        for change in self.changes.iter().take_while(is_until) {
            let time_ms = change.authorship.time_ms;
            let author = change.authorship.author.clone();
            for notification in &change.receipt.notifications {
                match notification.fact.clone() {
                    Fact::ReleasePublished { .. } => {
                        let begun = author.clone();
                        let begun = begun.map(|by| Decision::ReleasePublished { by, time_ms });
                        made = begun.into_iter().collect();
                    }
                    Fact::RolloutPlanned { .. } | Fact::RolloutAmended { .. } => {
                        let begun = author.clone();
                        let begun = begun.map(|by| Decision::RolloutPlanned { by, time_ms });
                        made = begun.into_iter().collect();
                    }
                    Fact::ReleaseApproved { by, .. } => {
                        remove_approval(&mut made, &by);
                        made.push(Decision::ReleaseApproved { by, time_ms });
                    }
                    Fact::RolloutApproved { by, .. } => {
                        remove_approval(&mut made, &by);
                        made.push(Decision::RolloutApproved { by, time_ms });
                    }
                    Fact::ReleaseApprovalWithdrawn { by, .. }
                    | Fact::RolloutApprovalWithdrawn { by, .. } => remove_approval(&mut made, &by),
                    _ => {}
                }
            }
        }
        made
    }
}

/// Tells whether [`Decided::in_force`] reads a change.
fn is_decision(change: &HistoryEntry) -> bool {
    let mut facts = change.receipt.notifications.iter().map(|n| &n.fact);
    facts.any(|fact| {
        matches!(
            fact,
            Fact::ReleasePublished { .. }
                | Fact::RolloutPlanned { .. }
                | Fact::RolloutAmended { .. }
                | Fact::ReleaseApproved { .. }
                | Fact::RolloutApproved { .. }
                | Fact::ReleaseApprovalWithdrawn { .. }
                | Fact::RolloutApprovalWithdrawn { .. }
        )
    })
}

/// Tells whether a decision is one before which nothing counts.
fn is_beginning(decision: &Decision) -> bool {
    matches!(
        decision,
        Decision::ReleasePublished { .. } | Decision::RolloutPlanned { .. }
    )
}

fn remove_approval(made: &mut Vec<Decision>, of: &Id) {
    made.retain(|decision| match decision {
        Decision::ReleaseApproved { by, .. } | Decision::RolloutApproved { by, .. } => by != of,
        _ => true,
    });
}

/// The setting of a document that was in force in a block, and the path of its proof.
fn set_before(
    view: &View,
    target: ConfigTarget,
    height: u64,
) -> Result<Option<(Decision, String)>, StateError> {
    let subject = Subject::Config(target.clone());
    let after = Some((height.saturating_add(1), 0));
    let (store, newest_first) = (&**view.store(), Direction::Backward);
    let Some(set) = tables::history(store, &subject, after, newest_first, 1)?.pop() else {
        return Ok(None);
    };
    let HistoryEntry {
        height,
        authorship,
        receipt,
        ..
    } = set;
    let version = receipt.notifications.iter().find_map(|n| match &n.fact {
        Fact::DesiredSet { version, .. } => Some(*version),
        _ => None,
    });
    let found = authorship.author.zip(version).map(|(by, version)| {
        let decision = Decision::ConfigSet {
            by,
            target,
            version,
            height,
        };
        let transaction = receipt.transaction;
        let proof = format!("/v1/proofs/transactions/{transaction}?receipt=true");
        (decision, proof)
    });
    Ok(found)
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
        decisions_cut: false,
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
