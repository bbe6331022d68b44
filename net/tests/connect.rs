//! Connections that are made, and those that are not.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::*;
use lamplighter_net::{AllowList, AllowedPeer, Lane, NetError, Network, NodeKey};
use tokio::sync::watch;

#[tokio::test]
async fn two_nodes() {
    let (a, b) = pair().await;
    a.check(&b).await;
    let status = a.status_of(&b);
    assert_eq!(status.greeting, "a test node");
    assert!(status.connected_for.is_some());
    until(|| a.status_of(&b).round_trip.is_some() && b.status_of(&a).round_trip.is_some()).await;
    a.network.shutdown().await;
    b.wait_for_peers(0).await;
    b.wait_for_error(a.key, "goodbye: this node shuts down")
        .await;
}

#[tokio::test]
async fn four_nodes() {
    let nodes = start_many(4).await;
    for a in &nodes {
        for b in nodes.iter().filter(|b| b.key != a.key) {
            a.check(b).await;
        }
        assert_eq!(a.network.counters().links, 3);
    }
}

#[tokio::test]
async fn restart_at_the_same_address() {
    let secrets = secrets(2);
    // Once the side that dials is restarted, once the side that listens.
    for (stays, restarts) in [(0, 1), (1, 0)] {
        let stays = start(config(secrets[stays])).await;
        let mut restarted = start(config(secrets[restarts])).await;
        let list = list(&[&stays, &restarted]);
        stays.peers.send_replace(list.clone());
        restarted.peers.send_replace(list.clone());
        stays.wait_for_peers(1).await;
        let address = restarted.network.local_address();
        for _ in 0..3 {
            restarted.network.shutdown().await;
            stays.wait_for_peers(0).await;
            let mut config = config(restarted.secret);
            config.listen = address;
            restarted = start(config).await;
            restarted.peers.send_replace(list.clone());
            restarted.wait_for_peers(1).await;
            stays.wait_for_peers(1).await;
            stays.check(&restarted).await;
        }
        assert_eq!(stays.network.counters().links, 4);
    }
}

#[tokio::test]
async fn a_peer_that_is_dropped_without_shutdown() {
    let (a, b) = pair().await;
    let (key, network) = (b.key, a.network.clone());
    let body = bytes::Bytes::from_static(b"never answered");
    let asking = tokio::spawn(async move {
        network
            .request(key, Lane::Transactions, body, TIMEOUT)
            .await
    });
    // Answers on a lane of its own show that the request before has arrived.
    a.check(&b).await;
    let began = std::time::Instant::now();
    drop(b);
    let error = asking.await.unwrap().unwrap_err();
    assert!(matches!(error, NetError::Disconnected { .. }), "{error}");
    assert!(began.elapsed() < TIMEOUT / 2);
    a.wait_for_peers(0).await;
    let body = bytes::Bytes::new();
    let error = a.network.notify(key, Lane::Control, body).unwrap_err();
    assert!(matches!(error, NetError::NotConnected { .. }), "{error}");
}

#[tokio::test]
async fn removed_from_the_list_and_back() {
    let (a, b) = pair().await;
    let full = list(&[&a, &b]);
    a.peers.send_replace(AllowList::default());
    b.wait_for_error(a.key, "removed from the allow-list").await;
    a.wait_for_peers(0).await;
    let error = a.ask(&b, Lane::Control, b"").await.unwrap_err();
    assert!(matches!(error, NetError::NotConnected { .. }), "{error}");
    a.peers.send_replace(full.clone());
    a.wait_for_peers(1).await;
    b.wait_for_peers(1).await;
    a.check(&b).await;
    // Now by the side that does not dial; the dialer is refused until it is listed again.
    b.peers.send_replace(AllowList::default());
    a.wait_for_error(b.key, "allow-list").await;
    until(|| b.network.counters().refused_keys > 0).await;
    b.peers.send_replace(full);
    b.wait_for_peers(1).await;
    a.wait_for_peers(1).await;
    a.check(&b).await;
}

#[tokio::test]
async fn a_stranger_is_refused_and_the_others_are_served() {
    let secrets = secrets(3);
    let stranger = start(config(secrets[0])).await;
    let (a, b) = (
        start(config(secrets[1])).await,
        start(config(secrets[2])).await,
    );
    let good = list(&[&a, &b]);
    a.peers.send_replace(good.clone());
    b.peers.send_replace(good);
    stranger.peers.send_replace(list(&[&a, &b]));
    a.wait_for_peers(1).await;
    for node in [&a, &b] {
        until(|| node.network.counters().refused_keys >= 2).await;
        stranger
            .wait_for_error(node.key, "not on the peer's allow-list")
            .await;
    }
    a.check(&b).await;
    assert!(stranger.network.connected().borrow().is_empty());
    assert_eq!(a.network.counters().links, 1);
}

#[tokio::test]
async fn another_chain_and_another_version_are_refused() {
    for (chain_id, protocol, here, there) in [
        (
            [8; 32],
            1,
            "the peer is of chain 0707",
            "the peer refused this node: it is of chain",
        ),
        (
            CHAIN,
            2,
            "speaks protocol version",
            "it speaks protocol version",
        ),
    ] {
        for other_dials in [false, true] {
            let secrets = secrets(2);
            let mut other = config(secrets[usize::from(!other_dials)]);
            (other.chain_id, other.protocol) = (chain_id, protocol);
            let other = start(other).await;
            let local = start(config(secrets[usize::from(other_dials)])).await;
            let list = list(&[&other, &local]);
            other.peers.send_replace(list.clone());
            local.peers.send_replace(list);
            let (listens, dials) = if other_dials {
                (&local, &other)
            } else {
                (&other, &local)
            };
            let here = if other_dials {
                here.replace("0707", "0808")
            } else {
                here.into()
            };
            listens.wait_for_error(dials.key, &here).await;
            dials.wait_for_error(listens.key, there).await;
            until(|| listens.network.counters().refused_handshakes >= 2).await;
            assert_eq!(local.network.counters().links, 0);
        }
    }
}

#[tokio::test]
async fn another_node_at_the_address() {
    let nodes = start_many(3).await;
    let mut wrong = nodes[1].entry();
    wrong.address = nodes[2].entry().address;
    nodes[0].peers.send_replace(AllowList(vec![]));
    nodes[0].wait_for_peers(0).await;
    nodes[0].peers.send_replace(AllowList(vec![wrong]));
    nodes[0]
        .wait_for_error(nodes[1].key, "belongs to node")
        .await;
    // A new address for the same key is used at once.
    nodes[0]
        .peers
        .send_replace(AllowList(vec![nodes[1].entry()]));
    nodes[0].wait_for_peers(1).await;
}

#[tokio::test]
async fn an_observer_that_cannot_be_dialed() {
    let secrets = secrets(2);
    let validator = start(config(secrets[0])).await;
    let mut observer = config(secrets[1]);
    observer.dials_all = true;
    let observer = start(observer).await;
    observer.peers.send_replace(list(&[&validator]));
    // Listed with an address, it would be ours to dial.
    validator.peers.send_replace(AllowList(vec![AllowedPeer {
        key: observer.key,
        address: Some("127.0.0.1:1".into()),
    }]));
    validator
        .wait_for_error(observer.key, "it is ours to dial it")
        .await;
    validator.peers.send_replace(AllowList(vec![AllowedPeer {
        key: observer.key,
        address: None,
    }]));
    validator.wait_for_peers(1).await;
    observer.wait_for_peers(1).await;
    validator.check(&observer).await;
}

#[tokio::test]
async fn a_name_in_place_of_an_address() {
    let secrets = secrets(2);
    let (a, b) = (
        start(config(secrets[0])).await,
        start(config(secrets[1])).await,
    );
    let port = b.network.local_address().port();
    let named = Some(format!("localhost:{port}"));
    a.peers.send_replace(AllowList(vec![AllowedPeer {
        key: b.key,
        address: named,
    }]));
    b.peers.send_replace(list(&[&a]));
    a.wait_for_peers(1).await;
    let nonsense = Some("no port".to_owned());
    a.peers.send_replace(AllowList(vec![]));
    a.wait_for_peers(0).await;
    a.peers.send_replace(AllowList(vec![AllowedPeer {
        key: b.key,
        address: nonsense,
    }]));
    a.wait_for_error(b.key, "cannot resolve no port").await;
}

#[tokio::test]
async fn odd_lists_do_no_harm() {
    let (a, b) = pair().await;
    let mut off_the_curve = [0; 32];
    off_the_curve[0] = 2;
    let bad = AllowedPeer {
        key: NodeKey(off_the_curve),
        address: None,
    };
    a.peers
        .send_replace(AllowList(vec![a.entry(), bad, b.entry(), b.entry()]));
    until(|| a.network.status().len() == 1).await;
    a.check(&b).await;
}

#[tokio::test]
async fn an_address_in_use() {
    let a = start(config([1; 32])).await;
    let mut second = config([2; 32]);
    second.listen = a.network.local_address();
    let (_peers, list) = watch::channel(AllowList::default());
    let error = Network::start(second, list, a.service.clone())
        .await
        .err()
        .unwrap();
    assert!(matches!(error, NetError::Listen { .. }), "{error}");
}

#[tokio::test]
async fn an_allow_list_outlives_its_sender() {
    let (a, b) = pair().await;
    drop(a.peers);
    let body = bytes::Bytes::from_static(b"still here");
    let again = a
        .network
        .request(b.key, Lane::Control, body, Duration::from_secs(5))
        .await;
    assert_eq!(again.unwrap(), "still here");
}

#[tokio::test]
async fn either_side_can_refuse_a_greeting_and_the_peer_gets_the_reason() {
    // Of two nodes the first dials; each of them refuses once.
    for refuser in [0, 1] {
        let secrets = secrets(2);
        let mut nodes = vec![
            start(config(secrets[0])).await,
            start(config(secrets[1])).await,
        ];
        let list = list(&[&nodes[0], &nodes[1]]);
        let (by, refused_key) = (nodes[refuser].key, nodes[1 - refuser].key);
        let reason = "it has lost its memory".to_owned();
        *nodes[refuser].service.refuses.lock().unwrap() = Some((refused_key, reason.clone()));
        for node in &nodes {
            node.peers.send_replace(list.clone());
        }
        let refusal = tokio::time::timeout(TIMEOUT, nodes[1 - refuser].refused.recv()).await;
        assert_eq!(refusal.unwrap(), Some((by, reason.clone())));
        nodes[refuser]
            .wait_for_error(refused_key, "was refused: it has lost its memory")
            .await;
        nodes[1 - refuser].wait_for_error(by, &reason).await;
        assert!(
            nodes
                .iter()
                .all(|node| node.network.connected().borrow().is_empty())
        );
        // The refusal ends when the service accepts the peer.
        *nodes[refuser].service.refuses.lock().unwrap() = None;
        nodes[0].wait_for_peers(1).await;
        nodes[0].check(&nodes[1]).await;
    }
}

/// The second process dials no peer: it finds the first one at the address that its list has for
/// its own key, and both report it. Neither ends, and the peers of the first one stay connected.
#[tokio::test]
async fn both_processes_with_one_key_report_it() {
    let nodes = start_many(2).await;
    let first = &nodes[1];
    assert!(
        first.network.counters().failed_handshakes == 0,
        "a probe of its own address is no failure"
    );
    let second = start(config(first.secret)).await;
    second.peers.send_replace(list(&[&nodes[0], first]));
    let report_of = async |node: &Node| {
        let report = tokio::time::timeout(TIMEOUT, node.network.key_in_use(None));
        report.await.expect("it is reported").unwrap()
    };
    let address = first.network.local_address();
    assert_eq!(
        report_of(&second).await,
        format!("another process uses this node's key: it answers at {address}")
    );
    let at_first = report_of(first).await;
    assert!(
        at_first.starts_with("another process uses this node's key: it connects from 127.0.0.1:"),
        "{at_first}"
    );
    first.check(&nodes[0]).await;
}
