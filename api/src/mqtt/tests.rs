//! Tests of what cannot be reached from outside: the codec under noise, topics, mailboxes, rates.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use lamplighter_types::wire::topics::GatewayTopic;
use lamplighter_types::{Account, AccountKind, Grant, Hash, Id, PublicKey, Role, Scope};
use rand::{Rng, SeedableRng};

use super::codec::{self, Message, Version};
use super::counters::Counters;
use super::limits::{MAILBOX_BYTES, MAILBOX_ITEMS};
use super::session::{AccountSession, Rates, ReplyTarget, Undelivered};
use super::topics::{self, Inbound, Interest, TopicError};

const RATES: Rates = Rates {
    packets: 100,
    bytes: 10_000,
    subscriptions: 64,
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
        drop(codec::next(version, &mut frame));
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
        drop(codec::read(version, &mut frame));
    }
}

#[test]
fn our_publish_is_what_the_codec_reads() {
    let message = Message {
        topic: "lamplighter/1/gw/g/receipt".into(),
        payload: Bytes::from(vec![7; 300]),
        retained: true,
        correlation: Some(Bytes::from_static(b"seven")),
        transaction: Some(Hash([1; 32])),
    };
    for version in [Version::V4, Version::V5] {
        for id in [None, Some(5)] {
            let mut out = BytesMut::new();
            codec::publish(version, &message, id, id.is_some(), &mut out);
            assert!(out.len() <= codec::publish_bytes(&message));
            let Some(codec::ReceivedPacket::Publish(read)) =
                codec::next(version, &mut out).unwrap()
            else {
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
        topic: "a".into(),
        payload: Bytes::from(vec![1; 200]),
        ..Message::default()
    };
    codec::publish(Version::V4, &message, Some(1), false, &mut out);
    for cut in 0..out.len() {
        let mut part = BytesMut::from(&out[..cut]);
        assert!(codec::next(Version::V4, &mut part).unwrap().is_none());
        assert_eq!(part.len(), cut, "nothing is taken before it is whole");
    }
}

fn account(id: &str, kind: AccountKind, districts: &[&str]) -> Account {
    let grant = |district: &&str| Grant::founding(Role::Operator, district.parse().unwrap());
    Account {
        account: Id::new(id).unwrap(),
        kind,
        organization: Id::new("city").unwrap(),
        name: id.to_owned(),
        district: Scope::city(),
        keys: Vec::new(),
        grants: districts.iter().map(grant).collect(),
        disabled: false,
        registered_height: 1,
    }
}

#[test]
fn only_the_topics_of_the_table_are_allowed() {
    let gateway = account("gw", AccountKind::Gateway, &[]);
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
            Err(TopicError::NotAllowed)
        );
    }
    assert!(topics::response(&gateway, "lamplighter/1/gw/gw/receipt/a.b-c_9").is_ok());
    assert!(topics::response(&gateway, "lamplighter/1/gw/gw/receipt/+").is_err());
    assert!(topics::response(&gateway, "lamplighter/1/gw/gw/receipt/a/b").is_err());
}

#[test]
fn a_role_for_a_district_covers_those_inside_it() {
    let harbour = account("h", AccountKind::User, &["north/harbour"]);
    for (district, allowed) in [
        ("north:harbour", true),
        ("north:harbour:pier-1", true),
        ("north:harbours", false),
        ("north", false),
        ("-", false),
        ("north::harbour", false),
    ] {
        let topic = format!("lamplighter/1/notify/alarm_raised/{district}/l1");
        let interest = topics::interest(&harbour, &topic);
        assert_eq!(interest == Ok(Interest::Notifications), allowed, "{topic}");
    }
    let filter = "lamplighter/1/notify/+/+/+";
    assert!(topics::interest(&harbour, filter).is_ok());
    let without_role = account("e", AccountKind::User, &[]);
    assert!(topics::interest(&without_role, filter).is_err());
    let gateway = account("gw", AccountKind::Gateway, &["north"]);
    assert!(topics::interest(&gateway, filter).is_err());
}

#[test]
fn a_session_has_a_limited_number_of_filters() {
    let mut filters = topics::Subscriptions::new(64);
    let filter = |n: usize| format!("lamplighter/1/notify/alarm/anywhere-{n}/+");
    for n in 0..64 {
        let new = filters.insert(&filter(n), Interest::Notifications, 1);
        assert_eq!(new, Some(true));
    }
    assert_eq!(filters.insert("one/more", Interest::Notifications, 1), None);
    let replaced = filters.insert(&filter(1), Interest::Notifications, 0);
    assert_eq!(replaced, Some(false));
    assert_eq!(
        filters.qos_of("lamplighter/1/notify/alarm/anywhere-1/l"),
        Some(0)
    );
    assert!(filters.remove(&filter(1)) && !filters.remove(&filter(1)));
}

fn session() -> AccountSession {
    let gateway = Id::new("gw").unwrap();
    let session = AccountSession::new(gateway, RATES, Arc::new(Counters::default()));
    session.begin(PublicKey([1; 32]), true, Duration::from_secs(60));
    session.with_session(|s| {
        s.subscriptions
            .insert("lamplighter/1/gw/gw/receipt", Interest::Receipt, 1)
    });
    session
}

fn receipt(bytes: usize) -> Message {
    let topic = GatewayTopic::Receipt.of(&Id::new("gw").unwrap()).into();
    Message {
        topic,
        payload: vec![0; bytes].into(),
        ..Message::default()
    }
}

#[test]
fn mailboxes_are_bounded_by_count_and_bytes() {
    for (bytes, most) in [(1, MAILBOX_ITEMS), (100_000, MAILBOX_BYTES / 100_000)] {
        let session = session();
        let mut delivered = 0;
        while session.deliver_receipt(receipt(bytes), None).is_ok() {
            delivered += 1;
        }
        assert_eq!(delivered, most);
        assert_eq!(
            session.deliver_receipt(receipt(bytes), None),
            Err(Undelivered::Full)
        );
        assert!(session.is_behind());
        assert_eq!(std::iter::from_fn(|| session.next_message()).count(), most);
        session.end(Vec::new(), None);
        assert!(
            session.deliver_receipt(receipt(1), None).is_ok(),
            "kept while away"
        );
        session.revoke();
        assert_eq!(
            session.deliver_receipt(receipt(1), None),
            Err(Undelivered::NoSubscriber)
        );
    }
}

#[test]
fn remembered_replies_are_bounded() {
    let session = session();
    for n in 0..5000u32 {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&n.to_be_bytes());
        let correlation = Some(Bytes::copy_from_slice(&n.to_be_bytes()));
        session.expect_reply(
            Hash(hash),
            ReplyTarget {
                topic: None,
                correlation,
            },
        );
    }
    let answered = (0..5000u32).filter(|n| {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&n.to_be_bytes());
        session
            .deliver_receipt(receipt(1), Some(Hash(hash)))
            .unwrap();
        session
            .next_message()
            .unwrap()
            .message
            .correlation
            .is_some()
    });
    assert_eq!(answered.count(), 1024);
}

#[test]
fn a_client_over_its_rate_waits_until_its_debt_is_paid() {
    let session = session();
    let waits: Vec<Duration> = (0..300).map(|_| session.charge(1)).collect();
    assert!(
        waits[..199].iter().all(Duration::is_zero),
        "two seconds' worth at once"
    );
    assert!(waits[299] > Duration::from_millis(900));
    assert!(
        session.charge(50_000) > Duration::from_secs(2),
        "bytes count too"
    );
}
