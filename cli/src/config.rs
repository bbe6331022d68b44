//! `config`: desired and reported configuration.

use std::cmp::Reverse;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use lamplighter_client::{HistoryEntry, HistoryOf, Page};
use lamplighter_types::{Action, ConfigAction, ConfigTarget, Id, ReportedConfig, Scope};
use serde_json::json;

use crate::describe;
use crate::failure::Failure;
use crate::history::{changes, emit_changes};
use crate::output::{emit, emit_members, or_dash, print, yes};
use crate::session::{Session, asking};

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// The desired configuration of a device, and the one it reported.
    Show { device: Id },
    /// Sets the desired document (a JSON file) of a device, district, model, or of the fleet.
    Set(Set),
}

#[derive(Debug, Args)]
pub struct Set {
    file: PathBuf,
    #[command(flatten)]
    target: Target,
}

/// The devices that the document is for.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Target {
    /// Every device.
    #[arg(long)]
    fleet: bool,
    #[arg(long)]
    model: Option<String>,
    #[arg(long)]
    district: Option<Scope>,
    #[arg(long)]
    device: Option<Id>,
}

impl From<Target> for ConfigTarget {
    fn from(target: Target) -> Self {
        let Target {
            // The default; the group demands one of the options.
            fleet: _,
            model,
            district,
            device,
        } = target;
        match (model, district, device) {
            (Some(model), ..) => Self::Model { model },
            (_, Some(district), _) => Self::District { district },
            (.., Some(device)) => Self::Device { device },
            (None, None, None) => Self::Fleet,
        }
    }
}

pub async fn carry_out(session: &Session, command: ConfigCommand) -> Result<ExitCode, Failure> {
    let Set { file, target } = match command {
        ConfigCommand::Show { device } => return show(session, &device).await,
        ConfigCommand::Set(set) => set,
    };
    let target = ConfigTarget::from(target);
    let document = lamplighter_system::files::read_text(&file)
        .map_err(Failure::during(format!("reading {}", file.display())))?;
    let replaces_version = match session.client.desired(&target).await {
        Ok(read) => read.value.version,
        Err(error) if error.is_not_found() => 0,
        Err(error) => return Err(asking(error)),
    };
    let action = ConfigAction::SetDesired {
        target,
        document,
        replaces_version,
    };
    session
        .act(Action::Config(action))
        .await
        .map(|()| ExitCode::SUCCESS)
}

async fn show(session: &Session, device: &Id) -> Result<ExitCode, Failure> {
    let read = session.client.device_config(device).await;
    let read = read.map_err(asking)?.value;
    let changes = changes_for(session, device).await?;
    if session.output.json {
        print(
            &json!({ "effective": read.effective, "digest": read.hash, "in_sync": read.in_sync,
            "reported": read.reported, "history": changes.items }),
        );
        return Ok(ExitCode::SUCCESS);
    }
    emit_members(&[
        ("should have", read.effective),
        ("digest", read.hash.to_string()),
        ("has it", yes(read.in_sync)),
        ("reported", or_dash(read.reported.as_ref().map(reported))),
    ]);
    emit("");
    emit_changes(&changes);
    Ok(ExitCode::SUCCESS)
}

/// The changes of the documents that a device's configuration is merged from, the newest first.
async fn changes_for(session: &Session, device: &Id) -> Result<Page<HistoryEntry>, Failure> {
    let record = session.client.device(device).await.map_err(asking)?.value;
    let district = record.district.as_str();
    let above = district.match_indices('/').map(|(at, _)| &district[..at]);
    let districts = above.chain([district]).filter_map(|district| {
        let district = Scope::new(district).ok()?;
        Some(ConfigTarget::District { district })
    });
    let model = ConfigTarget::Model {
        model: record.model.clone(),
    };
    let device_target = ConfigTarget::Device {
        device: device.clone(),
    };
    let mut all = Vec::new();
    for target in [ConfigTarget::Fleet, model, device_target]
        .into_iter()
        .chain(districts)
    {
        all.extend(changes(session, &HistoryOf::Config(target)).await?.items);
    }
    all.sort_by_key(|entry| Reverse(entry.cursor));
    Ok(Page {
        items: all,
        next: None,
    })
}

fn reported(reported: &ReportedConfig) -> String {
    let ReportedConfig {
        device: _,
        document,
        applied,
        detail,
        attested,
        height,
    } = reported;
    let did = if *applied { "applied" } else { "not applied" };
    let signed = if *attested {
        ", signed by the Thing"
    } else {
        ""
    };
    let detail = match detail.as_str() {
        "" => String::new(),
        detail => format!(": {detail}"),
    };
    let document = describe::short(document);
    format!("{did} {document} in block {height}{signed}{detail}")
}
