//! Samples of the resources of all nodes.

use std::time::Duration;

use serde::Serialize;

use crate::cluster::{BoundedMemory, Cluster};
use crate::error::BenchError;
use crate::procfs::{self, DiskUse, OpenFiles};

const MIB: f64 = 1_048_576.0;

/// The resources of all nodes at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    pub seconds: f64,
    /// Transactions so far.
    pub committed: u64,
    /// Height of the first node.
    pub height: u64,
    pub nodes: Vec<NodeSample>,
}

/// The resources of one node.
#[derive(Clone, Debug, Serialize)]
pub struct NodeSample {
    pub memory_bytes: u64,
    pub bounded: BoundedMemory,
    pub threads: u64,
    pub files: OpenFiles,
    pub disk: DiskUse,
}

impl NodeSample {
    /// Memory without the parts that have a bound.
    pub fn unbounded_memory_bytes(&self) -> u64 {
        let BoundedMemory {
            memtable_bytes,
            cache_bytes,
        } = self.bounded;
        self.memory_bytes
            .saturating_sub(memtable_bytes + cache_bytes)
    }
}

pub async fn sample(cluster: &Cluster, at: Duration, committed: u64) -> Result<Sample, BenchError> {
    let height = match cluster.nodes.first() {
        Some(node) => node.status().await?.height,
        None => 0,
    };
    let mut nodes = Vec::new();
    for node in &cluster.nodes {
        nodes.push(NodeSample {
            memory_bytes: procfs::memory(node.pid)?.now_bytes,
            bounded: node.bounded_memory().await?,
            threads: procfs::threads(node.pid)?,
            files: procfs::open_files(node.pid)?,
            disk: procfs::disk_use(&node.data)?,
        });
    }
    Ok(Sample {
        seconds: at.as_secs_f64(),
        committed,
        height,
        nodes,
    })
}

pub fn head(validators: usize) {
    println!(
        "\nof the largest of {validators} nodes: memory, and of it what is neither memtable nor \
         cache; disk: of the first, in MiB"
    );
    println!(
        "  {:>7} {:>10} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "seconds",
        "committed",
        "MiB",
        "of them",
        "threads",
        "tables",
        "files",
        "tables",
        "logs",
        "kept"
    );
}

pub fn row(sample: &Sample) {
    let most =
        |figure: fn(&NodeSample) -> u64| sample.nodes.iter().map(figure).max().unwrap_or_default();
    let disk = sample.nodes.first().map(|node| node.disk);
    let DiskUse {
        tables_bytes,
        logs_bytes,
        kept_bytes,
    } = disk.unwrap_or_default();
    println!(
        "  {:>7.0} {:>10} {:>8.1} {:>8.1} {:>8} {:>8} {:>8} {:>8.1} {:>8.1} {:>8.1}",
        sample.seconds,
        sample.committed,
        most(|node| node.memory_bytes) as f64 / MIB,
        most(NodeSample::unbounded_memory_bytes) as f64 / MIB,
        most(|node| node.threads),
        most(|node| node.files.tables),
        most(|node| node.files.others),
        tables_bytes as f64 / MIB,
        logs_bytes as f64 / MIB,
        kept_bytes as f64 / MIB,
    );
}
