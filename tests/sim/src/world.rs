//! The state that the parts of a run share: nodes, network, clocks, trace, and oracle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use lamplighter_consensus::Consensus;
use lamplighter_ledger::{AnnouncedValidators, Handle};
use lamplighter_state::tables;
use lamplighter_store::{Cf, Direction, KeyRange, KvView, MemoryKv};
use lamplighter_types::{Certificate, Genesis};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::lies::Liars;
use crate::measures::Measures;
use crate::net::SimNetwork;
use crate::oracle::{Check, Oracle, Violation, violation};
use crate::plan::Plan;
use crate::raft_messages;
use crate::rng::SimRng;
use crate::trace::Trace;

/// Unix time in ms at the start of every run.
pub const EPOCH_MS: u64 = 1_800_000_000_000;

/// A running node.
#[derive(Clone)]
pub struct RunningNode {
    pub life: u32,
    pub consensus: Consensus,
    pub handle: Handle,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
}

/// A node through all its lives.
pub struct NodeSlot {
    /// The contents of its disk.
    pub store: MemoryKv,
    /// Counts its starts.
    pub life: u32,
    /// Its process runs or starts.
    pub alive: bool,
    pub up: Option<RunningNode>,
    /// Its disk failed in this life, so it may stop.
    pub disk_failed: bool,
    /// The number of writes after which its power fails.
    pub power_for: Option<u64>,
    /// Its power was lost, so files that it did not sync may be torn.
    pub torn: bool,
    /// The time until it starts again.
    pub down: Duration,
    /// The error of its clock, in ms.
    pub offset_ms: i64,
    pub died: Arc<Notify>,
    /// The ledger does not name it any more, and its operator stopped it.
    pub removed: bool,
    /// The validators that a joining node was started with.
    pub bootstrap: Option<AnnouncedValidators>,
}

impl Default for NodeSlot {
    fn default() -> Self {
        Self {
            store: MemoryKv::new(),
            life: 1,
            alive: true,
            up: None,
            disk_failed: false,
            power_for: None,
            torn: false,
            down: Duration::ZERO,
            offset_ms: 0,
            died: Arc::default(),
            removed: false,
            bootstrap: None,
        }
    }
}

/// Counts of what happened, for the summary.
#[derive(Clone, Debug, Default)]
pub struct Counts(pub BTreeMap<&'static str, u64>);

/// The state of one run.
pub struct World {
    pub seed: u64,
    pub plan: Plan,
    pub genesis: Genesis,
    pub dir: PathBuf,
    pub net: SimNetwork,
    pub liars: Liars,
    start: Instant,
    slots: Mutex<BTreeMap<u64, NodeSlot>>,
    oracle: Mutex<Oracle>,
    trace: Mutex<Trace>,
    rng: Mutex<SimRng>,
    counts: Mutex<Counts>,
    highest: Mutex<u64>,
    /// Liars of whom an honest node has evidence.
    proven: Mutex<BTreeSet<u64>>,
    proof: Notify,
    pub measures: Measures,
    violation: Mutex<Option<Violation>>,
    violated: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("a panic ends the run")
}

impl World {
    pub fn new(seed: u64, plan: Plan, genesis: Genesis, dir: PathBuf, loud: bool) -> Arc<Self> {
        let slots = (1..=plan.nodes).map(|node| (node, NodeSlot::default()));
        Arc::new(Self {
            slots: Mutex::new(slots.collect()),
            net: SimNetwork::new(seed, &plan),
            liars: Liars::new(seed, plan.lies.as_ref()),
            start: Instant::now(),
            oracle: Mutex::new(Oracle::new(plan.lies.as_ref())),
            trace: Mutex::new(Trace::new(loud)),
            rng: Mutex::new(SimRng::new(seed, "world")),
            counts: Mutex::default(),
            highest: Mutex::default(),
            proven: Mutex::default(),
            proof: Notify::new(),
            measures: Measures::default(),
            violation: Mutex::default(),
            violated: Notify::new(),
            seed,
            plan,
            genesis,
            dir,
        })
    }

    /// Every node that was not removed.
    pub fn nodes(&self) -> Vec<u64> {
        let slots = lock(&self.slots);
        let there = slots.iter().filter(|(_, slot)| !slot.removed);
        there.map(|(node, _)| *node).collect()
    }

    /// Every node that was not removed and does not lie.
    pub fn honest(&self) -> Vec<u64> {
        let mut nodes = self.nodes();
        nodes.retain(|node| !self.liars.is_liar(*node));
        nodes
    }

    /// Adds a machine for a new node, with an empty disk and the current validators.
    pub fn add(&self, node: u64) {
        let ups = self.nodes().into_iter().filter_map(|node| self.up(node));
        let bootstrap =
            ups.max_by_key(|up| up.handle.head().height)
                .map(|up| AnnouncedValidators {
                    height: up.handle.head().height,
                    validators: (*up.handle.watch_membership().borrow().named.validators).clone(),
                });
        self.log_event(format!("node {node} is new, with {bootstrap:?}"));
        let slot = NodeSlot {
            bootstrap,
            ..NodeSlot::default()
        };
        lock(&self.slots).insert(node, slot);
    }

    /// True if two nodes are connected: each has the other on its list. A node that is about to
    /// start has no list yet.
    pub fn are_connected(&self, one: u64, other: u64) -> bool {
        let lists = |up: RunningNode, node: u64| {
            let height = up.handle.head().height;
            let announced = up.handle.watch_announced_validators();
            let announced = announced.borrow();
            let announced = announced.as_ref().filter(|set| height < set.height);
            up.handle.watch_membership().borrow().key_of(node).is_some()
                || announced.is_some_and(|set| set.validators.by_node(node).is_some())
        };
        let both = [(one, other), (other, one)];
        both.into_iter()
            .all(|(owner, node)| self.up(owner).is_none_or(|up| lists(up, node)))
    }

    /// Stops a node that the ledger does not name any more.
    pub fn remove(&self, node: u64) {
        self.with(node, |slot| slot.removed = true);
        self.crash(node, usize::MAX, Duration::ZERO, "removed nodes");
    }

    pub fn oracle(&self) -> MutexGuard<'_, Oracle> {
        lock(&self.oracle)
    }

    pub fn trace(&self) -> MutexGuard<'_, Trace> {
        lock(&self.trace)
    }

    pub fn rng(&self) -> MutexGuard<'_, SimRng> {
        lock(&self.rng)
    }

    /// Adds an event to the trace.
    pub fn log_event(&self, event: impl AsRef<str>) {
        self.trace().add(self.start.elapsed(), event.as_ref());
    }

    /// Records that a lie of this node is proven.
    pub fn prove(&self, liar: u64) {
        if lock(&self.proven).insert(liar) {
            self.log_event(format!("the lie of node {liar} is proven"));
            self.count("proven liars");
            self.proof.notify_one();
        }
    }

    /// Waits until a lie is proven.
    pub async fn proof(&self) {
        self.proof.notified().await;
    }

    /// The highest block that any node has.
    pub fn highest_height(&self) -> u64 {
        let ups = self.nodes().into_iter().filter_map(|node| self.up(node));
        let now = ups.map(|up| up.handle.head().height).max().unwrap_or(0);
        let mut highest = lock(&self.highest);
        *highest = now.max(*highest);
        *highest
    }

    pub fn count(&self, what: &'static str) {
        *lock(&self.counts).0.entry(what).or_default() += 1;
    }

    pub fn counts(&self) -> Counts {
        let mut counts = lock(&self.counts).clone();
        let oracle = self.oracle();
        counts
            .0
            .insert("transactions", oracle.transactions() as u64);
        counts.0.insert("leaderships", oracle.leaderships() as u64);
        counts
    }

    /// Ends the run if an invariant is broken; the first one is reported.
    pub fn check(&self, check: Check) {
        if let Err(found) = check {
            self.log_event(format!("BROKEN {found}"));
            lock(&self.violation).get_or_insert(found);
            self.violated.notify_one();
        }
    }

    /// Waits until an invariant is broken.
    pub async fn violated(&self) -> Violation {
        loop {
            if let Some(found) = lock(&self.violation).clone() {
                return found;
            }
            self.violated.notified().await;
        }
    }

    /// True if an invariant is broken.
    pub fn is_broken(&self) -> bool {
        lock(&self.violation).is_some()
    }

    pub fn with<T>(&self, node: u64, work: impl FnOnce(&mut NodeSlot) -> T) -> T {
        let mut slots = lock(&self.slots);
        work(slots.get_mut(&node).expect("a slot stays"))
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The time of a node's clock: Unix time in ms.
    pub fn clock_ms(&self, node: u64) -> u64 {
        let true_ms = EPOCH_MS + self.elapsed().as_millis() as u64;
        let shown = true_ms.saturating_add_signed(self.with(node, |slot| slot.offset_ms));
        let forged = self.liars.lying(node).and_then(|liar| liar.clock_ms);
        forged.unwrap_or(shown)
    }

    /// The running node. A node that the ledger names may not have been started yet.
    pub fn up(&self, node: u64) -> Option<RunningNode> {
        let slots = lock(&self.slots);
        let slot = slots.get(&node)?;
        slot.up.clone().filter(|_| slot.alive)
    }

    /// True while this life of the node lasts.
    pub fn lives(&self, node: u64, life: u32) -> bool {
        self.with(node, |slot| slot.alive && slot.life == life)
    }

    /// Ends a node without warning. The first `kept` of its unsynced writes survive.
    pub fn crash(&self, node: u64, kept: usize, down: Duration, why: &'static str) {
        let died = self.with(node, |slot| {
            if !slot.alive {
                return None;
            }
            slot.alive = false;
            slot.down = down;
            slot.torn = kept != usize::MAX;
            slot.power_for = None;
            slot.store = slot.store.crash_keeping(kept);
            Some((slot.died.clone(), slot.life))
        });
        let Some((died, life)) = died else { return };
        self.log_event(format!(
            "node {node}.{life} ends: {why}, keeps {kept}, down {down:?}"
        ));
        self.count(why);
        self.check(self.after_crash(node));
        died.notify_one();
    }

    /// Checks the data that a crash must not remove.
    fn after_crash(&self, node: u64) -> Check {
        if self.liars.is_liar(node) {
            return Ok(());
        }
        let store = self.with(node, |slot| slot.store.clone());
        let signed = self.oracle().last_attested(node);
        if let Some((height, header)) = signed {
            check_attested(node, &store, height, header)?;
        }
        let (purged, applied) = (
            raft_messages::purged(&store),
            raft_messages::applied(&store),
        );
        if purged > applied {
            return violation(
                "nothing is purged before its effects are on disk",
                format!("node {node}: purged {purged:?}, applied {applied:?}"),
            );
        }
        let committed = self.oracle().committed();
        committed.map_or(Ok(()), |place| self.check_majority(place))
    }

    /// Checks an attestation that a node is about to send: the header must be on its disk.
    pub fn attests(&self, node: u64, attestation: &lamplighter_types::Attestation) {
        if self.liars.is_liar(node) {
            return;
        }
        let store = self.with(node, |slot| slot.store.clone());
        self.check(self.oracle().attest(node, attestation));
        self.check(check_attested(
            node,
            &*store.durable(),
            attestation.height,
            attestation.header,
        ));
    }

    /// Checks that a committed entry is on the disks of a majority, whichever nodes crash. Of one
    /// that a liar made, the liar alone said that it is committed, and a later leader repeats that
    /// until an entry of its own is: this one counts, and covers all before.
    pub fn check_majority(&self, place: raft_messages::Place) -> Check {
        if self.liars.is_liar(place.1) {
            return Ok(());
        }
        let all: Vec<u64> = lock(&self.slots).keys().copied().collect();
        // A liar may acknowledge what it does not keep.
        // One that dropped its log votes for nobody who is behind what it had.
        let holds = |node: &u64| {
            self.liars.is_liar(*node) || self.holds(*node, place) || self.vouches(*node, place)
        };
        let holders = all.into_iter().filter(holds);
        let holders: BTreeSet<u64> = holders.collect();
        if self.oracle().is_quorum(&holders) {
            return Ok(());
        }
        violation(
            "a committed entry is durable on a majority",
            format!("{place:?} is on the disks of {holders:?} alone"),
        )
    }

    /// True if a node that dropped its log had this entry, and minds that when it votes.
    fn vouches(&self, node: u64, place: raft_messages::Place) -> bool {
        let store = self.with(node, |slot| slot.store.durable());
        self.liars.exist() && raft_messages::vote_floor(&*store).is_some_and(|floor| floor >= place)
    }

    /// True if a committed entry, or its effect, is on a node's disk.
    pub fn holds(&self, node: u64, place: raft_messages::Place) -> bool {
        let store = self.with(node, |slot| slot.store.durable());
        let index = place.2;
        let entry = store.get(Cf::Log, &index.to_be_bytes());
        if let Ok(Some(entry)) = entry {
            return raft_messages::entry_place(&entry) == Some(place);
        }
        raft_messages::applied(&*store).is_some_and(|applied| applied.2 >= index)
    }

    /// The last entry of the log on a node's disk.
    pub fn last_entry(&self, node: u64) -> Option<raft_messages::Place> {
        let store = self.with(node, |slot| slot.store.durable());
        let mut log = store
            .scan(Cf::Log, KeyRange::all(), Direction::Backward)
            .ok()?;
        let (_, entry) = log.next()?.ok()?;
        raft_messages::entry_place(&entry)
    }

    pub fn check_certificate(&self, node: u64, certificate: &Certificate) {
        self.log_event(format!(
            "node {node} has the certificate {}",
            certificate.height
        ));
        let store = self.with(node, |slot| slot.store.clone());
        let check = match tables::validators_at(&store, certificate.height) {
            Ok(set) => self.oracle().certificate(node, certificate, &set),
            Err(error) => violation("a disk is readable", error.to_string()),
        };
        self.check(check);
        self.count("certificates");
    }

    /// True if the power fails at this write; the node has ended then.
    pub fn power_fails(&self, node: u64, life: u32) -> bool {
        if !self.lives(node, life) {
            return true;
        }
        let now = self.with(node, |slot| match &mut slot.power_for {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        });
        if now {
            let (kept, down) = {
                let mut rng = self.rng();
                let kept = *rng.pick(&[0, 0, 1, 2, 5, 1_000]);
                (kept, rng.millis(50, 3_000))
            };
            self.crash(node, kept, down, "power cuts");
        }
        now
    }

    /// Called when an image is being installed: the power may fail during it.
    pub fn endanger(&self, node: u64, life: u32) {
        let writes = {
            let mut rng = self.rng();
            (self.plan.cuts && self.net.has_faults() && rng.chance(400)).then(|| rng.below(14))
        };
        if let Some(writes) = writes.filter(|_| self.lives(node, life)) {
            self.log_event(format!(
                "the power of node {node} fails after {writes} writes"
            ));
            self.with(node, |slot| slot.power_for = Some(writes));
        }
    }

    /// Called when an injected fault made a write fail.
    pub fn disk_failed(self: &Arc<Self>, node: u64, life: u32) {
        self.log_event(format!("node {node}.{life}: a write fails"));
        self.count("failed writes");
        if !self.with(node, |slot| !std::mem::replace(&mut slot.disk_failed, true)) {
            return;
        }
        let (world, wait) = (self.clone(), self.rng().millis(4_000, 9_000));
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            if world.lives(node, life) {
                world.crash(node, 0, Duration::from_millis(100), "operators");
            }
        });
    }
}

fn check_attested(
    node: u64,
    store: &dyn KvView,
    height: u64,
    header: lamplighter_types::Hash,
) -> Check {
    let noted = match tables::attested(store, height) {
        Ok(noted) => noted,
        Err(error) => return violation("a disk is readable", error.to_string()),
    };
    if noted == Some(header) {
        return Ok(());
    }
    violation(
        "what a node signed is on its disk",
        format!("node {node} signed {header} at {height}, its disk has {noted:?}"),
    )
}
