use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::opening::{Opening, RecordHeader};
use super::client::{Client, KEY, Table, address};

/// Changes a datagram in one to four places, cuts it, or puts two together.
fn mutate(random: &mut StdRng, datagram: &[u8], other: &[u8]) -> Vec<u8> {
    let mut changed = datagram.to_vec();
    for _ in 0..random.random_range(1..=4) {
        let at = random.random_range(0..changed.len());
        changed[at] = random.random();
    }
    match random.random_range(0..4) {
        0 => changed.truncate(random.random_range(1..=changed.len())),
        1 => changed.extend_from_slice(other),
        _ => {}
    }
    changed
}

#[test]
fn mutated_and_replayed_datagrams_end_no_session_and_change_nothing() {
    let mut table = Table::new(&[("lamp-1", KEY)]);
    let mut client = Client::new(table.now, address(1), "lamp-1", KEY);
    let mut corpus = Vec::new();
    loop {
        let datagrams = client.datagrams();
        if datagrams.is_empty() {
            break;
        }
        for datagram in datagrams {
            table
                .hand(address(1), &datagram)
                .iter()
                .for_each(|a| client.receive(a));
            corpus.push(datagram);
        }
    }
    assert!(client.connected);
    for text in [b"one".as_slice(), &[7; 900]] {
        let records = client.send_text(text);
        records
            .iter()
            .for_each(|datagram| drop(table.hand(address(1), datagram)));
        corpus.extend(records);
    }
    let (before, sent) = (table.messages.len(), table.bytes_sent);
    let mut random = StdRng::seed_from_u64(11);
    let mut received = 0;
    for round in 0..20_000 {
        let pick = |random: &mut StdRng| random.random_range(0..corpus.len());
        let (first, second) = (pick(&mut random), pick(&mut random));
        let datagram = match round % 10 {
            0 => corpus[first].clone(),
            _ => mutate(&mut random, &corpus[first], &corpus[second]),
        };
        received += datagram.len();
        // From the Thing's own address, and from elsewhere.
        let port = if round % 3 == 0 { 2 } else { 1 };
        table.hand(address(port), &datagram);
    }
    assert_eq!(table.messages.len(), before, "nothing forged came through");
    assert!(table.ended.is_empty());
    assert!(
        table.bytes_sent - sent <= 3 * received,
        "{} {received}",
        table.bytes_sent - sent
    );
    assert!(table.send_text(&mut client, b"still here").is_some());
}

#[test]
fn random_bytes_are_refused() {
    let mut table = Table::new(&[("lamp-1", KEY)]);
    let mut random = StdRng::seed_from_u64(12);
    for _ in 0..20_000 {
        let length = random.random_range(0..200);
        let mut datagram: Vec<u8> = (0..length).map(|_| random.random()).collect();
        if random.random_bool(0.5) && datagram.len() > 2 {
            (datagram[0], datagram[1]) = (random.random_range(20..24), 254);
        }
        // Neither reader panics.
        RecordHeader::read(&datagram);
        Opening::read(&datagram);
        table.hand(address(3), &datagram);
    }
    assert_eq!(table.sessions.len(), (0, 0));
}

#[test]
fn a_replayed_message_of_a_thing_is_not_taken_twice() {
    let mut table = Table::new(&[("lamp-1", KEY)]);
    let mut client = Client::new(table.now, address(1), "lamp-1", KEY);
    assert!(table.connect(&mut client));
    let records = client.send_text(b"once");
    for _ in 0..3 {
        records
            .iter()
            .for_each(|datagram| drop(table.hand(address(1), datagram)));
    }
    assert_eq!(table.messages.len(), 1);
    assert_eq!(table.counters.counts().refused, 2);
}
