//! Times, rates and places: a client can only delay itself.

use std::time::{Duration, Instant};

use lamplighter_types::wire::NotificationMessage;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::raw::*;
use super::support::*;

const TX: &str = "lamplighter/1/gw/gw-1/tx";

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_silent_connections_do_not_delay_a_good_one() {
    super::scale::raise_file_limit();
    let world = world_with(|config| config.connect_time = Duration::from_millis(1500)).await;
    let mut silent = Vec::new();
    for n in 0..1000 {
        let address = if n % 2 == 0 { world.plain } else { world.tls };
        let mut stream = TcpStream::connect(address).await.unwrap();
        if n % 4 < 2 {
            // The beginning of a CONNECT, or of a TLS record.
            stream
                .write_all(if n % 2 == 0 {
                    &[0x10, 30, 0]
                } else {
                    &[22, 3, 1]
                })
                .await
                .unwrap();
        }
        silent.push(stream);
    }
    let tx = world.tx("gw-1");
    let start = Instant::now();
    let mut raw = Raw::connect(world.plain, ConnectPacket::new(true, "gw-1")).await;
    assert_eq!(raw.publish_acked(TX, 1, &tx).await, 0);
    assert!(
        start.elapsed() < Duration::from_millis(500),
        "{:?}",
        start.elapsed()
    );
    world
        .until_count("refused_connect", |count| count >= 1000)
        .await;
    raw.ping().await;
}

/// The buffers of the socket must be small, since no write waits until they are full. They were
/// megabytes of the kernel's memory for each silent reader.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_is_cut_after_little() {
    let world = world_with(|config| config.write_time = Duration::from_millis(500)).await;
    let mut stuck = Raw::connect(world.plain, ConnectPacket::new(false, "root")).await;
    stuck.subscribe("lamplighter/1/notify/+/+/+", 0).await;
    let mut good = Raw::connect(world.plain, ConnectPacket::new(true, "ann")).await;
    good.subscribe("lamplighter/1/notify/+/north/+", 0).await;
    for block in 0..4 {
        // 2.2 MB in all, of which the stuck one gets what fits into the socket.
        world
            .register_many(&format!("n{block}"), "north", 1000)
            .await;
        for _ in 0..1000 {
            good.expect(PUBLISH).await;
        }
    }
    world
        .until_count("write_timeouts", |count| count == 1)
        .await;
    good.ping().await;
    // Of this the client's own buffer has a part.
    let held = stuck.rest().await;
    assert!(held < 512 * 1024, "{held} bytes");
}

/// For a reader whose socket is full nothing is encoded and nothing is read from the feed, however
/// much is published: it holds its place in the ring, and reads what it missed when it reads again.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_holds_little_and_misses_nothing() {
    const BLOCKS: usize = 8;
    const TOTAL: u64 = 1000 * BLOCKS as u64;
    // Half a megabyte in the buffers of both sockets, and what is encoded at a time.
    const HELD_BYTES_MAX: u64 = 512 * 1024 + 64 * 1024;
    let world = world_with(|config| config.write_time = TIMEOUT).await;
    let mut stuck = Raw::connect(world.plain, ConnectPacket::new(false, "root")).await;
    stuck.subscribe("lamplighter/1/notify/+/+/+", 0).await;
    let mut good = Raw::connect(world.plain, ConnectPacket::new(true, "ann")).await;
    good.subscribe("lamplighter/1/notify/+/north/+", 0).await;
    let mut message_bytes_min = usize::MAX;
    for block in 0..BLOCKS {
        world
            .register_many(&format!("n{block}"), "north", 1000)
            .await;
        for _ in 0..1000 {
            let (topic, _, body) = good.expect(PUBLISH).await.publish(true);
            message_bytes_min = message_bytes_min.min(topic.len() + body.len());
        }
    }
    let encoded = world.count("delivered") - TOTAL;
    let encoded_bytes = encoded * message_bytes_min as u64;
    assert!(encoded_bytes < HELD_BYTES_MAX, "{encoded_bytes} bytes");
    assert_eq!(world.count("replays"), 0);
    let mut last = None;
    for _ in 0..TOTAL {
        let (_, _, body) = stuck.expect(PUBLISH).await.publish(false);
        let message: NotificationMessage = serde_json::from_slice(&body).unwrap();
        assert!(last < Some(message.event.cursor), "in order, each once");
        last = Some(message.event.cursor);
    }
    stuck.ping().await;
    assert!(world.count("replays") > 0);
}

/// More notifications at once than are kept for all: each reader gets all of them in their order,
/// also one that reads later, and the marks show that nothing is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_reaches_every_connected_reader_whole() {
    const BLOCKS: usize = 6;
    let world = world().await;
    let mut slow = Raw::connect(world.plain, ConnectPacket::new(true, "root")).await;
    slow.subscribe("lamplighter/1/notify/+/+/+", 1).await;
    let mut good = Raw::connect(world.plain, ConnectPacket::new(false, "ann")).await;
    good.subscribe("lamplighter/1/notify/+/+/+", 1).await;
    for block in 0..BLOCKS {
        world
            .register_many(&format!("n{block}"), "north", 1000)
            .await;
    }
    for reader in [&mut good, &mut slow] {
        let (mut last, mut unknown) = (None, 0);
        for _ in 0..BLOCKS * 1000 {
            let (_, id, body) = reader.expect(PUBLISH).await.publish(reader.v5);
            reader.ack(id).await;
            let message: NotificationMessage = serde_json::from_slice(&body).unwrap();
            let NotificationMessage { event, previous } = message;
            assert!(last < Some(event.cursor), "in order, each once");
            // A reader that falls behind before it has read any does not know the one before.
            unknown += usize::from(previous.is_none());
            assert!(previous.is_none() || last.is_none() || previous == last);
            last = Some(event.cursor);
        }
        assert!(unknown <= 1, "{unknown}");
        reader.ping().await;
    }
    assert!(world.count("replays") > 0);
    assert_eq!(world.count("dropped"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_client_is_answered_without_another_byte() {
    let world = world().await;
    let mut flood = Raw::connect(world.plain, ConnectPacket::new(true, "gw-1")).await;
    flood.send(&[0xc0, 0].repeat(12_000)).await;
    for _ in 0..12_000 {
        flood.expect(PINGRESP).await;
    }
    assert!(world.count("throttled") > 0);
    // The same of publications: one window after the other, the last answers without a ping.
    let mut bytes = Vec::new();
    let tx = world.tx("gw-1");
    for id in 1..=12_000u16 {
        bytes.extend(publish(true, TX.as_bytes(), 1, id, &tx));
    }
    flood.send(&bytes).await;
    for id in 1..=12_000u16 {
        assert_eq!(flood.expect(PUBACK).await.body[..2], id.to_be_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_link_has_time_to_connect_unless_places_are_short() {
    let world = world_with(|config| config.pending_max = 4).await;
    let mut slow = Raw::open(world.plain, true).await;
    let connect = ConnectPacket::new(true, "gw-1").bytes();
    slow.send(&connect[..20]).await;
    world.until_count("accepted", |count| count == 1).await;
    // More than half of the places are taken by connections that send nothing.
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(world.plain).await.unwrap());
    }
    world.until_count("accepted", |count| count == 4).await;
    let begun = Instant::now();
    world
        .until_count("refused_connect", |count| count == 2)
        .await;
    let after = begun.elapsed();
    assert!(after > Duration::from_secs(4) && after < Duration::from_secs(15));
    // One that came while there was room still has its time.
    slow.send(&connect[20..]).await;
    assert_eq!(slow.expect(CONNACK).await.body[1], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_does_not_fetch_its_receipts_is_held_back() {
    let world = world().await;
    let connect = ConnectPacket {
        window: Some(1),
        ..ConnectPacket::new(true, "gw-1")
    };
    let mut raw = Raw::connect(world.plain, connect).await;
    raw.subscribe("lamplighter/1/gw/gw-1/receipt", 1).await;
    let (mut accepted, mut receipts) = (0, 0);
    loop {
        let id = accepted as u16 + 1;
        raw.publish(TX, 1, id, &world.tx("gw-1")).await;
        let ack = loop {
            match raw.packet().await {
                ack if ack.kind == PUBACK => break ack,
                _ => receipts += 1,
            }
        };
        if ack.body.get(2) == Some(&0x97) {
            break;
        }
        accepted += 1;
        assert!(accepted < 1000, "it is never held back");
    }
    assert_eq!(receipts, 1, "its own window");
    assert!(accepted >= 512, "{accepted}");
    assert_eq!(
        world.count("dropped"),
        0,
        "no receipt of an admitted transaction is lost"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_ends_a_connection_and_a_packet_without_an_end_too() {
    let world = world_with(|config| config.packet_time = Duration::from_millis(2500)).await;
    let start = Instant::now();
    let mut quiet = Raw::connect(
        world.plain,
        ConnectPacket {
            keepalive: 1,
            ..ConnectPacket::new(true, "gw-1")
        },
    )
    .await;
    let mut trickle = Raw::connect(
        world.plain,
        ConnectPacket {
            keepalive: 1,
            ..ConnectPacket::new(false, "gw-2")
        },
    )
    .await;
    let mut alive = Raw::connect(
        world.plain,
        ConnectPacket {
            keepalive: 1,
            ..ConnectPacket::new(true, "ann")
        },
    )
    .await;
    let packet = publish(false, b"lamplighter/1/gw/gw-2/tx", 1, 1, &[b'x'; 100]);
    for byte in &packet[..20] {
        trickle.send(&[*byte]).await;
        alive.ping().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(quiet.expect_closed().await, Some(0x8d));
    assert_eq!(trickle.expect_closed().await, None);
    assert!(start.elapsed() > Duration::from_millis(1500));
    alive.ping().await;
    assert_eq!(world.count("keepalive_timeouts"), 2);
    // MQTT 5 is told the server's own keepalive when it asks for none.
    let mut none = Raw::open(world.plain, true).await;
    none.send(
        &ConnectPacket {
            keepalive: 0,
            ..ConnectPacket::new(true, "gw-1")
        }
        .bytes(),
    )
    .await;
    let ack = none.expect(CONNACK).await.body;
    assert!(ack.windows(3).any(|w| w == [19, 0, 60]), "{ack:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_over_its_rate_waits_and_others_do_not() {
    let world = world_with(|config| config.packets_per_second = 200).await;
    let mut flood = Raw::connect(world.plain, ConnectPacket::new(true, "gw-1")).await;
    let mut bytes = Vec::new();
    let tx = world.tx("gw-1");
    for id in 1..=600 {
        bytes.extend(publish(true, TX.as_bytes(), 1, id, &tx));
    }
    let start = Instant::now();
    flood.send(&bytes).await;
    let mut good = Raw::connect(world.plain, ConnectPacket::new(true, "gw-2")).await;
    assert_eq!(
        good.publish_acked("lamplighter/1/gw/gw-2/tx", 1, &world.tx("gw-2"))
            .await,
        0
    );
    assert!(start.elapsed() < Duration::from_millis(700));
    for id in 1..=600u16 {
        assert_eq!(
            flood.expect(PUBACK).await.body[..2],
            id.to_be_bytes(),
            "in order"
        );
    }
    // 400 at once, 200 more at 200 a second.
    assert!(
        start.elapsed() > Duration::from_millis(900),
        "{:?}",
        start.elapsed()
    );
    assert!(world.count("throttled") > 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn work_is_not_asked_for_without_end() {
    let world = world().await;
    let mut raw = Raw::connect(world.plain, ConnectPacket::new(true, "gw-1")).await;
    let mut reasons = Vec::new();
    for id in 1..=50 {
        reasons.push(
            raw.publish_acked("lamplighter/1/gw/gw-1/sync", id, b"{}")
                .await,
        );
    }
    assert_eq!(reasons[..10], [0; 10]);
    assert!(reasons.contains(&0x97), "{reasons:?}");
    let accepted = reasons.iter().filter(|reason| **reason == 0).count();
    assert!(accepted < 40, "{accepted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn places_are_counted() {
    let world = world_with(|config| config.connections_max = 2).await;
    let mut first = Raw::connect(world.plain, ConnectPacket::new(true, "gw-1")).await;
    let second = Raw::connect(world.plain, ConnectPacket::new(true, "gw-2")).await;
    for (v5, code) in [(false, 3), (true, 0x89)] {
        assert_eq!(
            Raw::try_connect(world.plain, ConnectPacket::new(v5, "ann"))
                .await
                .1,
            code
        );
    }
    drop(second);
    world.until_count("connected", |count| count == 1).await;
    Raw::connect(world.plain, ConnectPacket::new(true, "ann")).await;
    first.ping().await;

    let world = world_with(|config| config.pending_max = 3).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(TcpStream::connect(world.plain).await.unwrap());
    }
    world.until_count("refused_full", |count| count == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_tcp_is_for_loopback_only() {
    use lamplighter_api::mqtt::{Edge, Listen, MqttConfig, StartError};
    let world = world().await;
    let outside = |tls| MqttConfig {
        listen: vec![Listen {
            address: ([0, 0, 0, 0], 0).into(),
            tls,
        }],
        ..MqttConfig::default()
    };
    let start = |config| Edge::start(config, world.handle.clone(), tokens());
    assert!(matches!(
        start(outside(false)),
        Err(StartError::PlainOutside(_))
    ));
    assert!(matches!(
        start(outside(true)),
        Err(StartError::NoIdentity(_))
    ));
    start(MqttConfig {
        identity: Some(identity("node")),
        ..outside(true)
    })
    .unwrap();
}

/// A large transaction on a slow field link takes longer than the keepalive.
#[tokio::test(flavor = "multi_thread")]
async fn a_packet_that_is_under_way_keeps_the_connection_alive() {
    let world = world().await;
    let mut connect = ConnectPacket::new(true, "gw-1");
    connect.keepalive = 1;
    let mut raw = Raw::connect(world.plain, connect).await;
    let packet = publish(true, TX.as_bytes(), 1, 7, &world.tx("gw-1"));
    let pieces = packet.chunks(packet.len().div_ceil(8));
    for piece in pieces {
        // Eight times half a second are more than one and a half seconds.
        tokio::time::sleep(Duration::from_millis(500)).await;
        raw.send(piece).await;
    }
    raw.expect(PUBACK).await;
}

/// Nor is it alive for ever, byte by byte.
#[tokio::test(flavor = "multi_thread")]
async fn a_packet_has_to_be_whole_in_time() {
    let world = world_with(|config| config.packet_time = Duration::from_secs(1)).await;
    let mut raw = Raw::connect(world.plain, ConnectPacket::new(true, "gw-1")).await;
    let packet = publish(true, TX.as_bytes(), 1, 7, &world.tx("gw-1"));
    raw.send(&packet[..10]).await;
    let begin = Instant::now();
    assert_eq!(raw.expect_closed().await, Some(0x8d));
    assert!(begin.elapsed() < Duration::from_secs(20));
    world
        .until_count("keepalive_timeouts", |count| count == 1)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_and_keepalive_are_those_of_the_configuration() {
    let world = world_with(|config| {
        config.subscriptions_max = 2;
        config.keepalive_max = 30;
    })
    .await;
    let mut connect = ConnectPacket::new(true, "root");
    connect.keepalive = 100;
    let mut raw = Raw::connect(world.plain, connect).await;
    for (district, code) in [("north", 1), ("south", 1), ("east", 0x97)] {
        let filter = format!("lamplighter/1/notify/+/{district}/+");
        assert_eq!(raw.subscribe(&filter, 1).await, code, "{district}");
    }
}

/// One address can't take all the places from others.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_a_share_of_the_places_before_connect() {
    let world = world_with(|config| config.pending_per_address = 3).await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(world.plain).await.unwrap());
    }
    world.until_count("accepted", |count| count == 3).await;
    let mut fourth = Raw::open(world.plain, true).await;
    assert_eq!(fourth.expect_closed().await, None);
    assert_eq!(world.count("refused_full"), 1);
    // Those that have connected do not count.
    drop(silent);
    world
        .until_count("refused_connect", |count| count == 3)
        .await;
    for name in ["gw-1", "gw-2", "ann", "root"] {
        let mut raw = Raw::connect(world.plain, ConnectPacket::new(true, name)).await;
        raw.ping().await;
    }
}
