//! The errors of a call (`NetError`), of a service (`ServiceError`) and of a connection
//! (`LinkError`).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use libp2p::identity::DecodingError;
use libp2p::noise;
use multistream_select::NegotiationError;

use crate::frame::FrameError;
use crate::{Lane, NodeKey};

/// Bytes of an error's text that crosses the network.
pub const ERROR_TEXT_BYTES_MAX: usize = 1024;

/// The reason why a call of the network failed.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error("the node's secret is no ed25519 key")]
    Secret { source: DecodingError },
    #[error("the node's keys for Noise cannot be made")]
    NoiseKeys { source: noise::Error },
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("no connection to node {to:?}")]
    NotConnected { to: NodeKey },
    #[error("the connection to node {to:?} was lost during a call on the {lane} lane")]
    Disconnected { to: NodeKey, lane: Lane },
    #[error("node {to:?} did not answer on the {lane} lane within {} ms", after.as_millis())]
    Timeout {
        to: NodeKey,
        lane: Lane,
        after: Duration,
    },
    #[error("the {lane} lane to node {to:?} is full")]
    Busy { to: NodeKey, lane: Lane },
    #[error("{bytes} bytes are too many for the {lane} lane, which takes {bytes_max}")]
    TooLarge {
        lane: Lane,
        bytes: usize,
        bytes_max: usize,
    },
    #[error("node {to:?} could not serve the request on the {lane} lane")]
    Service {
        to: NodeKey,
        lane: Lane,
        source: ServiceError,
    },
}

/// The error that a service answers. Texts are truncated to [`ERROR_TEXT_BYTES_MAX`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    #[error("the request is not understood: {0}")]
    Invalid(String),
    #[error("not possible now: {0}")]
    Unavailable(String),
    #[error("the request failed: {0}")]
    Failed(String),
    #[error("no answer was ready within the caller's timeout")]
    DeadlinePassed,
}

impl ServiceError {
    pub(crate) fn encode(&self) -> (u32, Bytes) {
        let (code, text) = match self {
            ServiceError::Invalid(text) => (1, text.as_str()),
            ServiceError::Unavailable(text) => (2, text.as_str()),
            ServiceError::Failed(text) => (3, text.as_str()),
            ServiceError::DeadlinePassed => (4, ""),
        };
        (code, Bytes::copy_from_slice(truncate(text).as_bytes()))
    }

    pub(crate) fn decode(code: u32, text: &[u8]) -> ServiceError {
        let text = sanitize(text);
        match code {
            1 => ServiceError::Invalid(text),
            2 => ServiceError::Unavailable(text),
            3 => ServiceError::Failed(text),
            4 => ServiceError::DeadlinePassed,
            other => ServiceError::Failed(format!("code {other}: {text}")),
        }
    }
}

/// The reason why a connection was not made, or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("cannot resolve {address}")]
    Resolve { address: String, source: io::Error },
    #[error("cannot connect to {address}")]
    Connect { address: String, source: io::Error },
    #[error("{address} has no IP address")]
    NoAddress { address: String },
    #[error("the handshake took longer than {} ms", .0.as_millis())]
    HandshakeTimeout(Duration),
    #[error("socket options cannot be set")]
    Socket { source: io::Error },
    #[error("cannot agree on {protocol}")]
    Negotiate {
        protocol: &'static str,
        source: NegotiationError,
    },
    #[error("the Noise handshake failed")]
    Noise { source: noise::Error },
    #[error("the peer's identity is no ed25519 key")]
    NotEd25519,
    #[error("the address belongs to node {found}, not to {expected}")]
    WrongKey { expected: NodeKey, found: NodeKey },
    #[error("node {0} is not on the allow-list")]
    NotAllowed(NodeKey),
    #[error("node {0:?} dialed us, but it is ours to dial it: its key is higher than ours")]
    WrongDirection(NodeKey),
    #[error(
        "the peer closed the connection before its handshake; \
         probably this node's key is not on the peer's allow-list"
    )]
    ClosedBeforeHandshake,
    #[error("the peer is of chain {remote}, this node of chain {local}")]
    OtherChain { local: String, remote: String },
    #[error("the peer speaks protocol version {remote}, this node {local}")]
    OtherProtocol { local: u32, remote: u32 },
    #[error("the peer refused this node: {0}")]
    RefusedByPeer(String),
    #[error("node {peer} was refused: {reason}")]
    Greeting { peer: NodeKey, reason: String },
    #[error("this is the node itself")]
    SelfConnection,
    #[error("another process uses this node's key")]
    KeyInUse,
    #[error("the connection broke")]
    Mux { source: yamux::ConnectionError },
    #[error("the {stream} stream broke")]
    Stream {
        stream: &'static str,
        source: FrameError,
    },
    #[error("the peer opened more streams than there are lanes")]
    TooManyStreams,
    #[error("the peer opened the {0} lane twice")]
    DuplicateLane(Lane),
    #[error("unexpected {kind:?} frame on the {stream} stream")]
    UnexpectedFrame {
        stream: &'static str,
        kind: crate::frame::FrameKind,
    },
    #[error("malformed handshake: {0}")]
    MalformedHandshake(&'static str),
    #[error("an answer on the {0} lane belongs to no request")]
    UnknownAnswer(Lane),
    #[error("more requests on the {0} lane than the protocol allows")]
    TooManyRequests(Lane),
    #[error("nothing was heard from the peer for {} ms", .0.as_millis())]
    Silent(Duration),
    #[error("a request on the {0} lane was never answered")]
    NeverAnswered(Lane),
    #[error("the peer said goodbye: {0}")]
    ClosedByPeer(String),
    #[error("the peer closed the connection")]
    Closed,
    #[error("the node was removed from the allow-list")]
    Removed,
    #[error("a newer connection of the same node took over")]
    Replaced,
    #[error("this node shuts down")]
    Shutdown,
}

impl LinkError {
    /// True if the peer violated the protocol; a broken connection or a refusal is no violation.
    pub(crate) fn is_violation(&self) -> bool {
        match self {
            LinkError::Stream { source, .. } => source.is_violation(),
            LinkError::Mux { source } => !matches!(
                source,
                yamux::ConnectionError::Io(_) | yamux::ConnectionError::Closed
            ),
            LinkError::TooManyStreams
            | LinkError::DuplicateLane(_)
            | LinkError::UnexpectedFrame { .. }
            | LinkError::MalformedHandshake(_)
            | LinkError::UnknownAnswer(_)
            | LinkError::TooManyRequests(_)
            | LinkError::NeverAnswered(_) => true,
            _ => false,
        }
    }
}

/// Truncates a text to [`ERROR_TEXT_BYTES_MAX`] bytes, between characters.
pub(crate) fn truncate(text: &str) -> &str {
    let mut end = text.len().min(ERROR_TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Makes a text of a peer printable: truncates it, and replaces control characters.
pub(crate) fn sanitize(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(ERROR_TEXT_BYTES_MAX)];
    let text = String::from_utf8_lossy(bytes);
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
