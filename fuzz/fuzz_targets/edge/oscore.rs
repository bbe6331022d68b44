//! The table of OSCORE contexts from its files, driven by a Thing of the same parts whose datagrams
//! an attacker changes, repeats and withholds. The Thing itself may say anything, in messages that
//! are rightly protected.

#[path = "../../../gateway/src/oscore/context.rs"]
mod context;
#[path = "../../../gateway/src/oscore/contexts.rs"]
mod contexts;
#[path = "../../../gateway/src/oscore/counts.rs"]
mod counts;
#[path = "../../../gateway/src/oscore/message.rs"]
mod message;
#[path = "../../../gateway/src/oscore/numbers.rs"]
mod numbers;
#[path = "../../../gateway/src/oscore/option.rs"]
mod option;
#[path = "../../../gateway/src/oscore/replay.rs"]
mod replay;
#[path = "../../../gateway/src/oscore/session.rs"]
mod session;
#[path = "../../../gateway/src/oscore/sessions.rs"]
mod sessions;
#[path = "../../../gateway/src/oscore/table.rs"]
mod table;

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::coap::message::{CoapOption, Code, Message, MessageType, Token};
use crate::coap::{Peer, Request, Response, format};
use crate::credentials::{CredentialStore, OscoreKeys};
use context::{RequestBinding, SecurityContext};
use message::{protect, unprotect};
use numbers::STEP;
use option::{OSCORE, OscoreOption, PartialIv};
use table::{OscoreTable, Received, Sent};

const SECRET: [u8; 16] = [7; 16];
const ECHO: u16 = 252;
/// Datagrams that the attacker keeps.
const KEPT_MAX: usize = 64;

/// The store of one key, in a file of this process.
fn credentials() -> CredentialStore {
    static STORE: OnceLock<CredentialStore> = OnceLock::new();
    let make = || {
        let name = format!("lamplighter-fuzz-oscore-{}.toml", std::process::id());
        let path: PathBuf = std::env::temp_dir().join(name);
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600);
        let secret = hex::encode(SECRET);
        let text = format!(
            "[[oscore]]\nsecret = \"{secret}\"\nthing_id = \"01\"\ngateway_id = \"ff\"\n\
             device = \"lamp\"\n"
        );
        let mut file = file.open(&path).expect("the temporary directory is there");
        file.write_all(text.as_bytes()).expect("there is room");
        let store = CredentialStore::open(path.clone()).expect("it was written just now");
        std::fs::remove_file(path).expect("it was written just now");
        store
    };
    STORE.get_or_init(make).clone()
}

/// An attacker between a Thing and the table.
struct Interceptor {
    table: OscoreTable,
    ceiling: u64,
    thing: SecurityContext,
    next: u64,
    echo: Option<Vec<u8>>,
    /// What the newest requests of the Thing are bound to, by their tokens.
    bindings: HashMap<u16, RequestBinding>,
    kept: Vec<Vec<u8>>,
    taken: HashSet<u64>,
    /// What the newest requests to the Thing are bound to, with their tokens, and the numbers of
    /// the responses that came out.
    asked_of: Vec<(Token, RequestBinding)>,
    answers: HashSet<u64>,
    /// The datagram of each number of the gateway.
    numbers: HashMap<u64, Vec<u8>>,
    peer: Option<Peer>,
    asked: u16,
}

fn address(port: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 40_000 + u16::from(port & 7)))
}

impl Interceptor {
    fn new() -> Self {
        let mut table = OscoreTable::new(credentials(), 0);
        table.raise(STEP);
        let thing = SecurityContext::derive(&OscoreKeys {
            secret: SECRET.to_vec().into(),
            salt: Vec::new(),
            id_context: None,
            thing_id: vec![0xFF],
            gateway_id: vec![1],
        });
        Self {
            table,
            ceiling: STEP,
            thing,
            next: 0,
            echo: None,
            bindings: HashMap::new(),
            kept: Vec::new(),
            taken: HashSet::new(),
            asked_of: Vec::new(),
            answers: HashSet::new(),
            numbers: HashMap::new(),
            peer: None,
            asked: 0,
        }
    }

    /// A request of the Thing, whose payload is its number.
    fn request(&mut self) -> Vec<u8> {
        let mut request = Request::new(Code::POST, "/ev");
        request = request.with_payload(format::OCTETS, self.next.to_be_bytes().to_vec());
        request.echo = self.echo.clone();
        let id = self.next as u16;
        let token = Token::new(&id.to_be_bytes()).expect("two bytes fit");
        let message = request.to_message(MessageType::Confirmable, id, token);
        let partial_iv = PartialIv::new(self.next).expect("a small number");
        self.next += 1;
        let binding = RequestBinding {
            kid: vec![1],
            partial_iv,
        };
        let option = OscoreOption {
            partial_iv: Some(partial_iv),
            kid_context: None,
            kid: Some(vec![1]),
        };
        let nonce = self.thing.sender_nonce(&partial_iv);
        let protected = protect(&self.thing, &message, &option, &nonce, &binding);
        self.bindings.insert(id, binding);
        let datagram = protected.and_then(|message| message.encode());
        self.keep(datagram.expect("it is short"))
    }

    fn keep(&mut self, datagram: Vec<u8>) -> Vec<u8> {
        self.kept.push(datagram.clone());
        if self.kept.len() > KEPT_MAX {
            self.kept.remove(0);
        }
        datagram
    }

    /// A response of the Thing to one of the newest requests, whose payload is its number.
    fn response(&mut self, at: u8) -> Option<Vec<u8>> {
        let count = self.asked_of.len();
        let (token, binding) = self
            .asked_of
            .get(usize::from(at).checked_rem(count)?)?
            .clone();
        let mut response = Response::content(format::OCTETS, self.next.to_be_bytes().to_vec());
        response.observe = (at & 0x80 != 0).then_some(0);
        let message_type = match at & 0x40 {
            0 => MessageType::Confirmable,
            _ => MessageType::NonConfirmable,
        };
        let response = response.to_message(message_type, self.next as u16, token);
        let partial_iv = PartialIv::new(self.next).expect("a small number");
        self.next += 1;
        let option = OscoreOption {
            partial_iv: Some(partial_iv),
            ..OscoreOption::default()
        };
        let nonce = self.thing.sender_nonce(&partial_iv);
        let protected = protect(&self.thing, &response, &option, &nonce, &binding);
        let datagram = protected.and_then(|message| message.encode());
        Some(self.keep(datagram.expect("it is short")))
    }

    /// Any bytes, which the Thing protects as a request. Often they begin with a method.
    fn anything(&mut self, from: SocketAddr, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        if let Some(code) = bytes.first_mut().filter(|code| **code >= 0x80) {
            *code &= 7;
        }
        let partial_iv = PartialIv::new(self.next).expect("a small number");
        self.next += 1;
        let binding = RequestBinding {
            kid: vec![1],
            partial_iv,
        };
        let option = OscoreOption {
            partial_iv: Some(partial_iv),
            kid_context: None,
            kid: Some(vec![1]),
        };
        let nonce = self.thing.sender_nonce(&partial_iv);
        let payload = self.thing.seal(&nonce, &binding, bytes);
        let outer = Message {
            message_type: MessageType::Confirmable,
            code: Code::POST,
            id: self.next as u16,
            token: Token::default(),
            options: vec![(OSCORE, option.encode())],
            payload,
        };
        let datagram = outer.encode().expect("it is short");
        match self.table.receive(from, &datagram) {
            Received::Message(_, message) => {
                let message = Message::decode(&message).expect("it is a message");
                assert!(message.code.is_request(), "{message:?}");
                assert!(message.values(CoapOption::from(OSCORE)).next().is_none());
            }
            Received::Reply(reply) => self.check_number(&reply),
            Received::Plain | Received::Nothing | Received::NoNumbers => {}
        }
    }

    fn hand(&mut self, from: SocketAddr, datagram: &[u8]) {
        match self.table.receive(from, datagram) {
            Received::Message(peer, message) => self.taken(peer, &message),
            Received::Reply(reply) => {
                assert!(reply.len() <= 3 * datagram.len(), "{datagram:02x?}");
                self.check_number(&reply);
                self.open(&reply);
            }
            Received::Plain | Received::Nothing | Received::NoNumbers => {}
        }
    }

    fn taken(&mut self, peer: Peer, message: &[u8]) {
        let message = Message::decode(message).expect("it is a message");
        if message.code == Code::EMPTY {
            return;
        }
        let number = message.payload.as_slice().try_into();
        let number = u64::from_be_bytes(number.expect("only the Thing's payloads come out"));
        if message.code.is_response() {
            return assert!(
                number < self.next && self.answers.insert(number),
                "{number}"
            );
        }
        assert!(number < self.next && self.taken.insert(number), "{number}");
        self.peer = Some(peer);
        let response = Response::new(Code::CHANGED);
        let response = response.to_message(MessageType::Acknowledgement, message.id, message.token);
        self.send(&response);
    }

    fn send(&mut self, message: &Message) {
        let Some(peer) = self.peer else { return };
        let bytes = message.encode().expect("it is short");
        if let Sent::Datagram(_, datagram) = self.table.send(peer, &bytes) {
            let overhead = self.table.overhead(peer, message.code);
            assert!(datagram.len() <= bytes.len() + overhead.sent);
            self.check_number(&datagram);
            self.note_request(&datagram);
        }
    }

    /// A number of the gateway has one datagram.
    fn check_number(&mut self, datagram: &[u8]) {
        let message = Message::decode(datagram).expect("it is a message");
        let value = message.values(CoapOption::from(OSCORE)).next();
        let option = value.and_then(OscoreOption::decode);
        if let Some(number) = option.and_then(|option| option.partial_iv) {
            let number = number.number();
            assert!(number < self.ceiling);
            let before = self.numbers.insert(number, datagram.to_vec());
            assert!(before.is_none_or(|before| before == datagram), "{number}");
        }
    }

    /// The Thing reads a request of the gateway.
    fn note_request(&mut self, datagram: &[u8]) {
        let message = Message::decode(datagram).expect("it is a message");
        let value = message.values(CoapOption::from(OSCORE)).next();
        let option = value.and_then(OscoreOption::decode);
        let ids = option.map(|option| (option.kid, option.partial_iv));
        if let Some((Some(kid), Some(partial_iv))) = ids {
            let binding = RequestBinding { kid, partial_iv };
            let nonce = self.thing.recipient_nonce(&partial_iv);
            let opened = unprotect(&self.thing, &message, &nonce, &binding);
            assert!(opened.is_some_and(|opened| opened.code == Code::GET));
            self.asked_of.push((message.token, binding));
            if self.asked_of.len() > 8 {
                self.asked_of.remove(0);
            }
        }
    }

    /// The Thing reads a reply, and takes note of a challenge.
    fn open(&mut self, datagram: &[u8]) {
        let Ok(message) = Message::decode(datagram) else {
            return;
        };
        let value = message.values(CoapOption::from(OSCORE)).next();
        let number = value
            .and_then(OscoreOption::decode)
            .and_then(|option| option.partial_iv);
        let token: Option<[u8; 2]> = message.token.as_bytes().try_into().ok();
        let binding = token.and_then(|token| self.bindings.get(&u16::from_be_bytes(token)));
        if let (Some(number), Some(binding)) = (number, binding) {
            let nonce = self.thing.recipient_nonce(&number);
            if let Some(inner) = unprotect(&self.thing, &message, &nonce, binding) {
                let echo = inner.values(CoapOption::from(ECHO)).next();
                self.echo = echo.map(<[u8]>::to_vec).or(self.echo.take());
            }
        }
    }

    /// One step of the attacker.
    fn step(&mut self, action: u8, at: u8, bytes: &[u8]) {
        match action & 15 {
            0 => self.hand(address(at), bytes),
            1 | 2 => {
                let datagram = self.request();
                self.hand(address(at), &datagram);
            }
            3 => {
                let mut datagram = self.request();
                let place = usize::from(at) % datagram.len();
                datagram[place] ^= bytes.first().copied().unwrap_or(1);
                self.hand(address(0), &datagram);
            }
            4 => drop(self.request()),
            5 if !self.kept.is_empty() => {
                let datagram = self.kept[usize::from(at) % self.kept.len()].clone();
                self.hand(address(action >> 3), &datagram);
            }
            6 => {
                self.asked = self.asked.wrapping_add(1);
                let token = Token::new(&self.asked.to_be_bytes()).expect("two bytes fit");
                let mut request = Request::get("/5/0/3");
                request.observe = (at & 1 != 0).then_some(0);
                let message = request.to_message(MessageType::Confirmable, self.asked, token);
                self.send(&message);
                self.send(&message);
            }
            7 => {
                // A restart: what was in memory is lost.
                self.table = OscoreTable::new(credentials(), self.ceiling);
                self.ceiling += STEP;
                self.table.raise(self.ceiling);
                self.peer = None;
            }
            8 => self.anything(address(at), bytes),
            9 | 10 => {
                if let Some(mut datagram) = self.response(at) {
                    let place = bytes.first().map_or(0, |place| usize::from(*place));
                    let place = place % datagram.len();
                    datagram[place] ^= bytes.get(1).copied().unwrap_or_default();
                    let from = self.peer.map_or(address(at), |peer| peer.address);
                    self.hand(from, &datagram);
                }
            }
            11 => {
                if let Some(peer) = self.peer {
                    self.table.prove_address(peer);
                }
            }
            _ => {}
        }
    }
}

/// What is read is written as it was, and what is protected opens as what it was.
fn round_trips(input: &[u8]) {
    if let Some(option) = OscoreOption::decode(input) {
        let again = OscoreOption::decode(&option.encode());
        assert_eq!(again, Some(option));
    }
    let Ok(message) = Message::decode(input) else {
        return;
    };
    if message.code == Code::EMPTY || message.options.iter().any(|(number, _)| *number == OSCORE) {
        return;
    }
    let keys = |thing_id: u8, gateway_id: u8| OscoreKeys {
        secret: SECRET.to_vec().into(),
        salt: vec![1],
        id_context: Some(vec![2]),
        thing_id: vec![thing_id],
        gateway_id: vec![gateway_id],
    };
    let (one, other) = (
        SecurityContext::derive(&keys(1, 2)),
        SecurityContext::derive(&keys(2, 1)),
    );
    let partial_iv = PartialIv::new(input.len() as u64).expect("a small number");
    let binding = RequestBinding {
        kid: vec![2],
        partial_iv,
    };
    let option = OscoreOption {
        partial_iv: Some(partial_iv),
        ..OscoreOption::default()
    };
    let nonce = one.sender_nonce(&partial_iv);
    let Ok(protected) = protect(&one, &message, &option, &nonce, &binding) else {
        return;
    };
    let opened = unprotect(&other, &protected, &nonce, &binding).expect("it is not changed");
    let sorted = |message: &Message| {
        let mut options = message.options.clone();
        options.sort_by_key(|(number, _)| *number);
        options
    };
    assert_eq!(
        (opened.code, &opened.payload),
        (message.code, &message.payload)
    );
    assert_eq!(sorted(&opened), sorted(&message));
}

/// Plays an input: an action, an argument and a length before the bytes of each step.
pub fn run(input: &[u8]) {
    round_trips(input);
    let mut link = Interceptor::new();
    let mut rest = input;
    while let Some(([action, at, length], after)) = rest.split_first_chunk::<3>() {
        let (bytes, after) = after.split_at(after.len().min(usize::from(*length)));
        rest = after;
        link.step(*action, *at, bytes);
    }
}
