//! What a node tells the network at start, and the list of peers that may change while it runs.

use std::net::SocketAddr;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::NodeKey;

/// Peers in one allow-list. 7 validators and some observers are meant; more is a mistake.
pub const PEERS_MAX: usize = 256;

/// How this node appears on the network.
#[derive(Clone)]
pub struct Config {
    /// The node's ed25519 secret (RFC 8032); for a validator its signing key.
    pub secret: Zeroizing<[u8; 32]>,
    /// Where to accept connections; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Hash of the genesis; a peer of another chain is refused.
    pub chain_id: [u8; 32],
    /// Version of what the lanes carry; a peer with another one is refused.
    pub protocol: u32,
    /// For a node that nobody can dial (an observer behind NAT): it dials every peer that has an
    /// address, also those with a lower key. The others must list it without an address.
    pub dials_all: bool,
    /// Times and numbers; the defaults are right outside tests.
    pub limits: Limits,
}

/// Times and numbers that hold for every connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the TCP connection to the last lane; more means that the other side is stuck.
    pub handshake_max: Duration,
    /// First pause between two attempts to dial.
    pub backoff_min: Duration,
    /// Longest pause between two attempts to dial: what a quorum may wait for after a partition.
    pub backoff_max: Duration,
    /// A link that held this long was good: the next attempt starts at `backoff_min` again.
    pub stable_after: Duration,
    /// Time between two pings on an idle or busy link.
    pub ping_every: Duration,
    /// A link on which nothing was heard for so long is closed.
    pub silence_max: Duration,
    /// Inbound connections that have not finished their handshake. Each may cost a Noise
    /// handshake (about 0.2 ms) and 100 KiB.
    pub handshakes_max: usize,
    /// The same from one IP address, so that one stranger cannot use them all.
    pub handshakes_per_ip_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            handshake_max: Duration::from_secs(5),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(1),
            stable_after: Duration::from_secs(5),
            ping_every: Duration::from_secs(1),
            silence_max: Duration::from_secs(10),
            handshakes_max: 64,
            handshakes_per_ip_max: 16,
        }
    }
}

/// One entry of the allow-list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub key: NodeKey,
    /// `host:port` or `ip:port`, resolved at each attempt; `None` if the peer cannot be dialed.
    pub address: Option<String>,
}

/// The allow-list: who may connect, and where to find them. The node's own key may be in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers(pub Vec<Peer>);
