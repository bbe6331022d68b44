//! The times of reads: one connection asks for each route again and again for a while.

use std::net::SocketAddr;
use std::time::Duration;

use lamplighter_types::login::Audience;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::city::{City, READER, device};
use super::routes::{self, Asker, Place, Route};
use crate::cluster::Cluster;
use crate::error::BenchError;
use crate::fleet::{administrator, administrator_key, id, key_of};
use crate::http::{Connection, HttpAnswer, HttpError};
use crate::load;
use crate::peers::gateways::token;
use crate::report::percentile;

/// Requests of one route at least, so that its 99th percentile is one of many.
const REQUESTS_MIN: usize = 20;
/// Requests of one route at most.
const REQUESTS_MAX: usize = 2_000;
/// Longest time for one route, whatever the number of its requests.
const ROUTE_WITHIN: Duration = Duration::from_secs(60);
/// A token lasts for 15 minutes.
const TOKEN_RENEWED_AFTER: Duration = Duration::from_secs(600);

/// The times of one route.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ReadRow {
    pub path: String,
    /// The account reads all, or two districts of fifty.
    pub reads_all: bool,
    pub requests: usize,
    /// Bytes of the last answer.
    pub bytes: usize,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

/// The tokens of both askers at the first node.
struct Askers {
    node: SocketAddr,
    all: String,
    few: String,
    since: Instant,
}

impl Askers {
    async fn log_in(city: &City, node: SocketAddr) -> Result<Self, BenchError> {
        let mut connection = load::open(node).await?;
        let fleet = &city.fleet;
        let (account, secret) = (administrator(), administrator_key());
        let audience = Audience::HttpRead;
        let all = token(&mut connection, fleet, &account, &secret, audience).await?;
        let (account, secret) = (id(READER), key_of(READER));
        let few = token(&mut connection, fleet, &account, &secret, audience).await?;
        Ok(Self {
            node,
            all,
            few,
            since: Instant::now(),
        })
    }

    /// A new connection: a node closes one that is idle for long.
    async fn open(&self, asker: Asker) -> Result<Connection, BenchError> {
        let mut connection = load::open(self.node).await?;
        let token = match asker {
            Asker::All => &self.all,
            Asker::Few => &self.few,
        };
        connection.token = Some(token.clone());
        Ok(connection)
    }
}

async fn ask(connection: &mut Connection, route: &Route) -> Result<HttpAnswer, BenchError> {
    let node = connection.address;
    let answer = if route.is_stream {
        let token = connection.token.clone().unwrap_or_default();
        first_notification(node, &route.path, &token).await
    } else {
        connection.get(&route.path).await
    };
    answer.map_err(|source| BenchError::Http { node, source })
}

/// Measures all routes at the first node; the slowest come first.
///
/// # Errors
/// A route answered with an error: its time would say nothing.
pub async fn measure(
    cluster: &Cluster,
    city: &City,
    seconds: f64,
) -> Result<Vec<ReadRow>, BenchError> {
    let node = cluster.nodes[0].http;
    let mut askers = Askers::log_in(city, node).await?;
    let place = place(&mut askers.open(Asker::All).await?).await?;
    let mut rows = Vec::new();
    for route in routes::all(city.lists, &place) {
        if askers.since.elapsed() > TOKEN_RENEWED_AFTER {
            askers = Askers::log_in(city, node).await?;
        }
        let connection = askers.open(route.asker).await?;
        rows.push(row(connection, &route, Duration::from_secs_f64(seconds)).await?);
    }
    rows.sort_by(|a, b| b.p99_ms.total_cmp(&a.p99_ms));
    Ok(rows)
}

/// Finds the block of an event.
async fn place(connection: &mut Connection) -> Result<Place, BenchError> {
    let node = connection.address;
    let path = format!("/v1/devices/{}/events?limit=1", device(0, 0));
    let answer = connection.get(&path).await;
    let answer = answer.map_err(|source| BenchError::Http { node, source })?;
    let page: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let height = page["items"][0]["height"].as_u64();
    let path = format!("/v1/blocks/{}", height.unwrap_or_default());
    let block = connection.get(&path).await;
    let block = block.map_err(|source| BenchError::Http { node, source })?;
    let value: serde_json::Value = serde_json::from_slice(&block.body).unwrap_or_default();
    let transaction = value["receipts"][0]["transaction"].as_str();
    match (height, transaction) {
        (Some(height), Some(transaction)) => Ok(Place {
            height,
            transaction: transaction.to_owned(),
        }),
        _ => Err(BenchError::Answer {
            node,
            status: answer.status,
            body: String::from_utf8_lossy(&answer.body).into_owned(),
        }),
    }
}

async fn row(
    mut connection: Connection,
    route: &Route,
    length: Duration,
) -> Result<ReadRow, BenchError> {
    let mut times_us = Vec::new();
    let (begun, mut bytes) = (Instant::now(), 0);
    while times_us.len() < REQUESTS_MAX {
        let elapsed = begun.elapsed();
        let enough = elapsed >= length && times_us.len() >= REQUESTS_MIN;
        if enough || elapsed >= ROUTE_WITHIN {
            break;
        }
        let asked = Instant::now();
        let answer = ask(&mut connection, route).await?;
        times_us.push(asked.elapsed().as_micros() as u32);
        bytes = answer.body.len();
        if answer.status != 200 {
            let (what, body) = ("a route", String::from_utf8_lossy(&answer.body));
            let detail = format!("{} answered {}: {body}", route.path, answer.status);
            return Err(BenchError::Unexpected { what, detail });
        }
    }
    times_us.sort_unstable();
    let ms = |percent| f64::from(percentile(&times_us, percent)) / 1_000.0;
    Ok(ReadRow {
        path: route.path.clone(),
        reads_all: route.asker == Asker::All,
        requests: times_us.len(),
        bytes,
        p50_ms: ms(50.0),
        p99_ms: ms(99.0),
        max_ms: ms(100.0),
    })
}

/// Opens a stream of the feed and waits for its first notification.
async fn first_notification(
    node: SocketAddr,
    path: &str,
    token: &str,
) -> Result<HttpAnswer, HttpError> {
    let mut stream = TcpStream::connect(node).await?;
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {node}\r\nauthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut body = Vec::new();
    let received = async {
        while !body.windows(6).any(|six| six == b"\ndata:") {
            if stream.read_buf(&mut body).await? == 0 {
                return Err(HttpError::Closed);
            }
            if !body.starts_with(b"HTTP/1.1 200") {
                return Err(HttpError::Malformed);
            }
        }
        Ok(())
    };
    tokio::time::timeout(ROUTE_WITHIN, received)
        .await
        .map_err(|_| HttpError::Silent)??;
    Ok(HttpAnswer { status: 200, body })
}
