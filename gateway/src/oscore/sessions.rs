//! The sessions, each a context at an address. A Thing may have a few, and so may an address. Where
//! there is no room, the session ends that proves least: one whose address is not proven before
//! others, then the one whose Thing has been silent for longest. So somebody on the path who sends
//! what he held back from addresses of his own ends no session of a Thing that has answered.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::session::Session;
use crate::coap::Peer;

/// Sessions at a time: as many as Things that a gateway serves, and some at two addresses.
pub const SESSIONS_MAX: usize = 12_000;
/// Addresses of one Thing at a time: it may fetch a package from another port than that from which
/// it registered.
const ADDRESSES_MAX: usize = 4;
/// Things at one address at a time: some devices are several Things behind one port. Each message
/// from the address is compared with all of them.
const THINGS_MAX: usize = 16;

/// The limits; others than the default are for tests.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionLimits {
    pub(super) all: usize,
    pub(super) of_thing: usize,
    pub(super) of_address: usize,
}

impl Default for SessionLimits {
    fn default() -> SessionLimits {
        SessionLimits {
            all: SESSIONS_MAX,
            of_thing: ADDRESSES_MAX,
            of_address: THINGS_MAX,
        }
    }
}

/// All sessions by their numbers, which are never used twice.
pub(super) struct Sessions {
    pub(super) limits: SessionLimits,
    sessions: HashMap<u64, Session>,
    by_address: HashMap<SocketAddr, Vec<u64>>,
    by_thing_id: HashMap<Vec<u8>, Vec<u64>>,
    last_number: u64,
    uses: u64,
}

impl Sessions {
    pub(super) fn new() -> Sessions {
        Sessions {
            limits: SessionLimits::default(),
            sessions: HashMap::new(),
            by_address: HashMap::new(),
            by_thing_id: HashMap::new(),
            last_number: Peer::OSCORE_SESSIONS,
            uses: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn get(&self, number: u64) -> Option<&Session> {
        self.sessions.get(&number)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Session> {
        self.sessions.get_mut(&number)
    }

    /// The numbers of the sessions at an address.
    pub(super) fn at(&self, address: SocketAddr) -> Vec<u64> {
        self.by_address.get(&address).cloned().unwrap_or_default()
    }

    /// Takes note that the Thing of a session has made a message.
    pub(super) fn touch(&mut self, number: u64) {
        self.uses += 1;
        if let Some(session) = self.sessions.get_mut(&number) {
            session.used = self.uses;
        }
    }

    /// The session of a Thing at an address, and true if it begins. Others may end for it.
    pub(super) fn find_or_begin(&mut self, address: SocketAddr, thing_id: &[u8]) -> (u64, bool) {
        let at_address = self.by_address.get(&address).into_iter().flatten();
        let mut same = at_address.filter(|number| self.sessions[number].thing_id == thing_id);
        if let Some(number) = same.next().copied() {
            self.touch(number);
            return (number, false);
        }
        self.make_room(address, thing_id);
        self.last_number += 1;
        let number = self.last_number;
        let session = Session::new(address, thing_id.to_vec());
        self.sessions.insert(number, session);
        self.by_address.entry(address).or_default().push(number);
        let of_thing = self.by_thing_id.entry(thing_id.to_vec());
        of_thing.or_default().push(number);
        self.touch(number);
        (number, true)
    }

    fn make_room(&mut self, address: SocketAddr, thing_id: &[u8]) {
        let of_thing = self.by_thing_id.get(thing_id).cloned().unwrap_or_default();
        if of_thing.len() >= self.limits.of_thing {
            self.end_least(of_thing);
        }
        let of_address = self.at(address);
        if of_address.len() >= self.limits.of_address {
            self.end_least(of_address);
        }
        if self.sessions.len() >= self.limits.all {
            self.end_least(self.sessions.keys().copied().collect());
        }
    }

    /// Ends the one of these sessions that proves least.
    fn end_least(&mut self, numbers: Vec<u64>) {
        let proves = |number: &u64| {
            let session = &self.sessions[number];
            (session.is_proven, session.used)
        };
        if let Some(number) = numbers.into_iter().min_by_key(proves) {
            self.end(number);
        }
    }

    /// Ends the sessions of a Thing.
    pub(super) fn end_all(&mut self, thing_id: &[u8]) {
        for number in self.by_thing_id.get(thing_id).cloned().unwrap_or_default() {
            self.end(number);
        }
    }

    fn end(&mut self, number: u64) {
        let Some(session) = self.sessions.remove(&number) else {
            return;
        };
        remove(&mut self.by_address, &session.address, number);
        remove(&mut self.by_thing_id, &session.thing_id, number);
    }
}

/// Removes a number, and its list with the last one.
fn remove<K: std::hash::Hash + Eq>(from: &mut HashMap<K, Vec<u64>>, key: &K, number: u64) {
    if let Some(numbers) = from.get_mut(key) {
        numbers.retain(|other| *other != number);
        if numbers.is_empty() {
            from.remove(key);
        }
    }
}
