//! The report as tables on standard output.

use std::path::Path;

use crate::machine::Machine;
use crate::report::{Ceilings, ClusterReport, Row, SyncRate};

const MIB: f64 = 1_048_576.0;

pub fn machine(machine: &Machine, program: &Path) {
    let Machine {
        processor,
        cores,
        memory_bytes,
        kernel,
        load_average,
        ..
    } = machine;
    let gib = *memory_bytes as f64 / (1_024.0 * MIB);
    println!("{cores} cores of {processor}, {gib:.1} GiB, Linux {kernel}, load {load_average}");
    println!("nodes: {} node run", program.display());
    if machine.in_memory {
        println!(
            "WARNING: the stores are in memory (tmpfs), so nothing waits for a disk; use --dir"
        );
    }
    if machine.debug_assertions {
        println!("note: built with debug assertions");
    }
}

pub fn ceilings(ceilings: &Ceilings) {
    println!("\nceilings");
    let rate = |name: &str, rate: f64| println!("  {name:<44} {rate:>10.0} /s");
    rate("signatures made, one core", ceilings.signs_per_second);
    rate(
        "signatures verified singly, one core",
        ceilings.single_verifications_per_second,
    );
    rate(
        "in batches of 256 with 64 keys, one core",
        ceilings.batch_verifications_per_second,
    );
    let sync = |name: &str, sync: &SyncRate| {
        let SyncRate {
            per_second,
            p10_us,
            p50_us,
            p99_us,
        } = sync;
        println!("  {name:<44} {per_second:>10.0} /s   us: p10 {p10_us} p50 {p50_us} p99 {p99_us}");
    };
    sync(
        "4 KiB fdatasync, growing file",
        &ceilings.fdatasync_extending,
    );
    sync(
        "4 KiB fdatasync, file of full size",
        &ceilings.fdatasync_overwriting,
    );
    sync(
        "4 KiB fdatasync, 4 growing files",
        &ceilings.fdatasync_extending_4_files,
    );
    sync(
        "4 KiB fdatasync, 4 files of full size",
        &ceilings.fdatasync_overwriting_4_files,
    );
}

pub fn head(validators: usize, sync: &SyncRate) {
    let plural = if validators == 1 { "" } else { "s" };
    let SyncRate {
        per_second, p50_us, ..
    } = sync;
    println!(
        "\n{validators} validator{plural}, each a process; \
         fdatasync now {per_second:.0} /s, p50 {p50_us} us"
    );
    println!(
        "  {:<12} {:>7} {:>8} {:>9} {:>8} {:>8} {:>9} {:>9} {:>8} {:>8} {:>7} {:>6} {:>6} {:>5}",
        "sent",
        "clients",
        "tx/s",
        "events/s",
        "p50 ms",
        "p99 ms",
        "nodes us",
        "client us",
        "disk B",
        "writ. B",
        "MiB",
        "verif.",
        "syncs",
        "other"
    );
}

pub fn row(row: &Row) {
    println!(
        "  {:<12} {:>7} {:>8.0} {:>9.0} {:>8.2} {:>8.2} {:>9.0} {:>9.0} {:>8.0} {:>8.0} {:>7.1} \
         {:>6.3} {:>6.1} {:>4.0}%",
        row.workload,
        row.clients,
        row.per_second,
        row.events_per_second,
        row.p50_ms,
        row.p99_ms,
        row.nodes_cpu_us,
        row.clients_cpu_us,
        row.disk_bytes,
        row.written_bytes,
        row.memory_after_bytes as f64 / MIB,
        row.of_verification_ceiling,
        row.p50_in_fdatasyncs,
        row.others_cpu_percent,
    );
    if row.busy > 0 {
        println!("    {} answers: busy", row.busy);
    }
    if let Some(first) = &row.first_failure {
        println!("    {} FAILED, the first with: {first}", row.failed);
    }
}

pub fn foot(report: &ClusterReport) {
    let (idle, peak) = (
        report.idle_memory_bytes as f64 / MIB,
        report.peak_memory_bytes as f64 / MIB,
    );
    println!("  memory of the largest node: {idle:.1} MiB idle, {peak:.1} MiB at most");
}
