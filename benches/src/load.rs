//! Clients that send one transaction after the other, each waiting for its block.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lamplighter_types::{Outcome, Receipt, SignedTransaction, codec};
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::cluster::{Cluster, Sample};
use crate::error::{BenchError, causes};
use crate::fleet::{EVENTS_PER_BATCH, Fleet};
use crate::http::Connection;
use crate::procfs;
use crate::report::{Row, percentile};

/// What is sent is answered when it is in a block.
const PATH: &str = "/v1/transactions?wait=committed";
/// Bounds the memory for times: 40 MB.
const TRANSACTIONS_MAX: u64 = 10_000_000;
/// Not counted: at most this, and at most a fifth of the phase.
const WARM_UP_MAX: Duration = Duration::from_secs(2);
/// Clients beside what is measured end by then in any case.
const BACKGROUND_MAX: Duration = Duration::from_secs(7_200);
/// Before the same bytes are sent again to a node that was busy.
pub const BUSY_PAUSE: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Each with one event.
    Transactions,
    /// Each with 100 events.
    EventBatches,
}

impl Workload {
    fn name(self) -> &'static str {
        match self {
            Self::Transactions => "transactions",
            Self::EventBatches => "batches",
        }
    }

    fn events(self) -> usize {
        match self {
            Self::Transactions => 1,
            Self::EventBatches => EVENTS_PER_BATCH,
        }
    }

    fn next(self, fleet: &Fleet, client: usize) -> SignedTransaction {
        match self {
            Self::Transactions => fleet.event(client),
            Self::EventBatches => fleet.batch(client),
        }
    }
}

/// What is measured, and what it is compared with.
#[derive(Clone, Copy, Debug)]
pub struct Phase {
    pub workload: Workload,
    pub clients: usize,
    pub seconds: u64,
    pub limits: Limits,
}

/// Of the machine, in the same run.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub signs_per_second: f64,
    pub verifications_per_second: f64,
    /// Median of a growing file's fdatasync.
    pub fdatasync_ms: f64,
}

/// What of the answer to a submission is of interest.
#[derive(Deserialize)]
struct Submitted {
    height: Option<u64>,
    index: Option<u32>,
    receipt: Option<Receipt>,
}

/// Where a transaction is in the chain, and what it did.
#[derive(Clone)]
pub struct Landed {
    pub height: u64,
    pub index: u32,
    pub receipt: Receipt,
}

/// What clients share.
struct Run {
    fleet: Arc<Fleet>,
    workload: Workload,
    counts_from: Instant,
    ends: Instant,
    sent: AtomicU64,
}

/// What clients saw.
#[derive(Default)]
struct Tally {
    /// Of the transactions whose answer came while it counted.
    times_us: Vec<u32>,
    failed: u64,
    first_failure: Option<String>,
    busy: u64,
}

/// What became of one attempt.
pub enum Fate {
    Committed(Landed),
    Failed(String),
    Busy,
}

/// Sends a signed transaction once.
///
/// # Errors
/// The connection fails, or the answer is not one.
pub async fn submit(connection: &mut Connection, body: &[u8]) -> Result<Fate, BenchError> {
    let node = connection.address;
    let answer = connection.post(PATH, body).await;
    let answer = answer.map_err(|source| BenchError::Http { node, source })?;
    let said = || {
        let (status, body) = (
            answer.status,
            String::from_utf8_lossy(&answer.body).into_owned(),
        );
        BenchError::Answer { node, status, body }
    };
    match answer.status {
        200 => {
            let submitted: Submitted = serde_json::from_slice(&answer.body).map_err(|_| said())?;
            let receipt = submitted.receipt.ok_or_else(said)?;
            if let Outcome::Failed { code, message } = receipt.outcome {
                return Ok(Fate::Failed(format!("{code}: {message}")));
            }
            let (height, index) = (submitted.height, submitted.index);
            Ok(Fate::Committed(Landed {
                height: height.ok_or_else(said)?,
                index: index.ok_or_else(said)?,
                receipt,
            }))
        }
        503 => Ok(Fate::Busy),
        _ => Ok(Fate::Failed(causes(&said()))),
    }
}

/// Makes the ledger know all senders.
///
/// # Errors
/// Any of them is refused or fails.
pub async fn register(cluster: &Cluster, fleet: &Fleet) -> Result<(), BenchError> {
    let mut connection = open(cluster.nodes[0].http).await?;
    for signed in fleet.registrations() {
        let body = codec::encode(&signed);
        let fate = loop {
            match submit(&mut connection, &body).await? {
                Fate::Busy => tokio::time::sleep(BUSY_PAUSE).await,
                fate => break fate,
            }
        };
        if let Fate::Failed(why) = fate {
            return Err(BenchError::Failures(1, "the registration", why));
        }
    }
    Ok(())
}

/// A connection to a node.
pub async fn open(node: SocketAddr) -> Result<Connection, BenchError> {
    Connection::open(node)
        .await
        .map_err(|source| BenchError::Http { node, source })
}

/// One client, until the phase ends.
async fn client(run: Arc<Run>, number: usize, node: SocketAddr) -> Result<Tally, BenchError> {
    let mut tally = Tally::default();
    let mut connection = open(node).await?;
    while Instant::now() < run.ends {
        if run.sent.fetch_add(1, Ordering::Relaxed) >= TRANSACTIONS_MAX {
            break;
        }
        let body = codec::encode(&run.workload.next(&run.fleet, number));
        let begun = Instant::now();
        let fate = loop {
            match submit(&mut connection, &body).await? {
                Fate::Busy if Instant::now() < run.ends => {
                    tally.busy += 1;
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                fate => break fate,
            }
        };
        tally.note(&run, begun, fate);
    }
    Ok(tally)
}

impl Tally {
    fn note(&mut self, run: &Run, begun: Instant, fate: Fate) {
        let ended = Instant::now();
        match fate {
            Fate::Committed(_) if ended >= run.counts_from && ended <= run.ends => {
                self.times_us.push((ended - begun).as_micros() as u32);
            }
            Fate::Committed(_) => {}
            Fate::Failed(why) => {
                self.failed += 1;
                self.first_failure.get_or_insert(why);
            }
            Fate::Busy => self.busy += 1,
        }
    }

    fn add(&mut self, other: Self) {
        self.times_us.extend(other.times_us);
        self.failed += other.failed;
        self.busy += other.busy;
        self.first_failure = self.first_failure.take().or(other.first_failure);
    }
}

/// Processor times and the nodes at one moment.
struct Moment {
    at: Instant,
    nodes: Sample,
    clients: Duration,
    all: Duration,
}

impl Moment {
    fn now(cluster: &Cluster) -> Result<Self, BenchError> {
        let (nodes, clients) = (cluster.sample()?, procfs::cpu(std::process::id())?);
        Ok(Self {
            at: Instant::now(),
            nodes,
            clients,
            all: procfs::cpu_of_all()?,
        })
    }
}

/// Runs one phase, with the clients spread over all nodes.
///
/// # Errors
/// A node ends, or a connection to one fails.
pub async fn run(
    cluster: &mut Cluster,
    fleet: &Arc<Fleet>,
    phase: Phase,
) -> Result<Row, BenchError> {
    let length = Duration::from_secs(phase.seconds);
    let begun = Instant::now();
    let counts_from = begun + WARM_UP_MAX.min(length / 5);
    let ends = counts_from + length;
    let (fleet, workload) = (fleet.clone(), phase.workload);
    let run = Arc::new(Run {
        fleet,
        workload,
        counts_from,
        ends,
        sent: AtomicU64::new(0),
    });
    let mut clients = JoinSet::new();
    for number in 0..phase.clients {
        let node = &cluster.nodes[number % cluster.nodes.len()];
        clients.spawn(client(run.clone(), number, node.http));
    }
    sleep_until(counts_from).await;
    let before = Moment::now(cluster)?;
    sleep_until(ends).await;
    let after = Moment::now(cluster)?;
    let mut tally = Tally::default();
    while let Some(done) = clients.join_next().await {
        // A node's own end explains more than the connection that broke.
        cluster.check()?;
        tally.add(done.expect("clients do not panic")?);
    }
    Ok(row(phase, tally, &before, &after, cluster.nodes.len()))
}

/// Clients that work beside what is measured, until they are told to end.
pub struct Background {
    clients: JoinSet<Result<Tally, BenchError>>,
    run: Arc<Run>,
    stop: tokio::sync::watch::Sender<bool>,
    committed: Arc<AtomicU64>,
}

impl Background {
    pub fn start(cluster: &Cluster, fleet: &Arc<Fleet>, count: usize) -> Self {
        let now = Instant::now();
        let run = Arc::new(Run {
            fleet: fleet.clone(),
            workload: Workload::Transactions,
            counts_from: now,
            ends: now + BACKGROUND_MAX,
            sent: AtomicU64::new(0),
        });
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let committed = Arc::<AtomicU64>::default();
        let mut clients = JoinSet::new();
        for number in 0..count {
            let node = cluster.nodes[number % cluster.nodes.len()].http;
            let (run, committed) = (run.clone(), committed.clone());
            let stopped = stopped.clone();
            clients.spawn(background(run, number, node, stopped, committed));
        }
        Self {
            clients,
            run,
            stop,
            committed,
        }
    }

    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// Ends the clients.
    ///
    /// # Errors
    /// A transaction was refused or failed, or a node ended.
    pub async fn finish(mut self, cluster: &mut Cluster) -> Result<(), BenchError> {
        self.stop.send_replace(true);
        let mut sum = Tally::default();
        while let Some(done) = self.clients.join_next().await {
            cluster.check()?;
            sum.add(done.expect("clients do not panic")?);
        }
        match sum.first_failure {
            Some(first) => Err(BenchError::Failures(
                sum.failed,
                self.run.workload.name(),
                first,
            )),
            None => Ok(()),
        }
    }
}

async fn background(
    run: Arc<Run>,
    number: usize,
    node: SocketAddr,
    stopped: tokio::sync::watch::Receiver<bool>,
    committed: Arc<AtomicU64>,
) -> Result<Tally, BenchError> {
    let mut tally = Tally::default();
    let mut connection = open(node).await?;
    while !*stopped.borrow() && Instant::now() < run.ends {
        let body = codec::encode(&run.workload.next(&run.fleet, number));
        let begun = Instant::now();
        let fate = loop {
            match submit(&mut connection, &body).await? {
                Fate::Busy => tokio::time::sleep(BUSY_PAUSE).await,
                fate => break fate,
            }
        };
        committed.fetch_add(1, Ordering::Relaxed);
        tally.note(&run, begun, fate);
        tally.times_us.clear();
    }
    Ok(tally)
}

fn row(phase: Phase, mut tally: Tally, before: &Moment, after: &Moment, nodes: usize) -> Row {
    tally.times_us.sort_unstable();
    let ms = |percent| f64::from(percentile(&tally.times_us, percent)) / 1_000.0;
    let committed = tally.times_us.len() as u64;
    let seconds = (after.at - before.at).as_secs_f64();
    let per_second = committed as f64 / seconds;
    let each = |total: f64| total / committed.max(1) as f64;
    let each_on_a_node =
        |before: u64, after: u64| each(after.saturating_sub(before) as f64 / nodes as f64);
    let nodes_cpu = (after.nodes.cpu - before.nodes.cpu).as_secs_f64();
    let clients_cpu = (after.clients - before.clients).as_secs_f64();
    let others_cpu = (after.all - before.all).as_secs_f64() - nodes_cpu - clients_cpu;
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let Limits {
        signs_per_second,
        verifications_per_second,
        fdatasync_ms,
    } = phase.limits;
    Row {
        workload: phase.workload.name(),
        clients: phase.clients,
        seconds,
        committed,
        failed: tally.failed,
        first_failure: tally.first_failure.clone(),
        busy: tally.busy,
        per_second,
        events_per_second: per_second * phase.workload.events() as f64,
        p50_ms: ms(50.0),
        p90_ms: ms(90.0),
        p99_ms: ms(99.0),
        max_ms: ms(100.0),
        nodes_cpu_us: each(nodes_cpu * 1e6),
        clients_cpu_us: each(clients_cpu * 1e6),
        signing_us: 1e6 / signs_per_second,
        others_cpu_percent: (others_cpu / (seconds * cores) * 100.0).max(0.0),
        disk_bytes: each_on_a_node(before.nodes.disk_bytes, after.nodes.disk_bytes),
        written_bytes: each_on_a_node(before.nodes.written_bytes, after.nodes.written_bytes),
        memory_before_bytes: before.nodes.memory_bytes,
        memory_after_bytes: after.nodes.memory_bytes,
        of_verification_ceiling: per_second / verifications_per_second,
        p50_in_fdatasyncs: if fdatasync_ms > 0.0 {
            ms(50.0) / fdatasync_ms
        } else {
            0.0
        },
    }
}
