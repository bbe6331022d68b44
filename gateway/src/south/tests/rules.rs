use std::time::Duration;

use tokio::time::Instant;

use super::super::{
    SessionInput, SessionStep, SouthCommand, StepResult, ThingSession, Transfer, TransferRate,
    WORK_MAX, WorkNotice,
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

fn session(agent: bool) -> ThingSession {
    let mut session = ThingSession::unpaced();
    session.input(
        Instant::now(),
        SessionInput::Registered {
            agent,
            queue_mode: false,
        },
    );
    session
}

fn expect_request(step: SessionStep) -> Request {
    match step {
        SessionStep::Request(request) => *request,
        other => panic!("expected a request, got {other:?}"),
    }
}

fn expect_block(step: SessionStep) -> Block {
    match step {
        SessionStep::Block { block, .. } => block,
        other => panic!("expected a block, got {other:?}"),
    }
}

fn respond(session: &mut ThingSession, now: Instant, response: Response) -> Vec<WorkNotice> {
    session.answer(now, StepResult::Response(Box::new(response)))
}

fn number(value: u8) -> Response {
    Response::content(format::TEXT, value.to_string().into_bytes())
}

fn block_accepted(block: Block, szx: u8) -> Response {
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
fn a_transfer_resumes_at_the_agents_position_in_its_block_size() {
    let (mut session, now) = (session(true), Instant::now());
    session.input(Instant::now(), SessionInput::Command(transfer("d")));
    assert_eq!(expect_request(session.step(now)).path_text(), agent::OFFER);
    respond(&mut session, now, Response::new(Code::CHANGED));
    assert_eq!(
        expect_request(session.step(now)).path_text(),
        agent::RECEIVED_BYTES
    );
    let held = Response::content(format::TEXT, b"2100".to_vec());
    respond(&mut session, now, held);
    let first = expect_block(session.step(now));
    assert_eq!(
        first,
        Block {
            number: 2,
            more: true,
            szx: 6
        }
    );
    respond(&mut session, now, block_accepted(first, 4));
    let second = expect_block(session.step(now));
    assert_eq!(
        second,
        Block {
            number: 12,
            more: true,
            szx: 4
        }
    );
    respond(&mut session, now, block_accepted(second, 4));
    for number in 13..=19 {
        let next = expect_block(session.step(now));
        assert_eq!((next.number, next.more), (number, number < 19));
        respond(&mut session, now, block_accepted(next, 4));
    }
    assert_eq!(expect_request(session.step(now)).path_text(), path::STATE);
    respond(&mut session, now, number(2));
    assert_eq!(expect_request(session.step(now)).path_text(), path::RESULT);
    let notices = respond(&mut session, now, number(0));
    let downloaded = WorkNotice::Stage {
        deployment: "d".to_owned(),
        stage: Stage::Downloaded,
        detail: String::new(),
    };
    assert_eq!(notices, [downloaded]);
    assert_eq!(session.step(now), SessionStep::Idle);
}

#[test]
fn requests_to_an_unreachable_thing_back_off() {
    let (mut session, mut now) = (session(true), Instant::now());
    // Each of its registrations lasts for days: the order stays in force.
    session.input(Instant::now(), SessionInput::Command(transfer("d")));
    for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
        // The order is proven again and again meanwhile.
        session.input(now, SessionInput::Command(transfer("d")));
        assert_eq!(expect_request(session.step(now)).path_text(), agent::OFFER);
        session.answer(now, StepResult::Unreachable("silence".to_owned()));
        let until = now + Duration::from_secs(wait);
        assert_eq!(session.step(now), SessionStep::Wait(until));
        now = until;
    }
    session.answer(now, StepResult::Unreachable("silence".to_owned()));
    session.input(Instant::now(), SessionInput::Lost);
    assert_eq!(
        session.step(now),
        SessionStep::Idle,
        "nobody is asked who is not there"
    );
    session.input(now, SessionInput::Command(transfer("d")));
    session.input(
        Instant::now(),
        SessionInput::Registered {
            agent: true,
            queue_mode: false,
        },
    );
    assert_eq!(expect_request(session.step(now)).path_text(), agent::OFFER);
}

#[test]
fn a_transfer_that_always_restarts_fails() {
    let (mut session, now) = (session(false), Instant::now());
    session.input(Instant::now(), SessionInput::Command(transfer("d")));
    assert_eq!(
        expect_request(session.step(now)).path_text(),
        path::DELIVERY
    );
    respond(&mut session, now, number(1));
    assert_eq!(expect_request(session.step(now)).path_text(), path::STATE);
    respond(&mut session, now, number(0));
    let mut notices = vec![];
    for _ in 0..100 {
        if matches!(session.step(now), SessionStep::Idle) {
            break;
        }
        notices.extend(respond(&mut session, now, Response::new(Code::INCOMPLETE)));
    }
    let stage = Stage::Failed(UpdateResult::ConnectionLost);
    assert!(
        matches!(&notices[..], [WorkNotice::Stage { stage: s, .. }] if *s == stage),
        "{notices:?}"
    );
}

#[test]
fn a_repeated_command_is_queued_once_and_too_many_are_refused() {
    let mut session = session(true);
    session.step(Instant::now());
    for _ in 0..3 {
        assert_eq!(
            session
                .input(Instant::now(), SessionInput::Command(transfer("d")))
                .1,
            []
        );
    }
    for n in 1..WORK_MAX {
        assert_eq!(
            session
                .input(
                    Instant::now(),
                    SessionInput::Command(transfer(&n.to_string()))
                )
                .1,
            []
        );
    }
    let notices = session
        .input(Instant::now(), SessionInput::Command(transfer("one more")))
        .1;
    assert!(
        matches!(&notices[..], [WorkNotice::Refused { deployment, .. }] if deployment == "one more")
    );
}

#[test]
fn an_offer_that_is_refused_ends_the_transfer() {
    let (mut session, now) = (session(true), Instant::now());
    session.input(Instant::now(), SessionInput::Command(transfer("d")));
    session.step(now);
    let notices = respond(
        &mut session,
        now,
        Response::error(Code::FORBIDDEN, "wrong hardware"),
    );
    let [WorkNotice::Stage { stage, detail, .. }] = &notices[..] else {
        panic!("{notices:?}")
    };
    assert_eq!(*stage, Stage::Rejected(UpdateResult::UnsupportedPackage));
    assert!(detail.contains("wrong hardware"));
    assert_eq!(session.step(now), SessionStep::Idle);
}

#[test]
fn an_artifact_that_cannot_be_read_ends_the_transfer() {
    let (mut session, now) = (session(true), Instant::now());
    session.input(Instant::now(), SessionInput::Command(transfer("d")));
    session.step(now);
    let notices = session.answer(now, StepResult::Unreadable("no such file".to_owned()));
    assert!(matches!(&notices[..], [WorkNotice::Refused { deployment, .. }] if deployment == "d"));
    assert_eq!(session.step(now), SessionStep::Idle);
}

#[test]
fn transfers_share_a_rate_after_a_burst() {
    let now = Instant::now();
    let rate = TransferRate::new(1000, now);
    assert_eq!(rate.reserve(now, 500), now);
    assert_eq!(rate.reserve(now, 500), now + Duration::from_millis(250));
    assert_eq!(rate.reserve(now, 500), now + Duration::from_millis(750));
    let after_pause = now + Duration::from_secs(10);
    assert_eq!(rate.reserve(after_pause, 1024), after_pause);
}

#[test]
fn a_burst_is_a_quarter_of_a_second_and_one_block() {
    let now = Instant::now();
    for (bytes_per_s, block) in [
        (500, 64),
        (500, 1024),
        (12_000, 16),
        (12_000, 1024),
        (1, 64),
    ] {
        let rate = TransferRate::new(bytes_per_s, now);
        let at_once = (0..10_000).take_while(|_| rate.reserve(now, block) == now);
        let bytes = at_once.count() * block;
        let allowed = bytes_per_s as usize / 4 + block;
        assert!(
            (block..=allowed).contains(&bytes),
            "{bytes} bytes at once, {allowed} allowed"
        );
    }
}

#[test]
fn a_document_is_sent_again_to_a_thing_that_is_not_ready() {
    let (mut session, mut now) = (session(true), Instant::now());
    let configure = || SouthCommand::Configure {
        endpoint: "lamp".to_owned(),
        document: b"{}".to_vec(),
    };
    session.input(Instant::now(), SessionInput::Command(configure()));
    assert_eq!(
        expect_request(session.step(now)).path_text(),
        agent::CONFIGURATION
    );
    assert_eq!(
        respond(&mut session, now, Response::new(Code::UNAVAILABLE)),
        []
    );
    let SessionStep::Wait(at) = session.step(now) else {
        panic!("no pause")
    };
    assert_eq!(
        expect_request(session.step(at)).path_text(),
        agent::CONFIGURATION
    );
    let notices = respond(&mut session, at, Response::new(Code::CHANGED));
    assert!(matches!(
        &notices[..],
        [WorkNotice::Configured { accepted: true, .. }]
    ));
    // The document is not sent for ever, since other work waits behind it.
    session.input(Instant::now(), SessionInput::Command(configure()));
    let mut tries = 0;
    loop {
        match session.step(now) {
            SessionStep::Wait(at) => now = at,
            SessionStep::Request(_) => {
                tries += 1;
                respond(&mut session, now, Response::new(Code::UNAVAILABLE));
            }
            _ => break,
        }
    }
    assert_eq!(tries, 12);
}

#[test]
fn a_command_repeated_at_a_registration_is_executed_once() {
    let (mut session, now) = (session(true), Instant::now());
    let offering = |offer: u8| match transfer("d") {
        SouthCommand::Transfer(transfer) => SouthCommand::Transfer(Transfer {
            offer: vec![offer],
            ..transfer
        }),
        other => panic!("{other:?}"),
    };
    // A repeated transfer is queued once, with the offer of the newest state.
    let document = b"{}".to_vec();
    session.input(
        Instant::now(),
        SessionInput::Command(SouthCommand::Configure {
            endpoint: "lamp".to_owned(),
            document,
        }),
    );
    session.step(now);
    for offer in [1, 2] {
        session.input(
            Instant::now(),
            SessionInput::Registered {
                agent: true,
                queue_mode: false,
            },
        );
        session.input(Instant::now(), SessionInput::Command(offering(offer)));
    }
    expect_request(session.step(now));
    respond(&mut session, now, Response::new(Code::CHANGED));
    assert_eq!(expect_request(session.step(now)).payload, [2]);
    // A transfer under way is restarted by the registration, not by the repeated command.
    session.input(
        Instant::now(),
        SessionInput::Registered {
            agent: true,
            queue_mode: false,
        },
    );
    session.input(Instant::now(), SessionInput::Command(offering(3)));
    assert_eq!(expect_request(session.step(now)).path_text(), agent::OFFER);
    respond(&mut session, now, Response::new(Code::FORBIDDEN));
    assert_eq!(session.step(now), SessionStep::Idle);
}
