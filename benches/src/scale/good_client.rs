//! One client that sends one transaction after the other and reads one record after the other,
//! alone and beside large work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lamplighter_types::codec;
use lamplighter_types::login::Audience;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::FleetReport;
use super::city::{City, device};
use crate::cluster::Cluster;
use crate::error::BenchError;
use crate::fleet::{Fleet, GATEWAYS, administrator, administrator_key};
use crate::http::Connection;
use crate::load::{self, SubmitOutcome};
use crate::options::FleetOptions;
use crate::peers::gateways::{submit_all, token};
use crate::report::percentile;

/// Transactions of a thousand events that are sent at once: one block can take them all.
const BURST: u64 = 10;
/// The lamp of the good client, which no client of the load has.
const LAMP: usize = GATEWAYS;
/// Time limit of the rollout.
const ROLLOUT_WITHIN: Duration = Duration::from_secs(3_600);
/// Interval between two looks at the rollout.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The times of the good client beside one kind of work.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct GoodClient {
    pub beside: String,
    pub seconds: f64,
    pub submitted: usize,
    pub submit_p50_ms: f64,
    pub submit_p99_ms: f64,
    pub submit_max_ms: f64,
    pub read_p50_ms: f64,
    pub read_p99_ms: f64,
    pub read_max_ms: f64,
}

/// Latencies in microseconds.
#[derive(Default)]
struct Times {
    submits: Vec<u32>,
    reads: Vec<u32>,
}

/// Measures the client alone, beside bursts of events, and beside the rollout.
pub async fn measure(
    cluster: &mut Cluster,
    city: &City,
    options: &FleetOptions,
    report: &mut FleetReport,
) -> Result<(), BenchError> {
    let length = Duration::from_secs(options.seconds);
    let alone = beside("nothing", cluster, city, sleep_only(length)).await?;
    report.good_client.push(alone);
    let node = cluster.nodes[0].http;
    let bursts = async {
        let until = Instant::now() + length;
        while Instant::now() < until {
            let burst = (0..BURST.min(city.lists)).map(|list| city.events_of(list, 0));
            submit_all(node, BURST as usize, burst).await?;
        }
        Ok(())
    };
    let bursts = beside("blocks of 10,000 events", cluster, city, bursts).await?;
    report.good_client.push(bursts);
    let begun = Instant::now();
    let rollout = async {
        city.start_rollout(cluster).await?;
        let mut connection = reader(&city.fleet, node).await?;
        while !city.is_rolled_out(&mut connection).await? {
            if begun.elapsed() > ROLLOUT_WITHIN {
                let within = ROLLOUT_WITHIN;
                return Err(BenchError::NotReady { within });
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    };
    let name = format!("a rollout to {} devices", options.devices);
    let rollout = beside(&name, cluster, city, rollout).await?;
    report.assigned_in_seconds = begun.elapsed().as_secs_f64();
    report.good_client.push(rollout);
    cluster.check()
}

async fn sleep_only(length: Duration) -> Result<(), BenchError> {
    sleep(length).await;
    Ok(())
}

/// A connection of the administrator for reading.
pub async fn reader(fleet: &Fleet, node: std::net::SocketAddr) -> Result<Connection, BenchError> {
    let mut connection = load::open(node).await?;
    let (account, secret) = (administrator(), administrator_key());
    let audience = Audience::HttpRead;
    let token = token(&mut connection, fleet, &account, &secret, audience).await?;
    connection.token = Some(token);
    Ok(connection)
}

/// Runs the client until the work is done.
async fn beside(
    name: &str,
    cluster: &Cluster,
    city: &City,
    work: impl Future<Output = Result<(), BenchError>>,
) -> Result<GoodClient, BenchError> {
    let done = Arc::new(AtomicBool::new(false));
    let node = cluster.nodes[0].http;
    let client = tokio::spawn(client(city.fleet.clone(), node, done.clone()));
    let begun = Instant::now();
    let worked = work.await;
    let seconds = begun.elapsed().as_secs_f64();
    done.store(true, Ordering::Relaxed);
    let times = client.await.expect("clients do not panic")?;
    worked?;
    let Times {
        mut submits,
        mut reads,
    } = times;
    submits.sort_unstable();
    reads.sort_unstable();
    let ms = |values: &[u32], percent| f64::from(percentile(values, percent)) / 1_000.0;
    Ok(GoodClient {
        beside: name.to_owned(),
        seconds,
        submitted: submits.len(),
        submit_p50_ms: ms(&submits, 50.0),
        submit_p99_ms: ms(&submits, 99.0),
        submit_max_ms: ms(&submits, 100.0),
        read_p50_ms: ms(&reads, 50.0),
        read_p99_ms: ms(&reads, 99.0),
        read_max_ms: ms(&reads, 100.0),
    })
}

async fn client(
    fleet: Arc<Fleet>,
    node: std::net::SocketAddr,
    done: Arc<AtomicBool>,
) -> Result<Times, BenchError> {
    let mut connection = reader(&fleet, node).await?;
    let path = format!("/v1/devices/{}", device(0, 0));
    let mut times = Times::default();
    while !done.load(Ordering::Relaxed) {
        let body = codec::encode(&fleet.event(LAMP));
        let begun = Instant::now();
        let outcome = load::submit_until_accepted(&mut connection, &body).await?;
        if let SubmitOutcome::Failed(why) = outcome {
            return Err(BenchError::Failures(1, "the good client", why));
        }
        times.submits.push(begun.elapsed().as_micros() as u32);
        let begun = Instant::now();
        let answer = connection.get(&path).await;
        let answer = answer.map_err(|source| BenchError::Http { node, source })?;
        times.reads.push(begun.elapsed().as_micros() as u32);
        if answer.status != 200 {
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            let status = answer.status;
            return Err(BenchError::Answer { node, status, body });
        }
    }
    Ok(times)
}
