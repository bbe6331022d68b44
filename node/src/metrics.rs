//! The metrics of the store and of the process in `/metrics`, read at each request.

use std::fmt;
use std::fs;

use lamplighter_rocks::{RocksKv, Statistics};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;

/// Figures of the store and of the process.
pub(crate) struct StoreMetrics(pub RocksKv);

impl fmt::Debug for StoreMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreMetrics")
    }
}

impl Collector for StoreMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let mut gauge = |name: &str, help: &str, value: u64| {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let encoder = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(encoder)
        };
        if let Some(bytes) = resident_bytes() {
            gauge("memory_bytes", "Resident memory of the process", bytes)?;
        }
        let statistics = match self.0.statistics() {
            Ok(statistics) => statistics,
            Err(error) => {
                // The other metrics are useful without these.
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the store's figures can't be read");
                return Ok(());
            }
        };
        let Statistics {
            disk_bytes,
            memtable_bytes,
            block_cache_bytes,
            table_reader_bytes,
            keys,
            pending_compaction_bytes,
        } = statistics;
        let compaction = "Bytes that compactions still have to rewrite, estimated";
        gauge("store_disk_bytes", "Files of the store", disk_bytes)?;
        gauge("store_memtable_bytes", "Memtables", memtable_bytes)?;
        gauge("store_cache_bytes", "Cached blocks", block_cache_bytes)?;
        gauge(
            "store_reader_bytes",
            "Readers of tables",
            table_reader_bytes,
        )?;
        gauge("store_keys", "Keys, estimated", keys)?;
        gauge(
            "store_compaction_bytes",
            compaction,
            pending_compaction_bytes,
        )
    }
}

/// `VmRSS` of `proc_pid_status(5)`; none where there is no such file.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}
