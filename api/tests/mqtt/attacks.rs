//! Every rule of the edge is attacked with bytes, and each time others are still served.

use lamplighter_api::mqtt::limits::PACKET_BYTES;

use super::raw::*;
use super::support::*;

const TX: &str = "lamplighter/1/gw/gw-1/tx";

/// A client that behaves, and must be served.
struct Bystander {
    raw: Raw,
    round: u16,
    /// The height of the newest head.
    height: u64,
}

impl Bystander {
    async fn of(world: &World) -> Self {
        let mut raw = Raw::connect(world.plain, ConnectPacket::new(true, "gw-2")).await;
        assert_eq!(raw.subscribe("lamplighter/1/head", 1).await, 1);
        Self {
            raw,
            round: 0,
            height: 0,
        }
    }

    /// Publishes to the ledger, and reads a newer head.
    async fn is_served(&mut self, world: &World) {
        self.round += 1;
        let (tx, hash) = world.transaction("gw-2");
        let topic = "lamplighter/1/gw/gw-2/tx";
        self.raw.publish(topic, 1, self.round, &tx).await;
        let (mut acknowledged, mut newer) = (false, false);
        while !(acknowledged && newer) {
            let packet = self.raw.packet().await;
            if packet.kind == PUBACK {
                assert_eq!(packet.body[..], self.round.to_be_bytes());
                acknowledged = true;
                continue;
            }
            let (_, id, body) = packet.publish(true);
            self.raw.ack(id).await;
            let height = head_height(&body);
            newer |= height > self.height;
            self.height = height;
        }
        world.until_committed(&hash).await;
    }
}

/// Sends bytes over a fresh connection that is then closed by the server.
async fn closes(world: &World, v5: bool, bytes: &[u8]) -> Option<u8> {
    let mut raw = Raw::connect(world.plain, ConnectPacket::new(v5, "gw-1")).await;
    raw.send(bytes).await;
    raw.expect_closed().await
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_1_packets_that_only_a_server_sends() {
    let world = world().await;
    let mut bystander = Bystander::of(&world).await;
    for kind in [0, 1, 2, 5, 7, 9, 11, 13, 15] {
        for v5 in [false, true] {
            for body in [&b""[..], b"\0\x01", b"\0\x01\0\0"] {
                let reason = closes(&world, v5, &frame(kind << 4, body)).await;
                assert_eq!(reason.is_some(), v5, "packet type {kind}");
            }
        }
    }
    // Wrong flags, lengths and ids of packets that are allowed.
    let malformed: [&[u8]; 14] = [
        &[0x4f, 2, 0, 1],
        &[0x60, 2, 0, 1],
        &[0x80, 5, 0, 1, 0, 0, 0],
        &[0xc1, 0],
        &[0xc0, 1, 0],
        &[0x36, 5, 0, 1, b'a', 0, 1],
        &[0x38, 3, 0, 1, b'a'],
        &[0x32, 5, 0, 1, b'a', 0, 0],
        &[0x30, 2, 0, 9],
        &[0x30, 0],
        &[0x82, 2, 0, 1],
        &[0x82, 0],
        &[0xa2, 3, 0, 1, 0],
        &[0x30, 0xff, 0xff, 0xff, 0xff, 1],
    ];
    for bytes in malformed {
        for v5 in [false, true] {
            closes(&world, v5, bytes).await;
        }
    }
    bystander.is_served(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_2_topics_and_filters() {
    let world = world().await;
    let mut bystander = Bystander::of(&world).await;
    let long = "a".repeat(300);
    let topics = [
        "\u{e9}",
        "\u{e9}/x",
        "",
        "$SYS/broker",
        "$share/g/t",
        "a/+",
        "#",
        "a b",
        &long,
    ];
    for topic in topics {
        for v5 in [false, true] {
            for qos in [0, 1, 2] {
                let bytes = publish(v5, topic.as_bytes(), qos, 1, b"x");
                let reason = closes(&world, v5, &bytes).await;
                assert_eq!(reason, v5.then_some(0x90), "{topic}");
            }
        }
    }
    closes(&world, true, &publish(true, b"\xff\xfe", 0, 0, b"x")).await;
    closes(&world, true, &publish(true, b"a\0b", 0, 0, b"x")).await;
    let filters = [
        "\u{e9}",
        "$SYS/#",
        "$share/g/lamplighter/1/head",
        "a/#/b",
        "a+",
        "++",
        "",
        "a b",
        &long,
    ];
    for filter in filters {
        let mut raw = Raw::connect(world.plain, ConnectPacket::new(true, "root")).await;
        assert!(
            [0x8f, 0x9e].contains(&raw.subscribe(filter, 1).await),
            "{filter}"
        );
        let mut raw = Raw::connect(world.plain, ConnectPacket::new(false, "ann")).await;
        assert_eq!(raw.subscribe(filter, 1).await, 0x80, "{filter}");
        raw.send(&unsubscribe(false, 1, &[filter])).await;
        raw.expect(UNSUBACK).await;
    }
    bystander.is_served(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_2_filters_are_counted_and_cost_nothing() {
    let world = world().await;
    let mut bystander = Bystander::of(&world).await;
    let mut raw = Raw::connect(world.plain, ConnectPacket::new(true, "root")).await;
    let filter = |n: usize| format!("lamplighter/1/notify/alarm/district-{n}/lamp-{n}");
    for n in 0..64 {
        assert_eq!(raw.subscribe(&filter(n), 1).await, 1);
    }
    assert_eq!(raw.subscribe(&filter(64), 1).await, 0x97);
    assert_eq!(
        raw.subscribe(&filter(63), 1).await,
        1,
        "an old one may be repeated"
    );
    // 20,000 different filters over the life of a connection.
    for n in (0..20_000).step_by(100) {
        let names: Vec<String> = (n..n + 64).map(filter).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        raw.send(&unsubscribe(true, 1, &names)).await;
        raw.expect(UNSUBACK).await;
        let filters: Vec<(&str, u8)> = names.iter().map(|name| (*name, 1)).collect();
        raw.send(&subscribe(true, 2, &filters)).await;
        raw.expect(SUBACK).await;
    }
    bystander.is_served(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_3_client_ids_and_credentials() {
    let world = world().await;
    let mut bystander = Bystander::of(&world).await;
    let long = "g".repeat(65);
    let ids = ["gw-2", "_node", "node", "\u{e9}", "a b", "a/b", "#", &long];
    for id in ids {
        for (v5, code) in [(false, 2), (true, 0x85)] {
            let connect = ConnectPacket {
                id,
                ..ConnectPacket::new(v5, "gw-1")
            };
            assert_eq!(Raw::try_connect(world.plain, connect).await.1, code, "{id}");
        }
    }
    let mut anonymous = Raw::connect(
        world.plain,
        ConnectPacket {
            id: "",
            ..ConnectPacket::new(true, "gw-1")
        },
    )
    .await;
    anonymous.ping().await;
    let wrong = [
        ("gw-1", "wrong".to_owned()),
        ("gw-1", token("gw-2")),
        ("nobody", token("nobody")),
    ];
    for (user, password) in wrong {
        for (v5, code) in [(false, 4), (true, 0x86)] {
            let connect = ConnectPacket {
                user,
                password: password.clone(),
                ..ConnectPacket::new(v5, user)
            };
            assert_eq!(
                Raw::try_connect(world.plain, connect).await.1,
                code,
                "{user}"
            );
        }
    }
    let users = ["", "_node", "\u{e9}", "a/b", &long];
    for user in users {
        let connect = ConnectPacket {
            user,
            id: "",
            ..ConnectPacket::new(true, "gw-1")
        };
        assert_ne!(Raw::try_connect(world.plain, connect).await.1, 0, "{user}");
    }
    bystander.is_served(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_4_properties() {
    let world = world().await;
    let mut bystander = Bystander::of(&world).await;
    let alias = publish_with(true, b"", 0, 0, &[35, 0, 1], b"x");
    assert_eq!(closes(&world, true, &alias).await, Some(0x94));
    let alias = publish_with(true, TX.as_bytes(), 2, 1, &[35, 0, 1], b"x");
    assert_eq!(closes(&world, true, &alias).await, Some(0x94));
    // 60,000 empty user properties, properties that run over the payload, unknown ones.
    let many = [38, 0, 0, 0, 0].repeat(12_000);
    let bytes = publish_with(true, TX.as_bytes(), 2, 1, &many, b"x");
    assert_eq!(closes(&world, true, &bytes).await, Some(0x95));
    let over = publish_with(true, TX.as_bytes(), 2, 1, &[9, 0, 4, b'a'], b"bcdefgh");
    assert_eq!(closes(&world, true, &over).await, Some(0x81));
    for properties in [&[200u8, 1][..], &[17, 0, 0, 0, 1], &[38, 0, 1], &[9]] {
        let bytes = publish_with(true, TX.as_bytes(), 2, 1, properties, b"x");
        assert_eq!(closes(&world, true, &bytes).await, Some(0x81));
    }
    let mut subscription_id = vec![0, 1, 2, 11, 5];
    subscription_id.extend(string("lamplighter/1/head"));
    subscription_id.push(1);
    let mut raw = Raw::connect(world.plain, ConnectPacket::new(true, "gw-1")).await;
    raw.send(&frame(0x82, &subscription_id)).await;
    assert_eq!(raw.expect(SUBACK).await.body[3..], [0xa1]);
    // A receipt with MQTT 5 properties reaches a 3.1.1 client without them.
    let mut properties = vec![9];
    properties.extend(string("seven"));
    let mut raw = Raw::connect(world.plain, ConnectPacket::new(true, "gw-1").keep()).await;
    raw.subscribe("lamplighter/1/gw/gw-1/receipt", 1).await;
    let (tx, hash) = world.transaction("gw-1");
    raw.send(&publish_with(true, TX.as_bytes(), 2, 2, &properties, &tx))
        .await;
    let receipt = loop {
        let packet = raw.packet().await;
        if packet.kind == PUBLISH {
            break packet;
        }
    };
    assert!(String::from_utf8_lossy(&receipt.body).contains("seven"));
    let (mut old, _, present) =
        Raw::try_connect(world.plain, ConnectPacket::new(false, "gw-1").keep()).await;
    assert!(present);
    let (_, _, body) = old.expect(PUBLISH).await.publish(false);
    assert_eq!(json(&body)["transaction"], hash.to_string());
    bystander.is_served(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_6_qos_2_empty_and_retained_publications() {
    let world = world().await;
    let mut bystander = Bystander::of(&world).await;
    for v5 in [false, true] {
        let mut raw = Raw::connect(world.plain, ConnectPacket::new(v5, "gw-1")).await;
        let tx = world.tx("gw-1");
        for id in 1..=100 {
            raw.publish(TX, 2, id, &tx).await;
            raw.expect(PUBREC).await;
        }
        raw.publish(TX, 2, 101, &tx).await;
        assert_eq!(raw.expect_closed().await, v5.then_some(0x93));
    }
    // Neither an empty nor a retained message of a client touches what the node keeps.
    let head = b"lamplighter/1/head";
    for flags in [0, 1, 2, 3] {
        closes(
            &world,
            false,
            &publish_with(false, head, flags, 1, &[], b""),
        )
        .await;
        closes(
            &world,
            false,
            &publish_with(false, head, flags, 1, &[], b"forged"),
        )
        .await;
    }
    let mut raw = Raw::connect(world.plain, ConnectPacket::new(true, "gw-1")).await;
    assert_eq!(
        raw.publish_acked(TX, 5, b"").await,
        0x99,
        "an empty transaction"
    );
    raw.send(&publish_with(
        true,
        TX.as_bytes(),
        3,
        6,
        &[],
        &world.tx("gw-1"),
    ))
    .await;
    assert_eq!(
        raw.expect_closed().await,
        Some(0x9a),
        "only the node keeps messages"
    );
    let mut raw = Raw::connect(world.plain, ConnectPacket::new(true, "gw-1")).await;
    raw.subscribe("lamplighter/1/head", 0).await;
    let (_, _, body) = raw.expect(PUBLISH).await.publish(true);
    assert!(head_height(&body) > 0);
    bystander.is_served(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_7_unsolicited_acknowledgements() {
    let world = world().await;
    let mut bystander = Bystander::of(&world).await;
    for v5 in [false, true] {
        for id in [0u16, 1, 100, 65_535] {
            let bytes = [&[0x40, 2][..], &id.to_be_bytes()].concat();
            assert_eq!(closes(&world, v5, &bytes).await, v5.then_some(0x82));
        }
        let mut raw = Raw::connect(world.plain, ConnectPacket::new(v5, "root")).await;
        raw.subscribe("lamplighter/1/notify/+/+/+", 1).await;
        world.tag(&["lamp-1"]).await;
        let (_, id, _) = raw.expect(PUBLISH).await.publish(v5);
        raw.ack(id).await;
        raw.ping().await;
        raw.ack(id).await;
        assert_eq!(raw.expect_closed().await, v5.then_some(0x82), "twice");
    }
    bystander.is_served(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_10_sizes() {
    let world = world().await;
    let mut bystander = Bystander::of(&world).await;
    // The size that the header claims is enough.
    let claims: [&[u8]; 3] = [
        &[0x32, 0xff, 0xff, 0xff, 0x7f],
        &[0x82, 0x81, 0x80, 0x10],
        &[0xa2, 0xff, 0xff, 0x03],
    ];
    for claim in claims {
        assert_eq!(closes(&world, true, claim).await, Some(0x95));
        closes(&world, false, claim).await;
    }
    let mut raw = Raw::connect(world.plain, ConnectPacket::new(true, "gw-1")).await;
    let room = PACKET_BYTES - 2 - TX.len() - 3;
    // White space behind JSON is part of the packet, not of the transaction.
    let mut tx = world.tx("gw-1");
    tx.resize(room, b' ');
    assert_eq!(raw.publish_acked(TX, 1, &tx).await, 0);
    tx.resize(room + 1, b' ');
    raw.publish(TX, 1, 2, &tx).await;
    assert_eq!(raw.expect_closed().await, Some(0x95));
    // Before CONNECT the limit is narrower, and other protocols get no answer.
    let first: [&[u8]; 7] = [
        &[0x10, 0xff, 0xff, 0x7f],
        &[0x10, 4, 0, 4, b'M', b'Q'],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0x30, 3, 0, 1, b'a'],
        &[0xc0, 0],
        &[0xff; 64],
        &[0x10, 10, 0, 4, b'M', b'Q', b'T', b'T', 5, 3, 0, 0],
    ];
    for bytes in first {
        let mut raw = Raw::open(world.plain, true).await;
        raw.send(bytes).await;
        assert_eq!(raw.next().await, None, "{bytes:?}");
    }
    let mut raw = Raw::open(world.plain, true).await;
    raw.send(&[0x10, 10, 0, 4, b'M', b'Q', b'T', b'T', 9, 2, 0, 0])
        .await;
    assert_eq!(
        raw.expect(CONNACK).await.body,
        [0, 1],
        "unknown protocol level"
    );
    bystander.is_served(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_of_every_kind() {
    use rand::{Rng, SeedableRng};
    let world = world_with(|config| config.packets_per_second = 1_000_000).await;
    let mut bystander = Bystander::of(&world).await;
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    for round in 0..400 {
        let v5 = round % 2 == 0;
        let mut raw = Raw::connect(world.plain, ConnectPacket::new(v5, "gw-1")).await;
        let first = [0x30, 0x32, 0x34, 0x40, 0x62, 0x82, 0xa2, 0xc0, 0xe0][round % 9];
        let length = random.random_range(0..80);
        let body: Vec<u8> = (0..length).map(|_| random.random::<u8>() & 0x2f).collect();
        raw.send(&frame(first, &body)).await;
    }
    bystander.is_served(&world).await;
}
