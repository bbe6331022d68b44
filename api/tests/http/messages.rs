//! Messages of the MQTT edge of a real ledger agree with `docs/asyncapi.yaml`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use lamplighter_types::login::Audience;
use lamplighter_types::proof::CertifiedHeader;
use lamplighter_types::wire::work::WorkMessage;
use lamplighter_types::{Genesis, SignedTransaction};
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, QoS};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::node::{Node, STEP_TIMEOUT, id};
use crate::scenario::{self, Client, printed, secret};
use crate::schemas::{ASYNCAPI, Cases, OPENAPI};

const GATEWAY: &str = "gw-north";
const EXAMPLES: &str = "messages.json";
const GENESIS: &str = "genesis.json";
/// The messages of the document.
const NAMES: [&str; 7] = [
    "head",
    "notification",
    "receipt",
    "refusal",
    "sync",
    "transaction",
    "work",
];

/// Messages in the order of their arrival, with their topics.
#[derive(Default)]
struct Recorded {
    messages: Mutex<Vec<(String, Value)>>,
    changed: Notify,
}

impl Recorded {
    fn push(&self, topic: String, payload: &[u8]) {
        let value = serde_json::from_slice(payload).unwrap();
        self.messages.lock().unwrap().push((topic, value));
        self.changed.notify_waiters();
    }

    /// Waits for a message.
    async fn until(&self, what: &str, wanted: impl Fn(&str, &Value) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                let found = |(topic, value): &(String, Value)| wanted(topic, value);
                if self.messages.lock().unwrap().iter().any(found) {
                    return;
                }
                changed.await;
            }
        };
        let found = tokio::time::timeout(STEP_TIMEOUT, wait).await;
        found.unwrap_or_else(|_| panic!("never: {what}"));
    }
}

/// A client of the edge, and the task that records what it gets.
struct Listener {
    client: AsyncClient,
    task: JoinHandle<()>,
}

async fn listen(node: &Node, account: &str, topics: &[&str], to: &Arc<Recorded>) -> Listener {
    let token = node
        .token_for(Audience::Mqtt, &id(account), &secret(account))
        .await;
    let mut options = MqttOptions::new(account, "127.0.0.1", node.edges.mqtt[0].port());
    options.set_credentials(account, token);
    options.set_max_packet_size(300_000, 300_000);
    options.set_keep_alive(Duration::from_secs(30));
    let (client, mut events) = AsyncClient::new(options, 100);
    for topic in topics {
        client.subscribe(*topic, QoS::AtLeastOnce).await.unwrap();
    }
    let granted = Arc::new(Notify::new());
    let (recorded, subscribed) = (to.clone(), granted.clone());
    let mut missing = topics.len();
    let task = tokio::spawn(async move {
        loop {
            match events.poll().await.unwrap() {
                Event::Incoming(Incoming::Publish(m)) => recorded.push(m.topic, &m.payload),
                Event::Incoming(Incoming::SubAck(_)) => {
                    missing -= 1;
                    if missing == 0 {
                        subscribed.notify_one();
                    }
                }
                _ => {}
            }
        }
    });
    tokio::time::timeout(STEP_TIMEOUT, granted.notified())
        .await
        .unwrap();
    Listener { client, task }
}

fn topic(last: &str) -> String {
    format!("lamplighter/1/gw/{GATEWAY}/{last}")
}

/// The name of a message in the document.
fn name(topic: &str, value: &Value) -> &'static str {
    let has = |field| value.get(field).is_some();
    match topic.rsplit('/').next() {
        Some("work") => "work",
        Some("head") => "head",
        Some("receipt") if has("receipt") => "receipt",
        Some("receipt") => "refusal",
        _ if topic.starts_with("lamplighter/1/notify/") => "notification",
        _ => panic!("{topic}"),
    }
}

/// A gateway whose messages in both directions are recorded.
struct Gateway {
    listener: Listener,
    sent: Vec<(&'static str, Value)>,
}

impl Gateway {
    async fn publish(&mut self, name: &'static str, value: Value) {
        let topic = topic(if name == "sync" { "sync" } else { "tx" });
        let text = value.to_string();
        let publish = self
            .listener
            .client
            .publish(topic, QoS::AtLeastOnce, false, text);
        publish.await.unwrap();
        self.sent.push((name, value));
    }

    /// Sends a transaction and waits for its receipt.
    async fn submit(&mut self, node: &Node, client: &mut Client, action: &Value, to: &Recorded) {
        let transaction = client.transaction(GATEWAY, action);
        let signed = client.signed(&transaction, &node.genesis.chain_id());
        let hash = signed.hash(&node.genesis.chain_id()).to_string();
        self.publish("transaction", serde_json::to_value(&signed).unwrap())
            .await;
        let is_answer = |_: &str, value: &Value| value["transaction"] == hash.as_str();
        to.until("a receipt", |topic, value| {
            topic.ends_with("/receipt") && is_answer(topic, value)
        })
        .await;
    }
}

/// Plays the scenario; the messages of the gateway go over MQTT.
async fn play(node: &Node, recorded: &Arc<Recorded>) -> Vec<(&'static str, Value)> {
    let mut client = Client::default();
    let steps = printed();
    let is_gateway = |step: &Value| step["action"]["users"]["register_gateway"].is_object();
    let registered = steps.iter().position(is_gateway).unwrap();
    for step in &steps[..=registered] {
        client.send(node, step).await.ok();
    }
    let (receipts, work) = (topic("receipt"), topic("work"));
    let topics = [&receipts[..], &work[..], "lamplighter/1/head"];
    let listener = listen(node, GATEWAY, &topics, recorded).await;
    let mut gateway = Gateway {
        listener,
        sent: Vec::new(),
    };
    let user = listen(node, "olga", &["lamplighter/1/notify/+/+/+"], recorded).await;
    for step in &steps[registered + 1..] {
        if step["sender"] == GATEWAY {
            client.ready(node, step).await;
            let action = &step["action"];
            gateway.submit(node, &mut client, action, recorded).await;
        } else {
            client.send(node, step).await.ok();
        }
    }
    // One that fails, one that is no transaction of this chain, and questions for work. A batch
    // fails only as a whole, so this one has a single event.
    let events = steps.iter().find(|s| s["action"]["events"].is_object());
    let mut used = events.unwrap()["action"].clone();
    let batch = used["events"]["append"]["events"].as_array_mut();
    batch.unwrap().drain(..1);
    gateway.submit(node, &mut client, &used, recorded).await;
    let mut forged = gateway.sent[0].1.clone();
    forged["signature"] = "00".repeat(64).into();
    gateway.publish("transaction", forged).await;
    recorded
        .until("a refusal", |_, value| value["refused"].is_object())
        .await;
    for devices in [json!({}), json!({ "lamp-1": "another" })] {
        let held = json!({ "devices": { "devices": devices } });
        gateway.publish("sync", held).await;
    }
    gateway.publish("sync", json!({})).await;
    gateway.publish("sync", json!({ "since": "1.0" })).await;
    let is_open = |value: &Value| value["items"][0].is_object();
    recorded
        .until("work", |topic, value| {
            topic.ends_with("/work") && is_open(value)
        })
        .await;
    recorded
        .until("a head", |topic, _| topic.ends_with("/head"))
        .await;
    gateway.listener.task.abort();
    user.task.abort();
    gateway.sent
}

/// The messages in `docs/examples/messages.json`, by their names in the document: the shortest of
/// each kind that were sent in a run.
#[derive(Default, Serialize, Deserialize)]
struct Examples(BTreeMap<String, Vec<Value>>);

impl Examples {
    fn read() -> Self {
        let text = std::fs::read(scenario::path(EXAMPLES)).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// Takes a message in place of a longer one of its kind.
    fn add(&mut self, name: &str, value: &Value) {
        let kind = |value: &Value| {
            let item = value["items"][0].as_object().and_then(|i| i.keys().next());
            (value["receipt"]["outcome"].is_object(), item.cloned())
        };
        let known = self.0.entry(name.to_owned()).or_default();
        match known.iter_mut().find(|v| kind(v) == kind(value)) {
            Some(other) if name != "sync" => {
                if value.to_string().len() < other.to_string().len() {
                    *other = value.clone();
                }
            }
            _ => known.push(value.clone()),
        }
    }

    fn write(&self) {
        let text = serde_json::to_string_pretty(self).unwrap();
        std::fs::write(scenario::path(EXAMPLES), text + "\n").unwrap();
        let text = serde_json::to_string_pretty(&scenario::genesis()).unwrap();
        std::fs::write(scenario::path(GENESIS), text + "\n").unwrap();
    }
}

/// A reader of the documents can check all examples with the genesis file beside them.
#[test]
fn examples_of_messages_are_valid_and_proven() {
    let genesis: Genesis =
        serde_json::from_slice(&std::fs::read(scenario::path(GENESIS)).unwrap()).unwrap();
    assert_eq!(genesis, scenario::genesis());
    let Examples(examples) = Examples::read();
    let names: Vec<_> = examples.keys().map(String::as_str).collect();
    assert_eq!(names, NAMES);
    let mut cases = Cases::default();
    for (name, values) in &examples {
        for value in values {
            let at = format!("/components/messages/{name}/payload");
            cases.add(ASYNCAPI, &at, value, name);
        }
    }
    cases.check();
    for value in &examples["transaction"] {
        let signed: SignedTransaction = serde_json::from_value(value.clone()).unwrap();
        let is_forged = value["signature"] == "00".repeat(64);
        assert_eq!(signed.verify(&genesis.chain_id()).is_err(), is_forged);
    }
    let mut proven = 0;
    for value in &examples["work"] {
        let bytes = value.to_string();
        let work = WorkMessage::from_json(bytes.as_bytes(), &id(GATEWAY)).unwrap();
        proven += work.proofs.verify(&genesis).unwrap().len();
    }
    assert!(proven > 5, "{proven}");
    for value in &examples["head"] {
        let head: CertifiedHeader = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(head.certificate.header, head.header.hash());
        head.certificate.verify(&genesis.validators).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_as_described() {
    let node = scenario::node().await;
    let recorded = Arc::new(Recorded::default());
    let sent = play(&node, &recorded).await;
    let mut cases = Cases::default();
    let mut examples = Examples::default();
    let mut counts = BTreeMap::<_, usize>::new();
    let messages = std::mem::take(&mut *recorded.messages.lock().unwrap());
    let received = messages
        .iter()
        .map(|(topic, value)| (name(topic, value), value));
    for (name, value) in received.chain(sent.iter().map(|(name, value)| (*name, value))) {
        *counts.entry(name).or_default() += 1;
        let at = format!("/components/messages/{name}/payload");
        cases.add(ASYNCAPI, &at, value, name);
        examples.add(name, value);
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        examples.write();
    }
    let names: Vec<_> = counts.keys().copied().collect();
    assert_eq!(names, NAMES, "{counts:?}");
    assert!(counts["notification"] > 15, "{counts:?}");
    let outcomes = ["succeeded", "failed"].map(|outcome| {
        let of = |v: &Value| v["receipt"]["outcome"].to_string().contains(outcome);
        messages.iter().any(|(_, value)| of(value))
    });
    assert_eq!(outcomes, [true, true]);
    cases.check();
    node.stop().await;
}

/// The feed has the facts of the city too, which no device's topic has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_the_feed_are_as_described() {
    let node = scenario::node().await;
    let mut client = Client::default();
    for step in printed() {
        client.send(&node, &step).await.ok();
    }
    let url = format!("{}/v1/feed?after=0.0", node.base());
    let answer = node.http.get(url).bearer_auth(&node.token).send();
    let mut stream = answer.await.unwrap().bytes_stream();
    let (mut text, mut cases) = (String::new(), Cases::default());
    while !text.contains("device_decommissioned") {
        let piece = tokio::time::timeout(STEP_TIMEOUT, stream.next())
            .await
            .unwrap();
        text += std::str::from_utf8(&piece.unwrap().unwrap()).unwrap();
    }
    let complete = text.rsplit_once('\n').unwrap().0;
    let events: Vec<_> = complete
        .lines()
        .filter_map(|l| l.strip_prefix("data: "))
        .collect();
    assert!(events.len() > 50, "{}", events.len());
    for event in events {
        let value = serde_json::from_str(event).unwrap();
        cases.add(OPENAPI, "/components/schemas/FeedEvent", &value, "feed");
    }
    cases.check();
    node.stop().await;
}
