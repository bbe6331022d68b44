//! The DTLS socket of a Thing, its gateway's end made by hand, and a neighbour that sends datagrams
//! from the gateway's address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::crypto::Dtls12CipherSuite;
use dimpl::{Config, Dtls, Output, PskResolver};
use lamplighter_gateway::coap::DatagramSocket;
use tokio::net::UdpSocket;

use super::super::secure::{Psk, SecureSocket};

const KEY: [u8; 16] = [0x5A; 16];
/// Time without an answer before another handshake.
const SILENCE: Duration = Duration::from_millis(1_500);
/// Between two messages of the Thing, and of the neighbour.
const PAUSE: Duration = Duration::from_millis(50);

struct FixedKey;

impl PskResolver for FixedKey {
    fn resolve(&self, _identity: &[u8]) -> Option<Vec<u8>> {
        Some(KEY.to_vec())
    }
}

/// A gateway that repeats each message.
struct Gateway {
    udp: UdpSocket,
    config: Arc<Config>,
    dtls: Dtls,
    thing: SocketAddr,
    handshakes: usize,
}

impl Gateway {
    async fn bind(thing: SocketAddr) -> Gateway {
        let config = Config::builder()
            .with_psk_server(None, Arc::new(FixedKey))
            .dtls12_cipher_suites(&[Dtls12CipherSuite::PSK_AES128_CCM_8])
            .dtls13_cipher_suites(&[])
            .use_server_cookie(false)
            .build();
        let config = Arc::new(config.unwrap());
        Gateway {
            udp: UdpSocket::bind("127.0.0.1:0").await.unwrap(),
            dtls: Dtls::new_12_psk(config.clone(), Instant::now()),
            config,
            thing,
            handshakes: 0,
        }
    }

    /// Forgets its session. It says nothing to what it can't decrypt.
    fn restart(&mut self) {
        self.dtls = Dtls::new_12_psk(self.config.clone(), Instant::now());
    }

    async fn forge(&self, datagram: &[u8]) {
        self.udp.send_to(datagram, self.thing).await.unwrap();
    }

    /// Answers the datagrams that come within a pause.
    async fn serve(&mut self) {
        let end = tokio::time::Instant::now() + PAUSE;
        let mut buffer = [0; 2048];
        while let Ok(received) = tokio::time::timeout_at(end, self.udp.recv_from(&mut buffer)).await
        {
            let (count, _) = received.unwrap();
            self.dtls.handle_timeout(Instant::now()).unwrap();
            let _ = self.dtls.handle_packet(&buffer[..count]);
            for message in self.drain().await {
                self.dtls.send_application_data(&message).unwrap();
            }
            self.drain().await;
        }
    }

    /// Sends what the library wants to send, and returns the messages that came.
    async fn drain(&mut self) -> Vec<Vec<u8>> {
        let (mut messages, mut buffer) = (Vec::new(), vec![0; 4096]);
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(packet) => {
                    self.udp.send_to(packet, self.thing).await.unwrap();
                }
                Output::ApplicationData(data) => messages.push(data.to_vec()),
                Output::Connected => self.handshakes += 1,
                Output::Timeout(_) => return messages,
                _ => {}
            }
        }
    }
}

/// The Thing sends a message each pause, and the neighbour a datagram, until the gateway has
/// answered one. Returns the number of pauses.
async fn until_answered(thing: &SecureSocket, gateway: &mut Gateway, forged: &[Vec<u8>]) -> usize {
    let peer = gateway.udp.local_addr().unwrap().into();
    let mut buffer = [0; 2048];
    // What was answered before does not count.
    while tokio::time::timeout(PAUSE, thing.receive(&mut buffer))
        .await
        .is_ok()
    {}
    for round in 0..400 {
        thing.send(b"are you there?", peer).await.unwrap();
        gateway.forge(&forged[round % forged.len()]).await;
        gateway.serve().await;
        if let Ok(answer) = tokio::time::timeout(PAUSE, thing.receive(&mut buffer)).await {
            let (count, _) = answer.unwrap();
            assert_eq!(&buffer[..count], b"are you there?");
            return round;
        }
    }
    panic!("no answer in {:?}", PAUSE * 400)
}

/// A record of DTLS 1.2 with a number that was not used.
fn record(content_type: u8, epoch: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16).to_be_bytes();
    let head = [content_type, 254, 253, 0, epoch, 0, 0, 0, 0, 9, 9];
    [&head[..], &length, body].concat()
}

#[tokio::test]
async fn a_neighbour_keeps_no_thing_in_a_dead_session_and_ends_none() {
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut gateway = Gateway::bind(udp.local_addr().unwrap()).await;
    let psk = Psk {
        identity: "lamp-1".to_owned(),
        key: KEY.to_vec(),
    };
    let peer = gateway.udp.local_addr().unwrap();
    let thing = SecureSocket::start_with(udp, peer, psk, SILENCE).unwrap();
    let handshake_message = [14, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0];
    let forged = [
        vec![0xFF; 40],
        record(21, 0, &[2, 40]),
        record(21, 1, &[2, 40]),
        record(22, 0, &handshake_message),
        record(22, 1, &handshake_message),
        record(23, 0, b"lies"),
        record(23, 1, &[7; 40]),
        Vec::new(),
    ];
    until_answered(&thing, &mut gateway, &[vec![0xFF; 40]]).await;
    assert_eq!(gateway.handshakes, 1);
    for _ in 0..3 {
        for one in &forged {
            gateway.forge(one).await;
        }
        assert_eq!(until_answered(&thing, &mut gateway, &forged).await, 0);
    }
    assert_eq!(gateway.handshakes, 1, "the session went on");
    gateway.restart();
    until_answered(&thing, &mut gateway, &forged[..1]).await;
    assert_eq!(gateway.handshakes, 2);
}
