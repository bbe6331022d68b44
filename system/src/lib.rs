//! Helpers for the machine that a program runs on, shared by all crates: the clock, durable files,
//! pauses between retries, rate limits, the supervisor, and errors as text. Contracts do not use
//! this crate: they see no clock and no file.

mod backoff;
mod clock;
mod error_chain;
pub mod files;
mod rate_limit;
mod supervisor;

pub use backoff::Backoff;
pub use clock::unix_ms;
pub use error_chain::error_chain;
pub use rate_limit::RateLimit;
pub use supervisor::Supervisor;

#[cfg(test)]
mod tests;
