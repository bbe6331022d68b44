//! The program of `make chaos`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use lamplighter_chaos::{ChaosOptions, FaultKind, run};
use lamplighter_devnet::hostile::{ATTACKS, Attack};
use lamplighter_system::error_chain;

/// Kills, stops and partitions real nodes while clients write and read, and checks their histories.
#[derive(Debug, Parser)]
#[command(name = "chaos")]
struct Arguments {
    /// Runs until 1,000 kills and 1,000,000 acknowledged transactions, about an hour.
    #[arg(long)]
    full: bool,
    /// Least number of kills instead.
    #[arg(long)]
    kills: Option<u64>,
    /// Least number of acknowledged transactions instead.
    #[arg(long)]
    acknowledged: Option<u64>,
    /// Minutes after which no new round begins.
    #[arg(long, default_value_t = 180)]
    minutes: u64,
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// Transactions that each client has in flight.
    #[arg(long)]
    lanes: Option<usize>,
    /// Seed of all schedules and of the clients; chosen and printed if it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Attacks of hostile nodes instead: an observer, and one of four validators.
    #[arg(long)]
    hostile: bool,
    /// Only this one of their attacks.
    #[arg(long, requires = "hostile")]
    attack: Option<Attack>,
    /// The program `lamplighter`; the one beside this program if it is not given.
    #[arg(long)]
    program: Option<PathBuf>,
    /// An empty folder for stores and logs, which stay; a temporary one if it is not given.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Path of the JSON report.
    #[arg(long)]
    report: Option<PathBuf>,
}

/// One round of the long run: mostly kills, and each other fault alone and with all others.
const FULL: [(FaultKind, u64); 5] = [
    (FaultKind::Kills, 240),
    (FaultKind::LeaderStops, 15),
    (FaultKind::Partitions, 30),
    (FaultKind::Clocks, 15),
    (FaultKind::Everything, 60),
];
/// The seconds of each attack.
const HOSTILE_SECONDS: u64 = 12;
const SHORT: [(FaultKind, u64); 6] = [
    (FaultKind::Calm, 10),
    (FaultKind::Kills, 90),
    (FaultKind::LeaderStops, 40),
    (FaultKind::Partitions, 80),
    (FaultKind::Clocks, 40),
    (FaultKind::Everything, 40),
];

fn options(arguments: &Arguments) -> ChaosOptions {
    let full = arguments.full;
    let hostile: Vec<(FaultKind, u64)> = ATTACKS
        .into_iter()
        .filter(|attack| arguments.attack.is_none_or(|only| only == *attack))
        .map(|attack| (FaultKind::Hostile(attack), HOSTILE_SECONDS))
        .collect();
    let parts: &[(FaultKind, u64)] = match (arguments.hostile, full) {
        (true, _) => &hostile,
        (false, true) => &FULL,
        (false, false) => &SHORT,
    };
    let goal = |chosen: Option<u64>, of_full: u64| chosen.unwrap_or(if full { of_full } else { 0 });
    let beside = |name: &str| {
        let this = std::env::current_exe().expect("a running program has a path");
        this.with_file_name(name)
    };
    let program = || beside("lamplighter");
    ChaosOptions {
        // The fourth validator is a hostile one.
        nodes: if arguments.hostile { 3 } else { 4 },
        clients: arguments.clients,
        lanes: arguments.lanes.unwrap_or(if full { 16 } else { 8 }),
        seed: arguments.seed.unwrap_or_else(rand::random),
        parts: parts
            .iter()
            .map(|(kind, seconds)| (*kind, Duration::from_secs(*seconds)))
            .collect(),
        kills: goal(arguments.kills, 1_000),
        acknowledged: goal(arguments.acknowledged, 1_000_000),
        longest: Duration::from_secs(arguments.minutes * 60),
        program: arguments.program.clone().unwrap_or_else(program),
        folder: arguments.dir.clone(),
        hostile: arguments.hostile.then(|| beside("hostile")),
        prove_checker: !full,
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let report = match run(options(&arguments)) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("chaos: {}", error_chain(&error));
            return ExitCode::FAILURE;
        }
    };
    report.print();
    if let Some(path) = &arguments.report {
        let text = serde_json::to_vec_pretty(&report).expect("reports have JSON forms");
        if let Err(error) = std::fs::write(path, text) {
            eprintln!("chaos: writing {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    if report.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
