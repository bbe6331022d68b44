//! Measures the throughput of one link, on loopback with both ends in this process:
//! `cargo run -p lamplighter-net --example throughput`

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use lamplighter_net::{
    AllowList, AllowedPeer, Lane, NetConfig, NetError, NetLimits, Network, NodeKey, Service,
    ServiceError,
};
use tokio::sync::watch;

const RUN: Duration = Duration::from_secs(3);
const TIMEOUT: Duration = Duration::from_secs(10);

struct Sink;

#[async_trait]
impl Service for Sink {
    async fn request(&self, _: NodeKey, _: Lane, body: Bytes) -> Result<Bytes, ServiceError> {
        Ok(body.slice(..body.len().min(32)))
    }

    async fn notify(&self, _: NodeKey, _: Lane, _: Bytes) {}
}

async fn start(seed: u8) -> Result<(Network, watch::Sender<AllowList>), NetError> {
    let (peers, list) = watch::channel(AllowList::default());
    let config = NetConfig {
        secret: [seed; 32].into(),
        listen: ([127, 0, 0, 1], 0).into(),
        chain_id: [0; 32],
        protocol: 1,
        dials_all: false,
        limits: NetLimits::default(),
    };
    Ok((Network::start(config, list, Arc::new(Sink)).await?, peers))
}

/// Asks from `callers` tasks side by side and prints the rate.
async fn measure(from: &Network, to: NodeKey, lane: Lane, callers: usize, bytes: usize) {
    let cpu = cpu_time();
    let began = Instant::now();
    let tasks = (0..callers).map(|_| {
        let from = from.clone();
        let body = Bytes::from(vec![1; bytes]);
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            while began.elapsed() < RUN {
                let sent = Instant::now();
                if let Err(error) = from.request(to, lane, body.clone(), TIMEOUT).await {
                    println!("a request failed: {error}");
                    break;
                }
                latencies.push(sent.elapsed());
            }
            latencies
        })
    });
    let results = join_all(tasks).await.into_iter();
    let mut latencies: Vec<Duration> = results.flat_map(Result::unwrap_or_default).collect();
    latencies.sort();
    let (count, seconds) = (latencies.len(), began.elapsed().as_secs_f64());
    if count == 0 {
        return;
    }
    println!(
        "{lane:>12}, {callers:>4} callers, {bytes:>8} bytes: {:>8.0} requests/s {:>8.1} MB/s  \
         p50 {:>7.0} us  p99 {:>7.0} us  {:>6.1} us CPU each",
        count as f64 / seconds,
        (count * bytes) as f64 / seconds / 1e6,
        latencies[count / 2].as_secs_f64() * 1e6,
        latencies[count * 99 / 100].as_secs_f64() * 1e6,
        (cpu_time() - cpu) * 1e6 / count as f64,
    );
}

/// Seconds of CPU that this process has used, both ends together (Linux, 100 ticks a second).
fn cpu_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let ticks = after_name
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|n| n.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

#[tokio::main]
async fn main() -> Result<(), NetError> {
    let (a, a_peers) = start(1).await?;
    let (b, b_peers) = start(2).await?;
    let entry = |node: &Network| AllowedPeer {
        key: node.key(),
        address: Some(node.local_address().to_string()),
    };
    let list = AllowList(vec![entry(&a), entry(&b)]);
    a_peers.send_replace(list.clone());
    b_peers.send_replace(list);
    let (mut a_connected, to) = (a.connected(), b.key());
    a_connected
        .wait_for(|peers| peers.contains(&to))
        .await
        .expect("the network runs");
    for callers in [1, 16, 256] {
        measure(&a, to, Lane::Transactions, callers, 300).await;
    }
    measure(&a, to, Lane::Control, 1, 100).await;
    measure(&a, to, Lane::Append, 1, 100_000).await;
    measure(&a, to, Lane::Append, 1, 2_000_000).await;
    measure(&a, to, Lane::Append, 4, 4_000_000).await;
    a.shutdown().await;
    b.shutdown().await;
    Ok(())
}
