//! Fleets: thousands of connections, one message to all, all dropped at once and back; and the
//! figures of the report. `LAMPLIGHTER_FULL=1` takes 5,000 gateways instead of 1,000.

use std::process::Command;
use std::time::{Duration, Instant};

use super::limits::resident_bytes;
use super::raw::*;
use super::support::*;

const HEAD: &str = "lamplighter/1/head";
/// File descriptors for both ends of each connection.
const FILES: usize = 16_000;

fn size(small: usize, full: usize) -> usize {
    if std::env::var_os("LAMPLIGHTER_FULL").is_some() {
        full
    } else {
        small
    }
}

/// util-linux sets the limit of a running process; the standard library cannot.
pub fn raise_file_limit() {
    let this = std::process::id().to_string();
    let limit = format!("--nofile={FILES}:");
    let raised = Command::new("prlimit")
        .args(["--pid", &this, &limit])
        .status()
        .unwrap();
    assert!(
        raised.success(),
        "the hard limit of open files is below {FILES}"
    );
}

fn fleet(count: usize) -> World {
    raise_file_limit();
    let world = world_with(|config| {
        config.connections_max = count + 10;
        config.packets_per_second = 1_000_000;
        config.bytes_per_second = 1 << 30;
    });
    for n in 0..count {
        world.ledger.add(gateway(&format!("g{n:05}")));
    }
    world
}

/// Connects all gateways, `width` at a time, and subscribes each to its topics.
async fn connect_all(world: &World, count: usize, v5: bool) -> Vec<Raw> {
    use futures::StreamExt;
    let address = world.plain;
    let connects = (0..count).map(|n| async move {
        let id = format!("g{n:05}");
        let mut raw = Raw::connect(address, Hello::new(v5, &id)).await;
        let receipt = format!("lamplighter/1/gw/{id}/receipt");
        raw.send(&subscribe(v5, 1, &[(HEAD, 1), (&receipt, 1)]))
            .await;
        raw.expect(SUBACK).await;
        raw
    });
    futures::stream::iter(connects)
        .buffered(256)
        .collect()
        .await
}

async fn broadcast(world: &World, all: &mut [Raw], text: &str) -> Duration {
    let start = Instant::now();
    world
        .publisher
        .publish_head(text.to_owned().into())
        .unwrap();
    let reads = all.iter_mut().map(|raw| async {
        loop {
            let (_, id, body) = raw.expect(PUBLISH).await.publish(raw.v5);
            if id > 0 {
                raw.ack(id).await;
            }
            if body == text.as_bytes() {
                break;
            }
        }
    });
    futures::future::join_all(reads).await;
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_gets_one_message_is_dropped_and_comes_back() {
    let count = size(1000, 5000);
    let world = fleet(count);
    let start = Instant::now();
    let mut all = connect_all(&world, count, true).await;
    let connected = start.elapsed();
    assert_eq!(world.count("connected"), count as u64);
    let told = broadcast(&world, &mut all, "to everybody").await;
    drop(all);
    let start = Instant::now();
    let mut all = connect_all(&world, count, false).await;
    let back = start.elapsed();
    world
        .until_count("connected", |connected| connected == count as u64)
        .await;
    let again = broadcast(&world, &mut all, "and again").await;
    println!(
        "{count} gateways: connected and subscribed in {connected:?}, one message to all in \
         {told:?}, all dropped and back in {back:?}, one message to all in {again:?}"
    );
    let mut last = all.pop().unwrap();
    last.ping().await;
    assert_eq!(world.count("router_restarts"), 0);
    assert_eq!(world.count("dropped"), 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: run alone with --ignored --nocapture"]
async fn figures() {
    let count = size(2000, 5000);
    let world = fleet(count);
    let address = world.plain;
    // Connects alone.
    let start = Instant::now();
    let mut handles = Vec::new();
    for lane in 0..8 {
        handles.push(tokio::spawn(async move {
            for n in (lane..count).step_by(8) {
                Raw::connect(address, Hello::new(true, &format!("g{n:05}"))).await;
            }
        }));
    }
    for handle in handles {
        handle.await.unwrap();
    }
    println!(
        "{:.0} connects/s",
        count as f64 / start.elapsed().as_secs_f64()
    );
    // Memory of idle connections, both ends of which live in this process.
    world
        .until_count("connected", |connected| connected == 0)
        .await;
    let before = resident_bytes();
    let all = connect_all(&world, count, true).await;
    let after = resident_bytes();
    println!(
        "{} bytes per idle connection that reads the head (its test client included)",
        (after - before) / count
    );
    drop(all);
    // QoS 1 through the guard: 8 gateways with 64 transactions on their way each.
    let each = 20_000;
    let start = Instant::now();
    let mut handles = Vec::new();
    for lane in 0..8 {
        handles.push(tokio::spawn(async move {
            let id = format!("g{lane:05}");
            let mut raw = Raw::connect(address, Hello::new(true, &id)).await;
            let topic = format!("lamplighter/1/gw/{id}/tx");
            let payload = vec![b'x'; 200];
            for round in 0..each / 64 {
                let mut bytes = Vec::new();
                for id in 1..=64 {
                    bytes.extend(publish(true, topic.as_bytes(), 1, id, &payload));
                }
                raw.send(&bytes).await;
                for _ in 0..64 {
                    assert_eq!(raw.expect(PUBACK).await.body.len(), 2, "round {round}");
                }
            }
        }));
    }
    for handle in handles {
        handle.await.unwrap();
    }
    let sent = 8 * (each / 64) * 64;
    println!(
        "{:.0} QoS 1 messages/s",
        f64::from(sent) / start.elapsed().as_secs_f64()
    );
}
