use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lamplighter_store::MemoryKv;
use lamplighter_types::{Id, SecretKey, Validator, ValidatorSet};
use tokio::time::Instant;

use super::{
    ClockComparison, ClockMoment, ClockStanding, EARLY_COUNTS_FOR, Reading, Seen, distance,
};
use crate::clock::{Clock, SystemClock};
use crate::message::{PeerAnswer, PeerError, PeerGossip, PeerRequest, Peers};
use crate::tests::machine;

const LIMIT_MS: u64 = 30_000;
const THREE_YEARS_MS: i64 = 3 * 365 * 86_400_000;

fn set(n: u64) -> ValidatorSet {
    let validator = |node: u64| Validator {
        node,
        account: Id::new(format!("node-{node}")).unwrap(),
        key: SecretKey::from_seed([node as u8; 32]).public(),
        address: String::new(),
    };
    ValidatorSet {
        validators: (1..=n).map(validator).collect(),
    }
}

/// The standing of node 1 of `n` by these distances of the nodes from 2 on.
fn standing(n: u64, offsets: &[Option<i64>]) -> ClockStanding {
    let mut seen = Seen::default();
    for (node, offset) in (2..).zip(offsets) {
        if let Some(offset_ms) = *offset {
            seen.readings.insert(node, reading(offset_ms));
        }
    }
    seen.assess(1, &set(n), LIMIT_MS)
}

#[tokio::test]
async fn a_quorum_of_equal_clocks_agrees() {
    let near = Some(900);
    assert_eq!(standing(1, &[]), ClockStanding::Agrees);
    assert_eq!(standing(4, &[near, near, near]), ClockStanding::Agrees);
    assert_eq!(standing(4, &[near, near, None]), ClockStanding::Agrees);
    assert_eq!(standing(4, &[near, None, None]), ClockStanding::Unknown);
    assert_eq!(standing(4, &[None, None, None]), ClockStanding::Unknown);
}

/// One liar of four, or two of seven, never make an honest clock look wrong.
#[tokio::test]
async fn as_many_liars_as_are_tolerated_change_nothing() {
    for lie in [i64::MIN, -THREE_YEARS_MS, THREE_YEARS_MS, i64::MAX] {
        let (near, lie) = (Some(5), Some(lie));
        assert_eq!(standing(4, &[near, near, lie]), ClockStanding::Agrees);
        assert_eq!(standing(4, &[near, None, lie]), ClockStanding::Unknown);
        let seven = [near, near, near, near, lie, lie];
        assert_eq!(standing(7, &seven), ClockStanding::Agrees);
    }
}

#[tokio::test]
async fn a_clock_off_a_quorum_differs_by_the_median() {
    for far in [-THREE_YEARS_MS, THREE_YEARS_MS] {
        let differs = ClockStanding::Differs { offset_ms: far };
        let (near, off) = (Some(5), Some(far));
        assert_eq!(standing(4, &[off, off, off]), differs);
        assert_eq!(standing(4, &[off, off, None]), differs);
        assert_eq!(standing(4, &[off, off, near]), differs);
        assert_eq!(standing(3, &[off, off]), differs);
        assert_eq!(standing(2, &[off]), differs);
        assert_eq!(standing(7, &[off, off, off, near, near, near]), differs);
    }
}

#[test]
fn no_time_overflows() {
    assert_eq!(distance(0, u64::MAX), i64::MAX);
    assert_eq!(distance(u64::MAX, 0), i64::MIN);
    assert_eq!(distance(5, 3), -2);
}

fn reading(offset_ms: i64) -> Reading {
    Reading {
        offset_ms,
        error_ms: 1,
        at: Instant::now(),
    }
}

/// Node 1 of four, which has these distances of the others.
fn compared(offsets: &[i64]) -> Arc<ClockComparison> {
    let clocks = machine(&MemoryKv::new(), 4).clocks;
    let mut new = Seen::default();
    for (node, offset_ms) in (2..).zip(offsets) {
        new.readings.insert(node, reading(*offset_ms));
    }
    let begin = ClockMoment::new(SystemClock.now_ms());
    clocks.adopt(new, begin, &set(4));
    clocks
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_sends_a_batch_too_far_ahead_is_not_followed_for_a_while() {
    let clocks = compared(&[5, -5, 0]);
    let ahead_ms = SystemClock.now_ms() + THREE_YEARS_MS as u64;
    assert!(clocks.is_timely(SystemClock.now_ms()) && !clocks.is_timely(ahead_ms));
    clocks.record_early(2, ahead_ms, true);
    clocks.record_early(3, ahead_ms, false);
    clocks.record_early(9, u64::MAX, true);
    assert_eq!(
        [2, 3, 4].map(|node| clocks.may_lead(node)),
        [false, false, true]
    );
    let accused: Vec<u64> = clocks.early().into_iter().map(|(node, _)| node).collect();
    assert_eq!(accused, [2], "what it has in its log another may have made");
    tokio::time::advance(EARLY_COUNTS_FOR + Duration::from_millis(1)).await;
    assert_eq!([2, 3].map(|node| clocks.may_lead(node)), [true, true]);
    assert_eq!(clocks.early(), []);
}

/// It may be the one that is wrong.
#[tokio::test]
async fn a_node_with_a_wrong_clock_refuses_no_leader() {
    for offsets in [&[THREE_YEARS_MS; 3][..], &[]] {
        let clocks = compared(offsets);
        clocks.record_early(2, u64::MAX, true);
        assert!(clocks.may_lead(2) && clocks.early().is_empty());
    }
    assert!(compared(&[]).may_propose() && compared(&[5]).may_propose());
    assert!(!compared(&[THREE_YEARS_MS; 3]).may_propose());
    let one_is_off = compared(&[5, 5, THREE_YEARS_MS]);
    assert!(one_is_off.may_propose() && !one_is_off.may_lead(4));
}

/// Before the next comparison says how far.
#[tokio::test(start_paused = true)]
async fn a_jump_is_noticed_by_the_node_itself() {
    let seen = Seen {
        compared: Some(ClockMoment::new(1_000_000)),
        ..Seen::default()
    };
    tokio::time::advance(Duration::from_secs(600)).await;
    let jumped = |now_ms| seen.has_jumped(now_ms, LIMIT_MS);
    assert!(!jumped(1_600_000) && !jumped(1_607_500) && !jumped(1_592_500));
    for now_ms in [0, 1_000_000, 1_592_499, 1_607_501, u64::MAX] {
        assert!(jumped(now_ms), "{now_ms}");
    }
}

/// A clock that the test moves.
#[derive(Default)]
struct SetClock(AtomicU64);

impl Clock for SetClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Three validators with the true time. This node's clock jumps while the last one answers.
struct JumpingPeers {
    clock: Arc<SetClock>,
    jump_ms: AtomicU64,
}

#[async_trait]
impl Peers for JumpingPeers {
    async fn request(&self, node: u64, _: PeerRequest) -> Result<PeerAnswer, PeerError> {
        if node == 4 {
            let jump_ms = self.jump_ms.swap(0, Ordering::Relaxed);
            self.clock.0.fetch_add(jump_ms, Ordering::Relaxed);
        }
        Ok(PeerAnswer::Time { now_ms: 0 })
    }

    fn broadcast(&self, _: PeerGossip) {}

    fn connected(&self) -> Vec<u64> {
        vec![2, 3, 4]
    }
}

/// The answers are of the clock before. A leader that believed them would propose a batch that
/// nobody can follow.
#[tokio::test(start_paused = true)]
async fn a_jump_during_a_comparison_is_none_that_agrees() {
    let clock = Arc::new(SetClock::default());
    let peers = Arc::new(JumpingPeers {
        clock: clock.clone(),
        jump_ms: AtomicU64::new(THREE_YEARS_MS as u64),
    });
    let chain = machine(&MemoryKv::new(), 4).chain;
    let clocks = ClockComparison::new(1, LIMIT_MS, clock, chain, peers);
    let within = Duration::from_secs(1);
    clocks.compare(within, false).await;
    assert_eq!(clocks.standing(), ClockStanding::Unknown);
    assert!(!clocks.may_propose());
    clocks.compare(within, false).await;
    let offset_ms = -THREE_YEARS_MS;
    assert_eq!(clocks.standing(), ClockStanding::Differs { offset_ms });
}
