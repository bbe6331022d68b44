//! Peers that violate the protocol, before and after they have proved a listed key.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::raw::{self, frame, handshake};
use common::*;
use futures::{AsyncReadExt, AsyncWriteExt};
use lamplighter_net::{AllowList, AllowedPeer, NodeKey};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

const RAW: [u8; 32] = [99; 32];

/// A pair of good nodes; the first one also lists the raw peer's key.
async fn pair_and_raw_key() -> (Node, Node) {
    let (a, b) = pair().await;
    let raw = AllowedPeer {
        key: NodeKey::of_secret(&RAW).unwrap(),
        address: None,
    };
    let mut peers = list(&[&a, &b]);
    peers.0.push(raw);
    a.peers.send_replace(peers);
    until(|| a.network.status().len() == 2).await;
    (a, b)
}

#[tokio::test]
async fn garbage_on_tcp() {
    let (a, b) = pair_and_raw_key().await;
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 3000], &[0; 64]] {
        let failed = a.network.counters().failed_handshakes;
        let mut tcp = TcpStream::connect(a.network.local_address()).await.unwrap();
        tcp.write_all(garbage).await.unwrap();
        tcp.shutdown().await.unwrap();
        until(|| a.network.counters().failed_handshakes == failed + 1).await;
    }
    a.check(&b).await;
}

#[tokio::test]
async fn a_stranger_receives_nothing_after_noise() {
    let (a, b) = pair_and_raw_key().await;
    let mut io = raw::secure(a.network.local_address(), [98; 32]).await;
    let mut byte = [0];
    let received = io.read(&mut byte).await;
    assert!(matches!(received, Ok(0) | Err(_)), "{received:?}");
    assert_eq!(a.network.counters().refused_keys, 1);
    a.check(&b).await;
}

#[tokio::test]
async fn garbage_after_noise_and_after_yamux() {
    let (a, b) = pair_and_raw_key().await;
    let mut io = raw::secure(a.network.local_address(), RAW).await;
    io.write_all(&[0xee; 500]).await.unwrap();
    io.close().await.unwrap();
    until(|| a.network.counters().failed_handshakes == 1).await;
    let io = raw::secure(a.network.local_address(), RAW).await;
    let version = multistream_select::Version::V1;
    let io = multistream_select::dialer_select_proto(io, ["/yamux/1.0.0"], version).await;
    let mut io = io.unwrap().1;
    io.write_all(&[0xee; 500]).await.unwrap();
    io.flush().await.unwrap();
    until(|| a.network.counters().failed_handshakes == 2).await;
    a.check(&b).await;
}

#[tokio::test]
async fn bad_handshakes() {
    let (a, b) = pair_and_raw_key().await;
    let long_greeting = [&CHAIN[..], &[1; 1025]].concat();
    let cases = [
        (u32::MAX.to_le_bytes().to_vec(), ""),
        (vec![0; 64], ""),
        (frame(1, 0, 1, &[7; 31]), "it has no chain id"),
        (frame(1, 0, 1, &long_greeting), "its greeting is too long"),
        (frame(1, 0, 1, &[8; 32]), "it is of chain 0707"),
        (
            frame(1, 0, 9, &CHAIN),
            "it speaks protocol version 1, not 9",
        ),
        (frame(16, 0, 9, b"a request"), "unexpected Request frame"),
    ];
    for (bytes, reason) in cases {
        let mut peer = raw::muxed(a.network.local_address(), RAW, 1).await;
        let mut link = peer.open("link").await;
        link.write_all(&bytes).await.unwrap();
        link.flush().await.unwrap();
        match raw::read(&mut link).await {
            Ok((2, text)) => {
                let text = String::from_utf8(text).unwrap();
                assert!(!reason.is_empty() && text.contains(reason), "{text}");
            }
            Ok((kind, _)) => panic!("a frame of kind {kind} in answer to a bad handshake"),
            Err(_) => assert_eq!(reason, ""),
        }
    }
    let counters = a.network.counters();
    assert_eq!((counters.links, counters.refused_handshakes), (1, 2));
    assert_eq!(counters.failed_handshakes, 5);
    a.check(&b).await;
}

#[tokio::test]
async fn a_handshake_that_never_comes() {
    let mut config = config([1; 32]);
    config.limits.handshake_max = Duration::from_millis(200);
    let a = start(config).await;
    let key = NodeKey::of_secret(&RAW).unwrap();
    a.peers
        .send_replace(AllowList(vec![AllowedPeer { key, address: None }]));
    until(|| a.network.status().len() == 1).await;
    let _silent_tcp = TcpStream::connect(a.network.local_address()).await.unwrap();
    let _silent_mux = raw::muxed(a.network.local_address(), RAW, 1).await;
    until(|| a.network.counters().failed_handshakes == 2).await;
}

#[tokio::test]
async fn too_many_handshakes_from_one_address() {
    let mut config = config([1; 32]);
    config.limits.handshakes_per_ip_max = 2;
    let a = start(config).await;
    let mut open = Vec::new();
    for _ in 0..5 {
        open.push(TcpStream::connect(a.network.local_address()).await.unwrap());
    }
    until(|| a.network.counters().dropped_connections == 3).await;
    drop(open);
    until(|| a.network.counters().failed_handshakes == 2).await;
}

#[tokio::test]
async fn a_raw_peer_is_served() {
    let (mut a, _b) = pair_and_raw_key().await;
    let mut peer = raw::linked(a.network.local_address(), RAW).await;
    a.wait_for_peers(2).await;
    peer.send(0, &frame(16, 41, 1000, b"echo")).await;
    assert_eq!(
        raw::read(&mut peer.lanes[0]).await.unwrap(),
        (17, b"echo".to_vec())
    );
    peer.send(2, &frame(19, 0, 0, b"note")).await;
    assert_eq!(a.notified.recv().await.unwrap().2, "note");
    peer.link.write_all(&frame(3, 5, 0, b"")).await.unwrap();
    peer.link.flush().await.unwrap();
    loop {
        match raw::read(&mut peer.link).await.unwrap().0 {
            3 => {}
            kind => break assert_eq!(kind, 4),
        }
    }
}

#[tokio::test]
async fn broken_frames_close_the_link_with_a_reason() {
    let (a, b) = pair_and_raw_key().await;
    let append_max = 4 * 1024 * 1024 + 64 * 1024;
    let mut too_long = frame(16, 0, 1000, b"");
    too_long[..4].copy_from_slice(&(append_max + 14u32).to_le_bytes());
    let requests: Vec<u8> = (0..5)
        .flat_map(|id| frame(16, id, 10_000, b"wait"))
        .collect();
    let cases = [
        (1, too_long, "/lamplighter/append/1 stream broke"),
        (0, vec![0xff; 400], "/lamplighter/control/1 stream broke"),
        (4, frame(77, 0, 0, b""), "/lamplighter/sync/1 stream broke"),
        (0, frame(1, 0, 1, &CHAIN), "unexpected Handshake frame"),
        (3, frame(17, 12, 0, b"unasked"), "belongs to no request"),
        (5, requests, "more requests on the snapshot lane"),
    ];
    for (number, (lane, bytes, reason)) in cases.into_iter().enumerate() {
        let mut peer = raw::linked(a.network.local_address(), RAW).await;
        a.wait_for_peers(2).await;
        peer.send(lane, &bytes).await;
        let reason_sent = peer.close_reason().await;
        assert!(reason_sent.contains(reason), "{reason_sent}");
        a.wait_for_peers(1).await;
        until(|| a.network.counters().violations == number as u64 + 1).await;
        a.check(&b).await;
    }
}

#[tokio::test]
async fn an_eighth_stream_closes_the_link() {
    let (a, _b) = pair_and_raw_key().await;
    let mut peer = raw::linked(a.network.local_address(), RAW).await;
    a.wait_for_peers(2).await;
    let mut eighth = peer.raw.streams.remove(0);
    eighth.write_all(b"hello?").await.unwrap();
    assert_eq!(
        peer.close_reason().await,
        "the peer opened more streams than there are lanes"
    );
    until(|| a.network.counters().violations == 1).await;
}

#[tokio::test]
async fn a_lane_opened_twice() {
    let (a, b) = pair_and_raw_key().await;
    let mut peer = raw::muxed(a.network.local_address(), RAW, 3).await;
    let mut link = peer.open("link").await;
    link.write_all(&handshake()).await.unwrap();
    link.flush().await.unwrap();
    let _one = peer.open("sync").await;
    let _two = peer.open("sync").await;
    a.wait_for_error(
        NodeKey::of_secret(&RAW).unwrap(),
        "opened the sync lane twice",
    )
    .await;
    a.check(&b).await;
}

#[tokio::test]
async fn a_peer_that_falls_silent() {
    let mut config = config([1; 32]);
    config.limits.ping_every = Duration::from_millis(20);
    config.limits.silence_max = Duration::from_millis(200);
    let a = start(config).await;
    let key = NodeKey::of_secret(&RAW).unwrap();
    a.peers
        .send_replace(AllowList(vec![AllowedPeer { key, address: None }]));
    until(|| a.network.status().len() == 1).await;
    let mut peer = raw::linked(a.network.local_address(), RAW).await;
    a.wait_for_peers(1).await;
    a.wait_for_peers(0).await;
    assert!(peer.close_reason().await.starts_with("nothing was heard"));
}

#[tokio::test]
async fn a_second_connection_takes_over() {
    let (a, _b) = pair_and_raw_key().await;
    let mut first = raw::linked(a.network.local_address(), RAW).await;
    a.wait_for_peers(2).await;
    let mut second = raw::linked(a.network.local_address(), RAW).await;
    assert_eq!(
        first.close_reason().await,
        "a newer connection of the same node took over"
    );
    second.send(0, &frame(16, 1, 1000, b"here")).await;
    assert_eq!(
        raw::read(&mut second.lanes[0]).await.unwrap(),
        (17, b"here".to_vec())
    );
    assert_eq!(a.network.connected().borrow().len(), 2);
}
