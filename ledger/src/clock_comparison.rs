//! This node's clock compared with those of the validators.
//!
//! Every node asks the others for their time. A node whose clock is further than the limit off so
//! many that no quorum with clocks like its own is left does not lead. One whose clock agrees with
//! a quorum does not follow a leader whose clock does not, and does not acknowledge a batch with a
//! time further ahead than the limit: without a quorum of such clocks it is never committed. As
//! many liars as a quorum tolerates change neither.
//!
//! A leader does not propose after a jump of its clock before a quorum's agree with it: a batch too
//! far ahead would stay in its own log, and nobody could follow it until another leader replaced
//! it. Where all the others are needed for that, it would be for ever.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use lamplighter_types::ValidatorSet;
use lamplighter_types::limits::BLOCK_TIME_MS_MAX;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::chain::Chain;
use crate::clock::Clock;
use crate::message::{PeerAnswer, PeerRequest, Peers};

/// The time for which a reading of another clock counts: some rounds, so that one lost answer makes
/// no difference.
const COUNTS_FOR: Duration = Duration::from_secs(15);
/// The time for which a node that proposed a batch too far ahead is not followed: some elections.
const EARLY_COUNTS_FOR: Duration = Duration::from_secs(30);

/// This node's clock among those of the validators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClockStanding {
    /// Too few answered to tell.
    #[default]
    Unknown,
    /// A quorum has clocks like this node's.
    Agrees,
    /// No quorum can have clocks like this node's.
    Differs {
        /// The median distance of those that differ, in ms; positive if they are ahead.
        offset_ms: i64,
    },
}

/// A jump of this node's clock by this part of the limit calls for a new comparison.
const JUMP_PART: u64 = 4;

/// The distance of another node's clock.
#[derive(Clone, Copy, Debug)]
struct Reading {
    /// Positive if the other is ahead.
    offset_ms: i64,
    /// Half of the time that the answer took.
    error_ms: u64,
    at: Instant,
}

impl Reading {
    /// A distance that the time of the answer explains is none.
    fn is_within(&self, limit_ms: u64) -> bool {
        self.offset_ms.unsigned_abs() <= limit_ms.saturating_add(self.error_ms)
    }
}

/// What this node has seen of the others' clocks; at most one entry for each validator.
#[derive(Default)]
struct Seen {
    readings: BTreeMap<u64, Reading>,
    /// Leaders that sent a batch too far ahead.
    early: BTreeMap<u64, EarlyLeader>,
    /// By the newest comparison.
    standing: ClockStanding,
    /// The end of the newest comparison.
    compared: Option<ClockMoment>,
    /// This node's clock has jumped since a quorum's last agreed with it.
    unconfirmed: bool,
}

/// This node's clock and the monotonic one, at one moment.
#[derive(Clone, Copy, Debug)]
struct ClockMoment {
    clock_ms: u64,
    at: Instant,
}

impl ClockMoment {
    fn new(clock_ms: u64) -> Self {
        let at = Instant::now();
        Self { clock_ms, at }
    }

    /// Returns whether this node's clock, which shows `now_ms`, moved otherwise than time does
    /// since then.
    fn has_jumped(&self, now_ms: u64, limit_ms: u64) -> bool {
        let passed_ms = u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX);
        now_ms.abs_diff(self.clock_ms.saturating_add(passed_ms)) > limit_ms / JUMP_PART
    }
}

/// A leader that sent a batch too far ahead.
#[derive(Clone, Copy, Debug)]
struct EarlyLeader {
    ahead_ms: u64,
    /// It made the batch itself, and does not only have it in its log.
    is_proposer: bool,
    at: Instant,
}

impl Seen {
    fn prune(&mut self, set: &ValidatorSet) {
        let names = |node: &u64| set.by_node(*node).is_some();
        self.readings
            .retain(|node, reading| names(node) && reading.at.elapsed() <= COUNTS_FOR);
        self.early
            .retain(|node, early| names(node) && early.at.elapsed() <= EARLY_COUNTS_FOR);
    }

    /// Returns whether this node's clock, which shows `now_ms`, moved otherwise than time does
    /// since the newest comparison.
    fn has_jumped(&self, now_ms: u64, limit_ms: u64) -> bool {
        self.compared
            .is_some_and(|then| then.has_jumped(now_ms, limit_ms))
    }

    /// Judges the clock of `node` by the readings of the others in `set`.
    fn assess(&self, node: u64, set: &ValidatorSet, limit_ms: u64) -> ClockStanding {
        let (mut equal, mut far) = (0, Vec::new());
        for validator in &set.validators {
            if validator.node == node {
                equal += 1;
            } else if let Some(reading) = self.readings.get(&validator.node) {
                if reading.is_within(limit_ms) {
                    equal += 1;
                } else {
                    far.push(reading.offset_ms);
                }
            }
        }
        let quorum = set.quorum();
        if far.len() > set.validators.len().saturating_sub(quorum) {
            far.sort_unstable();
            let offset_ms = far[far.len() / 2];
            ClockStanding::Differs { offset_ms }
        } else if equal >= quorum {
            ClockStanding::Agrees
        } else {
            ClockStanding::Unknown
        }
    }
}

/// The comparison; the module describes it.
pub(crate) struct ClockComparison {
    node: u64,
    limit_ms: u64,
    clock: Arc<dyn Clock>,
    chain: Arc<Chain>,
    peers: Arc<dyn Peers>,
    seen: Mutex<Seen>,
}

impl ClockComparison {
    pub fn new(
        node: u64,
        limit_ms: u64,
        clock: Arc<dyn Clock>,
        chain: Arc<Chain>,
        peers: Arc<dyn Peers>,
    ) -> Self {
        Self {
            node,
            limit_ms,
            clock,
            chain,
            peers,
            seen: Mutex::default(),
        }
    }

    pub fn standing(&self) -> ClockStanding {
        self.seen().standing
    }

    pub fn differs(&self) -> bool {
        matches!(self.standing(), ClockStanding::Differs { .. })
    }

    /// Returns whether this node may propose: no comparison speaks against its clock, it has not
    /// jumped since, and after a jump a quorum's clocks agree with it. A batch too far ahead that
    /// only this node has would keep it from voting for those that have none, and they can't take
    /// it.
    pub fn may_propose(&self) -> bool {
        let now_ms = self.clock.now_ms();
        let seen = self.seen();
        !matches!(seen.standing, ClockStanding::Differs { .. })
            && !seen.unconfirmed
            && !seen.has_jumped(now_ms, self.limit_ms)
            && now_ms <= BLOCK_TIME_MS_MAX
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen
            .lock()
            .expect("the lock is not poisoned: no holder panics")
    }

    fn voters(&self) -> Arc<ValidatorSet> {
        self.chain.watch_membership().borrow().voters.clone()
    }

    /// Asks the connected validators for their time, all at once, and judges this node's clock.
    /// Ends as soon as enough have answered if that is all that is wanted.
    pub async fn compare(&self, within: Duration, is_enough: bool) {
        let voters = self.voters();
        let begin = ClockMoment::new(self.clock.now_ms());
        let mut asked = JoinSet::new();
        for node in self.peers.connected() {
            if node != self.node && voters.by_node(node).is_some() {
                let (peers, clock) = (self.peers.clone(), self.clock.clone());
                asked.spawn(async move {
                    let reading = read(&*peers, &*clock, node, within).await;
                    (node, reading)
                });
            }
        }
        let mut new = Seen::default();
        while let Some(answer) = asked.join_next().await {
            if let Ok((node, Some(reading))) = answer {
                new.readings.insert(node, reading);
            }
            let standing = new.assess(self.node, &voters, self.limit_ms);
            if is_enough && standing != ClockStanding::Unknown {
                break;
            }
        }
        self.adopt(new, begin, &voters);
    }

    /// Takes the readings of a comparison. Distances from where this node's clock was before a jump
    /// say nothing, be they from earlier comparisons or from this one, which takes time too.
    fn adopt(&self, mut new: Seen, begin: ClockMoment, voters: &ValidatorSet) {
        let now_ms = self.clock.now_ms();
        let mut seen = self.seen();
        if seen.has_jumped(now_ms, self.limit_ms) {
            seen.readings.clear();
            seen.unconfirmed = true;
        }
        if begin.has_jumped(now_ms, self.limit_ms) {
            new.readings.clear();
            seen.unconfirmed = true;
        }
        seen.compared = Some(ClockMoment::new(now_ms));
        seen.readings.append(&mut new.readings);
        seen.prune(voters);
        seen.standing = seen.assess(self.node, voters, self.limit_ms);
        seen.unconfirmed &= seen.standing != ClockStanding::Agrees;
    }

    /// Returns whether a batch with this time may be acknowledged now.
    pub fn is_timely(&self, timestamp_ms: u64) -> bool {
        timestamp_ms <= self.clock.now_ms().saturating_add(self.limit_ms)
    }

    /// Notes that a leader sent a batch that is not [timely](Self::is_timely), made by itself or
    /// not. If this node's clock agrees with a quorum, no quorum can follow that leader: its own
    /// clock is wrong, or it lies, or its log has the batch of one that did.
    pub fn record_early(&self, leader: u64, timestamp_ms: u64, is_proposer: bool) {
        let ahead_ms = timestamp_ms.saturating_sub(self.clock.now_ms());
        if self.standing() != ClockStanding::Agrees || self.voters().by_node(leader).is_none() {
            return;
        }
        let at = Instant::now();
        let early = EarlyLeader {
            ahead_ms,
            is_proposer,
            at,
        };
        if self.seen().early.insert(leader, early).is_none() {
            tracing::error!(
                leader,
                ahead_ms,
                is_proposer,
                "a batch too far ahead: not followed"
            );
        }
    }

    /// Returns whether a node may lead by what is known of its clock. A node whose own clock is in
    /// doubt does not judge.
    pub fn may_lead(&self, node: u64) -> bool {
        if self.standing() != ClockStanding::Agrees {
            return true;
        }
        let seen = self.seen();
        let early = seen.early.get(&node);
        let reading = seen.readings.get(&node);
        let is_early = early.is_some_and(|early| early.at.elapsed() <= EARLY_COUNTS_FOR);
        let is_off = reading.is_some_and(|reading| {
            reading.at.elapsed() <= COUNTS_FOR && !reading.is_within(self.limit_ms)
        });
        !is_early && !is_off
    }

    /// The nodes that proposed a batch too far ahead lately, and by how many ms.
    pub fn early(&self) -> Vec<(u64, u64)> {
        let seen = self.seen();
        let accused =
            |early: &EarlyLeader| early.is_proposer && early.at.elapsed() <= EARLY_COUNTS_FOR;
        let early = seen.early.iter().filter(|(_, early)| accused(early));
        early.map(|(node, early)| (*node, early.ahead_ms)).collect()
    }
}

/// Reads the clock of another node; none if it does not answer in time.
async fn read(
    peers: &dyn Peers,
    clock: &dyn Clock,
    node: u64,
    within: Duration,
) -> Option<Reading> {
    let (asked_ms, asked_at) = (clock.now_ms(), Instant::now());
    let answer = timeout(within, peers.request(node, PeerRequest::Time)).await;
    let Ok(Ok(PeerAnswer::Time { now_ms })) = answer else {
        return None;
    };
    // The own clock may jump meanwhile; the monotonic one does not.
    let error_ms = u64::try_from(asked_at.elapsed().as_millis() / 2).unwrap_or(u64::MAX);
    Some(Reading {
        offset_ms: distance(asked_ms.saturating_add(error_ms), now_ms),
        error_ms,
        at: Instant::now(),
    })
}

/// The distance from one time to another; the ends of the range stand for everything beyond.
fn distance(from_ms: u64, to_ms: u64) -> i64 {
    let distance = i128::from(to_ms) - i128::from(from_ms);
    let beyond = if distance < 0 { i64::MIN } else { i64::MAX };
    i64::try_from(distance).unwrap_or(beyond)
}
