//! Fan-in over MQTT: clients that each keep some publications with QoS 1 on their way.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use lamplighter_types::wire::content_type;
use lamplighter_types::wire::topics::GatewayTopic;
use lamplighter_types::{Hash, codec};
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::broker::Broker;
use super::closed_loop::{Latencies, Window, with_latencies};
use super::mqtt::{Client, Incoming, MqttConnection, MqttError, QUOTA_EXCEEDED};
use super::usage::{Figures, Usage};
use crate::error::BenchError;
use crate::fleet::{EVENTS_PER_BATCH, Fleet, GATEWAYS};
use crate::load::{BUSY_PAUSE, Workload};

/// Publications of one client on their way: all clients together stay far below a node's mempool,
/// and each below the sequence window of its key.
pub const WIDTH: usize = 16;

/// The figures of a fan-in: of the acknowledgements, and of the receipts where there are any.
#[derive(Debug)]
pub struct FanIn {
    pub acknowledged: Figures,
    /// The bytes of one payload.
    pub payload_bytes: usize,
    pub committed: Option<Figures>,
}

/// The used part of a receipt.
#[derive(Deserialize)]
struct Received {
    transaction: Hash,
    receipt: Option<ReceiptOutcome>,
}

#[derive(Deserialize)]
struct ReceiptOutcome {
    outcome: serde_json::Value,
}

/// What one client has counted.
#[derive(Default)]
struct Tally {
    acknowledged: Latencies,
    committed: Latencies,
    payload_bytes: usize,
}

/// One client and what it has on its way.
struct Publisher {
    connection: MqttConnection,
    fleet: Arc<Fleet>,
    workload: Workload,
    number: usize,
    topic: String,
    awaits_receipts: bool,
    last_id: u16,
    sent: HashMap<u16, (Instant, Vec<u8>)>,
    uncommitted: HashMap<Hash, Instant>,
    tally: Tally,
}

/// Runs the clients, as many as the fleet has gateways.
///
/// # Errors
/// A client failed, or a transaction was refused.
pub async fn run(
    broker: &Broker,
    fleet: &Arc<Fleet>,
    clients: &[Client],
    workload: Workload,
    seconds: u64,
) -> Result<FanIn, BenchError> {
    let mut publishers = Vec::new();
    for (number, client) in clients.iter().enumerate() {
        let publisher = open(broker, fleet, number, client, workload).await;
        publishers.push(publisher.map_err(mqtt_error(broker.address))?);
    }
    let window = Window::begin(seconds);
    let mut tasks = JoinSet::new();
    for publisher in publishers {
        let address = broker.address;
        tasks.spawn(async move { publisher.run(window).await.map_err(mqtt_error(address)) });
    }
    sleep_until(window.counts_from).await;
    let before = Usage::now(&broker.processes)?;
    sleep_until(window.ends).await;
    let after = Usage::now(&broker.processes)?;
    let mut sum = Tally::default();
    while let Some(done) = tasks.join_next().await {
        let tally = done.expect("clients do not panic")?;
        sum.acknowledged.0.extend(tally.acknowledged.0);
        sum.committed.0.extend(tally.committed.0);
        sum.payload_bytes = sum.payload_bytes.max(tally.payload_bytes);
    }
    let of = |latencies: Latencies| {
        let figures = before.until(&after, clients.len(), latencies.0.len() as u64);
        with_latencies(figures, latencies.0)
    };
    let acknowledged = of(sum.acknowledged);
    Ok(FanIn {
        acknowledged,
        payload_bytes: sum.payload_bytes,
        committed: broker.is_ledger.then(|| of(sum.committed)),
    })
}

pub fn mqtt_error(node: SocketAddr) -> impl Fn(MqttError) -> BenchError {
    move |source| BenchError::Mqtt { node, source }
}

async fn open(
    broker: &Broker,
    fleet: &Arc<Fleet>,
    number: usize,
    client: &Client,
    workload: Workload,
) -> Result<Publisher, MqttError> {
    let (account, _) = fleet.gateway(number);
    let mut connection = MqttConnection::open(broker.address, client).await?;
    if broker.is_ledger {
        connection
            .subscribe(&GatewayTopic::Receipt.of(account))
            .await?;
    }
    Ok(Publisher {
        connection,
        fleet: fleet.clone(),
        workload,
        number,
        topic: GatewayTopic::Transaction.of(account),
        awaits_receipts: broker.is_ledger,
        last_id: 0,
        sent: HashMap::new(),
        uncommitted: HashMap::new(),
        tally: Tally::default(),
    })
}

impl Publisher {
    async fn run(mut self, window: Window) -> Result<Tally, MqttError> {
        while window.is_open() {
            while self.sent.len() < WIDTH && self.uncommitted.len() < WIDTH {
                self.publish_next();
            }
            self.connection.flush().await?;
            let next = tokio::time::timeout_at(window.ends, self.connection.next()).await;
            let Ok(packet) = next else { break };
            self.received(packet?, &window).await?;
            while let Some(packet) = self.connection.buffered()? {
                self.received(packet, &window).await?;
            }
        }
        Ok(self.tally)
    }

    fn publish_next(&mut self) {
        // The events of a lamp stay in order: none has two on their way.
        let lamp = usize::from(self.last_id) % EVENTS_PER_BATCH;
        let signed = self
            .workload
            .next(&self.fleet, self.number + GATEWAYS * lamp);
        let payload = codec::encode(&signed);
        let begun = Instant::now();
        if self.awaits_receipts {
            self.uncommitted
                .insert(signed.hash(&self.fleet.chain_id), begun);
        }
        self.tally.payload_bytes = payload.len();
        // 0 is no packet id.
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        let id = self.last_id;
        self.connection
            .publish(&self.topic, id, content_type::BYTES, &payload);
        self.sent.insert(id, (begun, payload));
    }

    async fn received(&mut self, packet: Incoming, window: &Window) -> Result<(), MqttError> {
        match packet {
            Incoming::PubAck { id, reason } if reason == QUOTA_EXCEEDED => {
                tokio::time::sleep(BUSY_PAUSE).await;
                if let Some((_, payload)) = self.sent.get(&id) {
                    self.connection
                        .publish(&self.topic, id, content_type::BYTES, payload);
                }
                self.connection.flush().await
            }
            Incoming::PubAck { reason, .. } if reason >= 0x80 => Err(MqttError::Refused(reason)),
            Incoming::PubAck { id, .. } => {
                if let Some((begun, _)) = self.sent.remove(&id) {
                    self.tally.acknowledged.record(window, begun);
                }
                Ok(())
            }
            Incoming::Publish { id, payload } => {
                self.connection.acknowledge(id).await?;
                self.receipt(&payload, window)
            }
            _ => Err(MqttError::Order),
        }
    }

    fn receipt(&mut self, payload: &[u8], window: &Window) -> Result<(), MqttError> {
        let received: Received =
            serde_json::from_slice(payload).map_err(|_| MqttError::Malformed)?;
        let succeeded = |receipt: ReceiptOutcome| receipt.outcome == "succeeded";
        if !received.receipt.is_some_and(succeeded) {
            let text = String::from_utf8_lossy(payload).into_owned();
            return Err(MqttError::NotCommitted(text));
        }
        if let Some(begun) = self.uncommitted.remove(&received.transaction) {
            self.tally.committed.record(window, begun);
        }
        Ok(())
    }
}
