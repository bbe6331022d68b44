//! CoAP over UDP (RFC 7252) with block-wise transfer (RFC 7959): client and server on one socket.
//!
//! [`Protocol`] holds the rules of messages and exchanges without IO; [`Endpoint`] is the task
//! around it. A [`Service`] answers requests, a [`Handle`] sends them. Observation (RFC 7641) is
//! left out: Things tell the gateway of changes by POST, and others are asked. Everything that a
//! peer can make us keep has a limit in [`config`].

pub mod block;
mod blockwise;
mod client;
pub mod config;
mod endpoint;
mod link;
pub mod message;
mod peers;
mod protocol;
pub mod request;
pub mod simulated;
#[cfg(test)]
mod tests;

pub use block::Block;
pub use blockwise::BodyPolicy;
pub use client::TransferError;
pub use config::Config;
pub use endpoint::{Endpoint, Handle, Service};
pub use link::Link;
pub use message::{Code, Message};
pub use protocol::{Exchange, Output, Protocol, RequestError, Ticket};
pub use request::{Request, Response, format};
