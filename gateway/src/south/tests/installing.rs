//! The meaning of a foreign Thing's state, result and version during an installation.

use std::collections::VecDeque;
use std::time::Duration;

use lamplighter_types::Version;
use tokio::time::Instant;

use super::super::install::RETURN_GRACE;
use super::super::{
    InstallLimits, SessionConfig, SessionInput, SessionStep, SouthCommand, StepResult,
    ThingSession, Transfer, WorkNotice,
};
use crate::coap::{Code, Request, Response, format};
use crate::lwm2m::{Stage, UpdateResult, path};

const WANTED: Version = Version {
    major: 2,
    minor: 0,
    patch: 0,
};

/// A simulated Thing that counts the orders to install.
struct Foreign {
    state: u8,
    result: u8,
    version: Option<&'static str>,
    package_version: Option<&'static str>,
    orders: usize,
    /// The answers to the next orders; 2.04 afterwards.
    answers: VecDeque<Option<Code>>,
    /// True if its state is "updating" at once after an order.
    begins: bool,
}

impl Foreign {
    fn holding_the_package() -> Foreign {
        Foreign {
            state: 2,
            result: 0,
            version: Some("1.0.0"),
            package_version: None,
            orders: 0,
            answers: VecDeque::new(),
            begins: false,
        }
    }

    fn set_object5(&mut self, state: u8, result: u8, version: Option<&'static str>) {
        (self.state, self.result, self.version) = (state, result, version);
    }

    /// Returns the response; `None` if it does not answer.
    fn answer(&mut self, request: &Request) -> Option<Response> {
        let text = |text: Option<&str>| match text {
            Some(text) => Response::content(format::TEXT, text.as_bytes().to_vec()),
            None => Response::new(Code::NOT_FOUND),
        };
        let number = |number: u8| text(Some(&number.to_string()));
        Some(match request.path_text().as_str() {
            path::STATE => number(self.state),
            path::RESULT => number(self.result),
            path::FIRMWARE_VERSION => text(self.version),
            path::PACKAGE_VERSION => text(self.package_version),
            path::UPDATE => {
                self.orders += 1;
                self.state = if self.begins { 3 } else { self.state };
                match self.answers.pop_front().unwrap_or(Some(Code::CHANGED))? {
                    code if code.is_success() => Response::new(code),
                    code => Response::error(code, "no way"),
                }
            }
            other => panic!("{other}"),
        })
    }
}

struct Testbed {
    session: ThingSession,
    now: Instant,
    thing: Foreign,
    notices: Vec<WorkNotice>,
}

fn testbed(thing: Foreign) -> Testbed {
    let mut session = ThingSession::unpaced();
    session.input(
        Instant::now(),
        SessionInput::Registered {
            agent: false,
            queue_mode: false,
        },
    );
    Testbed {
        session,
        now: Instant::now(),
        thing,
        notices: Vec::new(),
    }
}

impl Testbed {
    fn command(&mut self, command: SouthCommand) {
        let notices = self
            .session
            .input(self.now, SessionInput::Command(command))
            .1;
        self.notices.extend(notices);
    }

    fn install(&mut self) {
        self.command(SouthCommand::Install {
            endpoint: "lamp".to_owned(),
            deployment: "d".to_owned(),
            version: WANTED,
            limits: InstallLimits::default(),
        });
    }

    fn watch(&mut self) {
        self.command(SouthCommand::Watch {
            endpoint: "lamp".to_owned(),
            deployment: "d".to_owned(),
            version: WANTED,
        });
    }

    fn register(&mut self) {
        self.session.input(
            self.now,
            SessionInput::Registered {
                agent: false,
                queue_mode: false,
            },
        );
    }

    /// Runs the session for this time.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let answer = match self.session.step(self.now) {
                SessionStep::Idle => return self.now = end,
                SessionStep::AwaitPermit(_) => {
                    self.session.permit();
                    continue;
                }
                SessionStep::Wait(at) if at > end => return self.now = end,
                SessionStep::Wait(at) => {
                    self.now = at;
                    continue;
                }
                SessionStep::Request(request) => match self.thing.answer(&request) {
                    Some(response) => StepResult::Response(Box::new(response)),
                    None => StepResult::Unreachable("silence".to_owned()),
                },
                SessionStep::Block { .. } | SessionStep::Set { .. } => panic!("a block"),
                SessionStep::Expired { .. } => panic!("an order expired"),
                SessionStep::Ended(_) => panic!("an order ended"),
                SessionStep::JoinCast { .. } | SessionStep::AwaitCast(..) => {
                    panic!("nothing is cast here")
                }
            };
            self.notices.extend(self.session.answer(self.now, answer));
        }
    }

    fn seconds(&mut self, seconds: u64) {
        self.run(Duration::from_secs(seconds));
    }

    /// The stages reported so far, without repetitions.
    fn stages(&self) -> Vec<Stage> {
        let mut stages: Vec<Stage> = self
            .notices
            .iter()
            .filter_map(|notice| match notice {
                WorkNotice::Stage { stage, .. } => Some(*stage),
                _ => None,
            })
            .collect();
        stages.dedup();
        stages
    }
}

const DONE: [Stage; 3] = [Stage::Installing, Stage::Trial, Stage::Confirmed];

#[test]
fn an_accepted_order_is_not_repeated_when_its_answer_is_lost() {
    let mut bed = testbed(Foreign::holding_the_package());
    bed.thing.answers = [None].into();
    bed.install();
    // It boots at once, and registers with the new version before any answer came.
    bed.run(Duration::ZERO);
    assert_eq!(bed.thing.orders, 1);
    bed.thing.set_object5(0, 1, Some("2.0.0"));
    bed.register();
    bed.seconds(60);
    assert_eq!(bed.thing.orders, 1, "the order was given again");
    assert_eq!(bed.stages(), [Stage::Trial, Stage::Confirmed]);
}

#[test]
fn a_registration_between_order_and_answer_does_not_repeat_the_order() {
    let mut bed = testbed(Foreign::holding_the_package());
    bed.install();
    while bed.thing.orders == 0 {
        match bed.session.step(bed.now) {
            SessionStep::Request(request) => {
                let response = bed.thing.answer(&request).unwrap();
                if bed.thing.orders == 0 {
                    let answer = StepResult::Response(Box::new(response));
                    bed.session.answer(bed.now, answer);
                }
            }
            other => panic!("{other:?}"),
        }
    }
    bed.thing.set_object5(3, 0, Some("1.0.0"));
    bed.register();
    bed.seconds(40);
    bed.thing.set_object5(0, 1, Some("2.0.0"));
    bed.seconds(40);
    assert_eq!((bed.thing.orders, bed.stages()), (1, DONE.to_vec()));
}

#[test]
fn a_thing_that_lost_the_order_gets_it_again() {
    let mut bed = testbed(Foreign::holding_the_package());
    bed.thing.answers = [None].into();
    bed.install();
    bed.seconds(30);
    assert_eq!(bed.thing.orders, 2);
    // It accepted the second order, lost its power before it began, and still holds the package.
    bed.register();
    bed.seconds(30);
    assert_eq!(bed.thing.orders, 3);
}

#[test]
fn a_refused_order_is_repeated_a_few_times() {
    let refusal = Some(Code::METHOD_NOT_ALLOWED);
    let mut first = testbed(Foreign::holding_the_package());
    first.thing.answers = [refusal; 9].into();
    first.install();
    first.seconds(59);
    assert_eq!((first.thing.orders, first.stages()), (1, vec![]));
    // A registration shortens the pause, and does not reset the count.
    first.register();
    first.seconds(300);
    let [WorkNotice::Stage { stage, detail, .. }] = &first.notices[..] else {
        panic!("{:?}", first.notices)
    };
    assert_eq!(*stage, Stage::Failed(UpdateResult::UpdateFailed));
    assert!(detail.ends_with("refused 3 times: 4.05 no way"), "{detail}");
    assert_eq!(first.thing.orders, 3);
    assert_eq!(first.session.step(first.now), SessionStep::Idle);
    // A Thing that accepts the order in the end continues.
    let mut late = testbed(Foreign::holding_the_package());
    late.thing.answers = [refusal; 2].into();
    late.install();
    late.seconds(200);
    assert_eq!(
        (late.thing.orders, late.stages()),
        (3, vec![Stage::Installing])
    );
    // This Thing answers 4.05 because an earlier order did reach it.
    let mut second = testbed(Foreign::holding_the_package());
    second.thing.answers = [Some(Code::METHOD_NOT_ALLOWED)].into();
    second.thing.begins = true;
    second.install();
    second.seconds(10);
    assert_eq!(second.stages(), [Stage::Installing]);
}

#[test]
fn a_slow_installation_over_a_restart_of_the_gateway_is_confirmed() {
    // It names the old version while its state shows that the update is under way.
    let mut bed = testbed(Foreign {
        state: 3,
        ..Foreign::holding_the_package()
    });
    bed.watch();
    bed.seconds(35);
    assert_eq!(bed.stages(), [Stage::Installing]);
    bed.thing.set_object5(0, 1, Some("2.0.0"));
    bed.register();
    bed.seconds(10);
    assert_eq!((bed.thing.orders, bed.stages()), (0, DONE.to_vec()));
}

#[test]
fn a_version_that_cannot_be_compared_is_no_failure() {
    for version in [None, Some(""), Some("release 7"), Some("2.0")] {
        let mut bed = testbed(Foreign::holding_the_package());
        bed.install();
        bed.run(Duration::ZERO);
        bed.thing.set_object5(0, 1, version);
        bed.register();
        bed.seconds(3_000);
        assert_eq!(
            bed.stages(),
            [Stage::Installing, Stage::Trial],
            "{version:?}"
        );
        // Its version counts as soon as it can be compared.
        bed.thing.version = Some("v2.0.0+build7 ");
        bed.seconds(10);
        assert_eq!(bed.stages(), DONE);
    }
}

#[test]
fn the_version_of_the_package_counts_for_a_thing_that_names_no_other() {
    let mut bed = testbed(Foreign {
        package_version: Some("2.0.0"),
        ..Foreign::holding_the_package()
    });
    bed.install();
    bed.run(Duration::ZERO);
    bed.thing.set_object5(0, 1, None);
    bed.register();
    bed.seconds(10);
    assert_eq!(bed.stages(), DONE);
}

#[test]
fn an_old_version_without_update_after_a_boot_is_a_revert() {
    let mut bed = testbed(Foreign::holding_the_package());
    bed.install();
    bed.run(Duration::ZERO);
    bed.thing.set_object5(0, 0, Some("1.0.0"));
    bed.seconds(20);
    assert_eq!(
        bed.stages(),
        [Stage::Installing],
        "it may not have begun yet"
    );
    bed.register();
    bed.run(RETURN_GRACE - Duration::from_secs(1));
    assert_eq!(bed.stages(), [Stage::Installing], "nor its boot loader end");
    bed.seconds(10);
    assert_eq!(bed.stages(), [Stage::Installing, Stage::Reverted]);
}

#[test]
fn a_slow_boot_loader_has_time_to_finish() {
    let mut bed = testbed(Foreign::holding_the_package());
    bed.install();
    bed.run(Duration::ZERO);
    bed.thing.set_object5(0, 0, Some("1.0.0"));
    bed.register();
    bed.seconds(60);
    // It installs after all; the time counts from the instant at which it is idle again.
    bed.thing.set_object5(3, 0, Some("1.0.0"));
    bed.seconds(100);
    bed.thing.set_object5(0, 0, Some("1.0.0"));
    bed.seconds(60);
    assert_eq!(bed.stages(), [Stage::Installing]);
    bed.thing.set_object5(0, 1, Some("2.0.0"));
    bed.register();
    bed.seconds(10);
    assert_eq!(bed.stages(), DONE);
}

#[test]
fn a_success_that_still_names_the_old_version_stays_on_trial() {
    for registers in [true, false] {
        let mut bed = testbed(Foreign::holding_the_package());
        bed.install();
        bed.run(Duration::ZERO);
        bed.thing.set_object5(0, 1, Some("1.0.0"));
        if registers {
            bed.register();
        }
        bed.seconds(3_000);
        assert_eq!(bed.stages(), [Stage::Installing, Stage::Trial]);
        // Even after the timeout of an installation; the ledger's timer ends it.
        bed.seconds(1_000);
        assert_eq!(bed.stages(), [Stage::Installing, Stage::Trial]);
        assert!(matches!(
            bed.notices.last(),
            Some(WorkNotice::Refused { .. })
        ));
        bed.watch();
        bed.thing.version = Some("2.0.0");
        bed.seconds(10);
        assert_eq!(bed.stages(), DONE);
    }
}

#[test]
fn a_failure_result_ends_the_installation() {
    let put_off = Stage::Failed(UpdateResult::Deferred);
    let cancelled = Stage::Failed(UpdateResult::Cancelled);
    let failed = Stage::Failed(UpdateResult::UpdateFailed);
    for (state, result, stage) in [
        (0, 8, failed),
        (2, 8, failed),
        (0, 10, cancelled),
        (2, 11, put_off),
    ] {
        let mut bed = testbed(Foreign::holding_the_package());
        bed.install();
        bed.run(Duration::ZERO);
        bed.thing.set_object5(state, result, Some("1.0.0"));
        bed.seconds(20);
        assert_eq!(bed.stages(), [Stage::Installing, stage]);
    }
}

#[test]
fn a_package_lost_before_the_order_is_a_failure() {
    let mut bed = testbed(Foreign {
        state: 0,
        ..Foreign::holding_the_package()
    });
    bed.install();
    bed.seconds(1);
    assert_eq!(bed.stages(), [Stage::Failed(UpdateResult::UpdateFailed)]);
    assert_eq!(bed.thing.orders, 0);
}

#[test]
fn an_installation_ends_at_its_deadline() {
    let mut bed = testbed(Foreign::holding_the_package());
    bed.install();
    bed.run(Duration::ZERO);
    bed.thing.set_object5(3, 0, None);
    bed.run(SessionConfig::default().install_timeout + Duration::from_secs(600));
    let lost = Stage::Failed(UpdateResult::ConnectionLost);
    assert_eq!(bed.stages(), [Stage::Installing, lost]);
    assert_eq!(bed.session.step(bed.now), SessionStep::Idle);
}

/// A transfer to a foreign Thing that has accepted `blocks` blocks with this code.
fn transferring(size_bytes: u64, blocks: usize, code: Code) -> (ThingSession, Instant) {
    let mut session = ThingSession::unpaced();
    session.input(
        Instant::now(),
        SessionInput::Registered {
            agent: false,
            queue_mode: false,
        },
    );
    session.input(
        Instant::now(),
        SessionInput::Command(SouthCommand::Transfer(Transfer {
            endpoint: "lamp".to_owned(),
            deployment: "d".to_owned(),
            artifact: lamplighter_types::Hash::ZERO,
            size_bytes,
            offer: vec![],
        })),
    );
    let now = Instant::now();
    session.step(now);
    answer(&mut session, now, Response::new(Code::NOT_FOUND));
    session.step(now);
    answer(&mut session, now, number(0));
    for _ in 0..blocks {
        assert!(matches!(session.step(now), SessionStep::Block { .. }));
        answer(&mut session, now, Response::new(code));
    }
    (session, now)
}

fn number(number: u8) -> Response {
    Response::content(format::TEXT, number.to_string().into_bytes())
}

fn answer(session: &mut ThingSession, now: Instant, response: Response) -> Vec<WorkNotice> {
    session.answer(now, StepResult::Response(Box::new(response)))
}

#[test]
fn a_complete_package_that_the_thing_does_not_keep_is_a_failure() {
    for (state, result, wanted) in [
        (0, 0, UpdateResult::UpdateFailed),
        (0, 10, UpdateResult::Cancelled),
        (2, 11, UpdateResult::Deferred),
    ] {
        let (mut session, now) = transferring(1_500, 2, Code::CHANGED);
        session.step(now);
        answer(&mut session, now, number(state));
        session.step(now);
        let notices = answer(&mut session, now, number(result));
        let [WorkNotice::Stage { stage, detail, .. }] = &notices[..] else {
            panic!("{notices:?}")
        };
        assert_eq!(*stage, Stage::Failed(wanted));
        assert!(detail.starts_with("the Thing "), "{detail}");
    }
}

#[test]
fn a_thing_without_plain_text_is_read_in_another_format() {
    let (mut session, now) = transferring(1_500, 2, Code::CHANGED);
    let accept = |step: SessionStep| match step {
        SessionStep::Request(request) => request.accept,
        other => panic!("{other:?}"),
    };
    assert_eq!(accept(session.step(now)), Some(format::TEXT));
    answer(&mut session, now, Response::new(Code::NOT_ACCEPTABLE));
    assert_eq!(accept(session.step(now)), None);
    answer(&mut session, now, Response::new(Code::NOT_ACCEPTABLE));
    assert_eq!(accept(session.step(now)), Some(format::LWM2M_TLV));
    let state = Response::content(format::LWM2M_TLV, vec![0xC1, 3, 2]);
    answer(&mut session, now, state);
    // From now on reads use this format at once.
    assert_eq!(accept(session.step(now)), Some(format::LWM2M_TLV));
    let result = Response::content(format::LWM2M_TLV, vec![0xC1, 5, 0]);
    let notices = answer(&mut session, now, result);
    let [WorkNotice::Stage { stage, .. }] = &notices[..] else {
        panic!("{notices:?}")
    };
    assert_eq!(*stage, Stage::Downloaded);
}

#[test]
fn a_thing_that_refuses_all_formats_has_failed() {
    let (mut session, now) = transferring(1_500, 2, Code::CHANGED);
    let mut asked = 0;
    let notices = loop {
        assert!(matches!(session.step(now), SessionStep::Request(_)));
        asked += 1;
        let notices = answer(&mut session, now, Response::new(Code::NOT_ACCEPTABLE));
        if !notices.is_empty() {
            break notices;
        }
    };
    assert_eq!(asked, 5);
    let [WorkNotice::Stage { stage, .. }] = &notices[..] else {
        panic!("{notices:?}")
    };
    assert_eq!(*stage, Stage::Failed(UpdateResult::UnsupportedProtocol));
}

#[test]
fn after_a_boot_a_thing_may_refuse_the_next_block_with_any_code() {
    for code in [Code::BAD_REQUEST, Code::NOT_FOUND, Code::INCOMPLETE] {
        let (mut session, now) = transferring(3_000, 1, Code::CONTINUE);
        session.input(
            Instant::now(),
            SessionInput::Registered {
                agent: false,
                queue_mode: false,
            },
        );
        assert!(matches!(session.step(now), SessionStep::Block { block, .. } if block.number == 1));
        assert_eq!(answer(&mut session, now, Response::new(code)), []);
        session.step(now);
        answer(&mut session, now, Response::new(Code::CHANGED));
        assert!(matches!(session.step(now), SessionStep::Block { block, .. } if block.number == 0));
    }
    // The refusal of a Thing that did not boot is final.
    let (mut session, now) = transferring(3_000, 1, Code::CONTINUE);
    session.step(now);
    let notices = answer(&mut session, now, Response::new(Code::BAD_REQUEST));
    let failed = Stage::Failed(UpdateResult::UpdateFailed);
    assert!(matches!(&notices[..], [WorkNotice::Stage { stage, .. }] if *stage == failed));
}

#[test]
fn a_thing_that_lost_the_blocks_is_reset_before_they_are_sent_again() {
    let (mut session, now) = transferring(3_000, 1, Code::CONTINUE);
    session.step(now);
    answer(&mut session, now, Response::new(Code::INCOMPLETE));
    // An empty write, then one NUL byte for a Thing that takes no empty one.
    for (body, code) in [(vec![], Code::BAD_REQUEST), (vec![0], Code::CHANGED)] {
        match session.step(now) {
            SessionStep::Request(request) => {
                assert_eq!(
                    (request.path_text().as_str(), request.payload),
                    (path::PACKAGE, body)
                );
            }
            other => panic!("{other:?}"),
        }
        answer(&mut session, now, Response::new(code));
    }
    match session.step(now) {
        SessionStep::Block { block, .. } => assert_eq!(block.number, 0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_image_of_more_blocks_than_can_be_counted_fails_at_once() {
    // Blocks of 1,024 bytes count 1 GiB, those of 16 bytes 16 MiB.
    let (mut session, now) = transferring(17 << 20, 0, Code::CONTINUE);
    let SessionStep::Block { block, .. } = session.step(now) else {
        panic!("no block")
    };
    let smaller = Response {
        block1: Some(crate::coap::Block { szx: 0, ..block }),
        ..Response::new(Code::CONTINUE)
    };
    let notices = answer(&mut session, now, smaller);
    let [WorkNotice::Stage { stage, detail, .. }] = &notices[..] else {
        panic!("{notices:?}")
    };
    assert_eq!(*stage, Stage::Failed(UpdateResult::UnsupportedProtocol));
    assert!(detail.contains("1114112 blocks of 16 bytes"), "{detail}");
    assert_eq!(session.step(now), SessionStep::Idle);
}
