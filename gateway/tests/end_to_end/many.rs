//! A gateway of many devices on a slow link knows them all, and no other device.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lamplighter_types::limits::LIST_ITEMS_MAX;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout_at;

use crate::city::{City, until};

const DEVICES: usize = 10_000;
/// Bytes a second of the link over which the gateway learns all its devices, each way.
const FIRST_RATE: usize = 1_000_000;
/// The same of the link over which it learns what has changed: that of a slow radio.
const SECOND_RATE: usize = 8_000;
/// Time for what has changed.
const SECOND_WITHIN: Duration = Duration::from_secs(40);

/// A link that carries a limited number of bytes a second.
struct SlowLink {
    address: SocketAddr,
    /// Bytes towards the gateway, and from it.
    carried: [Arc<AtomicU64>; 2],
}

impl SlowLink {
    /// The bytes since the last call.
    fn carried(&self) -> [u64; 2] {
        let take = |count: &Arc<AtomicU64>| count.swap(0, Ordering::Relaxed);
        [take(&self.carried[0]), take(&self.carried[1])]
    }
}

impl SlowLink {
    async fn to(node: SocketAddr, rate: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let carried: [Arc<AtomicU64>; 2] = Default::default();
        let [down, up] = carried.clone();
        tokio::spawn(async move {
            loop {
                let (gateway, _) = listener.accept().await.unwrap();
                let (from_gateway, to_gateway) = gateway.into_split();
                let (from_node, to_node) = TcpStream::connect(node).await.unwrap().into_split();
                tokio::spawn(carry(from_gateway, to_node, rate, up.clone()));
                tokio::spawn(carry(from_node, to_gateway, rate, down.clone()));
            }
        });
        Self { address, carried }
    }
}

/// Forwards the bytes of one second at a time, as a radio does that takes turns.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    rate: usize,
    carried: Arc<AtomicU64>,
) {
    let mut open = true;
    while open {
        let turn = tokio::time::Instant::now() + Duration::from_secs(1);
        let mut gathered = Vec::with_capacity(rate);
        while gathered.len() < rate {
            let mut piece = (&mut from).take((rate - gathered.len()) as u64);
            match timeout_at(turn, piece.read_buf(&mut gathered)).await {
                Ok(Ok(1..)) => {}
                Ok(_) => {
                    open = false;
                    break;
                }
                Err(_) => break,
            }
        }
        tokio::time::sleep_until(turn).await;
        if to.write_all(&gathered).await.is_err() {
            return;
        }
        carried.fetch_add(gathered.len() as u64, Ordering::Relaxed);
    }
}

fn name(number: usize) -> String {
    format!("lamp-{number:05}")
}

/// The devices of this gateway in its table on disk.
fn stored_devices(path: &Path) -> BTreeSet<String> {
    let text = std::fs::read(path).unwrap_or_else(|_| b"{}".to_vec());
    let table: BTreeMap<String, Value> = serde_json::from_slice(&text).unwrap();
    let devices = table
        .into_iter()
        .filter(|(_, entry)| !entry["device"].is_null());
    devices.map(|(name, _)| name).collect()
}

/// Reads of the ledger for work of gateways.
async fn work_reads(city: &City) -> u64 {
    let mut stream = TcpStream::connect(city.node.edges.admin).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let name = "lamplighter_mqtt_work_reads";
    let line = text.lines().find(|line| line.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("{name} in {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_devices_are_known_over_a_slow_link_and_a_removed_one_is_not() {
    let city = City::build(&[]).await;
    city.register_gateway("gw-2").await;
    let names: Vec<_> = (0..DEVICES - 1).map(name).collect();
    // They are more than the allowance of one account for a day.
    for (operator, half) in ["operator", "olga"]
        .into_iter()
        .zip(names.chunks(DEVICES / 2))
    {
        for part in half.chunks(LIST_ITEMS_MAX) {
            let devices = part.iter().map(String::as_str);
            city.register_devices_as(operator, devices).await;
        }
    }
    let link = SlowLink::to(city.node.edges.mqtt[0], FIRST_RATE).await;
    let mut config = city.gateway_config(false);
    config.nodes.remove(0);
    config.nodes[0].mqtt = link.address.to_string();
    let path = config.data_dir.join("devices.json");
    let wait_for = async |expected: &BTreeSet<String>| {
        until("the gateway to know its devices", async || {
            (stored_devices(&path) == *expected).then_some(())
        })
        .await;
    };

    let mut expected: BTreeSet<_> = names.into_iter().collect();
    let start = Instant::now();
    let gateway = city.gateway_at(config.clone()).await;
    wait_for(&expected).await;
    let [all, up] = link.carried();
    println!("all: {all} bytes down, {up} up, {:?}", start.elapsed());

    // While it is connected.
    city.assign(&name(8), "gw-2").await;
    expected.remove(&name(8));
    wait_for(&expected).await;
    // Devices without open work cost nothing.
    let before = work_reads(&city).await;
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert_eq!(work_reads(&city).await, before);
    gateway.stop().await;

    // While it is away.
    city.assign(&name(7), "gw-2").await;
    expected.remove(&name(7));
    city.assign(&name(8), "gw").await;
    expected.insert(name(8));
    let more = name(DEVICES);
    city.register_devices([more.as_str()].into_iter()).await;
    expected.insert(more);
    let link = SlowLink::to(city.node.edges.mqtt[0], SECOND_RATE).await;
    config.nodes[0].mqtt = link.address.to_string();
    let start = Instant::now();
    let gateway = city.gateway_at(config).await;
    wait_for(&expected).await;
    let took = start.elapsed();
    gateway.stop().await;
    let [down, up] = link.carried();
    println!("differences: {down} bytes down, {up} up, {took:?}");
    assert!(took < SECOND_WITHIN, "{took:?}");
    assert!(
        down < all / 200 && up < 32_000,
        "only the differences are sent: {down} of {all} bytes, {up} up"
    );
}
