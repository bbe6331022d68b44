//! Orders to install that a window or a busy Thing holds back.

use std::time::Duration;

use lamplighter_types::Version;
use tokio::time::Instant;

use super::super::{
    InstallLimits, SessionInput, SessionStep, SouthCommand, StepResult, ThingSession, WorkNotice,
};
use crate::coap::{Code, Response, format};
use crate::lwm2m::{agent, path};

const WANTED: Version = Version {
    major: 2,
    minor: 0,
    patch: 0,
};

/// A Thing that holds the package.
struct Holder {
    session: ThingSession,
    now: Instant,
    /// Object 5 alone, without our agent.
    foreign: bool,
    /// Value of the update lock; `None` if it has no such resource.
    busy_s: Option<i64>,
    result: u8,
    /// The answer to the order.
    answer: Code,
    orders: usize,
}

impl Holder {
    fn new(foreign: bool) -> Holder {
        let mut session = ThingSession::unpaced();
        let now = Instant::now();
        session.input(
            now,
            SessionInput::Registered {
                agent: !foreign,
                queue_mode: false,
            },
        );
        Holder {
            session,
            now,
            foreign,
            busy_s: None,
            result: 0,
            answer: Code::CHANGED,
            orders: 0,
        }
    }

    /// Orders the installation, and runs for this long. Returns the notices.
    fn install(&mut self, limits: InstallLimits, time: Duration) -> Vec<WorkNotice> {
        let command = SouthCommand::Install {
            endpoint: "lamp".to_owned(),
            deployment: "d".to_owned(),
            version: WANTED,
            limits,
        };
        let input = SessionInput::Command(command);
        let mut notices = self.session.input(self.now, input).1;
        let end = self.now + time;
        loop {
            match self.session.step(self.now) {
                SessionStep::Wait(at) if at <= end => self.now = at,
                SessionStep::Request(request) => {
                    let response = self.response(&request.path_text());
                    let result = StepResult::Response(Box::new(response));
                    notices.extend(self.session.answer(self.now, result));
                }
                SessionStep::Expired { deployment } => {
                    notices.push(WorkNotice::Expired { deployment });
                }
                SessionStep::Idle | SessionStep::Wait(_) => {
                    self.now = end;
                    return notices;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn response(&mut self, target: &str) -> Response {
        let number = |number: i64| Response::content(format::TEXT, number.to_string().into_bytes());
        match target {
            path::STATE => number(2),
            path::RESULT if self.foreign => number(self.result.into()),
            agent::UPDATE_LOCK if !self.foreign => match self.busy_s {
                Some(busy_s) => number(busy_s),
                None => Response::new(Code::NOT_FOUND),
            },
            path::UPDATE => {
                self.orders += 1;
                Response::new(self.answer)
            }
            other => panic!("{other}"),
        }
    }
}

const LOCK: InstallLimits = InstallLimits {
    open_for: None,
    asks_lock: true,
};

fn locked(busy_s: u32) -> WorkNotice {
    WorkNotice::Locked {
        deployment: "d".to_owned(),
        busy_s,
    }
}

#[test]
fn a_thing_that_is_busy_gets_no_order() {
    let mut thing = Holder::new(false);
    thing.busy_s = Some(90);
    assert_eq!(thing.install(LOCK, Duration::from_secs(60)), [locked(90)]);
    thing.busy_s = Some(i64::MAX);
    assert_eq!(
        thing.install(LOCK, Duration::from_secs(60)),
        [locked(u32::MAX)]
    );
    assert_eq!(thing.orders, 0);
    for free in [Some(0), Some(-5), None] {
        let mut thing = Holder::new(false);
        thing.busy_s = free;
        thing.install(LOCK, Duration::from_secs(60));
        assert_eq!(thing.orders, 1, "{free:?}");
    }
}

#[test]
fn the_lock_is_not_asked_for_where_it_does_not_count() {
    let mut thing = Holder::new(false);
    thing.busy_s = Some(90);
    thing.install(InstallLimits::default(), Duration::from_secs(60));
    assert_eq!(thing.orders, 1);
}

#[test]
fn a_foreign_thing_that_defers_is_busy_and_is_ordered_again() {
    let mut thing = Holder::new(true);
    thing.result = 11;
    let notices = thing.install(LOCK, Duration::from_secs(60));
    assert_eq!(notices.last(), Some(&locked(3_600)));
    assert_eq!(
        thing.orders, 1,
        "an earlier deferral is no answer to this order"
    );
}

#[test]
fn no_order_is_sent_or_repeated_after_the_window() {
    let limits = InstallLimits {
        open_for: Some(Duration::from_secs(12)),
        asks_lock: true,
    };
    let mut thing = Holder::new(false);
    // It asks to be tried again all the time.
    thing.answer = Code::UNAVAILABLE;
    let notices = thing.install(limits, Duration::from_secs(600));
    let deployment = "d".to_owned();
    assert_eq!(notices, [WorkNotice::Expired { deployment }]);
    assert!((1..=3).contains(&thing.orders), "{}", thing.orders);
    assert!(
        !thing.session.has_work(),
        "other work does not wait for a window"
    );
    let orders = thing.orders;
    thing.answer = Code::CHANGED;
    thing.install(limits, Duration::from_secs(600));
    assert_eq!(thing.orders, orders + 1, "in the next window");
}
