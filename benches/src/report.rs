//! The report in `bench-report.json`.

use std::path::Path;

use serde::Serialize;

use crate::error::BenchError;
use crate::machine::Machine;
use crate::options;

#[derive(Debug, Serialize)]
pub struct Report {
    /// Duration of each phase.
    pub seconds: u64,
    pub machine: Machine,
    pub ceilings: Ceilings,
    pub clusters: Vec<ClusterReport>,
}

/// The ceilings of the machine. Signatures are on one core.
#[derive(Debug, Serialize)]
pub struct Ceilings {
    pub signs_per_second: f64,
    pub single_verifications_per_second: f64,
    /// Verifications in batches of 256 with 64 keys.
    pub batch_verifications_per_second: f64,
    pub fdatasync_extending: SyncRate,
    pub fdatasync_overwriting: SyncRate,
    /// Four files at once, like four validators on one disk.
    pub fdatasync_extending_4_files: SyncRate,
    pub fdatasync_overwriting_4_files: SyncRate,
}

/// The rate and latencies of blocks of 4 KiB, each followed by `fdatasync`.
#[derive(Debug, Serialize)]
pub struct SyncRate {
    /// The rate of all files together.
    pub per_second: f64,
    /// Close to the latency of the disk when no thread has to wait for a core.
    pub p10_us: u32,
    pub p50_us: u32,
    pub p99_us: u32,
}

/// The figures of one ledger in all phases.
#[derive(Debug, Serialize)]
pub struct ClusterReport {
    pub validators: usize,
    /// Measured again while this ledger was idle, since disks vary; its rows are compared with it.
    pub fdatasync_extending: SyncRate,
    /// Memory of the largest node before the first transaction.
    pub idle_memory_bytes: u64,
    /// Most memory of the largest node over all phases.
    pub peak_memory_bytes: u64,
    pub rows: Vec<Row>,
}

/// The figures of one phase. Latencies are from submission to the answer that the transaction is
/// committed.
#[derive(Debug, Serialize)]
pub struct Row {
    pub workload: &'static str,
    pub clients: usize,
    /// The counted time, after the warm-up.
    pub seconds: f64,
    /// Transactions in a block that succeeded, within these seconds.
    pub committed: u64,
    /// Transactions that were refused, or failed in a block, at any time of the phase.
    pub failed: u64,
    pub first_failure: Option<String>,
    /// Answers "busy"; the same bytes were sent again.
    pub busy: u64,
    pub per_second: f64,
    pub events_per_second: f64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// Processor time of all nodes together per transaction.
    pub nodes_cpu_us: f64,
    /// Processor time of the clients per transaction: signing, sending, reading the answers.
    pub clients_cpu_us: f64,
    /// The part of it for the signature, by the rate of the same run.
    pub signing_us: f64,
    /// Share of all cores that other processes used meanwhile.
    pub others_cpu_percent: f64,
    /// Growth of one node's folder per transaction.
    pub disk_bytes: f64,
    /// Bytes that one node wrote to the disk per transaction, compaction included.
    pub written_bytes: f64,
    /// Memory of the largest node, at the begin and end of the counted time.
    pub memory_before_bytes: u64,
    pub memory_after_bytes: u64,
    /// `per_second` divided by the batch verifications of one core.
    pub of_verification_ceiling: f64,
    /// `p50_ms` divided by the median fdatasync of a growing file, measured while this ledger was
    /// idle.
    pub p50_in_fdatasyncs: f64,
}

impl Report {
    /// Checks that no transaction failed: the rates would not be those of the load.
    pub fn check_success(&self) -> Result<(), BenchError> {
        for row in self.clusters.iter().flat_map(|cluster| &cluster.rows) {
            if row.failed > 0 {
                let first = row.first_failure.clone().unwrap_or_default();
                return Err(BenchError::Failures(row.failed, row.workload, first));
            }
            if row.committed == 0 {
                return Err(BenchError::Nothing(row.clients, row.workload));
            }
        }
        Ok(())
    }
}

/// Writes a report as JSON, to `path` or into a file beside this program, and prints where.
pub fn write(
    path: Option<&Path>,
    default_name: &str,
    report: &impl Serialize,
) -> Result<(), BenchError> {
    let path = match path {
        Some(path) => path.to_owned(),
        None => options::program_dir()?.join(default_name),
    };
    let text = serde_json::to_vec_pretty(report).expect("the report has a JSON form");
    std::fs::write(&path, text).map_err(BenchError::io("writing", &path))?;
    println!("\nreport: {}", path.display());
    Ok(())
}

/// The percentile of sorted values by nearest rank; 0 without values.
pub fn percentile(sorted: &[u32], percent: f64) -> u32 {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(0)
}
