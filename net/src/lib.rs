//! The network between the nodes of one ledger: libp2p connections with an allow-list, and on
//! each of them independent lanes for requests and notifications.
//!
//! # Connection
//! TCP, then libp2p as usual: multistream-select, Noise (XX) with the node's ed25519 key,
//! yamux. The peer's key is known after the Noise handshake; a connection with a key that is not on
//! the allow-list is closed there, before anything else is sent.
//!
//! Of two nodes the one with the lower key (which is the lower peer id) dials, if the other's
//! address is on its list; a node with [`NetConfig::dials_all`] dials every peer. After a failure
//! it pauses 100 ms, doubling up to 1 s, each pause shortened at random by up to a half. A second
//! connection of the same peer replaces the first.
//!
//! # Streams
//! The dialer opens seven streams, by their libp2p protocol names: `/lamplighter/link/1`, on which
//! it first sends its handshake, and after the listener's handshake one for each [`Lane`]. All of
//! them last as long as the connection, and both sides use them alike. An eighth stream, or a lane
//! opened twice, ends the connection.
//!
//! # Frames
//! On every stream: `length u32 | kind u8 | id u64 | aux u32 | body`, numbers little-endian;
//! `length` is 13 plus the length of the body.
//!
//! | stream | kind | id | aux | body |
//! |---|---|---|---|---|
//! | link | 1 handshake | 0 | protocol version | chain id (32), greeting (0 to 1024) |
//! | link | 2 refuse | 0 | 0 | reason, UTF-8 |
//! | link | 3 ping, 4 pong | number of the ping | 0 | none |
//! | link | 5 close | 0 | 0 | reason, UTF-8 |
//! | lane | 16 request | number, counted by the calling side | timeout in ms | request |
//! | lane | 17 answer | number of the request | 0 | answer |
//! | lane | 18 failure | number of the request | code of [`ServiceError`] | text, UTF-8 |
//! | lane | 19 notify | 0 | 0 | notification |
//!
//! **Handshake**: the dialer's comes first. The listener compares chain id and protocol version,
//! lets its service verify the greeting, and answers with its own handshake; or it sends a refusal
//! that names the difference, and closes the connection. The dialer verifies the listener's
//! handshake in the same way. Up to the last lane a connection has 5 s
//! ([`NetLimits::handshake_max`]), TCP included.
//!
//! A node that dials its own address exchanges handshakes with itself: in place of the greeting are
//! 16 bytes that each process draws when it starts. A process that reads its own bytes refuses the
//! connection; one that reads others has met another process with its key, and both report it
//! ([`Network::key_in_use`]).
//!
//! **Ping**: each side sends one every second; a link that is silent for 10 s is closed.
//! **Close**: the last frame of the side that closes a link in order, with the reason.
//!
//! **Limits**: [`Lane::limits`] has the longest body and the number and bytes of requests in
//! flight for each lane. The calling side counts a request until its answer or failure arrives,
//! even when the caller has stopped waiting; so the serving side may, and does, close the
//! connection with a peer that exceeds them. The serving side answers every request, at the latest
//! when the request's timeout is over. A frame that is too long, unknown or out of place, or an
//! answer to no request, closes the connection.
//!
//! # Why not `libp2p-swarm` with `libp2p-stream`
//! `libp2p-stream` drops an inbound stream when its queue of one is full, keeps a sender for
//! every connection there ever was, and does not say to which connection a stream belongs; the
//! swarm refuses a stranger only after yamux is negotiated, and its TCP transport listens with
//! `SO_REUSEPORT`, so that two nodes could share a port unnoticed. With a fixed set of peers and
//! streams, the upgrades alone are less and do more. yamux is used directly because libp2p's
//! wrapper does not let its receive windows (1 GiB) be bounded.

mod accept;
mod config;
mod dial;
mod error;
mod frame;
mod handshake;
mod keepalive;
mod key;
mod lane;
mod link;
mod network;
mod network_state;
mod peer_table;
mod probe;
mod upgrade;

pub use config::{AllowList, AllowedPeer, NetConfig, NetLimits, PEERS_MAX};
pub use error::{ERROR_TEXT_BYTES_MAX, NetError, ServiceError};
pub use handshake::GREETING_BYTES_MAX;
pub use key::NodeKey;
pub use lane::client::REQUEST_TIMEOUT_MAX;
pub use lane::{Lane, LaneLimits};
pub use network::{Network, Service, WeakNetwork};
pub use network_state::Counters;
pub use peer_table::PeerStatus;
