//! The assessment of a soak: memory, threads and files must be flat, and the disk must grow as
//! predicted.

use serde::Serialize;

use super::SoakReport;
use super::predict::Prediction;
use super::watch::{NodeSample, Sample};
use crate::cluster::BoundedMemory;
use crate::error::BenchError;

const MIB: f64 = 1_048_576.0;
/// Fitted growth of memory over the assessed time that still counts as flat: as a part of the
/// fitted value at the begin, and in bytes. Table readers and the allocator's waste stay below it.
const MEMORY_GROWTH_PART: f64 = 0.10;
const MEMORY_GROWTH_BYTES: f64 = 16.0 * MIB;
/// Fitted growth of threads, and of open files that are no tables, that still counts as flat.
const COUNT_GROWTH: f64 = 8.0;
/// Most table files that a store keeps open (`rocks/src/options.rs`), with those of one view and
/// one compaction.
const TABLES_OPEN_MAX: u64 = 256 + 32;
/// Bounds of the memtables, those being flushed included, and of the block cache
/// (`rocks/src/options.rs`), each with the little by which RocksDB exceeds them.
const MEMTABLES_BYTES_MAX: u64 = 48 << 20;
const CACHE_BYTES_MAX: u64 = 26 << 20;
/// Deviation of the disk from the prediction that is accepted.
const DISK_OFF_PART: f64 = 0.05;
/// Least growth of the tables that can be assessed: memtables are flushed in portions of 8 MiB, and
/// a compaction holds its inputs until it ends.
const DISK_GROWTH_BYTES_MIN: f64 = 128.0 * MIB;
/// Shortest time in which memory can be assessed: caches and memtables fill at first.
const MEMORY_DURATION_S_MIN: f64 = 480.0;

/// A line fitted to the samples of one figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TrendLine {
    pub begin: f64,
    pub end: f64,
    pub least: f64,
    pub most: f64,
    pub per_unit: f64,
}

impl TrendLine {
    /// Fits by least squares; `None` for fewer than two different x values.
    pub fn fit(points: &[(f64, f64)]) -> Option<Self> {
        let n = points.len() as f64;
        let mean_x = points.iter().map(|p| p.0).sum::<f64>() / n;
        let mean_y = points.iter().map(|p| p.1).sum::<f64>() / n;
        let spread: f64 = points.iter().map(|p| (p.0 - mean_x).powi(2)).sum();
        if points.len() < 2 || spread <= 0.0 {
            return None;
        }
        let joint: f64 = points.iter().map(|p| (p.0 - mean_x) * (p.1 - mean_y)).sum();
        let per_unit = joint / spread;
        let at = |x: f64| mean_y + per_unit * (x - mean_x);
        let values = points.iter().map(|p| p.1);
        Some(Self {
            begin: at(points[0].0),
            end: at(points[points.len() - 1].0),
            least: values.clone().fold(f64::INFINITY, f64::min),
            most: values.fold(f64::NEG_INFINITY, f64::max),
            per_unit,
        })
    }

    fn growth(&self) -> f64 {
        self.end - self.begin
    }
}

/// The assessment of one node. `per_unit` is per second; for the disk, per transaction.
#[derive(Clone, Debug, Serialize)]
pub struct NodeAssessment {
    pub memory: TrendLine,
    /// Memory that is neither memtable nor cache: these fill up to their bounds, and the memtables
    /// of quiet column families take hours for that.
    pub other_memory: TrendLine,
    /// True if `other_memory` is flat; `None` if the run was too short.
    pub memory_flat: Option<bool>,
    /// True if memtables and cache stayed within their bounds.
    pub bounds_kept: bool,
    pub threads: TrendLine,
    pub threads_flat: bool,
    /// Open files that are no tables.
    pub files: TrendLine,
    pub files_flat: bool,
    pub tables_open_max: u64,
    /// Table files in use.
    pub tables: TrendLine,
    /// True if the tables grew as predicted; `None` if too little was written.
    pub tables_as_predicted: Option<bool>,
    pub off_prediction_percent: f64,
    /// Write-ahead and other logs; bounded.
    pub logs: TrendLine,
    /// Table files that only the last snapshot still holds; bounded by the tables' size.
    pub kept: TrendLine,
    /// Growth of the data directory per transaction.
    pub disk_bytes_each: f64,
}

/// The assessment of all nodes.
#[derive(Clone, Debug, Serialize)]
pub struct SoakAssessment {
    pub nodes: Vec<NodeAssessment>,
    pub good: bool,
}

pub fn assess(samples: &[Sample], from_s: f64, prediction: &Prediction) -> SoakAssessment {
    let assessed: Vec<&Sample> = samples.iter().filter(|s| s.seconds >= from_s).collect();
    let count = assessed.first().map_or(0, |sample| sample.nodes.len());
    let nodes: Vec<_> = (0..count)
        .filter_map(|node| assess_node(&assessed, node, prediction))
        .collect();
    let good = !nodes.is_empty() && nodes.iter().all(NodeAssessment::good);
    SoakAssessment { nodes, good }
}

fn assess_node(
    samples: &[&Sample],
    node: usize,
    prediction: &Prediction,
) -> Option<NodeAssessment> {
    let over = |x: fn(&Sample) -> f64, figure: fn(&NodeSample) -> f64| {
        let points = samples.iter().map(|s| (x(s), figure(&s.nodes[node])));
        TrendLine::fit(&points.collect::<Vec<_>>())
    };
    let time = |figure| over(|s| s.seconds, figure);
    let written = |figure| over(|s| s.committed as f64, figure);
    let predicted = samples.iter().map(|s| {
        let predicted = prediction.bytes(s.committed, s.height);
        (predicted, s.nodes[node].disk.tables_bytes as f64)
    });
    let memory = time(|n| n.memory_bytes as f64)?;
    let other_memory = time(|n| n.unbounded_memory_bytes() as f64)?;
    let threads = time(|n| n.threads as f64)?;
    let files = time(|n| n.files.others as f64)?;
    let tables = written(|n| n.disk.tables_bytes as f64)?;
    let off = TrendLine::fit(&predicted.collect::<Vec<_>>())?.per_unit - 1.0;
    let enough = tables.growth() >= DISK_GROWTH_BYTES_MIN;
    let duration_s = samples.last()?.seconds - samples.first()?.seconds;
    let allowed = (other_memory.begin * MEMORY_GROWTH_PART).max(MEMORY_GROWTH_BYTES);
    let flat = other_memory.growth() <= allowed;
    let bounded = samples.iter().map(|sample| sample.nodes[node].bounded);
    Some(NodeAssessment {
        memory_flat: (duration_s >= MEMORY_DURATION_S_MIN).then_some(flat),
        bounds_kept: bounded.into_iter().all(within_bounds),
        memory,
        other_memory,
        threads_flat: threads.growth() <= COUNT_GROWTH,
        threads,
        files_flat: files.growth() <= COUNT_GROWTH,
        files,
        tables_open_max: samples
            .iter()
            .map(|s| s.nodes[node].files.tables)
            .max()
            .unwrap_or_default(),
        tables,
        tables_as_predicted: enough.then_some(off.abs() <= DISK_OFF_PART),
        off_prediction_percent: off * 100.0,
        logs: time(|n| n.disk.logs_bytes as f64)?,
        kept: time(|n| n.disk.kept_bytes as f64)?,
        disk_bytes_each: written(|n| n.disk.all_bytes() as f64)?.per_unit,
    })
}

fn within_bounds(bounded: BoundedMemory) -> bool {
    bounded.memtable_bytes <= MEMTABLES_BYTES_MAX && bounded.cache_bytes <= CACHE_BYTES_MAX
}

impl NodeAssessment {
    fn good(&self) -> bool {
        self.memory_flat != Some(false)
            && self.bounds_kept
            && self.threads_flat
            && self.files_flat
            && self.tables_open_max <= TABLES_OPEN_MAX
            && self.tables_as_predicted != Some(false)
    }
}

impl SoakAssessment {
    /// Checks that every figure is good.
    pub fn check(&self) -> Result<(), BenchError> {
        if self.good {
            Ok(())
        } else {
            Err(BenchError::NotFlat)
        }
    }
}

pub fn print(report: &SoakReport) {
    let SoakReport {
        committed,
        failed,
        busy,
        late_ms_max,
        p50_ms,
        p99_ms,
        max_ms,
        prediction,
        ..
    } = report;
    println!(
        "\n{committed} committed, {failed} failed, {busy} times busy, at most {late_ms_max} ms \
         late; ms: p50 {p50_ms:.1} p99 {p99_ms:.1} max {max_ms:.0}"
    );
    println!(
        "prediction: {:.0} B of tables for a transaction and {:.0} B for a block; of {} with \
         {:.1} in a block, before compression, each: {:.0} B (envelope {:.0}, receipt {:.0}, \
         event {:.0})",
        prediction.transaction_bytes,
        prediction.block_bytes,
        prediction.rows.transactions,
        prediction.rows.transactions as f64 / prediction.rows.blocks.max(1) as f64,
        prediction.rows.all_bytes,
        prediction.rows.envelope_bytes,
        prediction.rows.receipt_bytes,
        prediction.rows.event_bytes,
    );
    println!(
        "  {:<5} {:>22} {:>14} {:>13} {:>13} {:>7} {:>20} {:>9} {:>9} {:>9}",
        "node",
        "MiB begin,end,most",
        "unbounded part",
        "threads",
        "files",
        "tables",
        "B/tx in tables, off",
        "logs MiB",
        "kept MiB",
        "all B/tx"
    );
    for (number, node) in (1..).zip(&report.verdict.nodes) {
        print_node(number, node);
    }
    println!(
        "{}",
        if report.verdict.good {
            "flat"
        } else {
            "NOT FLAT"
        }
    );
}

fn print_node(number: usize, node: &NodeAssessment) {
    let mib = |bytes: f64| bytes / MIB;
    let ends = |line: &TrendLine| format!("{:.0}..{:.0}", line.begin, line.end);
    let memory = &node.memory;
    let off = match node.tables_as_predicted {
        Some(true) => "",
        Some(false) => " OFF",
        None => " too short",
    };
    println!(
        "  {:<5} {:>6.1} {:>7.1} {:>7.1} {:>6.1} {:>7.1} {:>13} {:>13} {:>7} {:>10.0} {:>+7.1} \
         %{off} {:>8.1} {:>9.1} {:>9.0}{}{}{}{}",
        number,
        mib(memory.begin),
        mib(memory.end),
        mib(memory.most),
        mib(node.other_memory.begin),
        mib(node.other_memory.end),
        ends(&node.threads),
        ends(&node.files),
        node.tables_open_max,
        node.tables.per_unit,
        node.off_prediction_percent,
        mib(node.logs.most),
        mib(node.kept.most),
        node.disk_bytes_each,
        match node.memory_flat {
            Some(true) => "",
            Some(false) => " MEMORY GROWS",
            None => " (memory: too short)",
        },
        if node.bounds_kept {
            ""
        } else {
            " OVER ITS BOUNDS"
        },
        if node.threads_flat {
            ""
        } else {
            " THREADS GROW"
        },
        if node.files_flat { "" } else { " FILES GROW" },
    );
}
