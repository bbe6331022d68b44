//! The figures of the fleet as tables on standard output.

use super::{FleetReport, GoodClient};

const MIB: f64 = 1_048_576.0;
/// Bound of a read's 99th percentile.
pub const READ_MS_MAX: f64 = 100.0;

pub fn city(report: &FleetReport) {
    let FleetReport {
        validators,
        devices,
        gateways,
        made_in_seconds,
        memory,
        disk,
        cold_start_seconds,
        cold_memory,
        ..
    } = report;
    let mib = |bytes: u64| bytes as f64 / MIB;
    println!("\n{devices} devices of {gateways} gateways, {validators} validator(s)");
    println!("  made in {made_in_seconds:.1} s by transactions");
    println!(
        "  memory {:.0} MiB, of it {:.0} in caches and memtables; at most {:.0}; disk {:.0} MiB",
        mib(memory.resident_bytes),
        mib(memory.bounded_bytes),
        mib(memory.peak_bytes),
        mib(disk.all_bytes()),
    );
    println!(
        "  cold start {cold_start_seconds:.2} s; memory after it {:.0} MiB, of it {:.0} bounded",
        mib(cold_memory.resident_bytes),
        mib(cold_memory.bounded_bytes),
    );
}

pub fn good_clients(rows: &[GoodClient]) {
    println!("\none good client, ms, beside");
    println!(
        "  {:<32} {:>6} {:>7} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "work", "s", "sent", "sent p50", "p99", "max", "read p50", "p99", "max"
    );
    for row in rows {
        println!(
            "  {:<32} {:>6.1} {:>7} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2}",
            row.beside,
            row.seconds,
            row.submitted,
            row.submit_p50_ms,
            row.submit_p99_ms,
            row.submit_max_ms,
            row.read_p50_ms,
            row.read_p99_ms,
            row.read_max_ms,
        );
    }
}

pub fn reads(report: &FleetReport) {
    println!(
        "\nreads while {:.0} transactions/s came in ({:.0} were to); others used {:.0} %",
        report.load_per_second, report.rate, report.others_cpu_percent
    );
    println!(
        "  {:>9} {:>9} {:>9} {:>8} {:>9}  path",
        "p99 ms", "p50 ms", "max ms", "requests", "bytes"
    );
    for row in &report.reads {
        let mark = if row.p99_ms > READ_MS_MAX { "*" } else { " " };
        let asker = if row.reads_all {
            ""
        } else {
            "  (two districts)"
        };
        println!(
            "{mark} {:>9.2} {:>9.2} {:>9.2} {:>8} {:>9}  {}{asker}",
            row.p99_ms, row.p50_ms, row.max_ms, row.requests, row.bytes, row.path
        );
    }
    let slow = report.reads.iter().filter(|row| row.p99_ms > READ_MS_MAX);
    println!(
        "{} of {} above {READ_MS_MAX} ms",
        slow.count(),
        report.reads.len()
    );
}
