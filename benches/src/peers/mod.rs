//! The measurement `peers`: etcd and mosquitto of Debian beside a ledger, in one run on the same
//! cores, with the same payloads and the same kind of clients.
//!
//! - [`etcd`] over [`grpc`]: values that a quorum has synced, like transactions in blocks.
//! - [`mosquitto`] over [`mqtt`]: [`publishers`] bring messages in, [`broker`] takes one to all.
//! - [`gateways`] of the ledger that are only connected.
//! - [`foreign`] programs and their [`usage`]; [`closed_loop`] runs clients.

mod broker;
mod closed_loop;
mod etcd;
mod foreign;
pub mod gateways;
mod grpc;
mod mosquitto;
mod mqtt;
mod publishers;
mod tables;
#[cfg(test)]
mod tests;
mod usage;

use std::path::Path;
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use self::broker::Broker;
pub use self::broker::FanOut;
use self::etcd::Etcd;
use self::foreign::Program;
pub use self::grpc::GrpcError;
use self::mqtt::Client;
pub use self::mqtt::MqttError;
pub use self::tables::peer_of;
pub use self::usage::Figures;
use crate::cluster::Cluster;
use crate::error::BenchError;
use crate::fleet::{Fleet, GATEWAYS};
use crate::load::{self, LoadPhase, MachineLimits, SubmitOutcome, Workload};
use crate::machine::{self, Machine};
use crate::options::PeersOptions;
use crate::{report, table};

/// Connections that clients of etcd share, besides one for each: more work for it does not help.
const SHARED_CONNECTIONS: usize = 16;
/// Open files besides those of connections.
const OTHER_FILES: u64 = 1_000;

/// The report of the measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeersReport {
    pub machine: Machine,
    pub seconds: u64,
    pub etcd_version: String,
    pub mosquitto_version: String,
    /// Writes that are answered when a quorum has them on the disk.
    pub writes: Vec<WriteRow>,
    /// Publications with QoS 1 into a broker.
    pub fan_in: Vec<FanInRow>,
    pub fan_out: Vec<FanOut>,
}

/// One system of one size, with one number of clients.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WriteRow {
    pub system: String,
    /// Validators, or members.
    pub servers: usize,
    /// Connections of all clients together.
    pub connections: usize,
    pub figures: Figures,
}

/// One broker with one kind of payload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FanInRow {
    pub system: String,
    pub payload_bytes: usize,
    /// Readings of devices in one payload.
    pub events: usize,
    /// The figures of the acknowledgements (PUBACK).
    pub acknowledged: Figures,
    /// The figures of the receipts: the payload is in a block.
    pub committed: Option<Figures>,
}

/// Raises the soft limit of open files, which the programs inherit.
///
/// # Errors
/// The hard limit is below what the connections need.
pub fn raise_file_limit(connections: usize) -> Result<(), BenchError> {
    let needed = connections as u64 + OTHER_FILES;
    let failed = |error: nix::Error| BenchError::io("the limit of open files", "")(error.into());
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
    if hard < needed {
        let limit = hard;
        return Err(BenchError::Files { limit, needed });
    }
    let failed = |error: nix::Error| BenchError::io("the limit of open files", "")(error.into());
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(needed), hard).map_err(failed)
}

pub async fn run(options: &PeersOptions, dir: &Path, program: &Path) -> Result<(), BenchError> {
    let packages = options.packages.as_deref();
    let (etcd, mosquitto) = (
        Program::find("etcd", "etcd-server", packages)?,
        Program::find("mosquitto", "mosquitto", packages)?,
    );
    let most = options.connections.iter().copied().max().unwrap_or(0);
    raise_file_limit(most)?;
    let machine = machine::describe(dir)?;
    table::machine(&machine, program);
    let mut report = PeersReport {
        machine,
        seconds: options.seconds,
        etcd_version: etcd.version("--version").await?,
        mosquitto_version: mosquitto.version("-h").await?,
        writes: Vec::new(),
        fan_in: Vec::new(),
        fan_out: Vec::new(),
    };
    for validators in &options.validators {
        let rows = ledger_writes(options, dir, program, *validators).await?;
        report.writes.extend(rows);
    }
    for members in &options.members {
        let rows = etcd_writes(options, dir, &etcd, *members).await?;
        report.writes.extend(rows);
    }
    tables::writes(&report.writes);
    node_mqtt(options, dir, program, most, &mut report).await?;
    mosquitto_mqtt(options, dir, &mosquitto, &mut report).await?;
    tables::mqtt(&report);
    report::write(options.report.as_deref(), "peers-report.json", &report)
}

async fn ledger_writes(
    options: &PeersOptions,
    dir: &Path,
    program: &Path,
    validators: usize,
) -> Result<Vec<WriteRow>, BenchError> {
    let mut cluster = Cluster::start(program, dir, validators).await?;
    let measured = measure_ledger(&mut cluster, options).await;
    let stopped = cluster.stop().await;
    let rows = measured?;
    stopped?;
    Ok(rows)
}

async fn measure_ledger(
    cluster: &mut Cluster,
    options: &PeersOptions,
) -> Result<Vec<WriteRow>, BenchError> {
    cluster.ready().await?;
    let fleet = Arc::new(Fleet::new(cluster.chain_id));
    load::register(cluster, &fleet).await?;
    // Only the ratios to these would be of use, and the peers have none.
    let limits = MachineLimits {
        signs_per_second: f64::INFINITY,
        verifications_per_second: f64::INFINITY,
        fdatasync_ms: 0.0,
    };
    let mut rows = Vec::new();
    for clients in &options.clients {
        let phase = LoadPhase {
            workload: Workload::Transactions,
            clients: *clients,
            seconds: options.seconds,
            limits,
        };
        let row = load::run(cluster, &fleet, phase).await?;
        if let Some(first) = row.first_failure {
            return Err(BenchError::Failures(row.failed, row.workload, first));
        }
        let figures = Figures {
            clients: row.clients,
            seconds: row.seconds,
            done: row.committed,
            per_second: row.per_second,
            p50_ms: row.p50_ms,
            p99_ms: row.p99_ms,
            max_ms: row.max_ms,
            servers_cpu_us: row.nodes_cpu_us,
            clients_cpu_us: row.clients_cpu_us,
            disk_bytes: row.disk_bytes,
            written_bytes: row.written_bytes,
            memory_bytes: row.memory_after_bytes,
            others_cpu_percent: row.others_cpu_percent,
        };
        rows.push(WriteRow {
            system: "lamplighter".to_owned(),
            servers: cluster.nodes.len(),
            connections: *clients,
            figures,
        });
    }
    Ok(rows)
}

async fn etcd_writes(
    options: &PeersOptions,
    dir: &Path,
    program: &Program,
    members: usize,
) -> Result<Vec<WriteRow>, BenchError> {
    let etcd = Etcd::start(program, dir, members).await?;
    // The chain of its signatures does not matter: nobody verifies them.
    let fleet = Arc::new(Fleet::new(lamplighter_types::Hash::ZERO));
    let mut rows = Vec::new();
    for clients in &options.clients {
        let mut shapes = vec![*clients];
        shapes.extend((*clients > SHARED_CONNECTIONS).then_some(SHARED_CONNECTIONS));
        for connections in shapes {
            let figures = etcd.measure(&fleet, *clients, connections, options.seconds);
            rows.push(WriteRow {
                system: "etcd".to_owned(),
                servers: members,
                connections,
                figures: figures.await?,
            });
        }
    }
    etcd.stop().await?;
    Ok(rows)
}

const MQTT_LOADS: [Workload; 2] = [Workload::Transactions, Workload::EventBatches];

async fn fan_ins(
    system: &str,
    broker: &Broker,
    fleet: &Arc<Fleet>,
    clients: &[Client],
    options: &PeersOptions,
    report: &mut PeersReport,
) -> Result<(), BenchError> {
    for workload in MQTT_LOADS {
        let done = publishers::run(broker, fleet, clients, workload, options.seconds).await?;
        report.fan_in.push(FanInRow {
            system: system.to_owned(),
            payload_bytes: done.payload_bytes,
            events: workload.events(),
            acknowledged: done.acknowledged,
            committed: done.committed,
        });
    }
    Ok(())
}

/// One node with its MQTT edge: the brokers are single programs.
async fn node_mqtt(
    options: &PeersOptions,
    dir: &Path,
    program: &Path,
    most: usize,
    report: &mut PeersReport,
) -> Result<(), BenchError> {
    let mut cluster = Cluster::start(program, dir, 1).await?;
    let measured = measure_node(&mut cluster, options, most, report).await;
    let stopped = cluster.stop().await;
    measured?;
    stopped
}

async fn measure_node(
    cluster: &mut Cluster,
    options: &PeersOptions,
    most: usize,
    report: &mut PeersReport,
) -> Result<(), BenchError> {
    cluster.ready().await?;
    let fleet = Arc::new(Fleet::new(cluster.chain_id));
    load::register(cluster, &fleet).await?;
    gateways::register(cluster, &fleet, most).await?;
    let node = &cluster.nodes[0];
    let broker = Broker {
        address: node.mqtt,
        processes: vec![(node.pid, node.data.clone())],
        is_ledger: true,
    };
    // First the connections alone: what a load leaves in memory is not theirs.
    for connections in &options.connections {
        let clients = gateways::clients(node, &fleet, *connections).await?;
        let http = node.http;
        let cause = async || {
            let mut connection = load::open(http).await?;
            let signed = lamplighter_types::codec::encode(&fleet.event(0));
            match load::submit_until_accepted(&mut connection, &signed).await? {
                SubmitOutcome::Committed(committed) => Ok(committed.height),
                SubmitOutcome::Failed(why) => Err(BenchError::Failures(1, "a head", why)),
                SubmitOutcome::Busy => Err(BenchError::Failures(1, "a head", "busy".to_owned())),
            }
        };
        let row = broker::fan_out("lamplighter", &broker, &clients, cause).await?;
        report.fan_out.push(row);
    }
    let senders = gateways::senders(node, &fleet, GATEWAYS).await?;
    fan_ins("lamplighter", &broker, &fleet, &senders, options, report).await
}

async fn mosquitto_mqtt(
    options: &PeersOptions,
    dir: &Path,
    program: &Program,
    report: &mut PeersReport,
) -> Result<(), BenchError> {
    let broker = mosquitto::start(program, dir).await?;
    let measured = measure_mosquitto(&broker, options, report).await;
    let stopped = broker.stop().await;
    measured?;
    stopped
}

async fn measure_mosquitto(
    process: &foreign::Foreign,
    options: &PeersOptions,
    report: &mut PeersReport,
) -> Result<(), BenchError> {
    let broker = Broker {
        address: process.address,
        processes: vec![(process.pid, process.data.clone())],
        is_ledger: false,
    };
    let fleet = Arc::new(Fleet::new(lamplighter_types::Hash::ZERO));
    let anonymous = |number| Client {
        id: gateways::name(number),
        token: None,
    };
    // As long as the head of a node was.
    let length = report
        .fan_out
        .first()
        .map_or(1_000, |row| row.payload_bytes);
    for connections in &options.connections {
        let clients: Vec<_> = (0..*connections).map(anonymous).collect();
        let mut publisher = mosquitto::Publisher::open(&broker, length).await?;
        let cause = async || publisher.publish().await;
        let row = broker::fan_out("mosquitto", &broker, &clients, cause).await?;
        report.fan_out.push(row);
    }
    let senders: Vec<_> = (0..GATEWAYS).map(anonymous).collect();
    fan_ins("mosquitto", &broker, &fleet, &senders, options, report).await
}
