use std::time::Duration;

use super::super::sessions::SessionLimits;
use super::client::{Client, KEY, OTHER_KEY, Table, address, keys_file};

#[test]
fn a_thing_proves_its_key_and_both_sides_speak() {
    let mut table = Table::new(&[("lamp-1", KEY)]);
    let mut client = Client::new(table.now, address(1), "lamp-1", KEY);
    assert!(table.connect(&mut client));
    let peer = table.send_text(&mut client, b"hello").unwrap();
    assert_eq!((peer.address, peer.session), (address(1), Some(1)));
    let (number, holder) = &table.begun[0];
    assert_eq!(
        (table.begun.len(), *number, &*holder.device),
        (1, 1, "lamp-1")
    );
    let output = table.sessions.send(table.now, peer, b"good evening");
    let datagrams = table.keep(output, address(1));
    let clear = |datagram: &Vec<u8>| datagram.windows(4).any(|part| part == b"good");
    assert!(!datagrams.iter().any(clear), "it is encrypted");
    datagrams
        .iter()
        .for_each(|datagram| client.receive(datagram));
    client.datagrams();
    assert_eq!(client.received, [b"good evening".to_vec()]);
}

#[test]
fn a_wrong_key_and_an_unknown_identity_get_no_session_and_look_alike() {
    let mut table = Table::new(&[("lamp-1", KEY)]);
    let mut answers = Vec::new();
    for (port, identity, key) in [(1, "lamp-1", OTHER_KEY), (2, "lamp-9", KEY)] {
        let before = table.bytes_sent;
        let mut client = Client::new(table.now, address(port), identity, key);
        assert!(!table.connect(&mut client), "{identity}");
        answers.push(table.bytes_sent - before);
    }
    assert_eq!(answers[0], answers[1]);
    assert!(table.begun.is_empty());
    assert_eq!(table.counters.counts().handshakes_failed, 2);
    // One that goes no further ends by itself.
    Client::new(table.now, address(3), "lamp-1", KEY).begin(&mut table);
    assert_eq!(table.sessions.len(), (1, 0));
    table.pass(Duration::from_secs(61));
    table.sessions.tick(table.now);
    assert_eq!(table.sessions.len(), (0, 0));
    assert_eq!(table.counters.counts().handshakes_failed, 3);
}

#[test]
fn an_address_gets_a_cookie_before_anything_is_kept_for_it() {
    let mut table = Table::new(&[("lamp-1", KEY)]);
    let mut client = Client::new(table.now, address(1), "lamp-1", KEY);
    let opening = client.datagrams().remove(0);
    for port in 1..5_000 {
        let answers = table.hand(address(port), &opening);
        assert!(answers.iter().map(Vec::len).sum::<usize>() < opening.len());
    }
    assert_eq!(table.sessions.len(), (0, 0));
    assert_eq!(table.counters.counts().openings, 4_999);
    // The cookie of one address is worth nothing at another, nor two minutes later.
    let cookie = table.hand(address(1), &opening).remove(0);
    client.receive(&cookie);
    let second = client.datagrams().remove(0);
    table.hand(address(2), &second);
    assert_eq!(table.sessions.len(), (0, 0));
    table.pass(Duration::from_secs(120));
    table.hand(address(1), &second);
    assert_eq!(table.sessions.len(), (0, 0));
    let cookie = table.hand(address(1), &opening).remove(0);
    assert_ne!(cookie, second);
}

#[test]
fn lost_messages_of_a_handshake_are_repeated() {
    for lost in 0..6 {
        let mut table = Table::new(&[("lamp-1", KEY)]);
        let mut client = Client::new(table.now, address(1), "lamp-1", KEY);
        let mut count = 0;
        for _ in 0..40 {
            for datagram in client.datagrams() {
                count += 1;
                if count - 1 == lost {
                    continue;
                }
                for answer in table.hand(address(1), &datagram) {
                    client.receive(&answer);
                }
            }
            table.pass(Duration::from_millis(500));
            client.wait_until(table.now);
            let output = table.sessions.tick(table.now);
            for answer in table.keep(output, address(1)) {
                client.receive(&answer);
            }
        }
        assert!(client.connected, "without datagram {lost}");
        assert!(table.send_text(&mut client, b"here").is_some());
    }
}

#[test]
fn the_last_message_of_a_handshake_is_repeated_when_it_was_lost() {
    let mut table = Table::new(&[("lamp-1", KEY)]);
    let mut client = Client::new(table.now, address(1), "lamp-1", KEY);
    client.begin(&mut table);
    // The gateway has the session; its Finished is lost.
    for datagram in client.datagrams() {
        table.hand(address(1), &datagram);
    }
    assert_eq!(table.sessions.len(), (0, 1));
    assert!(!client.connected);
    for _ in 0..20 {
        table.pass(Duration::from_millis(500));
        client.wait_until(table.now);
        table.carry(&mut client);
    }
    assert!(client.connected);
    assert!(table.send_text(&mut client, b"here").is_some());
    assert_eq!(table.begun.len(), 1);
}

#[test]
fn a_second_handshake_replaces_a_session_only_when_it_has_succeeded() {
    let mut table = Table::new(&[("lamp-1", KEY), ("lamp-2", OTHER_KEY)]);
    let mut first = Client::new(table.now, address(1), "lamp-1", KEY);
    assert!(table.connect(&mut first));
    // Another device of the mesh comes from the same address, and has not the key.
    let mut impostor = Client::new(table.now, address(1), "lamp-1", OTHER_KEY);
    table.connect(&mut impostor);
    assert!(!impostor.connected);
    assert!(table.send_text(&mut first, b"still here").is_some());
    // The Thing has booted.
    let mut second = Client::new(table.now, address(1), "lamp-1", KEY);
    assert!(table.connect(&mut second));
    let peer = table.send_text(&mut second, b"again").unwrap();
    assert_eq!(
        (peer.session, table.ended.as_slice()),
        (Some(2), [1].as_slice())
    );
    assert!(table.send_text(&mut first, b"old keys").is_none());
}

#[test]
fn a_thing_that_moves_takes_its_session_from_its_old_address() {
    let mut table = Table::new(&[("lamp-1", KEY), ("lamp-2", OTHER_KEY)]);
    let mut old = Client::new(table.now, address(1), "lamp-1", KEY);
    let mut other = Client::new(table.now, address(2), "lamp-2", OTHER_KEY);
    assert!(table.connect(&mut old) && table.connect(&mut other));
    let mut moved = Client::new(table.now, address(3), "lamp-1", KEY);
    assert!(table.connect(&mut moved));
    assert_eq!(table.ended, [1]);
    // The other Thing gets the address that was left.
    let mut reused = Client::new(table.now, address(1), "lamp-2", OTHER_KEY);
    assert!(table.connect(&mut reused));
    assert_eq!(table.ended, [1, 2]);
    assert!(table.send_text(&mut moved, b"here").is_some());
    assert!(table.send_text(&mut reused, b"here").is_some());
    assert_eq!(table.sessions.len(), (0, 2));
}

#[test]
fn sessions_and_handshakes_have_limits_and_end() {
    let names: Vec<String> = (0..13).map(|n| format!("lamp-{n}")).collect();
    let keys: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), KEY)).collect();
    let mut table = Table::new(&keys);
    table.sessions.limits = SessionLimits {
        sessions: 10,
        handshakes: 5,
    };
    for (number, name) in names.iter().enumerate() {
        let mut client = Client::new(table.now, address(number as u16 + 1), name, KEY);
        assert!(table.connect(&mut client));
        table.pass(Duration::from_millis(1));
    }
    assert_eq!(table.sessions.len(), (0, 10));
    assert_eq!(table.ended, [1, 2, 3], "those idle for longest");
    for port in 0..8 {
        Client::new(table.now, address(port + 9_000), "lamp-1", KEY).begin(&mut table);
    }
    assert_eq!(table.sessions.len(), (5, 10));
    table.pass(Duration::from_secs(25 * 3600));
    table.sessions.tick(table.now);
    assert_eq!(table.sessions.len(), (0, 0));
}

#[test]
fn a_thing_may_close_and_a_key_may_be_taken_away() {
    let mut table = Table::new(&[("lamp-1", KEY), ("lamp-2", KEY)]);
    let mut closing = Client::new(table.now, address(1), "lamp-1", KEY);
    let mut robbed = Client::new(table.now, address(2), "lamp-2", KEY);
    assert!(table.connect(&mut closing) && table.connect(&mut robbed));
    for datagram in closing.close() {
        table.hand(address(1), &datagram);
    }
    assert_eq!(table.ended, [1]);
    keys_file(
        table.directory.path(),
        &[("lamp-1", KEY), ("lamp-2", OTHER_KEY)],
    );
    keys_file(table.directory.path(), &[("lamp-1", KEY)]);
    assert!(table.credentials.refresh().unwrap());
    let output = table.sessions.end_revoked();
    table.keep(output, address(2));
    assert_eq!(table.ended, [1, 2]);
    assert!(table.send_text(&mut robbed, b"here").is_none());
}
