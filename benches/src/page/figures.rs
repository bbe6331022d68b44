//! The parts of `docs/benchmarks.md`.

use serde_json::Value;

use super::Stored;
use super::peers;
use super::text::{number, table};
use crate::error::BenchError;
use crate::peers::PeersReport;
use crate::scale::{FleetReport, READ_MS_MAX};

const MIB: f64 = 1_048_576.0;
/// Reads that are shown of each fleet.
const SLOWEST: usize = 12;
const NOT_MEASURED: &str = "Not measured yet.\n";

/// Makes a part by its name.
pub fn part(name: &str, stored: &Stored) -> Result<String, BenchError> {
    let of_bench = |make: fn(&Value) -> Result<String, BenchError>| match &stored.bench {
        Some(report) => make(report),
        None => Ok(NOT_MEASURED.to_owned()),
    };
    let of_peers = |make: fn(&PeersReport) -> String| match &stored.peers {
        Some(report) => make(report),
        None => NOT_MEASURED.to_owned(),
    };
    Ok(match name {
        "machine" => of_bench(machine)?,
        "ceilings" => of_bench(ceilings)?,
        "ledgers" => of_bench(ledgers)?,
        "growth" => of_bench(growth)?,
        "peers" => of_peers(peers::peers),
        "writes" => of_peers(peers::writes),
        "ratios" => of_peers(peers::ratios),
        "fan-in" => of_peers(peers::fan_in),
        "fan-out" => of_peers(peers::fan_out),
        "catch-up" => stored
            .catch_up
            .as_ref()
            .map_or_else(not_measured, catch_up)?,
        "soak" => stored.soak.as_ref().map_or_else(not_measured, soak)?,
        "fleets" => fleets(&stored.fleets),
        "good-client" => good_client(&stored.fleets),
        "reads" => reads(&stored.fleets),
        name => {
            return Err(BenchError::Unexpected {
                what: "a part of a page",
                detail: format!("`{name}` is no part"),
            });
        }
    })
}

fn not_measured() -> Result<String, BenchError> {
    Ok(NOT_MEASURED.to_owned())
}

/// A figure of a report, by its path.
pub fn figure(report: &Value, path: &str) -> Result<f64, BenchError> {
    report
        .pointer(path)
        .and_then(Value::as_f64)
        .ok_or_else(|| BenchError::Unexpected {
            what: "a figure of a report",
            detail: format!("{path} is missing"),
        })
}

pub fn list<'a>(report: &'a Value, path: &str) -> Result<&'a Vec<Value>, BenchError> {
    let found = report.pointer(path).and_then(Value::as_array);
    found.ok_or_else(|| BenchError::Unexpected {
        what: "a list of a report",
        detail: format!("{path} is missing"),
    })
}

fn machine(report: &Value) -> Result<String, BenchError> {
    let text = |path: &str| {
        let value = report.pointer(path).and_then(Value::as_str);
        value.unwrap_or("?").to_owned()
    };
    let asserted = report.pointer("/machine/debug_assertions") == Some(&Value::Bool(true));
    Ok(format!(
        "{} cores of {}, {} GiB, Linux {}; load average before the start {}; phases of {} s; \
         debug assertions {}.\n",
        figure(report, "/machine/cores")?,
        text("/machine/processor"),
        number(figure(report, "/machine/memory_bytes")? / (1_024.0 * MIB)),
        text("/machine/kernel"),
        text("/machine/load_average"),
        figure(report, "/seconds")?,
        if asserted { "on" } else { "off" },
    ))
}

fn ceilings(report: &Value) -> Result<String, BenchError> {
    let rates = [
        ("signatures made, one core", "signs_per_second"),
        (
            "signatures verified singly, one core",
            "single_verifications_per_second",
        ),
        (
            "in batches of 256 with 64 keys, one core",
            "batch_verifications_per_second",
        ),
    ];
    let syncs = [
        ("4 KiB fdatasync, growing file", "fdatasync_extending"),
        (
            "4 KiB fdatasync, file of full size",
            "fdatasync_overwriting",
        ),
        (
            "4 KiB fdatasync, 4 growing files",
            "fdatasync_extending_4_files",
        ),
        (
            "4 KiB fdatasync, 4 files of full size",
            "fdatasync_overwriting_4_files",
        ),
    ];
    let mut rows = Vec::new();
    for (name, key) in rates {
        let rate = figure(report, &format!("/ceilings/{key}"))?;
        let empty = String::new;
        rows.push(vec![
            name.to_owned(),
            number(rate),
            empty(),
            empty(),
            empty(),
        ]);
    }
    for (name, key) in syncs {
        let mut row = vec![name.to_owned()];
        for figure_name in ["per_second", "p10_us", "p50_us", "p99_us"] {
            row.push(number(figure(
                report,
                &format!("/ceilings/{key}/{figure_name}"),
            )?));
        }
        rows.push(row);
    }
    Ok(table(
        &["ceiling", "per s", "p10 us", "p50 us", "p99 us"],
        rows,
    ))
}

fn ledgers(report: &Value) -> Result<String, BenchError> {
    let mut text = String::new();
    for cluster in list(report, "/clusters")? {
        let validators = figure(cluster, "/validators")?;
        text += &format!(
            "\n{validators} validator{}; fdatasync then {}/s, p50 {} us:\n\n",
            if validators == 1.0 { "" } else { "s" },
            number(figure(cluster, "/fdatasync_extending/per_second")?),
            number(figure(cluster, "/fdatasync_extending/p50_us")?),
        );
        let mut rows = Vec::new();
        for row in list(cluster, "/rows")? {
            rows.push(ledger_row(row)?);
        }
        text += &table(
            &[
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
                "other %",
            ],
            rows,
        );
        text += &format!(
            "\nMemory of the largest node: {} MiB idle, {} MiB at most.\n",
            number(figure(cluster, "/idle_memory_bytes")? / MIB),
            number(figure(cluster, "/peak_memory_bytes")? / MIB),
        );
    }
    Ok(text + "\n")
}

fn ledger_row(row: &Value) -> Result<Vec<String>, BenchError> {
    let name = row.get("workload").and_then(Value::as_str);
    let mut cells = vec![name.unwrap_or("?").to_owned()];
    for key in [
        "clients",
        "per_second",
        "events_per_second",
        "p50_ms",
        "p99_ms",
        "nodes_cpu_us",
        "clients_cpu_us",
        "disk_bytes",
        "written_bytes",
    ] {
        let value = figure(row, &format!("/{key}"))?;
        cells.push(if key == "clients" {
            value.to_string()
        } else {
            number(value)
        });
    }
    cells.push(number(figure(row, "/memory_after_bytes")? / MIB));
    cells.push(format!("{:.3}", figure(row, "/of_verification_ceiling")?));
    cells.push(number(figure(row, "/p50_in_fdatasyncs")?));
    cells.push(format!("{:.0}", figure(row, "/others_cpu_percent")?));
    Ok(cells)
}

/// The cost of a transaction by the number of validators, at the most clients.
fn growth(report: &Value) -> Result<String, BenchError> {
    let mut rows = Vec::new();
    let mut one: Option<f64> = None;
    for cluster in list(report, "/clusters")? {
        let validators = figure(cluster, "/validators")?;
        let of = |name: &str| {
            let rows = cluster.get("rows").and_then(Value::as_array);
            let rows = rows.into_iter().flatten();
            let named = rows.filter(move |row| row.get("workload").is_some_and(|w| w == name));
            let clients = |row: &&Value| row.get("clients").and_then(Value::as_u64);
            named.max_by_key(clients)
        };
        let Some(row) = of("transactions") else {
            continue;
        };
        let cpu = figure(row, "/nodes_cpu_us")?;
        let each = cpu / validators;
        let one = *one.get_or_insert(each);
        let events = match of("batches") {
            Some(row) => number(figure(row, "/events_per_second")?),
            None => "-".to_owned(),
        };
        rows.push(vec![
            validators.to_string(),
            figure(row, "/clients")?.to_string(),
            number(figure(row, "/per_second")?),
            number(figure(row, "/p50_ms")?),
            number(figure(row, "/p99_ms")?),
            number(cpu),
            number(each),
            number(each / one),
            events,
        ]);
    }
    Ok(table(
        &[
            "validators",
            "clients",
            "tx/s",
            "p50 ms",
            "p99 ms",
            "all nodes us",
            "one node us",
            "times the first",
            "events/s in batches",
        ],
        rows,
    ))
}

fn catch_up(report: &Value) -> Result<String, BenchError> {
    let mut rows = Vec::new();
    for node in ["empty", "away"] {
        let of = |key: &str| figure(report, &format!("/{node}/{key}"));
        rows.push(vec![
            node.to_owned(),
            number(figure(report, "/devices")?),
            number(figure(report, "/blocks")?),
            number(of("seconds")?),
            number(of("image_bytes")? / MIB),
            number(of("mb_per_second")?),
            number(figure(report, "/blocks")? / of("seconds")?),
            number(of("load_per_second")?),
        ]);
    }
    let columns = [
        "node",
        "devices",
        "blocks",
        "s",
        "image MiB",
        "MB/s",
        "blocks/s",
        "tx/s meanwhile",
    ];
    Ok(table(&columns, rows))
}

fn soak(report: &Value) -> Result<String, BenchError> {
    let of = |key: &str| figure(report, &format!("/{key}"));
    let good = report.pointer("/verdict/good") == Some(&Value::Bool(true));
    let row = vec![
        if good { "flat" } else { "not flat" }.to_owned(),
        number(of("minutes")?),
        number(of("rate_per_second")?),
        number(of("committed")?),
        number(of("failed")?),
        number(of("p50_ms")?),
        number(of("p99_ms")?),
        number(of("prediction/transaction_bytes")?),
        number(of("prediction/block_bytes")?),
    ];
    let columns = [
        "verdict",
        "minutes",
        "tx/s",
        "committed",
        "failed",
        "p50 ms",
        "p99 ms",
        "B a transaction",
        "B a block",
    ];
    Ok(table(&columns, [row]))
}

fn fleets(fleets: &[FleetReport]) -> String {
    let mib = |bytes: u64| number(bytes as f64 / MIB);
    let rows = fleets.iter().map(|fleet| {
        vec![
            number(fleet.devices as f64),
            fleet.validators.to_string(),
            number(fleet.gateways as f64),
            number(fleet.made_in_seconds),
            mib(fleet.memory.resident_bytes),
            mib(fleet.memory.bounded_bytes),
            mib(fleet.disk.all_bytes()),
            number(fleet.cold_start_seconds),
            mib(fleet.cold_memory.resident_bytes),
            number(fleet.assigned_in_seconds),
            number(fleet.load_per_second),
            number(fleet.others_cpu_percent),
        ]
    });
    let columns = [
        "devices",
        "validators",
        "gateways",
        "made in s",
        "MiB",
        "of it bounded",
        "disk MiB",
        "cold start s",
        "MiB then",
        "rolled out in s",
        "tx/s at the reads",
        "other %",
    ];
    table(&columns, rows)
}

fn good_client(fleets: &[FleetReport]) -> String {
    let rows = fleets.iter().flat_map(|fleet| {
        fleet.good_client.iter().map(|row| {
            vec![
                number(fleet.devices as f64),
                row.beside.clone(),
                number(row.submit_p50_ms),
                number(row.submit_p99_ms),
                number(row.submit_max_ms),
                number(row.read_p50_ms),
                number(row.read_p99_ms),
                number(row.read_max_ms),
            ]
        })
    });
    let columns = [
        "devices",
        "beside",
        "sent p50 ms",
        "p99",
        "max",
        "read p50 ms",
        "p99",
        "max",
    ];
    table(&columns, rows)
}

fn reads(fleets: &[FleetReport]) -> String {
    let mut text = String::new();
    for fleet in fleets {
        let slow = fleet.reads.iter().filter(|row| row.p99_ms > READ_MS_MAX);
        text += &format!(
            "\n{} devices, {} transactions/s meanwhile: {} of {} reads above {READ_MS_MAX} ms at \
             the 99th percentile. The slowest:\n\n",
            number(fleet.devices as f64),
            number(fleet.load_per_second),
            slow.count(),
            fleet.reads.len(),
        );
        let rows = fleet.reads.iter().take(SLOWEST).map(|row| {
            let asker = if row.reads_all {
                ""
            } else {
                ", reader of two districts"
            };
            vec![
                format!("`{}`{asker}", row.path),
                number(row.p99_ms),
                number(row.p50_ms),
                number(row.max_ms),
                row.requests.to_string(),
                number(row.bytes as f64),
            ]
        });
        let columns = ["read", "p99 ms", "p50 ms", "max ms", "requests", "bytes"];
        text += &table(&columns, rows);
    }
    text + "\n"
}
