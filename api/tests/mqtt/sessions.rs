//! Sessions outlive connections, and one connection replaces another.

use std::collections::BTreeSet;
use std::time::Duration;

use lamplighter_types::wire::NotificationMessage;

use super::raw::*;
use super::support::*;

const TX: &str = "lamplighter/1/gw/gw-1/tx";
const RECEIPT: &str = "lamplighter/1/gw/gw-1/receipt";

/// The transaction of a receipt.
fn transaction_of(body: &[u8]) -> String {
    json(body)["transaction"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn qos_1_is_delivered_again_over_a_new_connection_until_acknowledged() {
    let world = world().await;
    for v5 in [false, true] {
        let kept = || ConnectPacket::new(v5, "gw-1").keep();
        let mut raw = Raw::connect(world.plain, kept()).await;
        raw.subscribe(RECEIPT, 1).await;
        let sent: Vec<_> = (0..3).map(|_| world.transaction("gw-1")).collect();
        let mut received = Vec::new();
        for (tx, _) in &sent[..2] {
            raw.publish(TX, 0, 0, tx).await;
            received.push(raw.expect(PUBLISH).await.publish(v5));
        }
        for ((_, hash), (_, _, body)) in sent.iter().zip(&received) {
            assert_eq!(transaction_of(body), hash.to_string());
        }
        raw.ack(received[0].1).await;
        raw.ping().await;
        raw.publish(TX, 0, 0, &sent[2].0).await;
        drop(raw);
        world
            .until_count("connected", |connected| connected == 0)
            .await;
        world.until_committed(&sent[2].1).await;
        let (mut raw, _, present) = Raw::try_connect(world.plain, kept()).await;
        assert!(present);
        for (n, (_, hash)) in sent.iter().enumerate().skip(1) {
            let packet = raw.expect(PUBLISH).await;
            let (_, id, body) = packet.publish(v5);
            assert_eq!(transaction_of(&body), hash.to_string());
            // The third may have been on its way when the connection ended.
            assert!(n == 2 || packet.flags & 8 == 8, "marked DUP");
            raw.ack(id).await;
        }
        raw.ping().await;
        drop(raw);
        let (mut raw, _, present) =
            Raw::try_connect(world.plain, ConnectPacket::new(v5, "gw-1")).await;
        assert!(!present, "a clean start");
        raw.expect_silence().await;
    }
    assert_eq!(world.count("mailbox_bytes"), 0);
}

/// The device in the payload of a notification.
fn device_of(body: &[u8]) -> String {
    let place = &json(body)["notification"]["place"];
    place["device"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_session_gets_the_notifications_since_it_ended() {
    let world = world().await;
    for v5 in [false, true] {
        let kept = || ConnectPacket::new(v5, "ann").keep();
        let mut ann = Raw::connect(world.plain, kept()).await;
        ann.subscribe("lamplighter/1/notify/+/+/+", 1).await;
        world.tag(&["lamp-1"]).await;
        let (_, _, body) = ann.expect(PUBLISH).await.publish(v5);
        assert_eq!(device_of(&body), "lamp-1");
        drop(ann);
        world
            .until_count("connected", |connected| connected == 0)
            .await;
        world.tag(&["lamp-9", "lamp-2", "lamp-3"]).await;
        let (mut ann, _, present) = Raw::try_connect(world.plain, kept()).await;
        assert!(present);
        // The first was not acknowledged; harbour is not hers.
        for (device, flag) in [("lamp-1", 8), ("lamp-9", 0), ("lamp-3", 0)] {
            let packet = ann.expect(PUBLISH).await;
            let (_, id, body) = packet.publish(v5);
            assert_eq!(
                (device_of(&body).as_str(), packet.flags & 8),
                (device, flag)
            );
            ann.ack(id).await;
        }
        world.tag(&["lamp-1"]).await;
        let (_, _, body) = ann.expect(PUBLISH).await.publish(v5);
        assert_eq!(device_of(&body), "lamp-1");
        // A clean start ends the session.
        let mut ann = Raw::connect(world.plain, ConnectPacket::new(v5, "ann")).await;
        world.tag(&["lamp-1"]).await;
        ann.expect_silence().await;
        drop(ann);
        let (mut ann, _, present) = Raw::try_connect(world.plain, kept()).await;
        assert!(!present);
        ann.expect_silence().await;
        Raw::connect(world.plain, ConnectPacket::new(v5, "ann")).await;
        world
            .until_count("connected", |connected| connected == 0)
            .await;
    }
}

/// The old connection holds the account for a while, as its client does not take the DISCONNECT.
/// Of two new ones that wait for that, the newer one supersedes the other, which gets no CONNACK.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_superseded_before_its_connack_leaves_the_session_as_it_was() {
    const BLOCKS: usize = 4;
    let world = world().await;
    let connect = || ConnectPacket::new(true, "root").keep();
    let mut stuck = Raw::connect(world.plain, connect()).await;
    stuck.subscribe("lamplighter/1/notify/+/+/+", 0).await;
    let mut good = Raw::connect(world.plain, ConnectPacket::new(true, "ann")).await;
    good.subscribe("lamplighter/1/notify/+/north/+", 0).await;
    for block in 0..BLOCKS {
        world
            .register_many(&format!("n{block}"), "north", 1000)
            .await;
        for _ in 0..1000 {
            good.expect(PUBLISH).await;
        }
    }
    let delivered_to_stuck = world.count("delivered") - (BLOCKS * 1000) as u64;
    assert!(delivered_to_stuck < (BLOCKS * 1000) as u64);
    let mut first = Raw::open(world.plain, true).await;
    let mut second = Raw::open(world.plain, true).await;
    let packet = connect().bytes();
    first.send(&packet).await;
    second.send(&packet).await;
    let (mut back, connack) = match futures::join!(first.next(), second.next()) {
        (None, Some(connack)) => (second, connack),
        (Some(connack), None) => (first, connack),
        (first, second) => panic!("{first:?} {second:?}"),
    };
    assert_eq!((connack.kind, &connack.body[..2]), (CONNACK, &[1, 0][..]));
    // It continues where the first one ended.
    let last = format!("n{}-{:061}", BLOCKS - 1, 999);
    while device_of(&back.expect(PUBLISH).await.publish(true).2) != last {}
    back.ping().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_is_unreadable_for_a_while_closes_no_connection() {
    let world = world().await;
    let kept = || ConnectPacket::new(true, "root").keep();
    let mut root = Raw::connect(world.plain, kept()).await;
    root.subscribe("lamplighter/1/notify/+/+/+", 1).await;
    drop(root);
    world.until_count("connected", |count| count == 0).await;
    world.tag(&["lamp-1"]).await;
    // The notifications of the newest blocks are in memory: the missed one is in none of these.
    world.tag(&["lamp-2"; 4]).await;
    world.store.set_unreadable(true);
    let reads = world.store.reads();
    let mut root = Raw::connect(world.plain, kept()).await;
    eventually("read again", || world.store.reads() > reads + 2).await;
    root.ping().await;
    world.store.set_unreadable(false);
    let (_, _, body) = root.expect(PUBLISH).await.publish(true);
    assert_eq!(device_of(&body), "lamp-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_reads_a_large_block_once() {
    const DEVICES: usize = 1000;
    let world = world().await;
    let kept = || ConnectPacket::new(true, "root").keep();
    let mut root = Raw::connect(world.plain, kept()).await;
    root.subscribe("lamplighter/1/notify/+/+/+", 0).await;
    drop(root);
    world.until_count("connected", |count| count == 0).await;
    let mut ann = Raw::connect(world.plain, ConnectPacket::new(true, "ann")).await;
    ann.subscribe("lamplighter/1/notify/+/north/+", 0).await;
    world.register_many("n", "north", DEVICES).await;
    for _ in 0..DEVICES {
        ann.expect(PUBLISH).await;
    }
    let reads_before = world.store.reads();
    let mut root = Raw::connect(world.plain, kept()).await;
    let mut heights = BTreeSet::new();
    for _ in 0..DEVICES {
        let (_, _, body) = root.expect(PUBLISH).await.publish(true);
        let message: NotificationMessage = serde_json::from_slice(&body).unwrap();
        heights.insert(message.event.cursor.height);
    }
    let height = heights.pop_first().unwrap();
    assert!(heights.is_empty(), "one block");
    let reads = world.store.reads_of(height, reads_before);
    // Other parts of the node may still be reading it.
    assert!((1..4).contains(&reads), "{reads}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_role_disconnects_its_user_and_ends_the_session() {
    let world = world().await;
    let kept = || ConnectPacket::new(true, "ann").keep();
    let mut root = Raw::connect(world.plain, ConnectPacket::new(true, "root")).await;
    let mut ann = Raw::connect(world.plain, kept()).await;
    let north = "lamplighter/1/notify/+/north/+";
    ann.subscribe(north, 1).await;
    world.revoke_role("ann", "north").await;
    assert_eq!(ann.expect_closed().await, Some(0x87));
    root.ping().await;
    let (mut ann, code, present) = Raw::try_connect(world.plain, kept()).await;
    assert_eq!((code, present), (0, false));
    assert_eq!(ann.subscribe(north, 1).await, 0x87);
    assert_eq!(ann.subscribe("lamplighter/1/notify/+/south/+", 1).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_connection_takes_over_and_the_old_one_learns_it() {
    let world = world().await;
    for v5 in [false, true] {
        let mut old = Raw::connect(world.plain, ConnectPacket::new(v5, "ann").keep()).await;
        old.subscribe("lamplighter/1/notify/+/+/+", 1).await;
        for _ in 0..20 {
            let (new, code, present) =
                Raw::try_connect(world.plain, ConnectPacket::new(v5, "ann").keep()).await;
            assert_eq!((code, present), (0, true));
            assert_eq!(old.expect_closed().await, v5.then_some(0x8e));
            old = new;
        }
        world.tag(&["lamp-9"]).await;
        let (_, _, body) = old.expect(PUBLISH).await.publish(v5);
        assert_eq!(device_of(&body), "lamp-9");
        Raw::connect(world.plain, ConnectPacket::new(v5, "ann")).await;
    }
    // Many at once: the newest wins, the others end.
    world
        .until_count("connected", |connected| connected == 0)
        .await;
    let before = world.count("takeovers");
    let connects = (0..30).map(|_| async {
        let mut raw = Raw::open(world.plain, true).await;
        raw.send(&ConnectPacket::new(true, "gw-1").bytes()).await;
        raw
    });
    let mut all = futures::future::join_all(connects).await;
    eventually("one is left", || {
        world.count("takeovers") == before + 29 && world.count("connected") == 1
    })
    .await;
    let mut alive = 0;
    for raw in &mut all {
        raw.send(&[0xc0, 0]).await;
        while let Some(packet) = raw.next().await {
            if packet.kind == PINGRESP {
                alive += 1;
                break;
            }
        }
    }
    assert_eq!(alive, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn wills_are_submitted_when_a_client_disappears() {
    let world = world().await;
    fn will(v5: bool, tx: &[u8]) -> ConnectPacket<'_> {
        ConnectPacket {
            will: Some((TX, tx)),
            ..ConnectPacket::new(v5, "gw-1")
        }
    }
    for v5 in [false, true] {
        let (tx, hash) = world.transaction("gw-1");
        drop(Raw::connect(world.plain, will(v5, &tx)).await);
        world.until_committed(&hash).await;
    }
    let (tx, hash) = world.transaction("gw-1");
    let mut raw = Raw::connect(world.plain, will(true, &tx)).await;
    raw.send(&[0xe0, 1, 4]).await;
    raw.expect_closed().await;
    world.until_committed(&hash).await;
    let (tx, disconnected) = world.transaction("gw-1");
    for v5 in [false, true] {
        let mut raw = Raw::connect(world.plain, will(v5, &tx)).await;
        raw.send(&[0xe0, 0]).await;
        raw.expect_closed().await;
    }
    let (tx, hash) = world.transaction("gw-1");
    drop(Raw::connect(world.plain, will(false, &tx)).await);
    world.until_committed(&hash).await;
    // A delayed will is not submitted when the client comes back before.
    let (tx, hash) = world.transaction("gw-1");
    let delayed = || {
        ConnectPacket {
            will_delay: 1,
            ..will(true, &tx)
        }
        .keep()
    };
    drop(Raw::connect(world.plain, delayed()).await);
    let back = Raw::connect(world.plain, ConnectPacket::new(true, "gw-1").keep()).await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(!world.is_committed(&hash));
    drop(back);
    drop(Raw::connect(world.plain, delayed()).await);
    world.until_committed(&hash).await;
    assert!(!world.is_committed(&disconnected));
}

#[tokio::test(flavor = "multi_thread")]
async fn wills_are_checked_at_connect() {
    let world = world().await;
    let topics = [
        "lamplighter/1/gw/gw-2/tx",
        "lamplighter/1/head",
        "$SYS/x",
        "\u{e9}",
        "a/#",
        "",
    ];
    for topic in topics {
        for (v5, codes) in [(false, [5, 5]), (true, [0x87, 0x90])] {
            let connect = ConnectPacket {
                will: Some((topic, b"x")),
                ..ConnectPacket::new(v5, "gw-1")
            };
            let (mut raw, code, _) = Raw::try_connect(world.plain, connect).await;
            assert!(codes.contains(&code), "{topic}: {code}");
            raw.expect_closed().await;
        }
    }
    for (v5, refused) in [(false, 5), (true, 0x9a)] {
        let kept = ConnectPacket {
            will: Some((TX, b"x")),
            will_retain: true,
            ..ConnectPacket::new(v5, "gw-1")
        };
        assert_eq!(Raw::try_connect(world.plain, kept).await.1, refused);
    }
    // A client that is refused leaves no will either.
    for (v5, refused) in [(false, 4), (true, 0x86)] {
        let stranger = ConnectPacket {
            will: Some((TX, b"of a stranger")),
            password: "wrong".to_owned(),
            ..ConnectPacket::new(v5, "gw-1")
        };
        let (mut raw, code, _) = Raw::try_connect(world.plain, stranger).await;
        assert_eq!(code, refused);
        raw.expect_closed().await;
    }
    assert_eq!(world.count("wills"), 0);
    let user = ConnectPacket {
        will: Some(("lamplighter/1/gw/ann/tx", b"x")),
        ..ConnectPacket::new(true, "ann")
    };
    assert_eq!(Raw::try_connect(world.plain, user).await.1, 0x87);
}

#[tokio::test(flavor = "multi_thread")]
async fn qos_2_is_forwarded_once() {
    let world = world().await;
    for v5 in [false, true] {
        let mut raw = Raw::connect(world.plain, ConnectPacket::new(v5, "gw-1")).await;
        let before = world.count("admitted");
        let bytes = publish(v5, TX.as_bytes(), 2, 7, &world.tx("gw-1"));
        raw.send(&bytes).await;
        assert_eq!(raw.expect(PUBREC).await.body, [0, 7]);
        let mut again = bytes.clone();
        again[0] |= 8;
        raw.send(&again).await;
        assert_eq!(raw.expect(PUBREC).await.body, [0, 7]);
        raw.send(&[0x62, 2, 0, 7]).await;
        assert_eq!(raw.expect(PUBCOMP).await.body, [0, 7]);
        assert_eq!(world.count("admitted"), before + 1);
        raw.send(&[0x62, 2, 0, 7]).await;
        let unknown = raw.expect(PUBCOMP).await.body;
        assert_eq!(unknown.get(2).copied(), v5.then_some(0x92));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_window_of_a_client_is_kept_and_acks_may_come_in_any_order() {
    let world = world().await;
    let connect = ConnectPacket {
        window: Some(3),
        ..ConnectPacket::new(true, "root")
    };
    let mut raw = Raw::connect(world.plain, connect).await;
    raw.subscribe("lamplighter/1/notify/+/+/+", 1).await;
    world.register_many("lamp", "north", 300).await;
    let mut cursors = Vec::new();
    while cursors.len() < 300 {
        let mut unacknowledged = Vec::new();
        for _ in 0..3 {
            unacknowledged.push(raw.expect(PUBLISH).await.publish(true));
        }
        if cursors.is_empty() {
            raw.expect_silence().await;
        }
        for (_, _, body) in &unacknowledged {
            let message: NotificationMessage = serde_json::from_slice(body).unwrap();
            cursors.push(message.event.cursor);
        }
        // The newest first: against the order in which they were sent.
        for (_, id, _) in unacknowledged.into_iter().rev() {
            raw.ack(id).await;
        }
    }
    assert!(cursors.is_sorted_by(|a, b| a < b), "all of them, each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_account_is_disconnected_and_does_not_come_back() {
    let world = world().await;
    let mut ann = Raw::connect(world.plain, ConnectPacket::new(true, "ann")).await;
    for v5 in [false, true] {
        let name = if v5 { "gw-1" } else { "gw-2" };
        let mut raw = Raw::connect(world.plain, ConnectPacket::new(v5, name).keep()).await;
        raw.ping().await;
        world.disable(name).await;
        assert_eq!(raw.expect_closed().await, v5.then_some(0x87));
        let (_, code, _) = Raw::try_connect(world.plain, ConnectPacket::new(v5, name)).await;
        assert_eq!(code, if v5 { 0x86 } else { 4 });
    }
    ann.ping().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_its_token() {
    let world = world().await;
    let password = expiring_token("gw-1");
    let mut raw = Raw::connect(
        world.plain,
        ConnectPacket {
            password,
            ..ConnectPacket::new(true, "gw-1")
        },
    )
    .await;
    assert_eq!(raw.expect_closed().await, Some(0xa0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_sends_the_reason_and_a_new_one_takes_its_place() {
    let mut first = world().await;
    let address = first.plain;
    let mut new = Raw::connect(address, ConnectPacket::new(true, "gw-1").keep()).await;
    let mut old = Raw::connect(address, ConnectPacket::new(false, "gw-2").keep()).await;
    first.stop_edge().await;
    assert_eq!(new.expect_closed().await, Some(0x8b));
    assert_eq!(old.expect_closed().await, None);
    let second = world_with(|config| config.listen[0].address = address).await;
    let (mut new, _, present) =
        Raw::try_connect(address, ConnectPacket::new(true, "gw-1").keep()).await;
    assert!(!present, "the ledger keeps what matters, not the edge");
    assert_eq!(new.publish_acked(TX, 1, &second.tx("gw-1")).await, 0);
    assert_eq!(second.count("admitted"), 1);
    assert_eq!(first.count("admitted"), 0);
}
