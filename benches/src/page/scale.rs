//! The parts of `docs/scale.md`: the arithmetic from the stored reports to a city and to a hundred.
//!
//! Each row of a table has a letter, a formula over letters, and where its inputs come from.

use serde_json::Value;

use super::Stored;
use super::figures::{figure, list};
use super::text::{number, table};
use crate::error::BenchError;
use crate::scale::FleetReport;

const MIB: f64 = 1_048_576.0;
const GB: f64 = 1e9;
const SECONDS_PER_DAY: f64 = 86_400.0;

/// What a city is taken to be. These are assumptions, not measurements.
struct City {
    name: &'static str,
    devices: f64,
}

const CITIES: [City; 2] = [
    City {
        name: "a city",
        devices: 100_000.0,
    },
    City {
        name: "a large city",
        devices: 1_000_000.0,
    },
];
/// Events of a device a day: a reading an hour.
const EVENTS_PER_DAY: f64 = 24.0;
/// The busiest minute by the mean: everything switches at dusk.
const PEAK: f64 = 10.0;
/// Devices of a gateway.
const DEVICES_PER_GATEWAY: f64 = 100.0;
/// Connections of one node's MQTT edge, its limit.
const CONNECTIONS_PER_NODE: f64 = 10_000.0;
/// The part of the measured rate that is planned with: the rest is for faults and catching up.
const PLANNED_PART: f64 = 0.5;
/// Validators of a city: the fewest that tolerate a liar.
const VALIDATORS: f64 = 4.0;
const CITIES_COUNT: f64 = 100.0;
/// Interval at which a city certifies the newest head of each other one, in seconds.
const HEAD_EVERY_S: f64 = 60.0;
const EVENTS_PER_BATCH: f64 = 100.0;

/// The measured inputs.
struct Inputs {
    /// Events a second of one ledger of four validators, all on the cores of the measurement.
    events_per_second: f64,
    /// Processor time of one node for one event in a batch, in microseconds.
    node_us_per_event: f64,
    /// The same for a transaction with one event.
    node_us_per_transaction: f64,
    transactions_per_second: f64,
    /// Bytes on one node's disk for one event of a batch.
    disk_bytes_per_event: f64,
    /// Memory of a node for one device beyond the first ones.
    memory_bytes_per_device: f64,
    memory_bytes_base: f64,
    cold_us_per_device: f64,
    cold_s_base: f64,
    /// Memory of a connected gateway.
    connection_bytes: f64,
}

/// Makes a part by its name.
pub fn part(name: &str, stored: &Stored) -> Result<String, BenchError> {
    let make: fn(&Inputs) -> String = match name {
        "inputs" => Inputs::to_table,
        "city" => city,
        "hundred" => hundred,
        name => {
            return Err(BenchError::Unexpected {
                what: "a part of a page",
                detail: format!("`scale {name}` is no part"),
            });
        }
    };
    Ok(match Inputs::of(stored)? {
        Some(inputs) => make(&inputs),
        None => "Not measured yet.\n".to_owned(),
    })
}

/// The row of a workload at the most clients, of the ledger with four validators.
fn row_of<'a>(bench: &'a Value, name: &str) -> Result<Option<&'a Value>, BenchError> {
    for cluster in list(bench, "/clusters")? {
        if figure(cluster, "/validators")? == VALIDATORS {
            let rows = list(cluster, "/rows")?.iter();
            let named = rows.filter(|row| row.get("workload").is_some_and(|w| w == name));
            let clients = |row: &&Value| row.get("clients").and_then(Value::as_u64);
            return Ok(named.max_by_key(clients));
        }
    }
    Ok(None)
}

/// The line through the smallest and the largest fleet: the value at no device, and each device's.
fn line(fleets: &[FleetReport], value: fn(&FleetReport) -> f64) -> Option<(f64, f64)> {
    let (first, last) = (fleets.first()?, fleets.last()?);
    let devices = last.devices.checked_sub(first.devices).filter(|n| *n > 0)?;
    let each = (value(last) - value(first)) / devices as f64;
    Some((value(first) - each * first.devices as f64, each))
}

impl Inputs {
    /// The inputs, once all measurements are there.
    fn of(stored: &Stored) -> Result<Option<Self>, BenchError> {
        let memory = |fleet: &FleetReport| fleet.cold_memory.resident_bytes as f64;
        let (Some(bench), Some(peers)) = (&stored.bench, &stored.peers) else {
            return Ok(None);
        };
        let single = (row_of(bench, "transactions")?, row_of(bench, "batches")?);
        let of_fleets = (
            line(&stored.fleets, memory),
            line(&stored.fleets, |fleet| fleet.cold_start_seconds),
        );
        let fan_out = peers
            .fan_out
            .iter()
            .filter(|row| row.system == "lamplighter");
        let fan_out = fan_out.max_by_key(|row| row.connections);
        let ((Some(single), Some(batches)), (Some(memory), Some(cold)), Some(fan_out)) =
            (single, of_fleets, fan_out)
        else {
            return Ok(None);
        };
        Ok(Some(Self {
            events_per_second: figure(batches, "/events_per_second")?,
            node_us_per_event: figure(batches, "/nodes_cpu_us")? / VALIDATORS / EVENTS_PER_BATCH,
            node_us_per_transaction: figure(single, "/nodes_cpu_us")? / VALIDATORS,
            transactions_per_second: figure(single, "/per_second")?,
            disk_bytes_per_event: figure(batches, "/disk_bytes")? / EVENTS_PER_BATCH,
            memory_bytes_per_device: memory.1,
            memory_bytes_base: memory.0,
            cold_us_per_device: cold.1 * 1e6,
            cold_s_base: cold.0,
            connection_bytes: fan_out.bytes_each(),
        }))
    }

    fn to_table(&self) -> String {
        let line = "fleets, the line through the smallest and the largest";
        let slope = "fleets, the slope of that line";
        let single = "bench, `transactions` at the most clients";
        let (memory, device) = (self.memory_bytes_base / MIB, self.memory_bytes_per_device);
        let connection = self.connection_bytes / 1_024.0;
        let rows = [
            (
                "events in batches, 4 validators",
                self.events_per_second,
                "/s",
                "bench, `batches`",
            ),
            (
                "single transactions, 4 validators",
                self.transactions_per_second,
                "/s",
                single,
            ),
            (
                "one node's processor for an event in a batch",
                self.node_us_per_event,
                "us",
                "bench, `batches`: nodes us / 4 / 100",
            ),
            (
                "one node's processor for a transaction",
                self.node_us_per_transaction,
                "us",
                "bench, `transactions`: nodes us / 4",
            ),
            (
                "one node's disk for an event in a batch",
                self.disk_bytes_per_event,
                "B",
                "bench, `batches`: disk B / 100",
            ),
            ("a node's memory without devices", memory, "MiB", line),
            ("a node's memory for a device", device, "B", slope),
            ("cold start without devices", self.cold_s_base, "s", line),
            (
                "cold start for a device",
                self.cold_us_per_device,
                "us",
                slope,
            ),
            (
                "a node's memory for a connected gateway",
                connection,
                "KiB",
                "peers, one message to the most connections",
            ),
        ];
        let rows = "ABCDEFGHIK".chars().zip(rows);
        let rows = rows.map(|(letter, (what, value, unit, from))| {
            let value = format!("{} {unit}", number(value));
            vec![letter.to_string(), what.to_owned(), value, from.to_owned()]
        });
        table(&["", "measured", "value", "from"], rows)
    }
}

fn city(inputs: &Inputs) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut add = |name: &str, formula: String, value: fn(&Inputs, f64) -> String| {
        let values = CITIES.iter().map(|city| value(inputs, city.devices));
        let mut row = vec![name.to_owned(), formula];
        row.extend(values);
        rows.push(row);
    };
    add("devices", "assumed".to_owned(), |_, n| number(n));
    let mean_formula = format!("n x {EVENTS_PER_DAY} / {SECONDS_PER_DAY}");
    add("events/s, mean", mean_formula, |_, n| number(mean(n)));
    add(
        "events/s, busiest minute",
        format!("mean x {PEAK}"),
        |_, n| number(peak(n)),
    );
    add(
        "share of one group at the peak",
        format!("peak / (A x {PLANNED_PART})"),
        |i, n| percent(peak(n) / (i.events_per_second * PLANNED_PART)),
    );
    add(
        "groups of validators, by district",
        "the share, rounded up".to_owned(),
        |i, n| whole(groups(i, n)),
    );
    add(
        "one core of each validator at the peak",
        "peak x C / groups".to_owned(),
        |i, n| percent(peak(n) * i.node_us_per_event / 1e6 / groups(i, n)),
    );
    add(
        "memory of a validator, MiB",
        "F + G x n / groups".to_owned(),
        |i, n| {
            let devices = i.memory_bytes_per_device * n / groups(i, n);
            number((i.memory_bytes_base + devices) / MIB)
        },
    );
    add("cold start, s", "H + I x n / groups".to_owned(), |i, n| {
        number(i.cold_s_base + i.cold_us_per_device * n / groups(i, n) / 1e6)
    });
    add("gateways", format!("n / {DEVICES_PER_GATEWAY}"), |_, n| {
        number(n / DEVICES_PER_GATEWAY)
    });
    add(
        "nodes that hold their connections",
        format!("gateways / {CONNECTIONS_PER_NODE}, at least 1"),
        |_, n| whole((n / DEVICES_PER_GATEWAY / CONNECTIONS_PER_NODE).ceil()),
    );
    add(
        "memory for the connections of a validator, MiB",
        format!("gateways x K / ({VALIDATORS} x groups)"),
        |i, n| {
            let gateways = n / DEVICES_PER_GATEWAY / VALIDATORS / groups(i, n);
            number(gateways * i.connection_bytes / MIB)
        },
    );
    add(
        "disk of a validator a day, GB",
        "mean x 86,400 x E / groups".to_owned(),
        |i, n| number(day_bytes(i, n) / groups(i, n) / GB),
    );
    add("and a year, TB", "that x 365 / 1,000".to_owned(), |i, n| {
        number(day_bytes(i, n) / groups(i, n) * 365.0 / 1e12)
    });
    let names = CITIES.map(|city| city.name);
    table(&["", "formula", names[0], names[1]], rows)
}

fn hundred(inputs: &Inputs) -> String {
    let devices = CITIES[0].devices;
    let heads = (CITIES_COUNT - 1.0) / HEAD_EVERY_S;
    let archive = day_bytes(inputs, devices) * CITIES_COUNT;
    let row =
        |what: &str, formula: &str, value: String| vec![what.to_owned(), formula.to_owned(), value];
    let rows = vec![
        row("devices", "100 x n", number(devices * CITIES_COUNT)),
        row("ledgers", "one in each city", number(CITIES_COUNT)),
        row(
            "events/s over all, mean",
            "100 x mean",
            number(mean(devices) * CITIES_COUNT),
        ),
        row(
            "transactions/s of one city for the heads of the others",
            "99 / 60",
            number(heads),
        ),
        row(
            "share of one city's rate for them",
            "that / B",
            percent(heads / inputs.transactions_per_second),
        ),
        row(
            "one validator's core for them",
            "that x D",
            percent(heads * inputs.node_us_per_transaction / 1e6),
        ),
        row(
            "archive of all cities a day, GB",
            "100 x day of a city",
            number(archive / GB),
        ),
        row(
            "and a year, TB",
            "that x 365 / 1,000",
            number(archive * 365.0 / 1e12),
        ),
        row(
            "bytes/s into the archive, MB",
            "a day / 86,400",
            number(archive / SECONDS_PER_DAY / 1e6),
        ),
    ];
    table(&["", "formula", "a hundred cities"], rows)
}

fn mean(devices: f64) -> f64 {
    devices * EVENTS_PER_DAY / SECONDS_PER_DAY
}

fn peak(devices: f64) -> f64 {
    mean(devices) * PEAK
}

fn groups(inputs: &Inputs, devices: f64) -> f64 {
    (peak(devices) / (inputs.events_per_second * PLANNED_PART)).ceil()
}

fn day_bytes(inputs: &Inputs, devices: f64) -> f64 {
    mean(devices) * SECONDS_PER_DAY * inputs.disk_bytes_per_event
}

/// A number of whole things.
fn whole(value: f64) -> String {
    format!("{value:.0}")
}

fn percent(part: f64) -> String {
    format!("{} %", number(part * 100.0))
}
