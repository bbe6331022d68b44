//! The configuration of the network, and the list of peers that may change while it runs.

use std::net::SocketAddr;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::NodeKey;

/// Peers in one allow-list. A ledger has 7 validators and some observers; more is a mistake.
pub const PEERS_MAX: usize = 256;

/// The configuration of one node's network.
#[derive(Clone)]
pub struct NetConfig {
    /// The node's ed25519 secret (RFC 8032); for a validator its signing key.
    pub secret: Zeroizing<[u8; 32]>,
    /// The address to accept connections on; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Hash of the genesis; a peer of another chain is refused.
    pub chain_id: [u8; 32],
    /// The version of the messages on the lanes; a peer with another one is refused.
    pub protocol: u32,
    /// For a node that no peer can dial (an observer behind NAT): it dials every peer that has an
    /// address, also those with a lower key. The others must list it without an address.
    pub dials_all: bool,
    /// Timeouts and bounds; the defaults are right outside tests.
    pub limits: NetLimits,
}

/// The timeouts and bounds of every connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetLimits {
    /// The timeout from the TCP connection to the last lane.
    pub handshake_max: Duration,
    /// The first pause between two attempts to dial.
    pub backoff_min: Duration,
    /// The longest pause between two attempts to dial; a quorum may wait for it after a partition.
    pub backoff_max: Duration,
    /// The duration of a link after which the next attempt starts at `backoff_min` again.
    pub stable_after: Duration,
    /// The time between two pings on a link.
    pub ping_every: Duration,
    /// The silence after which a link is closed.
    pub silence_max: Duration,
    /// Inbound connections that have not finished their handshake. Each may cost a Noise
    /// handshake (about 0.2 ms) and 100 KiB.
    pub handshakes_max: usize,
    /// The same from one IP address, so that one address cannot use them all.
    pub handshakes_per_ip_max: usize,
}

impl Default for NetLimits {
    fn default() -> Self {
        NetLimits {
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
pub struct AllowedPeer {
    /// Its identity.
    pub key: NodeKey,
    /// `host:port` or `ip:port`, resolved at each attempt; `None` if the peer cannot be dialed.
    pub address: Option<String>,
}

/// The nodes that may connect, with their addresses. The node's own key may be in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList(pub Vec<AllowedPeer>);
