//! The parts of `docs/benchmarks.md` about etcd and mosquitto.

use super::text::{number, table};
use crate::peers::{FanInRow, Figures, PeersReport, WriteRow, peer_of};

const MIB: f64 = 1_048_576.0;

pub fn peers(report: &PeersReport) -> String {
    format!(
        "{}; {}; phases of {} s; {} cores, load average before the start {}.\n",
        report.etcd_version,
        report.mosquitto_version,
        report.seconds,
        report.machine.cores,
        report.machine.load_average,
    )
}

const PEER_COLUMNS: [&str; 12] = [
    "system",
    "servers",
    "clients",
    "connections",
    "per s",
    "p50 ms",
    "p99 ms",
    "servers us",
    "client us",
    "disk B",
    "writ. B",
    "MiB",
];

fn peer_row(system: &str, servers: usize, connections: usize, figures: &Figures) -> Vec<String> {
    vec![
        system.to_owned(),
        servers.to_string(),
        figures.clients.to_string(),
        connections.to_string(),
        number(figures.per_second),
        number(figures.p50_ms),
        number(figures.p99_ms),
        number(figures.servers_cpu_us),
        number(figures.clients_cpu_us),
        number(figures.disk_bytes),
        number(figures.written_bytes),
        number(figures.memory_bytes as f64 / MIB),
    ]
}

pub fn writes(report: &PeersReport) -> String {
    let row = |row: &WriteRow| peer_row(&row.system, row.servers, row.connections, &row.figures);
    table(&PEER_COLUMNS, report.writes.iter().map(row))
}

pub fn ratios(report: &PeersReport) -> String {
    let ledger = report
        .writes
        .iter()
        .filter(|row| row.system == "lamplighter");
    let compared = ledger.filter_map(|row| Some((row, peer_of(row, &report.writes)?)));
    let rows = compared.map(|(row, peer)| {
        let (ledger, other) = (&row.figures, &peer.figures);
        let memory = ledger.memory_bytes as f64 / other.memory_bytes as f64;
        vec![
            format!("{} validators, {} members", row.servers, peer.servers),
            ledger.clients.to_string(),
            number(ledger.per_second / other.per_second),
            number(ledger.p50_ms / other.p50_ms),
            number(ledger.p99_ms / other.p99_ms),
            number(ledger.servers_cpu_us / other.servers_cpu_us),
            number(memory),
            number(ledger.written_bytes / other.written_bytes),
        ]
    });
    table(
        &[
            "ledger / etcd",
            "clients",
            "rate",
            "p50",
            "p99",
            "processor",
            "memory",
            "written",
        ],
        rows,
    )
}

pub fn fan_in(report: &PeersReport) -> String {
    let rows = report.fan_in.iter().flat_map(|row| {
        let kind = |name: &str, figures: &Figures| {
            vec![
                name.to_owned(),
                row.payload_bytes.to_string(),
                row.events.to_string(),
                figures.clients.to_string(),
                number(figures.per_second),
                number(figures.per_second * row.events as f64),
                number(figures.p50_ms),
                number(figures.p99_ms),
                number(figures.servers_cpu_us),
                number(figures.memory_bytes as f64 / MIB),
            ]
        };
        let FanInRow {
            system,
            acknowledged,
            committed,
            ..
        } = row;
        let acknowledged = kind(&format!("{system}, acknowledged"), acknowledged);
        let committed = committed.as_ref();
        let committed = committed.map(|done| kind(&format!("{system}, in a block"), done));
        [Some(acknowledged), committed].into_iter().flatten()
    });
    let columns = [
        "broker",
        "bytes",
        "readings",
        "clients",
        "messages/s",
        "readings/s",
        "p50 ms",
        "p99 ms",
        "broker us",
        "MiB",
    ];
    table(&columns, rows)
}

pub fn fan_out(report: &PeersReport) -> String {
    let rows = report.fan_out.iter().map(|row| {
        vec![
            row.system.clone(),
            row.connections.to_string(),
            row.payload_bytes.to_string(),
            number(row.connected_seconds),
            number(row.first_ms),
            number(row.last_ms),
            number(row.spread_ms),
            number(row.broker_cpu_us),
            number(row.memory_bytes as f64 / MIB),
            number(row.bytes_each() / 1_024.0),
        ]
    });
    let columns = [
        "broker",
        "connections",
        "bytes",
        "connected in s",
        "first ms",
        "last ms",
        "first to last",
        "broker us each",
        "MiB",
        "KiB each",
    ];
    table(&columns, rows)
}
