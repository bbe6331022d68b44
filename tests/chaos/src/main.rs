//! `make chaos`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use lamplighter_chaos::{Kind, Options, run};
use lamplighter_system::error_chain;

/// Kills, stops and parts real nodes while clients write and read, and judges what they saw.
#[derive(Debug, Parser)]
#[command(name = "chaos")]
struct Arguments {
    /// Goes on until 1,000 kills and 1,000,000 acknowledged transactions, about an hour.
    #[arg(long)]
    full: bool,
    /// So many kills instead.
    #[arg(long)]
    kills: Option<u64>,
    /// So many acknowledged transactions instead.
    #[arg(long)]
    acknowledged: Option<u64>,
    /// Begins no new round after so many minutes.
    #[arg(long, default_value_t = 180)]
    minutes: u64,
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// Transactions that each client has on its way at once.
    #[arg(long)]
    lanes: Option<usize>,
    /// Of all schedules and of what clients do; chosen and printed if it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// The program `lamplighter`; the one beside this program if it is not given.
    #[arg(long)]
    program: Option<PathBuf>,
    /// An empty folder for stores and logs, which stay; a temporary one if it is not given.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Where the JSON report goes.
    #[arg(long)]
    report: Option<PathBuf>,
}

/// One round of the long run: mostly kills, and each other fault alone and with all others.
const FULL: [(Kind, u64); 5] = [
    (Kind::Kills, 240),
    (Kind::LeaderStops, 15),
    (Kind::Partitions, 30),
    (Kind::Clocks, 15),
    (Kind::Everything, 60),
];
const SHORT: [(Kind, u64); 6] = [
    (Kind::Calm, 10),
    (Kind::Kills, 90),
    (Kind::LeaderStops, 40),
    (Kind::Partitions, 80),
    (Kind::Clocks, 40),
    (Kind::Everything, 40),
];

fn options(arguments: &Arguments) -> Options {
    let full = arguments.full;
    let parts: &[(Kind, u64)] = if full { &FULL } else { &SHORT };
    let aim = |given: Option<u64>, of_full: u64| given.unwrap_or(if full { of_full } else { 0 });
    let beside = || {
        let this = std::env::current_exe().expect("a running program has a path");
        this.with_file_name("lamplighter")
    };
    Options {
        nodes: 4,
        clients: arguments.clients,
        lanes: arguments.lanes.unwrap_or(if full { 16 } else { 8 }),
        seed: arguments.seed.unwrap_or_else(rand::random),
        parts: parts
            .iter()
            .map(|(kind, seconds)| (*kind, Duration::from_secs(*seconds)))
            .collect(),
        kills: aim(arguments.kills, 1_000),
        acknowledged: aim(arguments.acknowledged, 1_000_000),
        longest: Duration::from_secs(arguments.minutes * 60),
        program: arguments.program.clone().unwrap_or_else(beside),
        folder: arguments.dir.clone(),
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
