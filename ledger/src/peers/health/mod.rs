//! The faults that last: looked for every second, raised as alarms, ended when their cause ends.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use lamplighter_consensus::{Consensus, Metrics};
use lamplighter_contracts::governance;
use lamplighter_types::Protocol;
use lamplighter_types::protocol::PROTOCOL_VERSION;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::validator_discovery::ValidatorAnnouncements;
use crate::alarms::{Alarms, NodeAlarm};
use crate::chain::Chain;
use crate::clock_comparison::{ClockComparison, ClockStanding};
use crate::membership::Membership;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks between two comparisons of the clocks, while a quorum agrees.
const LOOKS_PER_COMPARISON: u32 = 3;
/// The time for the answers of a comparison.
const COMPARE_WITHIN: Duration = Duration::from_secs(2);
/// The time for which a leader may be none that this node's ledger names: a change of the
/// validators reaches Raft a little later.
const LEADER_GRACE: Duration = Duration::from_secs(5);
/// The time for which a validator may have no vote: a new one has to catch up first.
const VOTER_GRACE: Duration = Duration::from_secs(60);
/// The time in which the validators decide whose log goes, if a rule can.
const LOGS_GRACE: Duration = Duration::from_secs(10);

pub(crate) struct HealthMonitor {
    pub chain: Arc<Chain>,
    pub alarms: Arc<Alarms>,
    pub clocks: Arc<ClockComparison>,
    pub announcements: Arc<ValidatorAnnouncements>,
    pub consensus: Consensus,
}

impl HealthMonitor {
    pub async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.look_repeatedly()).await;
    }

    async fn look_repeatedly(&self) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut faults = LastingFaults::default();
        for look in 0u32.. {
            ticks.tick().await;
            let agrees = self.clocks.standing() == ClockStanding::Agrees;
            if !agrees || look.is_multiple_of(LOOKS_PER_COMPARISON) {
                self.clocks.compare(COMPARE_WITHIN, false).await;
                self.consensus.set_clock_wrong(self.clocks.differs());
            }
            self.alarms.on_certified(self.chain.certified_height());
            self.alarms.set_lasting(self.read_faults(&mut faults));
        }
    }

    fn read_faults(&self, faults: &mut LastingFaults) -> Vec<NodeAlarm> {
        let metrics = self.consensus.metrics();
        let announced = self.announcements.watch();
        let announced = announced.borrow();
        let announced = announced.iter().flat_map(|a| &a.validators.validators);
        let announced = announced.map(|v| v.node).collect();
        let now = {
            let membership = self.chain.watch_membership();
            let membership = membership.borrow();
            faults_of_votes(&metrics, &membership, &announced)
        };
        let mut alarms = faults.lasting(now, Instant::now());
        if let ClockStanding::Differs { offset_ms } = self.clocks.standing() {
            alarms.push(NodeAlarm::ClockDiffers { offset_ms });
        }
        let early = self.clocks.early().into_iter();
        alarms.extend(early.map(|(leader, ahead_ms)| NodeAlarm::EarlyBatch { leader, ahead_ms }));
        let view = self.chain.newest_view();
        match view.and_then(|(view, _)| governance::protocol(&view)) {
            Ok(protocol) => alarms.extend(newer_protocol(&protocol)),
            Err(error) => tracing::error!(error = &error as &dyn Error, "reading the protocol"),
        }
        alarms
    }
}

/// The protocol version to come, if this program does not know it.
fn newer_protocol(protocol: &Protocol) -> Option<NodeAlarm> {
    let (version, from_height) = protocol.next?;
    (version > PROTOCOL_VERSION).then_some(NodeAlarm::NewerProtocol {
        version,
        from_height,
    })
}

/// What is wrong at this moment with Raft's leader and voters, by what the ledger says. Announced
/// validators are those of a height that this node has not reached.
fn faults_of_votes(
    metrics: &Metrics,
    membership: &Membership,
    announced: &BTreeSet<u64>,
) -> Vec<NodeAlarm> {
    let Membership {
        named,
        voters,
        departing,
    } = membership;
    let all = [&named.validators.validators, &voters.validators, departing];
    let known: BTreeSet<u64> = all.into_iter().flatten().map(|v| v.node).collect();
    let stranger = |leader: &u64| !known.contains(leader) && !announced.contains(leader);
    let leader = metrics.leader.filter(stranger);
    let leader = leader.map(|leader| NodeAlarm::LeaderNoElector { leader });
    // A node that is behind does not know whether a validator was removed.
    let voteless = named.validators.validators.iter().map(|v| v.node);
    let voteless = voteless.filter(|node| !metrics.voters.contains(node));
    let voteless = voteless.map(|node| NodeAlarm::ValidatorNoVoter { node });
    let differs = metrics.differs_at;
    let differs = differs.map(|log_index| NodeAlarm::LogsDiffer { log_index });
    leader.into_iter().chain(voteless).chain(differs).collect()
}

/// The faults of the last look, and since when each is there; as many as a look finds.
#[derive(Default)]
struct LastingFaults(BTreeMap<FaultKey, Instant>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum FaultKey {
    Leader(u64),
    Voter(u64),
    Logs,
}

impl FaultKey {
    fn of(alarm: &NodeAlarm) -> Option<(Self, Duration)> {
        match alarm {
            NodeAlarm::LeaderNoElector { leader } => Some((Self::Leader(*leader), LEADER_GRACE)),
            NodeAlarm::ValidatorNoVoter { node } => Some((Self::Voter(*node), VOTER_GRACE)),
            NodeAlarm::LogsDiffer { .. } => Some((Self::Logs, LOGS_GRACE)),
            _ => None,
        }
    }
}

impl LastingFaults {
    /// Returns the faults that have lasted for their time of grace, and forgets those that ended.
    fn lasting(&mut self, faults: Vec<NodeAlarm>, now: Instant) -> Vec<NodeAlarm> {
        let before = std::mem::take(&mut self.0);
        let lasts = |alarm: &NodeAlarm| {
            let Some((key, grace)) = FaultKey::of(alarm) else {
                return true;
            };
            let since = before.get(&key).copied().unwrap_or(now);
            self.0.insert(key, since);
            now.saturating_duration_since(since) >= grace
        };
        faults.into_iter().filter(lasts).collect()
    }
}
