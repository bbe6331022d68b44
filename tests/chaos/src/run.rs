//! A whole run: it builds the network, starts the nodes and the clients, applies one kind of fault
//! after the other, then reads every node's chain and checks the histories.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lamplighter_client::Client;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::cast::{Cast, HOSTILE_NODES};
use crate::check::{self, Evidence};
use crate::client::{self, ChaosClient, ClientsState};
use crate::cluster::{self, Cluster};
use crate::error::ChaosError;
use crate::fleet;
use crate::nemesis::Nemesis;
use crate::network::TestNetwork;
use crate::reader;
use crate::report::{Report, ReportPart, Resumptions};
use crate::timeline::LossKind;
use crate::world::{self, SharedWorld, World};
use lamplighter_devnet::hostile::Attack;

/// Time until nodes must have the same blocks after the last fault.
const LEVEL_WITHIN: Duration = Duration::from_secs(120);
/// Time until a certificate covers them: a leader whose clock was ahead leaves a chain whose time
/// is ahead too, and no node signs until the other clocks are near.
const CERTIFIED_WITHIN: Duration = Duration::from_secs(120);
/// Time for clients to end their last transactions.
const CLIENTS_WITHIN: Duration = Duration::from_secs(60);
/// Interval between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// One kind of fault, or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    Calm,
    Kills,
    LeaderStops,
    Partitions,
    Clocks,
    Everything,
    /// Hostile nodes attack.
    Hostile(Attack),
}

impl FaultKind {
    fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Kills => "kills",
            Self::LeaderStops => "leader stops",
            Self::Partitions => "partitions",
            Self::Clocks => "clocks",
            Self::Everything => "everything",
            Self::Hostile(attack) => attack.name(),
        }
    }
}

/// Options of a run.
#[derive(Clone, Debug)]
pub struct ChaosOptions {
    pub nodes: usize,
    pub clients: usize,
    /// Transactions that each client has in flight.
    pub lanes: usize,
    pub seed: u64,
    /// The parts in order, repeated until the goals are reached.
    pub parts: Vec<(FaultKind, Duration)>,
    /// Goals: the run repeats its parts until there were so many kills and acknowledged
    /// transactions, but starts no new round after `longest`.
    pub kills: u64,
    pub acknowledged: u64,
    pub longest: Duration,
    /// The program `lamplighter`.
    pub program: PathBuf,
    /// Folder of keys, stores and logs; `None` for a temporary one that is removed at the end.
    pub folder: Option<PathBuf>,
    /// The program `hostile`: then there are two nodes more, which attack.
    pub hostile: Option<PathBuf>,
    /// Tests the checker at the end: each kind of corruption is tried on a copy of the evidence.
    pub prove_checker: bool,
}

/// Runs in a separate thread, which is moved into the run's network.
///
/// # Errors
/// The network, a node or a client could not be set up, or the run did not end.
pub fn run(options: ChaosOptions) -> Result<Report, ChaosError> {
    let thread = std::thread::spawn(move || {
        let hostile = options.hostile.as_ref().map_or(0, |_| HOSTILE_NODES);
        let network = TestNetwork::build(options.nodes, hostile)?;
        network.enter()?;
        let runtime =
            tokio::runtime::Runtime::new().map_err(ChaosError::file("starting the runtime", ""))?;
        let done = runtime.block_on(async {
            tokio::select! {
                done = run_city(options, network) => done,
                () = interrupted() => Err(ChaosError::Interrupted),
            }
        });
        runtime.shutdown_timeout(Duration::from_secs(5));
        done
    });
    match thread.join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Waits for Ctrl-C or SIGTERM.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let wait = async |kind| match signal(kind) {
        Ok(mut signals) => {
            signals.recv().await;
        }
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = wait(SignalKind::interrupt()) => {}
        () = wait(SignalKind::terminate()) => {}
    }
}

async fn run_city(options: ChaosOptions, network: TestNetwork) -> Result<Report, ChaosError> {
    let temporary = tempfile::tempdir().map_err(ChaosError::file("making a folder", ""))?;
    let folder = options.folder.clone();
    let folder = folder.unwrap_or_else(|| temporary.path().join("city"));
    let ChaosOptions { nodes, clients, .. } = options;
    let hostile = options.hostile.as_ref();
    let cast = hostile.map(|program| Cast::new(&network, nodes, program, &folder));
    let program = &options.program;
    let created = Cluster::create(&network, nodes, clients, &folder, program, cast.as_ref());
    let mut cluster = created?;
    cluster.start().await?;
    let genesis = cluster.genesis.clone();
    let shared = Arc::new(ClientsState::new(nodes, &genesis));
    let chaos_clients =
        (0..clients).map(|n| ChaosClient::new(n, shared.clone(), &genesis).map(Arc::new));
    let chaos_clients = chaos_clients.collect::<Result<Vec<_>, _>>()?;
    let mut rng = StdRng::seed_from_u64(options.seed);
    client::prepare(&chaos_clients, options.lanes, &mut rng).await?;
    if let Some(cast) = &cast {
        cast.admit_observer(&chaos_clients[0], &mut rng).await?;
    }
    eprintln!(
        "chaos: {nodes} nodes, {clients} clients, seed {}",
        options.seed
    );
    let readers =
        (0..nodes).map(|node| reader::single_node_client(&genesis, &fleet::operator(0), node));
    let http = cluster.http.clone();
    let world = World::new(cluster, network, shared.clone(), &folder)?;
    let nemesis = Nemesis {
        http,
        world: Arc::new(Mutex::new(world)),
        nodes,
        readers: readers.collect::<Result<_, _>>()?,
        cast,
    };
    let run = ChaosRun {
        options,
        shared,
        chaos_clients,
        nemesis,
    };
    let report = run.execute(rng).await;
    if report.as_ref().is_ok_and(|r| !r.is_good()) && run.options.folder.is_none() {
        let kept = temporary.keep();
        eprintln!("chaos: logs and stores are kept in {}", kept.display());
    }
    run.end().await?;
    report
}

struct ChaosRun {
    options: ChaosOptions,
    shared: Arc<ClientsState>,
    chaos_clients: Vec<Arc<ChaosClient>>,
    nemesis: Nemesis,
}

impl ChaosRun {
    fn world(&self) -> &SharedWorld {
        &self.nemesis.world
    }

    async fn execute(&self, mut rng: StdRng) -> Result<Report, ChaosError> {
        let begun = Instant::now();
        let watch = tokio::spawn(world::watch(self.world().clone()));
        let lanes = client::start(&self.chaos_clients, self.options.lanes, self.options.seed);
        let parts = self.parts(begun).await?;
        let (seconds, ended_us) = (begun.elapsed().as_secs_f64(), self.shared.now_us());
        self.shared.stop.store(true, Ordering::Relaxed);
        let healed = Instant::now();
        join_lanes(lanes).await?;
        let expires_ms = client::resolve_unanswered(&self.chaos_clients, &mut rng).await;
        let height = reader::wait_same_height(&self.nemesis.readers, LEVEL_WITHIN).await?;
        let level_after_ms = healed.elapsed().as_millis() as u64;
        self.certified(height).await?;
        let certified_after_ms = healed.elapsed().as_millis() as u64;
        self.expire(expires_ms).await?;
        watch.abort();
        let evidence = self.evidence().await?;
        let mut report = self.evaluate(evidence, parts, seconds, ended_us).await;
        (report.level_after_ms, report.certified_after_ms) = (level_after_ms, certified_after_ms);
        Ok(report)
    }

    /// Runs the parts in turn until the goals are reached, each followed by healing.
    async fn parts(&self, begun: Instant) -> Result<Vec<ReportPart>, ChaosError> {
        let ChaosOptions {
            kills,
            acknowledged,
            longest,
            ..
        } = self.options;
        let mut done = Vec::new();
        for round in 0u64.. {
            for (at, (kind, length)) in self.options.parts.iter().enumerate() {
                let seed = self.options.seed ^ (round << 32) ^ ((at as u64) << 16);
                done.push(self.part(*kind, *length, seed).await?);
            }
            let so_far = self.world().lock().await.counts.kills;
            let reached =
                so_far >= kills && self.shared.acknowledged.load(Ordering::Relaxed) >= acknowledged;
            if reached || begun.elapsed() >= longest {
                break;
            }
        }
        Ok(done)
    }

    async fn part(
        &self,
        kind: FaultKind,
        length: Duration,
        seed: u64,
    ) -> Result<ReportPart, ChaosError> {
        let acknowledged = || self.shared.acknowledged.load(Ordering::Relaxed);
        let (begun, before) = (Instant::now(), acknowledged());
        let kills = self.world().lock().await.counts.kills;
        let until = begun + length;
        let mut schedules: JoinSet<Result<(), ChaosError>> = JoinSet::new();
        let rng = |stream: u64| StdRng::seed_from_u64(seed.wrapping_add(stream));
        let all = kind == FaultKind::Everything;
        let nemesis = || self.nemesis.clone();
        if all || kind == FaultKind::Kills {
            schedules.spawn(nemesis().kills(until, rng(1)));
        }
        if all || kind == FaultKind::LeaderStops {
            schedules.spawn(nemesis().stops(until, rng(2)));
        }
        if all || kind == FaultKind::Partitions {
            schedules.spawn(nemesis().partitions(until, rng(3)));
        }
        if all || kind == FaultKind::Clocks {
            schedules.spawn(nemesis().clocks(until, rng(4), !all));
        }
        if let FaultKind::Hostile(attack) = kind {
            schedules.spawn(nemesis().attacks(until, attack));
        }
        while Instant::now() < until {
            let remaining = until.saturating_duration_since(Instant::now());
            tokio::time::sleep(remaining.min(PROGRESS_EVERY)).await;
            let (now, name) = (self.shared.begun.elapsed().as_secs(), kind.name());
            let so_far = self.world().lock().await.counts.kills;
            eprintln!(
                "chaos: {now:5} s {name:12} {so_far:5} kills {:8} acknowledged",
                acknowledged()
            );
        }
        while let Some(ended) = schedules.join_next().await {
            ended.expect("schedules do not panic")?;
        }
        self.heal().await?;
        let seconds = begun.elapsed().as_secs_f64();
        let done = acknowledged() - before;
        Ok(ReportPart {
            name: kind.name(),
            seconds,
            kills: self.world().lock().await.counts.kills - kills,
            acknowledged: done,
            per_second: done as f64 / seconds,
        })
    }

    /// Ends all faults and waits until every node serves.
    async fn heal(&self) -> Result<(), ChaosError> {
        let mut world = self.world().lock().await;
        world.heal(self.world())?;
        drop(world);
        for node in 0..self.options.nodes {
            self.ready(node).await?;
        }
        Ok(())
    }

    /// Waits without the lock, since the task that waits for the node's answer needs it.
    async fn ready(&self, node: usize) -> Result<(), ChaosError> {
        let begun = Instant::now();
        while begun.elapsed() < LEVEL_WITHIN {
            let status = cluster::status(&self.nemesis.http, node).await;
            if status.is_some_and(|status| status.leader.is_some()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(ChaosError::Deadline {
            what: format!("node {} serves again", node + 1),
            within: LEVEL_WITHIN,
        })
    }

    async fn certified(&self, height: u64) -> Result<(), ChaosError> {
        let set = self.world().lock().await.cluster.genesis.validators.clone();
        for reader in &self.nemesis.readers {
            let begun = Instant::now();
            loop {
                let certificate = reader.certificate(None).await;
                if let Ok(certificate) = certificate
                    && certificate.height >= height
                {
                    let held = certificate.verify(&set);
                    held.map_err(|error| ChaosError::Setup(format!("a certificate: {error}")))?;
                    break;
                }
                if begun.elapsed() > CERTIFIED_WITHIN {
                    return Err(ChaosError::Deadline {
                        what: format!("a certificate covers block {height}"),
                        within: CERTIFIED_WITHIN,
                    });
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        Ok(())
    }

    /// Waits until block time has passed the expiry of unanswered transactions: they can no longer
    /// be executed then.
    async fn expire(&self, last_ms: u64) -> Result<(), ChaosError> {
        let within = Duration::from_secs(120);
        let begun = Instant::now();
        while begun.elapsed() < within {
            let status = cluster::status(&self.nemesis.http, 0).await;
            if status.is_some_and(|status| status.head_time_ms >= last_ms) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Err(ChaosError::Deadline {
            what: "the expiry of what was not answered".to_owned(),
            within,
        })
    }

    async fn evidence(&self) -> Result<Evidence, ChaosError> {
        let readers: &[Client] = &self.nemesis.readers;
        let height = reader::wait_same_height(readers, LEVEL_WITHIN).await?;
        let chain = reader::chain(&readers[0], height).await?;
        let mut others = Vec::new();
        for reader in &readers[1..] {
            others.push(reader::digests(reader, height).await?);
        }
        let history = std::mem::take(&mut *self.shared.history());
        Ok(Evidence {
            history,
            chain,
            others,
        })
    }

    async fn evaluate(
        &self,
        evidence: Evidence,
        parts: Vec<ReportPart>,
        seconds: f64,
        ended_us: u64,
    ) -> Report {
        let Evidence {
            history,
            chain,
            others,
        } = &evidence;
        let findings = check::check(history, chain, others);
        let (timeline, counts) = {
            let mut world = self.world().lock().await;
            world.timeline.ended_us = ended_us;
            world.record_alarms(self.nemesis.cast.is_some()).await;
            (world.timeline.clone(), world.counts.clone())
        };
        let resumptions = timeline.resumptions(history);
        let outages = timeline.outages(history);
        let (surprises, surprise_samples) = self.shared.surprises();
        let (corruptions_found, corruptions_tried) = if self.options.prove_checker {
            prove_checker(&evidence)
        } else {
            (0, 0)
        };
        let ChaosOptions {
            seed,
            nodes,
            clients,
            lanes,
            ..
        } = self.options;
        Report {
            seed,
            nodes,
            clients,
            lanes,
            seconds,
            per_second: findings.acknowledged as f64 / seconds,
            parts,
            counts,
            findings,
            outages,
            leader_killed: Resumptions::of(&resumptions, LossKind::Killed),
            leader_stopped: Resumptions::of(&resumptions, LossKind::Stopped),
            leader_cut_off: Resumptions::of(&resumptions, LossKind::CutOff),
            attacked: Resumptions::of(&resumptions, LossKind::Attacked),
            resumptions,
            level_after_ms: 0,
            certified_after_ms: 0,
            surprises,
            surprise_samples,
            corruptions_found,
            corruptions_tried,
            machine_load: fs::read_to_string("/proc/loadavg").unwrap_or_default(),
        }
    }

    /// Stops every node.
    async fn end(&self) -> Result<(), ChaosError> {
        let mut world = self.world().lock().await;
        for node in &mut world.cluster.nodes {
            node.process.stop().await?;
        }
        Ok(())
    }
}

async fn join_lanes(mut lanes: JoinSet<()>) -> Result<(), ChaosError> {
    let all = async {
        while let Some(ended) = lanes.join_next().await {
            ended.expect("clients do not panic");
        }
    };
    let ended = tokio::time::timeout(CLIENTS_WITHIN, all).await;
    ended.map_err(|_| ChaosError::Deadline {
        what: "the end of the clients' last transactions".to_owned(),
        within: CLIENTS_WITHIN,
    })
}

/// Corrupts a copy of the evidence in each way; returns how many the checker found, of how many.
fn prove_checker(evidence: &Evidence) -> (usize, usize) {
    let found = check::ALL.iter().filter(|corruption| {
        let mut corrupted = evidence.clone();
        let Some(fault) = corrupted.corrupt(**corruption) else {
            eprintln!("chaos: nothing to spoil for {corruption:?}");
            return false;
        };
        let findings = check::check(&corrupted.history, &corrupted.chain, &corrupted.others);
        findings.count(fault) > 0
    });
    (found.count(), check::ALL.len())
}
