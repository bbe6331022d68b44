//! `lamplighter`: the one binary. A node, a gateway, simulated Things, a whole city on one machine,
//! and the commands of people.

// All output to a terminal goes through `output`, which escapes it.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod archive;
mod audit;
mod chain;
mod changes;
mod config;
mod describe;
mod devices;
mod devnet;
mod doctor;
mod evidence;
mod failure;
mod filter;
mod firmware;
mod founding;
mod governance;
mod groups;
mod guards;
mod history;
mod image;
mod import;
mod join;
mod kept;
mod keys;
mod logins;
mod output;
mod paging;
mod pending;
mod people;
mod plans;
mod proof;
mod reference;
mod reports;
mod rollouts;
mod run;
mod sent;
mod session;
mod standings;
mod supervision;
#[cfg(test)]
mod tests;
mod time;

use std::pin::Pin;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::Failure;
use session::SessionArguments;

/// Firmware, configuration and events of a city's devices on a ledger that nobody rewrites unseen.
///
/// Exit codes: 0 done, 1 failed, 2 wrong arguments, 3 refused by a node or by the ledger, 4 sent,
/// and the outcome is not known, 5 an audit found a difference.
#[derive(Debug, Parser)]
#[command(name = "lamplighter", version)]
struct Arguments {
    #[command(flatten)]
    session: SessionArguments,
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
    /// Secret keys in files.
    #[command(subcommand)]
    Key(keys::KeyCommand),
    /// The trust root.
    #[command(subcommand)]
    Genesis(founding::GenesisCommand),
    /// Where a node stands.
    Status,
    /// Organizations, accounts, keys and roles.
    #[command(subcommand)]
    User(people::UserCommand),
    /// Logins of an account at the nodes.
    #[command(subcommand)]
    Session(logins::SessionCommand),
    /// The registry of devices.
    #[command(subcommand)]
    Device(devices::DeviceCommand),
    /// Images and releases.
    #[command(subcommand)]
    Firmware(firmware::FirmwareCommand),
    /// Delivery of releases.
    #[command(subcommand)]
    Rollout(rollouts::RolloutCommand),
    /// Desired and reported configuration.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Events of devices, and notifications of contracts.
    #[command(subcommand)]
    Event(devices::EventCommand),
    /// Changes of a record: author, time and transaction.
    History(history::History),
    /// Validators and observers, and the proposals that change them.
    #[command(subcommand)]
    Governance(governance::GovernanceCommand),
    /// Alarms.
    #[command(subcommand)]
    Alarm(devices::AlarmCommand),
    /// Proofs for people who trust no node.
    #[command(subcommand)]
    Proof(proof::ProofCommand),
    Evidence(evidence::Evidence),
    /// Signed transactions.
    #[command(subcommand)]
    Transaction(chain::TransactionCommand),
    /// Finds what is wrong with a node, before its start and while it runs, and says what to do.
    Doctor(doctor::Doctor),
    /// Checks for people who trust no node: of proofs, and of the whole ledger.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Writes the pages of the manual and the completions of shells, for packages.
    #[command(hide = true)]
    Reference(reference::Reference),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(carry_out(arguments));
            // Reads of standard input can't be taken back; nothing waits for them.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(Failure::new("starting", error)),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            output::complain(&failure);
            failure.exit_code()
        }
    }
}

/// Makes a future on the heap. Without optimisation each one that is made in a function has a place
/// of its own on its stack, and these are large.
fn on_heap<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::pin(make())
}

async fn carry_out(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { session, command } = arguments;
    match command {
        Command::Node(command) => on_heap(|| run::node(command, &session)).await,
        Command::Gateway(command) => on_heap(|| run::gateway(command)).await,
        Command::Things(command) => run::things(command).await,
        Command::Devnet(command) => devnet::carry_out(command).await,
        Command::Key(command) => keys::key(command, &session),
        Command::Genesis(command) => founding::genesis(command, session.output()),
        Command::Audit(command) => Box::pin(audit::carry_out(command, &session)).await,
        Command::Reference(reference) => reference.write(),
        Command::Doctor(doctor) => on_heap(|| doctor.carry_out(&session)).await,
        Command::Status => chain::status(&session.open()?).await,
        Command::User(command) => people::carry_out(&session.open()?, command).await,
        Command::Session(command) => logins::carry_out(&session.open()?, command).await,
        Command::Device(command) => devices::device(&session.open()?, command).await,
        Command::Firmware(command) => firmware::carry_out(&session.open()?, command).await,
        Command::Rollout(command) => rollouts::rollout(&session.open()?, command).await,
        Command::Config(command) => config::carry_out(&session.open()?, command).await,
        Command::Event(command) => devices::event(&session.open()?, command).await,
        Command::Alarm(command) => devices::alarm(&session.open()?, command).await,
        Command::History(history) => history::carry_out(&session.open()?, history).await,
        Command::Governance(command) => governance::carry_out(&session.open()?, command).await,
        Command::Proof(command) => proof::carry_out(&session.open()?, command).await,
        Command::Evidence(command) => {
            Box::pin(evidence::carry_out(&session.open()?, command)).await
        }
        Command::Transaction(command) => chain::transaction(&session.open()?, command).await,
    }
}
