//! `make sim`: many seeds on all cores, or one again.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Parser;
use lamplighter_sim::fleet::Variant;
use lamplighter_sim::lies::Lie;
use lamplighter_sim::plan::Plan;
use lamplighter_sim::planted::Planted;
use lamplighter_sim::run::Report;
use lamplighter_sim::{entropy, fleet, run};

/// The real time after which a run is taken to make no progress in virtual time.
const HANGS_AFTER: Duration = Duration::from_secs(180);
/// Bytes of the stack: unoptimised futures are large.
const STACK_BYTES: usize = 64 << 20;

#[derive(Parser)]
struct Options {
    /// The number of seeds to run.
    #[arg(long, default_value_t = 500)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// One seed only, with its last events.
    #[arg(long)]
    seed: Option<u64>,
    /// Prints every event of that seed.
    #[arg(long)]
    loud: bool,
    /// Processes at once; as many as there are cores if not given.
    #[arg(long)]
    jobs: Option<usize>,
    /// Runs with a planted bug, to see that it is found.
    #[arg(long)]
    planted: Option<Planted>,
    /// Percent of the seeds in which nodes lie.
    #[arg(long, default_value_t = fleet::LIARS)]
    liars: u64,
    /// The only lie that they tell.
    #[arg(long)]
    lie: Option<Lie>,
    /// Runs one seed for the process that watches over all of them.
    #[arg(long, hide = true)]
    worker: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match options.seed {
        Some(seed) => one(seed, &options),
        None => many(&options),
    }
}

fn many(options: &Options) -> ExitCode {
    let program = std::env::current_exe().expect("a program that runs has a path");
    let plan = fleet::FleetPlan {
        first: options.first,
        seeds: options.seeds,
        jobs: options.jobs.unwrap_or_else(fleet::cores),
        variant: variant(options),
        stop_at_failure: options.planted.is_some(),
    };
    let outcome = fleet::run(&program, &plan);
    println!("{outcome}");
    if outcome.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn variant(options: &Options) -> Variant {
    Variant {
        planted: options.planted,
        liars: options.liars,
        lie: options.lie,
    }
}

/// Runs one seed in a new thread of a process that has run nothing before.
fn one(seed: u64, options: &Options) -> ExitCode {
    if std::env::var_os("RUST_LOG").is_some() {
        tracing_subscriber::fmt()
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_writer(std::io::stderr)
            .without_time()
            .init();
    }
    entropy::seed(seed);
    let mut plan = Plan::new(seed).with_liars(seed, options.liars, options.lie);
    plan.planted = options.planted;
    let loud = options.loud;
    let replay = variant(options).replay(seed);
    watchdog(seed, replay.clone());
    let dir = fleet::scratch(seed);
    std::fs::create_dir_all(&dir).expect("a temporary folder can be made");
    let path = dir.clone();
    let runner = thread::Builder::new().stack_size(STACK_BYTES);
    let run = runner
        .spawn(move || run::run(seed, plan, &path, loud))
        .expect("a thread can be started");
    let report = run.join();
    // The rest of the files is in a temporary folder; the result is more important.
    let _ = std::fs::remove_dir_all(&dir);
    let Ok(report) = report else {
        eprintln!("seed {seed} panicked. Replay: {replay}");
        return ExitCode::FAILURE;
    };
    print_report(
        seed,
        &report,
        if options.worker { 40 } else { 400 },
        &replay,
    )
}

fn print_report(seed: u64, report: &Report, events: usize, replay: &str) -> ExitCode {
    let Some(broken) = &report.broken else {
        println!("{}", fleet::line(report));
        return ExitCode::SUCCESS;
    };
    let skipped = report.last.len().saturating_sub(events);
    for event in &report.last[skipped..] {
        eprintln!("{event}");
    }
    eprintln!(
        "seed {seed}, event {}: the invariant \"{}\" is broken: {}",
        report.events, broken.invariant, broken.detail
    );
    eprintln!("Replay: {replay}");
    ExitCode::FAILURE
}

fn watchdog(seed: u64, replay: String) {
    thread::spawn(move || {
        thread::sleep(HANGS_AFTER);
        eprintln!("seed {seed} hangs. Replay: {replay}");
        std::process::abort();
    });
}
