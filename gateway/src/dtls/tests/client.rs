//! A client made of the library, and a link without IO between it and the table.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::crypto::Dtls12CipherSuite;
use dimpl::{Config, Dtls, Output, PskResolver};

use super::super::counters::Counters;
use super::super::sessions::{SessionOutput, Sessions};
use crate::coap::Peer;
pub use crate::credentials::tests::{KEY, OTHER_KEY, keys_file};
use crate::credentials::{CredentialStore, KeyHolder};

pub fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

struct FixedKey(Vec<u8>);

impl PskResolver for FixedKey {
    fn resolve(&self, _identity: &[u8]) -> Option<Vec<u8>> {
        Some(self.0.clone())
    }
}

/// A Thing's end of a session.
pub struct Client {
    pub address: SocketAddr,
    dtls: Dtls,
    pub connected: bool,
    pub received: Vec<Vec<u8>>,
}

impl Client {
    pub fn new(now: Instant, address: SocketAddr, identity: &str, key: &str) -> Client {
        let key = Arc::new(FixedKey(hex::decode(key).unwrap()));
        let config = Config::builder()
            .with_psk_client(identity.as_bytes().to_vec(), key)
            .dtls12_cipher_suites(&[Dtls12CipherSuite::PSK_AES128_CCM_8])
            .dtls13_cipher_suites(&[])
            .build()
            .unwrap();
        let mut dtls = Dtls::new_12_psk(Arc::new(config), now);
        dtls.set_active(true);
        dtls.handle_timeout(now).unwrap();
        Client {
            address,
            dtls,
            connected: false,
            received: Vec::new(),
        }
    }

    /// The datagrams that it wants to send now.
    pub fn datagrams(&mut self) -> Vec<Vec<u8>> {
        let mut buffer = vec![0; 4096];
        let mut datagrams = Vec::new();
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(packet) => datagrams.push(packet.to_vec()),
                Output::ApplicationData(data) => self.received.push(data.to_vec()),
                Output::Connected => self.connected = true,
                Output::Timeout(_) => return datagrams,
                _ => {}
            }
        }
    }

    pub fn receive(&mut self, datagram: &[u8]) {
        self.dtls.handle_packet(datagram).unwrap();
    }

    /// Begins a handshake with a table and leaves it there.
    pub fn begin(&mut self, table: &mut Table) {
        for _ in 0..2 {
            for datagram in self.datagrams() {
                let answers = table.hand(self.address, &datagram);
                answers.iter().for_each(|answer| self.receive(answer));
            }
        }
    }

    /// Lets time pass, so that unanswered messages are repeated.
    pub fn wait_until(&mut self, now: Instant) {
        self.dtls.handle_timeout(now).unwrap();
    }

    pub fn send_text(&mut self, data: &[u8]) -> Vec<Vec<u8>> {
        self.dtls.send_application_data(data).unwrap();
        self.datagrams()
    }

    pub fn close(&mut self) -> Vec<Vec<u8>> {
        self.dtls.close().unwrap();
        self.datagrams()
    }
}

/// The table under test.
pub struct Table {
    pub now: Instant,
    pub sessions: Sessions,
    pub credentials: CredentialStore,
    pub counters: Arc<Counters>,
    pub messages: Vec<(Peer, Vec<u8>)>,
    pub begun: Vec<(u64, KeyHolder)>,
    pub ended: Vec<u64>,
    pub bytes_sent: usize,
    pub directory: tempfile::TempDir,
}

impl Table {
    pub fn new(keys: &[(&str, &str)]) -> Table {
        let directory = tempfile::tempdir().unwrap();
        let credentials = CredentialStore::open(keys_file(directory.path(), keys)).unwrap();
        let counters = Arc::new(Counters::default());
        let now = Instant::now();
        Table {
            now,
            sessions: Sessions::new(now, [7; 32], credentials.clone(), counters.clone()).unwrap(),
            credentials,
            counters,
            messages: Vec::new(),
            begun: Vec::new(),
            ended: Vec::new(),
            bytes_sent: 0,
            directory,
        }
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Hands a datagram over and returns what is sent back to its address.
    pub fn hand(&mut self, address: SocketAddr, datagram: &[u8]) -> Vec<Vec<u8>> {
        let output = self.sessions.receive(self.now, address, datagram);
        self.keep(output, address)
    }

    pub fn keep(&mut self, output: SessionOutput, address: SocketAddr) -> Vec<Vec<u8>> {
        self.messages.extend(output.messages);
        self.begun.extend(output.begun);
        self.ended.extend(output.ended);
        self.bytes_sent += output.datagrams.iter().map(|(_, d)| d.len()).sum::<usize>();
        let to = |(to, datagram): (SocketAddr, Vec<u8>)| (to == address).then_some(datagram);
        output.datagrams.into_iter().filter_map(to).collect()
    }

    /// Carries datagrams back and forth until both are silent; true if the client has a session.
    pub fn connect(&mut self, client: &mut Client) -> bool {
        self.carry(client);
        client.connected
    }

    pub fn carry(&mut self, client: &mut Client) {
        loop {
            let datagrams = client.datagrams();
            if datagrams.is_empty() {
                return;
            }
            for datagram in datagrams {
                for answer in self.hand(client.address, &datagram) {
                    client.receive(&answer);
                }
            }
        }
    }

    pub fn send_text(&mut self, client: &mut Client, data: &[u8]) -> Option<Peer> {
        let count = self.messages.len();
        for datagram in client.send_text(data) {
            for answer in self.hand(client.address, &datagram) {
                client.receive(&answer);
            }
        }
        let (peer, message) = self.messages.get(count)?;
        assert_eq!(message, data);
        Some(*peer)
    }
}
