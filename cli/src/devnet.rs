//! `devnet up`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use lamplighter_devnet::{Options, Plan, up};

use crate::failure::Failure;
use crate::run::until_signal;

#[derive(Debug, Subcommand)]
pub enum DevnetCommand {
    /// Starts validators, gateways and Things, rolls out firmware, and shows what happens.
    Up(Up),
}

#[derive(Debug, Args)]
pub struct Up {
    #[arg(long, default_value_t = 4)]
    validators: usize,
    #[arg(long, default_value_t = 2)]
    gateways: usize,
    #[arg(long, default_value_t = 20)]
    things: usize,
    /// The image to roll out; a small one is made if none is given.
    #[arg(long)]
    firmware: Option<PathBuf>,
    /// Keys, data and logs; emptied if an earlier devnet made it.
    #[arg(long, default_value = "devnet-data")]
    dir: PathBuf,
    /// Ends when everything was shown, with exit code 0 only if every step held.
    #[arg(long)]
    once: bool,
    /// Writes a JSON report with each step and its figure.
    #[arg(long)]
    report: Option<PathBuf>,
}

pub async fn carry_out(command: DevnetCommand) -> Result<ExitCode, Failure> {
    let DevnetCommand::Up(given) = command;
    let program = std::env::current_exe().map_err(Failure::doing("finding this program"))?;
    let plan = Plan {
        validators: given.validators,
        gateways: given.gateways,
        things: given.things,
        firmware: given.firmware,
        dir: given.dir,
        program,
        rate_bytes_per_s: None,
    };
    let options = Options {
        plan,
        once: given.once,
        report: given.report,
    };
    match up(options, until_signal()?).await {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::FAILURE),
        Err(error) => Err(Failure::new("the devnet", error)),
    }
}
