use proptest::prelude::*;

use super::super::counts::RejectCounts;
use super::super::replay::ReplayWindow;
use super::super::table::Received;
use super::thing::{Bed, ECHO, Thing, address, entry};
use crate::coap::message::{CoapOption, Code, Message, MessageType};
use crate::coap::{Request, format};
use crate::credentials::tests::{KEY, OTHER_KEY};

fn post() -> Request {
    Request::new(Code::POST, "/ev").with_payload(format::OCTETS, vec![7; 40])
}

fn code_of(received: &Received) -> Code {
    match received {
        Received::Reply(reply) => Message::decode(reply).unwrap().code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_is_taken_once_from_wherever_it_is_repeated() {
    let mut bed = Bed::new();
    let mut thing = Thing::new(1, address(1));
    bed.accept(&mut thing, &post());
    let captured: Vec<Vec<u8>> = (0..80).map(|_| thing.request(&post())).collect();
    // Out of order, within the window.
    for at in [3, 0, 1, 2, 70, 69] {
        let received = bed.table.receive(address(1), &captured[at]);
        assert!(matches!(received, Received::Message(..)), "{at}");
    }
    for (at, datagram) in captured.iter().enumerate() {
        let taken = [0, 1, 2, 3, 69, 70].contains(&at) || at < 7;
        let received = bed.table.receive(address(2), datagram);
        match taken {
            true => assert_eq!(code_of(&received), Code::UNAUTHORIZED, "{at}"),
            false => assert!(matches!(received, Received::Message(..)), "{at}"),
        }
    }
}

#[test]
fn a_request_from_another_context_or_changed_in_any_byte_is_refused() {
    let mut bed = Bed::new();
    let mut thing = Thing::new(1, address(1));
    bed.accept(&mut thing, &post());
    let datagram = thing.request(&post());
    for at in 0..datagram.len() {
        for change in [1, 0x80] {
            let mut changed = datagram.clone();
            changed[at] ^= change;
            let received = bed.table.receive(address(2), &changed);
            // Type, id and token are not protected: by them a message is repeated at most once.
            if let Received::Message(_, message) = received {
                let message = Message::decode(&message).unwrap();
                assert!(at < 6, "byte {at}");
                assert_eq!(Request::from_message(&message).unwrap(), post());
                bed = Bed::new();
                bed.accept(&mut thing, &post());
            }
        }
    }
    let mut impostor = Thing::with_secret(1, address(3), OTHER_KEY);
    impostor.next = 1_000;
    let forged = impostor.request(&post());
    assert_eq!(
        code_of(&bed.table.receive(address(3), &forged)),
        Code::BAD_REQUEST
    );
    let mut stranger = Thing::with_secret(9, address(3), OTHER_KEY);
    let unknown = stranger.request(&post());
    let received = bed.table.receive(address(3), &unknown);
    assert_eq!(code_of(&received), Code::UNAUTHORIZED);
    let Received::Reply(reply) = received else {
        unreachable!()
    };
    assert!(reply.len() < 3 * unknown.len());
}

#[test]
fn protected_messages_in_outer_blocks_or_without_payload_are_refused() {
    let mut bed = Bed::new();
    let mut thing = Thing::new(1, address(1));
    bed.accept(&mut thing, &post());
    let message = Message::decode(&thing.request(&post())).unwrap();
    let mut in_blocks = message.clone();
    in_blocks.options.push((27, vec![0x08]));
    let mut empty = message.clone();
    empty.payload.clear();
    let mut twice = message.clone();
    twice.options.insert(0, twice.options[0].clone());
    for malformed in [in_blocks.clone(), empty] {
        let received = bed.table.receive(address(1), &malformed.encode().unwrap());
        assert_eq!(code_of(&received), Code::BAD_OPTION);
    }
    let received = bed.table.receive(address(1), &twice.encode().unwrap());
    assert_eq!(
        received,
        Received::Plain,
        "which has a critical option that is unknown"
    );
    in_blocks.message_type = MessageType::NonConfirmable;
    let received = bed.table.receive(address(1), &in_blocks.encode().unwrap());
    assert_eq!(received, Received::Nothing);
}

/// Rightly protected, by a Thing in other hands.
#[test]
fn what_does_not_belong_inside_is_refused() {
    let mut bed = Bed::new();
    let mut thing = Thing::new(1, address(1));
    bed.accept(&mut thing, &post());
    let get = thing.sealed(&[1]);
    let received = bed.table.receive(address(1), &get);
    assert!(matches!(received, Received::Message(..)));
    for inner in [
        &[][..],
        // No code, that of a response, the options OSCORE and Uri-Host, and no options at all.
        &[0],
        &[0x45],
        &[1, 0x90],
        &[1, 0x31, b'h'],
        &[1, 0xF0, 0xFF],
    ] {
        let request = thing.sealed(inner);
        let received = bed.table.receive(address(1), &request);
        assert_eq!(code_of(&received), Code::BAD_REQUEST, "{inner:?}");
    }
    // For a proxy, which this is not.
    let mut message = Message::decode(&thing.request(&post())).unwrap();
    message.options.push((39, b"coap".to_vec()));
    let received = bed.table.receive(address(1), &message.encode().unwrap());
    assert_eq!(received, Received::Plain);
}

#[test]
fn only_the_value_of_the_challenge_shows_that_a_request_is_fresh() {
    let challenged = |bed: &mut Bed, thing: &mut Thing, echo: Option<Vec<u8>>| {
        let request = Request { echo, ..post() };
        match bed.table.receive(address(1), &thing.request(&request)) {
            Received::Reply(reply) => {
                let challenge = thing.open(&reply).expect("it is protected");
                Some(challenge.values(CoapOption::from(ECHO)).next()?.to_vec())
            }
            _ => None,
        }
    };
    let (mut bed, mut thing) = (Bed::new(), Thing::new(1, address(1)));
    let before = challenged(&mut bed, &mut thing, None).unwrap();
    // After a restart it is another one.
    let mut bed = Bed::new();
    let withheld = thing.request(&post());
    let value = challenged(&mut bed, &mut thing, Some(before.clone())).unwrap();
    assert_ne!(value, before);
    for other in [before, vec![0; 8], Vec::new(), value[..7].to_vec()] {
        let again = challenged(&mut bed, &mut thing, Some(other)).unwrap();
        assert_eq!(again, value);
    }
    assert_eq!(challenged(&mut bed, &mut thing, Some(value)), None);
    // What was made before it never comes, though it was never here.
    let received = bed.table.receive(address(1), &withheld);
    assert_eq!(code_of(&received), Code::UNAUTHORIZED);
}

#[test]
fn no_refusal_is_three_times_as_long_as_its_request_and_all_are_counted() {
    let mut bed = Bed::new();
    let mut thing = Thing::new(1, address(1));
    let replayed = thing.request(&post());
    bed.accept(&mut thing, &post());
    bed.accept(&mut thing, &post());
    let short = |option: &[u8], payload: &[u8]| {
        let head = [0x40, 2, 0, 1, 0x90 | option.len() as u8];
        [&head, option, &[0xFF], payload].concat()
    };
    let requests = [
        (short(&[0xE0], &[0]), Code::BAD_OPTION),
        (short(&[9, 0, 9], &[0]), Code::UNAUTHORIZED),
        (replayed, Code::UNAUTHORIZED),
        (short(&[9, 99, 1], &[0; 9]), Code::BAD_REQUEST),
    ];
    for (request, code) in &requests {
        let received = bed.table.receive(address(7), request);
        assert_eq!(code_of(&received), *code);
        if let Received::Reply(reply) = received {
            assert!(reply.len() <= 3 * request.len(), "{request:02x?}");
        }
    }
    // A response to nothing, from a Thing that is known.
    bed.table.receive(
        address(1),
        &[&[0x50, 0x44], &[0, 1, 0x90, 0xFF][..], &[0; 9]].concat(),
    );
    let (counts, newest) = bed.table.rejected();
    let expected = RejectCounts {
        malformed: 1,
        unknown_keys: 1,
        replayed: 1,
        undecryptable: 1,
        challenged: 1,
        responses: 1,
    };
    assert_eq!(counts, expected);
    let newest = newest.unwrap();
    assert_eq!((newest.address, &newest.key_id[..]), (address(7), "01"));
    let long = short(&[&[8][..], &[0xAB; 9]].concat(), &[0]);
    bed.table.receive(address(7), &long);
    let (_, newest) = bed.table.rejected();
    assert_eq!(newest.unwrap().key_id, "ab".repeat(7));
}

#[test]
fn an_id_context_is_that_of_the_file() {
    let of_file = Some(vec![1, 2, 3]);
    let keys = entry(1, KEY) + "context = \"010203\"\n";
    for (sent, is_taken) in [
        (None, true),
        (of_file.clone(), true),
        (Some(vec![1, 2, 4]), false),
        (Some(Vec::new()), false),
    ] {
        let mut bed = Bed::with_keys(0, &keys);
        let mut thing = Thing::with_context(1, address(1), of_file.clone());
        thing.sent_context = sent.clone();
        let received = bed.table.receive(address(1), &thing.request(&post()));
        let Received::Reply(reply) = &received else {
            panic!("{received:?}")
        };
        assert_eq!(thing.open(reply).is_some(), is_taken, "{sent:?}");
        assert_eq!(code_of(&received) == Code::UNAUTHORIZED, !is_taken);
    }
    // And it is part of the keys: a Thing without it has others.
    let mut bed = Bed::with_keys(0, &keys);
    let mut thing = Thing::new(1, address(1));
    let received = bed.table.receive(address(1), &thing.request(&post()));
    assert_eq!(code_of(&received), Code::BAD_REQUEST);
}

proptest! {
    /// Against a set of all numbers.
    #[test]
    fn the_window_takes_no_number_twice(
        start in 0u64..200,
        numbers in prop::collection::vec(0u64..400, 1..200),
    ) {
        let mut window = ReplayWindow::after(start);
        let mut taken: std::collections::BTreeSet<u64> = (0..=start).collect();
        for number in numbers {
            let highest = *taken.last().unwrap();
            let expected = !taken.contains(&number) && number + 64 > highest;
            prop_assert_eq!(window.is_new(number), expected, "{} of {}", number, highest);
            if expected {
                window.record(number);
                taken.insert(number);
            }
        }
    }

    #[test]
    fn any_bytes_are_no_message_of_a_thing(
        datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..20),
    ) {
        let mut bed = Bed::new();
        let mut thing = Thing::new(1, address(1));
        bed.accept(&mut thing, &post());
        for datagram in datagrams {
            let mut with_option = vec![0x40, 2, 0, 1, 0x92, 0x09, 0x00];
            with_option.extend(&datagram);
            for bytes in [&datagram, &with_option] {
                let received = bed.table.receive(address(1), bytes);
                prop_assert!(!matches!(received, Received::Message(..)), "{:?}", received);
            }
        }
    }
}
