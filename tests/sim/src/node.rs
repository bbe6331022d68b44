//! The lives of a node: start, crash, start again.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::executor::block_on;
use lamplighter_consensus::{Consensus, ConsensusError, Timers};
use lamplighter_ledger::{Clock, Halt, Identity, Ledger, drop_diverged};
use lamplighter_state::tables;
use lamplighter_system::error_chain;
use lamplighter_types::{Id, SecretKey};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::disk::SimDisk;
use crate::net::NodeNetwork;
use crate::oracle::{Check, violation};
use crate::state_machine::CheckedStateMachine;
use crate::world::{RunningNode, World};
use crate::{bounds, planted, raft_messages};

/// The timeout of a node's shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
/// The interval of checks of a running node.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// A block whose time is further off is not attested; small, so that a run can wait for it.
pub const CLOCK_OFFSET_MAX_MS: u64 = 5_000;

pub fn secret(node: u64) -> SecretKey {
    SecretKey::from_seed([node as u8; 32])
}

pub fn account(node: u64) -> Id {
    Id::new(format!("node-{node}")).expect("a plain name")
}

struct NodeClock {
    world: Arc<World>,
    node: u64,
}

impl Clock for NodeClock {
    fn now_ms(&self) -> u64 {
        self.world.clock_ms(self.node)
    }
}

type StartError = Box<dyn std::error::Error + Send + Sync>;

fn dir(world: &World, node: u64) -> PathBuf {
    world.dir.join(node.to_string())
}

fn ledger_config(world: &World, node: u64) -> lamplighter_ledger::LedgerConfig {
    let mut config = lamplighter_ledger::LedgerConfig::new(node);
    config.heartbeat_every = Duration::from_millis(world.plan.heartbeat_block_ms);
    config.clock_offset_max_ms = CLOCK_OFFSET_MAX_MS;
    // Fewer than any state has, so that pages come and go.
    config.tree_keys_in_memory = 32;
    config.inline = true;
    config
}

fn consensus_config(world: &Arc<World>, node: u64) -> lamplighter_consensus::ConsensusConfig {
    let plan = &world.plan;
    let snapshots = dir(world, node).join("snapshots");
    let mut config = lamplighter_consensus::ConsensusConfig::new(node, snapshots);
    config.inline_io = true;
    WORLD.set(Some(world.clone()));
    config.sync_time = Some(sync_time);
    let (mut election_min, mut election_max) = plan.election;
    let lies = plan.lies.as_ref().filter(|lies| !lies.is_powerless());
    if lies.is_some() && world.liars.is_liar(node) {
        // It wants to lead. A timeout of less than two heartbeats would not be a configuration.
        let least = plan.heartbeat * 2 + Duration::from_millis(2);
        election_min = (election_min * 6 / 10).max(least);
        election_max = election_min + plan.heartbeat;
    }
    config.timers = Timers {
        heartbeat: plan.heartbeat,
        election_min,
        election_max,
        ..Timers::default()
    };
    config.limits.snapshot_every_entries = plan.snapshot_every;
    config.limits.keep_entries = plan.keep_entries;
    if plan.purges_early {
        config.limits.hold_bytes_max = 0;
    }
    config.limits.snapshot_chunk_bytes = plan.chunk_bytes;
    config
}

thread_local! {
    /// The run of this thread, for the function below, which gets no argument.
    static WORLD: RefCell<Option<Arc<World>>> = const { RefCell::new(None) };
}

/// The duration of the next sync. Most are quick even on a disk that sometimes is slow.
fn sync_time() -> Duration {
    WORLD.with_borrow(|world| {
        let Some(world) = world else {
            return Duration::ZERO;
        };
        let (least, most) = world.plan.sync_ms;
        let mut rng = world.rng();
        if rng.chance(300) {
            rng.millis(least, most)
        } else {
            rng.millis(least, least + (most - least) / 10)
        }
    })
}

async fn start(world: &Arc<World>, node: u64, life: u32) -> Result<RunningNode, StartError> {
    let store = world.with(node, |slot| slot.store.clone());
    let disk = Arc::new(SimDisk {
        store,
        world: world.clone(),
        node,
        life,
    });
    let planted = world.plan.planted;
    let disk = planted::disk(planted, disk);
    let wire = Arc::new(NodeNetwork {
        world: world.clone(),
        from: node,
        life,
    });
    let clock = NodeClock {
        world: world.clone(),
        node,
    };
    let identity = Identity {
        account: account(node),
        secret: secret(node),
    };
    // Opening uses a blocking thread for its folders. Nothing else runs meanwhile, as otherwise the
    // operating system would decide the order.
    drop_diverged(&*disk, &dir(world, node).join("snapshots"))?;
    let ledger = block_on(Ledger::open(
        disk.clone(),
        world.genesis.clone(),
        ledger_config(world, node),
        identity,
        &dir(world, node).join("artifacts"),
        wire.clone(),
        Arc::new(clock),
    ))?;
    if let Some(bootstrap) = world.with(node, |slot| slot.bootstrap.clone()) {
        ledger.handle().add_bootstrap_validators(bootstrap);
    }
    if let Ok(Some(header)) = ledger.handle().header(0)
        && !world.liars.is_liar(node)
    {
        world.check(world.oracle().header(node, &header));
    }
    let machine = Arc::new(CheckedStateMachine {
        inner: planted::state_machine(planted, ledger.state_machine()),
        handle: ledger.handle(),
        store: disk.clone(),
        world: world.clone(),
        node,
        life,
        applied: Mutex::new(None),
    });
    let config = consensus_config(world, node);
    let electorate = planted::electorate(planted, ledger.electorate());
    let consensus = Consensus::start(config, disk, wire, machine, electorate).await?;
    let founders: BTreeSet<u64> = (1..=world.plan.nodes).collect();
    if founders.contains(&node) && consensus.metrics().voters.is_empty() {
        consensus.bootstrap(&founders).await?;
    }
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let handle = ledger.start(consensus.clone(), &tasks, &stop);
    tasks.close();
    Ok(RunningNode {
        life,
        consensus,
        handle,
        tasks,
        stop,
    })
}

/// Starts the node after each crash, until the run ends.
pub async fn live(world: Arc<World>, node: u64) {
    loop {
        let (life, died) = world.with(node, |slot| (slot.life, slot.died.clone()));
        match start(&world, node, life).await {
            Ok(up) => {
                world.log_event(format!("node {node}.{life} runs"));
                tokio::spawn(recover(world.clone(), node, up.clone()));
                world.with(node, |slot| slot.up = Some(up));
            }
            Err(error) => {
                world.log_event(format!(
                    "node {node}.{life} does not start: {}",
                    error_chain(&*error)
                ));
                let excused = world.with(node, |slot| !slot.alive || slot.disk_failed)
                    || world.liars.is_liar(node);
                if !excused {
                    world.check(violation(
                        "a node starts from what is on its disk",
                        format!("node {node}: {}", error_chain(&*error)),
                    ));
                }
                world.crash(node, 0, Duration::from_millis(200), "failed starts");
            }
        }
        if world.lives(node, life) {
            died.notified().await;
        }
        let (up, down) = world.with(node, |slot| (slot.up.take(), slot.down));
        if let Some(up) = up {
            let ended = end(node, up).await;
            if !world.liars.is_liar(node) {
                world.check(ended);
            }
        }
        tear(&world, node);
        sleep(down).await;
        // It was removed while it ran or was down.
        if world.with(node, |slot| slot.removed) {
            return;
        }
        world.with(node, |slot| {
            slot.life = life + 1;
            slot.alive = true;
            slot.disk_failed = false;
            slot.died = Arc::default();
        });
    }
}

/// Starts a node again whose log is not that of the others, as the program does. That happens to
/// nobody where nobody lies.
async fn recover(world: Arc<World>, node: u64, up: RunningNode) {
    let (life, consensus) = (up.life, up.consensus.clone());
    let stopped = tokio::select! {
        biased;
        halt = up.handle.contradicted() => match consensus.diverge(&halt.to_string()).await {
            Ok(()) => ConsensusError::Diverged(halt.to_string()),
            Err(error) => error,
        },
        error = consensus.stopped() => error,
    };
    let excused = world.liars.is_liar(node) || world.with(node, |slot| slot.disk_failed);
    if !world.lives(node, life) || excused {
        return;
    }
    let reason = error_chain(&stopped);
    if !world.liars.exist() || !matches!(stopped, ConsensusError::Diverged(_)) {
        world.check(violation(
            "a node stops only when its disk fails",
            format!("node {node}: {reason}"),
        ));
    }
    world.log_event(format!("node {node}.{life} drops its log: {reason}"));
    let down = world.rng().millis(50, 300);
    world.crash(node, usize::MAX, down, "restarts of diverted nodes");
}

/// Damages the end of a file that is being received, as a power loss does. Every byte of an image
/// that is being installed was synced before.
fn tear(world: &World, node: u64) {
    let (torn, store) = world.with(node, |slot| (slot.torn, slot.store.clone()));
    let installing = tables::installing(&store).is_ok_and(|note| note.is_some());
    if !torn || installing || !world.rng().chance(500) {
        return;
    }
    let Ok(folders) = fs::read_dir(dir(world, node).join("snapshots")) else {
        return;
    };
    for folder in folders.flatten() {
        let incoming = folder
            .file_name()
            .to_string_lossy()
            .starts_with("incoming-");
        let file = folder.path().join("data").join("memory.kv");
        let Some(mut bytes) = fs::read(&file).ok().filter(|_| incoming) else {
            continue;
        };
        let lost = world.rng().below(bytes.len() as u64 + 1) as usize;
        let whole = bytes.len() - lost;
        if world.rng().chance(500) {
            bytes.truncate(whole);
        } else {
            bytes[whole..].fill(0);
        }
        fs::write(&file, bytes).expect("the run owns its directory");
        world.log_event(format!("node {node} has a torn file"));
        world.count("torn files");
    }
}

/// Lets the tasks of a crashed node end. They can reach neither disk nor network.
async fn end(node: u64, up: RunningNode) -> Check {
    up.stop.cancel();
    let ended = timeout(SHUTDOWN_TIMEOUT, async {
        up.tasks.wait().await;
        // It has failed already, as its disk is closed.
        let _ = up.consensus.shutdown().await;
    });
    match ended.await {
        Ok(()) => Ok(()),
        Err(_) => violation("a node's tasks end at its shutdown", format!("node {node}")),
    }
}

/// Checks every node periodically: the order of its indexes, and whether it has stopped.
pub async fn watch(world: Arc<World>) {
    loop {
        sleep(CHECK_INTERVAL).await;
        for node in world.nodes() {
            if let Some(up) = world.up(node) {
                check_node(&world, node, &up);
                world.check(bounds::check(&world, node, &up));
            }
        }
    }
}

fn check_node(world: &Arc<World>, node: u64, up: &RunningNode) {
    let metrics = up.consensus.metrics();
    let liar = world.liars.is_liar(node);
    let snapshot = metrics.snapshot_index;
    let store = world.with(node, |slot| slot.store.clone());
    // openraft raises its own figure before an image is installed and its log purged.
    let purged = raft_messages::purged(&store).map(|place| place.2);
    let purged = purged.min(metrics.purged_index);
    // What the machine applied; openraft's own figure follows a little later.
    let applied = raft_messages::applied(&store).map(|place| place.2);
    let committed = world.oracle().committed().map(|place| place.2);
    // openraft counts an image from another node before the machine has it.
    let ordered = purged <= snapshot && snapshot <= committed && applied <= committed;
    if metrics.failure.is_none() && !ordered && !liar {
        world.check(violation(
            "purged <= snapshot <= applied <= committed",
            format!("node {node}: {purged:?} {snapshot:?} {applied:?} {committed:?}"),
        ));
    }
    let halted = up.handle.status().halted;
    if metrics.failure.is_none() && halted.is_none() {
        return;
    }
    let reason = format!("{:?} {halted:?}", metrics.failure);
    let contradicted = matches!(halted, None | Some(Halt::Contradiction { .. }));
    if !liar && contradicted && !world.with(node, |slot| slot.disk_failed) {
        // `recover` has seen it too, and does what is to be done.
        return;
    }
    if !liar && !world.with(node, |slot| slot.disk_failed) {
        world.check(violation(
            "a node stops only when its disk fails",
            format!("node {node}: {reason}"),
        ));
    }
    world.log_event(format!("node {node} has stopped: {reason}"));
    world.count("stopped by a failed write");
    let (kept, down) = {
        let mut rng = world.rng();
        (rng.below(3) as usize, rng.millis(50, 1_000))
    };
    world.crash(node, kept, down, "restarts after a failed write");
}
