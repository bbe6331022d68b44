//! Clients that together send at one rate.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lamplighter_types::{SignedTransaction, codec};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::CLIENTS;
use crate::cluster::Cluster;
use crate::error::BenchError;
use crate::fleet::Fleet;
use crate::load::{self, BUSY_PAUSE, Fate, Landed};
use crate::report::percentile;

/// Transactions that are kept to predict the growth of the disk: 30 MB of rows, so that what a
/// table file has once does not count.
const TAKEN_MAX: usize = 30_000;
/// Times that are kept: 40 MB. Of a longer run the rest is counted, not timed.
const TIMES_MAX: usize = 10_000_000;

/// A transaction with its place in the chain.
#[derive(Clone)]
pub struct Taken {
    pub signed: SignedTransaction,
    pub landed: Landed,
}

/// The schedule that all clients share.
pub struct Pace {
    fleet: Arc<Fleet>,
    begun: Instant,
    gap: Duration,
    ends: Instant,
    /// The next place in the schedule.
    next: AtomicU64,
    committed: AtomicU64,
    taken: Mutex<Vec<Taken>>,
}

/// What clients saw.
#[derive(Default)]
pub struct Tally {
    times_us: Vec<u32>,
    pub committed: u64,
    pub failed: u64,
    pub first_failure: Option<String>,
    pub busy: u64,
    pub late_ms_max: u64,
}

/// The clients at work.
pub struct Clients(JoinSet<Result<Tally, BenchError>>);

impl Pace {
    pub fn new(fleet: Arc<Fleet>, per_second: f64, length: Duration) -> Self {
        let begun = Instant::now();
        Self {
            fleet,
            begun,
            gap: Duration::from_secs_f64(1.0 / per_second),
            ends: begun + length,
            next: AtomicU64::new(0),
            committed: AtomicU64::new(0),
            taken: Mutex::default(),
        }
    }

    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// The first transactions, each with its place.
    pub fn taken(&self) -> Vec<Taken> {
        std::mem::take(&mut *self.taken.lock().expect("nobody panics with the lock"))
    }

    /// When the next transaction is due, if there is one. What could not be sent in time is left.
    fn due(&self) -> Option<Instant> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let at = self.begun + self.gap.mul_f64(number as f64);
        (at < self.ends && Instant::now() < self.ends).then_some(at)
    }

    fn note(&self, signed: SignedTransaction, landed: Landed) {
        self.committed.fetch_add(1, Ordering::Relaxed);
        let mut taken = self.taken.lock().expect("nobody panics with the lock");
        if taken.len() < TAKEN_MAX {
            taken.push(Taken { signed, landed });
        }
    }
}

/// Starts the clients, spread over all nodes.
pub fn start(pace: &Arc<Pace>, cluster: &Cluster) -> Clients {
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let node = &cluster.nodes[number % cluster.nodes.len()];
        clients.spawn(client(pace.clone(), number, node.http));
    }
    Clients(clients)
}

async fn client(pace: Arc<Pace>, number: usize, node: SocketAddr) -> Result<Tally, BenchError> {
    let mut tally = Tally::default();
    let mut connection = load::open(node).await?;
    while let Some(due) = pace.due() {
        sleep_until(due).await;
        let late = due.elapsed().as_millis() as u64;
        tally.late_ms_max = tally.late_ms_max.max(late);
        let signed = pace.fleet.event(number);
        let body = codec::encode(&signed);
        let begun = Instant::now();
        loop {
            match load::submit(&mut connection, &body).await? {
                Fate::Committed(landed) => {
                    tally.times_us.push(begun.elapsed().as_micros() as u32);
                    tally.times_us.truncate(TIMES_MAX / CLIENTS);
                    tally.committed += 1;
                    pace.note(signed, landed);
                    break;
                }
                Fate::Busy => {
                    tally.busy += 1;
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                Fate::Failed(why) => {
                    tally.failed += 1;
                    tally.first_failure.get_or_insert(why);
                    break;
                }
            }
        }
    }
    Ok(tally)
}

impl Clients {
    /// Waits for all of them.
    pub async fn join(mut self, cluster: &mut Cluster) -> Result<Tally, BenchError> {
        let mut sum = Tally::default();
        while let Some(done) = self.0.join_next().await {
            // A node's own end explains more than the connection that broke.
            cluster.check()?;
            sum.add(done.expect("clients do not panic")?);
        }
        sum.times_us.sort_unstable();
        Ok(sum)
    }
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.times_us.extend(other.times_us);
        self.committed += other.committed;
        self.failed += other.failed;
        self.busy += other.busy;
        self.late_ms_max = self.late_ms_max.max(other.late_ms_max);
        self.first_failure = self.first_failure.take().or(other.first_failure);
    }

    pub fn percentile_ms(&self, percent: f64) -> f64 {
        f64::from(percentile(&self.times_us, percent)) / 1_000.0
    }
}
