//! The actions on configuration.

use lamplighter_state::Overlay;
use lamplighter_types::json::{self, JsonError, JsonValue};
use lamplighter_types::limits::{CONFIG_BYTES_MAX, ID_BYTES_MAX, LIST_ITEMS_MAX, TEXT_BYTES_MAX};
use lamplighter_types::{
    ConfigAction, ConfigReport, ConfigTarget, DesiredConfig, Device, DeviceStatus, Fact,
    MessageKind, Notification, ReportedConfig, Role, Scope,
};

use super::{ConfigError, keys};
use crate::batch::{MessageBatch, MessageName};
use crate::devices::{self, AcceptedReport, DevicesError, accept_report, require_active};
use crate::validate::{self, FieldError};
use crate::{Context, ExecutionError};

/// The canonical form of the document without members.
const EMPTY: &str = "{}";

/// Checks shape and size.
pub fn check(action: &ConfigAction) -> Result<(), ConfigError> {
    match action {
        ConfigAction::SetDesired {
            target,
            document,
            replaces_version,
        } => {
            validate::number("replaces_version", *replaces_version)?;
            check_target(target)?;
            document_of(document)?;
        }
        ConfigAction::Report { reports } => {
            validate::list("reports", reports, LIST_ITEMS_MAX)?;
            for report in reports {
                validate::text("detail", &report.detail, TEXT_BYTES_MAX)?;
                validate::number("counter", report.counter)?;
            }
        }
    }
    Ok(())
}

fn check_target(target: &ConfigTarget) -> Result<(), ConfigError> {
    match target {
        ConfigTarget::Model { model } => Ok(validate::name("model", model, ID_BYTES_MAX)?),
        ConfigTarget::District { district } if *district == Scope::city() => {
            Err(ConfigError::UseFleet)
        }
        ConfigTarget::Fleet
        | ConfigTarget::District { district: _ }
        | ConfigTarget::Device { device: _ } => Ok(()),
    }
}

fn document_of(text: &str) -> Result<JsonValue, ConfigError> {
    if text.len() > CONFIG_BYTES_MAX {
        let (field, got, max) = ("document", text.len(), CONFIG_BYTES_MAX);
        return Err(FieldError::TooLong { field, got, max }.into());
    }
    match json::parse(text, &json::CONFIGURATION).map_err(malformed)? {
        object @ JsonValue::Object(_) => Ok(object),
        _ => Err(ConfigError::NotAnObject),
    }
}

/// Carries out a checked action.
pub fn execute(
    overlay: &mut Overlay,
    context: &Context,
    action: &ConfigAction,
) -> Result<Vec<Notification>, ExecutionError> {
    match action {
        ConfigAction::SetDesired {
            target,
            document,
            replaces_version,
        } => set_desired(overlay, context, target, document, *replaces_version),
        ConfigAction::Report { reports } => record_all(overlay, context, reports),
    }
}

/// Accepts or refuses each report on its own.
fn record_all(
    overlay: &mut Overlay,
    context: &Context,
    reports: &[ConfigReport],
) -> Result<Vec<Notification>, ExecutionError> {
    let mut batch = MessageBatch::new(reports.len());
    for report in reports {
        let result = record(overlay, context, report).map(|notification| vec![notification]);
        let name = MessageName {
            message: MessageKind::Config,
            device: &report.device,
            number: report.counter,
        };
        batch.add(overlay, context, name, result)?;
    }
    Ok(batch.finish())
}

fn set_desired(
    overlay: &mut Overlay,
    context: &Context,
    target: &ConfigTarget,
    document: &str,
    replaces: u64,
) -> Result<Vec<Notification>, ExecutionError> {
    let device = addressed(overlay, target)?;
    let scope = match (target, &device) {
        (ConfigTarget::District { district }, _) => district.clone(),
        (_, Some(device)) => device.district.clone(),
        (_, None) => Scope::city(),
    };
    context.require(Role::Operator, &scope)?;
    let key = keys::desired(target);
    let current = overlay.get(&key)?.map_or(0, |desired| desired.version);
    if replaces != current {
        return Err(ConfigError::OtherVersion { replaces, current }.into());
    }
    let desired = DesiredConfig {
        target: target.clone(),
        document: document_of(document)?.canonical(),
        version: current.saturating_add(1),
        author: context.sender.account.clone(),
        height: context.block.height,
    };
    // An empty document is as good as none, and leaves the state.
    if desired.document == EMPTY {
        overlay.delete(&key);
    } else {
        overlay.put(&key, &desired);
    }
    let fact = Fact::DesiredSet {
        target: target.clone(),
        version: desired.version,
    };
    Ok(vec![match &device {
        Some(device) => Notification::about_device(device, fact),
        None => Notification::city(fact),
    }])
}

/// The device that a target names, if it names one.
fn addressed(overlay: &Overlay, target: &ConfigTarget) -> Result<Option<Device>, ExecutionError> {
    let ConfigTarget::Device { device: name } = target else {
        return Ok(None);
    };
    let device = devices::device(overlay, name)?;
    match device.filter(|device| device.status != DeviceStatus::Decommissioned) {
        Some(device) => Ok(Some(device)),
        None => Err(ConfigError::NoSuchDevice(name.clone()).into()),
    }
}

/// Records a report. Nothing is written before all is validated.
fn record(
    overlay: &mut Overlay,
    context: &Context,
    report: &ConfigReport,
) -> Result<Notification, ExecutionError> {
    let ConfigReport {
        device: name,
        document,
        applied,
        detail,
        counter,
        signature: _,
    } = report;
    let AcceptedReport {
        device,
        state,
        attested,
    } = accept_report(overlay, context, name, report, *counter)?;
    require_active(&device)?;
    // Otherwise an impostor that registers under a Thing's name could keep its configuration from
    // it.
    if device.key.is_some() && !attested {
        return Err(DevicesError::Unsigned(device.device).into());
    }
    overlay.put(&devices::keys::state(name), &state);
    let reported = ReportedConfig {
        device: name.clone(),
        document: *document,
        applied: *applied,
        detail: detail.clone(),
        attested,
        height: context.block.height,
    };
    overlay.put(&keys::reported(name), &reported);
    let fact = Fact::ConfigReported {
        document: *document,
        applied: *applied,
    };
    Ok(Notification::about_device(&device, fact))
}

fn malformed(error: JsonError) -> ConfigError {
    let JsonError { at, problem } = error;
    ConfigError::Document { at, problem }
}
