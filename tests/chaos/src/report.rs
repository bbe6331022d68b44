//! The report of a run: a table for people, JSON for programs.

use serde::Serialize;

use crate::check::{Fault, Findings};
use crate::timeline::{LossKind, Outage, Resumption};
use crate::world::Counts;

/// Longest election timeout of a node; resumptions are counted in it.
pub const ELECTION_TIMEOUT_MS: f64 = 3_000.0;

/// Statistics of the times until service resumed after leaders were lost in one way.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Resumptions {
    pub count: usize,
    pub median_ms: f64,
    pub p90_ms: f64,
    pub longest_ms: f64,
    /// The same in election timeouts of 3 s.
    pub median_timeouts: f64,
    pub longest_timeouts: f64,
    /// Resumptions that took more than two timeouts.
    pub over_two_timeouts: usize,
}

/// One part of the run.
#[derive(Clone, Debug, Serialize)]
pub struct ReportPart {
    pub name: &'static str,
    pub seconds: f64,
    pub kills: u64,
    pub acknowledged: u64,
    pub per_second: f64,
}

/// The figures of a whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub seed: u64,
    pub nodes: usize,
    pub clients: usize,
    pub lanes: usize,
    pub seconds: f64,
    pub per_second: f64,
    pub parts: Vec<ReportPart>,
    pub counts: Counts,
    pub findings: Findings,
    /// The longest outages, longest first.
    pub outages: Vec<Outage>,
    /// All resumptions, in the order of time.
    pub resumptions: Vec<Resumption>,
    pub leader_killed: Resumptions,
    pub leader_stopped: Resumptions,
    pub leader_cut_off: Resumptions,
    /// After the attacks of hostile nodes.
    pub attacked: Resumptions,
    /// Time from the last fault until every node had the same blocks, and a certificate covered
    /// them.
    pub level_after_ms: u64,
    pub certified_after_ms: u64,
    /// Unexpected answers to clients.
    pub surprises: u64,
    pub surprise_samples: Vec<String>,
    /// Corrupted records that the checker found when it was tested on this run, of those tried.
    pub corruptions_found: usize,
    pub corruptions_tried: usize,
    /// Load averages of the machine at the end: other processes affect the times.
    pub machine_load: String,
}

impl Resumptions {
    /// The statistics of losses of one kind.
    pub fn of(all: &[Resumption], how: LossKind) -> Self {
        let of_kind = all.iter().filter(|r| r.loss.how == how);
        let mut times: Vec<f64> = of_kind.map(|r| r.after_us as f64 / 1_000.0).collect();
        times.sort_by(f64::total_cmp);
        let Some(longest) = times.last().copied() else {
            return Self::default();
        };
        let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
        Self {
            count: times.len(),
            median_ms: at(0.5),
            p90_ms: at(0.9),
            longest_ms: longest,
            median_timeouts: at(0.5) / ELECTION_TIMEOUT_MS,
            longest_timeouts: longest / ELECTION_TIMEOUT_MS,
            over_two_timeouts: times
                .iter()
                .filter(|time| **time > 2.0 * ELECTION_TIMEOUT_MS)
                .count(),
        }
    }
}

impl Report {
    /// True if the run has no finding.
    pub fn is_good(&self) -> bool {
        self.findings.is_good()
            && self.counts.ended_by_themselves == 0
            && self.corruptions_found == self.corruptions_tried
    }

    /// Prints the table.
    pub fn print(&self) {
        println!("\n{:-^100}", " parts ");
        for part in &self.parts {
            println!(
                "{:14} {:7.1} s {:5} kills {:9} acknowledged {:8.1} /s",
                part.name, part.seconds, part.kills, part.acknowledged, part.per_second
            );
        }
        println!("\n{:-^100}", " what was done ");
        let partitions: u64 = self.counts.partitions.values().sum();
        row("kills", self.counts.kills);
        row("of the leader", self.counts.leader_kills);
        row("stops of the leader", self.counts.leader_stops);
        row("partitions", partitions);
        row("clocks moved", self.counts.clock_changes);
        row("clocks noticed", self.counts.clocks_noticed);
        row("attacks", self.counts.attacks.values().sum());
        println!("\n{:-^100}", " what clients saw ");
        let Findings {
            acknowledged,
            acknowledged_failed,
            refused,
            unknown,
            unknown_there,
            compared_again,
            reads,
            linearizable_reads,
            ..
        } = &self.findings;
        row("acknowledged", *acknowledged);
        row("acknowledged as failed", *acknowledged_failed);
        row("refused", *refused);
        row("unknown", *unknown);
        row("of these in the chain", *unknown_there);
        row("receipts compared again", *compared_again);
        row("reads", *reads);
        row("linearizable", *linearizable_reads);
        row("unexpected answers", self.surprises);
        self.print_findings();
        self.print_times();
    }

    fn print_findings(&self) {
        println!("\n{:-^100}", " what was wrong ");
        let of = |fault| self.findings.count(fault);
        row("lost", of(Fault::Lost));
        row("doubled", of(Fault::Doubled));
        row("changed receipts", of(Fault::Changed));
        row("stale reads", of(Fault::Stale));
        row("wrong reads", of(Fault::WrongRead));
        let listed = [Fault::Lost, Fault::Doubled, Fault::Changed, Fault::Stale];
        for (fault, tally) in &self.findings.faults {
            if !listed.contains(fault) {
                row(&format!("{fault:?}"), tally.count);
            }
            for sample in &tally.samples {
                println!("    {sample}");
            }
        }
        row(
            "nodes that ended by themselves",
            self.counts.ended_by_themselves,
        );
        for note in self.counts.notes.iter().chain(&self.surprise_samples) {
            println!("    {note}");
        }
        let (found, tried) = (self.corruptions_found, self.corruptions_tried);
        println!("spoilt records found by the checker      {found} of {tried}");
    }

    fn print_times(&self) {
        println!("\n{:-^100}", " how long ");
        println!("longest without an acknowledgement while a majority was up and connected:");
        for Outage { from_us, length_us } in &self.outages {
            let (from_s, length_s) = (*from_us as f64 / 1e6, *length_us as f64 / 1e6);
            println!("    {length_s:.2} s, from {from_s:.2} s on");
        }
        let kinds = [
            ("killed", &self.leader_killed),
            ("stopped", &self.leader_stopped),
            ("cut off", &self.leader_cut_off),
            ("attacked", &self.attacked),
        ];
        for (name, of) in kinds {
            println!(
                "leader {name:8} {:4} times, service resumed after: median {:6.0} ms, \
                 p90 {:6.0} ms, longest {:6.0} ms = {:.2} election timeouts; {} over 2",
                of.count,
                of.median_ms,
                of.p90_ms,
                of.longest_ms,
                of.longest_timeouts,
                of.over_two_timeouts
            );
        }
        println!(
            "after the last fault: all level {} ms, certified {} ms",
            self.level_after_ms, self.certified_after_ms
        );
        println!(
            "{:.1} s, {:.1} acknowledged per second, {} blocks, machine load {}, seed {}",
            self.seconds, self.per_second, self.findings.blocks, self.machine_load, self.seed
        );
    }
}

fn row(name: &str, count: u64) {
    println!("{name:34} {count:12}");
}
