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
    let sent = thing.respond(&response, &binding, false);
    // From the address of another Thing.
    assert_eq!(bed.table.receive(other.address, &sent), Received::Nothing);
    let received = bed.table.receive(thing.address, &sent);
    let expected = Received::Message(peer, response.encode().unwrap());
    assert_eq!(received, expected);
    // For the request to another Thing, and as that Thing's.
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
fn a_request_has_one_response_with_a_number_or_without() {
    let mut bed = Bed::new();
    let mut thing = Thing::new(1, address(1));
    let (peer, _) = bed.accept(&mut thing, &post());
    for (id, numbered) in [(1, false), (2, true)] {
        let token = Token::new(&[id; 4]).unwrap();
        let id = u16::from(id);
        let get = Request::get("/3/0/3").to_message(MessageType::Confirmable, id, token);
        let datagram = bed.send(peer, &get);
        let (_, binding) = thing.opened_request(&datagram).unwrap();
        let response = |id, text: &[u8]| {
            let content = Response::content(format::TEXT, text.to_vec());
            content.to_message(MessageType::Confirmable, id, token)
        };
        let first = response(90 + id, b"2.0.0");
        let sent = thing.respond(&first, &binding, numbered);
        let received = bed.table.receive(thing.address, &sent);
        let expected = Received::Message(peer, first.encode().unwrap());
        assert_eq!(received, expected);
        // Once more, and another one: both are the Thing's, and acknowledged for that.
        let other = thing.respond(&response(95 + id, b"1.0.0"), &binding, true);
        for (sent, id) in [(&sent, 90 + id), (&other, 95 + id)] {
            let acknowledgement = Message::empty(MessageType::Acknowledgement, id);
            let received = bed.table.receive(thing.address, sent);
            let expected = Received::Reply(acknowledgement.encode().unwrap());
            assert_eq!(received, expected);
        }
    }
}

#[test]
fn a_response_is_a_response_and_observes_what_is_observed() {
    let mut bed = Bed::new();
    let mut thing = Thing::new(1, address(1));
    let (peer, _) = bed.accept(&mut thing, &post());
    let token = Token::new(b"token").unwrap();
    let get = Request::get("/3/0/3").to_message(MessageType::Confirmable, 7, token);
    let (_, binding) = thing.opened_request(&bed.send(peer, &get)).unwrap();
    // A request inside, for which the code outside stands for nothing.
    let request = Request::get("/").to_message(MessageType::NonConfirmable, 9, token);
    let mut request = Message::decode(&thing.respond(&request, &binding, true)).unwrap();
    request.code = Code::CHANGED;
    let received = bed.table.receive(thing.address, &request.encode().unwrap());
    assert_eq!(received, Received::Nothing);
    let mut notification = Response::content(format::TEXT, b"45".to_vec());
    notification.observe = Some(0);
    let notification = notification.to_message(MessageType::NonConfirmable, 9, token);
    let notification = thing.respond(&notification, &binding, true);
    let received = bed.table.receive(thing.address, &notification);
    assert_eq!(received, Received::Nothing);
    assert_eq!(bed.table.rejected().0.responses, 2);
}

/// What falls out fails as after a loss, and what came is not taken again for that.
#[test]
fn what_a_session_keeps_is_bounded() {
    let mut bed = Bed::new();
    let mut thing = Thing::new(1, address(1));
    let (peer, _) = bed.accept(&mut thing, &post());
    let requests: Vec<Vec<u8>> = (0..5).map(|_| thing.request(&post())).collect();
    for request in &requests {
        let received = bed.table.receive(address(1), request);
        assert!(matches!(received, Received::Message(..)));
    }
    let replayed = bed.table.receive(address(1), &requests[0]);
    assert!(matches!(replayed, Received::Reply(_)));
    let repeated = bed.table.receive(address(1), &requests[1]);
    assert_eq!(repeated, Received::Nothing);
    let unknown = Message::empty(MessageType::Acknowledgement, 4_711);
    let other = acknowledged(&unknown, Code::CHANGED).encode().unwrap();
    assert_eq!(bed.table.send(peer, &other), Sent::Nothing, "to no request");
    let ask = |id: u16| {
        let token = Token::new(&id.to_be_bytes()).unwrap();
        Request::get("/").to_message(MessageType::Confirmable, id, token)
    };
    let sent: Vec<Vec<u8>> = (0..33).map(|id| bed.send(peer, &ask(id))).collect();
    for (id, is_known) in [(0, false), (1, true), (99, false)] {
        let empty = Message::empty(MessageType::Acknowledgement, id);
        let empty = empty.encode().unwrap();
        let received = bed.table.receive(address(1), &empty);
        match is_known {
            true => assert_eq!(received, Received::Message(peer, empty)),
            false => assert_eq!(received, Received::Plain),
        }
    }
    for (id, is_known) in [(0_u8, false), (1, true)] {
        let (request, binding) = thing.opened_request(&sent[usize::from(id)]).unwrap();
        let response = acknowledged(&request, Code::CHANGED);
        let response = thing.respond(&response, &binding, true);
        let received = bed.table.receive(address(1), &response);
        assert_eq!(matches!(received, Received::Message(..)), is_known);
    }
}

/// What would be sent again is kept until the exchange ends, and that of a few exchanges.
#[test]
fn the_datagram_of_a_request_is_forgotten_with_its_answer() {
    let mut bed = Bed::new();
    let mut thing = Thing::new(1, address(1));
    let (peer, _) = bed.accept(&mut thing, &post());
    let ask = |id: u16| {
        let token = Token::new(&id.to_be_bytes()).unwrap();
        Request::get("/3/0/3").to_message(MessageType::Confirmable, id, token)
    };
    let is_kept = |bed: &mut Bed, id, datagram: &[u8]| bed.send(peer, &ask(id)) == datagram;
    let first = bed.send(peer, &ask(1));
    assert!(is_kept(&mut bed, 1, &first));
    let empty = Message::empty(MessageType::Acknowledgement, 1);
    bed.table.receive(thing.address, &empty.encode().unwrap());
    assert!(!is_kept(&mut bed, 1, &first), "it was acknowledged");
    let second = bed.send(peer, &ask(2));
    let (_, binding) = thing.opened_request(&second).unwrap();
    let answer = thing.respond(&acknowledged(&ask(2), Code::CONTENT), &binding, false);
    assert!(matches!(
        bed.table.receive(thing.address, &answer),
        Received::Message(..)
    ));
    assert!(!is_kept(&mut bed, 2, &second), "it was answered");
    let third = bed.send(peer, &ask(3));
    let refusal = acknowledged(&ask(3), Code::UNAUTHORIZED);
    bed.table.receive(thing.address, &refusal.encode().unwrap());
    assert!(!is_kept(&mut bed, 3, &third), "it was refused");
    let silent: Vec<Vec<u8>> = (10..14).map(|id| bed.send(peer, &ask(id))).collect();
    assert!(is_kept(&mut bed, 13, &silent[3]) && !is_kept(&mut bed, 10, &silent[0]));
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
    for (at, place) in [(0, 1), (1, 2), (3, 3)] {
        let Received::Message(_, message) = bed.table.receive(address(1), &sent[at]) else {
            panic!("notification {at} is newer");
        };
        let message = Message::decode(&message).unwrap();
        assert_eq!(message.uint(CoapOption::from(OBSERVE)), Some(place));
    }
    // However often and late they come: the newest one too, whose acknowledgement may be lost.
    for at in [0, 1, 2, 3, 3] {
        let acknowledgement = Message::empty(MessageType::Acknowledgement, at as u16);
        let expected = Received::Reply(acknowledgement.encode().unwrap());
        assert_eq!(bed.table.receive(address(1), &sent[at]), expected, "{at}");
    }
    let mut bare = Message::decode(&notify(&mut thing, 9, true)).unwrap();
    bare.message_type = MessageType::NonConfirmable;
    let bare = bare.encode().unwrap();
    assert!(matches!(
        bed.table.receive(address(1), &bare),
        Received::Message(..)
    ));
    assert_eq!(bed.table.receive(address(1), &bare), Received::Nothing);
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
fn protection_costs_18_bytes() {
    // A number of five bytes, as a gateway has since July 2026.
    let mut bed = Bed::at(7_000 * 900_000);
    let mut thing = Thing::new(1, address(1));
    let (peer, _) = bed.accept(&mut thing, &post());
    let block = Request::new(Code::PUT, "/5/0/0").with_payload(format::OCTETS, vec![1; 64]);
    let block = block.to_message(MessageType::Confirmable, 1, Token::default());
    let plain = block.encode().unwrap();
    assert_eq!(bed.send(peer, &block).len() - plain.len(), 18);
}

/// What is counted for the limit of bytes to an address that is not proven.
#[test]
fn no_message_grows_by_more_than_is_counted() {
    let mut bed = Bed::at((1 << 40) - 100);
    let context = "5a".repeat(32);
    let keys = entry(1, KEY) + &format!("context = \"{context}\"\n");
    write_private(&bed.path, &(keys + &entry(2, OTHER_KEY)));
    assert!(bed.store.refresh().unwrap());
    for n in [1, 2] {
        let id_context = (n == 1).then(|| vec![0x5A; 32]);
        let mut thing = Thing::with_context(n, address(n.into()), id_context);
        let datagram = thing.request(&post());
        bed.table.receive(thing.address, &datagram);
        let (peer, received) = bed.accept(&mut thing, &post());
        let added = datagram.len() - received.encode().unwrap().len();
        let overhead = bed.table.overhead(peer, Code::POST);
        assert!((overhead.received..=overhead.received + 1).contains(&added));
        let mut growth = |message: Message| {
            let added = bed.send(peer, &message).len() - message.encode().unwrap().len();
            bed.table.overhead(peer, message.code).sent - added
        };
        let mut observe = Request::get("/3311/0");
        observe.observe = Some(1);
        let token = Token::new(&[1; 8]).unwrap();
        let request = |request: Request| request.to_message(MessageType::Confirmable, 1, token);
        // Without payload the marker counts, and the first bytes of both options.
        assert_eq!(growth(request(observe)), usize::from(n == 2));
        assert!(growth(request(post())) <= 4);
        let full = Response::content(format::TEXT, b"x".to_vec());
        let full = full.to_message(MessageType::Acknowledgement, received.id, received.token);
        assert_eq!(growth(acknowledged(&received, Code::CHANGED)), 0);
        assert!(growth(full) <= 1);
        let empty = Message::empty(MessageType::Acknowledgement, received.id);
        assert_eq!(growth(empty), 0);
    }
}
