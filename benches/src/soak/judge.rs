//! Whether what should be flat is flat, and the disk grows as predicted.

use serde::Serialize;

use super::SoakReport;
use super::predict::Prediction;
use super::watch::{NodeSample, Sample};
use crate::cluster::BoundedMemory;
use crate::error::BenchError;

const MIB: f64 = 1_048_576.0;
/// Fitted growth of memory over the judged time that counts as flat: of the fitted beginning, and
/// in any case. Table readers and the allocator's own waste stay below it.
const MEMORY_GROWTH_PART: f64 = 0.10;
const MEMORY_GROWTH_BYTES: f64 = 16.0 * MIB;
/// Of open files that are no tables, and of threads.
const COUNT_GROWTH: f64 = 8.0;
/// Table files that a store keeps open at most (`rocks/src/options.rs`), with those of one view
/// and one compaction.
const TABLES_OPEN_MAX: u64 = 256 + 32;
/// Memtables that are written to and those that are being flushed, and blocks in the cache
/// (`rocks/src/options.rs`), each with the little by which RocksDB overdraws.
const MEMTABLES_BYTES_MAX: u64 = 48 << 20;
const CACHE_BYTES_MAX: u64 = 26 << 20;
/// How far the disk may be off the prediction.
const DISK_OFF_PART: f64 = 0.05;
/// Growth of the tables from which it can be judged: memtables are flushed in portions of 8 MiB,
/// and a compaction holds its inputs until it ends.
const DISK_JUDGED_BYTES: f64 = 128.0 * MIB;
/// Time from which memory can be judged: in a shorter one caches and memtables are still filling.
const MEMORY_JUDGED_S: f64 = 480.0;

/// A line through the samples of one figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Line {
    pub begin: f64,
    pub end: f64,
    pub least: f64,
    pub most: f64,
    pub per_unit: f64,
}

impl Line {
    /// Least squares; none of fewer than two places.
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

/// One node. `per_unit` is for a second, of the disk for a transaction.
#[derive(Clone, Debug, Serialize)]
pub struct NodeVerdict {
    pub memory: Line,
    /// Of it what is neither memtable nor cache: these fill up to their bounds, and the memtables
    /// of quiet column families take hours for that.
    pub other_memory: Line,
    /// Whether `other_memory` is flat. `None`: too short to judge.
    pub memory_flat: Option<bool>,
    /// Whether memtables and cache kept to their bounds.
    pub bounds_kept: bool,
    pub threads: Line,
    pub threads_flat: bool,
    /// Open files that are no tables.
    pub files: Line,
    pub files_flat: bool,
    pub tables_open_max: u64,
    /// Table files in use.
    pub tables: Line,
    /// `None`: too little was written to judge.
    pub tables_as_predicted: Option<bool>,
    pub off_prediction_percent: f64,
    /// Write-ahead and other logs; bounded.
    pub logs: Line,
    /// Table files that only the last snapshot still holds; bounded by the tables' size.
    pub kept: Line,
    /// All of the data directory, for a transaction.
    pub disk_bytes_each: f64,
}

/// All nodes.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    pub nodes: Vec<NodeVerdict>,
    pub good: bool,
}

pub fn judge(samples: &[Sample], from_s: f64, prediction: &Prediction) -> Verdict {
    let judged: Vec<&Sample> = samples.iter().filter(|s| s.seconds >= from_s).collect();
    let count = judged.first().map_or(0, |sample| sample.nodes.len());
    let nodes: Vec<_> = (0..count)
        .filter_map(|node| judge_node(&judged, node, prediction))
        .collect();
    let good = !nodes.is_empty() && nodes.iter().all(NodeVerdict::good);
    Verdict { nodes, good }
}

fn judge_node(samples: &[&Sample], node: usize, prediction: &Prediction) -> Option<NodeVerdict> {
    let over = |x: fn(&Sample) -> f64, figure: fn(&NodeSample) -> f64| {
        let points = samples.iter().map(|s| (x(s), figure(&s.nodes[node])));
        Line::fit(&points.collect::<Vec<_>>())
    };
    let time = |figure| over(|s| s.seconds, figure);
    let written = |figure| over(|s| s.committed as f64, figure);
    let predicted = samples.iter().map(|s| {
        let predicted = prediction.bytes(s.committed, s.height);
        (predicted, s.nodes[node].disk.tables_bytes as f64)
    });
    let memory = time(|n| n.memory_bytes as f64)?;
    let other_memory = time(|n| n.other_memory_bytes() as f64)?;
    let threads = time(|n| n.threads as f64)?;
    let files = time(|n| n.files.others as f64)?;
    let tables = written(|n| n.disk.tables_bytes as f64)?;
    let off = Line::fit(&predicted.collect::<Vec<_>>())?.per_unit - 1.0;
    let enough = tables.growth() >= DISK_JUDGED_BYTES;
    let judged_s = samples.last()?.seconds - samples.first()?.seconds;
    let allowed = (other_memory.begin * MEMORY_GROWTH_PART).max(MEMORY_GROWTH_BYTES);
    let flat = other_memory.growth() <= allowed;
    let bounded = samples.iter().map(|sample| sample.nodes[node].bounded);
    Some(NodeVerdict {
        memory_flat: (judged_s >= MEMORY_JUDGED_S).then_some(flat),
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

impl NodeVerdict {
    fn good(&self) -> bool {
        self.memory_flat != Some(false)
            && self.bounds_kept
            && self.threads_flat
            && self.files_flat
            && self.tables_open_max <= TABLES_OPEN_MAX
            && self.tables_as_predicted != Some(false)
    }
}

impl Verdict {
    /// An error if anything is not as it should be.
    pub fn demand(&self) -> Result<(), BenchError> {
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

fn print_node(number: usize, node: &NodeVerdict) {
    let mib = |bytes: f64| bytes / MIB;
    let ends = |line: &Line| format!("{:.0}..{:.0}", line.begin, line.end);
    let memory = &node.memory;
    let judged = match node.tables_as_predicted {
        Some(true) => "",
        Some(false) => " OFF",
        None => " too short",
    };
    println!(
        "  {:<5} {:>6.1} {:>7.1} {:>7.1} {:>6.1} {:>7.1} {:>13} {:>13} {:>7} {:>10.0} {:>+7.1} \
         %{judged} {:>8.1} {:>9.1} {:>9.0}{}{}{}{}",
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
