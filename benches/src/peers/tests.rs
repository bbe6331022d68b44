use bytes::BytesMut;

use super::broker::number_of;
use super::mqtt::{Incoming, take_packet};
use super::tables::peer_of;
use super::{Figures, WriteRow};

#[test]
fn packets_are_taken_once_they_are_complete() {
    // A PUBLISH with QoS 1 to `t`, id 7, one property of 2 bytes, payload `{}`; then a PUBACK.
    let bytes = b"\x32\x0a\x00\x01t\x00\x07\x02\x01\x00{}\x40\x02\x00\x09";
    let publish = Incoming::Publish {
        id: Some(7),
        payload: "{}".into(),
    };
    for cut in 0..12 {
        let mut received = BytesMut::from(&bytes[..cut]);
        assert_eq!(take_packet(&mut received).unwrap(), None, "{cut}");
    }
    let mut received = BytesMut::from(&bytes[..]);
    assert_eq!(take_packet(&mut received).unwrap(), Some(publish));
    let acknowledged = Incoming::PubAck { id: 9, reason: 0 };
    assert_eq!(take_packet(&mut received).unwrap(), Some(acknowledged));
    assert_eq!(take_packet(&mut received).unwrap(), None);
}

#[test]
fn malformed_packets_are_refused() {
    for bytes in [
        // A length of more than four bytes.
        &b"\x30\xff\xff\xff\xff\x01"[..],
        // A topic that is longer than the packet.
        b"\x30\x03\x00\x09t",
        // A CONNACK without its reason.
        b"\x20\x01\x00",
        // A packet above the limit.
        b"\x30\xff\xff\xff\x7f",
    ] {
        assert!(
            take_packet(&mut BytesMut::from(bytes)).is_err(),
            "{bytes:?}"
        );
    }
}

#[test]
fn heads_have_a_number() {
    assert_eq!(
        number_of(br#"{"header":{"version":2,"height":47,"x":1}}"#),
        Some(47)
    );
    assert_eq!(number_of(br#"{"height":8}"#), Some(8));
    assert_eq!(number_of(b"{}"), None);
}

#[test]
fn a_ledger_is_compared_with_the_faster_peer_of_its_kind() {
    let row = |system: &str, servers, connections, per_second| WriteRow {
        system: system.to_owned(),
        servers,
        connections,
        figures: Figures {
            clients: 64,
            per_second,
            ..Figures::default()
        },
    };
    let rows = [
        row("lamplighter", 4, 64, 100.0),
        row("etcd", 1, 64, 900.0),
        row("etcd", 3, 64, 200.0),
        row("etcd", 3, 16, 300.0),
    ];
    let peer = peer_of(&rows[0], &rows).unwrap();
    assert_eq!((peer.servers, peer.connections), (3, 16));
    assert!(peer_of(&rows[0], &rows[..2]).is_none());
}
