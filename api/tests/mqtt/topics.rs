//! Every row of the topics table, allowed and refused, in both protocol versions.

use lamplighter_contracts::devices;
use lamplighter_types::wire::ReceiptMessage;
use lamplighter_types::wire::work::{
    DeviceMark, DevicesDigester, RangeDigest, SyncRequest, WorkItem, WorkMessage,
};
use lamplighter_types::{
    Action, ConfigAction, ConfigTarget, DevicesAction, Hash, Id, SignedTransaction, codec,
};

use super::raw::*;
use super::support::*;

const TX: &str = "lamplighter/1/gw/gw-1/tx";
const RECEIPT: &str = "lamplighter/1/gw/gw-1/receipt";
const WORK: &str = "lamplighter/1/gw/gw-1/work";
const SYNC: &str = "lamplighter/1/gw/gw-1/sync";
const HEAD: &str = "lamplighter/1/head";

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_acknowledged_after_admission_and_answered_by_receipts() {
    let world = world().await;
    for v5 in [false, true] {
        let mut raw = Raw::connect(world.plain, ConnectPacket::new(v5, "gw-1")).await;
        assert_eq!(raw.subscribe(RECEIPT, 1).await, 1);
        let (tx, hash) = world.transaction("gw-1");
        raw.publish(TX, 1, 9, &tx).await;
        let (first, second) = (raw.packet().await, raw.packet().await);
        let (ack, receipt) = if first.kind == PUBACK {
            (first, second)
        } else {
            (second, first)
        };
        assert_eq!((ack.kind, &ack.body[..]), (PUBACK, &[0, 9][..]));
        let (topic, id, body) = receipt.publish(v5);
        assert_eq!((topic.as_str(), id), (RECEIPT, 1));
        let message: ReceiptMessage = serde_json::from_slice(&body).unwrap();
        assert!(
            matches!(message, ReceiptMessage::Committed { transaction, .. } if transaction == hash)
        );
        raw.ack(id).await;
        raw.ping().await;
    }
    assert_eq!(world.count("admitted"), 2);
}

/// The content type of both edges, that of MQTT alone before, and JSON.
#[tokio::test(flavor = "multi_thread")]
async fn content_types_name_the_encoding() {
    let world = world().await;
    let mut raw = Raw::connect(world.plain, ConnectPacket::new(true, "gw-1")).await;
    for (content_type, is_json) in [
        ("", true),
        ("application/json", true),
        ("application/octet-stream", false),
        ("application/x-bincode", false),
    ] {
        let (mut tx, hash) = world.transaction("gw-1");
        if !is_json {
            let signed: SignedTransaction = serde_json::from_slice(&tx).unwrap();
            tx = codec::encode(&signed);
        }
        let properties = [vec![3], string(content_type)].concat();
        raw.send(&publish_with(true, TX.as_bytes(), 2, 3, &properties, &tx))
            .await;
        assert_eq!(raw.expect(PUBACK).await.body, [0, 3], "{content_type}");
        world.until_committed(&hash).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn response_topic_and_correlation_data_come_back_with_the_receipt() {
    let world = world().await;
    let mut raw = Raw::connect(world.plain, ConnectPacket::new(true, "gw-1")).await;
    raw.subscribe("lamplighter/1/gw/gw-1/receipt/+", 1).await;
    let mut properties = vec![8];
    properties.extend(string("lamplighter/1/gw/gw-1/receipt/pump"));
    properties.push(9);
    properties.extend(string("seven"));
    let (tx, hash) = world.transaction("gw-1");
    raw.send(&publish_with(true, TX.as_bytes(), 2, 3, &properties, &tx))
        .await;
    let (first, second) = (raw.packet().await, raw.packet().await);
    let (ack, receipt) = if first.kind == PUBACK {
        (first, second)
    } else {
        (second, first)
    };
    assert_eq!(ack.body, [0, 3]);
    let text = String::from_utf8_lossy(&receipt.body).into_owned();
    assert!(text.contains("receipt/pump") && text.contains("seven"));
    assert!(
        text.matches(&hash.to_string()).count() >= 2,
        "keyed by the transaction's hash: {text}"
    );

    let mut properties = vec![8];
    properties.extend(string("lamplighter/1/gw/gw-2/receipt"));
    raw.send(&publish_with(true, TX.as_bytes(), 2, 4, &properties, &tx))
        .await;
    assert_eq!(
        raw.until(PUBACK).await.body[2],
        0x87,
        "another's response topic"
    );
}

/// The next message on the work topic.
async fn work(raw: &mut Raw) -> WorkMessage {
    let (topic, packet_id, body) = raw.expect(PUBLISH).await.publish(raw.v5);
    assert_eq!(topic, WORK);
    raw.ack(packet_id).await;
    WorkMessage::from_json(&body, &id("gw-1")).unwrap()
}

fn set_desired(device: &Id, document: &str, replaces_version: u64) -> Action {
    let device = device.clone();
    Action::Config(ConfigAction::SetDesired {
        target: ConfigTarget::Device { device },
        document: document.to_owned(),
        replaces_version,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn work_comes_on_subscribing_on_sync_and_on_reconnecting() {
    let world = world().await;
    let device = id("lamp-1");
    let all = [WorkItem::Device {
        device: device.clone(),
    }];
    // The empty document leaves no record, so that the numbers begin anew.
    for (v5, version) in [(false, 0), (true, 0)] {
        let kept = || ConnectPacket::new(v5, "gw-1").keep();
        let mut raw = Raw::connect(world.plain, kept()).await;
        assert_eq!(raw.subscribe(WORK, 1).await, 1);
        // A configuration that was set before may come first.
        while work(&mut raw).await.items != all {}
        for body in [&b"{}"[..], br#"{"since":null}"#, br#"{"since":"12.3"}"#] {
            assert_eq!(raw.publish_acked(SYNC, 5, body).await, 0);
            assert_eq!(work(&mut raw).await.items, all, "all of it");
        }
        world
            .act(set_desired(&device, r#"{"level":1}"#, version))
            .await;
        let item = WorkItem::Config {
            device: device.clone(),
        };
        assert_eq!(work(&mut raw).await.items, [item]);
        raw.ping().await;
        drop(raw);
        let (mut raw, _, present) = Raw::try_connect(world.plain, kept()).await;
        assert!(present);
        // Without asking again; what is still open may come first.
        while !work(&mut raw).await.items.contains(&all[0]) {}
        Raw::connect(world.plain, ConnectPacket::new(v5, "gw-1")).await;
        world.act(set_desired(&device, "{}", version + 1)).await;
    }
}

/// The sync request with the digest of a range of devices, JSON.
fn digests(ranges: &[(Option<&str>, Option<&str>, &DevicesDigester)]) -> Vec<u8> {
    let range = |(after, until, digester): &(Option<&str>, Option<&str>, &DevicesDigester)| {
        let (count, digest) = digester.finish();
        RangeDigest {
            after: after.map(id),
            until: until.map(id),
            count,
            digest,
        }
    };
    let request = SyncRequest {
        ranges: ranges.iter().map(range).collect(),
        ..SyncRequest::default()
    };
    serde_json::to_vec(&request).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_that_differs_is_asked_for_and_an_equal_one_costs_nothing() {
    let world = world().await;
    let mut raw = Raw::connect(world.plain, ConnectPacket::new(true, "gw-1")).await;
    assert_eq!(raw.subscribe(WORK, 1).await, 1);
    let (view, _) = world.handle.view().unwrap();
    let device = devices::device(&view, &id("lamp-1")).unwrap().unwrap();
    let all = [WorkItem::Device {
        device: id("lamp-1"),
    }];
    let (nothing, mut same, mut other) =
        <(DevicesDigester, DevicesDigester, DevicesDigester)>::default();
    same.add(&id("lamp-1"), &DeviceMark::of(&device));
    other.add(&id("lamp-9"), &DeviceMark::of(&device));
    // A gateway that holds nothing gets it at once.
    let empty = digests(&[(None, None, &nothing)]);
    assert_eq!(raw.publish_acked(SYNC, 5, &empty).await, 0);
    assert_eq!(work(&mut raw).await.items, all);
    // Of two ranges, only the one that differs is asked for.
    let two = digests(&[
        (None, Some("lamp-0"), &other),
        (Some("lamp-0"), None, &same),
    ]);
    assert_eq!(raw.publish_acked(SYNC, 6, &two).await, 0);
    let message = work(&mut raw).await;
    let asked = WorkItem::Range {
        after: None,
        until: Some(id("lamp-0")),
    };
    assert_eq!(message.items, [asked]);
    assert!(message.proofs.records.is_empty());
    // The answer names a device that is not, or no longer, its own: its absence is proven.
    let held = br#"{"devices":{"until":"lamp-0","devices":{"lamp":"00"}}}"#;
    assert_eq!(raw.publish_acked(SYNC, 7, held).await, 0);
    let message = work(&mut raw).await;
    let absent = WorkItem::Device { device: id("lamp") };
    assert_eq!(message.items, [absent]);
    for malformed in [
        digests(&[(None, None, &same), (None, None, &same)]),
        digests(&[(Some("b"), None, &same), (None, Some("b"), &same)]),
        digests(&[(None, None, &same); 65]),
        br#"{"devices":{"devices":{}},"ranges":[{"count":0,"digest":""}]}"#.to_vec(),
    ] {
        assert_eq!(raw.publish_acked(SYNC, 8, &malformed).await, 0x99);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_head_is_retained_and_reaches_all_subscribers() {
    let world = world().await;
    world.certified().await;
    let mut clients = Vec::new();
    for (v5, name) in [
        (false, "gw-1"),
        (true, "gw-2"),
        (false, "ann"),
        (true, "eve"),
    ] {
        let mut raw = Raw::connect(world.plain, ConnectPacket::new(v5, name)).await;
        assert_eq!(raw.subscribe(HEAD, 1).await, 1);
        let retained = raw.expect(PUBLISH).await;
        assert_eq!(retained.flags & 1, 1);
        assert!(head_height(&retained.publish(v5).2) > 0);
        clients.push(raw);
    }
    world.tag(&["lamp-1"]).await;
    let height = world.certified().await;
    for raw in &mut clients {
        loop {
            let head = raw.expect(PUBLISH).await;
            let (topic, id, body) = head.publish(raw.v5);
            assert_eq!((head.flags & 1, topic.as_str()), (0, HEAD));
            raw.ack(id).await;
            if head_height(&body) >= height {
                break;
            }
        }
    }
    // Subscribing again sends the retained one again, unless MQTT 5 says otherwise.
    let raw = &mut clients[1];
    raw.send(&subscribe(true, 5, &[(HEAD, 0x11)])).await;
    raw.expect(SUBACK).await;
    raw.expect_silence().await;
    raw.send(&subscribe(true, 5, &[(HEAD, 0x01)])).await;
    raw.expect(SUBACK).await;
    assert_eq!(raw.expect(PUBLISH).await.flags & 1, 1);
}

/// A head that waits for the client's window is still sent after a SUBSCRIBE to something else.
#[tokio::test(flavor = "multi_thread")]
async fn another_filter_does_not_take_the_place_of_the_newest_head() {
    let world = world().await;
    let connect = ConnectPacket {
        window: Some(1),
        ..ConnectPacket::new(true, "gw-1")
    };
    let mut raw = Raw::connect(world.plain, connect).await;
    raw.subscribe(HEAD, 1).await;
    raw.expect(PUBLISH).await;
    world.tag(&["lamp-1"]).await;
    let (_, mut unacknowledged, mut sent) = raw.expect(PUBLISH).await.publish(true);
    let mut other = Raw::connect(world.plain, ConnectPacket::new(true, "gw-2")).await;
    other.subscribe(HEAD, 0).await;
    // On a slow machine a newer head may take the place of the newest; not each time.
    for _ in 0..5 {
        world.tag(&["lamp-1"]).await;
        let newest = loop {
            let height = head_height(&other.expect(PUBLISH).await.publish(true).2);
            if height > head_height(&sent) {
                break height;
            }
        };
        assert_eq!(raw.subscribe(RECEIPT, 1).await, 1);
        raw.ack(unacknowledged).await;
        (_, unacknowledged, sent) = raw.expect(PUBLISH).await.publish(true);
        if head_height(&sent) == newest {
            return;
        }
    }
    panic!("the newest head was never sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_reach_the_users_of_their_districts() {
    let world = world().await;
    for v5 in [false, true] {
        let mut ann = Raw::connect(world.plain, ConnectPacket::new(v5, "ann")).await;
        let mut root = Raw::connect(world.plain, ConnectPacket::new(v5, "root")).await;
        for (filter, qos) in [
            ("lamplighter/1/notify/device_tagged/+/+", 1),
            ("lamplighter/1/notify/+/south/lamp-9", 0),
        ] {
            assert_eq!(ann.subscribe(filter, qos).await, qos);
        }
        assert_eq!(
            root.subscribe("lamplighter/1/notify/+/+/+", 2).await,
            1,
            "QoS 2 is 1"
        );
        world
            .tag(&["lamp-1", "lamp-2", "lamp-9", "lamp-3", "lamp-4"])
            .await;
        let suspend = |reason: &str| {
            let (device, reason) = (id("lamp-1"), reason.to_owned());
            Action::Devices(DevicesAction::Suspend { device, reason })
        };
        world.act(suspend("not for this filter of ann")).await;
        let device = id("lamp-1");
        world
            .act(Action::Devices(DevicesAction::Resume { device }))
            .await;
        let tagged = [
            "device_tagged/north/lamp-1",
            "device_tagged/harbour/lamp-2",
            "device_tagged/south/lamp-9",
            "device_tagged/south:quay/lamp-3",
            "device_tagged/-/lamp-4",
            "device_suspended/north/lamp-1",
            "device_resumed/north/lamp-1",
        ];
        assert_eq!(read_notifications(&mut root, 7).await, tagged);
        let hers = [tagged[0], tagged[2], tagged[3]];
        assert_eq!(read_notifications(&mut ann, 3).await, hers);
        ann.expect_silence().await;
    }
}

/// Reads notifications, and returns their topics.
async fn read_notifications(raw: &mut Raw, count: usize) -> Vec<String> {
    let mut topics = Vec::new();
    for _ in 0..count {
        let (topic, id, body) = raw.expect(PUBLISH).await.publish(raw.v5);
        raw.ack(id).await;
        let topic = topic.strip_prefix("lamplighter/1/notify/").unwrap();
        let place = &json(&body)["notification"]["place"];
        assert!(topic.ends_with(place["device"].as_str().unwrap()));
        topics.push(topic.to_owned());
    }
    topics
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_and_unlisted_topics_are_refused() {
    let world = world().await;
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
    for (name, filter) in filters {
        for (v5, code) in [(false, 0x80), (true, 0x87)] {
            let mut raw = Raw::connect(world.plain, ConnectPacket::new(v5, name)).await;
            assert_eq!(raw.subscribe(filter, 1).await, code, "{name} {filter}");
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
        let mut raw = Raw::connect(world.plain, ConnectPacket::new(true, id)).await;
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
        let mut raw = Raw::connect(world.plain, ConnectPacket::new(false, id)).await;
        raw.publish(topic, 1, 1, b"x").await;
        assert_eq!(raw.expect_closed().await, None, "{id} {topic}");
    }
    assert_eq!(world.count("admitted"), 0);
    assert!(world.count("forbidden") > 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscribe_is_answered_filter_by_filter() {
    let world = world().await;
    let mut raw = Raw::connect(world.plain, ConnectPacket::new(true, "gw-1")).await;
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
    assert_eq!(raw.until(UNSUBACK).await.body[3..], [0, 0x11, 0x11]);
    world.tag(&["lamp-1"]).await;
    raw.expect_silence().await;
    let mut raw = Raw::connect(world.plain, ConnectPacket::new(false, "gw-2")).await;
    raw.send(&unsubscribe(false, 4, &["never"])).await;
    assert_eq!(raw.expect(UNSUBACK).await.body, [0, 4]);
}

/// A transaction with another signature.
fn forged(world: &World, gateway: &str) -> (Vec<u8>, Hash) {
    let (tx, hash) = world.transaction(gateway);
    let mut signed: SignedTransaction = serde_json::from_slice(&tx).unwrap();
    signed.signature.0[0] ^= 1;
    (serde_json::to_vec(&signed).unwrap(), hash)
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_transactions() {
    let world = world().await;
    let mut raw = Raw::connect(world.plain, ConnectPacket::new(true, "gw-1")).await;
    let bad = publish(true, TX.as_bytes(), 1, 1, &forged(&world, "gw-1").0);
    raw.send(&bad).await;
    let ack = raw.expect(PUBACK).await;
    assert_eq!(ack.body[2], 0x99);
    assert!(String::from_utf8_lossy(&ack.body).contains("signature"));
    let tx = world.tx("gw-1");
    let odd = publish_with(true, TX.as_bytes(), 2, 2, &[3, 0, 1, b'x'], &tx);
    raw.send(&odd).await;
    assert_eq!(
        raw.expect(PUBACK).await.body[2],
        0x99,
        "unknown content type"
    );
    let foreign = world.tx("gw-2");
    assert_eq!(raw.publish_acked(TX, 3, &foreign).await, 0x87);
    assert_eq!(raw.publish_acked(TX, 3, b"no transaction").await, 0x99);
    assert_eq!(raw.publish_acked(SYNC, 3, b"{\"since\":\"x\"}").await, 0x99);
    assert_eq!(
        raw.publish_acked(SYNC, 3, b"{\"since\":\"1.2\",\"more\":1}")
            .await,
        0x99
    );

    // The PUBACK of MQTT 3.1.1 has no reason, nor has anything at QoS 0.
    let mut old = Raw::connect(world.plain, ConnectPacket::new(false, "gw-2")).await;
    old.subscribe("lamplighter/1/gw/gw-2/receipt", 0).await;
    let (bad, hash) = forged(&world, "gw-2");
    old.publish("lamplighter/1/gw/gw-2/tx", 0, 0, &bad).await;
    old.publish("lamplighter/1/gw/gw-2/tx", 0, 0, b"no transaction")
        .await;
    for (transaction, code) in [
        (Some(hash), "transaction.invalid"),
        (None, "transaction.malformed"),
    ] {
        let (_, _, body) = old.expect(PUBLISH).await.publish(false);
        let message: ReceiptMessage = serde_json::from_slice(&body).unwrap();
        let ReceiptMessage::Refused {
            transaction: of,
            refused,
        } = message
        else {
            panic!("{message:?}");
        };
        assert_eq!((of, refused.code.as_str()), (transaction, code));
    }
    assert_eq!(world.count("admitted"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_ledger() {
    let world = world().await;
    let mut raw = Raw::connect(world.plain, ConnectPacket::new(true, "gw-1")).await;
    let mut old = Raw::connect(world.plain, ConnectPacket::new(false, "gw-2")).await;
    world.set_busy(true);
    assert_eq!(raw.publish_acked(TX, 4, &world.tx("gw-1")).await, 0x97);
    // MQTT 3.1.1 has no "busy": the edge tries again, then closes without PUBACK.
    let (tx, hash) = world.transaction("gw-2");
    let topic = "lamplighter/1/gw/gw-2/tx";
    old.publish(topic, 1, 2, &tx).await;
    old.expect_silence().await;
    assert!(!world.is_committed(&hash));
    world.set_busy(false);
    assert_eq!(old.expect(PUBACK).await.body, [0, 2]);
    world.until_committed(&hash).await;
    world.set_busy(true);
    old.publish(topic, 1, 3, &world.tx("gw-2")).await;
    assert_eq!(old.next().await, None, "closed without PUBACK");
}
