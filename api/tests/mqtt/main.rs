//! The MQTT edge from outside: sockets, bytes and other people's clients.

#![allow(clippy::unwrap_used)] // helpers of tests may fail as tests do

mod attacks;
mod external;
mod limits;
mod raw;
mod rust_client;
mod scale;
mod sessions;
mod standard;
mod store;
mod support;
mod tls;
mod topics;
