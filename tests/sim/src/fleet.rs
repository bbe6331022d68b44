//! Runs many seeds, each in a process of its own: state that remains in a process (tokio counts its
//! runtimes, for instance) would change the next run, and a run that dies ends no other.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::lies::Lie;
use crate::planted::Planted;
use crate::run::Report;

/// The share of the seeds with liars, in percent, if nothing else is said.
pub const LIARS: u64 = 20;
/// Failures that are shown completely; only the seeds of more are listed.
const SHOWN_MAX: usize = 3;

/// The seeds to run.
#[derive(Clone, Debug)]
pub struct FleetPlan {
    pub first: u64,
    pub seeds: u64,
    pub jobs: usize,
    pub variant: Variant,
    pub stop_at_failure: bool,
}

/// What the runs of all seeds have in common.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    pub planted: Option<Planted>,
    /// The share of the seeds that have liars, in percent.
    pub liars: u64,
    /// All liars tell this lie alone.
    pub lie: Option<Lie>,
}

impl Default for Variant {
    fn default() -> Self {
        Self {
            planted: None,
            liars: LIARS,
            lie: None,
        }
    }
}

impl Variant {
    /// The arguments of the program.
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--liars".to_owned(), self.liars.to_string()];
        let mut add = |option: &str, value: Option<clap::builder::PossibleValue>| {
            let name = value.map(|value| value.get_name().to_owned());
            arguments.extend(name.into_iter().flat_map(|name| [option.to_owned(), name]));
        };
        add(
            "--planted",
            self.planted.and_then(|p| p.to_possible_value()),
        );
        add("--lie", self.lie.and_then(|lie| lie.to_possible_value()));
        arguments
    }

    /// The command that runs a seed again.
    pub fn replay(&self, seed: u64) -> String {
        let liars = match self.liars {
            LIARS => String::new(),
            liars => format!(" LIARS={liars}"),
        };
        let lie = self.lie.and_then(|lie| lie.to_possible_value());
        let lie = lie.map_or(String::new(), |lie| format!(" LIE={}", lie.get_name()));
        format!("make sim SEED={seed}{liars}{lie}")
    }
}

/// A seed that failed, and its output.
#[derive(Clone, Debug)]
pub struct Failure {
    pub seed: u64,
    pub output: String,
}

impl Failure {
    /// The invariant that was broken.
    pub fn invariant(&self) -> Option<&str> {
        let (_, rest) = self.output.split_once("the invariant \"")?;
        rest.split_once('"').map(|(invariant, _)| invariant)
    }
}

/// The result of all runs.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub runs: u64,
    pub took: Duration,
    /// Sums over all successful runs.
    pub counts: BTreeMap<String, u64>,
    /// Measurements of all successful runs.
    pub measured: BTreeMap<String, Vec<u64>>,
    /// Ordered by seed.
    pub failures: Vec<Failure>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failure in self.failures.iter().take(SHOWN_MAX) {
            writeln!(f, "{}", failure.output)?;
        }
        writeln!(f, "{} seeds in {:.1} s", self.runs, self.took.as_secs_f64())?;
        for (what, count) in &self.counts {
            writeln!(f, "{count:>9} {what}")?;
        }
        for (what, values) in &self.measured {
            writeln!(f, "{what}: {}", Distribution::of(values))?;
        }
        let invariants = self.failures.iter().filter_map(Failure::invariant);
        let mut by_invariant: BTreeMap<&str, u64> = BTreeMap::new();
        for invariant in invariants {
            *by_invariant.entry(invariant).or_default() += 1;
        }
        for (invariant, seeds) in by_invariant {
            writeln!(f, "{seeds:>9} seeds break: {invariant}")?;
        }
        let seeds: Vec<u64> = self.failures.iter().map(|failure| failure.seed).collect();
        if seeds.is_empty() {
            write!(f, "every invariant held")
        } else {
            write!(f, "failed seeds: {seeds:?}; replay with make sim SEED=...")
        }
    }
}

/// The spread of a measurement.
struct Distribution {
    values: usize,
    median: u64,
    p90: u64,
    p99: u64,
    highest: u64,
}

impl Distribution {
    fn of(values: &[u64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        let at = |share: usize| {
            let place = (sorted.len() * share / 100).min(sorted.len().saturating_sub(1));
            sorted.get(place).copied().unwrap_or(0)
        };
        Self {
            values: sorted.len(),
            median: at(50),
            p90: at(90),
            p99: at(99),
            highest: at(100),
        }
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            values,
            median,
            p90,
            p99,
            highest,
        } = self;
        write!(
            f,
            "median {median}, 90 % {p90}, 99 % {p99}, highest {highest} ({values} values)"
        )
    }
}

pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// A folder for the files of a run, in memory where the system has such a place.
pub fn scratch(seed: u64) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let name = format!("lamplighter-sim-{}-{seed}", std::process::id());
    if memory.is_dir() {
        memory.join(name)
    } else {
        std::env::temp_dir().join(name)
    }
}

/// The output of a successful run: its hash, then counts.
pub fn line(report: &Report) -> String {
    let mut line = format!("trace={} events={}", report.hash, report.events);
    for (what, count) in &report.counts.0 {
        line.push_str(&format!(" {}={count}", what.replace(' ', "_")));
    }
    for (what, values) in &report.measured {
        for value in values {
            line.push_str(&format!(" ~{}={value}", what.replace(' ', "_")));
        }
    }
    line
}

/// Runs one seed in a new process.
pub fn one(program: &Path, seed: u64, variant: &Variant) -> std::io::Result<Output> {
    let mut command = Command::new(program);
    command.args(["--worker", "--seed", &seed.to_string()]);
    command.args(variant.arguments());
    command.output()
}

/// Runs all seeds, even if some fail, unless the plan stops at a failure.
pub fn run(program: &Path, plan: &FleetPlan) -> Outcome {
    let began = Instant::now();
    let (next, stop) = (AtomicU64::new(plan.first), AtomicBool::new(false));
    let outcome = Mutex::new(Outcome::default());
    let end = plan.first.saturating_add(plan.seeds);
    thread::scope(|scope| {
        for _ in 0..plan.jobs.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= end {
                        return;
                    }
                    let output = one(program, seed, &plan.variant);
                    let mut outcome = outcome.lock().expect("a panic ends the run");
                    if !add(&mut outcome, seed, output) && plan.stop_at_failure {
                        stop.store(true, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    let mut outcome = outcome.into_inner().expect("a panic ends the run");
    outcome.failures.sort_by_key(|failure| failure.seed);
    outcome.took = began.elapsed();
    outcome
}

/// Adds the output of a process; returns whether it was successful.
fn add(outcome: &mut Outcome, seed: u64, output: std::io::Result<Output>) -> bool {
    outcome.runs += 1;
    let output = match output {
        Ok(output) if output.status.success() => output,
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            let output = format!("{errors}({})", output.status);
            outcome.failures.push(Failure { seed, output });
            return false;
        }
        Err(error) => {
            let output = format!("seed {seed} could not be started: {error}");
            outcome.failures.push(Failure { seed, output });
            return false;
        }
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let pairs = text
        .split_whitespace()
        .filter_map(|word| word.split_once('='));
    for (what, count) in pairs {
        let Ok(count) = count.parse::<u64>() else {
            continue;
        };
        if let Some(measured) = what.strip_prefix('~') {
            let name = measured.replace('_', " ");
            outcome.measured.entry(name).or_default().push(count);
        } else if what != "trace" {
            *outcome.counts.entry(what.replace('_', " ")).or_default() += count;
        }
    }
    true
}
