//! A mesh in which neighbours do all that they can without a key, while good Things go on. Real
//! time, and the gateway's own code on both sides of the network in memory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use lamplighter_types::Hash;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use tokio::sync::mpsc;

use super::super::{South, SouthCommand, SouthConfig, SouthEvent, StorageReply, Transfer};
use crate::coap::message::{Message, MessageType, Token};
use crate::coap::simulated::{Faults, SimulatedNetwork};
use crate::coap::{
    Block, CoapConfig, CoapEndpoint, CoapHandle, CoapService, Code, Peer, Request, Response, format,
};
use crate::lwm2m::{Stage, agent, path};

/// Good Things that raise an event every few milliseconds.
const GOOD: u8 = 8;
/// Mutated datagrams of the attack, in ten seconds: six times as many in a minute as asked for.
const MUTATED: usize = 20_000;
const FALSE_REGISTRATIONS: usize = 3_000;
/// Addresses of victims that send nothing themselves.
const VICTIMS: usize = 1_000;
const QUIET: Duration = Duration::from_secs(5);
const ATTACK: Duration = Duration::from_secs(10);
/// A mesh of a few hops, which also delivers some datagrams twice and all in any order.
const MESH: Faults = Faults {
    drop: 0.0,
    duplicate: 0.05,
    delay_max: Duration::from_millis(20),
};
/// Victims in whose name one datagram is sent, a registration.
const SILENT: usize = 20;
/// Names of ours in which victims are registered, and to which the gateway has packages to send.
const STOLEN: u16 = 7;
const MEMORY_MAX: u64 = 48 << 20;

fn gateway() -> SocketAddr {
    ([10, 0, 0, 1], 5683).into()
}

fn good(n: u8) -> SocketAddr {
    ([10, 0, 1, n], 5683).into()
}

fn victim(n: usize) -> SocketAddr {
    ([10, 9, (n >> 8) as u8, n as u8], 5683).into()
}

/// A foreign device with object 5 that takes a package and says that it has it.
#[derive(Default)]
struct Device {
    bytes: AtomicU64,
    whole: AtomicBool,
}

#[async_trait]
impl CoapService for Device {
    async fn handle(&self, _peer: Peer, request: Request) -> Response {
        let state = if self.whole.load(Ordering::Relaxed) {
            "2"
        } else {
            "0"
        };
        match (request.method, request.path_text().as_str()) {
            (Code::GET, path::STATE) => Response::content(format::TEXT, state.into()),
            (Code::GET, path::RESULT) => Response::content(format::TEXT, b"0".to_vec()),
            (Code::GET, path::FIRMWARE_VERSION) => {
                Response::content(format::TEXT, b"1.0.0".to_vec())
            }
            (Code::PUT, path::PACKAGE) => {
                let length = request.payload.len() as u64;
                self.bytes.store(length, Ordering::Relaxed);
                self.whole.store(length > 0, Ordering::Relaxed);
                Response::new(Code::CHANGED)
            }
            _ => Response::new(Code::NOT_FOUND),
        }
    }
}

pub(super) fn registration(name: &str) -> Request {
    Request::new(Code::POST, path::REGISTRATION)
        .with_query(format!("ep={name}"))
        .with_query("lwm2m=1.1".to_owned())
        .with_query("lt=86400".to_owned())
        .with_payload(format::LINK_FORMAT, b"</3/0>,</5/0>".to_vec())
}

fn stolen(n: u16) -> String {
    format!("lamp-{}", 100 + n)
}

pub(super) fn datagram(request: &Request, id: u16) -> Vec<u8> {
    let token = Token::new(&id.to_be_bytes()).unwrap();
    let message: Message = request.to_message(MessageType::Confirmable, id, token);
    message.encode().unwrap()
}

/// Raises events one after the other, registering again when it has to; the time of each one.
async fn raise_events(handle: CoapHandle, name: String, until: Instant) -> Vec<Duration> {
    let mut times = Vec::new();
    while Instant::now() < until {
        let before = Instant::now();
        loop {
            let event = Request::new(Code::POST, agent::EVENTS)
                .with_payload(format::OCTETS, vec![0xE0; 60]);
            let answer = handle.request(gateway(), event).await.unwrap();
            if answer.code == Code::CHANGED {
                break;
            }
            let again = handle
                .request(gateway(), registration(&name))
                .await
                .unwrap();
            assert_eq!(
                (answer.code, again.code),
                (Code::UNAUTHORIZED, Code::CREATED)
            );
        }
        times.push(before.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    times
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() * 99 / 100]
}

pub(super) fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

struct City {
    network: SimulatedNetwork,
    south: South,
    things: Vec<CoapEndpoint>,
    device: Arc<Device>,
    downloaded: Arc<AtomicU64>,
    artifacts: tempfile::TempDir,
}

/// Answers like the north side whose disk is fast.
async fn store(mut events: mpsc::Receiver<SouthEvent>, downloaded: Arc<AtomicU64>) {
    while let Some(event) = events.recv().await {
        if event
            .stage()
            .is_some_and(|(_, stage)| stage == Stage::Downloaded)
        {
            downloaded.fetch_add(1, Ordering::Relaxed);
        }
        if let SouthEvent::Event { stored, .. } | SouthEvent::Report { stored, .. } = event {
            let _ = stored.send(StorageReply::Stored);
        }
    }
}

async fn city() -> City {
    let network = SimulatedNetwork::new(3, MESH);
    let artifacts = tempfile::tempdir().unwrap();
    let (sender, events) = mpsc::channel(1_024);
    let downloaded = Arc::new(AtomicU64::new(0));
    tokio::spawn(store(events, downloaded.clone()));
    let config = SouthConfig {
        artifacts: artifacts.path().to_owned(),
        rate_bytes_per_s: 1_000_000,
        ..SouthConfig::default()
    };
    let is_served = |name: &str| name.starts_with("lamp-");
    let south = South::start(
        network.attach(gateway()),
        config,
        Arc::new(is_served),
        sender,
    )
    .unwrap();
    let device = Arc::new(Device::default());
    let mut things = Vec::new();
    for n in 0..=GOOD {
        let config = CoapConfig {
            body_bytes_max: 1 << 20,
            ..CoapConfig::default()
        };
        let socket = network.attach(good(n));
        let thing = CoapEndpoint::start(socket, config, device.clone()).unwrap();
        let name = registration(&format!("lamp-{n}"));
        let answer = thing.handle().request(gateway(), name).await.unwrap();
        assert_eq!(answer.code, Code::CREATED);
        things.push(thing);
    }
    City {
        network,
        south,
        things,
        device,
        downloaded,
        artifacts,
    }
}

impl City {
    /// The times of events until an instant, of each good Thing but the first.
    async fn events_until(&self, until: Instant) -> Vec<Vec<Duration>> {
        let raising = self.things.iter().enumerate().skip(1).map(|(n, thing)| {
            tokio::spawn(raise_events(thing.handle(), format!("lamp-{n}"), until))
        });
        let raising: Vec<_> = raising.collect();
        let mut times = Vec::new();
        for raised in raising {
            times.push(raised.await.unwrap());
        }
        times
    }

    /// Gives a Thing a package.
    async fn update(&self, name: &str, image: &[u8]) {
        let artifact = Hash::of(image);
        let file = self.artifacts.path().join(artifact.to_string());
        // Written once: another Thing may be getting it.
        if !file.exists() {
            std::fs::write(file, image).unwrap();
        }
        let transfer = Transfer {
            endpoint: name.to_owned(),
            deployment: artifact.to_string(),
            artifact,
            size_bytes: image.len() as u64,
            // Only a Thing with our agent gets it.
            offer: vec![1; 600],
        };
        let command = SouthCommand::Transfer(transfer);
        self.south.command(command).await.unwrap();
    }

    /// Registers victims as Things with our agent for which there is a package, each with one
    /// datagram; the length of it.
    async fn register_silent(&self, image: &[u8]) -> u64 {
        let mut length = 0;
        for n in 0..SILENT {
            let name = format!("lamp-{}", 200 + n);
            self.update(&name, image).await;
            let links = b"</3/0>,</5/0>,</33000/0>".to_vec();
            let request = registration(&name).with_payload(format::LINK_FORMAT, links);
            let bytes = datagram(&request, 1);
            self.network.spoof(victim(VICTIMS + n), gateway(), &bytes);
            length = bytes.len() as u64;
        }
        length
    }

    async fn downloads(&self, count: u64) {
        let limit = Instant::now() + Duration::from_secs(15);
        while self.downloaded.load(Ordering::Relaxed) < count {
            assert!(Instant::now() < limit, "the package has not arrived");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The attackers, who spoof any address and spend `bytes`.
struct Attack {
    network: SimulatedNetwork,
    random: StdRng,
    bytes: Vec<u64>,
}

impl Attack {
    fn send(&mut self, from: SocketAddr, bytes: &[u8]) {
        self.network.spoof(from, gateway(), bytes);
    }

    fn send_from_victim(&mut self, bytes: &[u8]) {
        let n = self.random.random_range(0..VICTIMS);
        self.bytes[n] += bytes.len() as u64;
        self.send(victim(n), bytes);
    }

    /// A real message with some bytes changed, cut or added.
    fn mutated(&mut self, id: u16) {
        let requests = [
            registration("lamp-1"),
            Request::get("/.well-known/core"),
            Request::new(Code::POST, agent::EVENTS).with_payload(format::OCTETS, vec![1; 50]),
            Request::new(Code::POST, "/rd/0123456789abcdef"),
        ];
        let mut bytes = datagram(&requests[usize::from(id) % requests.len()], id);
        for _ in 0..self.random.random_range(1..6) {
            let at = self.random.random_range(0..bytes.len());
            bytes[at] = self.random.next_u32() as u8;
        }
        let length = self.random.random_range(1..=bytes.len());
        if self.random.random_bool(0.2) {
            bytes.truncate(length);
        }
        self.send_from_victim(&bytes);
    }

    /// Registers a name that is not ours, or one of ours from an address of a victim.
    fn false_registration(&mut self, id: u16) {
        let name = match id % 10 {
            0 => stolen(id % STOLEN),
            _ => format!("stranger-{id}"),
        };
        self.send_from_victim(&datagram(&registration(&name), id));
    }

    /// A registration and an event of a good Thing, as heard before, and in the wrong order.
    fn replayed(&mut self, id: u16) {
        let n = (id % u16::from(GOOD)) as u8;
        let message = match id % 2 {
            0 => Request::new(Code::POST, agent::EVENTS).with_payload(format::OCTETS, vec![7; 60]),
            _ => registration(&format!("lamp-{n}")),
        };
        self.send(good(n), &datagram(&message, id % 64));
    }

    /// The next block of a body without end.
    fn endless(&mut self, id: u16) {
        let block = Block {
            number: u32::from(id) / 300,
            more: true,
            szx: 6,
        };
        let mut request =
            registration("lamp-1").with_payload(format::LINK_FORMAT, vec![b'x'; 1024]);
        request.block1 = Some(block);
        let n = usize::from(id) % 300;
        let bytes = datagram(&request, id);
        self.bytes[n] += bytes.len() as u64;
        self.send(victim(n), &bytes);
    }

    async fn run(mut self) -> Vec<u64> {
        let steps = 1_000;
        let start = tokio::time::Instant::now();
        let mut id = 0_u16;
        for step in 0..steps {
            for n in 0..MUTATED / steps {
                id = id.wrapping_add(1);
                self.mutated(id);
                match n {
                    0..3 => self.false_registration(id),
                    3 => self.replayed(id),
                    4..10 => self.endless(id),
                    _ => {}
                }
            }
            let next = start + ATTACK * (step as u32 + 1) / steps as u32;
            tokio::time::sleep_until(next).await;
        }
        self.bytes
    }
}

const _: () = assert!(FALSE_REGISTRATIONS == 3 * 1_000);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_mesh_holds_up_no_good_thing() {
    let city = city().await;
    let image = vec![0xA5; 100_000];
    city.update("lamp-0", &image).await;
    let quiet = city.events_until(Instant::now() + QUIET).await;
    city.downloads(1).await;
    city.device.whole.store(false, Ordering::Relaxed);
    let before = resident_bytes();

    let attack = Attack {
        network: city.network.clone(),
        random: StdRng::seed_from_u64(11),
        bytes: vec![0; VICTIMS],
    };
    let spent = tokio::spawn(attack.run());
    let second = vec![0x5A; 100_000];
    city.update("lamp-0", &second).await;
    for n in 0..STOLEN {
        city.update(&stolen(n), &second).await;
    }
    let silent = city.register_silent(&second).await;
    let attacked = city.events_until(Instant::now() + ATTACK).await;
    city.downloads(2).await;
    let spent = spent.await.unwrap();
    // What is repeated to the victims counts too.
    tokio::time::sleep(Duration::from_secs(5)).await;

    let added = resident_bytes().saturating_sub(before);
    // One is registered by others all the time, and has to register again for most of its events.
    let (robbed, attacked) = attacked.split_first().unwrap();
    let (quiet, attacked) = (quiet[1..].concat(), attacked.concat());
    let (events, count) = (quiet.len(), attacked.len());
    let (robbed, slowest) = (robbed.len(), robbed.iter().max().unwrap());
    let (quiet, attacked) = (p99(quiet), p99(attacked));
    let returned: u64 = (0..VICTIMS).map(|n| city.network.bytes_to(victim(n))).sum();
    let ratio = returned as f64 / spent.iter().sum::<u64>() as f64;
    println!(
        "{events} events quiet, p99 {quiet:?}; {count} under attack, p99 {attacked:?}; \
         {robbed} of the robbed one, {slowest:?} at most; {added} bytes added; \
         {ratio:.2} bytes returned for one"
    );
    assert!(count > events, "the good Things were held up");
    assert!(
        attacked <= 2 * quiet,
        "{attacked:?}, {quiet:?} without the attack"
    );
    assert!(
        robbed > 50 && *slowest < Duration::from_secs(5),
        "{robbed} in {slowest:?}"
    );
    assert!(added < MEMORY_MAX, "{added} bytes added");
    for n in VICTIMS..VICTIMS + SILENT {
        let returned = city.network.bytes_to(victim(n));
        assert!(
            returned <= 3 * silent,
            "{returned} bytes to a victim for {silent}"
        );
        assert!(returned > 0, "the registration was lost");
    }
    for (n, spent) in spent.iter().enumerate() {
        let returned = city.network.bytes_to(victim(n));
        assert!(
            returned <= 3 * spent,
            "{returned} bytes to a victim for {spent}"
        );
    }
}
