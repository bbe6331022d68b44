//! `device report`, `exposure`, `timeline` and `export`: what several records say together, as a
//! table, as CSV or as JSON.

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::{ArgGroup, Args};
use lamplighter_client::{
    Decision, DeviceFilter, DeviceSummary, Exposure, ExposureTo, TimelineEntry,
};
use lamplighter_types::{Device, EventRecord, Hash, Id};
use serde_json::{Value, json};

use crate::describe::{self, words};
use crate::devices::Choice;
use crate::failure::Failure;
use crate::filter::WrittenFilter;
use crate::history::author;
use crate::output::{
    emit, emit_list, emit_table, joined, or_dash, print, print_csv, remark_none, warn, yes,
};
use crate::session::{Session, asking};
use crate::{paging, time};

/// Devices of one page.
const PAGE: u32 = 500;

#[derive(Debug, Args)]
pub struct Report {
    #[command(flatten)]
    choice: Choice,
    /// Prints CSV.
    #[arg(long)]
    csv: bool,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("to").args(["release", "config"]).required(true))]
pub struct ExposureOf {
    /// The release that devices run.
    #[arg(long)]
    release: Option<Id>,
    /// The blake3 of a configuration document, as `config show` prints it.
    #[arg(long)]
    config: Option<Hash>,
    /// Only devices that match a filter in RSQL.
    #[arg(long)]
    filter: Option<WrittenFilter>,
    /// Prints CSV.
    #[arg(long)]
    csv: bool,
}

#[derive(Debug, Args)]
pub struct Timeline {
    device: Id,
    /// What was before this place, which the end of a table names.
    #[arg(long)]
    after: Option<String>,
}

#[derive(Debug, Args)]
pub struct Export {
    #[command(flatten)]
    choice: Choice,
    /// Prints CSV; JSON by default.
    #[arg(long)]
    csv: bool,
}

/// Prints rows of devices as JSON, as CSV or as a table.
fn emit_rows(session: &Session, csv: bool, json: Value, heads: &[&str], rows: Vec<Vec<String>>) {
    if session.output.json {
        return print(&json);
    }
    let is_empty = rows.is_empty();
    if csv {
        print_csv(heads, rows);
    } else {
        emit_table(heads, rows);
    }
    if is_empty {
        remark_none("devices that this account may read");
    }
}

pub async fn devices(session: &Session, report: Report) -> Result<ExitCode, Failure> {
    let Report { choice, csv } = report;
    let filter = DeviceFilter::from(choice);
    let client = &session.client;
    let read = async |after: Option<&str>| client.device_summaries(&filter, after, PAGE).await;
    let devices = paging::all(read).await?;
    let heads = [
        "device",
        "status",
        "model",
        "district",
        "gateway",
        "version",
        "release",
        "runs something else",
        "alarms",
        "last seen",
    ];
    let rows = devices.iter().map(summary_row).collect();
    emit_rows(session, csv, json!(devices), &heads, rows);
    Ok(ExitCode::SUCCESS)
}

fn summary_row(summary: &DeviceSummary) -> Vec<String> {
    vec![
        summary.device.to_string(),
        words(&summary.status),
        summary.model.clone(),
        describe::place(&summary.district),
        or_dash(summary.gateway.as_ref()),
        or_dash(summary.version.as_ref()),
        or_dash(summary.release.as_ref()),
        yes(summary.drifted),
        joined(&summary.alarms),
        summary.last_seen_ms.map_or("never".to_owned(), time::local),
    ]
}

pub async fn exposure(session: &Session, exposure: ExposureOf) -> Result<ExitCode, Failure> {
    let ExposureOf {
        release,
        config,
        filter,
        csv,
    } = exposure;
    let to = match (release, config) {
        (Some(release), _) => ExposureTo::Release(release),
        (None, Some(config)) => ExposureTo::Config(config),
        (None, None) => return Err(Failure::plain("give --release or --config".to_owned())),
    };
    let filter = filter.as_ref().map(|filter| filter.0.as_str());
    let client = &session.client;
    let read = async |after: Option<&str>| client.exposure(&to, filter, after).await;
    let devices = paging::all(read).await?;
    let heads = [
        "device",
        "status",
        "model",
        "district",
        "gateway",
        "owner",
        "version",
        "since",
        "block",
        "signed",
        "rollout",
        "decided by",
        "proofs",
    ];
    let rows = devices.iter().map(exposure_row);
    let rows = rows.map(|row| if csv { row } else { row[..12].to_vec() });
    let heads = if csv { &heads[..] } else { &heads[..12] };
    emit_rows(session, csv, json!(devices), heads, rows.collect());
    Ok(ExitCode::SUCCESS)
}

fn exposure_row(exposure: &Exposure) -> Vec<String> {
    let mut decisions: Vec<_> = exposure.decisions.iter().map(decision).collect();
    if exposure.decisions_cut {
        decisions.push("and older decisions, which were not read".to_owned());
    }
    vec![
        exposure.device.to_string(),
        words(&exposure.status),
        exposure.model.clone(),
        describe::place(&exposure.district),
        or_dash(exposure.gateway.as_ref()),
        exposure.owner.to_string(),
        or_dash(exposure.version.as_ref()),
        or_dash(exposure.since_ms.map(time::local)),
        or_dash(exposure.since_height),
        or_dash(exposure.attested.map(yes)),
        or_dash(exposure.rollout.as_ref()),
        decisions.join("; "),
        exposure.proofs.join(" "),
    ]
}

fn decision(decision: &Decision) -> String {
    match decision {
        Decision::ReleasePublished { by, .. } => format!("{by} published the release"),
        Decision::ReleaseApproved { by, .. } => format!("{by} approved the release"),
        Decision::RolloutPlanned { by, .. } => format!("{by} planned the rollout"),
        Decision::RolloutApproved { by, .. } => format!("{by} approved the rollout"),
        Decision::ConfigSet {
            by,
            target,
            version,
            height,
        } => {
            let target = describe::target(target);
            format!("{by} set version {version} for {target} in block {height}")
        }
    }
}

pub async fn timeline(session: &Session, timeline: Timeline) -> Result<ExitCode, Failure> {
    let Timeline { device, after } = timeline;
    let client = &session.client;
    let page = client.device_timeline(&device, after.as_deref(), 100).await;
    let page = page.map_err(asking)?.value;
    let older = |next: &str| format!("there is more: device timeline {device} --after {next}");
    if session.output.json {
        print(&json!(page.items));
        if let Some(next) = &page.next {
            warn(&older(next));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let rows = page.items.iter().map(timeline_row).collect();
    let heads = ["time", "who", "block", "what happened", "proof"];
    emit_list("changes or events", &heads, rows);
    if let Some(next) = &page.next {
        emit(&older(next));
    }
    Ok(ExitCode::SUCCESS)
}

fn timeline_row(entry: &TimelineEntry) -> Vec<String> {
    let what: Vec<_> = match &entry.event {
        Some(record) => vec![event(record)],
        None => entry
            .notifications
            .iter()
            .map(describe::notification)
            .collect(),
    };
    vec![
        time::local(entry.time_ms),
        author(entry.author.as_ref()),
        entry.height.to_string(),
        what.join("; "),
        or_dash(entry.proof.as_ref()),
    ]
}

/// An event in words.
fn event(record: &EventRecord) -> String {
    let event = &record.event;
    let severity = words(&event.severity);
    let signed = if record.attested { ", signed" } else { "" };
    let data = match event.data.as_str() {
        "" => String::new(),
        data => format!(": {data}"),
    };
    let (number, kind) = (event.sequence, &event.kind);
    format!("event {number}, {kind} ({severity}{signed}){data}")
}

pub async fn export(session: &Session, export: Export) -> Result<ExitCode, Failure> {
    let Export { choice, csv } = export;
    let filter = DeviceFilter::from(choice);
    let client = &session.client;
    let read = async |after: Option<&str>| client.devices(&filter, after, PAGE).await;
    let devices = paging::all(read).await?;
    if !csv || session.output.json {
        let devices: Vec<_> = devices.iter().map(portable).collect();
        print(&json!(devices));
        return Ok(ExitCode::SUCCESS);
    }
    let (heads, rows) = export_table(&devices);
    let heads: Vec<_> = heads.iter().map(String::as_str).collect();
    emit_rows(session, true, Value::Null, &heads, rows);
    Ok(ExitCode::SUCCESS)
}

/// The fields that `device register` reads. A key stays behind: it needs the Thing's proof for the
/// ledger where the device is registered again.
pub fn portable(device: &Device) -> Value {
    json!({ "device": device.device, "owner": device.owner, "model": device.model,
        "hardware_class": device.hardware_class, "district": device.district,
        "gateway": device.gateway, "tags": device.tags })
}

/// Heads and rows of the same as a table, with a column for each name of a tag.
pub fn export_table(devices: &[Device]) -> (Vec<String>, Vec<Vec<String>>) {
    let tags = devices.iter().flat_map(|device| &device.tags);
    let names: BTreeSet<&str> = tags.map(|tag| tag.name.as_str()).collect();
    let fields = [
        "device",
        "owner",
        "model",
        "hardware_class",
        "district",
        "gateway",
    ];
    let heads = fields.map(str::to_owned).into_iter();
    let heads = heads.chain(names.iter().map(|name| format!("tag.{name}")));
    let row = |device: &Device| {
        let gateway = device.gateway.as_ref().map(Id::to_string);
        let fields = [
            device.device.to_string(),
            device.owner.to_string(),
            device.model.clone(),
            device.hardware_class.clone(),
            device.district.to_string(),
            gateway.unwrap_or_default(),
        ];
        let tag = |name: &&str| {
            let tag = device.tags.iter().find(|tag| tag.name == *name);
            tag.map_or(String::new(), |tag| tag.value.clone())
        };
        fields.into_iter().chain(names.iter().map(tag)).collect()
    };
    (heads.collect(), devices.iter().map(row).collect())
}
