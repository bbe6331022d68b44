//! Fleets: thousands of connections, one message to all, all dropped at once and back.
//! `LAMPLIGHTER_FULL=1` takes 5,000 gateways instead of 1,000.

use std::process::Command;
use std::time::{Duration, Instant};

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

async fn fleet(count: usize) -> World {
    raise_file_limit();
    let world = world_with(|config| {
        config.connections_max = count + 10;
        config.packets_per_second = 1_000_000;
        config.bytes_per_second = 1 << 30;
    })
    .await;
    // No more at a time than the sequence numbers of one account allow.
    let names: Vec<String> = (0..count).map(|n| format!("g{n:05}")).collect();
    for names in names.chunks(500) {
        let mut tickets = Vec::new();
        for name in names {
            tickets.push(world.submit(register_gateway(name)).await);
        }
        for ticket in tickets {
            ticket.verdict().await;
        }
    }
    world.certified().await;
    world
}

/// Connects all gateways, `width` at a time, and subscribes each to its topics.
async fn connect_all(world: &World, count: usize, v5: bool) -> Vec<Raw> {
    use futures::StreamExt;
    let address = world.plain;
    let connects = (0..count).map(|n| async move {
        let id = format!("g{n:05}");
        let mut raw = Raw::connect(address, ConnectPacket::new(v5, &id)).await;
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

/// Makes a block, and waits until each has got its head.
async fn broadcast(world: &World, all: &mut [Raw]) -> Duration {
    let start = Instant::now();
    world.tag(&["lamp-1"]).await;
    let height = world.certified().await;
    let reads = all.iter_mut().map(|raw| async {
        loop {
            let (_, id, body) = raw.expect(PUBLISH).await.publish(raw.v5);
            raw.ack(id).await;
            if head_height(&body) >= height {
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
    let world = fleet(count).await;
    let start = Instant::now();
    let mut all = connect_all(&world, count, true).await;
    let connected = start.elapsed();
    assert_eq!(world.count("connected"), count as u64);
    let first = broadcast(&world, &mut all).await;
    drop(all);
    let start = Instant::now();
    let mut all = connect_all(&world, count, false).await;
    let back = start.elapsed();
    world
        .until_count("connected", |connected| connected == count as u64)
        .await;
    let second = broadcast(&world, &mut all).await;
    println!(
        "{count} gateways: connected and subscribed in {connected:?}, one message to all in \
         {first:?}, all dropped and back in {back:?}, one message to all in {second:?}"
    );
    let mut last = all.pop().unwrap();
    last.ping().await;
    assert_eq!(world.count("dropped"), 0);
}
