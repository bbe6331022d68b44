//! The table of DTLS sessions from its files, driven by a client of the library whose datagrams an
//! attacker changes, repeats and withholds.

#[path = "../../../gateway/src/dtls/cookie.rs"]
mod cookie;
#[path = "../../../gateway/src/dtls/counters.rs"]
mod counters;
#[path = "../../../gateway/src/dtls/engine.rs"]
mod engine;
#[path = "../../../gateway/src/dtls/opening.rs"]
mod opening;
#[path = "../../../gateway/src/dtls/sessions.rs"]
mod sessions;

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dimpl::crypto::Dtls12CipherSuite;
use dimpl::{Config, Dtls, Output, PskResolver};

use crate::coap::Peer;
use counters::Counters;
use crate::credentials::CredentialStore;
use opening::{Opening, RecordHeader};
use sessions::{SessionOutput, Sessions};

const KEY: [u8; 16] = [7; 16];
/// Datagrams that the attacker keeps.
const KEPT_MAX: usize = 64;
/// The bytes before the cookie of an opening whose session id is empty: record, handshake, version,
/// random, length of the id.
const COOKIE_AT: usize = 13 + 12 + 2 + 32 + 1;

struct FixedKey;

impl PskResolver for FixedKey {
    fn resolve(&self, _identity: &[u8]) -> Option<Vec<u8>> {
        Some(KEY.to_vec())
    }
}

/// The store of one key, in a file of this process.
fn credentials() -> CredentialStore {
    static STORE: OnceLock<CredentialStore> = OnceLock::new();
    let make = || {
        let name = format!("lamplighter-fuzz-dtls-{}.toml", std::process::id());
        let path: PathBuf = std::env::temp_dir().join(name);
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600);
        let key: String = KEY.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = format!("[[psk]]\nidentity = \"lamp\"\nkey = \"{key}\"\ndevice = \"lamp\"\n");
        let mut file = file.open(&path).expect("the temporary directory is there");
        file.write_all(text.as_bytes()).expect("there is room");
        let store = CredentialStore::open(path.clone()).expect("it was written just now");
        std::fs::remove_file(path).expect("it was written just now");
        store
    };
    STORE.get_or_init(make).clone()
}

fn client(now: Instant) -> Dtls {
    static CONFIG: OnceLock<Arc<Config>> = OnceLock::new();
    let make = || {
        let config = Config::builder()
            .with_psk_client(b"lamp".to_vec(), Arc::new(FixedKey))
            .dtls12_cipher_suites(&[Dtls12CipherSuite::PSK_AES128_CCM_8])
            .dtls13_cipher_suites(&[])
            .build();
        Arc::new(config.expect("the settings of a client"))
    };
    let mut dtls = Dtls::new_12_psk(CONFIG.get_or_init(make).clone(), now);
    dtls.set_active(true);
    dtls
}

/// An attacker between a Thing and the table.
struct Interceptor {
    now: Instant,
    sessions: Sessions,
    thing: Dtls,
    is_connected: bool,
    /// Datagrams of the Thing that were seen.
    kept: Vec<Vec<u8>>,
    /// Messages of the Thing.
    sent: Vec<Vec<u8>>,
    newest: Option<Peer>,
}

fn address(port: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 40_000 + u16::from(port & 3)))
}

impl Interceptor {
    fn new() -> Self {
        let now = Instant::now();
        let counters = Arc::new(Counters::default());
        let sessions = Sessions::new(now, [9; 32], credentials(), counters);
        Self {
            now,
            sessions: sessions.expect("the library's test of itself passes"),
            thing: client(now),
            is_connected: false,
            kept: Vec::new(),
            sent: Vec::new(),
            newest: None,
        }
    }

    fn hand(&mut self, from: SocketAddr, datagram: &[u8]) -> Vec<Vec<u8>> {
        let output = self.sessions.receive(self.now, from, datagram);
        self.check_output(output, from)
    }

    /// Checks what comes out, and returns what is sent back.
    fn check_output(&mut self, output: SessionOutput, to: SocketAddr) -> Vec<Vec<u8>> {
        for (peer, message) in output.messages {
            assert!(self.sent.contains(&message), "nobody sent {message:02x?}");
            assert!(peer.session.is_some());
        }
        for (number, holder) in output.begun {
            assert_eq!(&*holder.device, "lamp");
            let (address, session) = (to, Some(number));
            self.newest = Some(Peer { address, session });
        }
        let (handshakes, sessions) = self.sessions.len();
        assert!(handshakes <= 4 && sessions <= 1, "{handshakes} {sessions}");
        let sent = output.datagrams.into_iter();
        sent.filter_map(|(at, datagram)| (at == to).then_some(datagram))
            .collect()
    }

    /// What the Thing wants to send now.
    fn outgoing(&mut self) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        if self.thing.handle_timeout(self.now).is_err() {
            self.thing = client(self.now);
            self.is_connected = false;
            return datagrams;
        }
        let mut buffer = vec![0; 4_096];
        loop {
            match self.thing.poll_output(&mut buffer) {
                Output::Packet(packet) => datagrams.push(packet.to_vec()),
                Output::Connected => self.is_connected = true,
                Output::Timeout(_) => break,
                _ => {}
            }
        }
        self.kept.extend(datagrams.iter().cloned());
        let over = self.kept.len().saturating_sub(KEPT_MAX);
        self.kept.drain(..over);
        datagrams
    }

    fn receive(&mut self, datagrams: Vec<Vec<u8>>) {
        for datagram in datagrams {
            if self.thing.handle_packet(&datagram).is_err() {
                self.thing = client(self.now);
                self.is_connected = false;
            }
        }
    }

    /// One step of the attacker.
    fn step(&mut self, action: u8, at: u8, bytes: &[u8]) {
        let thing_at = address(0);
        match action & 7 {
            0 => self.raw(address(at), bytes),
            1 => {
                for datagram in self.outgoing() {
                    let answers = self.hand(thing_at, &datagram);
                    self.receive(answers);
                }
            }
            2 => {
                for mut datagram in self.outgoing() {
                    let place = usize::from(at) % datagram.len().max(1);
                    datagram[place] ^= bytes.first().copied().unwrap_or(1);
                    // The Thing hears nothing of what comes of it.
                    self.hand(thing_at, &datagram);
                }
            }
            3 => drop(self.outgoing()),
            4 if !self.kept.is_empty() => {
                let datagram = self.kept[usize::from(at) % self.kept.len()].clone();
                self.hand(address(action >> 3), &datagram);
            }
            5 if self.is_connected => {
                self.sent.push(bytes.to_vec());
                if self.thing.send_application_data(bytes).is_err() {
                    self.is_connected = false;
                }
            }
            6 => {
                self.now += Duration::from_millis(u64::from(at) * 250);
                let output = self.sessions.tick(self.now);
                let answers = self.check_output(output, thing_at);
                self.receive(answers);
            }
            7 => {
                if let Some(peer) = self.newest {
                    let output = self.sessions.send(self.now, peer, bytes);
                    let answers = self.check_output(output, thing_at);
                    self.receive(answers);
                }
            }
            _ => {}
        }
    }

    /// Hands over any bytes; if they are an opening, once more with the cookie that was asked for.
    fn raw(&mut self, from: SocketAddr, bytes: &[u8]) {
        let header = RecordHeader::read(bytes);
        let is_opening = header.is_some() && Opening::read(bytes).is_some();
        let answers = self.hand(from, bytes);
        let Some(answer) = answers.first().filter(|_| is_opening) else {
            return;
        };
        assert!(answer.len() <= bytes.len().max(60), "no more than what came");
        if let Some(opening) = with_cookie(bytes, &answer[answer.len() - 32..]) {
            self.hand(from, &opening);
        }
    }
}

/// An opening without session id and cookie, with this cookie.
fn with_cookie(opening: &[u8], cookie: &[u8]) -> Option<Vec<u8>> {
    if opening.get(COOKIE_AT - 1..=COOKIE_AT)? != [0, 0] {
        return None;
    }
    let mut opening = opening.to_vec();
    opening[COOKIE_AT] = cookie.len() as u8;
    opening.splice(COOKIE_AT + 1..COOKIE_AT + 1, cookie.iter().copied());
    let record = u16::from_be_bytes([opening[11], opening[12]]).checked_add(cookie.len() as u16)?;
    opening[11..13].copy_from_slice(&record.to_be_bytes());
    let body = (u32::from(record) - 12).to_be_bytes();
    opening[14..17].copy_from_slice(&body[1..]);
    opening[22..25].copy_from_slice(&body[1..]);
    Some(opening)
}

/// Plays an input: an action, an argument and a length before the bytes of each step.
pub fn run(input: &[u8]) {
    let mut link = Interceptor::new();
    let mut rest = input;
    while let Some(([action, at, length], after)) = rest.split_first_chunk::<3>() {
        let (bytes, after) = after.split_at(after.len().min(usize::from(*length)));
        rest = after;
        link.step(*action, *at, bytes);
    }
}
