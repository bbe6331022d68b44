//! Alarms: raised and cleared by events, acknowledged and cleared by people.
//!
//! An alarm has a record while it is open. [`DeviceAlarms`] has the bounds: how many are open, and
//! of which kinds.

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::limits::{ALARM_KINDS_PER_DEVICE_MAX, ALARMS_PER_DEVICE_MAX};
use lamplighter_types::{
    Acknowledgement, Alarm, AlarmChange, AlarmId, AlarmKind, Device, DeviceAlarms, DeviceEvent,
    EventCursor, Fact, Id, Notification, Role,
};

use super::{EventsError, keys};
use crate::{Context, ExecutionError, devices};

// A kind without an active alarm is there when another kind needs its place.
const _: () = assert!(ALARM_KINDS_PER_DEVICE_MAX > ALARMS_PER_DEVICE_MAX);

/// Applies an event to the device's alarm of its kind.
pub(super) fn change(
    overlay: &mut Overlay,
    context: &Context,
    device: &Device,
    event: &DeviceEvent,
) -> Result<Vec<Notification>, StateError> {
    if event.alarm == AlarmChange::None {
        return Ok(Vec::new());
    }
    let key = keys::device_alarms(&device.device);
    let mut alarms = overlay.get(&key)?.unwrap_or_default();
    let kind = kind_of(&mut alarms, &event.kind);
    if event.sequence < kind.changed {
        return Ok(Vec::new());
    }
    kind.changed = event.sequence;
    let active = kind.active.map(|sequence| named(&device.device, sequence));
    let facts = match (event.alarm, active) {
        (AlarmChange::Raise, None) => raise(overlay, context, &mut alarms, event),
        (AlarmChange::Raise, Some(alarm)) => reassess(overlay, &alarm, event)?,
        (AlarmChange::Clear, Some(alarm)) => {
            kind.active = None;
            let mut record = stored(overlay, &alarm)?;
            record.cleared_ms = Some(context.block.time_ms);
            store(overlay, &mut alarms, &record);
            vec![Fact::AlarmCleared { alarm }]
        }
        (AlarmChange::Clear | AlarmChange::None, _) => Vec::new(),
    };
    overlay.put(&key, &alarms);
    let facts = facts.into_iter();
    Ok(facts
        .map(|fact| Notification::about_device(device, fact))
        .collect())
}

fn named(device: &Id, sequence: u64) -> AlarmId {
    AlarmId {
        device: device.clone(),
        sequence,
    }
}

/// The entry of a kind. A new one takes the place of the kind that changed first among those
/// without an active alarm, if there are too many.
fn kind_of<'a>(alarms: &'a mut DeviceAlarms, kind: &str) -> &'a mut AlarmKind {
    let kinds = &mut alarms.kinds;
    let at = match kinds.binary_search_by(|known| known.kind.as_str().cmp(kind)) {
        Ok(at) => at,
        Err(mut at) => {
            if kinds.len() >= ALARM_KINDS_PER_DEVICE_MAX {
                let idle = kinds.iter().enumerate();
                let idle = idle.filter(|(_, known)| known.active.is_none());
                let (evicted, _) = idle
                    .min_by_key(|(_, known)| known.changed)
                    .expect("fewer alarms are active than there are kinds");
                kinds.remove(evicted);
                at -= usize::from(evicted < at);
            }
            let new = AlarmKind {
                kind: kind.to_owned(),
                changed: 0,
                active: None,
            };
            kinds.insert(at, new);
            at
        }
    };
    &mut kinds[at]
}

/// Raises an alarm. If as many are open as a device may have, the oldest one that was cleared makes
/// room; if all are active, there is no alarm, and a notification instead of it.
fn raise(
    overlay: &mut Overlay,
    context: &Context,
    alarms: &mut DeviceAlarms,
    event: &DeviceEvent,
) -> Vec<Fact> {
    let active = alarms.kinds.iter().filter(|kind| kind.active.is_some());
    let alarm = named(&event.device, event.sequence);
    let mut facts = Vec::new();
    if active.count() + alarms.unacknowledged.len() >= ALARMS_PER_DEVICE_MAX {
        if alarms.unacknowledged.is_empty() {
            return vec![Fact::AlarmNotRaised {
                alarm,
                kind: event.kind.clone(),
                severity: event.severity,
            }];
        }
        let evicted = named(&event.device, alarms.unacknowledged.remove(0));
        overlay.delete(&keys::alarm(&evicted));
        facts.push(Fact::AlarmEvicted { alarm: evicted });
    }
    let record = Alarm {
        alarm,
        kind: event.kind.clone(),
        severity: event.severity,
        raised_ms: context.block.time_ms,
        cleared_ms: None,
        cleared_by: None,
        acknowledged: None,
    };
    kind_of(alarms, &event.kind).active = Some(event.sequence);
    store(overlay, alarms, &record);
    facts.push(raised(record));
    facts
}

fn raised(record: Alarm) -> Fact {
    let Alarm {
        alarm,
        kind,
        severity,
        ..
    } = record;
    Fact::AlarmRaised {
        alarm,
        kind,
        severity,
    }
}

/// Changes the severity of an active alarm that is raised again.
fn reassess(
    overlay: &mut Overlay,
    alarm: &AlarmId,
    event: &DeviceEvent,
) -> Result<Vec<Fact>, StateError> {
    let mut record = stored(overlay, alarm)?;
    if record.severity == event.severity {
        return Ok(Vec::new());
    }
    record.severity = event.severity;
    overlay.put(&keys::alarm(alarm), &record);
    Ok(vec![raised(record)])
}

fn stored(overlay: &Overlay, alarm: &AlarmId) -> Result<Alarm, StateError> {
    let missing = || StateError::Missing {
        what: format!("the active alarm {} of {}", alarm.sequence, alarm.device),
    };
    overlay.get(&keys::alarm(alarm))?.ok_or_else(missing)
}

/// Stores an alarm while it is open. A closed one leaves the state; the history has it.
fn store(overlay: &mut Overlay, alarms: &mut DeviceAlarms, record: &Alarm) {
    let (key, sequence) = (keys::alarm(&record.alarm), record.alarm.sequence);
    alarms.unacknowledged.retain(|kept| *kept != sequence);
    match (record.cleared_ms, &record.acknowledged) {
        (None, _) => overlay.put(&key, record),
        (Some(_), None) => {
            let at = alarms
                .unacknowledged
                .partition_point(|kept| *kept < sequence);
            alarms.unacknowledged.insert(at, sequence);
            overlay.put(&key, record);
        }
        (Some(_), Some(_)) => overlay.delete(&key),
    }
}

/// An open alarm and its device, whatever its status, if the sender operates its district.
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

/// Stores an alarm that a person has changed.
fn store_changed(overlay: &mut Overlay, record: &Alarm) -> Result<(), StateError> {
    let key = keys::device_alarms(&record.alarm.device);
    let mut alarms = overlay.get(&key)?.unwrap_or_default();
    if record.cleared_ms.is_some() {
        let sequence = Some(record.alarm.sequence);
        let kinds = alarms.kinds.iter_mut();
        for kind in kinds.filter(|kind| kind.active == sequence) {
            kind.active = None;
        }
    }
    store(overlay, &mut alarms, record);
    overlay.put(&key, &alarms);
    Ok(())
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
    store_changed(overlay, &record)?;
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
    store_changed(overlay, &record)?;
    Ok(vec![Notification::about_device(
        &device,
        Fact::AlarmCleared {
            alarm: alarm.clone(),
        },
    )])
}

/// Lets the events of a device be numbered from the one after `highest` on. Numbers up to it count
/// as recorded. If that is below the present number, the open alarms leave the state, because
/// events name them; what is still so is raised again.
pub(crate) fn renumber(
    overlay: &mut Overlay,
    device: &Device,
    highest: u64,
) -> Result<Vec<Notification>, StateError> {
    let name = &device.device;
    let former = super::cursor(overlay, name)?.highest;
    let cursor = EventCursor {
        highest,
        count: highest,
        gaps: Vec::new(),
    };
    overlay.put(&keys::cursor(name), &cursor);
    if highest >= former {
        return Ok(Vec::new());
    }
    let open = overlay.scan(&keys::alarms(name), None, ALARMS_PER_DEVICE_MAX)?;
    let mut notifications = Vec::with_capacity(open.len());
    for (key, Alarm { alarm, .. }) in open {
        overlay.delete(&key);
        notifications.push(Notification::about_device(
            device,
            Fact::AlarmEvicted { alarm },
        ));
    }
    overlay.delete(&keys::device_alarms(name));
    Ok(notifications)
}
