//! DTLS 1.2 (RFC 6347) in front of the CoAP endpoint: a Thing proves by a pre-shared key which
//! device it is, and everything between it and the gateway is encrypted.
//!
//! The handshake and the records are those of the library `dimpl`, which does no IO. This module
//! adds what a server of many Things needs: cookies that are bound to the address and cost no state
//! ([`opening`]), the table of sessions with its limits ([`sessions`]), the keys of the Things
//! ([`crate::credentials`]), and the socket ([`socket`]). [`SouthSocket`] joins it with plain UDP,
//! so that one endpoint serves both.

mod cookie;
mod counters;
mod engine;
mod opening;
mod sessions;
mod socket;
#[cfg(test)]
mod tests;

pub use counters::SessionCounts;
pub use sessions::{HANDSHAKES_MAX, SESSIONS_MAX};
pub use socket::{DtlsSocket, SouthSocket};
