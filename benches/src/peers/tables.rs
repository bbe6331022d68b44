//! The figures of the peers as tables on standard output.

use super::{FanInRow, FanOut, Figures, PeersReport, WriteRow};

const MIB: f64 = 1_048_576.0;

/// The row of a peer with which a row of the ledger is compared: as many servers that have to agree
/// as the peer can have, the same clients, and of its kinds of connections the faster one.
pub fn peer_of<'a>(row: &WriteRow, rows: &'a [WriteRow]) -> Option<&'a WriteRow> {
    let agree = if row.servers == 1 { 1 } else { 3 };
    let peers = rows.iter().filter(|peer| {
        peer.system != row.system
            && peer.servers == agree
            && peer.figures.clients == row.figures.clients
    });
    peers.max_by(|a, b| a.figures.per_second.total_cmp(&b.figures.per_second))
}

fn head() {
    println!(
        "  {:<12} {:>7} {:>7} {:>5} {:>9} {:>9} {:>9} {:>10} {:>9} {:>8} {:>8} {:>7} {:>6}",
        "system",
        "servers",
        "clients",
        "conn.",
        "per s",
        "p50 ms",
        "p99 ms",
        "servers us",
        "client us",
        "disk B",
        "writ. B",
        "MiB",
        "other"
    );
}

fn line(system: &str, servers: usize, connections: usize, figures: &Figures) {
    println!(
        "  {:<12} {:>7} {:>7} {:>5} {:>9.0} {:>9.2} {:>9.2} {:>10.0} {:>9.0} {:>8.0} {:>8.0} \
         {:>7.1} {:>5.0}%",
        system,
        servers,
        figures.clients,
        connections,
        figures.per_second,
        figures.p50_ms,
        figures.p99_ms,
        figures.servers_cpu_us,
        figures.clients_cpu_us,
        figures.disk_bytes,
        figures.written_bytes,
        figures.memory_bytes as f64 / MIB,
        figures.others_cpu_percent,
    );
}

pub fn writes(rows: &[WriteRow]) {
    println!("\nwrites of the same bytes, each answered when a quorum has it on the disk");
    head();
    for row in rows {
        line(&row.system, row.servers, row.connections, &row.figures);
    }
    println!("  ratios: ledger / etcd of the same run");
    for row in rows.iter().filter(|row| row.system == "lamplighter") {
        let Some(peer) = peer_of(row, rows) else {
            continue;
        };
        let (ledger, other) = (&row.figures, &peer.figures);
        println!(
            "    {} validators / {} members, {} clients: rate {:.2}, p50 {:.2}, p99 {:.2}, \
             processor {:.2}, memory {:.2}, written {:.2}",
            row.servers,
            peer.servers,
            ledger.clients,
            ledger.per_second / other.per_second,
            ledger.p50_ms / other.p50_ms,
            ledger.p99_ms / other.p99_ms,
            ledger.servers_cpu_us / other.servers_cpu_us,
            ledger.memory_bytes as f64 / other.memory_bytes as f64,
            ledger.written_bytes / other.written_bytes,
        );
    }
}

pub fn mqtt(report: &PeersReport) {
    println!("\nMQTT, QoS 1 in");
    head();
    for row in &report.fan_in {
        fan_in(row);
    }
    println!("\nMQTT, one message to all (QoS 1)");
    println!(
        "  {:<12} {:>7} {:>10} {:>8} {:>9} {:>9} {:>10} {:>9} {:>11}",
        "system",
        "clients",
        "connect s",
        "bytes",
        "first ms",
        "last ms",
        "spread ms",
        "MiB",
        "KiB each"
    );
    for row in &report.fan_out {
        fan_out(row);
    }
}

fn fan_in(row: &FanInRow) {
    let FanInRow {
        system,
        payload_bytes,
        events,
        acknowledged,
        committed,
    } = row;
    println!("  {payload_bytes} bytes with {events} events:");
    line(system, 1, acknowledged.clients, acknowledged);
    if let Some(committed) = committed {
        line("  committed", 1, committed.clients, committed);
    }
}

fn fan_out(row: &FanOut) {
    println!(
        "  {:<12} {:>7} {:>10.2} {:>8} {:>9.1} {:>9.1} {:>10.1} {:>9.1} {:>11.1}",
        row.system,
        row.connections,
        row.connected_seconds,
        row.payload_bytes,
        row.first_ms,
        row.last_ms,
        row.spread_ms,
        row.memory_bytes as f64 / MIB,
        row.bytes_each() / 1_024.0,
    );
}
