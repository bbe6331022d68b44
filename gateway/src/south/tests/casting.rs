//! The members of a cast, and when it begins; Things that take casts are tested in the devnet.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lamplighter_types::Hash;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::casting::{CastSettings, CastSocket, CastSubject, CastTurn, Casts, Membership};
use super::super::pacing::Pacing;
use super::super::{
    PacingConfig, SessionConfig, SessionInput, SessionStep, SouthCommand, SouthConfig, StepResult,
    ThingSession, Transfer, TransferRate,
};
use crate::cast::{self, BlockMap};
use crate::coap::simulated::{Faults, SimulatedNetwork};
use crate::coap::{Code, Response, format};

const IMAGE: &[u8] = &[0x5A; 6_400];

struct Testbed {
    casts: Casts,
    pacing: Arc<Pacing>,
    network: SimulatedNetwork,
    _artifacts: tempfile::TempDir,
}

fn subject(is_secured: bool) -> CastSubject {
    CastSubject {
        artifact: Hash::of(IMAGE),
        size_bytes: IMAGE.len() as u64,
        szx: 2,
        is_secured,
    }
}

/// A mesh in which the Thing `b` is behind the router `a`.
fn testbed(transfers_max: usize) -> Testbed {
    let network = SimulatedNetwork::new(1, Faults::NONE);
    let artifacts = tempfile::tempdir().unwrap();
    std::fs::write(artifacts.path().join(Hash::of(IMAGE).to_string()), IMAGE).unwrap();
    let pacing = Pacing::new(PacingConfig {
        transfers_max,
        parents: BTreeMap::from([("b".to_owned(), "a".to_owned())]),
    });
    let at: SocketAddr = ([10, 0, 1, 1], 5690).into();
    let settings = CastSettings {
        address: ([239, 255, 77, 80], 5690).into(),
        rate_bytes_per_s: 4_000,
        gather: Duration::from_secs(30),
        socket: CastSocket(network.attach(at)),
    };
    let rate = Arc::new(TransferRate::new(12_000, Instant::now()));
    let config = SouthConfig {
        casts: Some(settings),
        artifacts: artifacts.path().to_owned(),
        ..SouthConfig::default()
    };
    Testbed {
        casts: Casts::new(&config, (&rate, &pacing), CancellationToken::new()),
        pacing,
        network,
        _artifacts: artifacts,
    }
}

/// Follows a Thing that has all blocks after so many rounds, until the cast is over.
async fn follow(mut member: Membership, mut rounds: usize) -> (Vec<u8>, bool) {
    let mut invitation = Vec::new();
    loop {
        match member.turn().await {
            CastTurn::Invite(bytes) => invitation = bytes.to_vec(),
            CastTurn::Ask => rounds -= 1,
            CastTurn::Over { is_fresh } => return (invitation, is_fresh),
        }
        let mut map = BlockMap::new(100).unwrap();
        (0..100).filter(|_| rounds == 0).for_each(|number| {
            map.hold(number);
        });
        member.report(map);
    }
}

#[tokio::test(start_paused = true)]
async fn a_router_and_those_behind_it_are_in_no_cast_together() {
    let testbed = testbed(16);
    let join = |name: &str| testbed.casts.join(name, subject(true), true);
    let router = join("a").unwrap();
    assert!(join("b").is_none(), "it is behind a");
    assert!(join("a").is_none(), "it is a member");
    let _other = join("c").unwrap();
    drop(router);
    assert!(join("b").is_some(), "the router has left");
}

/// A neighbour hears how Things without sessions are invited.
#[tokio::test(start_paused = true)]
async fn things_with_sessions_share_no_key_with_those_without() {
    let testbed = testbed(16);
    let join = |name: &str, secured| testbed.casts.join(name, subject(secured), true).unwrap();
    let (a, c) = (join("a", true), join("c", true));
    let (d, e) = (join("d", false), join("e", false));
    let (a, c, d, e) = tokio::join!(follow(a, 1), follow(c, 1), follow(d, 1), follow(e, 1));
    assert!(a.0 == c.0 && d.0 == e.0 && a.0 != d.0);
    assert!(a.1 && d.1, "they were asked at the end");
}

#[tokio::test(start_paused = true)]
async fn a_cast_has_its_place_among_the_transfers() {
    let testbed = testbed(1);
    let permit = testbed.pacing.request(vec!["x".to_owned()]).await.unwrap();
    let join = |name: &str| testbed.casts.join(name, subject(true), true).unwrap();
    let members = [follow(join("c"), 9), follow(join("d"), 9)].map(tokio::spawn);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(testbed.network.sent(), 0);
    let mut next = testbed.pacing.request(vec!["y".to_owned()]);
    drop(permit);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(testbed.network.sent() > 0 && next.try_recv().is_err());
    for member in members {
        member.await.unwrap();
    }
    // Nobody ever had a block: four rounds of 100.
    assert_eq!(testbed.network.sent(), 400);
    assert!(next.try_recv().is_ok(), "it is over");
}

/// One that never answers costs the others half a minute a round.
#[tokio::test(start_paused = true)]
async fn a_member_that_does_not_answer_is_not_waited_for_for_long() {
    let testbed = testbed(16);
    let join = |name: &str| testbed.casts.join(name, subject(true), true).unwrap();
    let _silent = join("x");
    let both = async { tokio::join!(follow(join("c"), 1), follow(join("d"), 1)) };
    // It gathers, waits for the invitations' answers, sends 100 blocks, and waits again.
    let most = Duration::from_secs(30 + 30 + 3 + 30 + 1);
    let ended = tokio::time::timeout(most, both).await;
    let (_, (_, is_fresh)) = ended.expect("it ends");
    assert!(is_fresh);
}

#[tokio::test(start_paused = true)]
async fn casts_are_few_and_end_with_their_members() {
    let testbed = testbed(16);
    let of = |szx: u8, may_open: bool| {
        let subject = CastSubject {
            szx: szx % 7,
            is_secured: szx < 7,
            ..subject(true)
        };
        testbed.casts.join("a", subject, may_open)
    };
    assert!(of(0, false).is_none(), "there is none to join");
    let members: Vec<_> = (0..8).map(|szx| of(szx, true).unwrap()).collect();
    assert!(of(8, true).is_none(), "there are as many as there may be");
    for mut member in members {
        while !matches!(member.turn().await, CastTurn::Over { is_fresh: false }) {}
    }
    assert_eq!(testbed.network.sent(), 0, "nobody is alone in a cast");
    assert!(of(8, true).is_some());
}

/// Answers the questions before a transfer; true if the Thing joins a cast then.
fn joins(queue_mode: bool, takes_casts: bool, size_bytes: u64) -> bool {
    let mut session = ThingSession::new(SessionConfig::default());
    let now = Instant::now();
    session.set_takes_casts(takes_casts);
    let agent = true;
    session.input(now, SessionInput::Registered { agent, queue_mode });
    let transfer = Transfer {
        endpoint: "a".to_owned(),
        deployment: "d".to_owned(),
        artifact: Hash::of(IMAGE),
        size_bytes,
        offer: vec![],
    };
    session.input(now, SessionInput::Command(SouthCommand::Transfer(transfer)));
    loop {
        let response = match session.step(now) {
            SessionStep::Request(request) if request.method == Code::GET => {
                Response::content(format::TEXT, b"0".to_vec())
            }
            SessionStep::Request(_) => Response::new(Code::CHANGED),
            SessionStep::JoinCast { may_open, .. } => {
                assert!(may_open);
                return true;
            }
            SessionStep::AwaitPermit(_) => return false,
            other => panic!("{other:?}"),
        };
        session.answer(now, StepResult::Response(Box::new(response)));
    }
}

#[test]
fn a_thing_that_sleeps_or_a_long_image_is_in_no_cast() {
    assert!(joins(false, true, cast::IMAGE_BYTES_MAX));
    assert!(
        !joins(true, true, cast::IMAGE_BYTES_MAX),
        "it would miss most of it"
    );
    assert!(!joins(false, false, cast::IMAGE_BYTES_MAX));
    assert!(!joins(false, true, cast::IMAGE_BYTES_MAX + 1));
}
