//! Datagrams of Things, one after the other, at an endpoint that answers and also asks.
#![no_main]

use std::net::SocketAddr;
use std::time::Duration;

use lamplighter_gateway::coap::{
    CoapConfig, Code, Message, Output, Peer, Protocol, Request, Response, format,
};
use libfuzzer_sys::fuzz_target;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::Instant;

/// Between two datagrams; the timers of an exchange run out within one input.
const STEP: Duration = Duration::from_secs(1);

fn message(bytes: &[u8]) {
    if let Ok(message) = Message::decode(bytes)
        && let Ok(encoded) = message.encode()
    {
        assert_eq!(Message::decode(&encoded).ok(), Some(message));
    }
}

fuzz_target!(|bytes: &[u8]| {
    message(bytes);
    let mut protocol = Protocol::new(CoapConfig::default(), StdRng::seed_from_u64(1));
    let peer = Peer::from(SocketAddr::from(([127, 0, 0, 1], 5683)));
    let mut now = Instant::now();
    protocol.request(now, peer, 1, Request::get("/5/0/3"));
    // A length before each datagram.
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first() {
        let (datagram, after) = after.split_at(after.len().min(usize::from(*length)));
        rest = after;
        protocol.receive(now, peer, datagram);
        for output in protocol.outputs() {
            match output {
                Output::Send(_, sent) => assert!(Message::decode(&sent).is_ok(), "{sent:02x?}"),
                Output::Request(exchange, _) => {
                    let response = Response::content(format::TEXT, vec![b'x'; 3_000]);
                    protocol.respond(now, exchange, &response);
                }
                Output::Notification(..) | Output::Done(..) => {}
            }
        }
        now += STEP;
        protocol.tick(now);
    }
    assert!(Code::CONTENT.is_response());
});
