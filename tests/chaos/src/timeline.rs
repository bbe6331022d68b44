//! When the ledger had to serve, when it did, and how long it took after its leader died: pure.

use serde::Serialize;

use crate::history::History;

/// Outages that are told.
const OUTAGES_MAX: usize = 5;

/// A leader's end, or what took it from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LeaderLoss {
    pub at_us: u64,
    pub node: u64,
    pub how: Loss,
}

/// How a leader was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    Killed,
    Stopped,
    CutOff,
}

/// What happened to the nodes, in the order of time.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// From when on a majority was up and connected, or was not.
    pub majority: Vec<(u64, bool)>,
    pub losses: Vec<LeaderLoss>,
    pub ended_us: u64,
}

/// How long nobody got an acknowledgement although a majority was up and connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outage {
    pub from_us: u64,
    pub length_us: u64,
}

/// How long it took until something that was sent after a leader's loss was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Resumption {
    pub loss: LeaderLoss,
    pub after_us: u64,
}

/// Times of acknowledgements: when it was sent, when it was answered; by the answer.
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
    /// Notes whether there is a majority from now on.
    pub fn note_majority(&mut self, at_us: u64, there: bool) {
        if self.majority.last().map(|(_, last)| *last) != Some(there) {
            self.majority.push((at_us, there));
        }
    }

    /// The times in which a majority was up and connected.
    fn spells(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let ends = self.majority.iter().skip(1).map(|(at_us, _)| *at_us);
        let ends = ends.chain([self.ended_us]);
        let spells = self.majority.iter().zip(ends);
        spells
            .filter(|((_, there), _)| *there)
            .map(|((from, _), to)| (*from, to))
    }

    /// The longest times without an acknowledgement in spells with a majority, longest first.
    pub fn outages(&self, history: &History) -> Vec<Outage> {
        let times = acknowledgements(history);
        let times: Vec<u64> = times.into_iter().map(|(at, _)| at).collect();
        let mut outages = Vec::new();
        for (from, to) in self.spells() {
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

    /// For each loss of a leader with a majority left until service resumed: how long that took.
    /// Only what was sent after the loss counts: what was on its way may have been decided before.
    /// Of losses that follow each other before that, the last one counts.
    pub fn resumptions(&self, history: &History) -> Vec<Resumption> {
        let answers = acknowledgements(history);
        let of = |loss: &LeaderLoss| {
            let later = answers.partition_point(|(at, _)| *at < loss.at_us);
            let mut later = answers[later..].iter();
            let (at, _) = later.find(|(_, sent)| *sent >= loss.at_us)?;
            // A majority may be lost for the moment in which the change is made.
            let within = self
                .spells()
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
