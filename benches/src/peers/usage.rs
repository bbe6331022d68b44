//! Processor time, memory and disk of a group of processes over the counted time of a phase.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::cluster::ClusterSample;
use crate::error::BenchError;
use crate::procfs;

/// The processes of one system, each with its data directory.
pub type Processes = Vec<(u32, PathBuf)>;

/// The figures of one system in one phase. Nothing of it names the system.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    pub clients: usize,
    pub seconds: f64,
    pub done: u64,
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// Processor time of all servers together for one request.
    pub servers_cpu_us: f64,
    /// The same of the clients.
    pub clients_cpu_us: f64,
    /// Growth of one server's folder for one request.
    pub disk_bytes: f64,
    /// Bytes that one server wrote to the disk for one request.
    pub written_bytes: f64,
    /// Resident memory of the largest server at the end.
    pub memory_bytes: u64,
    /// Share of all cores that other processes used meanwhile.
    pub others_cpu_percent: f64,
}

/// What processes and clients had used at one moment.
pub struct Usage {
    at: Instant,
    servers: ClusterSample,
    clients: Duration,
    all: Duration,
    count: usize,
}

impl Usage {
    pub fn now(processes: &Processes) -> Result<Self, BenchError> {
        let mut servers = ClusterSample::default();
        for (pid, data) in processes {
            let memory = procfs::memory(*pid)?;
            servers.cpu += procfs::cpu(*pid)?;
            servers.disk_bytes += procfs::disk_bytes(data)?;
            servers.written_bytes += procfs::written_bytes(*pid)?;
            servers.memory_bytes = servers.memory_bytes.max(memory.now_bytes);
        }
        Ok(Self {
            at: Instant::now(),
            servers,
            clients: procfs::cpu(std::process::id())?,
            all: procfs::cpu_of_all()?,
            count: processes.len().max(1),
        })
    }

    /// Resident memory of the largest server.
    pub fn memory_bytes(&self) -> u64 {
        self.servers.memory_bytes
    }

    /// The figures from this moment to `after`, without latencies.
    pub fn until(&self, after: &Self, clients: usize, done: u64) -> Figures {
        let seconds = (after.at - self.at).as_secs_f64();
        let each = |total: f64| total / done.max(1) as f64;
        let on_one =
            |before: u64, after: u64| each(after.saturating_sub(before) as f64 / self.count as f64);
        let servers_cpu = after.servers.cpu.saturating_sub(self.servers.cpu);
        let clients_cpu = after.clients.saturating_sub(self.clients);
        let all = after.all.saturating_sub(self.all);
        let others = all.saturating_sub(servers_cpu + clients_cpu).as_secs_f64();
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        Figures {
            clients,
            seconds,
            done,
            per_second: done as f64 / seconds,
            servers_cpu_us: each(servers_cpu.as_secs_f64() * 1e6),
            clients_cpu_us: each(clients_cpu.as_secs_f64() * 1e6),
            disk_bytes: on_one(self.servers.disk_bytes, after.servers.disk_bytes),
            written_bytes: on_one(self.servers.written_bytes, after.servers.written_bytes),
            memory_bytes: after.servers.memory_bytes,
            others_cpu_percent: others / (seconds * cores) * 100.0,
            ..Figures::default()
        }
    }
}
