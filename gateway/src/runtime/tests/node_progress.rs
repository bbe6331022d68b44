use std::time::Duration;

use tokio::time::Instant;

use crate::runtime::node_progress::{
    ELSEWHERE_AFTER, HEAD_LAG_MAX, HEAD_TIMEOUT, NodeProgress, ProgressStep, RECEIPT_TIMEOUT,
};

const SECOND: Duration = Duration::from_secs(1);

fn is_left(step: ProgressStep) -> bool {
    matches!(step, ProgressStep::Leave(_))
}

#[test]
fn a_node_that_proves_no_receipt_is_left_and_a_whole_round_doubles_the_timeout() {
    let (mut progress, mut now) = (NodeProgress::new(3), Instant::now());
    let mut leave_after = |progress: &mut NodeProgress| {
        let start = now;
        progress.connected(now);
        loop {
            progress.head(1, now);
            if is_left(progress.tick(true, now)) {
                break;
            }
            now += SECOND;
        }
        now.duration_since(start)
    };
    let first: Vec<_> = (0..3).map(|_| leave_after(&mut progress)).collect();
    assert_eq!(first, [RECEIPT_TIMEOUT; 3]);
    assert_eq!(leave_after(&mut progress), 2 * RECEIPT_TIMEOUT);
    progress.receipt_proven(Instant::now());
    assert_eq!(leave_after(&mut progress), RECEIPT_TIMEOUT);
    assert_eq!(progress.connection(), 5);
    assert_eq!(progress.tick(true, now + 100 * SECOND), ProgressStep::Stay);
}

#[test]
fn refusals_are_no_progress_and_an_idle_gateway_waits_for_nothing() {
    let (mut progress, start) = (NodeProgress::new(2), Instant::now());
    let at = |seconds: u64| start + Duration::from_secs(seconds);
    progress.connected(start);
    // Each transaction is refused and signed again.
    for second in 0..8 {
        assert!(!is_left(progress.tick(second % 2 == 0, at(second))));
    }
    assert!(is_left(progress.tick(true, at(8))));
    progress.connected(at(10));
    assert_eq!(progress.tick(true, at(10)), ProgressStep::Stay);
    progress.head(1_000, at(20));
    assert_eq!(progress.tick(false, at(30)), ProgressStep::Stay);
    assert_eq!(
        progress.tick(true, at(31)),
        ProgressStep::Stay,
        "begins anew"
    );
}

#[test]
fn a_node_is_left_when_another_has_heads_and_it_has_none() {
    let (mut progress, start) = (NodeProgress::new(2), Instant::now());
    progress.connected(start);
    assert_eq!(progress.tick(false, start), ProgressStep::Stay);
    let step = progress.tick(false, start + HEAD_TIMEOUT);
    let lag_ms = HEAD_LAG_MAX.as_millis() as u64;
    assert_eq!(
        step,
        ProgressStep::AskOthers {
            newer_than_ms: lag_ms
        }
    );
    let again = progress.tick(false, start + HEAD_TIMEOUT + SECOND);
    assert_eq!(again, ProgressStep::Stay, "asked once");
    // Its head comes while the others are asked.
    progress.head(5_000, start + HEAD_TIMEOUT + SECOND);
    assert_eq!(progress.other_is_ahead(lag_ms), ProgressStep::Stay);
    assert!(is_left(progress.other_is_ahead(5_000 + lag_ms)));
}

#[test]
fn an_idle_chain_with_rare_heads_is_not_suspected() {
    let (mut progress, start) = (NodeProgress::new(2), Instant::now());
    let at = |seconds: u64| start + Duration::from_secs(seconds);
    progress.connected(start);
    progress.head(1_000, at(1));
    progress.head(61_000, at(61));
    assert_eq!(progress.tick(false, at(150)), ProgressStep::Stay);
    let step = progress.tick(false, at(181));
    assert!(matches!(step, ProgressStep::AskOthers { .. }));
    // An older head again is no progress.
    progress.head(61_000, at(182));
    let step = progress.tick(false, at(301));
    assert!(matches!(step, ProgressStep::AskOthers { .. }));
}

#[test]
fn a_node_that_is_silent_about_what_another_proves_is_left_at_once() {
    let (mut progress, start) = (NodeProgress::new(3), Instant::now());
    progress.connected(start);
    assert_eq!(progress.tick(true, start), ProgressStep::Stay);
    let at = start + ELSEWHERE_AFTER;
    assert_eq!(progress.tick(true, at - SECOND), ProgressStep::Stay);
    assert_eq!(progress.tick(true, at), ProgressStep::SendElsewhere);
    let again = progress.tick(true, at + SECOND);
    assert_eq!(again, ProgressStep::Stay, "one is sent");
    assert_eq!(progress.proven_elsewhere(7), ProgressStep::Stay);
    assert!(is_left(progress.proven_elsewhere(1)));

    // The node proves one meanwhile: it was only slow, and is waited for longer from then on.
    progress.connected(at);
    progress.tick(true, at);
    let late = at + 4 * ELSEWHERE_AFTER;
    progress.receipt_proven(late);
    assert_eq!(progress.proven_elsewhere(2), ProgressStep::Stay);
    progress.tick(true, late);
    assert_eq!(
        progress.tick(true, late + ELSEWHERE_AFTER),
        ProgressStep::Stay
    );
    let step = progress.tick(true, late + 2 * ELSEWHERE_AFTER);
    assert_eq!(step, ProgressStep::SendElsewhere);
}
