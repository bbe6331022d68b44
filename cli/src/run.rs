//! `node run`, `gateway run`, `things run`: processes that run until they are stopped.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use lamplighter_devnet::{field, until_stdin_ends};
use lamplighter_gateway::{Gateway, GatewayConfig};
use lamplighter_node::{Node, NodeConfig, NodeError, telemetry};
use lamplighter_system::error_chain;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::audit::{Restored, restore};
use crate::failure::Failure;
use crate::founding::{NodeInit, node_init};
use crate::join::{Join, join};
use crate::output::emit;
use crate::session::SessionArguments;
use crate::supervision::Supervision;

#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Makes a node's key, its configuration and a party file, from which the genesis file is made.
    Init(NodeInit),
    /// Runs a node until it is stopped, stops by itself, or `until` ends.
    Run(Run),
    /// Prints the TLS certificate of a node (PEM), for programs that do not pin its key, e.g. as
    /// the file of `curl --cacert`.
    Certificate(Certificate),
    /// Joins an existing ledger: makes key and configuration, prints the proposal for the
    /// administrators, and runs the node, which catches up as soon as they have approved it.
    Join(Join),
    /// Makes the data directory of a new node of an archive that `audit ledger --keep` made: every
    /// block is executed again. The node reads and proves; it is no validator of old.
    Restore(Restored),
}

#[derive(Debug, Subcommand)]
pub enum GatewayCommand {
    /// Runs a gateway until SIGTERM or Ctrl-C.
    Run(Run),
}

#[derive(Debug, Subcommand)]
pub enum ThingsCommand {
    /// Runs the Things of a mesh until standard input ends, and takes orders there, a line of JSON
    /// each.
    Run(Run),
}

#[derive(Debug, Args)]
pub struct Certificate {
    /// The configuration file (TOML).
    #[arg(long)]
    config: PathBuf,
}

impl Certificate {
    fn print(&self) -> Result<ExitCode, Failure> {
        let config = NodeConfig::read(&self.config);
        let config = config.map_err(Failure::during("reading the configuration"))?;
        let pem = lamplighter_node::certificate(&config);
        let pem = pem.map_err(Failure::during("making the certificate"))?;
        // Line by line: a line break inside a line would be escaped.
        pem.lines().for_each(emit);
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Debug, Args)]
pub struct Run {
    /// The configuration file (TOML).
    #[arg(long)]
    pub config: PathBuf,
    /// Ends when standard input does, so that it does not outlive the process that started it.
    #[arg(long)]
    pub until_stdin_ends: bool,
    /// Logs as JSON.
    #[arg(long)]
    pub json_logs: bool,
}

/// Cancelled by SIGTERM and Ctrl-C.
pub fn until_signal() -> Result<CancellationToken, Failure> {
    let stop = CancellationToken::new();
    let operation = || Failure::during("waiting for signals");
    let mut terminate = signal(SignalKind::terminate()).map_err(operation())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(operation())?;
    let signalled = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        signalled.cancel();
    });
    Ok(stop)
}

/// Sets logging and signals up.
pub fn begin(run: &Run) -> Result<CancellationToken, Failure> {
    telemetry::init(run.json_logs);
    let stop = until_signal()?;
    if run.until_stdin_ends {
        until_stdin_ends(stop.clone());
    }
    Ok(stop)
}

pub async fn node(command: NodeCommand, session: &SessionArguments) -> Result<ExitCode, Failure> {
    let run = match command {
        NodeCommand::Init(init) => return node_init(init, session),
        NodeCommand::Certificate(certificate) => return certificate.print(),
        NodeCommand::Join(command) => return join(command, session).await,
        NodeCommand::Restore(command) => return restore(command, session.output()).await,
        NodeCommand::Run(run) => run,
    };
    let stop = begin(&run)?;
    let config =
        NodeConfig::read(&run.config).map_err(Failure::during("reading the configuration"))?;
    let node = Node::start(config)
        .await
        .map_err(Failure::during("starting the node"))?;
    serve(node, stop, std::future::pending()).await
}

/// Gives signs of life while the node makes progress. What it asks of the node ends with this
/// future, so that the node can close its store.
async fn watch(supervision: &Supervision, node: &Node) {
    let liveness = node.liveness();
    let progress = async |within| {
        let checked = liveness.check(within).await;
        checked.map_err(|error| error_chain(&error))
    };
    supervision.watch(progress).await;
}

/// Runs a node until it is told to stop, stops by itself, or `until` ends.
pub async fn serve(
    mut node: Node,
    stop: CancellationToken,
    until: impl Future<Output = Result<(), Failure>>,
) -> Result<ExitCode, Failure> {
    let mut until = std::pin::pin!(until);
    let supervision = Supervision::begin();
    let failed = loop {
        tracing::info!(http = %node.edges.http, peer = %node.peer_address, "the node is up");
        supervision.ready(&format!(
            "nodes at {}, http at {}",
            node.peer_address, node.edges.http
        ));
        let error = tokio::select! {
            () = stop.cancelled() => break None,
            done = &mut until => break done.err(),
            error = node.failed() => error,
            () = watch(&supervision, &node) => unreachable!("it never ends"),
        };
        match error {
            NodeError::Diverged(_) => {
                supervision.starting_again();
                let started = node.restart().await;
                node = started.map_err(Failure::during("starting the node again"))?;
            }
            error => break Some(Failure::new("the node stopped by itself", error)),
        }
    };
    supervision.stopping();
    let ended = node.shutdown().await;
    match failed {
        Some(failure) => Err(failure),
        None => ended
            .map_err(Failure::during("ending the node"))
            .map(|()| ExitCode::SUCCESS),
    }
}

pub async fn gateway(command: GatewayCommand) -> Result<ExitCode, Failure> {
    let GatewayCommand::Run(run) = command;
    let stop = begin(&run)?;
    let config =
        GatewayConfig::read(&run.config).map_err(Failure::during("reading the configuration"))?;
    let operation = || Failure::during("running the gateway");
    let gateway = Gateway::start(config, stop.clone()).await;
    let gateway = gateway.map_err(operation())?;
    let supervision = Supervision::begin();
    supervision.ready(&format!("Things at {}", gateway.south_address()));
    let mut turns = gateway.turns();
    let progress = async |within| match timeout(within, turns.changed()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err("the event loop has ended"),
        Err(_) => Err("the event loop has done nothing"),
    };
    let mut running = std::pin::pin!(gateway.wait());
    let ran = tokio::select! {
        ran = &mut running => ran,
        () = supervision.watch(progress) => unreachable!("it never ends"),
        () = stop.cancelled() => {
            supervision.stopping();
            running.await
        }
    };
    ran.map_err(operation()).map(|()| ExitCode::SUCCESS)
}

pub async fn things(command: ThingsCommand) -> Result<ExitCode, Failure> {
    let ThingsCommand::Run(run) = command;
    telemetry::init(run.json_logs);
    let ran = field::run(&run.config).await;
    ran.map_err(Failure::during("running the Things"))
        .map(|()| ExitCode::SUCCESS)
}
