//! The MQTT edge from outside: sockets, bytes and other people's clients.

mod attacks;
mod external;
mod limits;
mod raw;
mod rust_client;
mod scale;
mod sessions;
mod support;
mod tls;
mod topics;
