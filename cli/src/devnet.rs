//! `devnet up`.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Subcommand};
use lamplighter_devnet::{GATEWAYS, Options, Plan, THINGS, VALIDATORS, up};

use crate::failure::Failure;
use crate::run::until_signal;

#[derive(Debug, Subcommand)]
pub enum DevnetCommand {
    /// Starts validators, gateways and Things, rolls out firmware, and stays up until Ctrl-C.
    Up(Up),
}

#[derive(Debug, Args)]
pub struct Up {
    /// Nodes that order transactions and sign blocks.
    #[arg(long, default_value_t = 4, value_parser = count(VALIDATORS))]
    validators: usize,
    #[arg(long, default_value_t = 2, value_parser = count(GATEWAYS))]
    gateways: usize,
    /// The number of Things of all gateways together.
    #[arg(long, default_value_t = 20, value_parser = count(THINGS))]
    things: usize,
    /// Tries what must be refused, too: forged, replayed and changed requests, bytes and nodes.
    #[arg(long)]
    attacks: bool,
    /// The image to roll out; by default a small one is made.
    #[arg(long)]
    firmware: Option<PathBuf>,
    /// Keys, data and logs; emptied if an earlier devnet made it.
    #[arg(long, default_value = "devnet-data")]
    dir: PathBuf,
    /// Ends when everything was done, with exit code 0 only if every step passed.
    #[arg(long)]
    once: bool,
    /// Writes a JSON report with each step and its figure.
    #[arg(long)]
    report: Option<PathBuf>,
}

/// Reads a number of this range.
fn count(range: RangeInclusive<usize>) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(*range.start() as u64..=*range.end() as u64)
}

pub async fn carry_out(command: DevnetCommand) -> Result<ExitCode, Failure> {
    let DevnetCommand::Up(options) = command;
    let program = std::env::current_exe().map_err(Failure::during("finding this program"))?;
    let plan = Plan {
        validators: options.validators,
        gateways: options.gateways,
        things: options.things,
        firmware: options.firmware,
        dir: options.dir,
        program,
        rate_bytes_per_s: None,
    };
    let options = Options {
        plan,
        attacks: options.attacks,
        once: options.once,
        report: options.report,
    };
    match up(options, until_signal()?).await {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::FAILURE),
        Err(error) => Err(Failure::new("the devnet", error)),
    }
}
