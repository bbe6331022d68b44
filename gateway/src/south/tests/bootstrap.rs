//! What is kept of a bootstrap before it begins.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::super::bootstrap::{BOOTSTRAPS_MAX, BootstrapServer, RefusalLog};
use super::super::{BootstrapConfig, ServedDevices, ServerAddress};
use crate::coap::{Code, DatagramSocket, Peer, Request};
use crate::credentials::{DeviceKey, OscoreKeys, Protection};

/// A link on which each session is one of a key for bootstraps.
struct Link;

#[async_trait]
impl DatagramSocket for Link {
    async fn receive(&self, _buffer: &mut [u8]) -> io::Result<(usize, Peer)> {
        std::future::pending().await
    }

    async fn send(&self, _bytes: &[u8], _peer: Peer) -> io::Result<()> {
        Ok(())
    }

    fn bootstrapped(&self, peer: Peer) -> Option<(String, Protection)> {
        let device = format!("lamp-{}", peer.session?);
        Some((device, Protection::Oscore))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(listen())
    }
}

/// Each device has a key.
struct Devices;

impl ServedDevices for Devices {
    fn resolve(&self, endpoint_name: &str) -> Option<String> {
        Some(endpoint_name.to_owned())
    }

    fn serves(&self, _endpoint: &str) -> bool {
        true
    }

    fn device_key(&self, _endpoint: &str, _preferred: Protection) -> Option<DeviceKey> {
        Some(DeviceKey::Oscore(OscoreKeys {
            secret: vec![7; 16].into(),
            salt: Vec::new(),
            id_context: None,
            thing_id: vec![1],
            gateway_id: vec![2],
        }))
    }
}

fn listen() -> SocketAddr {
    ([127, 0, 0, 1], 5683).into()
}

fn peer(n: usize) -> Peer {
    Peer {
        address: ([10, 0, 0, 1], n as u16).into(),
        session: Some(n as u64),
    }
}

#[test]
fn refusals_are_logged_every_ten_seconds_with_their_number() {
    let (mut log, begin) = (RefusalLog::default(), Instant::now());
    let mut at = |s| log.count(begin + Duration::from_secs(s));
    assert_eq!(at(0), Some(1));
    assert_eq!([at(0), at(1), at(9)], [None; 3]);
    assert_eq!(at(10), Some(4));
    assert_eq!([at(19), at(20)], [None, Some(2)]);
}

#[test]
fn a_bootstrap_begins_with_its_answer_and_a_challenge_leaves_nothing() {
    let config = BootstrapConfig {
        dtls: None,
        oscore: Some(ServerAddress {
            listen: listen(),
            uri: None,
        }),
        lifetime_s: 60,
    };
    let (server, mut begun) = BootstrapServer::new(Some(config), Arc::new(Link), Arc::new(Devices));
    let request = Request::new(Code::POST, "/bs");
    // The addresses are to be proven first, and nobody comes again.
    for n in 0..2 * BOOTSTRAPS_MAX {
        assert_eq!(server.respond(peer(n), &request).code, Code::CHANGED);
        server.responded(peer(n), Code::UNAUTHORIZED);
    }
    assert!(begun.try_recv().is_err());
    let mut begins = Vec::new();
    for n in 0..BOOTSTRAPS_MAX {
        assert_eq!(server.respond(peer(n), &request).code, Code::CHANGED);
        assert!(begun.try_recv().is_err(), "it is not answered yet");
        server.responded(peer(n), Code::CHANGED);
        begins.push(begun.try_recv().unwrap());
    }
    assert_eq!(server.respond(peer(99), &request).code, Code::UNAVAILABLE);
    server.responded(peer(99), Code::UNAVAILABLE);
    drop(begins);
    let again = server.respond(peer(99), &request);
    assert_eq!(again.code, Code::CHANGED, "the others have ended");
}
