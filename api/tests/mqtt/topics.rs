//! Every row of the topics table, allowed and refused, in both protocol versions.

use std::sync::atomic::Ordering;

use super::raw::*;
use super::support::*;

const TX: &str = "lamplighter/1/gw/gw-1/tx";
const RECEIPT: &str = "lamplighter/1/gw/gw-1/receipt";
const WORK: &str = "lamplighter/1/gw/gw-1/work";
const SYNC: &str = "lamplighter/1/gw/gw-1/sync";
const HEAD: &str = "lamplighter/1/head";

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_acknowledged_after_admission_and_answered_by_receipts() {
    let world = world();
    world.ledger.receipts.store(true, Ordering::Relaxed);
    for v5 in [false, true] {
        let mut raw = Raw::connect(world.plain, Hello::new(v5, "gw-1")).await;
        assert_eq!(raw.subscribe(RECEIPT, 1).await, 1);
        let payload = format!("tx over v5={v5}");
        raw.publish(TX, 1, 9, payload.as_bytes()).await;
        let (first, second) = (raw.packet().await, raw.packet().await);
        let (ack, receipt) = if first.kind == PUBACK {
            (first, second)
        } else {
            (second, first)
        };
        assert_eq!((ack.kind, &ack.body[..]), (PUBACK, &[0, 9][..]));
        let (topic, id, body) = receipt.publish(v5);
        assert_eq!((topic.as_str(), id), (RECEIPT, 1));
        assert_eq!(body, format!("receipt of {payload}").as_bytes());
        raw.ack(id).await;
        raw.ping().await;
    }
    assert_eq!(world.ledger.taken_by("gw-1").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn response_topic_and_correlation_data_come_back_with_the_receipt() {
    let world = world();
    let mut raw = Raw::connect(world.plain, Hello::new(true, "gw-1")).await;
    raw.subscribe("lamplighter/1/gw/gw-1/receipt/+", 1).await;
    let mut properties = vec![8];
    properties.extend(string("lamplighter/1/gw/gw-1/receipt/mine"));
    properties.push(9);
    properties.extend(string("seven"));
    raw.send(&publish_with(true, TX.as_bytes(), 2, 3, &properties, b"tx"))
        .await;
    assert_eq!(raw.expect(PUBACK).await.body, [0, 3]);
    world
        .publisher
        .publish_receipt("gw-1", hash(b"tx"), "done".into())
        .unwrap();
    let receipt = raw.expect(PUBLISH).await;
    let text = String::from_utf8_lossy(&receipt.body).into_owned();
    assert!(text.contains("receipt/mine") && text.contains("seven") && text.ends_with("done"));
    assert!(
        text.contains(&hex::encode(hash(b"tx"))),
        "keyed by the transaction's hash"
    );

    let mut properties = vec![8];
    properties.extend(string("lamplighter/1/gw/gw-2/receipt"));
    raw.send(&publish_with(true, TX.as_bytes(), 2, 4, &properties, b"tx"))
        .await;
    assert_eq!(
        raw.expect(PUBACK).await.body[2],
        0x87,
        "another's response topic"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn work_comes_on_subscribing_on_sync_and_on_reconnecting() {
    let world = world();
    for v5 in [false, true] {
        let mut raw = Raw::connect(world.plain, Hello::new(v5, "gw-1").keep()).await;
        assert_eq!(raw.subscribe(WORK, 1).await, 1);
        let (topic, id, body) = raw.expect(PUBLISH).await.publish(v5);
        assert_eq!(
            (topic.as_str(), &body[..]),
            (WORK, &b"work since the start"[..])
        );
        raw.ack(id).await;
        assert_eq!(raw.publish_acked(SYNC, 5, br#"{"since":"12.3"}"#).await, 0);
        let (_, id, body) = raw.expect(PUBLISH).await.publish(v5);
        assert_eq!(body, b"work since 12.3");
        raw.ack(id).await;
        world.publisher.publish_work("gw-1", "more".into()).unwrap();
        let (_, id, body) = raw.expect(PUBLISH).await.publish(v5);
        assert_eq!(body, b"more");
        raw.ack(id).await;
        raw.ping().await;
        drop(raw);
        let (mut raw, _, present) =
            Raw::try_connect(world.plain, Hello::new(v5, "gw-1").keep()).await;
        assert!(present);
        let (_, _, body) = raw.expect(PUBLISH).await.publish(v5);
        assert_eq!(
            body, b"work since the start",
            "asked again without being told"
        );
        Raw::connect(world.plain, Hello::new(v5, "gw-1")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_head_is_kept_for_later_subscribers_and_goes_to_everybody() {
    let world = world();
    world.publisher.publish_head("head 1".into()).unwrap();
    let mut clients = Vec::new();
    for (v5, id) in [
        (false, "gw-1"),
        (true, "gw-2"),
        (false, "ann"),
        (true, "eve"),
    ] {
        let mut raw = Raw::connect(world.plain, Hello::new(v5, id)).await;
        assert_eq!(raw.subscribe(HEAD, 1).await, 1);
        let kept = raw.expect(PUBLISH).await;
        assert_eq!(
            (kept.flags & 1, &kept.publish(v5).2[..]),
            (1, &b"head 1"[..])
        );
        clients.push(raw);
    }
    world.publisher.publish_head("head 2".into()).unwrap();
    for raw in &mut clients {
        let head = raw.expect(PUBLISH).await;
        let (topic, id, body) = head.publish(raw.v5);
        assert_eq!(
            (head.flags & 1, topic.as_str(), &body[..]),
            (0, HEAD, &b"head 2"[..])
        );
        raw.ack(id).await;
    }
    // Subscribing again sends the kept one again, unless MQTT 5 says otherwise.
    let raw = &mut clients[1];
    raw.send(&subscribe(true, 5, &[(HEAD, 0x11)])).await;
    raw.expect(SUBACK).await;
    raw.expect_silence().await;
    raw.send(&subscribe(true, 5, &[(HEAD, 0x01)])).await;
    raw.expect(SUBACK).await;
    assert_eq!(raw.expect(PUBLISH).await.publish(true).2, b"head 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_reach_the_users_whose_districts_they_are_of() {
    let world = world();
    for v5 in [false, true] {
        let mut ann = Raw::connect(world.plain, Hello::new(v5, "ann")).await;
        let mut root = Raw::connect(world.plain, Hello::new(v5, "root")).await;
        assert_eq!(ann.subscribe("lamplighter/1/notify/alarm/+/+", 1).await, 1);
        assert_eq!(
            ann.subscribe("lamplighter/1/notify/+/south/lamp-9", 0)
                .await,
            0
        );
        assert_eq!(
            root.subscribe("lamplighter/1/notify/+/+/+", 2).await,
            1,
            "QoS 2 is 1"
        );
        let notify = |kind, district, device| {
            let text = format!("{kind} {district} {device}");
            world
                .publisher
                .notify(kind, district, device, text.into())
                .unwrap();
        };
        notify("alarm", "north", "lamp-1");
        notify("alarm", "harbour", "lamp-2");
        notify("event", "north", "lamp-1");
        notify("event", "south", "lamp-9");
        notify("alarm", "south/quay", "lamp-3");
        notify("alarm", "", "lamp-4");
        let ann_wants = &[
            "alarm north lamp-1",
            "event south lamp-9",
            "alarm south/quay lamp-3",
        ];
        let root_wants = &[
            "alarm north lamp-1",
            "alarm harbour lamp-2",
            "event north lamp-1",
            "event south lamp-9",
            "alarm south/quay lamp-3",
            "alarm  lamp-4",
        ];
        for (raw, wanted) in [(&mut ann, &ann_wants[..]), (&mut root, &root_wants[..])] {
            let mut got = read_notifications(raw, wanted.len()).await;
            got.sort();
            let mut wanted = wanted.to_vec();
            wanted.sort_unstable();
            // Districts have logs of their own, so their order among each other is open.
            assert!(raw_eq(&got, &wanted), "{got:?}");
        }
    }
    assert!(
        world
            .publisher
            .notify("a/b", "north", "lamp", "x".into())
            .is_err()
    );
}

/// Reads notifications, whose payload says which they are, and checks their topics.
async fn read_notifications(raw: &mut Raw, count: usize) -> Vec<String> {
    let mut got = Vec::new();
    for _ in 0..count {
        let (topic, id, body) = raw.expect(PUBLISH).await.publish(raw.v5);
        let text = String::from_utf8(body).unwrap();
        let place = text.replace('/', ":").replace("  ", " - ");
        let place = place.replace(' ', "/");
        assert_eq!(topic, format!("lamplighter/1/notify/{place}"));
        if id > 0 {
            raw.ack(id).await;
        }
        got.push(text);
    }
    got
}

fn raw_eq(got: &[String], wanted: &[&str]) -> bool {
    got.iter().map(String::as_str).eq(wanted.iter().copied())
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_and_unlisted_topics_are_refused() {
    let world = world();
    let filters = [
        ("gw-1", "lamplighter/1/gw/gw-2/receipt"),
        ("gw-1", "lamplighter/1/gw/gw-2/work"),
        ("gw-1", "lamplighter/1/gw/+/work"),
        ("gw-1", "lamplighter/1/gw/gw-1/tx"),
        ("gw-1", "lamplighter/1/gw/gw-1/#"),
        ("gw-1", "lamplighter/1/notify/alarm/north/+"),
        ("gw-1", "lamplighter/1/#"),
        ("gw-1", "#"),
        ("gw-1", "other"),
        ("ann", "lamplighter/1/gw/gw-1/work"),
        ("ann", "lamplighter/1/gw/ann/work"),
        ("ann", "lamplighter/1/notify/alarm/harbour/+"),
        ("ann", "lamplighter/1/notify/alarm/north"),
        ("ann", "lamplighter/1/notify/alarm/-/+"),
        ("ann", "lamplighter/1/notify/alarm/northern/+"),
        ("ann", "lamplighter/1/notify/alarm/north:/+"),
        ("ann", "lamplighter/1/notify/#"),
        ("eve", "lamplighter/1/notify/alarm/north/+"),
        ("eve", "lamplighter/1/notify/+/+/+"),
    ];
    for (id, filter) in filters {
        for (v5, code) in [(false, 0x80), (true, 0x87)] {
            let mut raw = Raw::connect(world.plain, Hello::new(v5, id)).await;
            assert_eq!(raw.subscribe(filter, 1).await, code, "{id} {filter}");
            raw.ping().await;
        }
    }
    let topics = [
        ("gw-1", "lamplighter/1/gw/gw-2/tx"),
        ("gw-1", "lamplighter/1/gw/gw-2/sync"),
        ("gw-1", RECEIPT),
        ("gw-1", WORK),
        ("gw-1", HEAD),
        ("gw-1", "lamplighter/1/notify/alarm/north/lamp-1"),
        ("gw-1", "anything"),
        ("ann", "lamplighter/1/gw/ann/tx"),
        ("ann", TX),
        ("root", HEAD),
    ];
    for (id, topic) in topics {
        let mut raw = Raw::connect(world.plain, Hello::new(true, id)).await;
        assert_eq!(
            raw.publish_acked(topic, 1, b"x").await,
            0x87,
            "{id} {topic}"
        );
        raw.publish(topic, 2, 2, b"x").await;
        assert_eq!(raw.expect(PUBREC).await.body[..3], [0, 2, 0x87]);
        raw.ping().await;
        raw.publish(topic, 0, 0, b"x").await;
        assert_eq!(
            raw.expect_closed().await,
            Some(0x87),
            "no answer at QoS 0 but the end"
        );
        let mut raw = Raw::connect(world.plain, Hello::new(false, id)).await;
        raw.publish(topic, 1, 1, b"x").await;
        assert_eq!(raw.expect_closed().await, None, "{id} {topic}");
    }
    assert!(world.ledger.taken.lock().unwrap().is_empty());
    assert!(world.count("forbidden") > 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscribe_is_answered_filter_by_filter() {
    let world = world();
    let mut raw = Raw::connect(world.plain, Hello::new(true, "gw-1")).await;
    let filters = [
        (HEAD, 0),
        ("lamplighter/1/gw/gw-2/work", 1),
        (RECEIPT, 2),
        ("$share/a/b", 1),
    ];
    raw.send(&subscribe(true, 3, &filters)).await;
    assert_eq!(raw.expect(SUBACK).await.body[3..], [0, 0x87, 1, 0x9e]);
    raw.send(&unsubscribe(true, 4, &[HEAD, HEAD, "never"]))
        .await;
    assert_eq!(raw.expect(UNSUBACK).await.body[3..], [0, 0x11, 0x11]);
    world.publisher.publish_head("head".into()).unwrap();
    raw.expect_silence().await;
    let mut raw = Raw::connect(world.plain, Hello::new(false, "gw-2")).await;
    raw.send(&unsubscribe(false, 4, &["never"])).await;
    assert_eq!(raw.expect(UNSUBACK).await.body, [0, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_and_busy_transactions() {
    let world = world();
    let mut raw = Raw::connect(world.plain, Hello::new(true, "gw-1")).await;
    let bad = publish(true, TX.as_bytes(), 1, 1, b"bad signature");
    raw.send(&bad).await;
    let ack = raw.expect(PUBACK).await;
    assert_eq!(ack.body[2], 0x99);
    assert!(String::from_utf8_lossy(&ack.body).contains("the signature does not match"));
    let odd = publish_with(true, TX.as_bytes(), 2, 2, &[3, 0, 1, b'x'], b"tx");
    raw.send(&odd).await;
    assert_eq!(
        raw.expect(PUBACK).await.body[2],
        0x99,
        "unknown content type"
    );
    assert_eq!(raw.publish_acked(SYNC, 3, b"{\"since\":\"x\"}").await, 0x99);
    assert_eq!(
        raw.publish_acked(SYNC, 3, b"{\"since\":\"1.2\",\"more\":1}")
            .await,
        0x99
    );

    let mut old = Raw::connect(world.plain, Hello::new(false, "gw-2")).await;
    old.subscribe("lamplighter/1/gw/gw-2/receipt", 0).await;
    old.publish("lamplighter/1/gw/gw-2/tx", 1, 1, b"bad signature")
        .await;
    let (first, second) = (old.packet().await, old.packet().await);
    let receipt = if first.kind == PUBLISH { first } else { second };
    let (_, _, body) = receipt.publish(false);
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["status"], "refused");
    assert_eq!(body["transaction"], hex::encode(hash(b"bad signature")));

    world.ledger.busy.store(true, Ordering::Relaxed);
    assert_eq!(raw.publish_acked(TX, 4, b"tx").await, 0x97);
    assert_eq!(world.ledger.taken_by("gw-1").len(), 0);
    // MQTT 3.1.1 cannot say "busy": the guard tries again, then closes without PUBACK.
    old.publish("lamplighter/1/gw/gw-2/tx", 1, 2, b"patient")
        .await;
    let offers = world.ledger.offers.load(Ordering::Relaxed);
    world
        .ledger
        .until("more offers", |l| {
            l.offers.load(Ordering::Relaxed) > offers + 2
        })
        .await;
    world.ledger.busy.store(false, Ordering::Relaxed);
    assert_eq!(old.expect(PUBACK).await.body, [0, 2]);
    world.ledger.busy.store(true, Ordering::Relaxed);
    old.publish("lamplighter/1/gw/gw-2/tx", 1, 3, b"patient")
        .await;
    assert_eq!(old.next().await, None, "closed without PUBACK");
}
