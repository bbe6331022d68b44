//! The pacing of a mesh: how many transfers at once, routers and those behind them, batteries, and
//! bytes on air.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lamplighter_types::Hash;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::rate::on_air;
use super::super::{PacingConfig, South, SouthCommand, SouthConfig, SouthEvent, Transfer};
use super::hostile::registration;
use crate::coap::simulated::{Faults, SimulatedNetwork};
use crate::coap::{
    BodyPolicy, CoapConfig, CoapEndpoint, CoapService, Code, Peer, Request, Response, format,
};
use crate::lwm2m::{Stage, path};

const IMAGE_BYTES: usize = 20_000;

/// The transfers that were seen under way at the same time.
#[derive(Default)]
struct Seen {
    active: BTreeSet<String>,
    together: BTreeSet<(String, String)>,
    most: usize,
}

/// A device with a battery that takes a package block by block.
struct Lamp {
    name: String,
    battery: Arc<AtomicU8>,
    held: Mutex<usize>,
    seen: Arc<Mutex<Seen>>,
}

#[async_trait]
impl CoapService for Lamp {
    fn body_policy(&self, _peer: Peer, request: &Request) -> BodyPolicy {
        match request.path_text() == path::PACKAGE {
            true => BodyPolicy::SingleBlocks,
            false => BodyPolicy::Registered,
        }
    }

    async fn handle(&self, _peer: Peer, request: Request) -> Response {
        let mut held = self.held.lock().unwrap();
        let state = if *held == IMAGE_BYTES { "2" } else { "0" };
        let text = |text: &str| Response::content(format::TEXT, text.into());
        match (request.method, request.path_text().as_str()) {
            (Code::GET, path::BATTERY_LEVEL) => {
                text(&self.battery.load(Ordering::Relaxed).to_string())
            }
            (Code::GET, path::STATE) => text(state),
            (Code::GET, path::RESULT) => text("0"),
            (Code::PUT, path::PACKAGE) => {
                *held += request.payload.len();
                let mut seen = self.seen.lock().unwrap();
                let others: Vec<_> = seen.active.iter().cloned().collect();
                for other in others.into_iter().filter(|other| *other != self.name) {
                    seen.together.insert((other.clone(), self.name.clone()));
                    seen.together.insert((self.name.clone(), other));
                }
                seen.active.insert(self.name.clone());
                seen.most = seen.most.max(seen.active.len());
                if *held == IMAGE_BYTES {
                    seen.active.remove(&self.name);
                }
                let code = match request.block1 {
                    Some(block) if block.more => Code::CONTINUE,
                    _ => Code::CHANGED,
                };
                Response {
                    block1: request.block1,
                    ..Response::new(code)
                }
            }
            _ => Response::new(Code::NOT_FOUND),
        }
    }
}

fn at(host: u8) -> SocketAddr {
    ([10, 0, 1, host], 5683).into()
}

fn lamp(number: u8) -> String {
    format!("lamp-{number}")
}

struct Mesh {
    south: South,
    events: mpsc::Receiver<SouthEvent>,
    things: Vec<CoapEndpoint>,
    batteries: Vec<Arc<AtomicU8>>,
    seen: Arc<Mutex<Seen>>,
    begun: Instant,
    _artifacts: tempfile::TempDir,
}

/// A mesh of Things that are all to get the same package at once.
async fn mesh(count: u8, settings: SouthConfig, battery: u8) -> Mesh {
    let network = SimulatedNetwork::new(1, Faults::NONE);
    network.set_latency(Duration::from_millis(20));
    let artifacts = tempfile::tempdir().unwrap();
    let image = vec![0x5A; IMAGE_BYTES];
    let artifact = Hash::of(&image);
    std::fs::write(artifacts.path().join(artifact.to_string()), image).unwrap();
    let (sender, events) = mpsc::channel(1_024);
    let settings = SouthConfig {
        artifacts: artifacts.path().to_owned(),
        ..settings
    };
    let admits = Arc::new(|_: &str| true);
    let south = South::start(network.attach(at(0)), settings, admits, sender).unwrap();
    let mut mesh = Mesh {
        south,
        events,
        things: Vec::new(),
        batteries: Vec::new(),
        seen: Arc::default(),
        begun: Instant::now(),
        _artifacts: artifacts,
    };
    for number in 1..=count {
        let battery = Arc::new(AtomicU8::new(battery));
        let device = Lamp {
            name: lamp(number),
            battery: battery.clone(),
            held: Mutex::new(0),
            seen: mesh.seen.clone(),
        };
        let socket = network.attach(at(number));
        let thing = CoapEndpoint::start(socket, CoapConfig::default(), Arc::new(device)).unwrap();
        let request = registration(&lamp(number));
        let answer = thing.handle().request(at(0), request).await.unwrap();
        assert_eq!(answer.code, Code::CREATED);
        mesh.things.push(thing);
        mesh.batteries.push(battery);
    }
    mesh.begun = Instant::now();
    for number in 1..=count {
        let transfer = Transfer {
            endpoint: lamp(number),
            deployment: lamp(number),
            artifact,
            size_bytes: IMAGE_BYTES as u64,
            offer: vec![],
        };
        let command = SouthCommand::Transfer(transfer);
        mesh.south.command(command).await.unwrap();
    }
    mesh
}

impl Mesh {
    /// Waits until so many Things have the package; the time since they were to get it.
    async fn downloads(&mut self, mut count: usize) -> Duration {
        while count > 0 {
            let event = tokio::time::timeout(Duration::from_secs(7_200), self.events.recv());
            let event = event.await.expect("an event").unwrap();
            if let Some((_, stage)) = event.stage() {
                assert_eq!(stage, Stage::Downloaded);
                count -= 1;
            }
        }
        self.begun.elapsed()
    }

    fn seen(&self) -> (usize, BTreeSet<(String, String)>) {
        let seen = self.seen.lock().unwrap();
        (seen.most, seen.together.clone())
    }
}

fn limited(transfers_max: usize, parents: &[(u8, u8)]) -> SouthConfig {
    let names = |(device, parent): &(u8, u8)| (lamp(*device), lamp(*parent));
    SouthConfig {
        rate_bytes_per_s: 1_000_000,
        pacing: PacingConfig {
            transfers_max,
            parents: parents.iter().map(names).collect(),
        },
        ..SouthConfig::default()
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_transfers_are_under_way_than_allowed() {
    for (most, expected) in [(1, 1), (3, 3), (100, 9)] {
        let mut mesh = mesh(9, limited(most, &[]), 100).await;
        mesh.downloads(9).await;
        assert_eq!(mesh.seen().0, expected);
    }
}

/// 1 is a router, behind which are 2 and 3; 4 is behind 3. 5 is apart.
#[tokio::test(start_paused = true)]
async fn a_router_and_those_behind_it_are_never_updated_together() {
    let parents = [(2, 1), (3, 1), (4, 3)];
    let mut mesh = mesh(5, limited(16, &parents), 100).await;
    mesh.downloads(5).await;
    let (_, together) = mesh.seen();
    let pair = |a, b| together.contains(&(lamp(a), lamp(b)));
    for (router, behind) in [(1, 2), (1, 3), (1, 4), (3, 4)] {
        assert!(!pair(router, behind), "{router} and {behind}");
    }
    assert!(pair(2, 3) && pair(1, 5), "the others need not wait");
}

#[tokio::test(start_paused = true)]
async fn a_thing_with_a_low_battery_waits_and_holds_up_no_other() {
    let mut settings = limited(1, &[]);
    settings.session.battery_min_percent = 30;
    settings.session.order_age_max = Duration::from_secs(86_400);
    let mut mesh = mesh(3, settings, 80).await;
    // The first commands wait behind the registration's exchange.
    mesh.batteries[0].store(29, Ordering::Relaxed);
    let time = mesh.downloads(2).await;
    assert!(time < Duration::from_secs(60), "{time:?}");
    assert!(mesh.seen().1.iter().all(|(a, _)| *a != lamp(1)));
    mesh.batteries[0].store(30, Ordering::Relaxed);
    let time = mesh.downloads(1).await;
    assert!(time >= Duration::from_secs(600), "{time:?}");
}

/// An order that waited for a fuller battery for too long is proven again.
#[tokio::test(start_paused = true)]
async fn an_order_that_a_battery_held_up_is_proven_again() {
    let mut settings = limited(1, &[]);
    settings.session.battery_min_percent = 30;
    let mut mesh = mesh(1, settings, 10).await;
    loop {
        let event = mesh.events.recv().await.unwrap();
        if matches!(&event, SouthEvent::Work { notice, .. }
            if matches!(notice, super::super::WorkNotice::Expired { .. }))
        {
            break;
        }
        assert!(event.stage().is_none(), "{event:?}");
    }
    assert!(mesh.begun.elapsed() >= Duration::from_secs(300));
}

/// The rate is that of the radio: a block of 64 bytes is 121 on air, one of 1,024 is 1,311.
#[tokio::test(start_paused = true)]
async fn the_rate_counts_the_headers_of_the_radio() {
    assert_eq!((on_air(64), on_air(1_024)), (121, 1_311));
    let mut settings = limited(16, &[]);
    (settings.rate_bytes_per_s, settings.session.szx) = (1_000, 2);
    let mut mesh = mesh(2, settings, 100).await;
    let seconds = mesh.downloads(2).await.as_secs_f64();
    let blocks = 2 * IMAGE_BYTES.div_ceil(64);
    let expected = (blocks * on_air(64)) as f64 / 1_000.0;
    assert!(
        (expected * 0.98..expected * 1.05).contains(&seconds),
        "{seconds} s, {expected} expected"
    );
}

#[test]
fn a_permit_without_a_worker_is_passed_to_the_next() {
    let pacing = super::super::pacing::Pacing::new(PacingConfig {
        transfers_max: 1,
        parents: BTreeMap::new(),
    });
    let first = pacing.request(vec!["a".to_owned()]).try_recv().unwrap();
    let (second, mut third) = (
        pacing.request(vec!["b".to_owned()]),
        pacing.request(vec!["c".to_owned()]),
    );
    drop(second);
    assert!(third.try_recv().is_err());
    drop(first);
    let third = third.try_recv().unwrap();
    // One that ends together with its worker is returned too.
    let fourth = pacing.request(vec!["d".to_owned()]);
    drop(third);
    drop(fourth);
    assert!(pacing.request(vec!["e".to_owned()]).try_recv().is_ok());
}
