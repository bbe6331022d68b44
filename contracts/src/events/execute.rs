//! The actions on events.

use std::collections::BTreeMap;

use lamplighter_state::Overlay;
use lamplighter_types::crypto::{SignedMessage, verify_all};
use lamplighter_types::limits::{EVENT_DATA_BYTES_MAX, LIST_ITEMS_MAX, TEXT_BYTES_MAX};
use lamplighter_types::{
    Device, DeviceEvent, DeviceSigned, EventCursor, EventRecord, EventsAction, Fact, Id,
    Notification,
};

use super::cursor::SequenceOrder;
use super::{EventsError, SEQUENCE_JUMP_MAX, alarms, cursor, is_kind, keys};
use crate::devices::{VOUCHED_JUMP_MAX, device_of_gateway, require_active};
use crate::validate;
use crate::{Context, ExecutionError};

/// Checks shape and size.
pub fn check(action: &EventsAction) -> Result<(), EventsError> {
    match action {
        EventsAction::Append { events } => {
            validate::list("events", events, LIST_ITEMS_MAX)?;
            events.iter().try_for_each(check_event)
        }
        EventsAction::Acknowledge { alarm, comment } | EventsAction::Clear { alarm, comment } => {
            validate::number("sequence", alarm.sequence)?;
            Ok(validate::text("comment", comment, TEXT_BYTES_MAX)?)
        }
    }
}

fn check_event(event: &DeviceEvent) -> Result<(), EventsError> {
    let DeviceEvent {
        device: _,
        sequence,
        // The clock of the Thing: a wrong one must not cost the event, unless it shows a number
        // that readers of JSON get wrong.
        time_ms,
        kind,
        severity: _,
        alarm: _,
        data,
        signature: _,
    } = event;
    if *sequence == 0 {
        return Err(EventsError::SequenceZero);
    }
    validate::number("sequence", *sequence)?;
    validate::number("time_ms", *time_ms)?;
    if !is_kind(kind) {
        return Err(EventsError::UnknownKind(kind.clone()));
    }
    Ok(validate::text("data", data, EVENT_DATA_BYTES_MAX)?)
}

/// Carries out a checked action.
pub fn execute(
    overlay: &mut Overlay,
    context: &Context,
    action: &EventsAction,
) -> Result<Vec<Notification>, ExecutionError> {
    match action {
        EventsAction::Append { events } => append(overlay, context, events),
        EventsAction::Acknowledge { alarm, comment } => {
            alarms::acknowledge(overlay, context, alarm, comment)
        }
        // The comment is kept in the history, as part of the transaction.
        EventsAction::Clear { alarm, comment: _ } => alarms::clear(overlay, context, alarm),
    }
}

/// A device of the action with its sequence numbers.
struct Emitter {
    device: Device,
    cursor: EventCursor,
}

fn append(
    overlay: &mut Overlay,
    context: &Context,
    events: &[DeviceEvent],
) -> Result<Vec<Notification>, ExecutionError> {
    let mut emitters = emitters(overlay, context, events)?;
    let attested = verify(context, events, &emitters)?;
    let mut notifications = Vec::with_capacity(events.len());
    for (event, attested) in events.iter().zip(attested) {
        let emitter = emitters
            .get_mut(&event.device)
            .expect("collected from the same events");
        let jump_max = if attested {
            SEQUENCE_JUMP_MAX
        } else {
            VOUCHED_JUMP_MAX
        };
        let order = cursor::accept(&mut emitter.cursor, &event.device, event.sequence, jump_max)?;
        let device = &emitter.device;
        if let SequenceOrder::After(gap) = order {
            let fact = Fact::EventGapSeen {
                first: gap.first,
                last: gap.last,
            };
            notifications.push(Notification::about_device(device, fact));
        }
        notifications.push(appended(device, event, attested));
        notifications.extend(alarms::change(overlay, context, device, event)?);
        overlay.record_event(EventRecord {
            event: event.clone(),
            gateway: context.sender.account.clone(),
            attested,
            received_ms: context.block.time_ms,
        });
    }
    for (name, emitter) in &emitters {
        overlay.put(&keys::cursor(name), &emitter.cursor);
    }
    Ok(notifications)
}

fn appended(device: &Device, event: &DeviceEvent, attested: bool) -> Notification {
    let (kind, severity, sequence) = (event.kind.clone(), event.severity, event.sequence);
    Notification::about_device(
        device,
        Fact::EventAppended {
            kind,
            severity,
            sequence,
            attested,
        },
    )
}

/// The devices of the events; all belong to the sending gateway and are active.
fn emitters(
    overlay: &Overlay,
    context: &Context,
    events: &[DeviceEvent],
) -> Result<BTreeMap<Id, Emitter>, ExecutionError> {
    let mut emitters = BTreeMap::new();
    for event in events {
        if !emitters.contains_key(&event.device) {
            let device = device_of_gateway(overlay, context, &event.device)?;
            require_active(&device)?;
            let cursor = super::read::cursor(overlay, &event.device)?;
            emitters.insert(event.device.clone(), Emitter { device, cursor });
        }
    }
    Ok(emitters)
}

/// Tells which events their devices signed. A wrong signature is refused, and so is one for a
/// device without a key, and an event without one of a device that has a key: its gateway must not
/// use up the Thing's numbers, nor raise alarms in its name.
fn verify(
    context: &Context,
    events: &[DeviceEvent],
    emitters: &BTreeMap<Id, Emitter>,
) -> Result<Vec<bool>, EventsError> {
    let mut messages = Vec::new();
    for event in events {
        let key = emitters
            .get(&event.device)
            .and_then(|emitter| emitter.device.key);
        match (key, event.signature) {
            (Some(key), Some(signature)) => {
                messages.push((key, event.message(&context.block.chain_id), signature));
            }
            (None, Some(_)) => return Err(wrong_signature(event)),
            (Some(_), None) => {
                let (device, sequence) = (event.device.clone(), event.sequence);
                return Err(EventsError::Unsigned { device, sequence });
            }
            (None, None) => {}
        }
    }
    let items: Vec<_> = messages
        .iter()
        .map(|(key, message, signature)| SignedMessage {
            key: *key,
            message,
            signature: *signature,
        })
        .collect();
    let signed = events.iter().filter(|event| event.signature.is_some());
    match verify_all(&items)
        .iter()
        .zip(signed)
        .find(|(good, _)| !**good)
    {
        Some((_, event)) => Err(wrong_signature(event)),
        None => Ok(events
            .iter()
            .map(|event| event.signature.is_some())
            .collect()),
    }
}

fn wrong_signature(event: &DeviceEvent) -> EventsError {
    EventsError::WrongSignature {
        device: event.device.clone(),
        sequence: event.sequence,
    }
}
