//! What goes in and out of [`Protocol`](super::Protocol): requests by their callers, exchanges with
//! peers, and the datagrams of both.

use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;

use super::message::{Code, Message, Token};
use super::peer::Peer;
use super::request::{Request, Response};

/// Identifies an outgoing request towards its caller.
pub type RequestId = u64;

/// An incoming request that waits for its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Exchange {
    /// The peer that sent it.
    pub peer: Peer,
    /// The message id of the request.
    pub id: u16,
}

/// An outgoing request got no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RequestError {
    /// The request was sent as often as allowed and never acknowledged.
    #[error("no acknowledgement after {attempts} transmissions")]
    NoAcknowledgement {
        /// The number of transmissions.
        attempts: u32,
    },
    /// The request was acknowledged, but the response did not come in time.
    #[error("no response within the time limit")]
    NoResponse,
    /// The peer refused the message.
    #[error("the peer answered with a reset")]
    Reset,
    /// The response has a malformed or unknown critical option.
    #[error("the response cannot be understood")]
    BadResponse,
    /// The request does not fit into a datagram.
    #[error("the request does not fit into a datagram")]
    TooLong,
    /// The limit of waiting requests is reached.
    #[error("too many requests are waiting")]
    Busy,
    /// The endpoint was closed.
    #[error("the endpoint is closed")]
    Closed,
}

/// An instruction to the endpoint.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a datagram.
    Send(Peer, Vec<u8>),
    /// Handle a request, then call [`Protocol::respond`](super::Protocol::respond).
    Request(Exchange, Box<Request>),
    /// A peer's resource at this path has changed.
    Notification(Peer, Vec<String>, Box<Response>),
    /// An outgoing request has ended.
    Done(RequestId, Result<Box<Response>, RequestError>),
}

/// A confirmable message that is not acknowledged yet.
#[derive(Debug)]
pub(super) struct Confirmable {
    pub(super) bytes: Vec<u8>,
    pub(super) attempts: u32,
    pub(super) sent_at: Instant,
    pub(super) timeout: Duration,
    pub(super) deadline: Instant,
    /// Token of the request that it carries; none for a separate response.
    pub(super) request: Option<Token>,
}

/// A request that waits for its response.
#[derive(Debug)]
pub(super) struct PendingRequest {
    pub(super) request_id: RequestId,
    pub(super) id: u16,
    pub(super) deadline: Option<Instant>,
    /// The path of the resource that is to be observed.
    pub(super) observed: Option<Vec<String>>,
}

/// A request that is being handled.
#[derive(Debug)]
pub(super) struct IncomingRequest {
    pub(super) token: Token,
    pub(super) confirmable: bool,
    pub(super) acknowledged: bool,
    pub(super) deadline: Option<Instant>,
}

/// What is to be done at an instant.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
pub(super) enum Timer {
    Retransmit(Peer, u16),
    Response(Peer, Token),
    Acknowledge(Exchange),
}

/// Stands for the content of a datagram among the newest few of its sender.
pub(super) fn content(bytes: &[u8]) -> u64 {
    let mut content = [0; 8];
    blake3::Hasher::new()
        .update(bytes)
        .finalize_xof()
        .fill(&mut content);
    u64::from_le_bytes(content)
}

pub(super) fn parse_response(message: &Message) -> Result<Box<Response>, RequestError> {
    Response::from_message(message)
        .map(Box::new)
        .ok_or(RequestError::BadResponse)
}

/// Encodes a message. A response that does not fit is a fault of its handler: the client gets 5.00.
pub(super) fn encode_or_error(message: &Message) -> Vec<u8> {
    message.encode().unwrap_or_else(|_| {
        let code = Code::INTERNAL_ERROR;
        let short = Message {
            code,
            options: Vec::new(),
            payload: Vec::new(),
            ..message.clone()
        };
        short
            .encode()
            .expect("a header and a token fit into a datagram")
    })
}
