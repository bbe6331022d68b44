//! CoAP over UDP (RFC 7252) with block-wise transfer (RFC 7959): client and server on one socket.
//!
//! [`Protocol`] holds the rules of messages and exchanges without IO; [`CoapEndpoint`] is the task
//! around it. A [`CoapService`] answers requests, a [`CoapHandle`] sends them. Resources of peers
//! can be observed (RFC 7641), those of this endpoint can't. Everything that a peer can make the
//! endpoint keep has a limit in [`config`] or beside it.

pub mod block;
mod blockwise;
mod burst;
mod client;
pub mod config;
mod echo;
mod endpoint;
mod exchange;
mod handle;
pub mod message;
mod observation;
mod peer;
mod peers;
mod protocol;
pub mod qblock;
pub mod request;
mod round_trip;
pub mod simulated;
mod socket;
#[cfg(test)]
mod tests;

pub use block::Block;
pub use blockwise::BodyPolicy;
pub use client::TransferError;
pub use config::CoapConfig;
pub(crate) use endpoint::sleep_until;
pub use endpoint::{CoapEndpoint, CoapService};
pub use exchange::{Exchange, Output, RequestError, RequestId};
pub use handle::{CoapHandle, RequestSet};
pub use message::{Code, Message};
pub use peer::Peer;
pub use protocol::Protocol;
pub use request::{Request, Response, format};
pub use socket::{DatagramSocket, Overhead};
