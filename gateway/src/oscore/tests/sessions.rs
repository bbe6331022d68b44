//! Which sessions end for others.

use super::super::sessions::SessionLimits;
use super::super::table::{Received, Sent};
use super::thing::{Bed, Thing, address, entry};
use crate::coap::message::{Code, Message, MessageType};
use crate::coap::{Peer, Request, Response, format};

fn post() -> Request {
    Request::new(Code::POST, "/rp").with_payload(format::OCTETS, vec![7; 40])
}

/// A table for `lamp-0` to `lamp-19`.
fn bed() -> Bed {
    let keys: String = (0..20).map(|n| entry(n, &secret(n))).collect();
    Bed::with_keys(0, &keys)
}

fn secret(n: u8) -> String {
    format!("{n:02x}").repeat(16)
}

fn thing(n: u8, port: u16) -> Thing {
    Thing::with_secret(n, address(port), &secret(n))
}

fn exists(bed: &Bed, peer: Peer) -> bool {
    bed.table.holder(peer.session.unwrap()).is_some()
}

/// The session of a Thing that says something at a port.
fn speak(bed: &mut Bed, thing: &mut Thing, port: u16) -> Peer {
    thing.address = address(port);
    bed.accept(thing, &post()).0
}

#[test]
fn a_thing_is_known_at_any_address_and_a_few_at_a_time() {
    let mut bed = bed();
    let mut lamp = thing(1, 1);
    let peers: Vec<Peer> = (1..=4)
        .map(|port| speak(&mut bed, &mut lamp, port))
        .collect();
    // The oldest one is in use, so that the second ends for a fifth.
    assert_eq!(speak(&mut bed, &mut lamp, 1), peers[0]);
    let fifth = speak(&mut bed, &mut lamp, 5);
    let left = [peers[0], peers[2], peers[3], fifth];
    assert!(left.iter().all(|peer| exists(&bed, *peer)) && !exists(&bed, peers[1]));
    let late = Response::new(Code::CHANGED);
    let late = late.to_message(MessageType::Acknowledgement, 1, Default::default());
    let sent = bed.table.send(peers[1], &late.encode().unwrap());
    assert_eq!(sent, Sent::Nothing);
    // Another Thing may be at one of these addresses too.
    let other = speak(&mut bed, &mut thing(2, 5), 5);
    assert_ne!(other.session, fifth.session);
    assert_eq!(speak(&mut bed, &mut lamp, 5), fifth);
}

/// What somebody on the path holds back and sends from addresses of his own.
#[test]
fn a_session_that_has_answered_ends_after_those_that_have_not() {
    let mut bed = bed();
    let mut lamp = thing(1, 1);
    let proven = speak(&mut bed, &mut lamp, 1);
    bed.table.prove_address(proven);
    let captured: Vec<Vec<u8>> = (0..10).map(|_| lamp.request(&post())).collect();
    for (port, datagram) in captured.iter().enumerate() {
        bed.table.receive(address(100 + port as u16), datagram);
        assert!(exists(&bed, proven), "{port}");
    }
    // A response shows that a session is used.
    let at_200 = speak(&mut bed, &mut lamp, 200);
    let get = Request::get("/3/0/3");
    let get = get.to_message(MessageType::Confirmable, 7, Default::default());
    let request = bed.send(at_200, &get);
    let others: Vec<Peer> = [201, 202]
        .map(|port| speak(&mut bed, &mut lamp, port))
        .into();
    let (_, binding) = lamp.opened_request(&request).unwrap();
    let content = Response::content(format::TEXT, b"1.0.0".to_vec());
    let response = content.to_message(MessageType::Acknowledgement, 7, Default::default());
    let response = lamp.respond(&response, &binding, true);
    bed.table.receive(address(200), &response);
    speak(&mut bed, &mut lamp, 203);
    assert!(exists(&bed, at_200) && !exists(&bed, others[0]) && exists(&bed, others[1]));
    // And a repeated one shows nothing.
    bed.table.receive(address(200), &response);
    speak(&mut bed, &mut lamp, 202);
    speak(&mut bed, &mut lamp, 204);
    assert!(!exists(&bed, at_200) && exists(&bed, proven));
}

#[test]
fn an_address_has_a_few_things() {
    let mut bed = bed();
    let mut things: Vec<Thing> = (0..17).map(|n| thing(n, 1)).collect();
    let mut peers: Vec<Peer> = Vec::new();
    for lamp in &mut things[..16] {
        peers.push(speak(&mut bed, lamp, 1));
    }
    assert!(peers.iter().all(|peer| exists(&bed, *peer)));
    assert_eq!(speak(&mut bed, &mut things[0], 1), peers[0]);
    let last = speak(&mut bed, &mut things[16], 1);
    assert!(exists(&bed, peers[0]) && !exists(&bed, peers[1]) && exists(&bed, last));
    assert!(peers[2..].iter().all(|peer| exists(&bed, *peer)));
}

#[test]
fn a_full_table_ends_the_session_that_was_unused_for_longest() {
    let mut bed = bed();
    bed.table.sessions.limits = SessionLimits {
        all: 3,
        ..SessionLimits::default()
    };
    let mut things: Vec<Thing> = (0..5).map(|n| thing(n, u16::from(n))).collect();
    let mut peers: Vec<Peer> = Vec::new();
    for (n, lamp) in things[..3].iter_mut().enumerate() {
        peers.push(speak(&mut bed, lamp, n as u16));
    }
    bed.table.prove_address(peers[1]);
    speak(&mut bed, &mut things[0], 0);
    peers.push(speak(&mut bed, &mut things[3], 3));
    peers.push(speak(&mut bed, &mut things[4], 4));
    let left: Vec<usize> = (0..5).filter(|n| exists(&bed, peers[*n])).collect();
    assert_eq!(left, [1, 3, 4]);
    assert_eq!(bed.table.sessions.len(), 3);
    // What has ended is nowhere any more: a Thing begins another session.
    let again = speak(&mut bed, &mut things[0], 0);
    assert!(again.session > peers[4].session);
}

/// Somebody repeats a recorded request with the address of its Thing, where another one is by now.
#[test]
fn a_repeated_request_gets_a_long_reply_only_where_the_address_is_proven() {
    let mut bed = bed();
    let mut lamp = thing(1, 1);
    speak(&mut bed, &mut lamp, 1);
    let datagram = lamp.request(&Request::get("/fw"));
    let received = bed.table.receive(address(1), &datagram);
    let Received::Message(peer, request) = received else {
        panic!("{received:?}")
    };
    let request = Message::decode(&request).unwrap();
    let content = Response::content(format::OCTETS, vec![1; 1_000]);
    let reply = content.to_message(MessageType::Acknowledgement, request.id, request.token);
    let reply = bed.send(peer, &reply);
    let repeated = bed.table.receive(address(1), &datagram);
    assert_eq!(repeated, Received::Nothing);
    bed.table.prove_address(peer);
    let repeated = bed.table.receive(address(1), &datagram);
    assert_eq!(repeated, Received::Reply(reply));
}
