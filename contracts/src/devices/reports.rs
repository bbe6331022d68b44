//! Reports of devices, which their gateways send: acceptance of all kinds, and the inventory.

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::{
    Device, DeviceSigned, DeviceState, Fact, Hash, Id, InventoryReport, MessageKind, Notification,
};

use super::{DevicesError, device_of_gateway, keys, require_active};
use crate::batch::{MessageBatch, MessageName};
use crate::{Context, ExecutionError, firmware, rollouts};

/// A report that is valid; `attested` says by whom.
#[derive(Clone, Debug)]
pub struct AcceptedReport {
    pub device: Device,
    /// The state with the report's counter in it, which the caller stores.
    pub state: DeviceState,
    /// Signed by the Thing's own key; otherwise the gateway vouches for it.
    pub attested: bool,
}

/// Largest jump of a report counter that the device's key signed: one mistake must not use them all
/// up.
pub const COUNTER_JUMP_MAX: u64 = 1 << 32;
/// Largest jump of a number that a gateway vouches for, of reports and of events. It is more than a
/// Thing loses while it is out of reach (12 days at one a second), and so small that all numbers up
/// to 2^53 would take 2^33 reports.
pub const VOUCHED_JUMP_MAX: u64 = 1 << 20;

/// Validates a report of a device: the sender is its gateway, a signature is that of the device's
/// key, and the counter was not used.
///
/// Only reports that a device's key signed move the counter of a device with a key. A counter may
/// follow the clock in ms, so a jump begins at the time of the block if that is higher. Nothing is
/// written, and the device's status is not checked.
///
/// # Errors
/// A refusal, or the state can't be read.
pub fn accept_report<R: DeviceSigned>(
    overlay: &Overlay,
    context: &Context,
    name: &Id,
    report: &R,
    counter: u64,
) -> Result<AcceptedReport, ExecutionError> {
    let device = device_of_gateway(overlay, context, name)?;
    let mut state = overlay
        .get(&keys::state(name))?
        .ok_or_else(|| StateError::Missing {
            what: format!("the state of device {name}"),
        })?;
    let attested = report
        .verify_device(&context.block.chain_id, device.key.as_ref())
        .map_err(|_| DevicesError::WrongSignature(name.clone()))?;
    if attested || device.key.is_none() {
        let highest = state.report_counter;
        if counter <= highest {
            let device = name.clone();
            return Err(DevicesError::CounterUsed {
                device,
                counter,
                highest,
            }
            .into());
        }
        let jump_max = if attested {
            COUNTER_JUMP_MAX
        } else {
            VOUCHED_JUMP_MAX
        };
        let start = highest.max(context.block.time_ms);
        if counter.saturating_sub(start) > jump_max {
            return Err(DevicesError::CounterTooFar {
                device: name.clone(),
                counter,
                highest,
            }
            .into());
        }
        state.report_counter = counter;
    }
    Ok(AcceptedReport {
        device,
        state,
        attested,
    })
}

/// Records what Things run. Each report is accepted or refused on its own.
pub(super) fn report_inventory(
    overlay: &mut Overlay,
    context: &Context,
    reports: &[InventoryReport],
) -> Result<Vec<Notification>, ExecutionError> {
    let mut batch = MessageBatch::new(reports.len());
    for report in reports {
        let result = record_inventory(overlay, context, report);
        let name = MessageName {
            message: MessageKind::Inventory,
            device: &report.device,
            number: report.counter,
        };
        batch.add(overlay, context, name, result)?;
    }
    Ok(batch.finish())
}

/// Records a report. Nothing is written before all is validated.
fn record_inventory(
    overlay: &mut Overlay,
    context: &Context,
    report: &InventoryReport,
) -> Result<Vec<Notification>, ExecutionError> {
    let InventoryReport {
        device: name,
        version,
        digest,
        security_counter,
        counter,
        signature: _,
    } = report;
    let AcceptedReport {
        device,
        mut state,
        attested,
    } = accept_report(overlay, context, name, report, *counter)?;
    require_active(&device)?;
    if device.key.is_some() && !attested {
        return Err(DevicesError::Unsigned(device.device).into());
    }
    let seen_before = state.drifted && state.digest == Some(*digest);
    let expected = drifted_from(overlay, &state, digest)?;
    let before = state.digest;
    state.version = *version;
    state.digest = Some(*digest);
    // A gateway alone must not raise the floor: then no release could be installed any more.
    if attested {
        state.security_counter = state.security_counter.max(*security_counter);
    }
    state.drifted = expected.is_some();
    overlay.put(&keys::state(name), &state);
    let mut notifications = vec![Notification::about_device(
        &device,
        Fact::InventoryReported { digest: *digest },
    )];
    if let Some(expected) = expected
        && !seen_before
    {
        let fact = Fact::DeviceDrifted {
            expected,
            running: *digest,
        };
        notifications.push(Notification::about_device(&device, fact));
    }
    let named = rollouts::image_reported(overlay, &device, before, &state)?;
    notifications.extend(named);
    Ok(notifications)
}

/// The digest that the device should run, if `running` is another one and is not that of the
/// rollout under way.
fn drifted_from(
    overlay: &Overlay,
    state: &DeviceState,
    running: &Hash,
) -> Result<Option<Hash>, StateError> {
    let Some(confirmed) = &state.release else {
        return Ok(None);
    };
    let Some(expected) = artifact_of(overlay, confirmed)? else {
        return Ok(None);
    };
    if expected == *running {
        return Ok(None);
    }
    if let Some(rollout) = &state.active_rollout
        && let Some(rollout) = overlay.get(&rollouts::keys::rollout(rollout))?
        && artifact_of(overlay, &rollout.plan.release)? == Some(*running)
    {
        return Ok(None);
    }
    Ok(Some(expected))
}

fn artifact_of(overlay: &Overlay, release: &Id) -> Result<Option<Hash>, StateError> {
    let release = overlay.get(&firmware::keys::release(release))?;
    Ok(release.map(|release| release.manifest.artifact))
}
