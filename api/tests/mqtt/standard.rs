//! Rules of the MQTT standards about CONNECT, wills and retained messages.

use std::time::{Duration, Instant};

use lamplighter_types::Hash;

use super::raw::*;
use super::support::*;

const TX: &str = "lamplighter/1/gw/gw-1/tx";

/// A CONNECT of MQTT 5 with these properties.
fn connect_with(properties: &[u8]) -> Vec<u8> {
    let mut body = string("MQTT");
    body.extend([5, 0xc2, 0, 60]);
    body.extend(&frame(0, properties)[1..]);
    for text in ["gw-1", "gw-1", &token("gw-1")] {
        body.extend(string(text));
    }
    frame(0x10, &body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connect_that_breaks_the_standard_is_refused() {
    let world = world().await;
    let mut user_properties = vec![38, 0, 1, b'a', 0, 1, b'b'];
    user_properties.extend(user_properties.clone());
    let cases: [(&str, &[u8], u8); 14] = [
        ("nothing", &[], 0),
        (
            "each once",
            &[17, 0, 0, 0, 1, 33, 0, 5, 39, 0, 1, 0, 0, 23, 0],
            0,
        ),
        ("user properties may come again", &user_properties, 0),
        ("expiry twice", &[17, 0, 0, 0, 1, 17, 0, 0, 0, 1], 0x82),
        ("receive maximum 0", &[33, 0, 0], 0x82),
        ("largest packet 0", &[39, 0, 0, 0, 0], 0x82),
        ("problem information 2", &[23, 2], 0x82),
        ("response information 2", &[25, 2], 0x82),
        ("authentication method", &[21, 0, 1, b'x'], 0x8c),
        ("authentication data alone", &[22, 0, 1, b'x'], 0x82),
        ("of a PUBLISH", &[1, 0], 0x81),
        ("of a will", &[24, 0, 0, 0, 1], 0x81),
        ("unknown", &[99, 0], 0x81),
        ("cut off", &[17, 0, 0], 0x81),
    ];
    for (what, properties, code) in cases {
        let mut raw = Raw::open(world.plain, true).await;
        raw.send(&connect_with(properties)).await;
        assert_eq!(raw.expect(CONNACK).await.body[1], code, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_to_be_kept_needs_a_client_id() {
    let world = world().await;
    for (clean, code) in [(true, 0), (false, 2)] {
        let connect = ConnectPacket {
            id: "",
            clean,
            ..ConnectPacket::new(false, "gw-1")
        };
        assert_eq!(Raw::try_connect(world.plain, connect).await.1, code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mqtt_3_1_gets_the_answer_that_it_is_too_old() {
    let world = world().await;
    let old_name = [&string("MQIsdp")[..], &[3]].concat();
    let new_name = [&string("MQTT")[..], &[3]].concat();
    for name in [old_name, new_name] {
        let mut raw = Raw::open(world.plain, false).await;
        let rest = [&[2, 0, 60][..], &string("gw-1")].concat();
        raw.send(&frame(0x10, &[name, rest].concat())).await;
        assert_eq!(raw.expect(CONNACK).await.body, [0, 1]);
        assert_eq!(raw.expect_closed().await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_that_a_client_may_not_send_end_the_connection() {
    let world = world().await;
    let topic = TX.as_bytes();
    let cases: [(&[u8], u8); 3] = [
        // A subscription identifier is sent by the server only.
        (&[11, 5], 0x82),
        (&[1, 1, 1, 1], 0x82),
        (&[1, 2], 0x82),
    ];
    for (properties, code) in cases {
        let mut raw = Raw::connect(world.plain, ConnectPacket::new(true, "gw-1")).await;
        raw.send(&publish_with(true, topic, 2, 1, properties, b"tx"))
            .await;
        assert_eq!(raw.expect_closed().await, Some(code), "{properties:?}");
    }
    assert_eq!(world.count("admitted"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_to_retain_a_message_is_disconnected() {
    let world = world().await;
    let mut raw = Raw::open(world.plain, true).await;
    raw.send(&ConnectPacket::new(true, "gw-1").bytes()).await;
    let ack = raw.expect(CONNACK).await.body;
    // Property 37: retain available.
    assert!(ack.windows(2).any(|pair| pair == [37, 0]), "{ack:?}");
    raw.send(&publish_with(true, TX.as_bytes(), 3, 1, &[], b"tx"))
        .await;
    assert_eq!(raw.expect_closed().await, Some(0x9a));
    assert_eq!(world.count("admitted"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_will_waits_no_longer_than_its_session() {
    let world = world().await;
    fn will(tx: &[u8], expiry: u32) -> ConnectPacket<'_> {
        ConnectPacket {
            will: Some((TX, tx)),
            will_delay: 600,
            clean: false,
            expiry,
            ..ConnectPacket::new(true, "gw-1")
        }
    }
    let committed = async |hash: &Hash| {
        let start = Instant::now();
        world.until_committed(hash).await;
        start.elapsed()
    };
    let (tx, hash) = world.transaction("gw-1");
    drop(Raw::connect(world.plain, will(&tx, 0)).await);
    // The delay that was asked for is 600 s.
    assert!(committed(&hash).await < Duration::from_secs(30));
    let (tx, hash) = world.transaction("gw-1");
    drop(Raw::connect(world.plain, will(&tx, 1)).await);
    let after = committed(&hash).await;
    assert!(after > Duration::from_millis(700) && after < Duration::from_secs(60));
    // A new session ends the old one, and so does its will's waiting.
    let (tx, hash) = world.transaction("gw-1");
    drop(Raw::connect(world.plain, will(&tx, 600)).await);
    let mut new = Raw::connect(world.plain, ConnectPacket::new(true, "gw-1")).await;
    assert!(committed(&hash).await < Duration::from_secs(60));
    // The client shortens the session as it disconnects with its will.
    let (tx, hash) = world.transaction("gw-1");
    let mut raw = Raw::connect(world.plain, will(&tx, 600)).await;
    raw.send(&[0xe0, 7, 4, 5, 17, 0, 0, 0, 0]).await;
    assert!(committed(&hash).await < Duration::from_secs(5));
    new.expect_closed().await;
}
