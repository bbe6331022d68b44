//! The other end of an exchange.

use std::fmt;
use std::net::SocketAddr;

use crate::credentials::Protection;

/// A peer: an address, or a session at an address whose key was proven. Two sessions are two
/// peers, and neither is the one that sends from their address without a session: what is kept for
/// one of them is never found under another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Peer {
    /// The address that its datagrams come from.
    pub address: SocketAddr,
    /// The number of its session, which no later session of this process gets.
    pub session: Option<u64>,
}

impl Peer {
    /// Sessions from this number on are those of OSCORE. Those of DTLS count from 1: a handshake in
    /// each millisecond for 8,900 years.
    pub const OSCORE_SESSIONS: u64 = 1 << 48;

    /// The protocol of its session.
    pub fn protection(&self) -> Option<Protection> {
        let is_oscore = self.session? >= Peer::OSCORE_SESSIONS;
        Some(match is_oscore {
            true => Protection::Oscore,
            false => Protection::Dtls,
        })
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Peer {
        Peer {
            address,
            session: None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.session {
            Some(session) => write!(f, "{} (session {session})", self.address),
            None => self.address.fmt(f),
        }
    }
}
