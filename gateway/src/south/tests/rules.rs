use std::time::Duration;

use tokio::time::Instant;

use super::super::{
    Answer, Budget, Input, Notice, Session, SessionConfig, SouthCommand, Step, Transfer, WORK_MAX,
};
use crate::coap::{Block, Code, Request, Response, format};
use crate::lwm2m::{Stage, UpdateResult, agent, path};

fn transfer(deployment: &str) -> SouthCommand {
    SouthCommand::Transfer(Transfer {
        endpoint: "lamp".to_owned(),
        deployment: deployment.to_owned(),
        artifact: lamplighter_types::Hash::ZERO,
        size_bytes: 5_000,
        offer: vec![1, 2, 3],
    })
}

fn session(agent: bool) -> Session {
    let mut session = Session::new(SessionConfig::default());
    session.input(Input::Registered { agent });
    session
}

fn asked(step: Step) -> Request {
    match step {
        Step::Ask(request) => *request,
        other => panic!("expected a request, got {other:?}"),
    }
}

fn block(step: Step) -> Block {
    match step {
        Step::Block { block, .. } => block,
        other => panic!("expected a block, got {other:?}"),
    }
}

fn respond(session: &mut Session, now: Instant, response: Response) -> Vec<Notice> {
    session.answer(now, Answer::Response(Box::new(response)))
}

fn number(value: u8) -> Response {
    Response::content(format::TEXT, value.to_string().into_bytes())
}

fn taken(block: Block, szx: u8) -> Response {
    let code = if block.more {
        Code::CONTINUE
    } else {
        Code::CHANGED
    };
    Response {
        block1: Some(Block { szx, ..block }),
        ..Response::new(code)
    }
}

#[test]
fn a_transfer_goes_on_where_the_agent_says_and_in_the_size_that_it_wants() {
    let (mut session, now) = (session(true), Instant::now());
    session.input(Input::Command(transfer("d")));
    assert_eq!(asked(session.step(now)).path_text(), agent::OFFER);
    respond(&mut session, now, Response::new(Code::CHANGED));
    assert_eq!(asked(session.step(now)).path_text(), agent::HELD);
    let held = Response::content(format::TEXT, b"2100".to_vec());
    respond(&mut session, now, held);
    let first = block(session.step(now));
    assert_eq!(
        first,
        Block {
            number: 2,
            more: true,
            szx: 6
        }
    );
    respond(&mut session, now, taken(first, 4));
    let second = block(session.step(now));
    assert_eq!(
        second,
        Block {
            number: 12,
            more: true,
            szx: 4
        }
    );
    respond(&mut session, now, taken(second, 4));
    for number in 13..=19 {
        let next = block(session.step(now));
        assert_eq!((next.number, next.more), (number, number < 19));
        respond(&mut session, now, taken(next, 4));
    }
    assert_eq!(asked(session.step(now)).path_text(), path::STATE);
    respond(&mut session, now, number(2));
    assert_eq!(asked(session.step(now)).path_text(), path::RESULT);
    let notices = respond(&mut session, now, number(0));
    let downloaded = Notice::Stage {
        deployment: "d".to_owned(),
        stage: Stage::Downloaded,
        detail: String::new(),
    };
    assert_eq!(notices, [downloaded]);
    assert_eq!(session.step(now), Step::Idle);
}

#[test]
fn an_unreachable_thing_is_asked_again_after_longer_and_longer_waits() {
    let (mut session, mut now) = (session(true), Instant::now());
    session.input(Input::Command(transfer("d")));
    for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
        assert_eq!(asked(session.step(now)).path_text(), agent::OFFER);
        session.answer(now, Answer::Unreachable("silence".to_owned()));
        let until = now + Duration::from_secs(wait);
        assert_eq!(session.step(now), Step::Wait(until));
        now = until;
    }
    session.answer(now, Answer::Unreachable("silence".to_owned()));
    session.input(Input::Lost);
    assert_eq!(
        session.step(now),
        Step::Idle,
        "nobody is asked who is not there"
    );
    session.input(Input::Registered { agent: true });
    assert_eq!(asked(session.step(now)).path_text(), agent::OFFER);
}

#[test]
fn a_thing_that_forgets_for_ever_is_given_up() {
    let (mut session, now) = (session(false), Instant::now());
    session.input(Input::Command(transfer("d")));
    assert_eq!(asked(session.step(now)).path_text(), path::STATE);
    respond(&mut session, now, number(0));
    let mut notices = vec![];
    for _ in 0..100 {
        if matches!(session.step(now), Step::Idle) {
            break;
        }
        notices.extend(respond(&mut session, now, Response::new(Code::INCOMPLETE)));
    }
    let stage = Stage::Failed(UpdateResult::ConnectionLost);
    assert!(
        matches!(&notices[..], [Notice::Stage { stage: s, .. }] if *s == stage),
        "{notices:?}"
    );
}

#[test]
fn a_command_that_is_repeated_is_taken_once_and_too_many_are_refused() {
    let mut session = session(true);
    session.step(Instant::now());
    for _ in 0..3 {
        assert_eq!(session.input(Input::Command(transfer("d"))).1, []);
    }
    for n in 1..WORK_MAX {
        assert_eq!(
            session.input(Input::Command(transfer(&n.to_string()))).1,
            []
        );
    }
    let notices = session.input(Input::Command(transfer("one more"))).1;
    assert!(
        matches!(&notices[..], [Notice::Refused { deployment, .. }] if deployment == "one more")
    );
}

#[test]
fn an_offer_that_is_refused_ends_the_transfer() {
    let (mut session, now) = (session(true), Instant::now());
    session.input(Input::Command(transfer("d")));
    session.step(now);
    let notices = respond(
        &mut session,
        now,
        Response::error(Code::FORBIDDEN, "wrong hardware"),
    );
    let [Notice::Stage { stage, detail, .. }] = &notices[..] else {
        panic!("{notices:?}")
    };
    assert_eq!(*stage, Stage::Rejected(UpdateResult::UnsupportedPackage));
    assert!(detail.contains("wrong hardware"));
    assert_eq!(session.step(now), Step::Idle);
}

#[test]
fn an_artifact_that_cannot_be_read_ends_the_transfer() {
    let (mut session, now) = (session(true), Instant::now());
    session.input(Input::Command(transfer("d")));
    session.step(now);
    let notices = session.answer(now, Answer::Unreadable("no such file".to_owned()));
    assert!(matches!(&notices[..], [Notice::Refused { deployment, .. }] if deployment == "d"));
    assert_eq!(session.step(now), Step::Idle);
}

#[test]
fn the_budget_spreads_what_is_sent() {
    let (budget, now) = (Budget::new(1000), Instant::now());
    assert_eq!(budget.reserve(now, 500), now);
    assert_eq!(budget.reserve(now, 500), now + Duration::from_millis(250));
    assert_eq!(budget.reserve(now, 500), now + Duration::from_millis(750));
    let later = now + Duration::from_secs(10);
    assert_eq!(budget.reserve(later, 500), later);
}

#[test]
fn a_document_is_given_again_to_a_thing_that_is_not_ready() {
    let (mut session, mut now) = (session(true), Instant::now());
    let configure = || SouthCommand::Configure {
        endpoint: "lamp".to_owned(),
        document: b"{}".to_vec(),
    };
    session.input(Input::Command(configure()));
    assert_eq!(asked(session.step(now)).path_text(), agent::CONFIGURATION);
    assert_eq!(
        respond(&mut session, now, Response::new(Code::UNAVAILABLE)),
        []
    );
    let Step::Wait(at) = session.step(now) else {
        panic!("no pause")
    };
    assert_eq!(asked(session.step(at)).path_text(), agent::CONFIGURATION);
    let notices = respond(&mut session, at, Response::new(Code::CHANGED));
    assert!(matches!(
        &notices[..],
        [Notice::Configured { accepted: true, .. }]
    ));
    // Not for ever: other work waits behind it.
    session.input(Input::Command(configure()));
    let mut tries = 0;
    loop {
        match session.step(now) {
            Step::Wait(at) => now = at,
            Step::Ask(_) => {
                tries += 1;
                respond(&mut session, now, Response::new(Code::UNAVAILABLE));
            }
            _ => break,
        }
    }
    assert_eq!(tries, 12);
}

#[test]
fn an_order_given_again_at_a_registration_is_not_done_twice() {
    let (mut session, now) = (session(true), Instant::now());
    let offering = |offer: u8| match transfer("d") {
        SouthCommand::Transfer(transfer) => SouthCommand::Transfer(Transfer {
            offer: vec![offer],
            ..transfer
        }),
        other => panic!("{other:?}"),
    };
    // Behind other work it waits once, with the offer of the newest state.
    let document = b"{}".to_vec();
    session.input(Input::Command(SouthCommand::Configure {
        endpoint: "lamp".to_owned(),
        document,
    }));
    session.step(now);
    for offer in [1, 2] {
        session.input(Input::Registered { agent: true });
        session.input(Input::Command(offering(offer)));
    }
    asked(session.step(now));
    respond(&mut session, now, Response::new(Code::CHANGED));
    assert_eq!(asked(session.step(now)).payload, [2]);
    // Under way it is begun again by the registration, not by the order.
    session.input(Input::Registered { agent: true });
    session.input(Input::Command(offering(3)));
    assert_eq!(asked(session.step(now)).path_text(), agent::OFFER);
    respond(&mut session, now, Response::new(Code::FORBIDDEN));
    assert_eq!(session.step(now), Step::Idle);
}
