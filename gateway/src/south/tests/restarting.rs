use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::super::registration_file::RegistrationFile;
use super::super::{ServedDevices, South, SouthCommand, SouthConfig, SouthEvent};
use crate::coap::simulated::{Faults, SimulatedNetwork};
use crate::coap::{CoapConfig, CoapEndpoint, CoapService, Code, Peer, Request, Response, format};
use crate::lwm2m::registration::{Objects, Proof, Registration, Registry};
use crate::lwm2m::{agent, path};

fn at(host: u8) -> SocketAddr {
    ([10, 0, 0, host], 5683).into()
}

/// All Things but one are served.
struct Served;

impl ServedDevices for Served {
    fn resolve(&self, endpoint_name: &str) -> Option<String> {
        Some(endpoint_name.to_owned())
    }

    fn serves(&self, endpoint: &str) -> bool {
        endpoint != "gone"
    }
}

/// A Thing that writes down what it is asked.
struct Thing {
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl CoapService for Thing {
    async fn handle(&self, _peer: Peer, request: Request) -> Response {
        let target = request.path_text();
        self.asked.lock().unwrap().push(target.clone());
        match target.as_str() {
            "/1/0/8" => Response::new(Code::CHANGED),
            _ => Response::new(Code::NOT_FOUND),
        }
    }
}

struct Bed {
    network: SimulatedNetwork,
    dir: tempfile::TempDir,
}

impl Bed {
    fn new() -> Bed {
        Bed {
            network: SimulatedNetwork::new(1, Faults::NONE),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self) -> std::path::PathBuf {
        self.dir.path().join("registrations.jsonl")
    }

    fn start(&self) -> (South, mpsc::Receiver<SouthEvent>) {
        let (sender, events) = mpsc::channel(64);
        let config = SouthConfig {
            registrations: Some(self.file()),
            ..SouthConfig::default()
        };
        let socket = self.network.attach(at(1));
        let south = South::start(socket, config, Arc::new(Served), sender).unwrap();
        (south, events)
    }

    fn thing(&self, host: u8) -> (Arc<Thing>, CoapEndpoint) {
        let thing = Arc::new(Thing {
            asked: Mutex::default(),
        });
        let socket = self.network.attach(at(host));
        let config = CoapConfig::default();
        let endpoint = CoapEndpoint::start(socket, config, thing.clone()).unwrap();
        (thing, endpoint)
    }
}

async fn post(thing: &CoapEndpoint, target: &str, queries: &[&str], links: &str) -> Response {
    let mut request = Request::new(Code::POST, target);
    for query in queries {
        request = request.with_query((*query).to_owned());
    }
    if !links.is_empty() {
        request = request.with_payload(format::LINK_FORMAT, links.as_bytes().to_vec());
    }
    thing.handle().request(at(1), request).await.unwrap()
}

/// Registers, and returns the path of the registration.
async fn register(thing: &CoapEndpoint, name: &str, links: &str) -> String {
    let name = format!("ep={name}");
    let queries = [name.as_str(), "lwm2m=1.1", "lt=3600"];
    let answer = post(thing, path::REGISTRATION, &queries, links).await;
    assert_eq!(answer.code, Code::CREATED);
    format!("/{}", answer.location.join("/"))
}

const FOREIGN: &str = "</1/0>,</3/0>,</5/0>";

async fn next_registered(events: &mut mpsc::Receiver<SouthEvent>) -> Option<(String, SocketAddr)> {
    let limit = Duration::from_secs(200);
    while let Ok(Some(event)) = tokio::time::timeout(limit, events.recv()).await {
        if let SouthEvent::Registered { endpoint, peer, .. } = event {
            return Some((endpoint, peer));
        }
    }
    None
}

#[tokio::test(start_paused = true)]
async fn a_registration_survives_a_restart_and_its_address_does_not() {
    let bed = Bed::new();
    let (south, _events) = bed.start();
    let (device, endpoint) = bed.thing(2);
    let location = register(&endpoint, "meter-7", FOREIGN).await;
    south.close().await;
    let (south, mut events) = bed.start();
    // Whoever is at the address now has proven nothing.
    let event = post(&endpoint, agent::EVENTS, &[], "x").await;
    assert_eq!(event.code, Code::UNAUTHORIZED);
    // It is asked to update its registration, which needs the location.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(*device.asked.lock().unwrap(), ["/1/0/8"]);
    assert_eq!(next_registered(&mut events).await, None);
    let update = post(&endpoint, &location, &[], "").await;
    assert_eq!(update.code, Code::CHANGED);
    let registered = next_registered(&mut events).await;
    assert_eq!(registered, Some(("meter-7".to_owned(), at(2))));
    // It has listed nothing since: what it listed before is known still.
    let endpoint = "meter-7".to_owned();
    let inspect = SouthCommand::Inspect { endpoint };
    south.command(inspect).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let asked = device.asked.lock().unwrap().clone();
    let is_asked = |path: &str| asked.iter().any(|asked| asked == path);
    assert!(is_asked("/1/0") && is_asked("/3/0"), "{asked:?}");
    drop(south);
}

#[tokio::test(start_paused = true)]
async fn each_thing_is_asked_once_and_no_address_is_believed() {
    let bed = Bed::new();
    let (south, _events) = bed.start();
    let (_, second) = bed.thing(3);
    let (_, third) = bed.thing(4);
    let (sleeper, fourth) = bed.thing(5);
    register(&second, "meter-2", FOREIGN).await;
    register(&third, "meter-3", FOREIGN).await;
    let queries = ["ep=meter-4", "lwm2m=1.1", "lt=3600", "b=U", "Q"];
    let answer = post(&fourth, path::REGISTRATION, &queries, FOREIGN).await;
    assert_eq!(answer.code, Code::CREATED);
    south.close().await;
    // Another device is at the second address now, and one of ours has moved to the third.
    drop((second, third));
    let (stranger, _stranger_endpoint) = bed.thing(3);
    let (south, mut events) = bed.start();
    let (moved, moved_endpoint) = bed.thing(4);
    register(&moved_endpoint, "meter-7", FOREIGN).await;
    let mut registered = Vec::new();
    while let Some((endpoint, _)) = next_registered(&mut events).await {
        registered.push(endpoint);
    }
    assert_eq!(registered, ["meter-7"]);
    assert_eq!(*stranger.asked.lock().unwrap(), ["/1/0/8"]);
    // It may have been asked before it registered, but not afterwards, nor more than once.
    assert!(moved.asked.lock().unwrap().len() <= 1);
    assert_eq!(sleeper.asked.lock().unwrap().len(), 0, "it sleeps");
    drop(south);
}

/// Whoever had proven who it is has to prove it again: the restart takes nothing away from it.
#[tokio::test]
async fn what_a_thing_had_proven_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registrations.jsonl");
    for (n, proof) in [Proof::Unattested, Proof::Signed(7), Proof::Session]
        .into_iter()
        .enumerate()
    {
        let mut file = RegistrationFile::open(path.clone()).unwrap();
        let mut registry = Registry::default();
        let registration = Registration {
            proof,
            objects: Objects {
                agent: true,
                checks_orders: proof.attests(),
                takes_casts: proof.attests(),
                ..Objects::default()
            },
            ..registration("lamp-1")
        };
        registry.restore(location(n as u64), registration);
        save(&mut file, &registry, 1_000);
        let file = RegistrationFile::open(path.clone()).unwrap();
        let (_, stored) = file.registrations().next().unwrap();
        let restored = stored.restore("lamp-1", tokio::time::Instant::now(), 1_000);
        let restored = restored.unwrap();
        assert_eq!(restored.proof.attests(), proof.attests());
        assert_eq!(restored.objects.checks_orders, proof.attests());
        assert_eq!(restored.objects.takes_casts, proof.attests());
    }
}

fn registration(endpoint: &str) -> Registration {
    Registration {
        endpoint: endpoint.to_owned(),
        peer: None,
        proof: Proof::Unattested,
        lifetime: Duration::from_secs(3600),
        objects: Objects::default(),
        queue_mode: false,
        expires: tokio::time::Instant::now() + Duration::from_secs(3600),
    }
}

fn location(n: u64) -> String {
    format!("{n:016x}")
}

fn registry(count: u64) -> Registry {
    let mut registry = Registry::default();
    for n in 0..count {
        registry.restore(location(n), registration(&format!("lamp-{n}")));
    }
    registry
}

fn save(file: &mut RegistrationFile, registry: &Registry, now_ms: u64) -> usize {
    let changes = file.changes(registry, tokio::time::Instant::now(), now_ms);
    let count = changes.len();
    file.save(changes).unwrap();
    count
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

const NOW_MS: u64 = 1_800_000_000_000;

#[tokio::test]
async fn only_what_has_changed_is_written() {
    let bed = Bed::new();
    let mut file = RegistrationFile::open(bed.file()).unwrap();
    let mut registry = registry(1_000);
    assert_eq!(save(&mut file, &registry, NOW_MS), 1_000);
    let before = length(&bed.file());
    // Updates for half an hour cost nothing.
    for minute in 1..30 {
        assert_eq!(save(&mut file, &registry, NOW_MS + minute * 60_000), 0);
    }
    assert_eq!(length(&bed.file()), before);
    assert_eq!(save(&mut file, &registry, NOW_MS + 3_700_000), 1_000);
    // Ended and begun again and again, the file stays bounded.
    for round in 0..300 {
        registry.remove("lamp-5");
        assert_eq!(save(&mut file, &registry, NOW_MS + 3_700_000), 1);
        registry.restore(location(5_000 + round), registration("lamp-5"));
        assert_eq!(save(&mut file, &registry, NOW_MS + 3_700_000), 1);
    }
    assert!(length(&bed.file()) < 600_000, "{}", length(&bed.file()));
    let again = RegistrationFile::open(bed.file()).unwrap();
    assert_eq!(again.registrations().count(), 1_000);
    let (_, stored) = again
        .registrations()
        .find(|(name, _)| *name == "lamp-5")
        .unwrap();
    assert_eq!(stored.location, location(5_299));
    // A gateway that was off for long takes up nothing that must have ended.
    let now = tokio::time::Instant::now();
    let day = 24 * 3_600_000;
    assert!(stored.restore("lamp-5", now, NOW_MS).is_some());
    assert!(
        stored.restore("lamp-5", now, 0).is_some(),
        "the clock is not set yet"
    );
    assert_eq!(stored.restore("lamp-5", now, NOW_MS + day), None);
}

#[tokio::test]
async fn a_damaged_file_costs_only_what_is_damaged() {
    let bed = Bed::new();
    let path = bed.file();
    let mut file = RegistrationFile::open(path.clone()).unwrap();
    save(&mut file, &registry(10), NOW_MS);
    let text = std::fs::read_to_string(&path).unwrap();
    let count = |content: &[u8]| {
        std::fs::write(&path, content).unwrap();
        let file = RegistrationFile::open(path.clone()).unwrap();
        file.registrations().count()
    };
    assert_eq!(count(text.as_bytes()), 10);
    // Torn at the end, a damaged line, lines that nobody can have written.
    assert_eq!(count(&text.as_bytes()[..text.len() - 9]), 9);
    let cut = text.replacen("\"lifetime_s\":3600", "\"lifetime_s\":9999999999", 1);
    let cut = cut.replacen("00000000000000", "../../../../..", 1);
    assert!((8..=9).contains(&count(cut.as_bytes())));
    let noise = format!("{text}\u{0}\u{1}\n{{}}\n[1]\n{}\n", "x".repeat(100_000));
    assert_eq!(count(noise.as_bytes()), 10);
    // A newer gateway has written more fields.
    let newer = text.replace("\"lifetime_s\"", "\"session\":\"abc\",\"lifetime_s\"");
    assert_eq!(count(newer.as_bytes()), 10);
    assert_eq!(
        count(
            text.replacen("\"version\":1", "\"version\":9", 1)
                .as_bytes()
        ),
        0
    );
    assert_eq!(count(b""), 0);
    assert_eq!(count(&[0xff; 300]), 0);
    let long = vec![b'\n'; 17 * 1024 * 1024];
    assert_eq!(count(&long), 0);
    assert_eq!(length(&path.with_extension("damaged")), long.len() as u64);
    // All are bounded in number.
    let mut many = String::from("{\"version\":1}\n");
    for n in 0..12_000 {
        many += &format!(
            "{{\"endpoint\":\"e{n}\",\"registration\":{{\"location\":\"{}\",\"lifetime_s\":60,\
             \"until_ms\":1}}}}\n",
            location(n)
        );
    }
    assert_eq!(count(many.as_bytes()), 10_000);
}
