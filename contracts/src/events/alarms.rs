//! Alarms: raised and cleared by events, acknowledged and cleared by people.

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::{
    Acknowledgement, Alarm, AlarmChange, AlarmId, Device, DeviceEvent, Fact, Notification, Role,
};

use super::{EventsError, keys};
use crate::{Context, ExecutionError, devices};

/// Applies an event to the device's alarm of its kind.
pub(super) fn change(
    overlay: &mut Overlay,
    context: &Context,
    device: &Device,
    event: &DeviceEvent,
) -> Result<Option<Notification>, StateError> {
    if event.alarm == AlarmChange::None {
        return Ok(None);
    }
    let key = keys::slot(&device.device, &event.kind);
    let mut slot = overlay.get(&key)?.unwrap_or_default();
    if event.sequence < slot.changed {
        return Ok(None);
    }
    slot.changed = event.sequence;
    let active = slot.active.map(|sequence| named(device, sequence));
    let notification = match (event.alarm, active) {
        (AlarmChange::Raise, None) => {
            slot.active = Some(event.sequence);
            Some(raise(overlay, context, device, event))
        }
        (AlarmChange::Raise, Some(alarm)) => reassess(overlay, device, &alarm, event)?,
        (AlarmChange::Clear, Some(alarm)) => {
            slot.active = None;
            let mut record = stored(overlay, &alarm)?;
            record.cleared_ms = Some(context.block.time_ms);
            store(overlay, &record);
            Some(Notification::about_device(
                device,
                Fact::AlarmCleared { alarm },
            ))
        }
        (AlarmChange::Clear | AlarmChange::None, _) => None,
    };
    overlay.put(&key, &slot);
    Ok(notification)
}

fn named(device: &Device, sequence: u64) -> AlarmId {
    AlarmId {
        device: device.device.clone(),
        sequence,
    }
}

fn raise(
    overlay: &mut Overlay,
    context: &Context,
    device: &Device,
    event: &DeviceEvent,
) -> Notification {
    let record = Alarm {
        alarm: named(device, event.sequence),
        kind: event.kind.clone(),
        severity: event.severity,
        raised_ms: context.block.time_ms,
        cleared_ms: None,
        cleared_by: None,
        acknowledged: None,
    };
    store(overlay, &record);
    raised(device, record)
}

fn raised(device: &Device, record: Alarm) -> Notification {
    let Alarm {
        alarm,
        kind,
        severity,
        ..
    } = record;
    Notification::about_device(
        device,
        Fact::AlarmRaised {
            alarm,
            kind,
            severity,
        },
    )
}

/// Changes the severity of an active alarm that is raised again.
fn reassess(
    overlay: &mut Overlay,
    device: &Device,
    alarm: &AlarmId,
    event: &DeviceEvent,
) -> Result<Option<Notification>, StateError> {
    let mut record = stored(overlay, alarm)?;
    if record.severity == event.severity {
        return Ok(None);
    }
    record.severity = event.severity;
    store(overlay, &record);
    Ok(Some(raised(device, record)))
}

fn stored(overlay: &Overlay, alarm: &AlarmId) -> Result<Alarm, StateError> {
    let missing = || StateError::Missing {
        what: format!("the active alarm {} of {}", alarm.sequence, alarm.device),
    };
    overlay.get(&keys::alarm(alarm))?.ok_or_else(missing)
}

/// Stores an alarm, and lists it while it is open.
fn store(overlay: &mut Overlay, record: &Alarm) {
    let open = record.cleared_ms.is_none() || record.acknowledged.is_none();
    if open {
        overlay.put(&keys::open_alarm(&record.alarm), &record.alarm);
    } else {
        overlay.delete(&keys::open_alarm(&record.alarm));
    }
    overlay.put(&keys::alarm(&record.alarm), record);
}

/// An alarm and its device, whatever its status, if the sender operates its district.
fn operated(
    overlay: &Overlay,
    context: &Context,
    alarm: &AlarmId,
) -> Result<(Device, Alarm), ExecutionError> {
    let device = devices::device(overlay, &alarm.device)?;
    let Some(device) = device else {
        return Err(EventsError::UnknownAlarm {
            device: alarm.device.clone(),
            sequence: alarm.sequence,
        }
        .into());
    };
    context.require(Role::Operator, &device.district)?;
    match overlay.get(&keys::alarm(alarm))? {
        Some(record) => Ok((device, record)),
        None => Err(EventsError::UnknownAlarm {
            device: alarm.device.clone(),
            sequence: alarm.sequence,
        }
        .into()),
    }
}

pub(super) fn acknowledge(
    overlay: &mut Overlay,
    context: &Context,
    alarm: &AlarmId,
    comment: &str,
) -> Result<Vec<Notification>, ExecutionError> {
    let (device, mut record) = operated(overlay, context, alarm)?;
    if record.acknowledged.is_some() {
        return Err(EventsError::Acknowledged {
            device: alarm.device.clone(),
            sequence: alarm.sequence,
        }
        .into());
    }
    let by = context.sender.account.clone();
    record.acknowledged = Some(Acknowledgement {
        by: by.clone(),
        comment: comment.to_owned(),
        time_ms: context.block.time_ms,
    });
    store(overlay, &record);
    Ok(vec![Notification::about_device(
        &device,
        Fact::AlarmAcknowledged {
            alarm: alarm.clone(),
            by,
        },
    )])
}

pub(super) fn clear(
    overlay: &mut Overlay,
    context: &Context,
    alarm: &AlarmId,
) -> Result<Vec<Notification>, ExecutionError> {
    let (device, mut record) = operated(overlay, context, alarm)?;
    if record.cleared_ms.is_some() {
        return Err(EventsError::Cleared {
            device: alarm.device.clone(),
            sequence: alarm.sequence,
        }
        .into());
    }
    record.cleared_ms = Some(context.block.time_ms);
    record.cleared_by = Some(context.sender.account.clone());
    store(overlay, &record);
    let key = keys::slot(&alarm.device, &record.kind);
    let mut slot = overlay.get(&key)?.unwrap_or_default();
    slot.active = None;
    overlay.put(&key, &slot);
    Ok(vec![Notification::about_device(
        &device,
        Fact::AlarmCleared {
            alarm: alarm.clone(),
        },
    )])
}
