use lamplighter_types::Id;
use lamplighter_types::limits::EVENT_DATA_BYTES_MAX;
use tokio::sync::oneshot;

use crate::lwm2m::senml::{SenmlRecord, SenmlValue};
use crate::runtime::values::{PendingValues, ValueEvents, documents};
use crate::south::StorageReply;
use crate::spool::{OutgoingReport, SpoolState};

fn record(name: &str, value: SenmlValue) -> SenmlRecord {
    let name = name.to_owned();
    let value = Some(value);
    SenmlRecord { name, value }
}

fn pending(values: Vec<SenmlRecord>) -> (PendingValues, oneshot::Receiver<StorageReply>) {
    let (stored, answer) = oneshot::channel();
    let device = Id::new("lamp-1").unwrap();
    let pending = PendingValues {
        device,
        values,
        stored,
    };
    (pending, answer)
}

fn sequences(reports: &[(OutgoingReport, oneshot::Sender<StorageReply>)]) -> Vec<u64> {
    let sequence = |report: &(OutgoingReport, _)| match &report.0 {
        OutgoingReport::Event(event) => event.sequence,
        other => panic!("{other:?}"),
    };
    reports.iter().map(sequence).collect()
}

#[test]
fn values_are_a_json_object_by_their_names() {
    let values = [
        record("/3311/0/5851", SenmlValue::Integer(80)),
        record("/3303/0/5700", SenmlValue::Float(21.5)),
        record("/3311/0/5850", SenmlValue::Boolean(true)),
        record("/3/0/0", SenmlValue::Text("Acme\u{7}\"".to_owned())),
        record("/5/0/0", SenmlValue::Bytes(vec![1, 0xAB])),
        SenmlRecord {
            name: "/3/0/1".to_owned(),
            value: None,
        },
    ];
    let [document] = &documents(&values)[..] else {
        panic!("one is enough")
    };
    let read: serde_json::Value = serde_json::from_str(document).unwrap();
    let expected = serde_json::json!({
        "/3311/0/5851": 80, "/3303/0/5700": 21.5, "/3311/0/5850": true,
        "/3/0/0": "Acme\u{FFFD}\"", "/5/0/0": "01ab",
    });
    assert_eq!(read, expected);
}

#[test]
fn any_values_fit_the_events_of_the_ledger() {
    let long = "\u{1}\"\\é".repeat(2_000);
    let mut values = vec![record(&long, SenmlValue::Text(long.clone()))];
    values.extend((0..500).map(|n| record(&format!("/3311/{n}/5851"), SenmlValue::Integer(n))));
    values.push(record("/1", SenmlValue::Bytes(vec![7; 60_000])));
    let documents = documents(&values);
    assert!(documents.len() > 5);
    for document in &documents {
        assert!(document.len() <= EVENT_DATA_BYTES_MAX, "{}", document.len());
        let read: serde_json::Value = serde_json::from_str(document).unwrap();
        assert!(!read.as_object().unwrap().is_empty());
    }
}

#[test]
fn the_gateway_numbers_them_after_the_last_event_of_the_ledger() {
    let (mut events, spool) = (ValueEvents::default(), SpoolState::default());
    let value = || vec![record("/3311/0/5851", SenmlValue::Integer(80))];
    let (first, mut answer) = pending(value());
    let device = first.device.clone();
    let (reports, ask) = events.accept(first, &spool, 5);
    assert!(reports.is_empty() && ask, "the number is not known");
    let (second, _) = pending(value());
    assert!(!events.accept(second, &spool, 5).1, "it is asked for once");
    let reports = events.number_fetched(&device, Some(41), &spool, 5);
    assert_eq!(sequences(&reports), [42, 43]);
    assert!(answer.try_recv().is_err(), "they are not stored yet");
    let (third, _) = pending(value());
    assert_eq!(sequences(&events.accept(third, &spool, 5).0), [44]);
    events.forget_number(&device);
    let (fourth, mut unanswered) = pending(value());
    assert!(events.accept(fourth, &spool, 5).1);
    assert!(events.number_fetched(&device, None, &spool, 5).is_empty());
    assert!(unanswered.try_recv().is_err(), "the Thing tries again");
}
