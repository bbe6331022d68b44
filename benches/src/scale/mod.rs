//! The measurement `fleet`: what many devices cost a node. Memory, cold start, the time of each
//! read of the HTTP interface while transactions come in, and the time of a good client while a
//! large block or a rollout to all devices is worked on.
//!
//! - [`city`] makes the ledger by real transactions.
//! - [`routes`] are the reads; [`reads`] measures them.
//! - [`good_client`] measures one client beside large work.

mod city;
mod good_client;
mod reads;
mod routes;
mod tables;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use self::city::City;
pub use self::good_client::GoodClient;
pub use self::reads::ReadRow;
pub use self::tables::READ_MS_MAX;
use crate::cluster::{Cluster, NodeProcess};
use crate::error::BenchError;
use crate::fleet::Fleet;
use crate::load;
use crate::machine::{self, Machine};
use crate::options::FleetOptions;
use crate::soak::pace::{self, Pace};
use crate::{procfs, report, table};

/// Longest schedule of the transactions that come in meanwhile.
const LOAD_MAX: Duration = Duration::from_secs(3_600);

/// The report of the measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FleetReport {
    pub machine: Machine,
    pub validators: usize,
    pub devices: u64,
    pub gateways: usize,
    /// Seconds to register all, with an event of each device and the histories.
    pub made_in_seconds: f64,
    /// The memory of the first node, after that.
    pub memory: NodeMemory,
    pub disk: procfs::DiskUse,
    pub cold_start_seconds: f64,
    /// The memory of the first node, after its cold start.
    pub cold_memory: NodeMemory,
    /// Seconds from the start of the rollout until every device is assigned.
    pub assigned_in_seconds: f64,
    /// Transactions that were to come in during the reads, and that did, per second.
    pub rate: f64,
    pub load_per_second: f64,
    pub others_cpu_percent: f64,
    pub good_client: Vec<GoodClient>,
    /// The slowest first.
    pub reads: Vec<ReadRow>,
}

/// Resident memory of a node, and of it what caches and memtables hold.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct NodeMemory {
    pub resident_bytes: u64,
    pub peak_bytes: u64,
    pub bounded_bytes: u64,
}

async fn memory(node: &NodeProcess) -> Result<NodeMemory, BenchError> {
    let memory = procfs::memory(node.pid)?;
    let bounded = node.bounded_memory().await?;
    Ok(NodeMemory {
        resident_bytes: memory.now_bytes,
        peak_bytes: memory.peak_bytes,
        bounded_bytes: bounded.memtable_bytes + bounded.cache_bytes,
    })
}

pub async fn run(options: &FleetOptions, dir: &Path, program: &Path) -> Result<(), BenchError> {
    let machine = machine::describe(dir)?;
    table::machine(&machine, program);
    let mut cluster = Cluster::start(program, dir, options.validators).await?;
    let measured = measure(&mut cluster, options, machine).await;
    let stopped = cluster.stop().await;
    let report = measured?;
    stopped?;
    tables::reads(&report);
    let name = format!("fleet-{}-report.json", options.devices);
    report::write(options.report.as_deref(), &name, &report)
}

async fn measure(
    cluster: &mut Cluster,
    options: &FleetOptions,
    machine: Machine,
) -> Result<FleetReport, BenchError> {
    cluster.ready().await?;
    let fleet = Arc::new(Fleet::new(cluster.chain_id));
    load::register(cluster, &fleet).await?;
    let city = City::new(fleet.clone(), options.devices);
    let begun = Instant::now();
    city.build(cluster).await?;
    let made_in_seconds = begun.elapsed().as_secs_f64();
    city.release(cluster).await?;
    let made = memory(&cluster.nodes[0]).await?;
    let disk = procfs::disk_use(&cluster.nodes[0].data)?;
    let cold_start_seconds = restart_first(cluster).await?;
    let cold_memory = memory(&cluster.nodes[0]).await?;
    let mut report = FleetReport {
        machine,
        validators: options.validators,
        devices: options.devices,
        gateways: city.gateways(),
        made_in_seconds,
        memory: made,
        disk,
        cold_start_seconds,
        cold_memory,
        assigned_in_seconds: 0.0,
        rate: options.rate,
        load_per_second: 0.0,
        others_cpu_percent: 0.0,
        good_client: Vec::new(),
        reads: Vec::new(),
    };
    tables::city(&report);
    good_client::measure(cluster, &city, options, &mut report).await?;
    tables::good_clients(&report.good_client);
    under_load(cluster, &city, options, &mut report).await?;
    Ok(report)
}

/// Stops the first node and starts it again; returns the seconds until it serves.
async fn restart_first(cluster: &mut Cluster) -> Result<f64, BenchError> {
    let files = cluster.nodes.remove(0).stop_for_restart().await?;
    let begun = Instant::now();
    cluster.nodes.insert(0, files.start()?);
    cluster.ready().await?;
    Ok(begun.elapsed().as_secs_f64())
}

/// Measures the reads while transactions come in.
async fn under_load(
    cluster: &mut Cluster,
    city: &City,
    options: &FleetOptions,
    report: &mut FleetReport,
) -> Result<(), BenchError> {
    let pace = Arc::new(Pace::new(city.fleet.clone(), options.rate, LOAD_MAX));
    let clients = pace::start(&pace, cluster);
    let (begun, before) = (Instant::now(), cpu_of_others(cluster)?);
    let measured = reads::measure(cluster, city, options.read_seconds).await;
    let seconds = begun.elapsed().as_secs_f64();
    report.load_per_second = pace.committed() as f64 / seconds;
    let others = cpu_of_others(cluster)?.saturating_sub(before).as_secs_f64();
    report.others_cpu_percent = others / (seconds * report.machine.cores as f64) * 100.0;
    pace.stop();
    let tally = clients.join(cluster).await?;
    if let Some(first) = tally.first_failure {
        return Err(BenchError::Failures(tally.failed, "transactions", first));
    }
    report.reads = measured?;
    Ok(())
}

/// Processor time of everything but this program and the nodes.
fn cpu_of_others(cluster: &Cluster) -> Result<Duration, BenchError> {
    let mut known = procfs::cpu(std::process::id())?;
    for node in &cluster.nodes {
        known += procfs::cpu(node.pid)?;
    }
    Ok(procfs::cpu_of_all()?.saturating_sub(known))
}
