//! The actions on events.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::crypto::{SignedMessage, verify_all};
use lamplighter_types::limits::{
    EVENT_DATA_BYTES_MAX, ID_BYTES_MAX, LIST_ITEMS_MAX, TEXT_BYTES_MAX,
};
use lamplighter_types::{
    Device, DeviceEvent, DeviceSigned, EventCursor, EventRecord, EventsAction, Fact, Id,
    MessageKind, Notification,
};

use super::cursor::SequenceOrder;
use super::{EventsError, SEQUENCE_JUMP_MAX, alarms, cursor, is_kind, keys};
use crate::batch::{MessageBatch, MessageName};
use crate::devices::{VOUCHED_JUMP_MAX, device_of_gateway, require_active};
use crate::validate;
use crate::{Context, ExecutionError, Refusal};

/// Checks shape and size.
pub fn check(action: &EventsAction) -> Result<(), EventsError> {
    match action {
        EventsAction::Append { events } => {
            validate::list("events", events, LIST_ITEMS_MAX)?;
            events.iter().try_for_each(check_shape)
        }
        EventsAction::Acknowledge { alarm, comment } | EventsAction::Clear { alarm, comment } => {
            validate::number("sequence", alarm.sequence)?;
            Ok(validate::text("comment", comment, TEXT_BYTES_MAX)?)
        }
    }
}

/// Checks what a gateway can see for itself, also an older one: unlike the kinds, which are checked
/// event by event.
fn check_shape(event: &DeviceEvent) -> Result<(), EventsError> {
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
    validate::text("kind", kind, ID_BYTES_MAX)?;
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

/// The devices of an action, each once, with the place of each event's device among them: a search
/// by name for each use of each event would cost more than the event.
struct Emitters {
    /// The devices, or why they may emit nothing.
    all: Vec<Result<Emitter, Refusal>>,
    of_event: Vec<usize>,
}

/// A device of the action with its sequence numbers.
struct Emitter {
    device: Device,
    cursor: EventCursor,
    /// One of the events was recorded.
    emits: bool,
}

/// Records or refuses each event on its own.
///
/// # Errors
/// The reason of an event that came alone, or the state can't be read.
fn append(
    overlay: &mut Overlay,
    context: &Context,
    events: &[DeviceEvent],
) -> Result<Vec<Notification>, ExecutionError> {
    let mut emitters = emitters(overlay, context, events)?;
    let signed = verify(context, events, &emitters);
    let Emitters { all, of_event } = &mut emitters;
    let mut batch = MessageBatch::new(events.len());
    for ((event, place), signed) in events.iter().zip(of_event).zip(signed) {
        let result = match (&mut all[*place], signed) {
            (Err(refusal), _) => Err(ExecutionError::Refused(refusal.clone())),
            (Ok(_), Err(refusal)) => Err(refusal.into()),
            (Ok(emitter), Ok(attested)) => record(overlay, context, emitter, event, attested),
        };
        let name = MessageName {
            message: MessageKind::Event,
            device: &event.device,
            number: event.sequence,
        };
        batch.add(overlay, context, name, result)?;
    }
    for emitter in all.iter().flatten().filter(|emitter| emitter.emits) {
        let key = keys::cursor(&emitter.device.device);
        overlay.put(&key, &emitter.cursor);
    }
    Ok(batch.finish())
}

/// Records an event. Nothing is written before all is validated.
fn record(
    overlay: &mut Overlay,
    context: &Context,
    emitter: &mut Emitter,
    event: &DeviceEvent,
    attested: bool,
) -> Result<Vec<Notification>, ExecutionError> {
    if !is_kind(&event.kind) {
        return Err(EventsError::UnknownKind(event.kind.clone()).into());
    }
    let jump_max = if attested {
        SEQUENCE_JUMP_MAX
    } else {
        VOUCHED_JUMP_MAX
    };
    let order = cursor::accept(&mut emitter.cursor, &event.device, event.sequence, jump_max)?;
    emitter.emits = true;
    let device = &emitter.device;
    let mut notifications = Vec::new();
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

/// The devices of the events, or why a device of them may emit none: it is not the sending
/// gateway's, or not active.
fn emitters(
    overlay: &Overlay,
    context: &Context,
    events: &[DeviceEvent],
) -> Result<Emitters, StateError> {
    let mut places = BTreeMap::new();
    let mut emitters = Emitters {
        all: Vec::new(),
        of_event: Vec::with_capacity(events.len()),
    };
    for event in events {
        let place = match places.entry(&event.device) {
            Entry::Occupied(place) => *place.get(),
            Entry::Vacant(place) => {
                let emitter = match emitter(overlay, context, &event.device) {
                    Ok(emitter) => Ok(emitter),
                    Err(ExecutionError::Refused(refusal)) => Err(refusal),
                    Err(ExecutionError::Fatal(error)) => return Err(error),
                };
                emitters.all.push(emitter);
                *place.insert(emitters.all.len() - 1)
            }
        };
        emitters.of_event.push(place);
    }
    Ok(emitters)
}

fn emitter(overlay: &Overlay, context: &Context, name: &Id) -> Result<Emitter, ExecutionError> {
    let device = device_of_gateway(overlay, context, name)?;
    require_active(&device)?;
    let cursor = super::read::cursor(overlay, name)?;
    Ok(Emitter {
        device,
        cursor,
        emits: false,
    })
}

/// Tells of each event whether its device signed it. A wrong signature is refused, and so is one
/// for a device without a key, and an event without one of a device that has a key: its gateway
/// must not use up the Thing's numbers, nor raise alarms in its name.
fn verify(
    context: &Context,
    events: &[DeviceEvent],
    emitters: &Emitters,
) -> Vec<Result<bool, EventsError>> {
    let key_of = |place: &usize| {
        let emitter = emitters.all[*place].as_ref().ok()?;
        emitter.device.key
    };
    let events = || events.iter().zip(&emitters.of_event);
    let messages: Vec<_> = events()
        .filter_map(|(event, place)| {
            let (key, signature) = (key_of(place)?, event.signature?);
            Some((key, event.message(&context.block.chain_id), signature))
        })
        .collect();
    let items: Vec<_> = messages
        .iter()
        .map(|(key, message, signature)| SignedMessage {
            key: *key,
            message,
            signature: *signature,
        })
        .collect();
    let mut verified = verify_all(&items).into_iter();
    let is_signed = |(event, place): (&DeviceEvent, &usize)| match (key_of(place), event.signature)
    {
        (Some(_), Some(_)) if verified.next() == Some(true) => Ok(true),
        (_, Some(_)) => Err(wrong_signature(event)),
        (Some(_), None) => {
            let (device, sequence) = (event.device.clone(), event.sequence);
            Err(EventsError::Unsigned { device, sequence })
        }
        (None, None) => Ok(false),
    };
    events().map(is_signed).collect()
}

fn wrong_signature(event: &DeviceEvent) -> EventsError {
    EventsError::WrongSignature {
        device: event.device.clone(),
        sequence: event.sequence,
    }
}
