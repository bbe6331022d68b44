//! A gateway of many devices on a slow link knows them all, and no other device.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lamplighter_types::limits::LIST_ITEMS_MAX;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout_at;

use crate::city::{City, until};

const DEVICES: usize = 5_000;
/// Bytes a second of the slow link, each way.
const RATE: usize = 1_000_000;

/// A link that carries at most [`RATE`] bytes a second.
struct SlowLink {
    address: SocketAddr,
    /// Bytes towards the gateway.
    carried: Arc<AtomicU64>,
}

impl SlowLink {
    async fn to(node: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, carried) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
        let count = carried.clone();
        tokio::spawn(async move {
            loop {
                let (gateway, _) = listener.accept().await.unwrap();
                let (from_gateway, to_gateway) = gateway.into_split();
                let (from_node, to_node) = TcpStream::connect(node).await.unwrap().into_split();
                tokio::spawn(carry(from_gateway, to_node, Arc::default()));
                tokio::spawn(carry(from_node, to_gateway, count.clone()));
            }
        });
        Self { address, carried }
    }
}

/// Forwards the bytes of one second at a time, as a radio does that takes turns.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    carried: Arc<AtomicU64>,
) {
    let mut open = true;
    while open {
        let turn = tokio::time::Instant::now() + Duration::from_secs(1);
        let mut gathered = Vec::with_capacity(RATE);
        while gathered.len() < RATE {
            let mut piece = (&mut from).take((RATE - gathered.len()) as u64);
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

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_devices_are_known_over_a_slow_link_and_a_removed_one_is_not() {
    let city = City::build(&[]).await;
    city.register_gateway("gw-2").await;
    let names: Vec<_> = (0..DEVICES).map(name).collect();
    for part in names.chunks(LIST_ITEMS_MAX) {
        city.register_devices(part.iter().map(String::as_str)).await;
    }
    let link = SlowLink::to(city.node.edges.mqtt[0]).await;
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
    let gateway = city.gateway_at(config.clone()).await;
    wait_for(&expected).await;
    let all = link.carried.swap(0, Ordering::Relaxed);

    // While it is connected, and while it is away.
    city.assign(&name(8), "gw-2").await;
    expected.remove(&name(8));
    wait_for(&expected).await;
    gateway.stop().await;
    city.assign(&name(7), "gw-2").await;
    expected.remove(&name(7));
    city.assign(&name(8), "gw").await;
    expected.insert(name(8));
    let more = name(DEVICES);
    city.register_devices([more.as_str()].into_iter()).await;
    expected.insert(more);
    link.carried.store(0, Ordering::Relaxed);
    let gateway = city.gateway_at(config).await;
    wait_for(&expected).await;
    gateway.stop().await;
    let second = link.carried.load(Ordering::Relaxed);
    assert!(
        second < all / 20,
        "only the differences are sent: {second} of {all} bytes"
    );
}
