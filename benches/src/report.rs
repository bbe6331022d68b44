//! The report: what `bench-report.json` holds.

use std::path::PathBuf;

use serde::Serialize;

use crate::error::BenchError;
use crate::machine::Machine;

#[derive(Debug, Serialize)]
pub struct Report {
    /// What ran the nodes.
    pub program: PathBuf,
    /// Of each phase.
    pub seconds: u64,
    pub machine: Machine,
    pub ceilings: Ceilings,
    pub clusters: Vec<ClusterReport>,
}

/// What the machine does at best. Signatures on one core.
#[derive(Debug, Serialize)]
pub struct Ceilings {
    pub signs_per_second: f64,
    pub single_verifications_per_second: f64,
    /// In batches of 256 with 64 keys.
    pub batch_verifications_per_second: f64,
    pub fdatasync_extending: SyncRate,
    pub fdatasync_overwriting: SyncRate,
    /// Four files at once, as four validators on one disk have.
    pub fdatasync_extending_4_files: SyncRate,
    pub fdatasync_overwriting_4_files: SyncRate,
}

/// Blocks of 4 KiB, each followed by `fdatasync`.
#[derive(Debug, Serialize)]
pub struct SyncRate {
    /// Of all files together.
    pub per_second: f64,
    /// Near to what the disk takes when no thread has to wait for a core.
    pub p10_us: u32,
    pub p50_us: u32,
    pub p99_us: u32,
}

/// One ledger, through all phases.
#[derive(Debug, Serialize)]
pub struct ClusterReport {
    pub validators: usize,
    /// Measured again while this ledger was idle, since disks have moods: what its rows are
    /// compared with.
    pub fdatasync_extending: SyncRate,
    /// Of the largest node, before the first transaction.
    pub idle_memory_bytes: u64,
    /// Of the largest node, over all phases.
    pub peak_memory_bytes: u64,
    pub rows: Vec<Row>,
}

/// One phase. Times are from submission to the answer that the transaction is committed.
#[derive(Debug, Serialize)]
pub struct Row {
    pub workload: &'static str,
    pub clients: usize,
    /// That were counted, after the warm-up.
    pub seconds: f64,
    /// Transactions in a block that succeeded, within these seconds.
    pub committed: u64,
    /// Refused, or in a block as failed, at any time of the phase.
    pub failed: u64,
    pub first_failure: Option<String>,
    /// Answers that a node is busy; the same bytes were sent again.
    pub busy: u64,
    pub per_second: f64,
    pub events_per_second: f64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// Processor time of all nodes together, for one transaction.
    pub nodes_cpu_us: f64,
    /// Of the clients, which sign, send and read the answers.
    pub clients_cpu_us: f64,
    /// Of it for the signature, by the rate of the same run.
    pub signing_us: f64,
    /// Share of all cores that neither nodes nor clients used: what else ran meanwhile.
    pub others_cpu_percent: f64,
    /// Growth of one node's folder for one transaction.
    pub disk_bytes: f64,
    /// What one node had the disk write for one transaction, compaction included.
    pub written_bytes: f64,
    /// Of the largest node, when counting began and when it ended.
    pub memory_before_bytes: u64,
    pub memory_after_bytes: u64,
    /// `per_second` by the batch verifications of one core.
    pub of_verification_ceiling: f64,
    /// `p50_ms` in medians of the growing file's fdatasync, measured while this ledger was idle.
    pub p50_in_fdatasyncs: f64,
}

impl Report {
    /// An error if any transaction failed: then the rates are those of something else.
    pub fn demand_success(&self) -> Result<(), BenchError> {
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

/// The value below or at which `percent` of the sorted values lie (nearest rank); 0 of none.
pub fn percentile(sorted: &[u32], percent: f64) -> u32 {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(0)
}
