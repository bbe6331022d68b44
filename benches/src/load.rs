//! The load: clients that send one transaction after the other, each waiting for its block.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lamplighter_contracts::refusal;
use lamplighter_types::{Outcome, Receipt, SignedTransaction, codec};
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::cluster::{Cluster, ClusterSample};
use crate::error::BenchError;
use crate::fleet::{EVENTS_PER_BATCH, Fleet};
use crate::http::Connection;
use crate::report::{Row, percentile};
use crate::{pipelined, procfs};

/// A node answers this request when the transaction is in a block.
const PATH: &str = "/v1/transactions?wait=committed";
/// Bounds the memory for latencies: 40 MB.
const TRANSACTIONS_MAX: u64 = 10_000_000;
/// The warm-up, which is not counted: at most this, and at most a fifth of the phase.
const WARM_UP_MAX: Duration = Duration::from_secs(2);
/// Limit for background clients.
const BACKGROUND_MAX: Duration = Duration::from_secs(7_200);
/// Pause before the same bytes are sent again to a busy node.
pub const BUSY_PAUSE: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Transactions with one event each.
    Transactions,
    /// Likewise, many in each request.
    Pipelined,
    /// Transactions with 100 events each.
    EventBatches,
}

impl Workload {
    pub fn name(self) -> &'static str {
        match self {
            Self::Transactions => "transactions",
            Self::Pipelined => "pipelined",
            Self::EventBatches => "batches",
        }
    }

    pub fn events(self) -> usize {
        match self {
            Self::Transactions | Self::Pipelined => 1,
            Self::EventBatches => EVENTS_PER_BATCH,
        }
    }

    pub fn next(self, fleet: &Fleet, client: usize) -> SignedTransaction {
        match self {
            Self::Transactions | Self::Pipelined => fleet.event(client),
            Self::EventBatches => fleet.batch(client),
        }
    }
}

/// A phase of the measurement, with the ceilings that its figures are compared with.
#[derive(Clone, Copy, Debug)]
pub struct LoadPhase {
    pub workload: Workload,
    pub clients: usize,
    pub seconds: u64,
    pub limits: MachineLimits,
}

/// Ceilings of the machine, measured in the same run.
#[derive(Clone, Copy, Debug)]
pub struct MachineLimits {
    pub signs_per_second: f64,
    pub verifications_per_second: f64,
    /// Median of a growing file's fdatasync.
    pub fdatasync_ms: f64,
}

/// The used part of the answer to a submission.
#[derive(Deserialize)]
pub struct Submitted {
    height: Option<u64>,
    index: Option<u32>,
    receipt: Option<Receipt>,
}

impl Submitted {
    /// The place and the receipt, if the transaction is in a block.
    pub fn committed(self) -> Option<CommittedTransaction> {
        Some(CommittedTransaction {
            height: self.height?,
            index: self.index?,
            receipt: self.receipt?,
        })
    }
}

/// The position of a transaction in the chain, and its receipt.
#[derive(Clone)]
pub struct CommittedTransaction {
    pub height: u64,
    pub index: u32,
    pub receipt: Receipt,
}

/// The state that all clients of a phase share.
pub struct LoadRun {
    pub fleet: Arc<Fleet>,
    workload: Workload,
    counts_from: Instant,
    pub ends: Instant,
    sent: AtomicU64,
}

impl LoadRun {
    /// Counts transactions that are to be sent; returns whether they still may be.
    pub fn may_send(&self, transactions: usize) -> bool {
        let sent = self.sent.fetch_add(transactions as u64, Ordering::Relaxed);
        sent < TRANSACTIONS_MAX
    }
}

/// The counts and latencies of the clients.
#[derive(Default)]
pub struct LoadTally {
    /// Latencies of the transactions that were answered within the counted time.
    times_us: Vec<u32>,
    failed: u64,
    first_failure: Option<String>,
    busy: u64,
}

/// The outcome of one attempt to submit.
pub enum SubmitOutcome {
    Committed(CommittedTransaction),
    Failed(String),
    Busy,
}

/// Sends a signed transaction once.
///
/// # Errors
/// The connection fails, or the answer is not one.
pub async fn submit(connection: &mut Connection, body: &[u8]) -> Result<SubmitOutcome, BenchError> {
    let node = connection.address;
    let answer = connection.post(PATH, body).await;
    let answer = answer.map_err(|source| BenchError::Http { node, source })?;
    let invalid_answer = || {
        let (status, body) = (
            answer.status,
            String::from_utf8_lossy(&answer.body).into_owned(),
        );
        BenchError::Answer { node, status, body }
    };
    match answer.status {
        200 => {
            let submitted: Submitted =
                serde_json::from_slice(&answer.body).map_err(|_| invalid_answer())?;
            let committed = submitted.committed().ok_or_else(invalid_answer)?;
            if let Outcome::Failed { code, fields } = &committed.receipt.outcome {
                return Ok(SubmitOutcome::Failed(refusal::message(code, fields)));
            }
            Ok(SubmitOutcome::Committed(committed))
        }
        503 => Ok(SubmitOutcome::Busy),
        _ => Ok(SubmitOutcome::Failed(lamplighter_system::error_chain(
            &invalid_answer(),
        ))),
    }
}

/// Sends a signed transaction again and again while the node is busy.
///
/// # Errors
/// As [`submit`].
pub async fn submit_until_accepted(
    connection: &mut Connection,
    body: &[u8],
) -> Result<SubmitOutcome, BenchError> {
    loop {
        match submit(connection, body).await? {
            SubmitOutcome::Busy => tokio::time::sleep(BUSY_PAUSE).await,
            outcome => return Ok(outcome),
        }
    }
}

/// Registers all senders.
///
/// # Errors
/// A registration is refused or fails.
pub async fn register(cluster: &Cluster, fleet: &Fleet) -> Result<(), BenchError> {
    let mut connection = open(cluster.nodes[0].http).await?;
    for signed in fleet.registrations() {
        let outcome = submit_until_accepted(&mut connection, &codec::encode(&signed)).await?;
        if let SubmitOutcome::Failed(why) = outcome {
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

/// Runs one client until the phase ends.
async fn client(
    run: Arc<LoadRun>,
    number: usize,
    node: SocketAddr,
) -> Result<LoadTally, BenchError> {
    let mut tally = LoadTally::default();
    let mut connection = open(node).await?;
    while Instant::now() < run.ends {
        if !run.may_send(1) {
            break;
        }
        let body = codec::encode(&run.workload.next(&run.fleet, number));
        let begun = Instant::now();
        let outcome = loop {
            match submit(&mut connection, &body).await? {
                SubmitOutcome::Busy if Instant::now() < run.ends => {
                    tally.busy += 1;
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                outcome => break outcome,
            }
        };
        tally.record(&run, begun, outcome);
    }
    Ok(tally)
}

impl LoadTally {
    /// Counts the outcome of one transaction.
    pub fn record(&mut self, run: &LoadRun, begun: Instant, outcome: SubmitOutcome) {
        let ended = Instant::now();
        match outcome {
            SubmitOutcome::Committed(_) if ended >= run.counts_from && ended <= run.ends => {
                self.times_us.push((ended - begun).as_micros() as u32);
            }
            SubmitOutcome::Committed(_) => {}
            SubmitOutcome::Failed(why) => {
                self.failed += 1;
                self.first_failure.get_or_insert(why);
            }
            SubmitOutcome::Busy => self.busy += 1,
        }
    }

    fn add(&mut self, other: Self) {
        self.times_us.extend(other.times_us);
        self.failed += other.failed;
        self.busy += other.busy;
        self.first_failure = self.first_failure.take().or(other.first_failure);
    }
}

/// Processor times and resources of the nodes at one moment.
struct UsageSample {
    at: Instant,
    nodes: ClusterSample,
    clients: Duration,
    all: Duration,
}

impl UsageSample {
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
    phase: LoadPhase,
) -> Result<Row, BenchError> {
    let length = Duration::from_secs(phase.seconds);
    let begun = Instant::now();
    let counts_from = begun + WARM_UP_MAX.min(length / 5);
    let ends = counts_from + length;
    let (fleet, workload) = (fleet.clone(), phase.workload);
    let run = Arc::new(LoadRun {
        fleet,
        workload,
        counts_from,
        ends,
        sent: AtomicU64::new(0),
    });
    let mut clients = JoinSet::new();
    for number in 0..phase.clients {
        let node = &cluster.nodes[number % cluster.nodes.len()];
        match workload {
            Workload::Pipelined => {
                clients.spawn(pipelined::client(run.clone(), number, node.http));
            }
            _ => {
                clients.spawn(client(run.clone(), number, node.http));
            }
        }
    }
    sleep_until(counts_from).await;
    let before = UsageSample::now(cluster)?;
    sleep_until(ends).await;
    let after = UsageSample::now(cluster)?;
    let mut tally = LoadTally::default();
    while let Some(done) = clients.join_next().await {
        // The end of a node explains more than a broken connection.
        cluster.check()?;
        tally.add(done.expect("clients do not panic")?);
    }
    Ok(row(phase, tally, &before, &after, cluster.nodes.len()))
}

/// Background clients, which send until they are stopped.
pub struct Background {
    clients: JoinSet<Result<LoadTally, BenchError>>,
    run: Arc<LoadRun>,
    stop: tokio::sync::watch::Sender<bool>,
    committed: Arc<AtomicU64>,
}

impl Background {
    pub fn start(cluster: &Cluster, fleet: &Arc<Fleet>, count: usize) -> Self {
        let now = Instant::now();
        let run = Arc::new(LoadRun {
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

    /// Stops the clients.
    ///
    /// # Errors
    /// A transaction was refused or failed, or a node ended.
    pub async fn finish(mut self, cluster: &mut Cluster) -> Result<(), BenchError> {
        self.stop.send_replace(true);
        let mut sum = LoadTally::default();
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
    run: Arc<LoadRun>,
    number: usize,
    node: SocketAddr,
    stopped: tokio::sync::watch::Receiver<bool>,
    committed: Arc<AtomicU64>,
) -> Result<LoadTally, BenchError> {
    let mut tally = LoadTally::default();
    let mut connection = open(node).await?;
    while !*stopped.borrow() && Instant::now() < run.ends {
        let body = codec::encode(&run.workload.next(&run.fleet, number));
        let begun = Instant::now();
        let outcome = submit_until_accepted(&mut connection, &body).await?;
        committed.fetch_add(1, Ordering::Relaxed);
        tally.record(&run, begun, outcome);
        tally.times_us.clear();
    }
    Ok(tally)
}

fn row(
    phase: LoadPhase,
    mut tally: LoadTally,
    before: &UsageSample,
    after: &UsageSample,
    nodes: usize,
) -> Row {
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
    let MachineLimits {
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
