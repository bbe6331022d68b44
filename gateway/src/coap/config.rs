//! Timers and limits of an endpoint (RFC 7252 section 4.8).

use std::time::Duration;

/// Timers and limits; the default is what the RFC recommends.
#[derive(Debug, Clone)]
pub struct CoapConfig {
    /// ACK_TIMEOUT: first wait for an acknowledgement while a peer's round trips are not measured.
    pub ack_timeout: Duration,
    /// ACK_RANDOM_FACTOR: the first wait is stretched by a random factor between 1 and this.
    pub ack_random_factor: f64,
    /// MAX_RETRANSMIT: how often a confirmable message is sent again.
    pub retransmit_max: u32,
    /// NSTART: unanswered requests to one peer at a time; others wait.
    pub nstart: usize,
    /// The time for a response after the request was acknowledged, or was not confirmable.
    pub response_timeout: Duration,
    /// The time for a handler before the request is acknowledged without its response.
    pub separate_after: Duration,
    /// EXCHANGE_LIFETIME: how long a message id is remembered to find duplicates.
    pub exchange_lifetime: Duration,
    /// Size exponent of the blocks that this endpoint proposes.
    pub szx: u8,
    /// True if requests may come in sets of blocks (RFC 9177); otherwise they are answered 4.02.
    pub q_block: bool,
    /// True if little is sent to an address before it has proven to be the sender's (RFC 9175): for
    /// a server that strangers reach.
    pub limit_unproven: bool,
    /// Largest body that is assembled from blocks in memory, in bytes, in and out.
    pub body_bytes_max: usize,
}

impl Default for CoapConfig {
    fn default() -> CoapConfig {
        CoapConfig {
            ack_timeout: Duration::from_secs(2),
            ack_random_factor: 1.5,
            retransmit_max: 4,
            nstart: 1,
            response_timeout: Duration::from_secs(93),
            separate_after: Duration::from_millis(500),
            exchange_lifetime: Duration::from_secs(247),
            szx: 6,
            q_block: false,
            limit_unproven: false,
            body_bytes_max: 64 * 1024,
        }
    }
}

/// Peers whose message ids are remembered: all Things of a gateway, and half as many strangers.
pub const PEERS_MAX: usize = 15_000;
/// Message ids remembered per peer. With NSTART 1 a duplicate is among the newest few; a window
/// this short also lets ids come round again on a fast link within EXCHANGE_LIFETIME.
pub const DUPLICATES_PER_PEER_MAX: usize = 32;
/// Outgoing requests that wait for a response or for their turn.
pub const REQUESTS_MAX: usize = 2048;
/// Incoming requests that are being handled; more are answered 5.03.
pub const HANDLERS_MAX: usize = 256;
/// Separate responses that wait for an acknowledgement.
pub const SEPARATE_MAX: usize = 256;
