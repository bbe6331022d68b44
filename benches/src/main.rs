//! The benchmark program of `make bench`: it measures how fast a ledger commits on this machine,
//! and the ceilings of the machine itself.
//!
//! Each node is a separate process, with its store and sockets; clients speak HTTP to all of them.
//! Nothing is simulated. `docs/benchmarks.md` explains each figure.

mod catch_up;
mod ceilings;
mod cluster;
mod error;
mod fleet;
mod http;
mod load;
mod machine;
mod node;
mod options;
mod page;
mod peers;
mod pipelined;
mod procfs;
mod report;
mod scale;
mod soak;
mod table;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;

use crate::cluster::Cluster;
use crate::error::BenchError;
use crate::fleet::Fleet;
use crate::load::{LoadPhase, MachineLimits, Workload};
use crate::options::{
    CatchUpOptions, Cli, Command, FleetOptions, NodeCommand, Options, PeersOptions, SoakOptions,
};
use crate::report::{Ceilings, ClusterReport, Report};

fn main() -> ExitCode {
    let Cli { command, options } = Cli::parse();
    let done = match command {
        Some(Command::Node {
            command: NodeCommand::Run { config, .. },
        }) => node::run(&config),
        Some(Command::Soak(options)) => soak(&options),
        Some(Command::CatchUp(options)) => catch_up(&options),
        Some(Command::Peers(options)) => peers(&options),
        Some(Command::Fleet(options)) => many_devices(&options),
        Some(Command::Page(options)) => page::run(&options),
        None => bench(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", lamplighter_system::error_chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Runs until it is done, or Ctrl-C. The clients share one thread, so that they take no more of the
/// machine from the nodes than one client would.
fn until_done<T>(work: impl Future<Output = Result<T, BenchError>>) -> Result<T, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BenchError::io("starting the async runtime", ""))?;
    runtime.block_on(async {
        tokio::select! {
            done = work => done,
            // Dropping the values kills the nodes and removes their folder.
            _ = tokio::signal::ctrl_c() => Err(BenchError::Interrupted),
        }
    })
}

fn soak(options: &SoakOptions) -> Result<(), BenchError> {
    options.check()?;
    let dir = options.nodes.temp_dir()?;
    until_done(soak::run(options, dir.path(), &options.nodes.program()?))
}

fn catch_up(options: &CatchUpOptions) -> Result<(), BenchError> {
    options.check()?;
    let dir = options.nodes.temp_dir()?;
    until_done(catch_up::run(
        options,
        dir.path(),
        &options.nodes.program()?,
    ))
}

fn peers(options: &PeersOptions) -> Result<(), BenchError> {
    options.check()?;
    let dir = options.nodes.temp_dir()?;
    until_done(peers::run(options, dir.path(), &options.nodes.program()?))
}

fn many_devices(options: &FleetOptions) -> Result<(), BenchError> {
    options.check()?;
    let dir = options.nodes.temp_dir()?;
    until_done(scale::run(options, dir.path(), &options.nodes.program()?))
}

fn bench(options: &Options) -> Result<(), BenchError> {
    options.check()?;
    let dir = options.nodes.temp_dir()?;
    let machine = machine::describe(dir.path())?;
    table::machine(&machine, &options.nodes.program()?);
    let ceilings = ceilings::measure(dir.path(), options.seconds)?;
    table::ceilings(&ceilings);
    let clusters = until_done(clusters(options, &ceilings, dir.path()))?;
    let report = Report {
        seconds: options.seconds,
        machine,
        ceilings,
        clusters,
    };
    report::write(options.report.as_deref(), "bench-report.json", &report)?;
    report.check_success()
}

async fn clusters(
    options: &Options,
    ceilings: &Ceilings,
    dir: &Path,
) -> Result<Vec<ClusterReport>, BenchError> {
    let mut reports = Vec::new();
    for validators in &options.validators {
        let mut cluster = Cluster::start(&options.nodes.program()?, dir, *validators).await?;
        let measured = measure(&mut cluster, options, ceilings, dir).await;
        let stopped = cluster.stop().await;
        reports.push(measured?);
        stopped?;
    }
    Ok(reports)
}

/// Runs every phase on one cluster.
async fn measure(
    cluster: &mut Cluster,
    options: &Options,
    ceilings: &Ceilings,
    dir: &Path,
) -> Result<ClusterReport, BenchError> {
    let validators = cluster.nodes.len();
    cluster.ready().await?;
    let idle_memory_bytes = cluster.sample()?.memory_bytes;
    let fdatasync_extending = ceilings::fdatasync(dir, options.seconds)?;
    let limits = MachineLimits {
        signs_per_second: ceilings.signs_per_second,
        verifications_per_second: ceilings.batch_verifications_per_second,
        fdatasync_ms: f64::from(fdatasync_extending.p50_us) / 1_000.0,
    };
    let fleet = Arc::new(Fleet::new(cluster.chain_id));
    load::register(cluster, &fleet).await?;
    table::head(validators, &fdatasync_extending);
    let single = options
        .clients
        .iter()
        .map(|clients| (Workload::Transactions, *clients));
    let phases = single.chain([
        (Workload::Pipelined, options.pipelined_clients),
        (Workload::EventBatches, options.batch_clients),
    ]);
    let mut rows = Vec::new();
    for (workload, clients) in phases {
        let phase = LoadPhase {
            workload,
            clients,
            seconds: options.seconds,
            limits,
        };
        let row = load::run(cluster, &fleet, phase).await?;
        table::row(&row);
        rows.push(row);
    }
    let peak_memory_bytes = cluster.sample()?.peak_memory_bytes;
    let report = ClusterReport {
        validators,
        fdatasync_extending,
        idle_memory_bytes,
        peak_memory_bytes,
        rows,
    };
    table::foot(&report);
    Ok(report)
}
