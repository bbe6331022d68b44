//! A device of another manufacturer that has no key on the ledger, and speaks DTLS with a key of
//! the gateway's file.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use dimpl::crypto::Dtls12CipherSuite;
use dimpl::{Config, Dtls, Output, PskResolver};
use lamplighter_gateway::coap::{Code, DatagramSocket, Peer};
use lamplighter_types::DeploymentState;
use tokio::net::UdpSocket;

use crate::city::{City, until};
use crate::foreign::{Foreign, register};
use crate::keys::{SecureGateway, psk};

const KEY: [u8; 16] = [0x5A; 16];

struct FixedKey([u8; 16]);

impl PskResolver for FixedKey {
    fn resolve(&self, _identity: &[u8]) -> Option<Vec<u8>> {
        Some(self.0.to_vec())
    }
}

/// A socket of a Thing that encrypts everything to its gateway.
pub struct SecureSocket {
    udp: UdpSocket,
    gateway: SocketAddr,
    dtls: Mutex<Dtls>,
    received: Mutex<VecDeque<Vec<u8>>>,
}

impl SecureSocket {
    pub async fn connect(gateway: SocketAddr, identity: &str, key: [u8; 16]) -> SecureSocket {
        let config = Config::builder()
            .with_psk_client(identity.as_bytes().to_vec(), Arc::new(FixedKey(key)))
            .dtls12_cipher_suites(&[Dtls12CipherSuite::PSK_AES128_CCM_8])
            .dtls13_cipher_suites(&[])
            .build();
        let mut dtls = Dtls::new_12_psk(Arc::new(config.unwrap()), Instant::now());
        dtls.set_active(true);
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        udp.connect(gateway).await.unwrap();
        SecureSocket {
            udp,
            gateway,
            dtls: Mutex::new(dtls),
            received: Mutex::default(),
        }
    }

    /// Calls the library and sends what it wants to send.
    async fn run(&self, call: impl FnOnce(&mut Dtls)) -> io::Result<()> {
        let mut packets = Vec::new();
        {
            let mut dtls = self.dtls.lock().unwrap();
            dtls.handle_timeout(Instant::now()).unwrap();
            call(&mut dtls);
            let mut buffer = vec![0; 4096];
            loop {
                match dtls.poll_output(&mut buffer) {
                    Output::Packet(packet) => packets.push(packet.to_vec()),
                    Output::ApplicationData(data) => {
                        self.received.lock().unwrap().push_back(data.to_vec());
                    }
                    Output::Timeout(_) => break,
                    _ => {}
                }
            }
        }
        for packet in packets {
            self.udp.send(&packet).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl DatagramSocket for SecureSocket {
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Peer)> {
        loop {
            if let Some(message) = self.received.lock().unwrap().pop_front() {
                buffer[..message.len()].copy_from_slice(&message);
                return Ok((message.len(), self.gateway.into()));
            }
            self.run(|_| {}).await?;
            let mut datagram = [0; 2048];
            let received = self.udp.recv(&mut datagram);
            if let Ok(count) = tokio::time::timeout(Duration::from_millis(100), received).await {
                let count = count?;
                self.run(|dtls| dtls.handle_packet(&datagram[..count]).unwrap())
                    .await?;
            }
        }
    }

    async fn send(&self, bytes: &[u8], _peer: Peer) -> io::Result<()> {
        self.run(|dtls| assert_eq!(dtls.send_application_data(bytes).unwrap(), bytes.len()))
            .await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_proves_its_key_over_dtls_is_updated_and_no_other_in_its_name() {
    let city = City::build(&["foreign-2", "foreign-3"]).await;
    let entries = [psk("urn:lamp:2", &KEY, "foreign-2", "")];
    let gateway = SecureGateway::start(&city, &entries).await;
    let (plain, secure) = (gateway.plain, gateway.secure);
    let device = Foreign::default();
    device.with(|device| device.version = "1.0.0".to_owned());
    let socket = SecureSocket::connect(secure, "urn:lamp:2", KEY).await;
    let endpoint = device.serve(Arc::new(socket));
    until("the registration", async || {
        let code = register(&endpoint, secure, "foreign-2").await;
        (code == Some(Code::CREATED)).then_some(())
    })
    .await;
    // An impostor without the key, before and during the update.
    let impostor = Foreign::default();
    let other = impostor.start().await;
    let refused = register(&other, plain, "foreign-2").await;
    assert_eq!(refused, Some(Code::UNAUTHORIZED));
    let elsewhere = register(&endpoint, secure, "foreign-3").await;
    assert_eq!(elsewhere, Some(Code::FORBIDDEN));
    city.release().await;
    city.roll_out().await;
    let reached = async |state| {
        until("the state", async || {
            (city.deployment("foreign-2").await?.state == state).then_some(())
        })
        .await;
    };
    reached(DeploymentState::Installing).await;
    assert!(device.with(|device| device.package == city.image));
    device.with(|device| {
        (device.state, device.result) = (0, 1);
        device.version = "2.0.0".to_owned();
    });
    reached(DeploymentState::Confirmed).await;
    assert_eq!(impostor.with(|device| device.state_reads), 0);
    gateway.running.stop().await;
}
