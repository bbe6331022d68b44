//! The clients of a soak, which together send at one rate.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lamplighter_types::{SignedTransaction, codec};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::CLIENTS;
use crate::cluster::Cluster;
use crate::error::BenchError;
use crate::fleet::Fleet;
use crate::load::{self, BUSY_PAUSE, CommittedTransaction, SubmitOutcome};
use crate::report::percentile;

/// Transactions that are kept to predict the growth of the disk: 30 MB of rows, so that the fixed
/// part of a table file does not count.
const SENT_MAX: usize = 30_000;
/// Latencies that are kept: 40 MB. The rest of a longer run is counted, not timed.
const TIMES_MAX: usize = 10_000_000;

/// A committed transaction with its position in the chain.
#[derive(Clone)]
pub struct SentTransaction {
    pub signed: SignedTransaction,
    pub committed: CommittedTransaction,
}

/// The schedule that all clients share.
pub struct Pace {
    fleet: Arc<Fleet>,
    begun: Instant,
    gap: Duration,
    ends: Instant,
    /// The next slot in the schedule.
    next: AtomicU64,
    committed: AtomicU64,
    stopped: AtomicBool,
    sent: Mutex<Vec<SentTransaction>>,
}

/// The counts and latencies of the clients.
#[derive(Default)]
pub struct PaceTally {
    times_us: Vec<u32>,
    pub committed: u64,
    pub failed: u64,
    pub first_failure: Option<String>,
    pub busy: u64,
    pub late_ms_max: u64,
}

/// The running clients.
pub struct Clients(JoinSet<Result<PaceTally, BenchError>>);

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
            stopped: AtomicBool::new(false),
            sent: Mutex::default(),
        }
    }

    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// Takes the first committed transactions.
    pub fn sent(&self) -> Vec<SentTransaction> {
        std::mem::take(&mut *self.sent.lock().expect("nobody panics with the lock"))
    }

    /// Ends the schedule before its time.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// The instant of the next transaction; `None` after the end. Transactions that could not be
    /// sent in time are skipped.
    fn next_slot(&self) -> Option<Instant> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let at = self.begun + self.gap.mul_f64(number as f64);
        let is_over = self.stopped.load(Ordering::Relaxed) || Instant::now() >= self.ends;
        (at < self.ends && !is_over).then_some(at)
    }

    fn record(&self, signed: SignedTransaction, committed: CommittedTransaction) {
        self.committed.fetch_add(1, Ordering::Relaxed);
        let mut sent = self.sent.lock().expect("nobody panics with the lock");
        if sent.len() < SENT_MAX {
            sent.push(SentTransaction { signed, committed });
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

async fn client(pace: Arc<Pace>, number: usize, node: SocketAddr) -> Result<PaceTally, BenchError> {
    let mut tally = PaceTally::default();
    let mut connection = load::open(node).await?;
    while let Some(slot) = pace.next_slot() {
        sleep_until(slot).await;
        let late_ms = slot.elapsed().as_millis() as u64;
        tally.late_ms_max = tally.late_ms_max.max(late_ms);
        let signed = pace.fleet.event(number);
        let body = codec::encode(&signed);
        let begun = Instant::now();
        loop {
            match load::submit(&mut connection, &body).await? {
                SubmitOutcome::Committed(committed) => {
                    tally.times_us.push(begun.elapsed().as_micros() as u32);
                    tally.times_us.truncate(TIMES_MAX / CLIENTS);
                    tally.committed += 1;
                    pace.record(signed, committed);
                    break;
                }
                SubmitOutcome::Busy => {
                    tally.busy += 1;
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                SubmitOutcome::Failed(why) => {
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
    /// Waits for all clients.
    pub async fn join(mut self, cluster: &mut Cluster) -> Result<PaceTally, BenchError> {
        let mut sum = PaceTally::default();
        while let Some(done) = self.0.join_next().await {
            // The end of a node explains more than a broken connection.
            cluster.check()?;
            sum.add(done.expect("clients do not panic")?);
        }
        sum.times_us.sort_unstable();
        Ok(sum)
    }
}

impl PaceTally {
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
