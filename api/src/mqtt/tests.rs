//! What cannot be reached from outside: the codec under noise, and a router that dies.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rand::{Rng, SeedableRng};
use tokio_util::sync::CancellationToken;

use super::backend::{Account, AccountKind, Reach};
use super::broker::Broker;
use super::counters::Counters;
use super::limits::{MAILBOX_BYTES, MAILBOX_ITEMS};
use super::link::Link;
use super::rate::Rates;
use super::seat::{Reply, Seat, Undelivered};
use super::topics::{self, Inbound, Interest, Refusal};
use super::wire::{self, Message, Version};

const RATES: Rates = Rates {
    packets: 100,
    bytes: 10_000,
};

#[test]
fn no_bytes_make_the_codec_panic() {
    let mut random = rand::rngs::StdRng::seed_from_u64(1);
    let firsts = [
        0x30, 0x31, 0x32, 0x33, 0x34, 0x3a, 0x40, 0x62, 0x82, 0xa2, 0xc0, 0xe0,
    ];
    for round in 0..400_000 {
        let length: u8 = random.random_range(0..60);
        let mut frame = BytesMut::with_capacity(64);
        frame.extend_from_slice(&[firsts[round % firsts.len()], length]);
        // Small numbers make lengths and property types that fit now and then.
        let small = random.random_range(1..=255u8);
        frame.extend((0..length).map(|_| random.random_range(0..=small)));
        let version = if round % 2 == 0 {
            Version::V4
        } else {
            Version::V5
        };
        // Only that it returns matters here.
        drop(wire::next(version, &mut frame));
    }
}

#[test]
fn a_connect_of_noise_is_refused_without_panic() {
    let mut random = rand::rngs::StdRng::seed_from_u64(2);
    for round in 0..200_000 {
        let mut body = b"\0\x04MQTT".to_vec();
        body.push(4 + (round % 2) as u8);
        let length = random.random_range(0..60);
        let small = random.random_range(1..=255u8);
        body.extend((0..length).map(|_| random.random_range(0..=small)));
        let mut frame = BytesMut::from(&[0x10, body.len() as u8][..]);
        frame.extend_from_slice(&body);
        let version = if round % 2 == 0 {
            Version::V4
        } else {
            Version::V5
        };
        drop(wire::read(version, &mut frame));
    }
}

#[test]
fn our_publish_is_what_the_codec_reads() {
    let message = Message {
        topic: "lamplighter/1/gw/g/receipt".to_owned(),
        payload: Bytes::from(vec![7; 300]),
        retained: true,
        correlation: Some(Bytes::from_static(b"seven")),
        transaction: Some([1; 32]),
    };
    for version in [Version::V4, Version::V5] {
        for id in [None, Some(5)] {
            let mut out = BytesMut::new();
            wire::publish(version, &message, id, id.is_some(), &mut out);
            assert!(out.len() <= wire::publish_bytes(&message));
            let Some(wire::Received::Publish(read)) = wire::next(version, &mut out).unwrap() else {
                panic!("not a PUBLISH");
            };
            assert!(out.is_empty());
            assert_eq!((read.id, read.retain), (id.unwrap_or(0), true));
            assert_eq!(
                (&read.topic[..], &read.payload),
                (message.topic.as_bytes(), &message.payload)
            );
            let correlation = read.properties.correlation_data;
            assert_eq!(
                correlation,
                message
                    .correlation
                    .clone()
                    .filter(|_| version == Version::V5)
            );
        }
    }
}

#[test]
fn frames_are_cut_anywhere() {
    let mut out = BytesMut::new();
    let message = Message {
        topic: "a".to_owned(),
        payload: Bytes::from(vec![1; 200]),
        ..Message::default()
    };
    wire::publish(Version::V4, &message, Some(1), false, &mut out);
    for cut in 0..out.len() {
        let mut part = BytesMut::from(&out[..cut]);
        assert!(wire::next(Version::V4, &mut part).unwrap().is_none());
        assert_eq!(part.len(), cut, "nothing is taken before it is whole");
    }
}

#[test]
fn topics_of_the_table_and_no_others() {
    let gateway = Account {
        id: "gw".to_owned(),
        kind: AccountKind::Gateway,
    };
    assert_eq!(
        topics::inbound(&gateway, b"lamplighter/1/gw/gw/tx"),
        Ok(Inbound::Transaction)
    );
    assert_eq!(
        topics::inbound(&gateway, b"lamplighter/1/gw/gw/sync"),
        Ok(Inbound::Sync)
    );
    for topic in [
        "lamplighter/1/gw/gw2/tx",
        "lamplighter/1/gw/gw/tx/",
        "lamplighter/1/gw/gwtx",
    ] {
        assert_eq!(
            topics::inbound(&gateway, topic.as_bytes()),
            Err(Refusal::NotAllowed)
        );
    }
    assert!(topics::response(&gateway, "lamplighter/1/gw/gw/receipt/a.b-c_9").is_ok());
    assert!(topics::response(&gateway, "lamplighter/1/gw/gw/receipt/+").is_err());
    assert!(topics::response(&gateway, "lamplighter/1/gw/gw/receipt/a/b").is_err());
    assert_eq!(
        topics::district("lamplighter/1/notify/alarm/north/l1"),
        Some("north".to_owned())
    );
}

#[test]
fn districts_lie_inside_each_other() {
    let kind = |own: &str| AccountKind::User(Reach::Districts(BTreeSet::from([own.to_owned()])));
    let harbour = Account {
        id: "h".to_owned(),
        kind: kind("north/harbour"),
    };
    for (district, seen) in [
        ("north/harbour", true),
        ("north/harbour/pier-1", true),
        ("north/harbours", false),
        ("north", false),
        ("", false),
    ] {
        assert_eq!(harbour.sees(district), seen, "{district}");
        let topic = topics::notification("alarm", district, "l1").unwrap();
        assert_eq!(topics::interest(&harbour, &topic).is_ok(), seen, "{topic}");
        assert_eq!(topics::district(&topic).unwrap(), district);
    }
    assert_eq!(topics::notify_route("north/harbour"), "notify/north");
    assert_eq!(topics::notify_route(""), "notify/-");
    assert!(topics::notification("alarm", "a//b", "l1").is_none());
}

#[test]
fn what_the_router_is_asked_for_depends_on_roles_only() {
    let districts = BTreeSet::from(["north".to_owned(), "south".to_owned()]);
    let ann = Account {
        id: "ann".to_owned(),
        kind: AccountKind::User(Reach::Districts(districts)),
    };
    let root = Account {
        id: "root".to_owned(),
        kind: AccountKind::User(Reach::All),
    };
    let mut filters = topics::Subscriptions::default();
    for n in 0..64 {
        let filter = format!("lamplighter/1/notify/alarm/anywhere-{n}/+");
        assert_eq!(filters.insert(&filter, Interest::Notify, 1), Some(true));
    }
    assert_eq!(filters.insert("one/more", Interest::Notify, 1), None);
    let routes = |account| filters.routes(account).into_iter().collect::<Vec<_>>();
    assert_eq!(routes(&ann), ["notify/north", "notify/south"]);
    assert_eq!(routes(&root), ["notify/+"]);
}

fn seat() -> Seat {
    let seat = Seat::new("gw", RATES, Arc::new(Counters::default()));
    seat.begin([1; 32], true, Duration::from_secs(60));
    seat.with_session(|session| {
        session
            .subscriptions
            .insert("lamplighter/1/gw/gw/receipt", Interest::Receipt, 1)
    });
    seat
}

fn receipt(bytes: usize) -> Message {
    let topic = topics::receipt("gw");
    Message {
        topic,
        payload: vec![0; bytes].into(),
        ..Message::default()
    }
}

#[test]
fn mailboxes_are_bounded_by_count_and_bytes() {
    for (bytes, most) in [(1, MAILBOX_ITEMS), (100_000, MAILBOX_BYTES / 100_000)] {
        let seat = seat();
        let mut taken = 0;
        while seat.deliver_receipt(receipt(bytes), None).is_ok() {
            taken += 1;
        }
        assert_eq!(taken, most);
        assert_eq!(
            seat.deliver_receipt(receipt(bytes), None),
            Err(Undelivered::Full)
        );
        assert!(seat.is_behind());
        assert_eq!(std::iter::from_fn(|| seat.take()).count(), most);
        seat.end(Vec::new(), None);
        assert!(
            seat.deliver_receipt(receipt(1), None).is_ok(),
            "kept while away"
        );
        seat.revoke();
        assert_eq!(
            seat.deliver_receipt(receipt(1), None),
            Err(Undelivered::NobodyThere)
        );
    }
}

#[test]
fn remembered_replies_are_bounded() {
    let seat = seat();
    for n in 0..5000u32 {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&n.to_be_bytes());
        let correlation = Some(Bytes::copy_from_slice(&n.to_be_bytes()));
        seat.expect_reply(
            hash,
            Reply {
                topic: None,
                correlation,
            },
        );
    }
    let answered = (0..5000u32).filter(|n| {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&n.to_be_bytes());
        seat.deliver_receipt(receipt(1), Some(hash)).unwrap();
        seat.take().unwrap().message.correlation.is_some()
    });
    assert_eq!(answered.count(), 1024);
}

#[test]
fn who_is_over_the_rate_waits_for_its_debt() {
    let seat = seat();
    let waits: Vec<Duration> = (0..300).map(|_| seat.charge(1)).collect();
    assert!(
        waits[..199].iter().all(Duration::is_zero),
        "two seconds' worth at once"
    );
    assert!(waits[299] > Duration::from_millis(900));
    assert!(
        seat.charge(50_000) > Duration::from_secs(2),
        "bytes count too"
    );
}

async fn linked(broker: &Arc<Broker>, client: &str) -> Link {
    let (mut link, _) = broker.attach(client, true).await.unwrap();
    link.route(&BTreeSet::from(["head".to_owned()])).unwrap();
    link
}

async fn next(link: &mut Link) -> (String, Bytes) {
    loop {
        let next = tokio::time::timeout(Duration::from_secs(10), link.next())
            .await
            .unwrap();
        if let Some(delivery) = next.unwrap() {
            link.acknowledge(delivery.slot).unwrap();
            return (delivery.topic, delivery.payload);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_dies_is_replaced_and_its_clients_are_told() {
    let (counters, stop) = (Arc::new(Counters::default()), CancellationToken::new());
    let broker = Broker::start(10, Arc::clone(&counters), stop.clone()).unwrap();
    for round in 1..=3 {
        let mut link = linked(&broker, "a").await;
        broker.publish("head", "shown", b"x");
        assert_eq!(
            next(&mut link).await,
            ("shown".to_owned(), Bytes::from_static(b"x"))
        );
        broker.kill_router();
        let told = tokio::time::timeout(Duration::from_secs(10), async {
            while link.next().await.is_ok() {}
        });
        told.await.unwrap();
        link.detach().await;
        while broker.number() < round {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(counters.router_restarts.get(), round);
    }
    let mut link = linked(&broker, "a").await;
    broker.publish("head", "shown", b"again");
    assert_eq!(next(&mut link).await.1, "again");
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_acknowledges_in_the_routers_order() {
    let broker =
        Broker::start(10, Arc::new(Counters::default()), CancellationToken::new()).unwrap();
    let mut link = linked(&broker, "a").await;
    for n in 0..250u32 {
        broker.publish("head", "t", &n.to_be_bytes());
    }
    let mut held = Vec::new();
    let mut seen = Vec::new();
    while seen.len() < 250 {
        if let Some(delivery) = link.next().await.unwrap() {
            seen.push(delivery.payload.clone());
            held.push(delivery.slot);
        }
        // Backwards, ten at a time: the router would drop the link at the first of them.
        if held.len() == 10 {
            for slot in held.drain(..).rev() {
                link.acknowledge(slot).unwrap();
            }
        }
    }
    let wanted = (0..250u32).map(|n| Bytes::copy_from_slice(&n.to_be_bytes()));
    assert!(seen.into_iter().eq(wanted));
    link.detach().await;
    let (again, remembered) = broker.attach("a", true).await.unwrap();
    assert!(!remembered);
    again.detach().await;
}
