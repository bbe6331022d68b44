//! A Thing's side of a context, made of the same parts, and a table for it.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::super::context::{RequestBinding, SecurityContext};
use super::super::message::{protect, unprotect};
use super::super::numbers::STEP;
use super::super::option::{OSCORE, OscoreOption, PartialIv};
use super::super::table::{OscoreTable, Received, Sent};
use crate::coap::message::{CoapOption, Code, Message, MessageType, Token};
use crate::coap::{Peer, Request};
use crate::credentials::tests::{KEY, OTHER_KEY, write_private};
use crate::credentials::{CredentialStore, OscoreKeys};

pub const ECHO: u16 = 252;

pub fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// The entry of device `lamp-{n}`, whose id is n.
pub fn entry(n: u8, secret: &str) -> String {
    format!(
        "[[oscore]]\nsecret = \"{secret}\"\nthing_id = \"{n:02x}\"\ngateway_id = \"ff\"\n\
         device = \"lamp-{n}\"\n"
    )
}

/// A table for `lamp-1` and `lamp-2`, or for more.
pub struct Bed {
    pub table: OscoreTable,
    pub store: CredentialStore,
    pub path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Bed {
    pub fn new() -> Bed {
        Bed::at(0)
    }

    /// A table whose numbers begin here.
    pub fn at(start: u64) -> Bed {
        Bed::with_keys(start, &(entry(1, KEY) + &entry(2, OTHER_KEY)))
    }

    /// A table for Things with these entries.
    pub fn with_keys(start: u64, keys: &str) -> Bed {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("things.toml");
        write_private(&path, keys);
        let store = CredentialStore::open(path.clone()).unwrap();
        let mut table = OscoreTable::new(store.clone(), start);
        table.raise(start + STEP);
        Bed {
            table,
            store,
            path,
            _directory: directory,
        }
    }

    /// Hands over a request, with the answer to a challenge if there is one; returns the message
    /// that comes out.
    pub fn accept(&mut self, thing: &mut Thing, request: &Request) -> (Peer, Message) {
        let datagram = thing.request(request);
        let received = match self.table.receive(thing.address, &datagram) {
            Received::Reply(reply) => {
                let challenge = thing.open(&reply).expect("it is protected");
                assert_eq!(challenge.code, Code::UNAUTHORIZED);
                let echo = challenge.values(CoapOption::from(ECHO)).next().unwrap();
                let request = Request {
                    echo: Some(echo.to_vec()),
                    ..request.clone()
                };
                let datagram = thing.request(&request);
                self.table.receive(thing.address, &datagram)
            }
            received => received,
        };
        let Received::Message(peer, message) = received else {
            panic!("{received:?}");
        };
        (peer, Message::decode(&message).unwrap())
    }

    /// Protects a message to a Thing.
    pub fn send(&mut self, peer: Peer, message: &Message) -> Vec<u8> {
        match self.table.send(peer, &message.encode().unwrap()) {
            Sent::Datagram(to, datagram) => {
                assert_eq!(to, peer.address);
                datagram
            }
            other => panic!("{other:?}"),
        }
    }
}

pub struct Thing {
    pub address: SocketAddr,
    pub security: SecurityContext,
    kid: Vec<u8>,
    pub next: u64,
    pub id: u16,
    /// The newest request of it.
    binding: Option<RequestBinding>,
    /// The id context that its requests name.
    pub sent_context: Option<Vec<u8>>,
}

impl Thing {
    pub fn new(n: u8, address: SocketAddr) -> Thing {
        Thing::with_context(n, address, None)
    }

    pub fn with_secret(n: u8, address: SocketAddr, secret: &str) -> Thing {
        Thing::derived(n, address, secret, None)
    }

    pub fn with_context(n: u8, address: SocketAddr, id_context: Option<Vec<u8>>) -> Thing {
        let secret = if n == 1 { KEY } else { OTHER_KEY };
        Thing::derived(n, address, secret, id_context)
    }

    fn derived(n: u8, address: SocketAddr, secret: &str, id_context: Option<Vec<u8>>) -> Thing {
        // The other way round: its own id is that of the sender.
        let security = SecurityContext::derive(&OscoreKeys {
            secret: hex::decode(secret).unwrap().into(),
            salt: Vec::new(),
            id_context,
            thing_id: vec![0xFF],
            gateway_id: vec![n],
        });
        Thing {
            address,
            security,
            kid: vec![n],
            next: 0,
            id: 100,
            binding: None,
            sent_context: None,
        }
    }

    /// Its next request, confirmable.
    pub fn request(&mut self, request: &Request) -> Vec<u8> {
        self.id += 1;
        let token = Token::new(&self.id.to_be_bytes()).unwrap();
        let message = request.to_message(MessageType::Confirmable, self.id, token);
        let partial_iv = PartialIv::new(self.next).unwrap();
        self.next += 1;
        let binding = RequestBinding {
            kid: self.kid.clone(),
            partial_iv,
        };
        let option = OscoreOption {
            partial_iv: Some(partial_iv),
            kid_context: self.sent_context.clone(),
            kid: Some(self.kid.clone()),
        };
        let nonce = self.security.sender_nonce(&partial_iv);
        let protected = protect(&self.security, &message, &option, &nonce, &binding);
        self.binding = Some(binding);
        protected.unwrap().encode().unwrap()
    }

    /// A request with this inside, be it a message or not.
    pub fn sealed(&mut self, plaintext: &[u8]) -> Vec<u8> {
        let mut outer = Message::decode(&self.request(&Request::get("/"))).unwrap();
        let number = option_of(&outer).unwrap().partial_iv.unwrap();
        let binding = self.binding.as_ref().unwrap();
        let nonce = self.security.sender_nonce(&number);
        outer.payload = self.security.seal(&nonce, binding, plaintext.to_vec());
        outer.encode().unwrap()
    }

    /// Opens a response to its newest request.
    pub fn open(&self, datagram: &[u8]) -> Option<Message> {
        let message = Message::decode(datagram).unwrap();
        let option = option_of(&message)?;
        let nonce = self.security.recipient_nonce(&option.partial_iv?);
        unprotect(&self.security, &message, &nonce, self.binding.as_ref()?)
    }

    /// Opens a request of the gateway; also returns what a response is bound to.
    pub fn opened_request(&self, datagram: &[u8]) -> Option<(Message, RequestBinding)> {
        let message = Message::decode(datagram).unwrap();
        let option = option_of(&message)?;
        let partial_iv = option.partial_iv?;
        let kid = option.kid?;
        let binding = RequestBinding { kid, partial_iv };
        let nonce = self.security.recipient_nonce(&partial_iv);
        let opened = unprotect(&self.security, &message, &nonce, &binding)?;
        Some((opened, binding))
    }

    /// Answers a request of the gateway, with a number of its own or without.
    pub fn respond(&mut self, response: &Message, to: &RequestBinding, numbered: bool) -> Vec<u8> {
        let partial_iv = numbered.then(|| PartialIv::new(self.next).unwrap());
        self.next += u64::from(numbered);
        let nonce = match &partial_iv {
            Some(number) => self.security.sender_nonce(number),
            None => self.security.recipient_nonce(&to.partial_iv),
        };
        let option = OscoreOption {
            partial_iv,
            ..OscoreOption::default()
        };
        let protected = protect(&self.security, response, &option, &nonce, to);
        protected.unwrap().encode().unwrap()
    }
}

pub fn option_of(message: &Message) -> Option<OscoreOption> {
    let value = message.values(CoapOption::from(OSCORE)).next()?;
    OscoreOption::decode(value)
}
