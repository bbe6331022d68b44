//! The machine of the measurement.

use std::fs;
use std::path::Path;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use serde::{Deserialize, Serialize};

use crate::error::BenchError;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub memory_bytes: u64,
    pub kernel: String,
    /// Load average of the minute before the start.
    pub load_average: String,
    /// True if the stores are in memory: no sync costs anything then, and the figures mean little.
    pub in_memory: bool,
    /// True if this program was built with debug assertions, usually without optimisation.
    pub debug_assertions: bool,
}

/// Describes this machine, with the disk of `dir`.
pub fn describe(dir: &Path) -> Result<Machine, BenchError> {
    let file =
        |path: &'static str| fs::read_to_string(path).map_err(BenchError::io("reading", path));
    let value = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let memory_kib = value(&file("/proc/meminfo")?, "MemTotal")
        .and_then(|text| text.strip_suffix(" kB")?.parse::<u64>().ok())
        .ok_or_else(|| BenchError::Proc("/proc/meminfo".into()))?;
    let kind = statfs(dir)
        .map_err(|error| BenchError::io("looking at the file system of", dir)(error.into()))?
        .filesystem_type();
    let cores = std::thread::available_parallelism()
        .map_err(BenchError::io("counting the cores", ""))?
        .get();
    let load_average = file("/proc/loadavg")?;
    Ok(Machine {
        // Some architectures do not name their model there.
        processor: value(&file("/proc/cpuinfo")?, "model name").unwrap_or_default(),
        cores,
        memory_bytes: memory_kib * 1_024,
        kernel: file("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        load_average: load_average
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_owned(),
        in_memory: kind == TMPFS_MAGIC,
        debug_assertions: cfg!(debug_assertions),
    })
}
