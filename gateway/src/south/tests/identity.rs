//! The identity of Things: signed registrations, sessions, and addresses that change hands.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lamplighter_types::{Hash, SecretKey};
use tokio::sync::mpsc;

use super::super::{
    ServedDevices, South, SouthCommand, SouthConfig, SouthEvent, StorageReply, ThingKey,
};
use crate::coap::simulated::{Faults, SimulatedNetwork};
use crate::coap::{
    CoapConfig, CoapEndpoint, CoapService, Code, DatagramSocket, Peer, Request, Response, format,
};
use crate::lwm2m::{agent, path, proof};

const CHAIN: Hash = Hash([9; 32]);
const OBJECTS: &str = "</3/0>,</5/0>,</33000/0>";

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

fn at(host: u8) -> SocketAddr {
    ([10, 0, 0, host], 5683).into()
}

/// Devices of the gateway: `keyed-*` have a key, `secure-*` have one in the gateway's file only.
struct Devices {
    plain_everybody: bool,
}

impl ServedDevices for Devices {
    fn resolve(&self, endpoint_name: &str) -> Option<String> {
        self.serves(endpoint_name).then(|| endpoint_name.to_owned())
    }

    fn serves(&self, endpoint: &str) -> bool {
        endpoint != "foreign"
    }

    fn key(&self, endpoint: &str) -> Option<ThingKey> {
        let number = endpoint.strip_prefix("keyed-")?.parse().unwrap();
        Some(ThingKey {
            chain_id: CHAIN,
            key: key(number).public(),
        })
    }

    fn admits_plain(&self, endpoint: &str) -> bool {
        self.plain_everybody || !endpoint.starts_with("secure-")
    }
}

/// A link on which some addresses have sessions, as if by DTLS.
struct Link {
    inner: Arc<dyn DatagramSocket>,
    sessions: Arc<Mutex<HashMap<SocketAddr, (u64, &'static str)>>>,
}

#[async_trait]
impl DatagramSocket for Link {
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Peer)> {
        let (count, mut peer) = self.inner.receive(buffer).await?;
        let sessions = self.sessions.lock().unwrap();
        peer.session = sessions.get(&peer.address).map(|(number, _)| *number);
        Ok((count, peer))
    }

    async fn send(&self, bytes: &[u8], peer: Peer) -> io::Result<()> {
        let now = self
            .sessions
            .lock()
            .unwrap()
            .get(&peer.address)
            .map(|(n, _)| *n);
        match now == peer.session {
            true => self.inner.send(bytes, peer).await,
            false => Ok(()),
        }
    }

    fn identity(&self, peer: Peer) -> Option<String> {
        let sessions = self.sessions.lock().unwrap();
        let mut known = sessions.values();
        let (_, device) = known.find(|(number, _)| Some(*number) == peer.session)?;
        Some((*device).to_owned())
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A Thing that counts the configurations that it gets.
#[derive(Default)]
struct Counting(Mutex<usize>);

#[async_trait]
impl CoapService for Counting {
    async fn handle(&self, _peer: Peer, request: Request) -> Response {
        if request.path_text() == agent::CONFIGURATION {
            *self.0.lock().unwrap() += 1;
        }
        Response::new(Code::CHANGED)
    }
}

struct Thing {
    endpoint: CoapEndpoint,
    got: Arc<Counting>,
}

struct Bed {
    network: SimulatedNetwork,
    south: South,
    events: mpsc::Receiver<SouthEvent>,
    sessions: Arc<Mutex<HashMap<SocketAddr, (u64, &'static str)>>>,
}

fn bed_with(plain_everybody: bool) -> Bed {
    let network = SimulatedNetwork::new(3, Faults::NONE);
    let sessions = Arc::default();
    let link = Link {
        inner: network.attach(at(1)),
        sessions: Arc::clone(&sessions),
    };
    let (sender, events) = mpsc::channel(64);
    let devices = Arc::new(Devices { plain_everybody });
    let south = South::start(Arc::new(link), SouthConfig::default(), devices, sender);
    Bed {
        network,
        south: south.unwrap(),
        events,
        sessions,
    }
}

fn bed() -> Bed {
    bed_with(true)
}

fn registration(name: &str) -> Request {
    Request::new(Code::POST, path::REGISTRATION)
        .with_query(format!("ep={name}"))
        .with_query("lwm2m=1.1".to_owned())
        .with_payload(format::LINK_FORMAT, OBJECTS.as_bytes().to_vec())
}

impl Bed {
    fn thing(&self, address: SocketAddr) -> Thing {
        let got = Arc::new(Counting::default());
        let socket = self.network.attach(address);
        let endpoint = CoapEndpoint::start(socket, CoapConfig::default(), got.clone());
        Thing {
            endpoint: endpoint.unwrap(),
            got,
        }
    }

    fn session(&self, address: SocketAddr, number: u64, device: &'static str) {
        self.sessions
            .lock()
            .unwrap()
            .insert(address, (number, device));
    }

    /// Sends a configuration, and waits until it has been answered.
    async fn configure(&mut self, endpoint: &str) {
        let configure = SouthCommand::Configure {
            endpoint: endpoint.to_owned(),
            document: b"{}".to_vec(),
        };
        self.south.command(configure).await.unwrap();
        let answered =
            async { while !matches!(self.events.recv().await, Some(SouthEvent::Work { .. })) {} };
        let limit = Duration::from_secs(600);
        let _ = tokio::time::timeout(limit, answered).await;
    }

    /// Takes the next report and returns the Thing that it is attributed to.
    async fn reported(&mut self) -> String {
        loop {
            let event = self.events.recv().await.unwrap();
            if let SouthEvent::Report {
                endpoint, stored, ..
            } = event
            {
                stored.send(StorageReply::Stored).unwrap();
                return endpoint;
            }
        }
    }
}

impl Thing {
    async fn ask(&self, request: Request) -> Response {
        let handle = self.endpoint.handle();
        handle.request_to_sign(at(1), request).await.unwrap()
    }

    /// Sends a request and returns it with the signature that the gateway asks for.
    async fn signed(&self, request: Request, device: &str, key: &SecretKey) -> Request {
        let answer = self.ask(request.clone()).await;
        assert_eq!(answer.code, Code::UNAUTHORIZED);
        let nonce = answer.echo.expect("a nonce");
        proof::sign(request, nonce, &CHAIN, device, key)
    }

    /// Registers with a signature and returns the location.
    async fn register_signed(&self, number: u8) -> String {
        let name = format!("keyed-{number}");
        let request = self.signed(registration(&name), &name, &key(number)).await;
        let answer = self.ask(request).await;
        assert_eq!(answer.code, Code::CREATED);
        format!("/{}", answer.location.join("/"))
    }

    async fn register(&self, name: &str) -> Response {
        self.ask(registration(name)).await
    }

    fn configurations(&self) -> usize {
        *self.got.0.lock().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_thing_with_a_key_registers_with_its_signature_alone() {
    let mut bed = bed();
    let (thing, other) = (bed.thing(at(2)), bed.thing(at(3)));
    let refused = thing.register("keyed-1").await;
    assert_eq!(refused.code, Code::UNAUTHORIZED);
    let name = registration("keyed-1");
    // Another key, another device's signature, and a change after the signature.
    let wrong_key = thing.signed(name.clone(), "keyed-1", &key(2)).await;
    let wrong_name = thing.signed(name.clone(), "keyed-2", &key(1)).await;
    let mut changed = thing.signed(name.clone(), "keyed-1", &key(1)).await;
    changed.payload = b"</5/0>".to_vec();
    let mut longer = thing.signed(name.clone(), "keyed-1", &key(1)).await;
    longer.query.push("lt=5".to_owned());
    for request in [wrong_key, wrong_name, changed, longer] {
        let answer = thing.ask(request).await;
        assert_eq!(answer.code, Code::UNAUTHORIZED);
        assert!(answer.echo.is_some(), "the next nonce");
    }
    // A signature is worth nothing at another address, nor later.
    let signed = thing.signed(name.clone(), "keyed-1", &key(1)).await;
    assert_eq!(other.ask(signed.clone()).await.code, Code::UNAUTHORIZED);
    tokio::time::advance(Duration::from_secs(121)).await;
    assert_eq!(thing.ask(signed).await.code, Code::UNAUTHORIZED);
    assert!(bed.events.try_recv().is_err(), "nobody has registered");
    thing.register_signed(1).await;
    let event = bed.events.recv().await;
    assert!(matches!(
        event,
        Some(SouthEvent::Registered { attested: true, .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn an_unsigned_request_never_changes_a_signed_registration() {
    let mut bed = bed();
    let (thing, spoofer) = (bed.thing(at(2)), bed.thing(at(3)));
    let location = thing.register_signed(1).await;
    assert_eq!(spoofer.register("keyed-1").await.code, Code::UNAUTHORIZED);
    let update = Request::new(Code::POST, &location);
    let delete = Request::new(Code::DELETE, &location);
    let objects =
        Request::new(Code::POST, &location).with_payload(format::LINK_FORMAT, b"</3/0>".to_vec());
    for request in [update.clone(), delete.clone(), objects.clone()] {
        assert_eq!(spoofer.ask(request).await.code, Code::UNAUTHORIZED);
    }
    // From the Thing's own address too, except for what changes nothing.
    assert_eq!(thing.ask(objects).await.code, Code::UNAUTHORIZED);
    assert_eq!(thing.ask(delete.clone()).await.code, Code::UNAUTHORIZED);
    assert_eq!(thing.ask(update).await.code, Code::CHANGED);
    bed.configure("keyed-1").await;
    assert_eq!((thing.configurations(), spoofer.configurations()), (1, 0));
    let delete = thing.signed(delete, "keyed-1", &key(1)).await;
    assert_eq!(thing.ask(delete).await.code, Code::DELETED);
}

#[tokio::test(start_paused = true)]
async fn a_replayed_or_overtaken_registration_undoes_nothing() {
    let mut bed = bed();
    let thing = bed.thing(at(2));
    let first = thing
        .signed(registration("keyed-1"), "keyed-1", &key(1))
        .await;
    let longer = registration("keyed-1").with_query("lt=600".to_owned());
    let second = thing.signed(longer, "keyed-1", &key(1)).await;
    let location = thing.ask(second.clone()).await.location;
    // Again, as by an attacker who heard it; then the earlier one, which comes late.
    assert_eq!(thing.ask(second).await.location, location);
    assert_eq!(thing.ask(first).await.code, Code::UNAUTHORIZED);
    let update = Request::new(Code::POST, &location.join("/"));
    assert_eq!(thing.ask(update).await.code, Code::CHANGED);
    bed.configure("keyed-1").await;
    assert_eq!(thing.configurations(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_thing_behind_another_address_moves_its_registration_and_no_other() {
    let mut bed = bed();
    let (first, second) = (bed.thing(at(2)), bed.thing(at(3)));
    let location = first.register_signed(1).await;
    second.register_signed(2).await;
    // The address translation gave the first one another address.
    let moved = bed.thing(at(4));
    let update = Request::new(Code::POST, &location);
    let update = moved.signed(update, "keyed-1", &key(1)).await;
    assert_eq!(moved.ask(update).await.code, Code::CHANGED);
    bed.configure("keyed-1").await;
    bed.configure("keyed-2").await;
    assert_eq!(first.configurations(), 0);
    assert_eq!((moved.configurations(), second.configurations()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_unattested_thing_takes_no_address_from_an_attested_one() {
    let mut bed = bed();
    let thing = bed.thing(at(2));
    thing.register_signed(1).await;
    // A datagram with this source address, by anybody.
    assert_eq!(thing.register("lamp").await.code, Code::CREATED);
    bed.configure("keyed-1").await;
    assert_eq!(thing.configurations(), 1);
    // Who proves to be there does take it, since one of both has moved.
    thing.register_signed(2).await;
    bed.configure("keyed-1").await;
    assert_eq!(thing.configurations(), 1);
    bed.configure("keyed-2").await;
    assert_eq!(thing.configurations(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_session_registers_its_device_alone_and_is_not_displaced() {
    let mut bed = bed();
    let (thing, plain) = (bed.thing(at(2)), bed.thing(at(3)));
    bed.session(at(2), 1, "secure-1");
    assert_eq!(thing.register("secure-2").await.code, Code::FORBIDDEN);
    // Before it has registered, the name is anybody's.
    assert_eq!(plain.register("secure-1").await.code, Code::CREATED);
    let answer = thing.register("secure-1").await;
    assert_eq!(answer.code, Code::CREATED);
    assert_eq!(plain.register("secure-1").await.code, Code::UNAUTHORIZED);
    for method in [Code::POST, Code::DELETE] {
        let location = format!("/{}", answer.location.join("/"));
        let update = Request::new(method, &location);
        assert_eq!(plain.ask(update).await.code, Code::UNAUTHORIZED);
    }
    bed.configure("secure-1").await;
    assert_eq!((thing.configurations(), plain.configurations()), (1, 0));
    // A device with a key on the ledger needs no signature in its session.
    bed.session(at(5), 5, "keyed-1");
    assert_eq!(
        bed.thing(at(5)).register("keyed-1").await.code,
        Code::CREATED
    );
}

#[tokio::test(start_paused = true)]
async fn devices_with_credentials_may_be_kept_from_plain_coap() {
    let bed = bed_with(false);
    let (thing, plain) = (bed.thing(at(2)), bed.thing(at(3)));
    assert_eq!(plain.register("secure-1").await.code, Code::UNAUTHORIZED);
    assert_eq!(plain.register("lamp").await.code, Code::CREATED);
    bed.session(at(2), 1, "secure-1");
    assert_eq!(thing.register("secure-1").await.code, Code::CREATED);
}

fn report() -> Request {
    Request::new(Code::POST, agent::REPORTS).with_payload(format::OCTETS, vec![1, 2, 3])
}

#[tokio::test(start_paused = true)]
async fn a_report_is_attributed_to_its_session_and_a_new_session_is_followed() {
    let mut bed = bed();
    let (first, second) = (bed.thing(at(2)), bed.thing(at(3)));
    bed.session(at(2), 1, "secure-1");
    bed.session(at(3), 2, "secure-2");
    first.register("secure-1").await;
    second.register("secure-2").await;
    // Both boot, and each gets the other's address.
    bed.session(at(2), 3, "secure-2");
    bed.session(at(3), 4, "secure-1");
    let (answer, from) = tokio::join!(first.ask(report()), bed.reported());
    assert_eq!((answer.code, from.as_str()), (Code::CHANGED, "secure-2"));
    let (answer, from) = tokio::join!(second.ask(report()), bed.reported());
    assert_eq!((answer.code, from.as_str()), (Code::CHANGED, "secure-1"));
    bed.configure("secure-1").await;
    assert_eq!((first.configurations(), second.configurations()), (0, 1));
    // Without the session the same address is nobody.
    bed.sessions.lock().unwrap().clear();
    assert_eq!(first.ask(report()).await.code, Code::UNAUTHORIZED);
}

#[tokio::test(start_paused = true)]
async fn a_message_id_of_another_thing_at_the_same_address_is_no_duplicate() {
    let bed = bed();
    let socket = bed.network.attach(at(2));
    let mut answers = Vec::new();
    for name in ["lamp-1", "lamp-2", "lamp-2"] {
        let token = crate::coap::message::Token::new(&[1]).unwrap();
        let confirmable = crate::coap::message::MessageType::Confirmable;
        let message = registration(name).to_message(confirmable, 77, token);
        socket
            .send(&message.encode().unwrap(), at(1).into())
            .await
            .unwrap();
        let mut buffer = [0; 1152];
        let answer = loop {
            let (count, _) = socket.receive(&mut buffer).await.unwrap();
            let message = crate::coap::Message::decode(&buffer[..count]).unwrap();
            if message.code == Code::CREATED {
                break Response::from_message(&message).unwrap();
            }
        };
        answers.push(answer.location);
    }
    assert_ne!(answers[0], answers[1], "each has its own registration");
    assert_eq!(
        answers[1], answers[2],
        "and a true duplicate the same answer"
    );
}
