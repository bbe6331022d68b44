//! Transfers in sets of blocks over slow and bad links, to Things that take them and to one that
//! does not.

use std::time::Duration;

use lamplighter_gateway::coap::simulated::Faults;
use lamplighter_gateway::coap::{Block, Code, Request, format};
use lamplighter_gateway::lwm2m::{agent, path};
use lamplighter_gateway::south::{SessionConfig, SouthConfig};
use lamplighter_types::{DeploymentState::*, Hash};
use tokio::time::Instant;

use super::super::Thing;
use super::testbed::{Testbed, image, manifest, offer, vendor};

/// Blocks of 64 bytes, as on a radio.
fn small_blocks(q_block: bool) -> SouthConfig {
    SouthConfig {
        session: SessionConfig {
            szx: 2,
            q_block,
            ..SessionConfig::default()
        },
        ..SouthConfig::default()
    }
}

/// The time and the datagrams until the Thing reports the package.
async fn transfer(testbed: &Testbed, lamp: &Thing, bytes: usize) -> (Duration, u64) {
    let new = image("new", bytes);
    testbed
        .until("registered", |log| !log.registered.is_empty())
        .await;
    let (begun, sent) = (Instant::now(), testbed.network.sent());
    testbed.transfer("lamp-1", &new, &manifest(&new)).await;
    let end = testbed.until("downloaded", |log| {
        log.states("lamp-1").contains(&Downloaded)
    });
    end.await;
    let figures = (begun.elapsed(), testbed.network.sent() - sent);
    assert_eq!(lamp.status().await.unwrap().held_bytes, bytes as u64);
    testbed.install("lamp-1").await;
    let log = testbed
        .until("the end", |log| log.ended("lamp-1").is_some())
        .await;
    assert_eq!(log.ended("lamp-1").unwrap().to, Confirmed);
    assert_eq!(lamp.active_image().await.unwrap(), new, "byte for byte");
    figures
}

async fn over_a_slow_link(q_block: bool) -> (Duration, u64) {
    let testbed = Testbed::with(1, Faults::NONE, small_blocks(q_block));
    testbed.network.set_latency(Duration::from_millis(150));
    let lamp = testbed.lamp("lamp-1", 2).await;
    transfer(&testbed, &lamp, 48 * 1024).await
}

/// 48 KiB in blocks of 64 bytes at a round trip of 300 ms: one round trip for each block before.
#[tokio::test(start_paused = true)]
async fn sets_cross_a_slow_link_in_a_tenth_of_the_round_trips() {
    let (time, datagrams) = over_a_slow_link(true).await;
    println!("in sets: {time:?}, {datagrams} datagrams");
    assert!(time < Duration::from_secs(35), "{time:?}");
    // 768 blocks, 77 answers; all of what is beside the blocks fits the rest.
    assert!(datagrams < 768 + 77 + 30, "{datagrams}");
    let (time, datagrams) = over_a_slow_link(false).await;
    println!("one by one: {time:?}, {datagrams} datagrams");
    assert!(time > Duration::from_secs(225) && datagrams > 2 * 768);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_loses_repeats_and_reorders_delivers_every_byte() {
    let faults = Faults {
        drop: 0.1,
        duplicate: 0.1,
        delay_max: Duration::from_millis(200),
    };
    for seed in 0..4 {
        let testbed = Testbed::with(seed, faults, small_blocks(true));
        testbed.network.set_latency(Duration::from_millis(50));
        let lamp = testbed.lamp("lamp-1", 2).await;
        let (time, datagrams) = transfer(&testbed, &lamp, 48 * 1024 + 13).await;
        println!("seed {seed}: {time:?}, {datagrams} datagrams");
        assert!(time < Duration::from_secs(150), "{time:?}");
        assert!(datagrams < 1_600, "{datagrams}");
    }
}

/// One that refuses the option gets its blocks one by one, and is not asked twice.
#[tokio::test(start_paused = true)]
async fn a_thing_without_sets_gets_single_blocks() {
    let testbed = Testbed::with(1, Faults::NONE, small_blocks(true));
    let mut config = testbed.config("lamp-1", 2);
    config.coap.q_block = false;
    let lamp = Thing::spawn(config).await.unwrap();
    let (_, datagrams) = transfer(&testbed, &lamp, 6_400).await;
    assert!((2 * 100..2 * 100 + 30).contains(&datagrams), "{datagrams}");
}

/// A boot in the middle loses the blocks that wait in memory, and no others.
#[tokio::test(start_paused = true)]
async fn a_set_that_a_boot_interrupts_is_resumed() {
    let testbed = Testbed::with(1, Faults::NONE, small_blocks(true));
    testbed.network.set_latency(Duration::from_millis(50));
    let lamp = testbed.lamp("lamp-1", 2).await;
    let new = image("new", 30_000);
    testbed.transfer("lamp-1", &new, &manifest(&new)).await;
    testbed
        .until("a half", |log| log.progress() >= 15_000)
        .await;
    lamp.kill().await;
    let sent = testbed.network.sent();
    let lamp = testbed.lamp("lamp-1", 2).await;
    testbed
        .until("downloaded", |log| {
            log.states("lamp-1").contains(&Downloaded)
        })
        .await;
    let datagrams = testbed.network.sent() - sent;
    assert!(datagrams < 330, "{datagrams}");
    testbed.install("lamp-1").await;
    testbed
        .until("the end", |log| log.ended("lamp-1").is_some())
        .await;
    assert_eq!(lamp.active_image().await.unwrap(), new);
}

/// A gateway that lied leaves a block in memory. The next transfer has nothing of it.
#[tokio::test(start_paused = true)]
async fn a_block_that_is_held_is_forgotten_with_its_transfer() {
    let testbed = Testbed::with(1, Faults::NONE, small_blocks(true));
    let lamp = testbed.lamp("lamp-1", 2).await;
    testbed
        .until("registered", |log| !log.registered.is_empty())
        .await;
    let new = image("new", 6_400);
    let south = testbed.south.as_ref().unwrap().handle();
    let put =
        |target: &str, bytes| Request::new(Code::PUT, target).with_payload(format::OCTETS, bytes);
    let offer = offer("lamp-1", &manifest(&new), &vendor());
    let answer = south.request(lamp.addr(), put(agent::OFFER, offer)).await;
    assert_eq!(answer.unwrap().code, Code::CHANGED);
    let wrong = Request {
        q_block1: Some(Block {
            number: 3,
            more: true,
            szx: 2,
        }),
        request_tag: Some(Hash::of(&new).0[..2].to_vec()),
        ..put(path::PACKAGE, vec![0; 64])
    };
    // It is held without an answer, since those before it are missing.
    let mut set = south.begin_set(lamp.addr(), 0).await.unwrap();
    set.send(wrong, true).await.unwrap();
    set.answer().await.unwrap_err();
    drop(set);
    let cancel = Request::new(Code::POST, agent::CANCEL);
    let answer = south.request(lamp.addr(), cancel).await;
    assert_eq!(answer.unwrap().code, Code::CHANGED);
    transfer(&testbed, &lamp, 6_400).await;
}
