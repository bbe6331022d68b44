//! Deferred reports over restarts, and key rotations of which one is bad.

use std::time::Duration;

use lamplighter_contracts::Refusal;
use lamplighter_contracts::devices::DevicesError;

use super::batching::{Bench, suspended};
use super::{config, event, id, rotation};
use crate::spool::SpoolState;
use crate::submission::DeferredReports;
use crate::submission::deferral::DEFERRED_MAX;

const HOUR: Duration = Duration::from_secs(3600);

impl Bench {
    /// Begins again with what is on the disk, after some time.
    fn restart(&mut self, away: Duration) {
        self.now += away;
        self.now_ms += away.as_millis() as u64;
        let mut spool = SpoolState::default();
        for record in self.spool.records() {
            spool.apply(record).unwrap();
        }
        assert_eq!(spool, self.spool);
        self.spool = spool;
        self.deferred = DeferredReports::restore(&self.spool, self.now, self.now_ms);
    }
}

#[test]
fn a_restart_does_not_begin_the_time_of_deferred_reports_again() {
    let mut bench = Bench::new([event("a", 1), event("b", 1), event("a", 2)]);
    bench.refused.insert(id("a"), suspended("a"));
    bench.after(Duration::ZERO);
    for _ in 0..5 {
        bench.restart(HOUR);
        assert!(
            bench.deferred.is_deferred(&event("a", 3)),
            "its Thing waits"
        );
        assert!(!bench.deferred.is_deferred(&event("b", 2)));
        let tries = bench.tries;
        bench.after(Duration::ZERO);
        assert!(bench.tries > tries, "they are tried at once");
        bench.after(3 * HOUR);
    }
    assert_eq!(bench.rejected, [], "after 20 hours");
    bench.restart(DEFERRED_MAX - 20 * HOUR);
    bench.after(Duration::ZERO);
    bench.after(HOUR);
    assert_eq!(bench.rejected, [event("a", 1), event("a", 2)]);
    assert_eq!(bench.accepted, [event("b", 1)]);
}

#[test]
fn deferred_reports_keep_their_order_over_a_restart_and_none_is_lost() {
    let events = (1..=5).map(|sequence| event("a", sequence));
    let mut bench = Bench::new(events.chain([config("a", 1)]));
    bench.refused.insert(id("a"), suspended("a"));
    bench.after(Duration::ZERO);
    bench.restart(HOUR);
    bench.refused.clear();
    bench.after(Duration::ZERO);
    let (events, others): (Vec<_>, Vec<_>) = bench
        .accepted
        .iter()
        .cloned()
        .partition(|one| one.is_event());
    let expected: Vec<_> = (1..=5).map(|sequence| event("a", sequence)).collect();
    assert_eq!((events, others), (expected, vec![config("a", 1)]));
    assert!(!bench.deferred.is_deferred(&event("a", 6)));
    assert_eq!(bench.spool.reports().count(), 0);
    // The next refusal begins a time of its own.
    super::add(&mut bench.spool, event("a", 6));
    bench.refused.insert(id("a"), suspended("a"));
    bench.after(DEFERRED_MAX - HOUR);
    bench.restart(2 * HOUR);
    bench.after(Duration::ZERO);
    assert_eq!(bench.rejected, []);
}

/// The ledger takes all key rotations of a transaction or none.
#[test]
fn a_bad_key_rotation_costs_no_other_message_a_try() {
    let mut bench = Bench::new([
        rotation("a", 1),
        rotation("b", 1),
        config("c", 1),
        rotation("d", 1),
    ]);
    let wrong = Refusal::of(DevicesError::UnknownDevice(id("b")));
    bench.refused.insert(id("b"), wrong);
    bench.after(Duration::ZERO);
    assert_eq!(bench.rejected, [rotation("b", 1)]);
    assert_eq!(bench.accepted.len(), 3);
    assert_eq!(bench.tries, 4, "each of them once");
}
