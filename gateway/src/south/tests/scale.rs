//! As many Things at one gateway as it knows devices.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::super::{South, SouthConfig, SouthEvent};
use super::hostile::{datagram, registration, resident_bytes};
use crate::coap::simulated::{Faults, SimulatedNetwork};
use crate::coap::{Code, DatagramSocket, Request};

const THINGS: usize = 10_000;
/// A gateway is a small computer.
const MEMORY_MAX: u64 = 160 << 20;
/// Registrations wait this much at most: the kernel's buffer is as large.
const AT_ONCE: usize = 200;

fn gateway() -> SocketAddr {
    ([10, 0, 0, 1], 5683).into()
}

fn thing(n: usize) -> SocketAddr {
    ([10, 1, (n >> 8) as u8, n as u8], 5683).into()
}

fn start(network: &SimulatedNetwork, file: &Path) -> (South, mpsc::Receiver<SouthEvent>) {
    let (sender, events) = mpsc::channel(1_024);
    let config = SouthConfig {
        registrations: Some(file.to_owned()),
        ..SouthConfig::default()
    };
    let is_served = |name: &str| name.starts_with("lamp-");
    let socket = network.attach(gateway());
    let south = South::start(socket, config, Arc::new(is_served), sender).unwrap();
    (south, events)
}

async fn answer(socket: &Arc<dyn DatagramSocket>) -> Vec<u8> {
    let mut buffer = [0; 1_200];
    let limit = Duration::from_secs(30);
    let received = tokio::time::timeout(limit, socket.receive(&mut buffer)).await;
    let (count, _) = received.expect("an answer").unwrap();
    buffer[..count].to_vec()
}

/// The location in the answer to a registration.
fn location(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    // Behind it are the header of the next option and its length.
    let at = text.rfind("rd").unwrap() + 4;
    text[at..at + 16].to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_things_register_and_come_back_after_a_restart() {
    let network = SimulatedNetwork::new(1, Faults::NONE);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("registrations.jsonl");
    let before = resident_bytes();
    let sockets: Vec<_> = (0..THINGS).map(|n| network.attach(thing(n))).collect();
    let of_sockets = resident_bytes().saturating_sub(before);
    let (south, mut events) = start(&network, &file);
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    let begun = Instant::now();
    let mut locations = Vec::with_capacity(THINGS);
    for first in (0..THINGS).step_by(AT_ONCE) {
        for n in first..first + AT_ONCE {
            let register = datagram(&registration(&format!("lamp-{n}")), 1);
            network.spoof(thing(n), gateway(), &register);
        }
        for socket in &sockets[first..first + AT_ONCE] {
            locations.push(location(&answer(socket).await));
        }
    }
    let registering = begun.elapsed();
    let peak = resident_bytes().saturating_sub(before + of_sockets);
    let begun = Instant::now();
    while Handle::current().metrics().num_alive_tasks() > 100 {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "workers are not freed"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let freed = resident_bytes().saturating_sub(before + of_sockets);
    south.close().await;
    let written = std::fs::metadata(&file).unwrap().len();

    let begun = Instant::now();
    let (south, mut events) = start(&network, &file);
    let starting = begun.elapsed();
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    let begun = Instant::now();
    for first in (0..THINGS).step_by(AT_ONCE) {
        let locations = locations.iter().enumerate().skip(first);
        for (n, location) in locations.take(AT_ONCE) {
            let update = Request::new(Code::POST, &format!("/rd/{location}"));
            network.spoof(thing(n), gateway(), &datagram(&update, 2));
        }
        for socket in &sockets[first..first + AT_ONCE] {
            // It may have been asked to update before.
            while answer(socket).await.get(1) != Some(&Code::CHANGED.0) {}
        }
    }
    let updating = begun.elapsed();
    south.close().await;
    let rewritten = std::fs::metadata(&file).unwrap().len();
    println!(
        "{THINGS} Things: {registering:?} to register, {} KiB at most, {} KiB without workers, \
         {written} bytes of registrations; {starting:?} to start again, \
         {updating:?} to update, {rewritten} bytes",
        peak / 1024,
        freed / 1024
    );
    assert!(peak < MEMORY_MAX, "{peak} bytes");
    assert!(starting < Duration::from_secs(5), "{starting:?}");
    assert!(
        written < 4 << 20 && rewritten < 4 << 20,
        "{written}, {rewritten} bytes"
    );
}
