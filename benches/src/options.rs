//! The command line.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use lamplighter_types::limits::VALIDATORS_MAX;
use tempfile::TempDir;

use crate::error::BenchError;

/// Most connections of a phase: well below the limit of a node.
const CLIENTS_MAX: usize = 1_024;
/// Longest phase: an hour; a phase is bounded in transactions too.
const SECONDS_MAX: u64 = 3_600;
/// Most devices and blocks; more would take days to create.
const DEVICES_MAX: u64 = 10_000_000;
/// Longest soak: a week.
const MINUTES_MAX: f64 = 7.0 * 24.0 * 60.0;
/// Most members of etcd: what its documentation recommends.
const MEMBERS_MAX: usize = 7;
/// Most connections of a node's MQTT edge.
const GATEWAYS_MAX: usize = 10_000;
/// Highest rate: more than a ledger commits.
const RATE_MAX: f64 = 100_000.0;

#[derive(Debug, Parser)]
#[command(
    name = "lamplighter-benches",
    about = "Measures how fast a ledger commits on this machine"
)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub options: Options,
}

/// The commands; the hidden one starts a node in the same form as `lamplighter`.
#[derive(Debug, Subcommand)]
pub enum Command {
    #[command(hide = true)]
    Node {
        #[command(subcommand)]
        command: NodeCommand,
    },
    /// A long run at one rate: are memory and files flat, does the disk grow as predicted?
    Soak(SoakOptions),
    /// Time to catch up of an empty node, and of one that was away, while 16 clients work.
    CatchUp(CatchUpOptions),
    /// etcd and mosquitto of Debian beside a ledger, in one run.
    Peers(PeersOptions),
    /// Memory, cold start and the time of each read with many devices.
    Fleet(FleetOptions),
    /// Puts reports into docs/benchmarks.json, and its figures into the pages.
    Page(PageOptions),
}

/// The options of every measurement.
#[derive(Debug, Args)]
pub struct NodeOptions {
    /// Program that runs nodes [default: `lamplighter` beside this one, else this one itself]
    #[arg(long)]
    program: Option<PathBuf>,
    /// Where the stores are made, and removed in the end [default: beside this program]
    #[arg(long)]
    dir: Option<PathBuf>,
}

impl NodeOptions {
    /// The chosen program, or `lamplighter` beside this one, or this one.
    pub fn program(&self) -> Result<PathBuf, BenchError> {
        if let Some(program) = &self.program {
            return Ok(program.clone());
        }
        let this = std::env::current_exe().map_err(BenchError::io("finding this program", ""))?;
        let beside = this.with_file_name("lamplighter");
        Ok(if beside.exists() { beside } else { this })
    }

    /// A temporary folder for the stores, removed with the value.
    pub fn temp_dir(&self) -> Result<TempDir, BenchError> {
        let program_dir = program_dir()?;
        let parent = self.dir.as_deref().unwrap_or(&program_dir);
        TempDir::with_prefix_in("lamplighter-bench-", parent)
            .map_err(BenchError::io("making a folder in", parent))
    }
}

/// The folder of this program, which is on a disk where there is room for build output.
pub fn program_dir() -> Result<PathBuf, BenchError> {
    let program = std::env::current_exe().map_err(BenchError::io("finding this program", ""))?;
    Ok(program.parent().unwrap_or(Path::new(".")).to_owned())
}

fn validators_are_allowed(count: usize) -> bool {
    (1..=VALIDATORS_MAX).contains(&count)
}

#[derive(Debug, Args)]
pub struct CatchUpOptions {
    #[arg(long, default_value_t = 1_000_000)]
    pub devices: u64,
    /// Batches between two images; fewer for a short run
    #[arg(long)]
    pub snapshot_every: Option<u64>,
    /// Blocks that the second node was away for
    #[arg(long, default_value_t = 100_000)]
    pub blocks: u64,
    #[arg(long, default_value_t = 4)]
    pub validators: usize,
    #[command(flatten)]
    pub nodes: NodeOptions,
    /// Where the report is written, as JSON [default: catch-up-report.json beside this program]
    #[arg(long)]
    pub report: Option<PathBuf>,
}

impl CatchUpOptions {
    /// Checks the ranges of the options.
    pub fn check(&self) -> Result<(), BenchError> {
        let wrong = if !validators_are_allowed(self.validators) {
            format!("--validators must be 1 to {VALIDATORS_MAX}")
        } else if self.devices > DEVICES_MAX || self.blocks > DEVICES_MAX {
            format!("--devices and --blocks must be at most {DEVICES_MAX}")
        } else {
            return Ok(());
        };
        Err(BenchError::Options(wrong))
    }
}

#[derive(Debug, Args)]
pub struct SoakOptions {
    /// Length, the warm-up of a fifth included
    #[arg(long, default_value_t = 60.0)]
    pub minutes: f64,
    /// Transactions a second, each with one event [default: half of what 64 clients reach]
    #[arg(long)]
    pub rate: Option<f64>,
    #[arg(long, default_value_t = 4)]
    pub validators: usize,
    /// Between two looks at the nodes
    #[arg(long, default_value_t = 10)]
    pub sample_seconds: u64,
    #[command(flatten)]
    pub nodes: NodeOptions,
    /// Where the report is written, as JSON [default: soak-report.json beside this program]
    #[arg(long)]
    pub report: Option<PathBuf>,
}

impl SoakOptions {
    /// Checks the ranges of the options.
    pub fn check(&self) -> Result<(), BenchError> {
        let wrong = if !(0.1..=MINUTES_MAX).contains(&self.minutes) {
            format!("--minutes must be 0.1 to {MINUTES_MAX}")
        } else if !validators_are_allowed(self.validators) {
            format!("--validators must be 1 to {VALIDATORS_MAX}")
        } else if self
            .rate
            .is_some_and(|rate| !(1.0..=RATE_MAX).contains(&rate))
        {
            format!("--rate must be 1 to {RATE_MAX}")
        } else if !(1..=SECONDS_MAX).contains(&self.sample_seconds) {
            format!("--sample-seconds must be 1 to {SECONDS_MAX}")
        } else {
            return Ok(());
        };
        Err(BenchError::Options(wrong))
    }
}

#[derive(Debug, Args)]
pub struct PageOptions {
    /// Folder with reports under their own names, of which each replaces the stored one
    #[arg(long)]
    pub from: Option<PathBuf>,
    /// Folder of the pages and the stored reports
    #[arg(long, default_value = "docs")]
    pub docs: PathBuf,
    /// Changes nothing, and fails if a page has other figures
    #[arg(long, conflicts_with = "from")]
    pub check: bool,
}

#[derive(Debug, Args)]
pub struct FleetOptions {
    #[arg(long, default_value_t = 100_000)]
    pub devices: u64,
    #[arg(long, default_value_t = 1)]
    pub validators: usize,
    /// Transactions a second that come in while reads are measured
    #[arg(long, default_value_t = 1_000.0)]
    pub rate: f64,
    /// Seconds of a phase of the good client
    #[arg(long, default_value_t = 5)]
    pub seconds: u64,
    /// Seconds of each read
    #[arg(long, default_value_t = 1.0)]
    pub read_seconds: f64,
    #[command(flatten)]
    pub nodes: NodeOptions,
    /// Where the report is written, as JSON [default: fleet-DEVICES-report.json beside this
    /// program]
    #[arg(long)]
    pub report: Option<PathBuf>,
}

impl FleetOptions {
    /// Checks the ranges of the options.
    pub fn check(&self) -> Result<(), BenchError> {
        let wrong = if !(1..=DEVICES_MAX).contains(&self.devices) {
            format!("--devices must be 1 to {DEVICES_MAX}")
        } else if !validators_are_allowed(self.validators) {
            format!("--validators must be 1 to {VALIDATORS_MAX}")
        } else if !(1.0..=RATE_MAX).contains(&self.rate) {
            format!("--rate must be 1 to {RATE_MAX}")
        } else if !(1..=SECONDS_MAX).contains(&self.seconds)
            || !(0.1..=60.0).contains(&self.read_seconds)
        {
            format!("--seconds must be 1 to {SECONDS_MAX}, and --read-seconds 0.1 to 60")
        } else {
            return Ok(());
        };
        Err(BenchError::Options(wrong))
    }
}

#[derive(Debug, Args)]
pub struct PeersOptions {
    /// Seconds of each phase; 60 for figures that are meant to be kept
    #[arg(long, default_value_t = 5)]
    pub seconds: u64,
    /// Sizes of the ledgers, in validators
    #[arg(long, value_delimiter = ',', default_value = "1,3,4")]
    pub validators: Vec<usize>,
    /// Sizes of etcd, in members
    #[arg(long, value_delimiter = ',', default_value = "1,3")]
    pub members: Vec<usize>,
    /// Clients at once, each with one write on its way
    #[arg(long, value_delimiter = ',', default_value = "1,64,256")]
    pub clients: Vec<usize>,
    /// Gateways that are connected while one message goes to all
    #[arg(long, value_delimiter = ',', default_value = "1000,10000")]
    pub connections: Vec<usize>,
    /// Folder with the unpacked packages, in place of those that are installed or unpacked by
    /// `scripts/setup --bench`
    #[arg(long)]
    pub packages: Option<PathBuf>,
    #[command(flatten)]
    pub nodes: NodeOptions,
    /// Where the report is written, as JSON [default: peers-report.json beside this program]
    #[arg(long)]
    pub report: Option<PathBuf>,
}

impl PeersOptions {
    /// Checks the ranges of the options.
    pub fn check(&self) -> Result<(), BenchError> {
        let allowed = |count: &usize| (1..=GATEWAYS_MAX).contains(count);
        let wrong = if !(1..=SECONDS_MAX).contains(&self.seconds) {
            format!("--seconds must be 1 to {SECONDS_MAX}")
        } else if !self.validators.iter().all(|n| validators_are_allowed(*n)) {
            format!("--validators must be 1 to {VALIDATORS_MAX}")
        } else if !self.members.iter().all(|n| (1..=MEMBERS_MAX).contains(n)) {
            format!("--members must be 1 to {MEMBERS_MAX}")
        } else if !self.clients.iter().all(|n| (1..=CLIENTS_MAX).contains(n)) {
            format!("--clients must be 1 to {CLIENTS_MAX}")
        } else if !self.connections.iter().all(allowed) {
            format!("--connections must be 1 to {GATEWAYS_MAX}")
        } else {
            return Ok(());
        };
        Err(BenchError::Options(wrong))
    }
}

#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    Run {
        #[arg(long)]
        config: PathBuf,
        /// Accepted as by `lamplighter`; always on.
        #[arg(long)]
        until_stdin_ends: bool,
    },
}

#[derive(Debug, Args)]
pub struct Options {
    /// Seconds of each phase; 60 for figures that are meant to be kept
    #[arg(long, default_value_t = 5)]
    pub seconds: u64,
    /// Sizes of the ledgers, in validators
    #[arg(long, value_delimiter = ',', default_value = "1,4")]
    pub validators: Vec<usize>,
    /// Clients at once, each with one transaction on its way
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256")]
    pub clients: Vec<usize>,
    /// Clients at once that send 64 transactions in each request
    #[arg(long, default_value_t = 16)]
    pub pipelined_clients: usize,
    /// Clients at once that send batches of 100 events
    #[arg(long, default_value_t = 16)]
    pub batch_clients: usize,
    #[command(flatten)]
    pub nodes: NodeOptions,
    /// Where the report is written, as JSON [default: bench-report.json beside this program]
    #[arg(long)]
    pub report: Option<PathBuf>,
}

impl Options {
    /// Checks the ranges of the options.
    pub fn check(&self) -> Result<(), BenchError> {
        let others = [&self.batch_clients, &self.pipelined_clients];
        let clients = self.clients.iter().chain(others);
        let wrong = if !(1..=SECONDS_MAX).contains(&self.seconds) {
            format!("--seconds must be 1 to {SECONDS_MAX}")
        } else if self
            .validators
            .iter()
            .any(|count| !validators_are_allowed(*count))
        {
            format!("--validators must be 1 to {VALIDATORS_MAX}")
        } else if clients
            .into_iter()
            .any(|count| !(1..=CLIENTS_MAX).contains(count))
        {
            format!("--clients and --batch-clients must be 1 to {CLIENTS_MAX}")
        } else {
            return Ok(());
        };
        Err(BenchError::Options(wrong))
    }
}
