//! The timeline of a run: the times in which the ledger had to serve, outages, and resumptions
//! after the loss of a leader; without IO.

use serde::Serialize;

use crate::history::History;

/// Outages in the report.
const OUTAGES_MAX: usize = 5;

/// The loss of a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LeaderLoss {
    pub at_us: u64,
    pub node: u64,
    pub how: LossKind,
}

/// The kind of a leader's loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    Killed,
    Stopped,
    CutOff,
    /// A hostile node attacked until now.
    Attacked,
}

/// The events of the nodes, in the order of time.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// Changes: from this time on a majority was up and connected, or not.
    pub majority: Vec<(u64, bool)>,
    pub losses: Vec<LeaderLoss>,
    pub ended_us: u64,
}

/// A time without acknowledgements although a majority was up and connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outage {
    pub from_us: u64,
    pub length_us: u64,
}

/// The time from a leader's loss until a transaction that was sent after it was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Resumption {
    pub loss: LeaderLoss,
    pub after_us: u64,
}

/// Times of acknowledged transactions: answered, sent; in the order of the answers.
fn acknowledgements(history: &History) -> Vec<(u64, u64)> {
    let answered = history
        .writes
        .iter()
        .filter_map(|write| Some((write.acknowledged()?.0, write.invoked_us)));
    let mut all: Vec<(u64, u64)> = answered.collect();
    all.sort_unstable();
    all
}

impl Timeline {
    /// Records whether there is a majority from now on.
    pub fn note_majority(&mut self, at_us: u64, there: bool) {
        if self.majority.last().map(|(_, last)| *last) != Some(there) {
            self.majority.push((at_us, there));
        }
    }

    /// The times in which a majority was up and connected.
    fn majority_spans(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let ends = self.majority.iter().skip(1).map(|(at_us, _)| *at_us);
        let ends = ends.chain([self.ended_us]);
        let majority_spans = self.majority.iter().zip(ends);
        majority_spans
            .filter(|((_, there), _)| *there)
            .map(|((from, _), to)| (*from, to))
    }

    /// The longest times without an acknowledgement while there was a majority, longest first.
    pub fn outages(&self, history: &History) -> Vec<Outage> {
        let times = acknowledgements(history);
        let times: Vec<u64> = times.into_iter().map(|(at, _)| at).collect();
        let mut outages = Vec::new();
        for (from, to) in self.majority_spans() {
            let first = times.partition_point(|at| *at < from);
            let last = times.partition_point(|at| *at < to);
            let mut since = from;
            for at in times[first..last].iter().copied().chain([to]) {
                outages.push(Outage {
                    from_us: since,
                    length_us: at.saturating_sub(since),
                });
                since = at;
            }
        }
        outages.sort_unstable_by_key(|outage| std::cmp::Reverse(outage.length_us));
        outages.truncate(OUTAGES_MAX);
        outages
    }

    /// The time until service resumed, for each loss of a leader that left a majority. Only
    /// transactions sent after the loss count: those in flight may have been decided before. Of
    /// several losses before service resumed, the last one counts.
    pub fn resumptions(&self, history: &History) -> Vec<Resumption> {
        let answers = acknowledgements(history);
        let of = |loss: &LeaderLoss| {
            let first_after = answers.partition_point(|(at, _)| *at < loss.at_us);
            let mut answers_after = answers[first_after..].iter();
            let (at, _) = answers_after.find(|(_, sent)| *sent >= loss.at_us)?;
            // The majority may be lost for the moment of the change.
            let within = self
                .majority_spans()
                .any(|(from, to)| from <= loss.at_us && *at <= to);
            let again = |next: &&LeaderLoss| next.at_us > loss.at_us && next.at_us < *at;
            let last = !self.losses.iter().any(|next| again(&next));
            (within && last).then_some(Resumption {
                loss: *loss,
                after_us: at - loss.at_us,
            })
        };
        self.losses.iter().filter_map(of).collect()
    }
}
