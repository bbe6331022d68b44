//! Datagrams at the table of DTLS sessions: made up, changed, repeated and withheld. Nothing that
//! the Thing did not say comes out, and nothing grows.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// The part of the endpoint that the table knows.
mod coap {
    pub use lamplighter_gateway::coap::Peer;
}

#[path = "../../gateway/src/credentials/mod.rs"]
mod credentials;

#[path = "edge/dtls.rs"]
mod dtls;

fuzz_target!(|bytes: &[u8]| dtls::run(bytes));
