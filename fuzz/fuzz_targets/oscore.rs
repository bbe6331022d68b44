//! Datagrams at the table of OSCORE contexts: made up, changed, repeated and withheld, over
//! restarts, and rightly protected ones with anything inside. Nothing that the Thing did not say
//! comes out, nothing twice, and no nonce is used twice. What is protected opens as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// The part of the endpoint that the table knows.
mod coap {
    pub use lamplighter_gateway::coap::*;
}

#[path = "../../gateway/src/credentials/mod.rs"]
mod credentials;

#[path = "edge/oscore.rs"]
mod oscore;

fuzz_target!(|bytes: &[u8]| oscore::run(bytes));
