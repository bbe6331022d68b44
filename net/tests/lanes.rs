//! The lanes: requests, notifications, limits, and that no lane delays another.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::{Duration, Instant};

use bytes::Bytes;
use common::*;
use futures::future::join_all;
use lamplighter_net::{Lane, NetError, ServiceError};

const MIB: usize = 1024 * 1024;

fn pattern(bytes: usize) -> Bytes {
    (0..bytes).map(|i| (i / 7) as u8 ^ i as u8).collect()
}

#[tokio::test]
async fn bodies_of_all_sizes() {
    let (a, b) = pair().await;
    let longest = Lane::Append.limits().frame_bytes_max;
    for bytes in [0, 1, 100, 16 * 1024, 60 * 1024, 70_000, MIB, longest] {
        let body = pattern(bytes);
        assert!(
            a.ask(&b, Lane::Append, &body).await.unwrap() == body,
            "{bytes}"
        );
        assert!(
            b.ask(&a, Lane::Append, &body).await.unwrap() == body,
            "{bytes}"
        );
    }
    let error = a
        .ask(&b, Lane::Append, &pattern(longest + 1))
        .await
        .unwrap_err();
    assert!(matches!(error, NetError::TooLarge { .. }), "{error}");
    let body = pattern(Lane::Control.limits().frame_bytes_max + 1);
    let error = a.network.notify(b.key, Lane::Control, body).unwrap_err();
    assert!(matches!(error, NetError::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn answers_that_are_errors() {
    let (a, b) = pair().await;
    let error = a.ask(&b, Lane::Attestation, b"please").await.unwrap_err();
    let expected = ServiceError::Unavailable("not today".into());
    assert!(matches!(error, NetError::Service { source, .. } if source == expected));
    let error = a.ask(&b, Lane::Attestation, b"panic").await.unwrap_err();
    let expected = ServiceError::Failed("internal error".into());
    assert!(matches!(error, NetError::Service { source, .. } if source == expected));
    // An answer longer than the lane takes is an error of this request only.
    let too_much = (Lane::Sync.limits().frame_bytes_max + 1) as u32;
    let error = a
        .ask(&b, Lane::Sync, &too_much.to_le_bytes())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("could not serve"), "{error}");
    a.check(&b).await;
}

#[tokio::test]
async fn notifications_keep_their_order() {
    let (a, mut b) = pair().await;
    for number in 0..200u32 {
        let body = Bytes::copy_from_slice(&number.to_le_bytes());
        a.network.notify(b.key, Lane::Attestation, body).unwrap();
    }
    for number in 0..200u32 {
        let (from, lane, body) = b.notified.recv().await.unwrap();
        assert_eq!(
            (from, lane, &body[..]),
            (a.key, Lane::Attestation, &number.to_le_bytes()[..])
        );
    }
}

#[tokio::test]
async fn a_full_notification_queue_is_an_error() {
    let (a, b) = pair().await;
    let body = pattern(Lane::Append.limits().frame_bytes_max);
    // Without a wait in between nothing is written, so the bytes add up to the limit.
    let fitting = Lane::Append.limits().bytes_max / body.len();
    for _ in 0..fitting {
        a.network.notify(b.key, Lane::Append, body.clone()).unwrap();
    }
    let error = a.network.notify(b.key, Lane::Append, body).unwrap_err();
    assert!(matches!(error, NetError::Busy { .. }), "{error}");
    a.check(&b).await;
}

#[tokio::test]
async fn many_requests_in_flight() {
    let (a, b) = pair().await;
    let limit = Lane::Transactions.limits().requests_max;
    let asking = (0..limit as u32).map(|number| {
        let (a, b) = (&a, &b);
        async move {
            let body = number.to_le_bytes();
            assert_eq!(a.ask(b, Lane::Transactions, &body).await.unwrap()[..], body);
        }
    });
    let all = join_all(asking);
    let one_more = async {
        // The others are polled first, so that they have all places.
        let error = a
            .ask(&b, Lane::Transactions, b"one more")
            .await
            .unwrap_err();
        assert!(matches!(error, NetError::Busy { .. }), "{error}");
        a.check(&b).await;
        b.service.released.add_permits(8);
    };
    tokio::join!(biased; all, one_more);
    assert_eq!(
        a.ask(&b, Lane::Transactions, b"free again").await.unwrap(),
        "free again"
    );
}

#[tokio::test]
async fn a_slow_service_times_out_and_delays_no_other_lane() {
    let (a, b) = pair().await;
    let places = Lane::Snapshot.limits().requests_max;
    let limit = Duration::from_millis(300);
    let asking = (0..places).map(|_| {
        let body = Bytes::from_static(b"slow");
        a.network.request(b.key, Lane::Snapshot, body, limit)
    });
    let began = Instant::now();
    let (results, ()) = tokio::join!(join_all(asking), async {
        for _ in 0..50 {
            a.check(&b).await;
        }
    });
    assert!(began.elapsed() >= limit / 2);
    for result in results {
        let error = result.unwrap_err();
        // The timeout may end first on either side.
        let late = NetError::Timeout {
            to: b.key,
            lane: Lane::Snapshot,
            after: limit,
        }
        .to_string();
        let reported = matches!(&error, NetError::Service { source, .. }
            if *source == ServiceError::DeadlinePassed);
        assert!(reported || error.to_string() == late, "{error}");
    }
    // The limit is free again as soon as the peer has answered, even too late.
    b.service.released.add_permits(1);
    let mut answer = a.ask(&b, Lane::Snapshot, b"again").await;
    while matches!(answer, Err(NetError::Busy { .. })) {
        a.check(&b).await;
        answer = a.ask(&b, Lane::Snapshot, b"again").await;
    }
    assert_eq!(answer.unwrap(), "again");
}

#[tokio::test]
async fn a_caller_that_stops_waiting_early() {
    let (a, b) = pair().await;
    for _ in 0..3 {
        let asking = a.ask(&b, Lane::Transactions, b"dropped");
        let waited = tokio::time::timeout(Duration::from_millis(20), asking).await;
        assert!(waited.is_err());
    }
    b.service.released.add_permits(3);
    assert_eq!(
        a.ask(&b, Lane::Transactions, b"kept").await.unwrap(),
        "kept"
    );
    assert_eq!(b.network.counters().violations, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_while_sync_moves_100_megabytes() {
    let (a, b) = pair().await;
    let began = Instant::now();
    let chunk = (4 * MIB as u32).to_le_bytes();
    let sync = async {
        for _ in 0..5 {
            let asking = (0..5).map(|_| a.ask(&b, Lane::Sync, &chunk));
            for answer in join_all(asking).await {
                assert_eq!(answer.unwrap().len(), 4 * MIB);
            }
        }
        began.elapsed()
    };
    let mut latencies = Vec::new();
    let heartbeats = async {
        loop {
            let sent = Instant::now();
            a.check(&b).await;
            latencies.push(sent.elapsed() / 2);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let took = tokio::select! { took = sync => took, () = heartbeats => unreachable!() };
    latencies.sort();
    let (median, worst) = (
        latencies[latencies.len() / 2],
        latencies[latencies.len() - 1],
    );
    println!(
        "100 MiB in {took:?}; {} heartbeats: {median:?}, {worst:?}",
        latencies.len()
    );
    assert!(latencies.len() > 3);
    // The shortest election timeout is 1500 ms; the machine may be busy with other tests.
    assert!(worst < Duration::from_secs(1), "{worst:?}");
}
