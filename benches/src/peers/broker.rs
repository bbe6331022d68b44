//! Fan-out over MQTT: one message to all connected clients, and what the connections cost.

use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use lamplighter_types::wire::topics::HEAD;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::mqtt::{Client, Incoming, MqttConnection, MqttError};
use super::publishers::mqtt_error;
use super::usage::{Processes, Usage};
use crate::error::BenchError;
use crate::report::percentile;

/// Clients that connect at once.
const CONNECTING: usize = 256;
/// Messages that are sent to all, one after the other.
const ROUNDS: usize = 5;
/// Pause before each of them: a node publishes at most a head each half second, and the time of one
/// is measured, not its rate.
const ROUND_EVERY: Duration = Duration::from_millis(700);
/// Time limit for one message to reach all.
const ROUND_WITHIN: Duration = Duration::from_secs(60);

/// A broker, and what its clients have to know.
pub struct Broker {
    pub address: SocketAddr,
    pub processes: Processes,
    /// True for a node: gateways get receipts, and blocks make heads.
    pub is_ledger: bool,
}

/// The figures of one message to all.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FanOut {
    pub system: String,
    pub connections: usize,
    /// Seconds until all were connected and subscribed.
    pub connected_seconds: f64,
    /// Resident memory before the connections, and with all of them after the messages.
    pub memory_before_bytes: u64,
    pub memory_bytes: u64,
    pub payload_bytes: usize,
    /// From the request or publication that causes the message to the first client that has it;
    /// the median of the rounds.
    pub first_ms: f64,
    /// The same to the last client.
    pub last_ms: f64,
    /// Between the first client and the last one.
    pub spread_ms: f64,
    /// Processor time of the broker for one message to one client.
    pub broker_cpu_us: f64,
}

/// A message that a client has received.
struct Arrival {
    number: u64,
    at: Instant,
    bytes: usize,
}

/// The number in a head or in a message of the same form.
pub fn number_of(payload: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(payload).ok()?;
    let (_, rest) = text.split_once("\"height\":")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Connects all clients, and sends some messages to all; `cause` brings about the next one and
/// returns its number.
pub async fn fan_out(
    system: &str,
    broker: &Broker,
    clients: &[Client],
    mut cause: impl AsyncFnMut() -> Result<u64, BenchError>,
) -> Result<FanOut, BenchError> {
    let before = Usage::now(&broker.processes)?;
    let memory_before_bytes = before.memory_bytes();
    let begun = Instant::now();
    let connections = connect_all(broker.address, clients).await?;
    let connected_seconds = begun.elapsed().as_secs_f64();
    // Room for one message to each; a reader notes the time before it waits for room.
    let (arrivals, mut received) = mpsc::channel(clients.len().max(1));
    let mut readers = JoinSet::new();
    for connection in connections {
        readers.spawn(read(connection, arrivals.clone()));
    }
    let (mut first, mut last, mut spread) = (Vec::new(), Vec::new(), Vec::new());
    let mut payload_bytes = 0;
    let before = Usage::now(&broker.processes)?;
    for _ in 0..ROUNDS {
        sleep(ROUND_EVERY).await;
        let begun = Instant::now();
        let number = cause().await?;
        let waited = round(&mut received, clients.len(), number);
        let Ok(waited) = tokio::time::timeout(ROUND_WITHIN, waited).await else {
            let (what, detail) = ("one message to all", "not all clients got it".to_owned());
            return Err(BenchError::Unexpected { what, detail });
        };
        let (first_at, last_at, bytes) = waited;
        payload_bytes = bytes;
        first.push((first_at - begun).as_micros() as u32);
        last.push((last_at - begun).as_micros() as u32);
        spread.push((last_at - first_at).as_micros() as u32);
    }
    let after = Usage::now(&broker.processes)?;
    readers.shutdown().await;
    let messages = (clients.len() * ROUNDS) as u64;
    let median_ms = |mut values: Vec<u32>| {
        values.sort_unstable();
        f64::from(percentile(&values, 50.0)) / 1_000.0
    };
    Ok(FanOut {
        system: system.to_owned(),
        connections: clients.len(),
        connected_seconds,
        memory_before_bytes,
        memory_bytes: after.memory_bytes(),
        payload_bytes,
        first_ms: median_ms(first),
        last_ms: median_ms(last),
        spread_ms: median_ms(spread),
        broker_cpu_us: before.until(&after, clients.len(), messages).servers_cpu_us,
    })
}

async fn connect_all(
    address: SocketAddr,
    clients: &[Client],
) -> Result<Vec<MqttConnection>, BenchError> {
    let opened = clients.iter().map(|client| async move {
        let mut connection = MqttConnection::open(address, client).await?;
        connection.subscribe(HEAD).await?;
        Ok(connection)
    });
    let opened: Vec<Result<_, MqttError>> = futures::stream::iter(opened)
        .buffered(CONNECTING)
        .collect()
        .await;
    let opened: Result<_, MqttError> = opened.into_iter().collect();
    opened.map_err(mqtt_error(address))
}

/// Reports every message until the connection or the measurement ends.
async fn read(mut connection: MqttConnection, arrivals: mpsc::Sender<Arrival>) {
    while let Ok(packet) = connection.next().await {
        let Incoming::Publish { id, payload } = packet else {
            continue;
        };
        let at = Instant::now();
        if let Some(number) = number_of(&payload) {
            let bytes = payload.len();
            let arrival = Arrival { number, at, bytes };
            if arrivals.send(arrival).await.is_err() || connection.acknowledge(id).await.is_err() {
                return;
            }
        }
    }
}

/// Waits until all clients have a message; returns when the first and the last one got it.
async fn round(
    received: &mut mpsc::Receiver<Arrival>,
    clients: usize,
    number: u64,
) -> (Instant, Instant, usize) {
    let (mut first, mut last) = (None, Instant::now());
    let (mut missing, mut bytes) = (clients, 0);
    while missing > 0 {
        let Some(arrival) = received.recv().await else {
            break;
        };
        // Older ones are still on their way when a client has just subscribed.
        if arrival.number == number {
            missing -= 1;
            first.get_or_insert(arrival.at);
            last = arrival.at;
            bytes = arrival.bytes;
        }
    }
    (first.unwrap_or(last), last, bytes)
}

impl FanOut {
    /// Memory for one connection, with its share of what is on its way.
    pub fn bytes_each(&self) -> f64 {
        let added = self.memory_bytes.saturating_sub(self.memory_before_bytes);
        added as f64 / self.connections.max(1) as f64
    }
}
