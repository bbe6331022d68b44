use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::super::echo::AddressProofs;
use super::super::message::{Message, MessageType, Token};
use super::super::simulated::{Faults, SimulatedNetwork};
use super::super::*;
use super::{addr, memory_service};

fn proofs() -> (AddressProofs<SocketAddr>, Instant) {
    let now = Instant::now();
    let random = &mut StdRng::seed_from_u64(1);
    (AddressProofs::new(true, now, random), now)
}

#[test]
fn an_unproven_address_gets_three_times_what_it_sent() {
    let (mut proofs, _) = proofs();
    proofs.received(addr(1), 50);
    assert!(proofs.may_send(addr(1), 100) && proofs.may_send(addr(1), 50));
    assert!(!proofs.may_send(addr(1), 1));
    // What others send is not its credit.
    proofs.received(addr(2), 1_000);
    assert!(!proofs.may_send(addr(1), 1));
    proofs.prove(addr(1));
    assert!(proofs.may_send(addr(1), 100_000));
    // An address that sent nothing can be asked, but not much.
    assert!(proofs.may_send(addr(3), 128) && !proofs.may_send(addr(3), 1));
}

#[test]
fn strangers_do_not_displace_proven_addresses() {
    let (mut proofs, _) = proofs();
    proofs.prove(addr(1));
    for n in 0..40_000_u32 {
        let [_, a, b, c] = n.to_be_bytes();
        proofs.received(([10, a, b, c], 1).into(), 10);
    }
    assert!(proofs.may_send(addr(1), 100_000));
}

#[test]
fn a_challenge_is_answered_from_its_address_in_time() {
    let (mut proofs, now) = proofs();
    proofs.received(addr(1), 20);
    let long = Response::content(format::TEXT, vec![b'x'; 500]);
    let challenge = proofs.challenge(now, addr(1), &long, 0).unwrap();
    assert_eq!(challenge.code, Code::UNAUTHORIZED);
    let of = |echo: Option<Vec<u8>>| Request {
        echo,
        ..Request::get("/")
    };
    let answer = of(challenge.echo);
    let after = |s| now + Duration::from_secs(s);
    assert!(proofs.is_answer(now, addr(1), &answer));
    assert!(
        !proofs.is_answer(now, addr(2), &answer),
        "it was for another one"
    );
    assert!(!proofs.is_answer(now, addr(1), &of(Some(vec![0; 12]))));
    assert!(!proofs.is_answer(now, addr(1), &of(None)));
    assert!(!proofs.is_answer(after(180), addr(1), &answer));
    assert!(proofs.is_answer(after(60), addr(1), &answer));
    proofs.prove(addr(1));
    assert_eq!(proofs.challenge(now, addr(1), &long, 0), None);
}

#[test]
fn protection_counts_before_a_message_is_made() {
    let (mut proofs, now) = proofs();
    proofs.received(addr(1), 20);
    let short = Response::new(Code::CHANGED);
    assert_eq!(proofs.challenge(now, addr(1), &short, 20), None);
    assert!(proofs.challenge(now, addr(1), &short, 21).is_some());
    assert_eq!(proofs.ask_first(addr(1), &Request::get("/"), 20), None);
    assert!(proofs.ask_first(addr(1), &Request::get("/"), 21).is_some());
}

fn limited() -> CoapConfig {
    CoapConfig {
        limit_unproven: true,
        ..CoapConfig::default()
    }
}

fn server(network: &SimulatedNetwork, service: Arc<dyn CoapService>) -> CoapEndpoint {
    CoapEndpoint::start(network.attach(addr(2)), limited(), service).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_client_gets_a_long_response_after_it_has_repeated_the_challenge() {
    let network = SimulatedNetwork::new(1, Faults::NONE);
    let service = memory_service();
    service.put("/long", &[7; 5_000]);
    let _server = server(&network, service);
    let config = CoapConfig::default();
    let client = CoapEndpoint::start(network.attach(addr(1)), config, memory_service()).unwrap();
    let request = Request::get("/long");
    let answer = client.handle().request(addr(2), request).await.unwrap();
    assert_eq!(answer.payload, vec![7; 5_000]);
}

#[tokio::test(start_paused = true)]
async fn a_client_without_echo_gets_a_long_response_after_it_has_answered_a_request() {
    let network = SimulatedNetwork::new(1, Faults::NONE);
    let service = memory_service();
    service.put("/long", &[7; 500]);
    let _server = server(&network, service);
    let config = CoapConfig::default();
    let client = CoapEndpoint::start(network.attach(addr(1)), config, memory_service()).unwrap();
    let request = Request::get("/long");
    // One exchange: nothing is repeated for the client.
    let answer = client.handle().exchange(addr(2), request).await.unwrap();
    assert_eq!(answer.code, Code::CONTENT);
    assert_eq!(answer.payload, vec![7; 500]);
}

/// Sends one datagram, and counts the bytes that come back within ten minutes.
async fn bytes_back(network: &SimulatedNetwork, datagram: &[u8]) -> usize {
    let victim = network.attach(addr(9));
    victim.send(datagram, addr(2).into()).await.unwrap();
    let mut bytes = 0;
    let mut buffer = [0; 2_000];
    let until = Instant::now() + Duration::from_secs(600);
    while let Ok(Ok((count, _))) = tokio::time::timeout_at(until, victim.receive(&mut buffer)).await
    {
        bytes += count;
    }
    bytes
}

/// Asks whoever sent a request for something in return.
struct Returning(tokio::sync::mpsc::Sender<SocketAddr>);

#[async_trait]
impl CoapService for Returning {
    async fn handle(&self, peer: Peer, _request: Request) -> Response {
        self.0.send(peer.address).await.unwrap();
        Response::new(Code::CREATED)
    }
}

#[tokio::test(start_paused = true)]
async fn a_spoofed_request_costs_its_victim_at_most_three_times_its_length() {
    let network = SimulatedNetwork::new(1, Faults::NONE);
    let service = memory_service();
    service.put("/long", &[7; 5_000]);
    let running = server(&network, service);
    let token = Token::new(&[1; 8]).unwrap();
    let encode = |request: Request| {
        let message: Message = request.to_message(MessageType::Confirmable, 7, token);
        message.encode().unwrap()
    };
    let get = encode(Request::get("/long"));
    let back = bytes_back(&network, &get).await;
    assert!(back <= 3 * get.len(), "{back} for {}", get.len());
    running.close().await;

    // Requests to the victim, as after a registration in its name.
    let (sender, mut registered) = tokio::sync::mpsc::channel(16);
    let running = server(&network, Arc::new(Returning(sender)));
    let handle = running.handle();
    let orders = tokio::spawn(async move {
        let victim = registered.recv().await.unwrap();
        for _ in 0..3 {
            let offer =
                Request::new(Code::PUT, "/5/0/0").with_payload(format::OCTETS, vec![1; 900]);
            handle.request(victim, offer).await.unwrap_err();
        }
    });
    let register = encode(Request::new(Code::POST, "/rd").with_query("ep=lamp-001".to_owned()));
    let back = bytes_back(&network, &register).await;
    assert!(
        back > 0 && back <= 3 * register.len(),
        "{back} for {}",
        register.len()
    );
    orders.await.unwrap();
}

/// A link whose messages are protected.
struct Protected(Arc<dyn DatagramSocket>);

const AROUND: Overhead = Overhead {
    received: 12,
    sent: 18,
};

#[async_trait]
impl DatagramSocket for Protected {
    async fn receive(&self, buffer: &mut [u8]) -> std::io::Result<(usize, Peer)> {
        self.0.receive(buffer).await
    }

    async fn send(&self, bytes: &[u8], peer: Peer) -> std::io::Result<()> {
        let around = vec![0; AROUND.sent];
        self.0.send(&[bytes, &around].concat(), peer).await
    }

    fn overhead(&self, _peer: Peer, code: Code) -> Overhead {
        assert_ne!(code, Code::EMPTY, "nothing is acknowledged here");
        AROUND
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Many short messages, each of which grows by as much as it has.
#[tokio::test(start_paused = true)]
async fn what_is_around_a_message_counts_for_the_limit() {
    let network = SimulatedNetwork::new(1, Faults::NONE);
    let (sender, mut registered) = tokio::sync::mpsc::channel(16);
    let link = Arc::new(Protected(network.attach(addr(2))));
    let running = CoapEndpoint::start(link, limited(), Arc::new(Returning(sender))).unwrap();
    let handle = running.handle();
    let orders = tokio::spawn(async move {
        let victim = registered.recv().await.unwrap();
        for _ in 0..6 {
            handle.request(victim, Request::get("/")).await.unwrap_err();
        }
    });
    let token = Token::new(&[1; 8]).unwrap();
    let register = Request::new(Code::POST, "/rd").with_query("ep=lamp-001".to_owned());
    let register = register.to_message(MessageType::NonConfirmable, 7, token);
    let register = register.encode().unwrap();
    let back = bytes_back(&network, &register).await;
    let allowed = 3 * (register.len() + AROUND.received);
    // As many of the short requests as fit.
    let each = 12 + AROUND.sent;
    assert!(
        allowed - each < back && back <= allowed,
        "{back} of {allowed}"
    );
    orders.await.unwrap();
}

/// A service with a long response, and the codes that it was notified of.
#[derive(Default)]
struct Noted(std::sync::Mutex<Vec<Code>>);

#[async_trait]
impl CoapService for Noted {
    async fn handle(&self, _peer: Peer, _request: Request) -> Response {
        Response::content(format::TEXT, vec![7; 500])
    }

    fn responded(&self, _peer: Peer, _request: &Request, code: Code) {
        self.0.lock().unwrap().push(code);
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_is_notified_of_the_response_that_is_sent_and_of_no_other() {
    let network = SimulatedNetwork::new(1, Faults::NONE);
    let noted = Arc::new(Noted::default());
    let codes = || std::mem::take(&mut *noted.0.lock().unwrap());
    let _server = server(&network, noted.clone());
    // Nobody answers the short request: a challenge goes out.
    let token = Token::new(&[1; 8]).unwrap();
    let get = Request::get("/").to_message(MessageType::Confirmable, 7, token);
    let get = get.encode().unwrap();
    let victim = network.attach(addr(9));
    victim.send(&get, addr(2).into()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(codes(), [], "it waits");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(codes(), [Code::UNAUTHORIZED]);
    let config = CoapConfig::default();
    let client = CoapEndpoint::start(network.attach(addr(1)), config, memory_service()).unwrap();
    let answer = client.handle().exchange(addr(2), Request::get("/")).await;
    assert_eq!(answer.unwrap().code, Code::CONTENT);
    assert_eq!(codes(), [Code::CONTENT]);
}

#[tokio::test(start_paused = true)]
async fn a_long_order_follows_a_short_one_to_an_address_that_answers() {
    let network = SimulatedNetwork::new(1, Faults::NONE);
    let (sender, mut registered) = tokio::sync::mpsc::channel(16);
    let server = server(&network, Arc::new(Returning(sender)));
    let thing = memory_service();
    let config = CoapConfig::default();
    let client = CoapEndpoint::start(network.attach(addr(1)), config, thing.clone()).unwrap();
    let register = Request::new(Code::POST, "/rd").with_query("ep=lamp-001".to_owned());
    client.handle().request(addr(2), register).await.unwrap();
    let peer = registered.recv().await.unwrap();
    let offer = Request::new(Code::PUT, "/5/0/0").with_payload(format::OCTETS, vec![1; 900]);
    let before = Instant::now();
    let answer = server.handle().request(peer, offer).await.unwrap();
    assert_eq!(answer.code, Code::CHANGED);
    assert!(
        before.elapsed() < Duration::from_secs(1),
        "no retransmission is needed"
    );
    assert_eq!(thing.get("/5/0/0"), Some(vec![1; 900]));
}
