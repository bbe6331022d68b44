//! Orders that wait for a Thing: for one that is away, and for one that sleeps.

use std::time::Duration;

use lamplighter_types::{Hash, Version};
use tokio::time::Instant;

use super::super::{
    InstallLimits, SessionInput, SessionStep, SouthCommand, StepResult, ThingSession, Transfer,
    WorkNotice,
};
use crate::coap::{Code, Request, Response, format};
use crate::lwm2m::path;

const REGISTERED: SessionInput = SessionInput::Registered {
    agent: false,
    queue_mode: false,
};
const SLEEPER: SessionInput = SessionInput::Registered {
    agent: false,
    queue_mode: true,
};

fn transfer() -> SessionInput {
    SessionInput::Command(SouthCommand::Transfer(Transfer {
        endpoint: "lamp".to_owned(),
        deployment: "d".to_owned(),
        artifact: Hash::ZERO,
        size_bytes: 5_000,
        offer: vec![],
    }))
}

fn install() -> SessionInput {
    SessionInput::Command(SouthCommand::Install {
        endpoint: "lamp".to_owned(),
        deployment: "d".to_owned(),
        version: "2.0.0".parse::<Version>().unwrap(),
        limits: InstallLimits::default(),
    })
}

fn session() -> (ThingSession, Instant) {
    (ThingSession::unpaced(), Instant::now())
}

fn expired() -> SessionStep {
    SessionStep::Expired {
        deployment: "d".to_owned(),
    }
}

fn asks_for(step: SessionStep) -> String {
    match step {
        SessionStep::Request(request) => request.path_text(),
        other => panic!("{other:?}"),
    }
}

fn answer(session: &mut ThingSession, now: Instant, response: Response) -> Vec<WorkNotice> {
    session.answer(now, StepResult::Response(Box::new(response)))
}

fn number(value: u8) -> Response {
    Response::content(format::TEXT, value.to_string().into_bytes())
}

fn silence() -> StepResult {
    StepResult::Unreachable("silence".to_owned())
}

const AGE_MAX: Duration = Duration::from_secs(300);

#[test]
fn an_order_that_waited_too_long_is_not_carried_out() {
    for order in [transfer, install] {
        let (mut session, now) = session();
        session.input(now, order());
        let late = now + AGE_MAX;
        session.input(late, REGISTERED);
        assert_eq!(session.step(late), expired());
        assert_eq!(session.step(late), SessionStep::Idle, "it is forgotten");
        session.input(late, order());
        assert!(matches!(session.step(late), SessionStep::Request(_)));
    }
    let (mut session, now) = session();
    session.input(now, transfer());
    session.input(now, REGISTERED);
    assert_eq!(asks_for(session.step(now)), path::DELIVERY);
}

#[test]
fn an_interrupted_transfer_continues_where_it_was_once_it_is_proven_again() {
    let (mut session, now) = session();
    session.input(now, REGISTERED);
    session.input(now, transfer());
    for value in [2, 0] {
        session.step(now);
        answer(&mut session, now, number(value));
    }
    let SessionStep::Block { block, .. } = session.step(now) else {
        panic!("no block")
    };
    let accepted = Response {
        block1: Some(block),
        ..Response::new(Code::CONTINUE)
    };
    answer(&mut session, now, accepted);
    // It is away for hours, in which the rollout may have been cancelled.
    session.step(now);
    session.answer(now, silence());
    let late = now + Duration::from_secs(7_200);
    assert_eq!(session.step(late), expired());
    session.input(late, REGISTERED);
    assert_eq!(session.step(late), SessionStep::Idle);
    session.input(late, transfer());
    let SessionStep::Block { block, .. } = session.step(late) else {
        panic!("no block")
    };
    assert_eq!(block.number, 1);
}

#[test]
fn the_order_to_install_is_proven_again_where_reading_took_long() {
    let (mut session, now) = session();
    session.input(now, REGISTERED);
    session.input(now, install());
    assert_eq!(asks_for(session.step(now)), path::STATE);
    answer(&mut session, now, number(2));
    let late = now + AGE_MAX;
    answer(&mut session, late, number(0));
    assert_eq!(session.step(late), expired());
    // Cancelled meanwhile: the package is given up, since nothing has begun.
    let mut cancelled = session;
    let cancel = SouthCommand::Cancel {
        endpoint: "lamp".to_owned(),
        deployment: "d".to_owned(),
    };
    cancelled.input(late, SessionInput::Command(cancel));
    let SessionStep::Request(request) = cancelled.step(late) else {
        panic!("no request")
    };
    let reset = Request::new(Code::PUT, path::PACKAGE).with_payload(format::OCTETS, vec![]);
    assert_eq!(*request, reset);
}

#[test]
fn a_held_order_is_carried_out_after_its_next_proof() {
    let (mut session, now) = session();
    session.input(now, REGISTERED);
    session.input(now, install());
    session.step(now);
    answer(&mut session, now, number(2));
    let late = now + AGE_MAX;
    answer(&mut session, late, number(0));
    assert_eq!(session.step(late), expired());
    assert_eq!(session.step(late), SessionStep::Idle);
    session.input(late, install());
    assert_eq!(asks_for(session.step(late)), path::UPDATE);
}

#[test]
fn a_sleeper_gets_nothing_until_it_sends_something() {
    let (mut session, now) = session();
    session.input(now, SLEEPER);
    let asleep = now + Duration::from_secs(93);
    session.input(asleep, transfer());
    assert_eq!(session.step(asleep), SessionStep::Idle);
    let wakes = asleep + Duration::from_secs(60);
    assert_eq!(session.step(wakes), SessionStep::Idle);
    session.input(wakes, SessionInput::Received);
    assert_eq!(asks_for(session.step(wakes)), path::DELIVERY);
    // It answers, and listens for as long again.
    let then = wakes + Duration::from_secs(92);
    answer(&mut session, then, number(1));
    assert_eq!(asks_for(session.step(then)), path::STATE);
    assert_eq!(session.sleeps_at(), Some(then + Duration::from_secs(93)));
}

#[test]
fn a_sleeper_that_does_not_answer_is_not_asked_again_by_itself() {
    let (mut session, now) = session();
    session.input(now, SLEEPER);
    session.input(now, transfer());
    session.step(now);
    session.answer(now, silence());
    let then = now + Duration::from_secs(200);
    assert_eq!(session.step(then), SessionStep::Idle);
    session.input(then, SessionInput::Received);
    assert_eq!(asks_for(session.step(then)), path::DELIVERY);
    // One that listens always is asked again, and at once when it sends something.
    let (mut session, now) = (ThingSession::unpaced(), now);
    session.input(now, REGISTERED);
    session.input(now, transfer());
    for _ in 0..9 {
        let SessionStep::Request(_) = session.step(now) else {
            panic!("no request")
        };
        session.answer(now, silence());
        assert!(matches!(session.step(now), SessionStep::Wait(_)));
        session.input(now, SessionInput::Received);
    }
}
