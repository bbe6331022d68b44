//! CoAP over UDP (RFC 7252) with block-wise transfer (RFC 7959): client and server on one socket.
//!
//! [`Protocol`] holds the rules of messages and exchanges without IO; [`CoapEndpoint`] is the task
//! around it. A [`CoapService`] answers requests, a [`CoapHandle`] sends them. Observation (RFC
//! 7641) is left out: Things with our agent POST their changes, other Things are polled. Everything
//! that a peer can make the endpoint keep has a limit in [`config`].

pub mod block;
mod blockwise;
mod client;
pub mod config;
mod endpoint;
pub mod message;
mod peers;
mod protocol;
pub mod request;
pub mod simulated;
mod socket;
#[cfg(test)]
mod tests;

pub use block::Block;
pub use blockwise::BodyPolicy;
pub use client::TransferError;
pub use config::CoapConfig;
pub(crate) use endpoint::sleep_until;
pub use endpoint::{CoapEndpoint, CoapHandle, CoapService};
pub use message::{Code, Message};
pub use protocol::{Exchange, Output, Protocol, RequestError, RequestId};
pub use request::{Request, Response, format};
pub use socket::DatagramSocket;
