//! A gateway of many devices on a slow link knows them all, and none that is not its own.

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

/// A link that carries so many bytes a second and no more.
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

/// A second's worth at a time, as over a radio that takes turns.
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

/// The devices that the gateway has on its disk as its own.
fn known(path: &Path) -> BTreeSet<String> {
    let text = std::fs::read(path).unwrap_or_else(|_| b"{}".to_vec());
    let table: BTreeMap<String, Value> = serde_json::from_slice(&text).unwrap();
    let own = table
        .into_iter()
        .filter(|(_, entry)| !entry["device"].is_null());
    own.map(|(name, _)| name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_devices_are_known_over_a_slow_link_and_one_that_left_is_not() {
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
    let are = async |wanted: &BTreeSet<String>| {
        until("the gateway to know its devices", async || {
            (known(&path) == *wanted).then_some(())
        })
        .await;
    };

    let mut wanted: BTreeSet<_> = names.into_iter().collect();
    let gateway = city.gateway_at(config.clone()).await;
    are(&wanted).await;
    let all = link.carried.swap(0, Ordering::Relaxed);

    // While it is connected, and while it is away.
    city.assign(&name(8), "gw-2").await;
    wanted.remove(&name(8));
    are(&wanted).await;
    gateway.stop().await;
    city.assign(&name(7), "gw-2").await;
    wanted.remove(&name(7));
    city.assign(&name(8), "gw").await;
    wanted.insert(name(8));
    let more = name(DEVICES);
    city.register_devices([more.as_str()].into_iter()).await;
    wanted.insert(more);
    link.carried.store(0, Ordering::Relaxed);
    let gateway = city.gateway_at(config).await;
    are(&wanted).await;
    gateway.stop().await;
    let again = link.carried.load(Ordering::Relaxed);
    assert!(
        again < all / 20,
        "only what differs is told: {again} of {all} bytes"
    );
}
