//! `lamplighter`: the one binary. A node, a gateway, simulated Things, a whole city on one machine,
//! and the commands of people.

mod audit;
mod devnet;
mod failure;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::Failure;

/// Firmware, configuration and events of a city's devices on a ledger that nobody rewrites unseen.
#[derive(Debug, Parser)]
#[command(name = "lamplighter", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A validator or observer of the ledger.
    #[command(subcommand)]
    Node(run::NodeCommand),
    /// The field agent: MQTT north, CoAP south.
    #[command(subcommand)]
    Gateway(run::GatewayCommand),
    /// Simulated Things.
    #[command(subcommand)]
    Things(run::ThingsCommand),
    /// A whole city on this machine.
    #[command(subcommand)]
    Devnet(devnet::DevnetCommand),
    /// Checks without any node.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(carry_out(arguments.command));
            // Reads of standard input can't be taken back; nothing waits for them.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(Failure::new("starting", error)),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("lamplighter: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn carry_out(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Node(command) => run::node(command).await,
        Command::Gateway(command) => run::gateway(command).await,
        Command::Things(command) => run::things(command).await,
        Command::Devnet(command) => devnet::carry_out(command).await,
        Command::Audit(command) => audit::carry_out(&command),
    }
}
