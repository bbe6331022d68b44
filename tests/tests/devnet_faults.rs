//! The demonstration while its processes are killed.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use lamplighter_devnet::{Devnet, FeedSubscriber, Journal, Plan, scenario};
use lamplighter_tests::lamplighter;
use lamplighter_types::{DeploymentState, Id};
use tempfile::TempDir;

/// 16,312 bytes, from the package sigrok-firmware-fx2lafw.
const IMAGE: &str = "/usr/share/sigrok-firmware/fx2lafw-sainsmart-dds120.fw";
/// A rate slow enough to catch a transfer in its middle.
const SLOW_BYTES_PER_S: u32 = 3_000;
const TIMEOUT: Duration = Duration::from_secs(120);

fn plan(folder: &TempDir, things: usize, rate_bytes_per_s: Option<u32>) -> Plan {
    Plan {
        validators: 4,
        gateways: 2,
        things,
        firmware: Some(PathBuf::from(IMAGE)),
        dir: folder.path().join("city"),
        program: lamplighter(),
        rate_bytes_per_s,
    }
}

async fn city(
    folder: &TempDir,
    things: usize,
    rate: Option<u32>,
) -> (Devnet, Journal, FeedSubscriber) {
    let mut journal = Journal::new(false);
    let mut devnet = Devnet::create(plan(folder, things, rate)).unwrap();
    let subscriber = scenario::bring_up(&mut devnet, &mut journal).await.unwrap();
    (devnet, journal, subscriber)
}

/// The validator that leads, by its place in the list.
async fn leader(devnet: &Devnet) -> usize {
    let url = format!("{}/v1/status", devnet.nodes[0].url());
    let status: serde_json::Value = devnet
        .http()
        .unwrap()
        .get(url)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let leader = status["leader"]
        .as_u64()
        .expect("a ready node knows its leader");
    devnet
        .nodes
        .iter()
        .position(|node| node.node == leader)
        .unwrap()
}

/// Waits until a Thing holds a part of its package, and returns how much.
async fn held_in_part(devnet: &mut Devnet, device: &Id) -> u64 {
    let size = devnet.firmware.1.len() as u64;
    let begun = Instant::now();
    loop {
        let held = devnet
            .mesh_of(device)
            .unwrap()
            .status(device)
            .await
            .unwrap()
            .held_bytes;
        if held > size / 4 && held < size * 3 / 4 {
            return held;
        }
        assert!(
            begun.elapsed() < TIMEOUT,
            "no transfer was caught in its middle"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Until the package is whole, a Thing never holds less than before: nothing is sent from the
/// beginning.
async fn resumes_from(devnet: &mut Devnet, subscriber: &FeedSubscriber, device: &Id, held: u64) {
    let mut least = held;
    let begun = Instant::now();
    loop {
        let status = devnet
            .mesh_of(device)
            .unwrap()
            .status(device)
            .await
            .unwrap();
        let key = (scenario::rollout(), device.clone());
        let state = subscriber.seen().deployments.get(&key).copied();
        if state.is_some_and(|s| s == DeploymentState::Downloaded || s.is_past_return()) {
            return;
        }
        assert!(
            status.held_bytes >= least,
            "{} after {least} bytes",
            status.held_bytes
        );
        least = status.held_bytes;
        assert!(
            begun.elapsed() < TIMEOUT,
            "the transfer does not go on: {state:?}, {least} bytes"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_and_a_gateway_are_killed_in_the_middle_of_a_transfer() {
    let folder = tempfile::tempdir().unwrap();
    let (mut devnet, mut journal, subscriber) = city(&folder, 4, Some(SLOW_BYTES_PER_S)).await;
    scenario::release(&devnet, &subscriber, &mut journal)
        .await
        .unwrap();
    let begun = scenario::start(&devnet, &mut journal).await.unwrap();
    let device = scenario::things(&devnet, 0)[0].clone();
    let held = held_in_part(&mut devnet, &device).await;
    let dead = leader(&devnet).await;
    devnet.nodes[dead].process.kill().await.unwrap();
    devnet.gateways[0].process.kill().await.unwrap();
    devnet.gateways[0].process.start().unwrap();
    resumes_from(&mut devnet, &subscriber, &device, held).await;
    scenario::finish(&mut devnet, &subscriber, &mut journal, &begun)
        .await
        .unwrap();
    devnet.nodes[dead].process.start().unwrap();
    devnet.ready(dead).await.unwrap();
    scenario::same_head(&devnet).await.unwrap();
    assert!(journal.passed());
    assert_eq!(subscriber.seen().disorder, 0);
    devnet.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_processes_resume_where_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let (mut devnet, mut journal, subscriber) = city(&folder, 6, None).await;
    scenario::release(&devnet, &subscriber, &mut journal)
        .await
        .unwrap();
    let begun = scenario::start(&devnet, &mut journal).await.unwrap();
    let moved = |seen: &lamplighter_devnet::FeedState| seen.counts.contains_key("deployment_moved");
    subscriber
        .until("the first deployment moves", TIMEOUT, moved)
        .await
        .unwrap();
    for process in devnet.processes() {
        process.kill().await.unwrap();
    }
    devnet.start_nodes().await.unwrap();
    for gateway in &mut devnet.gateways {
        gateway.process.start().unwrap();
    }
    for mesh in &mut devnet.meshes {
        mesh.start().unwrap();
    }
    scenario::finish(&mut devnet, &subscriber, &mut journal, &begun)
        .await
        .unwrap();
    scenario::same_head(&devnet).await.unwrap();
    assert_eq!(subscriber.seen().disorder, 0);
    devnet.stop().await.unwrap();
}
