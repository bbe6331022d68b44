//! Orders to Things that check them, without network.

use tokio::time::Instant;

use super::super::{
    EncodedOrder, InstallLimits, SessionConfig, SessionInput, SessionStep, SouthCommand,
    StepResult, ThingSession, Transfer, WorkNotice,
};
use crate::coap::{Code, Request, Response, format};
use crate::lwm2m::order::{CONFLICT, ORDER, TRUSTED_HEIGHT, VALIDATORS};
use crate::lwm2m::{agent, path};

const ENDPOINT: &str = "lamp";

fn transfer() -> SouthCommand {
    SouthCommand::Transfer(Transfer {
        endpoint: ENDPOINT.to_owned(),
        deployment: "r1".to_owned(),
        artifact: lamplighter_types::Hash::ZERO,
        size_bytes: 100,
        offer: vec![1, 2, 3],
    })
}

fn install() -> SouthCommand {
    SouthCommand::Install {
        endpoint: ENDPOINT.to_owned(),
        deployment: "r1".to_owned(),
        version: "2.0.0".parse().unwrap(),
        limits: InstallLimits::default(),
    }
}

fn configure() -> SouthCommand {
    SouthCommand::Configure {
        endpoint: ENDPOINT.to_owned(),
        document: b"{}".to_vec(),
    }
}

fn proven(order: SouthCommand, height: u64) -> SouthCommand {
    SouthCommand::Proven {
        order: Box::new(order),
        proof: EncodedOrder {
            height,
            bytes: vec![9; 5_000],
        },
    }
}

/// A Thing with our agent that has registered.
fn session(checks_orders: bool) -> ThingSession {
    let mut session = ThingSession::new(SessionConfig::default());
    session.set_checks_orders(checks_orders);
    let registered = SessionInput::Registered {
        agent: true,
        queue_mode: false,
    };
    session.input(Instant::now(), registered);
    session
}

fn command(session: &mut ThingSession, command: SouthCommand) -> Vec<WorkNotice> {
    session
        .input(Instant::now(), SessionInput::Command(command))
        .1
}

fn request(session: &mut ThingSession) -> Request {
    match session.step(Instant::now()) {
        SessionStep::Request(request) => *request,
        other => panic!("expected a request, got {other:?}"),
    }
}

fn respond(session: &mut ThingSession, response: Response) -> Vec<WorkNotice> {
    session.answer(Instant::now(), StepResult::Response(Box::new(response)))
}

/// Checks that the next request is the order, and answers it.
fn answer_order(session: &mut ThingSession, code: Code) -> Vec<WorkNotice> {
    let order = request(session);
    let got = (order.method, order.path_text(), order.payload.len());
    assert_eq!(got, (Code::PUT, ORDER.to_owned(), 5_000));
    respond(session, Response::new(code))
}

fn number(value: u64) -> Response {
    Response::content(format::TEXT, value.to_string().into_bytes())
}

fn outdated(deployment: &str) -> Vec<WorkNotice> {
    let deployment = deployment.to_owned();
    vec![WorkNotice::Outdated { deployment }]
}

#[tokio::test]
async fn a_thing_that_checks_orders_gets_them_with_their_proof() {
    let mut session = session(true);
    command(&mut session, proven(transfer(), 40));
    assert_eq!(answer_order(&mut session, Code::CHANGED), []);
    assert_eq!(request(&mut session).path_text(), agent::RECEIVED_BYTES);
    respond(&mut session, number(100));
    for value in [2, 0] {
        request(&mut session);
        respond(&mut session, number(value));
    }
    command(&mut session, proven(install(), 41));
    assert_eq!(request(&mut session).path_text(), path::STATE);
    respond(&mut session, number(2));
    let notices = answer_order(&mut session, Code::CHANGED);
    assert!(
        matches!(&notices[..], [WorkNotice::Stage { .. }]),
        "{notices:?}"
    );
    command(&mut session, proven(configure(), 42));
    let notices = answer_order(&mut session, Code::CHANGED);
    assert!(matches!(
        &notices[..],
        [WorkNotice::Configured { accepted: true, .. }]
    ));
    assert_eq!(session.step(Instant::now()), SessionStep::Idle);
}

#[tokio::test]
async fn a_thing_that_does_not_gets_the_bare_order() {
    let mut session = session(false);
    command(&mut session, proven(transfer(), 40));
    let offer = request(&mut session);
    assert_eq!(
        (offer.path_text().as_str(), &offer.payload[..]),
        (agent::OFFER, &[1, 2, 3][..])
    );
}

#[tokio::test]
async fn an_order_that_is_too_old_is_proven_again() {
    for (order, deployment) in [(transfer(), "r1"), (configure(), "")] {
        let mut session = session(true);
        command(&mut session, proven(order.clone(), 40));
        let notices = answer_order(&mut session, Code::PRECONDITION_FAILED);
        assert_eq!(notices, outdated(deployment));
        assert_eq!(session.step(Instant::now()), SessionStep::Idle);
        command(&mut session, proven(order, 41));
        answer_order(&mut session, Code::CHANGED);
    }
    // One that must be refused is not sent.
    let mut session = session(true);
    command(&mut session, proven(configure(), 40));
    answer_order(&mut session, Code::CHANGED);
    command(&mut session, proven(transfer(), 39));
    assert_eq!(
        session.step(Instant::now()),
        SessionStep::Ended(outdated("r1"))
    );
}

#[tokio::test]
async fn an_order_without_a_proof_is_refused_here() {
    let mut session = session(true);
    command(&mut session, transfer());
    let SessionStep::Ended(notices) = session.step(Instant::now()) else {
        panic!("nothing is sent")
    };
    assert!(matches!(&notices[..], [WorkNotice::Refused { deployment, .. }] if deployment == "r1"));
    assert_eq!(session.step(Instant::now()), SessionStep::Idle);
}

#[tokio::test]
async fn a_thing_behind_the_validators_is_led_on() {
    let mut session = session(true);
    command(&mut session, proven(transfer(), 40));
    for trusted in [7, 12] {
        assert_eq!(answer_order(&mut session, CONFLICT), []);
        assert_eq!(request(&mut session).path_text(), TRUSTED_HEIGHT);
        let needed = respond(&mut session, number(trusted));
        assert_eq!(needed, [WorkNotice::ChangesNeeded { trusted }]);
        let waits = session.step(Instant::now());
        assert!(matches!(waits, SessionStep::Wait(_)), "{waits:?}");
        let (endpoint, changes) = (ENDPOINT.to_owned(), Some(vec![4, 4]));
        command(&mut session, SouthCommand::Lead { endpoint, changes });
        let changes = request(&mut session);
        assert_eq!(
            (changes.path_text().as_str(), &changes.payload[..]),
            (VALIDATORS, &[4, 4][..])
        );
        assert_eq!(respond(&mut session, Response::new(Code::CHANGED)), []);
    }
    assert_eq!(answer_order(&mut session, Code::CHANGED), []);
    assert_eq!(request(&mut session).path_text(), agent::RECEIVED_BYTES);
}

#[tokio::test]
async fn a_thing_that_can_not_be_led_on_holds_up_nothing() {
    let ends: [fn(&mut ThingSession) -> Vec<WorkNotice>; 3] = [
        // It does not tell its validators.
        |session| respond(session, Response::new(Code::NOT_FOUND)),
        // No node has the changes.
        |session| {
            respond(session, number(7));
            let (endpoint, changes) = (ENDPOINT.to_owned(), None);
            command(session, SouthCommand::Lead { endpoint, changes })
        },
        // It does not take them.
        |session| {
            respond(session, number(7));
            let (endpoint, changes) = (ENDPOINT.to_owned(), Some(vec![4]));
            command(session, SouthCommand::Lead { endpoint, changes });
            request(session);
            respond(session, Response::new(Code::FORBIDDEN))
        },
    ];
    for end in ends {
        let mut session = session(true);
        command(&mut session, proven(transfer(), 40));
        answer_order(&mut session, CONFLICT);
        request(&mut session);
        let notices = end(&mut session);
        assert!(
            matches!(&notices[..], [WorkNotice::Refused { .. }]),
            "{notices:?}"
        );
        assert_eq!(session.step(Instant::now()), SessionStep::Idle);
    }
    // One that asks for changes for ever.
    let mut session = session(true);
    command(&mut session, proven(configure(), 40));
    let mut asked = 0;
    while answer_order(&mut session, CONFLICT).is_empty() {
        request(&mut session);
        respond(&mut session, number(asked));
        let (endpoint, changes) = (ENDPOINT.to_owned(), Some(vec![4]));
        command(&mut session, SouthCommand::Lead { endpoint, changes });
        request(&mut session);
        respond(&mut session, Response::new(Code::CHANGED));
        asked += 1;
        assert!(asked < 100);
    }
}

/// The north side never answers, or its answer is lost on the way.
#[tokio::test(start_paused = true)]
async fn changes_that_do_not_come_are_asked_for_again_and_not_for_ever() {
    let mut session = session(true);
    command(&mut session, proven(transfer(), 40));
    answer_order(&mut session, CONFLICT);
    let mut asked = 0;
    let order = loop {
        let next = request(&mut session);
        if next.path_text() == ORDER {
            break next;
        }
        assert_eq!(next.path_text(), TRUSTED_HEIGHT);
        respond(&mut session, number(7));
        let SessionStep::Wait(at) = session.step(Instant::now()) else {
            panic!("it waits without end")
        };
        tokio::time::advance(at - Instant::now()).await;
        asked += 1;
        assert!(asked < 100);
    };
    assert!(asked > 10 && order.payload.len() == 5_000, "{asked}");
    // Its refusal is the end of the order now.
    let notices = respond(&mut session, Response::new(CONFLICT));
    assert!(!notices.is_empty());
    assert_eq!(session.step(Instant::now()), SessionStep::Idle);
}
