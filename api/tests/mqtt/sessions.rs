//! What outlives a connection, and how one connection replaces another.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::raw::*;
use super::support::*;

const TX: &str = "lamplighter/1/gw/gw-1/tx";
const RECEIPT: &str = "lamplighter/1/gw/gw-1/receipt";

#[tokio::test(flavor = "multi_thread")]
async fn qos_1_is_delivered_again_over_a_new_connection_until_acknowledged() {
    let world = world();
    for v5 in [false, true] {
        let mut raw = Raw::connect(world.plain, Hello::new(v5, "gw-1").keep()).await;
        raw.subscribe(RECEIPT, 1).await;
        let send = |text: &'static str| {
            world
                .publisher
                .publish_receipt("gw-1", hash(text.as_bytes()), text.into())
                .unwrap();
        };
        send("one");
        send("two");
        let (_, first, body) = raw.expect(PUBLISH).await.publish(v5);
        assert_eq!(body, b"one");
        assert_eq!(raw.expect(PUBLISH).await.publish(v5).2, b"two");
        raw.ack(first).await;
        raw.ping().await;
        drop(raw);
        eventually("gone", || !world.publisher.is_connected("gw-1")).await;
        send("three while away");
        let (mut raw, _, present) =
            Raw::try_connect(world.plain, Hello::new(v5, "gw-1").keep()).await;
        assert!(present);
        let again = raw.expect(PUBLISH).await;
        assert_eq!(
            (again.flags & 8, &again.publish(v5).2[..]),
            (8, &b"two"[..]),
            "marked DUP"
        );
        raw.ack(again.publish(v5).1).await;
        let late = raw.expect(PUBLISH).await;
        assert_eq!(
            (late.flags & 8, &late.publish(v5).2[..]),
            (0, &b"three while away"[..])
        );
        raw.ack(late.publish(v5).1).await;
        raw.ping().await;
        drop(raw);
        let (mut raw, _, present) = Raw::try_connect(world.plain, Hello::new(v5, "gw-1")).await;
        assert!(!present, "a clean start");
        raw.expect_silence().await;
    }
    assert_eq!(world.count("mailbox_bytes"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_wait_in_the_router_for_a_user_with_a_session() {
    let world = world();
    for v5 in [false, true] {
        let mut ann = Raw::connect(world.plain, Hello::new(v5, "ann").keep()).await;
        ann.subscribe("lamplighter/1/notify/+/north/+", 1).await;
        world
            .publisher
            .notify("alarm", "north", "l1", "one".into())
            .unwrap();
        assert_eq!(ann.expect(PUBLISH).await.publish(v5).2, b"one");
        drop(ann);
        eventually("gone", || !world.publisher.is_connected("ann")).await;
        world
            .publisher
            .notify("alarm", "north", "l1", "two".into())
            .unwrap();
        let (mut ann, _, present) =
            Raw::try_connect(world.plain, Hello::new(v5, "ann").keep()).await;
        assert!(present);
        for text in ["one", "two"] {
            let (_, id, body) = ann.expect(PUBLISH).await.publish(v5);
            assert_eq!(body, text.as_bytes());
            ann.ack(id).await;
        }
        world
            .publisher
            .notify("alarm", "north", "l1", "three".into())
            .unwrap();
        assert_eq!(ann.expect(PUBLISH).await.publish(v5).2, b"three");
        // A clean start ends the session, in the router too.
        let mut ann = Raw::connect(world.plain, Hello::new(v5, "ann")).await;
        world
            .publisher
            .notify("alarm", "north", "l1", "four".into())
            .unwrap();
        ann.expect_silence().await;
        drop(ann);
        let (mut ann, _, present) =
            Raw::try_connect(world.plain, Hello::new(v5, "ann").keep()).await;
        assert!(!present);
        ann.expect_silence().await;
        Raw::connect(world.plain, Hello::new(v5, "ann")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_connection_takes_over_and_the_old_one_is_told() {
    let world = world();
    for v5 in [false, true] {
        let mut old = Raw::connect(world.plain, Hello::new(v5, "ann").keep()).await;
        old.subscribe("lamplighter/1/notify/+/+/+", 1).await;
        for _ in 0..20 {
            let (new, code, present) =
                Raw::try_connect(world.plain, Hello::new(v5, "ann").keep()).await;
            assert_eq!((code, present), (0, true));
            assert_eq!(old.expect_closed().await, v5.then_some(0x8e));
            old = new;
        }
        world
            .publisher
            .notify("alarm", "south", "l1", "here".into())
            .unwrap();
        assert_eq!(old.expect(PUBLISH).await.publish(v5).2, b"here");
        Raw::connect(world.plain, Hello::new(v5, "ann")).await;
    }
    // Many at once: the newest wins, nobody is left over.
    world
        .until_count("connected", |connected| connected == 0)
        .await;
    let before = world.count("takeovers");
    let connects = (0..30).map(|_| async {
        let mut raw = Raw::open(world.plain, true).await;
        raw.send(&Hello::new(true, "gw-1").bytes()).await;
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
async fn wills_are_handed_in_when_a_client_vanishes() {
    let world = world();
    let will = |v5, text: &'static str| Hello {
        will: Some((TX, text.as_bytes())),
        ..Hello::new(v5, "gw-1")
    };
    let taken = |text: &'static str| {
        world
            .ledger
            .until(text, move |l| l.taken_by("gw-1").iter().any(|t| t == text))
    };
    for (v5, text) in [(false, "lost 3.1.1"), (true, "lost 5")] {
        drop(Raw::connect(world.plain, will(v5, text)).await);
        taken(text).await;
    }
    let mut raw = Raw::connect(world.plain, will(true, "left with it")).await;
    raw.send(&[0xe0, 1, 4]).await;
    raw.expect_closed().await;
    taken("left with it").await;
    for v5 in [false, true] {
        let mut raw = Raw::connect(world.plain, will(v5, "left properly")).await;
        raw.send(&[0xe0, 0]).await;
        raw.expect_closed().await;
    }
    drop(Raw::connect(world.plain, will(false, "taken over")).await);
    taken("taken over").await;
    // A delayed will is not handed in when the client comes back before.
    let delayed = |delay| {
        Hello {
            will_delay: delay,
            ..will(true, "delayed")
        }
        .keep()
    };
    drop(Raw::connect(world.plain, delayed(1)).await);
    let back = Raw::connect(world.plain, Hello::new(true, "gw-1").keep()).await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    drop(back);
    drop(Raw::connect(world.plain, delayed(1)).await);
    taken("delayed").await;
    let all = world.ledger.taken_by("gw-1");
    assert!(!all.iter().any(|text| text == "left properly"));
    assert_eq!(all.iter().filter(|text| *text == "delayed").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn wills_are_checked_at_connect() {
    let world = world();
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
            let hello = Hello {
                will: Some((topic, b"x")),
                ..Hello::new(v5, "gw-1")
            };
            let (mut raw, code, _) = Raw::try_connect(world.plain, hello).await;
            assert!(codes.contains(&code), "{topic}: {code}");
            raw.expect_closed().await;
        }
    }
    for (v5, refused) in [(false, 5), (true, 0x9a)] {
        let kept = Hello {
            will: Some((TX, b"x")),
            will_retain: true,
            ..Hello::new(v5, "gw-1")
        };
        assert_eq!(Raw::try_connect(world.plain, kept).await.1, refused);
    }
    // Who is not let in leaves no will either.
    for (v5, refused) in [(false, 4), (true, 0x86)] {
        let stranger = Hello {
            will: Some((TX, b"of a stranger")),
            password: "wrong".to_owned(),
            ..Hello::new(v5, "gw-1")
        };
        let (mut raw, code, _) = Raw::try_connect(world.plain, stranger).await;
        assert_eq!(code, refused);
        raw.expect_closed().await;
    }
    assert!(world.ledger.taken_by("gw-1").is_empty());
    let user = Hello {
        will: Some(("lamplighter/1/gw/ann/tx", b"x")),
        ..Hello::new(true, "ann")
    };
    assert_eq!(Raw::try_connect(world.plain, user).await.1, 0x87);
}

#[tokio::test(flavor = "multi_thread")]
async fn qos_2_is_forwarded_once() {
    let world = world();
    for v5 in [false, true] {
        let mut raw = Raw::connect(world.plain, Hello::new(v5, "gw-1")).await;
        let before = world.ledger.taken_by("gw-1").len();
        let bytes = publish(v5, TX.as_bytes(), 2, 7, b"tx");
        raw.send(&bytes).await;
        assert_eq!(raw.expect(PUBREC).await.body, [0, 7]);
        let mut again = bytes.clone();
        again[0] |= 8;
        raw.send(&again).await;
        assert_eq!(raw.expect(PUBREC).await.body, [0, 7]);
        raw.send(&[0x62, 2, 0, 7]).await;
        assert_eq!(raw.expect(PUBCOMP).await.body, [0, 7]);
        assert_eq!(world.ledger.taken_by("gw-1").len(), before + 1);
        raw.send(&[0x62, 2, 0, 7]).await;
        let unknown = raw.expect(PUBCOMP).await.body;
        assert_eq!(unknown.get(2).copied(), v5.then_some(0x92));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_window_of_a_client_is_kept_and_acks_may_come_in_any_order() {
    let world = world();
    let hello = Hello {
        window: Some(3),
        ..Hello::new(true, "root")
    };
    let mut raw = Raw::connect(world.plain, hello).await;
    raw.subscribe("lamplighter/1/notify/+/+/+", 1).await;
    for n in 0..300 {
        world
            .publisher
            .notify("alarm", "north", "l1", format!("{n}").into())
            .unwrap();
    }
    let mut got = Vec::new();
    while got.len() < 300 {
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(raw.expect(PUBLISH).await.publish(true));
        }
        if got.is_empty() {
            raw.expect_silence().await;
        }
        // The newest first: against the order in which they were sent.
        for (_, id, body) in held.into_iter().rev() {
            raw.ack(id).await;
            got.push(body);
        }
    }
    let mut numbers: Vec<u32> = got
        .iter()
        .map(|body| std::str::from_utf8(body).unwrap().parse().unwrap())
        .collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..300), "all of them, each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_closes_its_connection_and_does_not_come_back() {
    let world = world();
    for v5 in [false, true] {
        let id = if v5 { "gw-1" } else { "gw-2" };
        let mut raw = Raw::connect(world.plain, Hello::new(v5, id).keep()).await;
        raw.ping().await;
        world.ledger.revoke(id);
        world.publisher.revoked(id);
        assert_eq!(raw.expect_closed().await, v5.then_some(0x87));
        let (_, code, _) = Raw::try_connect(world.plain, Hello::new(v5, id)).await;
        assert_eq!(code, if v5 { 0x86 } else { 4 });
    }
    let mut ann = Raw::connect(world.plain, Hello::new(true, "ann")).await;
    ann.ping().await;
    world.publisher.revoked_key(&[1; 32]);
    ann.ping().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_its_token() {
    let world = world();
    let password = format!("short-{}", token("gw-1"));
    let mut raw = Raw::connect(
        world.plain,
        Hello {
            password,
            ..Hello::new(true, "gw-1")
        },
    )
    .await;
    assert_eq!(raw.expect_closed().await, Some(0xa0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_says_so_and_a_new_one_takes_its_place() {
    let first = world();
    let address = first.plain;
    let mut new = Raw::connect(address, Hello::new(true, "gw-1").keep()).await;
    let mut old = Raw::connect(address, Hello::new(false, "gw-2").keep()).await;
    first.edge.stop().await;
    assert_eq!(new.expect_closed().await, Some(0x8b));
    assert_eq!(old.expect_closed().await, None);
    let second = world_with(|config| config.listen[0].address = address);
    let (mut new, _, present) = Raw::try_connect(address, Hello::new(true, "gw-1").keep()).await;
    assert!(!present, "the ledger keeps what matters, not the edge");
    assert_eq!(new.publish_acked(TX, 1, b"tx").await, 0);
    assert_eq!(second.ledger.taken_by("gw-1").len(), 1);
    assert_eq!(first.ledger.offers.load(Ordering::Relaxed), 0);
}
