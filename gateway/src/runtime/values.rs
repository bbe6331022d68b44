//! Values that a Thing without our agent sends by itself (LwM2M Send): they become events of the
//! device, numbered by the gateway, in the feed of the ledger.

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_types::limits::EVENT_DATA_BYTES_MAX;
use lamplighter_types::{AlarmChange, DeviceEvent, Id, Severity};
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::storage::{PendingReport, answer};
use crate::lwm2m::senml::{SenmlRecord, SenmlValue};
use crate::south::StorageReply;
use crate::spool::{OutgoingReport, SpoolState};
use crate::text::sanitize;

/// The kind of these events.
pub(super) const KIND: &str = "x-lwm2m-values";
/// Longest text of one value; a name with it fits an event.
const TEXT_BYTES_MAX: usize = 500;
/// Longest name of a value: object, instance, resource and resource instance.
const NAME_BYTES_MAX: usize = 64;
/// Messages that wait for the number of the device's last event.
const WAITING_MAX: usize = 256;

/// Values of one message, and where the Thing waits for the answer.
#[derive(Debug)]
pub(super) struct PendingValues {
    pub device: Id,
    pub values: Vec<SenmlRecord>,
    pub stored: oneshot::Sender<StorageReply>,
}

/// The numbers of the events that the gateway makes for devices.
#[derive(Debug, Default)]
pub(super) struct ValueEvents {
    /// The highest number of an event of each device, as far as it is known.
    highest: BTreeMap<Id, u64>,
    asked: BTreeSet<Id>,
    waiting: Vec<PendingValues>,
}

impl ValueEvents {
    /// Turns values into events. If the number of the device's last event is not known, the values
    /// wait; the flag is true if it must be asked for.
    pub fn accept(
        &mut self,
        pending: PendingValues,
        spool: &SpoolState,
        now_ms: u64,
    ) -> (Vec<PendingReport>, bool) {
        let device = pending.device.clone();
        if self.highest.contains_key(&device) {
            return (self.events(pending, spool, now_ms), false);
        }
        if self.waiting.len() >= WAITING_MAX {
            let reason = "too many Things send values".to_owned();
            answer(pending.stored, StorageReply::Unavailable(reason));
            return (Vec::new(), false);
        }
        self.waiting.push(pending);
        (Vec::new(), self.asked.insert(device))
    }

    /// Continues with the number of a device's last event. Without it the Things try again.
    pub fn number_fetched(
        &mut self,
        device: &Id,
        highest: Option<u64>,
        spool: &SpoolState,
        now_ms: u64,
    ) -> Vec<PendingReport> {
        self.asked.remove(device);
        let all = std::mem::take(&mut self.waiting);
        let (of_device, others) = all.into_iter().partition(|one| one.device == *device);
        self.waiting = others;
        let Some(highest) = highest else {
            // Dropping the channels makes the Things try again.
            return Vec::new();
        };
        self.highest.insert(device.clone(), highest);
        let of_device: Vec<PendingValues> = of_device;
        of_device
            .into_iter()
            .flat_map(|pending| self.events(pending, spool, now_ms))
            .collect()
    }

    /// Forgets the number of a device's last event: another gateway may have used it.
    pub fn forget_number(&mut self, device: &Id) {
        self.highest.remove(device);
    }

    fn events(
        &mut self,
        pending: PendingValues,
        spool: &SpoolState,
        now_ms: u64,
    ) -> Vec<PendingReport> {
        let PendingValues {
            device,
            values,
            stored,
        } = pending;
        let in_spool = spool
            .of_device(&device)
            .filter_map(|outgoing| match outgoing {
                OutgoingReport::Event(event) => Some(event.sequence),
                _ => None,
            });
        let known = self.highest.get(&device).copied().unwrap_or_default();
        let mut sequence = in_spool.max().unwrap_or_default().max(known);
        let mut reports = Vec::new();
        for data in documents(&values) {
            sequence += 1;
            let event = DeviceEvent {
                device: device.clone(),
                sequence,
                time_ms: now_ms,
                kind: KIND.to_owned(),
                severity: Severity::Indeterminate,
                alarm: AlarmChange::None,
                data,
                signature: None,
            };
            // Each is stored, or none after it: the last one has the Thing's answer.
            let (unheard, _) = oneshot::channel();
            reports.push((OutgoingReport::Event(event), unheard));
        }
        self.highest.insert(device, sequence);
        match reports.last_mut() {
            Some(last) => last.1 = stored,
            None => answer(stored, StorageReply::Stored),
        }
        reports
    }
}

/// JSON objects with the values by their names, each short enough for an event.
pub(super) fn documents(values: &[SenmlRecord]) -> Vec<String> {
    let mut documents = Vec::new();
    let mut document = Map::new();
    for record in values {
        let Some(value) = record.value.as_ref().map(json_of) else {
            continue;
        };
        let name = sanitize(&record.name, NAME_BYTES_MAX);
        let mut longer = document.clone();
        longer.insert(name.clone(), value.clone());
        if text_of(&longer).len() <= EVENT_DATA_BYTES_MAX {
            document = longer;
            continue;
        }
        documents.push(text_of(&document));
        document = Map::from_iter([(name, value)]);
    }
    if !document.is_empty() {
        documents.push(text_of(&document));
    }
    documents
}

fn text_of(document: &Map<String, Value>) -> String {
    Value::Object(document.clone()).to_string()
}

fn json_of(value: &SenmlValue) -> Value {
    match value {
        SenmlValue::Integer(number) => Value::from(*number),
        SenmlValue::Float(number) => Value::from(*number),
        SenmlValue::Boolean(flag) => Value::from(*flag),
        // Escapes may double its length.
        SenmlValue::Text(text) => Value::from(sanitize(text, TEXT_BYTES_MAX / 2)),
        SenmlValue::Bytes(bytes) => {
            let bytes = &bytes[..bytes.len().min(TEXT_BYTES_MAX / 2)];
            Value::from(hex::encode(bytes))
        }
    }
}
