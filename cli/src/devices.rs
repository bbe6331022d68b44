//! `device`, `event`, `alarm`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use lamplighter_client::{Cursor, DeviceEvents, DeviceFilter, EventEntry, HistoryOf, Page, Read};
use lamplighter_types::{
    Acknowledgement, Action, Alarm, AlarmId, Device, DeviceState, DevicesAction, EventsAction, Id,
    Scope, Tag,
};
use serde_json::json;

use crate::describe::words;
use crate::failure::Failure;
use crate::filter::{SilentFor, WrittenFilter};
use crate::history::{self, author, changes, emit_delivery};
use crate::import;
use crate::output::{Output, emit_list, emit_members, joined, or_dash, print, yes};
use crate::session::{Session, asking};
use crate::{describe, paging, reports, time};

/// Devices of one page.
const PAGE: u32 = 500;

#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// Devices, all or those that match.
    List(Choice),
    /// Devices with what each runs, its active alarms and when it was last seen.
    Report(reports::Report),
    /// Devices that run a release or have a configuration: since when, and by whose decisions.
    Exposure(reports::ExposureOf),
    /// Everything that happened to a device, newest first, with its events and where proofs are.
    Timeline(reports::Timeline),
    /// Devices in the form that `device register` reads.
    Export(reports::Export),
    /// One device: its record, what it runs, its configuration.
    Show { device: Id },
    /// Everything that happened to a device, newest first.
    History {
        device: Id,
        /// Changes before this place in the chain, which the end of a table names.
        #[arg(long)]
        after: Option<Cursor>,
    },
    /// Registers the devices of a file. The same command run again continues where it stopped.
    Register(import::Register),
    /// Assigns a device to a gateway, or to none.
    Assign { device: Id, gateway: Option<Id> },
    /// Replaces a device's tags, e.g. `pole=17 ring=2`.
    Tag { device: Id, tags: Vec<String> },
    /// Suspends a device: it takes part in nothing for a while.
    Suspend { device: Id, reason: String },
    /// Ends the suspension of a device.
    Resume { device: Id },
    /// Decommissions a device for ever.
    Decommission { device: Id, reason: String },
    /// Offers the title of a device to another organization.
    OfferTransfer { device: Id, organization: Id },
    /// Withdraws an offer that is not accepted yet.
    WithdrawTransfer { device: Id },
    /// Accepts the title of a device for the organization of the account that acts.
    AcceptTransfer { device: Id },
    /// Lets an IOTRegistry registrant act for an organization.
    LinkRegistrant {
        /// The registrant's compressed key, in hexadecimal digits.
        registrant: String,
        organization: Id,
    },
}

/// The devices that are wanted; all parts have to match.
#[derive(Debug, Args)]
pub struct Choice {
    #[arg(long)]
    gateway: Option<Id>,
    #[arg(long)]
    district: Option<Scope>,
    #[arg(long)]
    owner: Option<Id>,
    /// A filter in RSQL, e.g. `model==Lamp*;(alarm==*,drifted==true)`; docs/api.md has the fields.
    #[arg(long)]
    filter: Option<WrittenFilter>,
    /// Only devices not seen for so long, e.g. `24h`, `30m`, `7d`.
    #[arg(long, value_name = "TIME")]
    silent: Option<SilentFor>,
}

impl From<Choice> for DeviceFilter {
    fn from(choice: Choice) -> Self {
        let Choice {
            gateway,
            district,
            owner,
            filter,
            silent,
        } = choice;
        let silent = silent.map(|silent| silent.0);
        let text = match (filter.map(|filter| filter.0), silent) {
            (Some(filter), Some(silent)) => Some(format!("({filter});{silent}")),
            (filter, silent) => filter.or(silent),
        };
        Self {
            gateway,
            district,
            owner,
            text,
        }
    }
}

pub async fn device(session: &Session, command: DeviceCommand) -> Result<ExitCode, Failure> {
    let action = match command {
        DeviceCommand::List(choice) => return list(session, choice).await,
        DeviceCommand::Report(report) => return reports::devices(session, report).await,
        DeviceCommand::Exposure(exposure) => return reports::exposure(session, exposure).await,
        DeviceCommand::Timeline(timeline) => return reports::timeline(session, timeline).await,
        DeviceCommand::Export(export) => return reports::export(session, export).await,
        DeviceCommand::Show { device } => return show(session, &device).await,
        DeviceCommand::History { device, after } => {
            let after = after.map(|after| after.to_string());
            return history::show(session, &HistoryOf::Device(device), after.as_deref()).await;
        }
        DeviceCommand::Register(register) => return import::register(session, register).await,
        DeviceCommand::Assign { device, gateway } => {
            DevicesAction::AssignGateway { device, gateway }
        }
        DeviceCommand::Tag { device, tags } => {
            let tags = tags.iter().map(|tag| {
                let (name, value) = tag.split_once('=').unwrap_or((tag, ""));
                Tag {
                    name: name.to_owned(),
                    value: value.to_owned(),
                }
            });
            DevicesAction::Tag {
                device,
                tags: tags.collect(),
            }
        }
        DeviceCommand::Suspend { device, reason } => DevicesAction::Suspend { device, reason },
        DeviceCommand::Resume { device } => DevicesAction::Resume { device },
        DeviceCommand::Decommission { device, reason } => {
            DevicesAction::Decommission { device, reason }
        }
        DeviceCommand::OfferTransfer {
            device,
            organization: to,
        } => DevicesAction::OfferTransfer { device, to },
        DeviceCommand::WithdrawTransfer { device } => DevicesAction::WithdrawTransfer { device },
        DeviceCommand::AcceptTransfer { device } => DevicesAction::AcceptTransfer { device },
        DeviceCommand::LinkRegistrant {
            registrant,
            organization,
        } => DevicesAction::LinkRegistrant {
            registrant,
            organization,
        },
    };
    session
        .act(Action::Devices(action))
        .await
        .map(|()| ExitCode::SUCCESS)
}

async fn list(session: &Session, choice: Choice) -> Result<ExitCode, Failure> {
    let filter = DeviceFilter::from(choice);
    let client = &session.client;
    let read = async |after: Option<&str>| client.devices(&filter, after, PAGE).await;
    let devices = paging::all(read).await?;
    let heads = [
        "device",
        "status",
        "model",
        "hardware class",
        "district",
        "gateway",
        "owner",
    ];
    session.output.list("devices", &devices, &heads, |device| {
        let gateway = device
            .gateway
            .as_ref()
            .map_or("-".to_owned(), Id::to_string);
        let (model, class) = (device.model.clone(), device.hardware_class.clone());
        let (district, owner) = (device.district.to_string(), device.owner.to_string());
        let (id, status) = (device.device.to_string(), words(&device.status));
        vec![id, status, model, class, district, gateway, owner]
    });
    Ok(ExitCode::SUCCESS)
}

async fn show(session: &Session, device: &Id) -> Result<ExitCode, Failure> {
    let client = &session.client;
    let record = client.device(device).await.map_err(asking)?.value;
    let state = client.device_state(device).await.map_err(asking)?.value;
    let config = client.device_config(device).await.map_err(asking)?.value;
    if session.output.json {
        let mut all = json!(record);
        let parts = [
            json!(state),
            json!({ "configuration": config.effective,
            "configuration_in_sync": config.in_sync }),
        ];
        for part in parts {
            if let (Some(all), serde_json::Value::Object(part)) = (all.as_object_mut(), part) {
                all.extend(part);
            }
        }
        print(&all);
        return Ok(ExitCode::SUCCESS);
    }
    let changes = changes(session, &HistoryOf::Device(device.clone())).await?;
    let mut members = record_members(&record);
    members.extend(state_members(&state));
    members.push(("configuration", config.effective));
    members.push(("has it", yes(config.in_sync)));
    if let Some(last) = changes.items.first() {
        let (time, by) = (time::local(last.time_ms), author(last.author.as_ref()));
        members.push(("last change", format!("{time} by {by}")));
    }
    emit_members(&members);
    Ok(ExitCode::SUCCESS)
}

fn record_members(record: &Device) -> Vec<(&'static str, String)> {
    let tag = |tag: &Tag| format!("{}={}", tag.name, tag.value);
    let tags: Vec<_> = record.tags.iter().map(tag).collect();
    vec![
        ("device", record.device.to_string()),
        ("status", words(&record.status)),
        ("owner", record.owner.to_string()),
        ("offered to", or_dash(record.offered_to.as_ref())),
        ("model", record.model.clone()),
        ("hardware class", record.hardware_class.clone()),
        ("district", describe::place(&record.district)),
        ("gateway", or_dash(record.gateway.as_ref())),
        ("key", or_dash(record.key)),
        ("tags", joined(&tags)),
        ("registered", format!("block {}", record.registered_height)),
    ]
}

fn state_members(state: &DeviceState) -> Vec<(&'static str, String)> {
    vec![
        ("version", or_dash(state.version.as_ref())),
        ("release", or_dash(state.release.as_ref())),
        ("image", or_dash(state.digest)),
        ("security counter", state.security_counter.to_string()),
        ("report counter", state.report_counter.to_string()),
        ("runs something else", yes(state.drifted)),
        ("rollout at work", or_dash(state.active_rollout.as_ref())),
        ("confirmed before", joined(&state.confirmed)),
    ]
}

#[derive(Debug, Subcommand)]
pub enum EventCommand {
    /// The events of a device, newest first.
    List {
        device: Id,
        /// The number of newest events; all by default.
        #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
        limit: usize,
    },
    /// All notifications of the contracts from now on, until Ctrl-C.
    Watch {
        /// Only facts of this name, e.g. `alarm_raised`.
        #[arg(long)]
        kind: Option<String>,
        #[arg(long)]
        device: Option<Id>,
        #[arg(long)]
        district: Option<Scope>,
    },
}

pub async fn event(session: &Session, command: EventCommand) -> Result<ExitCode, Failure> {
    match command {
        EventCommand::List { device, limit } => {
            let read = async |after: Option<&str>| {
                let Read { value, height } = session.client.device_events(&device, after).await?;
                let DeviceEvents { items, next, .. } = value;
                let value = Page { items, next };
                Ok(Read { value, height })
            };
            list_events(session.output, &paging::first(limit, read).await?);
            Ok(ExitCode::SUCCESS)
        }
        EventCommand::Watch {
            kind,
            device,
            district,
        } => {
            let filter = lamplighter_client::FeedFilter {
                kind,
                district,
                device,
            };
            let mut feed = session.feed(&filter, None);
            loop {
                let delivery = feed.next().await.map_err(asking)?;
                if !emit_delivery(session.output, &delivery) {
                    return Ok(ExitCode::SUCCESS);
                }
            }
        }
    }
}

fn list_events(output: Output, events: &[EventEntry]) {
    if output.json {
        let events = events.iter().map(
            |entry| json!({ "height": entry.height, "index": entry.index, "record": entry.record }),
        );
        return print(&json!(events.collect::<Vec<_>>()));
    }
    let rows = events.iter().map(|entry| {
        let (record, event) = (&entry.record, &entry.record.event);
        vec![
            time::local(event.time_ms),
            event.sequence.to_string(),
            event.kind.clone(),
            words(&event.severity),
            words(&event.alarm),
            yes(record.attested),
            record.gateway.to_string(),
            event.data.clone(),
        ]
    });
    let heads = [
        "time",
        "number",
        "kind",
        "severity",
        "alarm",
        "signed",
        "by way of",
        "data",
    ];
    emit_list("events", &heads, rows.collect());
}

#[derive(Debug, Subcommand)]
pub enum AlarmCommand {
    /// Alarms that are active or not acknowledged.
    List,
    /// Acknowledges an alarm, named by its device and the event that raised it.
    Ack {
        device: Id,
        sequence: u64,
        #[arg(long, default_value = "")]
        comment: String,
    },
    /// Clears an alarm whose Thing can't do it any more.
    Clear {
        device: Id,
        sequence: u64,
        #[arg(long, default_value = "")]
        comment: String,
    },
}

pub async fn alarm(session: &Session, command: AlarmCommand) -> Result<ExitCode, Failure> {
    let action = match command {
        AlarmCommand::List => {
            let alarms = async |after: Option<&str>| session.client.alarms(after).await;
            let alarms = paging::all(alarms).await?;
            let heads = [
                "device",
                "number",
                "kind",
                "severity",
                "raised",
                "cleared",
                "acknowledged",
            ];
            session.output.list("alarms", &alarms, &heads, alarm_row);
            return Ok(ExitCode::SUCCESS);
        }
        AlarmCommand::Ack {
            device,
            sequence,
            comment,
        } => EventsAction::Acknowledge {
            alarm: AlarmId { device, sequence },
            comment,
        },
        AlarmCommand::Clear {
            device,
            sequence,
            comment,
        } => EventsAction::Clear {
            alarm: AlarmId { device, sequence },
            comment,
        },
    };
    session
        .act(Action::Events(action))
        .await
        .map(|()| ExitCode::SUCCESS)
}

fn alarm_row(alarm: &Alarm) -> Vec<String> {
    let cleared = alarm.cleared_ms.map(|cleared_ms| {
        let by = alarm.cleared_by.as_ref();
        let by = by.map_or(String::new(), |by| format!(" by {by}"));
        format!("{}{by}", time::local(cleared_ms))
    });
    let acknowledged = alarm.acknowledged.as_ref().map(|acknowledged| {
        let Acknowledgement {
            by,
            comment,
            time_ms,
        } = acknowledged;
        let comment = match comment.as_str() {
            "" => String::new(),
            comment => format!(": {comment}"),
        };
        format!("{} by {by}{comment}", time::local(*time_ms))
    });
    vec![
        alarm.alarm.device.to_string(),
        alarm.alarm.sequence.to_string(),
        alarm.kind.clone(),
        words(&alarm.severity),
        time::local(alarm.raised_ms),
        or_dash(cleared),
        or_dash(acknowledged),
    ]
}
