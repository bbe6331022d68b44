//! From nothing to a genesis file: each party makes its keys and a party file (`init`), and one of
//! them makes the genesis file from all of these (`description`).

mod description;
mod init;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use lamplighter_types::Id;
use serde_json::json;

use crate::failure::Failure;
use crate::keys::write_new;
use crate::output::{self, Output};
use crate::session::read_genesis;

pub use init::{NodeInit, Ports, make_node, node_init};

#[derive(Debug, Subcommand)]
pub enum GenesisCommand {
    /// Makes a genesis file from what the parties sent.
    Create(CreateGenesis),
    /// Checks a genesis file and prints its chain id, to be compared by hand. Names faults, and
    /// settings that the founders may not have meant.
    Check { file: PathBuf },
}

#[derive(Debug, Args)]
pub struct CreateGenesis {
    /// The party files that `node init` made, and descriptions written by hand: `name`,
    /// `organization`, `[[validators]]` (node, account, key, address), `[[accounts]]` (account,
    /// name, key, grants = ["operator@north/harbour"]), and, if wanted, a part of `[policies]`:
    /// what it leaves out is as by default.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The name of the city, unless a file has it.
    #[arg(long)]
    name: Option<String>,
    /// The organization of the first accounts, unless a file has it.
    #[arg(long)]
    organization: Option<Id>,
    /// The genesis file to write; it must not exist.
    #[arg(long)]
    out: PathBuf,
}

pub fn genesis(command: GenesisCommand, output: Output) -> Result<ExitCode, Failure> {
    let genesis = match command {
        GenesisCommand::Check { file } => read_genesis(&file)?,
        GenesisCommand::Create(create) => {
            let CreateGenesis {
                files,
                name,
                organization,
                out,
            } = create;
            let genesis = description::merge(&files, name, organization)?;
            genesis.check().map_err(Failure::during(
                "what the parties sent does not fit together",
            ))?;
            let bytes = serde_json::to_vec_pretty(&genesis).expect("our types have JSON forms");
            write_new(&out, &bytes)?;
            genesis
        }
    };
    let set = &genesis.validators;
    let warnings: Vec<_> = genesis.warnings().iter().map(ToString::to_string).collect();
    for warning in &warnings {
        output::warn(warning);
    }
    output.record(&json!({
        "chain_id": genesis.chain_id(), "name": genesis.name,
        "validators": set.validators.len(), "quorum": set.quorum(),
        "accounts": genesis.accounts.len(), "warnings": warnings.len(),
        "policies": genesis.policies,
    }));
    Ok(ExitCode::SUCCESS)
}
