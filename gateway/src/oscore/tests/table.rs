use super::super::numbers::STEP;
use super::super::table::{Received, Sent};
use super::thing::{Bed, Thing, address, entry, option_of};
use crate::coap::message::{CoapOption, Code, Message, MessageType, Token};
use crate::coap::{Request, Response, format};
use crate::credentials::tests::{KEY, OTHER_KEY, write_private};

const OBSERVE: u16 = 6;

fn post() -> Request {
    Request::new(Code::POST, "/rp").with_payload(format::OCTETS, b"a secret report".to_vec())
}

fn acknowledged(request: &Message, code: Code) -> Message {
    let response = Response::new(code);
    response.to_message(MessageType::Acknowledgement, request.id, request.token)
}

#[test]
fn the_first_request_after_the_start_proves_that_it_is_fresh() {
    let mut bed = Bed::new();
    let mut thing = Thing::new(1, address(1));
    let old = thing.request(&post());
    let Received::Reply(challenge) = bed.table.receive(thing.address, &old) else {
        panic!("it may be of before the start");
    };
    assert!(challenge.len() <= 3 * old.len());
    let opened = thing.open(&challenge).unwrap();
    assert_eq!((opened.code, opened.payload.len()), (Code::UNAUTHORIZED, 0));
    let (peer, message) = bed.accept(&mut thing, &post());
    assert_eq!(
        Request::from_message(&message).unwrap(),
        post(),
        "without the value"
    );
    let holder = bed.table.holder(peer.session.unwrap()).unwrap();
    assert_eq!(&*holder.device, "lamp-1");
    // What came before that is refused for ever.
    assert!(matches!(
        bed.table.receive(thing.address, &old),
        Received::Reply(_)
    ));
    let (again, _) = bed.accept(&mut thing, &post());
    assert_eq!(again, peer);
}

#[test]
fn responses_are_encrypted_bound_to_their_request_and_repeated_as_they_were() {
    let mut bed = Bed::new();
    let mut thing = Thing::new(1, address(1));
    bed.accept(&mut thing, &post());
    let datagram = thing.request(&post());
    assert!(!datagram.windows(6).any(|part| part == b"secret"));
    let Received::Message(peer, request) = bed.table.receive(thing.address, &datagram) else {
        panic!("it is protected");
    };
    // A repetition before the answer is dropped, one after it gets the same bytes.
    let repeated = bed.table.receive(thing.address, &datagram);
    assert_eq!(repeated, Received::Nothing);
    let request = Message::decode(&request).unwrap();
    let reply = bed.send(peer, &acknowledged(&request, Code::CHANGED));
    assert_eq!(thing.open(&reply).unwrap().code, Code::CHANGED);
    let repeated = bed.table.receive(thing.address, &datagram);
    assert_eq!(repeated, Received::Reply(reply.clone()));
    thing.request(&post());
    assert!(thing.open(&reply).is_none(), "it is not for this request");
    // An answer that comes late and separately.
    let (peer, request) = bed.accept(&mut thing, &post());
    let empty = Message::empty(MessageType::Acknowledgement, request.id);
    assert_eq!(bed.send(peer, &empty), empty.encode().unwrap());
    let late = Response::new(Code::CHANGED).to_message(MessageType::Confirmable, 9, request.token);
    let late = bed.send(peer, &late);
    assert_eq!(thing.open(&late).unwrap().code, Code::CHANGED);
    let acknowledgement = Message::empty(MessageType::Acknowledgement, 9)
        .encode()
        .unwrap();
    let received = bed.table.receive(thing.address, &acknowledgement);
    assert_eq!(received, Received::Message(peer, acknowledgement));
}

#[test]
fn requests_to_a_thing_are_repeated_as_they_were_and_get_its_response_alone() {
    let mut bed = Bed::new();
    let (mut thing, mut other) = (Thing::new(1, address(1)), Thing::new(2, address(2)));
    let (peer, _) = bed.accept(&mut thing, &post());
    let (other_peer, _) = bed.accept(&mut other, &post());
    let token = Token::new(b"token").unwrap();
    let request = Request::get("/3/0/3").to_message(MessageType::Confirmable, 7, token);
    let datagram = bed.send(peer, &request);
    assert_eq!(
        bed.send(peer, &request),
        datagram,
        "the same nonce has the same content"
    );
    let (opened, binding) = thing.opened_request(&datagram).unwrap();
    assert_eq!(
        (opened.code, opened.options),
        (request.code, request.options.clone())
    );
    let content = Response::content(format::TEXT, b"2.0.0".to_vec());
    let response = content.to_message(MessageType::Acknowledgement, 7, token);
    for numbered in [false, true] {
        let sent = thing.respond(&response, &binding, numbered);
        let received = bed.table.receive(thing.address, &sent);
        assert_eq!(
            received,
            Received::Message(peer, response.encode().unwrap())
        );
        // From the address of another Thing, and as that Thing's.
        assert_eq!(bed.table.receive(other.address, &sent), Received::Nothing);
    }
    bed.send(other_peer, &request);
    let forged = other.respond(&response, &binding, true);
    assert_eq!(bed.table.receive(thing.address, &forged), Received::Nothing);
    assert_eq!(bed.table.receive(other.address, &forged), Received::Nothing);
    let plain = response.encode().unwrap();
    assert_eq!(bed.table.receive(thing.address, &plain), Received::Plain);
    // A plain error for this very request ends it, and does not answer it.
    let error = Response::new(Code::UNAUTHORIZED);
    let mut error = error.to_message(MessageType::Acknowledgement, 7, token);
    let reset = Message::empty(MessageType::Reset, 7).encode().unwrap();
    let received = bed.table.receive(thing.address, &error.encode().unwrap());
    assert_eq!(received, Received::Message(peer, reset));
    error.id = 8;
    let received = bed.table.receive(thing.address, &error.encode().unwrap());
    assert_eq!(received, Received::Plain);
}

#[test]
fn notifications_are_taken_in_order_and_old_ones_dropped() {
    let mut bed = Bed::new();
    let mut thing = Thing::new(1, address(1));
    let (peer, _) = bed.accept(&mut thing, &post());
    let token = Token::new(b"observe").unwrap();
    let mut request = Request::get("/3311/0");
    request.observe = Some(0);
    let datagram = bed.send(
        peer,
        &request.to_message(MessageType::Confirmable, 8, token),
    );
    let outer = Message::decode(&datagram).unwrap();
    assert_eq!(outer.code, Code::FETCH, "a proxy sees that it observes");
    let (_, binding) = thing.opened_request(&datagram).unwrap();
    let notify = |thing: &mut Thing, id, numbered| {
        let mut response = Response::content(format::TEXT, b"45".to_vec());
        response.observe = Some(0);
        let message = response.to_message(MessageType::Confirmable, id, token);
        thing.respond(&message, &binding, numbered)
    };
    let sent: Vec<Vec<u8>> = (0..4).map(|id| notify(&mut thing, id, id > 0)).collect();
    let mut places = |datagram: &[u8]| match bed.table.receive(address(1), datagram) {
        Received::Message(_, message) => Message::decode(&message)
            .unwrap()
            .uint(CoapOption::from(OBSERVE)),
        _ => None,
    };
    assert_eq!(places(&sent[0]), Some(1));
    assert_eq!(places(&sent[1]), Some(2));
    assert_eq!(places(&sent[3]), Some(3));
    assert_eq!(places(&sent[3]), Some(3), "its acknowledgement was lost");
    for old in [0, 1, 2] {
        assert_eq!(places(&sent[old]), None, "notification {old}");
    }
}

#[test]
fn a_thing_is_known_at_any_address_and_a_few_at_a_time() {
    let mut bed = Bed::new();
    let mut thing = Thing::new(1, address(1));
    let (first, _) = bed.accept(&mut thing, &post());
    let mut peers = vec![first];
    for port in 2..=5 {
        thing.address = address(port);
        let (peer, _) = bed.accept(&mut thing, &post());
        assert!(!peers.contains(&peer));
        peers.push(peer);
    }
    assert!(
        bed.table.holder(first.session.unwrap()).is_none(),
        "the oldest of five"
    );
    let devices = peers[1..].iter();
    assert!(
        devices
            .into_iter()
            .all(|peer| bed.table.holder(peer.session.unwrap()).is_some())
    );
    let late = acknowledged(&Message::empty(MessageType::Confirmable, 1), Code::CHANGED);
    assert_eq!(
        bed.table.send(first, &late.encode().unwrap()),
        Sent::Nothing
    );
    // Another Thing may be at one of these addresses now.
    let mut other = Thing::new(2, address(5));
    let (other, _) = bed.accept(&mut other, &post());
    assert_ne!(other.session, peers[4].session);
    let (again, _) = bed.accept(&mut thing, &post());
    assert_eq!(again, peers[4]);
}

#[test]
fn no_number_is_used_above_the_ceiling_or_twice() {
    let mut bed = Bed::at(500);
    let mut thing = Thing::new(1, address(1));
    let (peer, _) = bed.accept(&mut thing, &post());
    let mut numbers = Vec::new();
    let ask = |bed: &mut Bed, id: u16| {
        let token = Token::new(&id.to_be_bytes()).unwrap();
        let request = Request::get("/").to_message(MessageType::NonConfirmable, id, token);
        bed.table.send(peer, &request.encode().unwrap())
    };
    for id in 0..STEP as u16 - 1 {
        match ask(&mut bed, id) {
            Sent::Datagram(_, datagram) => {
                let option = option_of(&Message::decode(&datagram).unwrap()).unwrap();
                numbers.push(option.partial_iv.unwrap().number());
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ask(&mut bed, 0), Sent::NoNumbers);
    // The challenge had the first one.
    let expected: Vec<u64> = (501..500 + STEP).collect();
    assert_eq!(numbers, expected);
    let ceiling = bed.table.next_ceiling();
    bed.table.raise(ceiling);
    assert!(matches!(ask(&mut bed, 1), Sent::Datagram(..)));
}

#[test]
fn a_key_that_is_taken_away_ends_its_sessions_and_comes_back_with_other_numbers() {
    let mut bed = Bed::new();
    let mut thing = Thing::new(1, address(1));
    let (peer, _) = bed.accept(&mut thing, &post());
    let captured = thing.request(&post());
    let request = Request::get("/").to_message(MessageType::NonConfirmable, 1, Token::default());
    let number = |datagram: &[u8]| {
        let option = option_of(&Message::decode(datagram).unwrap()).unwrap();
        option.partial_iv.unwrap().number()
    };
    (0..9).for_each(|_| drop(bed.send(peer, &request)));
    let before = number(&bed.send(peer, &request));
    write_private(&bed.path, &entry(2, OTHER_KEY));
    assert!(bed.store.refresh().unwrap());
    assert_eq!(
        bed.table.send(peer, &request.encode().unwrap()),
        Sent::Nothing
    );
    assert!(bed.table.holder(peer.session.unwrap()).is_none());
    write_private(
        &bed.path,
        &(entry(1, KEY) + &entry(2, OTHER_KEY) + "# again\n"),
    );
    assert!(bed.store.refresh().unwrap());
    // The request of before is challenged, as after a restart.
    assert!(matches!(
        bed.table.receive(address(1), &captured),
        Received::Reply(_)
    ));
    let (peer, _) = bed.accept(&mut thing, &post());
    assert!(number(&bed.send(peer, &request)) > before);
}

#[test]
fn protection_costs_17_bytes() {
    // A number of four bytes, as a gateway of 2026 has.
    let mut bed = Bed::at(7_000 * STEP);
    let mut thing = Thing::new(1, address(1));
    let (peer, _) = bed.accept(&mut thing, &post());
    let block = Request::new(Code::PUT, "/5/0/0").with_payload(format::OCTETS, vec![1; 64]);
    let block = block.to_message(MessageType::Confirmable, 1, Token::default());
    let plain = block.encode().unwrap();
    assert_eq!(bed.send(peer, &block).len() - plain.len(), 17);
}
