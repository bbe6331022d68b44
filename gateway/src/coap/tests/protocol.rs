use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::super::config::PEERS_MAX;
use super::super::message::{MessageType, Token};
use super::super::*;
use super::peer;

fn protocol() -> Protocol {
    Protocol::new(CoapConfig::default(), StdRng::seed_from_u64(1))
}

fn sent(outputs: Vec<Output>) -> Vec<Message> {
    let message = |output| match output {
        Output::Send(_, bytes) => Some(Message::decode(&bytes).unwrap()),
        _ => None,
    };
    outputs.into_iter().filter_map(message).collect()
}

fn request(id: u16) -> Vec<u8> {
    let token = Token::new(&[1]).unwrap();
    Request::get("/3/0/3")
        .to_message(MessageType::Confirmable, id, token)
        .encode()
        .unwrap()
}

#[test]
fn a_confirmable_message_is_sent_five_times_with_doubled_waits() {
    let (mut protocol, start) = (protocol(), Instant::now());
    protocol.request(start, peer(1), 7, Request::get("/a"));
    let mut times = vec![start];
    assert_eq!(sent(protocol.outputs()).len(), 1);
    loop {
        let at = protocol
            .next_deadline()
            .expect("a timer runs until the end");
        protocol.tick(at);
        let outputs = protocol.outputs();
        if let [Output::Done(7, result)] = outputs.as_slice() {
            assert_eq!(
                *result,
                Err(RequestError::NoAcknowledgement { attempts: 5 })
            );
            break;
        }
        assert_eq!(sent(outputs).len(), 1);
        times.push(at);
    }
    assert_eq!(times.len(), 5);
    let first = times[1] - times[0];
    assert!(first >= Duration::from_secs(2) && first <= Duration::from_secs(3));
    for pair in times[1..].windows(2).enumerate() {
        let (n, pair) = pair;
        assert_eq!(pair[1] - pair[0], first * 2u32.pow(n as u32 + 1));
    }
    assert_eq!(protocol.next_deadline(), None);
}

#[test]
fn requests_to_one_peer_are_sequential() {
    let (mut protocol, now) = (protocol(), Instant::now());
    for request_id in 0..3 {
        protocol.request(now, peer(1), request_id, Request::get("/a"));
    }
    protocol.request(now, peer(2), 9, Request::get("/a"));
    let messages = sent(protocol.outputs());
    assert_eq!(messages.len(), 2, "one for each peer");
    let answer = Response::new(Code::CONTENT);
    let first = &messages[0];
    let ack = answer.to_message(MessageType::Acknowledgement, first.id, first.token);
    protocol.receive(now, peer(1), &ack.encode().unwrap());
    let outputs = protocol.outputs();
    assert!(outputs.contains(&Output::Done(0, Ok(Box::new(answer)))));
    let next = sent(outputs);
    assert_eq!(next.len(), 1);
    assert_eq!(next[0].id, first.id.wrapping_add(1));
    protocol.cancel(now, peer(1), 1);
    assert_eq!(
        sent(protocol.outputs()).len(),
        1,
        "a withdrawn request gives way to the next"
    );
}

#[test]
fn an_answer_from_elsewhere_or_with_another_token_is_ignored() {
    let (mut protocol, now) = (protocol(), Instant::now());
    protocol.request(now, peer(1), 1, Request::get("/a"));
    let message = &sent(protocol.outputs())[0];
    let answer = Response::new(Code::CONTENT);
    let wrong = Token::new(b"guess").unwrap();
    let forged = answer
        .to_message(MessageType::Acknowledgement, message.id, wrong)
        .encode()
        .unwrap();
    protocol.receive(now, peer(1), &forged);
    let right = answer.to_message(MessageType::Acknowledgement, message.id, message.token);
    protocol.receive(now, peer(2), &right.encode().unwrap());
    assert_eq!(protocol.outputs(), vec![]);
    let reset = Message::empty(MessageType::Reset, message.id)
        .encode()
        .unwrap();
    protocol.receive(now, peer(1), &reset);
    assert_eq!(
        protocol.outputs(),
        vec![Output::Done(1, Err(RequestError::Reset))]
    );
}

#[test]
fn a_request_that_comes_twice_is_handled_once_and_answered_twice() {
    let (mut protocol, now) = (protocol(), Instant::now());
    protocol.receive(now, peer(1), &request(5));
    let Some(Output::Request(exchange, _)) = protocol.outputs().pop() else {
        panic!("no request")
    };
    protocol.receive(now, peer(1), &request(5));
    assert_eq!(protocol.outputs(), vec![], "still being handled");
    protocol.respond(
        now,
        exchange,
        &Response::content(format::TEXT, b"2.0.0".to_vec()),
    );
    let answer = protocol.outputs();
    protocol.receive(now, peer(1), &request(5));
    assert_eq!(protocol.outputs(), answer);
    let retransmitted_at = now + CoapConfig::default().exchange_lifetime;
    protocol.receive(retransmitted_at, peer(1), &request(5));
    assert!(
        matches!(protocol.outputs()[..], [Output::Request(..)]),
        "forgotten by now"
    );
}

#[test]
fn a_slow_response_comes_separately_and_is_repeated_until_acknowledged() {
    let (mut protocol, now) = (protocol(), Instant::now());
    protocol.receive(now, peer(1), &request(5));
    let Some(Output::Request(exchange, _)) = protocol.outputs().pop() else {
        panic!("no request")
    };
    let at = protocol.next_deadline().unwrap();
    assert_eq!(at, now + CoapConfig::default().separate_after);
    protocol.tick(at);
    let ack = sent(protocol.outputs());
    assert_eq!(
        (ack[0].message_type, ack[0].code, ack[0].id),
        (MessageType::Acknowledgement, Code::EMPTY, 5)
    );
    protocol.respond(at, exchange, &Response::new(Code::CONTENT));
    let separate = sent(protocol.outputs());
    assert_eq!(separate[0].message_type, MessageType::Confirmable);
    assert_eq!(separate[0].token.as_bytes(), &[1]);
    let again = protocol.next_deadline().unwrap();
    protocol.tick(again);
    assert_eq!(sent(protocol.outputs()), separate);
    let ack = Message::empty(MessageType::Acknowledgement, separate[0].id)
        .encode()
        .unwrap();
    protocol.receive(again, peer(1), &ack);
    assert_eq!(protocol.next_deadline(), None);
}

#[test]
fn an_unasked_response_and_a_ping_get_a_reset() {
    let (mut protocol, now) = (protocol(), Instant::now());
    let token = Token::new(b"x").unwrap();
    let response = Response::new(Code::CONTENT);
    let unasked = response
        .to_message(MessageType::Confirmable, 3, token)
        .encode()
        .unwrap();
    protocol.receive(now, peer(1), &unasked);
    let ping = Message::empty(MessageType::Confirmable, 4)
        .encode()
        .unwrap();
    protocol.receive(now, peer(1), &ping);
    protocol.receive(now, peer(1), &[0x40, 1, 0, 5, 0xFF]);
    let resets = sent(protocol.outputs());
    assert!(resets.iter().all(|m| m.message_type == MessageType::Reset));
    assert_eq!(resets.iter().map(|m| m.id).collect::<Vec<_>>(), [3, 4, 5]);
}

#[test]
fn a_flood_of_peers_is_forgotten_but_not_the_one_in_use() {
    let (mut protocol, now) = (protocol(), Instant::now());
    protocol.request(now, peer(1), 1, Request::get("/a"));
    let asked = sent(protocol.outputs()).remove(0);
    for n in 0..2 * PEERS_MAX {
        let address = ([10, 0, (n >> 8) as u8, n as u8], 5683);
        let peer = std::net::SocketAddr::from(address).into();
        protocol.receive(now, peer, &request(1));
        for output in protocol.outputs() {
            if let Output::Request(exchange, _) = output {
                protocol.respond(now, exchange, &Response::new(Code::CONTENT));
            }
        }
    }
    protocol.outputs();
    let answer = Response::new(Code::CONTENT);
    let ack = answer.to_message(MessageType::Acknowledgement, asked.id, asked.token);
    protocol.receive(now, peer(1), &ack.encode().unwrap());
    assert_eq!(
        protocol.outputs(),
        vec![Output::Done(1, Ok(Box::new(answer)))]
    );
}

/// Sends `count` requests to a peer that answers each transmission after `time`; returns the number
/// of those that were sent in vain.
fn repetitions(protocol: &mut Protocol, mut now: Instant, time: Duration, count: u64) -> usize {
    let mut sent_in_vain = 0;
    for request in 0..count {
        protocol.request(now, peer(1), request, Request::get("/5/0/3"));
        let first = sent(protocol.outputs()).remove(0);
        let answered_at = now + time;
        while let Some(at) = protocol.next_deadline().filter(|at| *at <= answered_at) {
            protocol.tick(at);
            sent_in_vain += sent(protocol.outputs()).len();
        }
        now = answered_at;
        let response = Response::new(Code::CONTENT);
        let answer = response.to_message(MessageType::Acknowledgement, first.id, first.token);
        protocol.receive(now, peer(1), &answer.encode().unwrap());
        protocol.outputs();
    }
    sent_in_vain
}

#[test]
fn a_slow_link_is_learnt_and_nothing_is_repeated_in_vain() {
    for milliseconds in [2_500, 6_000] {
        let (mut protocol, now) = (protocol(), Instant::now());
        let time = Duration::from_millis(milliseconds);
        let in_vain = repetitions(&mut protocol, now, time, 43);
        assert!(in_vain <= 3, "{in_vain} of 43 at {milliseconds} ms");
    }
}

/// A peer that was measured to be quick is asked again soon, and has 16 seconds to come back.
#[test]
fn a_quick_link_is_learnt_and_a_loss_costs_little() {
    let (mut protocol, now) = (protocol(), Instant::now());
    repetitions(&mut protocol, now, Duration::from_millis(20), 20);
    let asked = now + Duration::from_secs(100);
    protocol.request(asked, peer(1), 99, Request::get("/5/0/3"));
    let first = protocol.next_deadline().unwrap();
    let allowed = Duration::from_millis(250)..=Duration::from_millis(375);
    assert!(allowed.contains(&(first - asked)), "{:?}", first - asked);
    let mut last = first;
    while let Some(at) = protocol.next_deadline() {
        protocol.tick(at);
        last = at;
    }
    assert!(last - asked > Duration::from_secs(16), "{:?}", last - asked);
}

fn notification(token: Token, id: u16, sequence: Option<u32>, code: Code) -> Vec<u8> {
    let response = Response {
        observe: sequence,
        ..Response::new(code)
    };
    let message = response.to_message(MessageType::Confirmable, id, token);
    message.encode().unwrap()
}

/// A protocol that observes `/3311/0` of a peer, with the token of the request.
fn observing(now: Instant) -> (Protocol, Token) {
    let mut protocol = protocol();
    let observe = Request {
        observe: Some(0),
        ..Request::get("/3311/0")
    };
    protocol.request(now, peer(1), 1, observe);
    let request = sent(protocol.outputs()).remove(0);
    let response = Response {
        observe: Some(10),
        ..Response::new(Code::CONTENT)
    };
    let answer = response.to_message(MessageType::Acknowledgement, request.id, request.token);
    protocol.receive(now, peer(1), &answer.encode().unwrap());
    let outputs = protocol.outputs();
    assert!(
        matches!(
            &outputs[..],
            [Output::Notification(..), Output::Done(1, Ok(_))]
        ),
        "the present state comes first: {outputs:?}"
    );
    (protocol, request.token)
}

#[test]
fn notifications_come_in_order_until_the_peer_ends_them() {
    let now = Instant::now();
    let (mut protocol, token) = observing(now);
    let mut id = 0;
    let mut receive = |at: Instant, sequence, code| {
        id += 1;
        protocol.receive(at, peer(1), &notification(token, id, sequence, code));
        let outputs = protocol.outputs();
        let messages = outputs.iter().filter_map(|output| match output {
            Output::Send(_, bytes) => Some(Message::decode(bytes).unwrap().message_type),
            _ => None,
        });
        let types: Vec<_> = messages.collect();
        let notified = outputs.iter().any(|output| match output {
            Output::Notification(from, path, _) => {
                (*from, path.join("/")) == (peer(1), "3311/0".to_owned())
            }
            _ => false,
        });
        (types, notified)
    };
    let acknowledged = vec![MessageType::Acknowledgement];
    let mut notified = |at, sequence| {
        let (types, notified) = receive(at, Some(sequence), Code::CONTENT);
        assert_eq!(types, acknowledged);
        notified
    };
    assert!(notified(now, 11));
    assert!(!notified(now, 11), "a copy");
    assert!(!notified(now, 9), "an older one");
    assert!(
        notified(now + Duration::from_secs(129), 9),
        "the peer has started anew"
    );
    assert!(notified(now + Duration::from_secs(130), 9 + (1 << 23) - 1));
    assert!(!notified(now + Duration::from_secs(131), 8));
    // An error is the last one; what comes after it is refused, so that the peer stops.
    let ended = receive(now, None, Code::NOT_FOUND);
    assert_eq!(ended, (acknowledged.clone(), false));
    let refused = receive(now, Some(99), Code::CONTENT);
    assert_eq!(refused, (vec![MessageType::Reset], false));
}

#[test]
fn a_resource_is_observed_once_and_a_peer_has_a_limit() {
    let now = Instant::now();
    let (mut protocol, first) = observing(now);
    let observe = |protocol: &mut Protocol, number: u64, path: &str| {
        let request = Request {
            observe: Some(0),
            ..Request::get(path)
        };
        protocol.request(now, peer(1), number, request);
        let request = sent(protocol.outputs()).remove(0);
        let response = Response {
            observe: Some(1),
            ..Response::new(Code::CONTENT)
        };
        let answer = response.to_message(MessageType::Acknowledgement, request.id, request.token);
        protocol.receive(now, peer(1), &answer.encode().unwrap());
        protocol.outputs();
        request.token
    };
    let is_refused = |protocol: &mut Protocol, token: Token, id: u16| {
        protocol.receive(
            now,
            peer(1),
            &notification(token, id, Some(20), Code::CONTENT),
        );
        sent(protocol.outputs())[0].message_type == MessageType::Reset
    };
    let second = observe(&mut protocol, 2, "/3311/0");
    assert!(
        is_refused(&mut protocol, first, 100),
        "it was observed anew"
    );
    assert!(!is_refused(&mut protocol, second, 101));
    for number in 0..15u16 {
        let path = format!("/3312/{number}");
        let token = observe(&mut protocol, 10 + u64::from(number), &path);
        assert!(!is_refused(&mut protocol, token, 200 + number));
    }
    let beyond = observe(&mut protocol, 99, "/3313/0");
    assert!(is_refused(&mut protocol, beyond, 300));
}
