//! Messages between nodes, clients and gateways: their JSON forms are frozen, and topics, cursors
//! and content types are read as they are written.

use lamplighter_types::wire::topics::{self, GatewayTopic, NotificationTopic};
use lamplighter_types::wire::*;
use lamplighter_types::{Encoding, Fact, Hash, Id, Notification, Outcome, Receipt, Scope};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::samples;

/// Checks both directions: the value has this JSON form, and the form is read as the value.
fn has_form<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T, form: Value) {
    assert_eq!(serde_json::to_value(value).unwrap(), form);
    assert_eq!(&serde_json::from_value::<T>(form).unwrap(), value);
}

fn hash(byte: u8) -> Hash {
    Hash([byte; 32])
}

fn id(text: &str) -> Id {
    text.parse().unwrap()
}

fn receipt() -> Receipt {
    Receipt {
        transaction: hash(1),
        outcome: Outcome::Succeeded,
        notifications: Vec::new(),
    }
}

fn receipt_json() -> Value {
    json!({ "transaction": hash(1), "outcome": "succeeded", "notifications": [] })
}

fn feed_event() -> FeedEvent {
    FeedEvent {
        cursor: Cursor {
            height: 7,
            index: 2,
        },
        time_ms: 1_000,
        transaction: hash(1),
        author: Some(id("anna")),
        notification: Notification {
            place: None,
            fact: Fact::PoliciesSet,
        },
    }
}

proptest! {
    #[test]
    fn a_cursor_is_read_as_it_is_written(height: u64, index: u32) {
        let cursor = Cursor { height, index };
        prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        has_form(&cursor, json!(format!("{height}.{index}")));
        prop_assert!(cursor.next() > cursor || height == u64::MAX);
        prop_assert!(cursor <= Cursor::end_of(height));
    }

    #[test]
    fn any_text_is_a_cursor_or_an_error(text in ".{0,12}") {
        if let Ok(cursor) = text.parse::<Cursor>() {
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
    }

    #[test]
    fn topics_are_read_as_they_are_written(
        kind in "[a-z][a-z0-9_]{0,30}",
        parts in proptest::collection::vec("[a-z0-9][a-z0-9._-]{0,9}", 0..6),
        device in "[a-z0-9][a-z0-9._-]{0,63}",
    ) {
        let district = Scope::new(parts.join("/")).unwrap();
        let topic = NotificationTopic { kind, district, device: id(&device) };
        prop_assert_eq!(NotificationTopic::parse(&topic.to_string()), Some(topic));
        let gateway = id(&device);
        for topic in [
            GatewayTopic::Transaction,
            GatewayTopic::Sync,
            GatewayTopic::Receipt,
            GatewayTopic::Work,
        ] {
            let text = topic.of(&gateway);
            prop_assert_eq!(GatewayTopic::parse(&text, &gateway), Some(topic));
            prop_assert_eq!(GatewayTopic::parse(&text, &id("other")), None);
        }
    }

    #[test]
    fn any_topic_is_read_or_left(topic in "(lamplighter/1/(notify|gw)/)?[a-z:/+#-]{0,20}") {
        if let Some(read) = NotificationTopic::parse(&topic) {
            prop_assert_eq!(read.to_string(), topic);
        }
    }
}

#[test]
fn a_cursor_has_two_plain_numbers() {
    for bad in [
        "",
        ".",
        "1",
        "1.",
        ".1",
        "+1.2",
        "1.+2",
        "1.2.3",
        "-1.2",
        "1.4294967296",
    ] {
        assert_eq!(bad.parse::<Cursor>(), Err(CursorError), "{bad:?}");
    }
    assert_eq!(
        "007.01".parse(),
        Ok(Cursor {
            height: 7,
            index: 1
        })
    );
    // In a message it has one form.
    serde_json::from_value::<Cursor>(json!("007.01")).unwrap_err();
    let last = Cursor::end_of(4);
    assert_eq!(
        last.next(),
        Cursor {
            height: 5,
            index: 0
        }
    );
}

#[test]
fn topics_have_these_texts() {
    let gateway = id("gw-1");
    let texts = [
        GatewayTopic::Transaction.of(&gateway),
        GatewayTopic::Sync.of(&gateway),
        GatewayTopic::Receipt.of(&gateway),
        GatewayTopic::Work.of(&gateway),
    ];
    assert_eq!(
        texts,
        ["tx", "sync", "receipt", "work"].map(|level| format!("lamplighter/1/gw/gw-1/{level}"))
    );
    assert_eq!(topics::HEAD, "lamplighter/1/head");
    let mut topic = NotificationTopic {
        kind: "alarm_raised".to_owned(),
        district: "north/harbour".parse().unwrap(),
        device: id("lamp-1"),
    };
    assert_eq!(
        topic.to_string(),
        "lamplighter/1/notify/alarm_raised/north:harbour/lamp-1"
    );
    topic.district = Scope::city();
    assert_eq!(
        topic.to_string(),
        "lamplighter/1/notify/alarm_raised/-/lamp-1"
    );
    for other in [
        "lamplighter/1/notify/+/north/lamp-1",
        "lamplighter/1/notify/alarm_raised//lamp-1",
        "lamplighter/1/notify/alarm_raised/north/lamp-1/more",
        "lamplighter/1/notify/alarm_raised/north",
        "lamplighter/1/head",
    ] {
        assert_eq!(NotificationTopic::parse(other), None, "{other}");
    }
    let suffix = topics::gateway_suffix("lamplighter/1/gw/gw-1/receipt/one", &gateway);
    assert_eq!(suffix, Some("receipt/one"));
    assert_eq!(
        topics::gateway_suffix("lamplighter/1/gw/gw-10/tx", &gateway),
        None
    );
}

#[test]
fn every_fact_can_be_part_of_a_topic() {
    let facts = samples::of("facts").into_iter();
    let facts: Vec<_> = facts.filter(|sample| sample.kind == "Fact").collect();
    assert!(!facts.is_empty());
    for sample in facts {
        let kind = serde_json::from_str::<Fact>(&sample.json).unwrap().kind();
        assert!(topics::is_kind(&kind), "{kind}");
    }
}

#[test]
fn a_receipt_message_has_one_form_for_each_outcome() {
    let committed = ReceiptMessage::Committed {
        transaction: hash(1),
        height: 7,
        index: 2,
        receipt: receipt(),
    };
    let form = json!({
        "transaction": hash(1), "height": 7, "index": 2, "receipt": receipt_json(),
    });
    has_form(&committed, form);
    assert_eq!(committed.transaction(), Some(hash(1)));
    let refused = |transaction| ReceiptMessage::Refused {
        transaction,
        refused: RefusalReason {
            code: "admission.expired".to_owned(),
            message: "too late".to_owned(),
        },
    };
    let form = |transaction: Value| {
        let refused = json!({ "code": "admission.expired", "message": "too late" });
        json!({ "transaction": transaction, "refused": refused })
    };
    has_form(&refused(Some(hash(1))), form(json!(hash(1))));
    has_form(&refused(None), form(Value::Null));
    for other in [
        json!({}),
        json!({ "height": 7 }),
        json!({ "transaction": 1 }),
        json!(7),
    ] {
        serde_json::from_value::<ReceiptMessage>(other).unwrap_err();
    }
}

#[test]
fn a_refusal_is_read_in_the_form_of_an_older_node() {
    for transaction in [Some(hash(1)), None] {
        let form = json!({
            "transaction": transaction, "status": "refused", "detail": "a bad signature",
        });
        let refused = RefusalReason {
            code: problem::code::TRANSACTION_INVALID.to_owned(),
            message: "a bad signature".to_owned(),
        };
        let message = ReceiptMessage::Refused {
            transaction,
            refused,
        };
        assert_eq!(
            serde_json::from_value::<ReceiptMessage>(form).unwrap(),
            message
        );
    }
}

#[test]
fn a_receipt_message_of_a_newer_node_still_names_its_transaction() {
    let committed = json!({
        "transaction": hash(1), "height": 7, "index": 2, "receipt": receipt_json(),
    });
    let read = |form: &Value| serde_json::from_value::<ReceiptMessage>(form.clone()).unwrap();
    let mut more = committed.clone();
    more["more"] = json!("to come");
    assert_eq!(read(&more), read(&committed));
    let transaction = hash(1);
    let announced = ReceiptMessage::Announced { transaction };
    let mut field = committed.clone();
    field["receipt"]["more"] = json!("to come");
    let mut fact = committed.clone();
    fact["receipt"]["notifications"] = json!([{ "place": null, "fact": "moon_rose" }]);
    let mut outcome = committed.clone();
    outcome["receipt"]["outcome"] = json!("halfway");
    let mut status = committed;
    status["receipt"] = json!(null);
    status["status"] = json!("committed");
    for form in [
        field,
        fact,
        outcome,
        status,
        json!({ "transaction": hash(1) }),
    ] {
        assert_eq!(read(&form), announced, "{form}");
    }
    let refused = json!({ "transaction": hash(1), "refused": { "code": "x", "why": "y" } });
    assert!(matches!(read(&refused), ReceiptMessage::Refused { .. }));
}

#[test]
fn a_notification_is_a_feed_event_with_the_cursor_before_it() {
    let form = json!({
        "cursor": "7.2",
        "time_ms": 1000,
        "transaction": hash(1),
        "author": "anna",
        "notification": { "place": null, "fact": "policies_set" },
    });
    has_form(&feed_event(), form.clone());
    let mut message = NotificationMessage {
        event: feed_event(),
        previous: Some(Cursor::end_of(6)),
    };
    let mut form = form;
    form["previous"] = json!("6.4294967295");
    has_form(&message, form.clone());
    message.previous = None;
    form["previous"] = Value::Null;
    has_form(&message, form);
}

#[test]
fn what_a_submission_answers() {
    let pending = Submitted::pending(hash(1));
    has_form(
        &pending,
        json!({ "transaction": hash(1), "certified": false }),
    );
    let committed = Submitted {
        height: Some(7),
        index: Some(2),
        certified: true,
        receipt: Some(receipt()),
        ..pending
    };
    let form = json!({
        "transaction": hash(1), "height": 7, "index": 2, "certified": true,
        "receipt": receipt_json(),
    });
    has_form(&committed, form);
    for wait in [Wait::None, Wait::Committed, Wait::Certified] {
        has_form(&wait, json!(wait.to_string()));
    }
}

#[test]
fn a_page_that_is_full_has_a_next_one() {
    let page = Page::new(vec![1, 2], 2, i32::to_string);
    has_form(&page, json!({ "items": [1, 2], "next": "2" }));
    let page = Page::new(vec![1, 2], 3, i32::to_string);
    has_form(&page, json!({ "items": [1, 2] }));
    let record = RecordResponse {
        record: 1,
        changed: None,
        proof: None,
    };
    has_form(&record, json!({ "record": 1 }));
}

#[test]
fn a_reader_of_a_status_leaves_out_what_it_does_not_know() {
    let mut form = json!({
        "chain_id": hash(1), "name": "city", "version": "0.1.0", "node": 1, "height": 7,
        "protocol": { "version": 1, "next": { "version": 2, "from_height": 9 }, "known": 2 },
        "head": hash(2), "head_time_ms": 1000, "certified_height": 6, "leader": 1, "pending": 0,
        "connected": [2, 3], "halted": null,
        "alarms": [{
            "kind": "clock_offset", "height": 7, "offset_ms": 9000,
            "time_ms": 1000, "message": "clock",
        }],
        "progress": { "phase": "following", "per_second": 0 },
    });
    let status: Status = serde_json::from_value(form.clone()).unwrap();
    has_form(&status, form.clone());
    form["more"] = json!("to come");
    let unknown = json!({ "kind": "fire", "time_ms": 1000, "message": "fire" });
    form["alarms"].as_array_mut().unwrap().push(unknown);
    assert_eq!(serde_json::from_value::<Status>(form).unwrap(), status);
}

#[test]
fn a_status_is_read_from_a_node_that_sends_less() {
    let mut form = json!({ "chain_id": hash(1), "node": 2, "height": 7, "certified_height": 6 });
    let status: Status = serde_json::from_value(form.clone()).unwrap();
    assert_eq!((status.chain_id, status.node), (hash(1), 2));
    assert_eq!((status.height, status.certified_height), (7, 6));
    assert_eq!(status.progress, SyncProgress::default());
    form["progress"] = json!({ "phase": "following", "more": "to come" });
    let status: Status = serde_json::from_value(form.clone()).unwrap();
    assert_eq!(status.progress.phase, "following");
    form.as_object_mut().unwrap().remove("chain_id");
    serde_json::from_value::<Status>(form).unwrap_err();
}

#[test]
fn a_problem_is_read_from_any_answer() {
    let problem = Problem::new(404, "Not Found", problem::code::NOT_FOUND, "there is none");
    let form = json!({
        "type": "about:blank", "title": "Not Found", "status": 404, "code": "not_found",
        "detail": "there is none",
    });
    assert_eq!(serde_json::to_value(&problem).unwrap(), form);
    assert_eq!(
        Problem::from_answer(404, form.to_string().as_bytes()),
        problem
    );
    let of_a_proxy = Problem::from_answer(502, b"<html>Bad Gateway</html>");
    assert_eq!(of_a_proxy.detail, "<html>Bad Gateway</html>");
    assert_eq!((of_a_proxy.status, of_a_proxy.code.as_str()), (502, ""));
    let partial = Problem::from_answer(503, br#"{"code":"busy","more":1}"#);
    assert_eq!((partial.status, partial.code.as_str()), (503, "busy"));
}

#[test]
fn a_transaction_has_the_same_content_types_everywhere() {
    use content_type::{BYTES, JSON, transaction_encoding};
    assert_eq!(transaction_encoding(JSON), Some(Encoding::Json));
    assert_eq!(transaction_encoding(BYTES), Some(Encoding::Bincode));
    assert_eq!(
        transaction_encoding("application/x-bincode"),
        Some(Encoding::Bincode)
    );
    assert_eq!(transaction_encoding("text/plain"), None);
}
