//! OSCORE (RFC 8613) in front of the CoAP endpoint: each message of a Thing is encrypted by itself,
//! with keys that both sides know beforehand. There is no handshake, so that a Thing that wakes, or
//! whose address has changed, is known by its first message.
//!
//! [`SecurityContext`] has the keys and what is done with them ([`context`]), [`contexts`] those in
//! use; [`option`] is the option that each protected message has, [`message`] the change from one
//! message to the other; [`replay`] and [`numbers`] keep nonces and requests from being used twice,
//! also over a restart; [`session`], [`sessions`] and [`table`] know which message belongs to which
//! context, without IO; [`socket`] joins them with UDP and logs the [`counts`].
//!
//! The blocks of a body are protected one by one. Blocks of a protected message, which only a proxy
//! would make, are refused.

pub mod context;
mod contexts;
mod counts;
pub mod message;
mod numbers;
pub mod option;
mod replay;
mod session;
mod sessions;
mod socket;
mod table;
#[cfg(test)]
mod tests;

pub use context::SecurityContext;
pub use numbers::NumbersError;
pub use sessions::SESSIONS_MAX;
pub use socket::OscoreSocket;
