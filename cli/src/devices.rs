//! `device`, `event`, `alarm`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use lamplighter_client::DeviceFilter;
use lamplighter_types::{Action, AlarmId, DevicesAction, EventsAction, Fact, Id, Scope, Tag};
use serde_json::json;

use crate::failure::Failure;
use crate::import;
use crate::output::{emit_while_read, name, text};
use crate::session::{Session, asking};

/// Devices asked for at a time.
const PAGE: u32 = 500;

#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// Devices, all or of one gateway, district or organization.
    List(List),
    /// One device: its record, what it runs, its configuration.
    Show {
        device: Id,
    },
    /// Everything that happened to a device, newest first.
    History {
        device: Id,
    },
    /// Registers the devices of a file. The same command given again goes on where it stopped.
    Register(import::Register),
    /// Gives a device to a gateway; without one takes it away.
    Assign {
        device: Id,
        gateway: Option<Id>,
    },
    /// Replaces a device's tags, e.g. `pole=17 ring=2`.
    Tag {
        device: Id,
        tags: Vec<String>,
    },
    /// Lets a device take no part in anything for a while.
    Suspend {
        device: Id,
        reason: String,
    },
    Resume {
        device: Id,
    },
    /// For ever.
    Decommission {
        device: Id,
        reason: String,
    },
    /// Offers the title of a device to another organization.
    OfferTransfer {
        device: Id,
        organization: Id,
    },
    /// Takes back an offer that was not accepted yet.
    WithdrawTransfer {
        device: Id,
    },
    /// Accepts the title of a device for the organization of the account that acts.
    AcceptTransfer {
        device: Id,
    },
    /// Lets an IOTRegistry registrant act for an organization.
    LinkRegistrant {
        /// The registrant's compressed key, in hexadecimal digits.
        registrant: String,
        organization: Id,
    },
}

#[derive(Debug, Args)]
pub struct List {
    #[arg(long, group = "filter")]
    gateway: Option<Id>,
    #[arg(long, group = "filter")]
    district: Option<Scope>,
    #[arg(long, group = "filter")]
    owner: Option<Id>,
}

pub async fn device(session: &Session, command: DeviceCommand) -> Result<ExitCode, Failure> {
    let action = match command {
        DeviceCommand::List(filter) => return list(session, filter).await,
        DeviceCommand::Show { device } => return show(session, &device).await,
        DeviceCommand::History { device } => return history(session, &device).await,
        DeviceCommand::Register(given) => return import::register(session, given).await,
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

async fn list(session: &Session, filter: List) -> Result<ExitCode, Failure> {
    let List {
        gateway,
        district,
        owner,
    } = filter;
    let filter = DeviceFilter {
        gateway,
        district,
        owner,
    };
    let mut devices = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = session
            .client
            .devices(&filter, after.as_deref(), PAGE)
            .await;
        let page = page.map_err(asking)?.value;
        devices.extend(page.items);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let heads = [
        "device",
        "status",
        "model",
        "hardware class",
        "district",
        "gateway",
        "owner",
    ];
    session.output.list(&devices, &heads, |device| {
        let gateway = device
            .gateway
            .as_ref()
            .map_or("-".to_owned(), Id::to_string);
        let (model, class) = (device.model.clone(), device.hardware_class.clone());
        let (district, owner) = (device.district.to_string(), device.owner.to_string());
        let (id, status) = (device.device.to_string(), name(&device.status));
        vec![id, status, model, class, district, gateway, owner]
    });
    Ok(ExitCode::SUCCESS)
}

async fn show(session: &Session, device: &Id) -> Result<ExitCode, Failure> {
    let record = session.client.device(device).await.map_err(asking)?.value;
    let state = session
        .client
        .device_state(device)
        .await
        .map_err(asking)?
        .value;
    let config = session
        .client
        .device_config(device)
        .await
        .map_err(asking)?
        .value;
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
    session.output.record(&all);
    Ok(ExitCode::SUCCESS)
}

async fn history(session: &Session, device: &Id) -> Result<ExitCode, Failure> {
    let page = session
        .client
        .device_history(device, None)
        .await
        .map_err(asking)?
        .value;
    let entries: Vec<_> = page
        .items
        .iter()
        .map(|entry| json!({ "height": entry.height, "receipt": entry.receipt }))
        .collect();
    session.output.list(
        &entries,
        &["block", "transaction", "what happened"],
        |entry| {
            let facts = entry["receipt"]["notifications"]
                .as_array()
                .into_iter()
                .flatten();
            let facts: Vec<_> = facts.map(|n| text(&n["fact"])).collect();
            let hash = text(&entry["receipt"]["transaction"]);
            vec![
                text(&entry["height"]),
                hash[..hash.len().min(12)].to_owned(),
                facts.join(" "),
            ]
        },
    );
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, Subcommand)]
pub enum EventCommand {
    /// The events of a device, newest first.
    List { device: Id },
    /// Everything that the contracts tell, from now on, until Ctrl-C.
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
        EventCommand::List { device } => {
            let page = session
                .client
                .device_events(&device, None)
                .await
                .map_err(asking)?
                .value;
            let events: Vec<_> = page.items.into_iter().map(|entry| {
                json!({ "height": entry.height, "index": entry.index, "record": entry.record })
            }).collect();
            let heads = [
                "number", "block", "kind", "severity", "alarm", "signed", "data",
            ];
            session.output.list(&events, &heads, |entry| {
                let event = &entry["record"]["event"];
                let of = |name: &str| text(&event[name]);
                let block = format!("{}.{}", entry["height"], entry["index"]);
                let signed = text(&entry["record"]["attested"]);
                vec![
                    of("sequence"),
                    block,
                    of("kind"),
                    of("severity"),
                    of("alarm"),
                    signed,
                    of("data"),
                ]
            });
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
            let mut feed = session.client.feed(&filter, None);
            loop {
                let delivery = feed.next().await.map_err(asking)?;
                let place = delivery.notification.place.map(|place| place.device);
                let told = json!({ "cursor": delivery.cursor.to_string(),
                    "time_ms": delivery.time_ms, "device": place,
                    "fact": delivery.notification.fact });
                let read = match session.output.json {
                    true => emit_while_read(&told.to_string()),
                    false => emit_while_read(&format!(
                        "{:>10}  {:12}  {}",
                        text(&told["cursor"]),
                        text(&told["device"]),
                        words(&delivery.notification.fact)
                    )),
                };
                if !read {
                    return Ok(ExitCode::SUCCESS);
                }
            }
        }
    }
}

/// A fact in a line.
fn words(fact: &Fact) -> String {
    text(&json!(fact))
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
            let page = session.client.alarms(None).await.map_err(asking)?.value;
            let heads = [
                "device",
                "number",
                "kind",
                "severity",
                "active",
                "acknowledged by",
            ];
            session.output.list(&page.items, &heads, |alarm| {
                let by = alarm
                    .acknowledged
                    .as_ref()
                    .map_or("-".to_owned(), |a| a.by.to_string());
                let (device, number) = (alarm.alarm.device.to_string(), alarm.alarm.sequence);
                let active = alarm.cleared_ms.is_none().to_string();
                let (kind, severity) = (alarm.kind.clone(), name(&alarm.severity));
                vec![device, number.to_string(), kind, severity, active, by]
            });
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
