//! etcd of Debian as the peer of a ledger: members that agree by Raft and sync each write.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use lamplighter_system::unix_ms;
use lamplighter_types::codec;

use super::closed_loop::{self, Latencies, Window};
use super::foreign::{Foreign, Program};
use super::grpc::{GrpcConnection, GrpcError};
use super::usage::{Figures, Processes};
use crate::cluster::free_addresses;
use crate::error::BenchError;
use crate::fleet::Fleet;
use crate::http::Connection;

/// Room for a long run; the default of 2 GB ends one.
const QUOTA_BYTES: u64 = 8 << 30;

/// The members of one etcd.
pub struct Etcd {
    members: Vec<Foreign>,
}

impl Etcd {
    /// Starts members with empty data directories, and waits until they serve.
    pub async fn start(program: &Program, parent: &Path, count: usize) -> Result<Self, BenchError> {
        let dir = parent.join(format!("etcd-{count}"));
        let addresses = free_addresses(count * 2)?;
        let addresses: Vec<_> = addresses.chunks(2).map(|two| (two[0], two[1])).collect();
        let all = addresses
            .iter()
            .enumerate()
            .map(|(number, (_, peer))| format!("m{number}=http://{peer}"));
        let all = all.collect::<Vec<_>>().join(",");
        let mut members = Vec::new();
        for (number, (client, peer)) in addresses.iter().enumerate() {
            let data = dir.join(format!("m{number}"));
            fs::create_dir_all(&data).map_err(BenchError::io("making", &data))?;
            let arguments = arguments(number, &data, *client, *peer, &all);
            members.push(Foreign::start(program, &arguments, &data, *client)?);
        }
        for member in &mut members {
            member.ready(is_healthy).await?;
        }
        Ok(Self { members })
    }

    pub fn processes(&self) -> Processes {
        let member = |member: &Foreign| (member.pid, member.data.clone());
        self.members.iter().map(member).collect()
    }

    /// Writes the bytes of signed transactions, each under a key of its own. Clients are spread
    /// over all members and share `connections`.
    pub async fn measure(
        &self,
        fleet: &Arc<Fleet>,
        clients: usize,
        connections: usize,
        seconds: u64,
    ) -> Result<Figures, BenchError> {
        let mut opened = Vec::new();
        for number in 0..connections.min(clients) {
            let address = self.members[number % self.members.len()].address;
            let connection = GrpcConnection::open(address).await;
            opened.push(connection.map_err(grpc_error(address))?);
        }
        let address = self.members[0].address;
        let begun_ms = unix_ms();
        let (processes, window) = (self.processes(), Window::begin(seconds));
        closed_loop::run(&processes, clients, window, |number, window| {
            let connection = opened[number % opened.len()].clone();
            let fleet = fleet.clone();
            // No key of an earlier phase.
            let name = format!("{number}-{begun_ms}");
            async move {
                let written = write_all(connection, &fleet, number, &name, window).await;
                written.map_err(grpc_error(address))
            }
        })
        .await
    }

    pub async fn stop(self) -> Result<(), BenchError> {
        let mut stopped = Ok(());
        for member in self.members {
            stopped = stopped.and(member.stop().await);
        }
        stopped
    }
}

fn grpc_error(node: SocketAddr) -> impl Fn(GrpcError) -> BenchError {
    move |source| BenchError::Grpc { node, source }
}

async fn write_all(
    mut connection: GrpcConnection,
    fleet: &Fleet,
    client: usize,
    name: &str,
    window: Window,
) -> Result<Latencies, GrpcError> {
    let mut latencies = Latencies::default();
    let mut count = 0_u64;
    while window.is_open() {
        let body = codec::encode(&fleet.event(client));
        count += 1;
        let begun = tokio::time::Instant::now();
        connection.put(&format!("{name}-{count}"), body).await?;
        latencies.record(&window, begun);
    }
    Ok(latencies)
}

async fn is_healthy(address: SocketAddr) -> bool {
    let asked = async { Connection::open(address).await?.get("/health").await };
    match asked.await {
        Ok(answer) => answer.status == 200,
        Err(_) => false,
    }
}

fn arguments(
    number: usize,
    data: &Path,
    client: SocketAddr,
    peer: SocketAddr,
    all: &str,
) -> Vec<String> {
    let options = [
        ("name", format!("m{number}")),
        ("data-dir", data.display().to_string()),
        ("listen-client-urls", format!("http://{client}")),
        ("advertise-client-urls", format!("http://{client}")),
        ("listen-peer-urls", format!("http://{peer}")),
        ("initial-advertise-peer-urls", format!("http://{peer}")),
        ("initial-cluster", all.to_owned()),
        ("initial-cluster-state", "new".to_owned()),
        ("quota-backend-bytes", QUOTA_BYTES.to_string()),
        ("logger", "zap".to_owned()),
        ("log-level", "error".to_owned()),
    ];
    let option = |(name, value)| format!("--{name}={value}");
    options.into_iter().map(option).collect()
}
