//! Sockets over restarts.

use std::net::SocketAddr;
use std::path::Path;

use tokio::net::UdpSocket;

use super::super::OscoreSocket;
use super::super::numbers::STEP;
use super::thing::{ECHO, Thing, entry, option_of};
use crate::coap::message::{CoapOption, Code, Message, MessageType, Token};
use crate::coap::{DatagramSocket, Peer, Request, format};
use crate::credentials::CredentialStore;
use crate::credentials::tests::{KEY, write_private};

async fn start(directory: &Path, accepts_plain: bool) -> OscoreSocket {
    let path = directory.join("things.toml");
    write_private(&path, &entry(1, KEY));
    let store = CredentialStore::open(path).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let numbers = directory.join("numbers.json");
    let started = OscoreSocket::start(udp, store, &numbers, accepts_plain).await;
    started.unwrap()
}

async fn received(udp: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 2_048];
    let count = udp.recv(&mut buffer).await.unwrap();
    buffer[..count].to_vec()
}

fn post() -> Request {
    Request::new(Code::POST, "/ev").with_payload(format::OCTETS, vec![7; 40])
}

/// Sends a request, answers the challenge, and returns the number of the challenge with the peer.
async fn speak(socket: &OscoreSocket, thing: &mut Thing, udp: &UdpSocket) -> (u64, Peer) {
    udp.connect(socket.local_addr().unwrap()).await.unwrap();
    let mut buffer = [0; 2_048];
    let exchange = async {
        udp.send(&thing.request(&post())).await.unwrap();
        let challenge = received(udp).await;
        let opened = thing.open(&challenge).expect("it is protected");
        assert_eq!(opened.code, Code::UNAUTHORIZED);
        let mut request = post();
        let echo = opened.values(CoapOption::from(ECHO)).next().unwrap();
        request.echo = Some(echo.to_vec());
        udp.send(&thing.request(&request)).await.unwrap();
        number(&challenge)
    };
    let (number, taken) = tokio::join!(exchange, socket.receive(&mut buffer));
    (number, taken.unwrap().1)
}

fn number(datagram: &[u8]) -> u64 {
    let option = option_of(&Message::decode(datagram).unwrap()).unwrap();
    option.partial_iv.unwrap().number()
}

#[tokio::test]
async fn no_restart_uses_a_number_again_or_takes_a_request_of_before() {
    let directory = tempfile::tempdir().unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut thing = Thing::new(1, udp.local_addr().unwrap());
    let (mut highest, mut captured) = (None, Vec::new());
    for restart in 0..3 {
        let socket = start(directory.path(), true).await;
        if restart > 0 {
            // A request of before, heard by somebody, is challenged, and not handed over.
            udp.connect(socket.local_addr().unwrap()).await.unwrap();
            udp.send(&captured).await.unwrap();
            let mut buffer = [0; 2_048];
            let challenged = tokio::select! {
                taken = socket.receive(&mut buffer) => panic!("{taken:?}"),
                challenged = received(&udp) => number(&challenged),
            };
            assert!(Some(challenged) > highest);
            highest = Some(challenged);
        }
        let (challenge, peer) = speak(&socket, &mut thing, &udp).await;
        assert!(Some(challenge) > highest, "restart {restart}");
        assert_eq!(socket.identity(peer).as_deref(), Some("lamp-1"));
        assert!(socket.bootstrapped(peer).is_none() && !socket.proves_address(peer));
        let request = Request::get("/3/0");
        let request = request.to_message(MessageType::Confirmable, 1, Token::default());
        socket.send(&request.encode().unwrap(), peer).await.unwrap();
        highest = Some(number(&received(&udp).await));
        captured = thing.request(&post());
        // Ended as by a crash: nothing is written at the end.
        drop(socket);
    }
}

#[tokio::test]
async fn plain_messages_are_dropped_where_they_are_not_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let socket = start(directory.path(), false).await;
    let mut thing = Thing::new(1, udp.local_addr().unwrap());
    udp.connect(socket.local_addr().unwrap()).await.unwrap();
    let plain = post().to_message(MessageType::Confirmable, 1, Token::default());
    udp.send(&plain.encode().unwrap()).await.unwrap();
    let (_, peer) = speak(&socket, &mut thing, &udp).await;
    assert!(peer.session.is_some(), "the first that is handed over");
    let address: SocketAddr = udp.local_addr().unwrap();
    let refused = socket.send(&plain.encode().unwrap(), address.into()).await;
    assert!(refused.is_err());
    socket.close().await;
}

/// A disk that fails, and works again.
#[tokio::test]
async fn a_number_that_is_not_durable_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let socket = start(directory.path(), true).await;
    let mut thing = Thing::new(1, udp.local_addr().unwrap());
    let (_, peer) = speak(&socket, &mut thing, &udp).await;
    let (numbers, aside) = (
        directory.path().join("numbers.json"),
        directory.path().join("aside"),
    );
    let left = || {
        let file = std::fs::read(&numbers).unwrap();
        let file: serde_json::Value = serde_json::from_slice(&file).unwrap();
        file["ceiling"].as_u64().unwrap()
    };
    let ceiling = left();
    // A directory in its place is not replaced.
    std::fs::rename(&numbers, &aside).unwrap();
    std::fs::create_dir_all(numbers.join("in the way")).unwrap();
    let ask = async |id: u16| {
        let token = Token::new(&id.to_be_bytes()).unwrap();
        let request = Request::get("/").to_message(MessageType::NonConfirmable, id, token);
        socket.send(&request.encode().unwrap(), peer).await?;
        std::io::Result::Ok(number(&received(&udp).await))
    };
    let mut highest = 0;
    let refused = loop {
        match ask(highest as u16).await {
            Ok(number) => highest = number,
            Err(error) => break error,
        }
    };
    assert_eq!(highest, ceiling - 1, "{refused}");
    assert!(ask(1).await.is_err());
    std::fs::remove_dir_all(&numbers).unwrap();
    assert_eq!(ask(2).await.unwrap(), ceiling);
    assert_eq!(left(), ceiling + STEP);
}
