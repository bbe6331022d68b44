//! What the parts of a run share: the nodes, the network, the clocks, the trace, and the truth.

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

use crate::dice::Dice;
use crate::net::Net;
use crate::plan::Plan;
use crate::trace::Trace;
use crate::truth::{Broken, Check, Truth, broken};
use crate::wire;

/// Unix time in ms at the start of every run.
pub const EPOCH_MS: u64 = 1_800_000_000_000;

/// A node that runs.
#[derive(Clone)]
pub struct Up {
    pub life: u32,
    pub consensus: Consensus,
    pub handle: Handle,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
}

/// A node through all its lives.
pub struct Slot {
    /// What is on its disk.
    pub store: MemoryKv,
    /// Counts its starts.
    pub life: u32,
    /// Its process runs, or starts.
    pub alive: bool,
    pub up: Option<Up>,
    /// Its disk failed in this life, so it may stop.
    pub disk_failed: bool,
    /// The power fails after so many more writes.
    pub power_for: Option<u64>,
    /// Its power was lost, so files that it did not sync may be torn.
    pub torn: bool,
    /// How long it stays down.
    pub down: Duration,
    /// What its clock shows too much, in ms.
    pub offset_ms: i64,
    pub died: Arc<Notify>,
    /// The ledger named it no longer, and its operator ended it.
    pub removed: bool,
    /// Whom a node that joined was told of.
    pub told: Option<AnnouncedValidators>,
}

impl Default for Slot {
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
            told: None,
        }
    }
}

/// Counts of what happened, for the summary.
#[derive(Clone, Debug, Default)]
pub struct Counts(pub BTreeMap<&'static str, u64>);

/// Everything of one run.
pub struct World {
    pub seed: u64,
    pub plan: Plan,
    pub genesis: Genesis,
    pub dir: PathBuf,
    pub net: Net,
    start: Instant,
    slots: Mutex<BTreeMap<u64, Slot>>,
    truth: Mutex<Truth>,
    trace: Mutex<Trace>,
    dice: Mutex<Dice>,
    counts: Mutex<Counts>,
    violation: Mutex<Option<Broken>>,
    violated: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("a panic ends the run")
}

impl World {
    pub fn new(seed: u64, plan: Plan, genesis: Genesis, dir: PathBuf, loud: bool) -> Arc<Self> {
        let slots = (1..=plan.nodes).map(|node| (node, Slot::default()));
        Arc::new(Self {
            slots: Mutex::new(slots.collect()),
            net: Net::new(seed, &plan),
            start: Instant::now(),
            truth: Mutex::default(),
            trace: Mutex::new(Trace::new(loud)),
            dice: Mutex::new(Dice::new(seed, "world")),
            counts: Mutex::default(),
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

    /// A machine for a new node, with an empty disk and a note of who is there.
    pub fn add(&self, node: u64) {
        let ups = self.nodes().into_iter().filter_map(|node| self.up(node));
        let told = ups
            .max_by_key(|up| up.handle.head().height)
            .map(|up| AnnouncedValidators {
                height: up.handle.head().height,
                validators: (*up.handle.watch_membership().borrow().named.validators).clone(),
            });
        self.note(format!("node {node} is new, and is told {told:?}"));
        let slot = Slot {
            told,
            ..Slot::default()
        };
        lock(&self.slots).insert(node, slot);
    }

    /// Whether two nodes talk to each other: each has the other on its list. One that is about to
    /// start has none yet.
    pub fn are_acquainted(&self, one: u64, other: u64) -> bool {
        let lists = |up: Up, node: u64| {
            let height = up.handle.head().height;
            let later = up.handle.watch_announced_validators();
            let later = later.borrow();
            let later = later.as_ref().filter(|later| height < later.height);
            up.handle.watch_membership().borrow().key_of(node).is_some()
                || later.is_some_and(|later| later.validators.by_node(node).is_some())
        };
        let both = [(one, other), (other, one)];
        both.into_iter()
            .all(|(owner, node)| self.up(owner).is_none_or(|up| lists(up, node)))
    }

    /// The operator ends a node that the ledger names no longer.
    pub fn remove(&self, node: u64) {
        self.with(node, |slot| slot.removed = true);
        self.crash(node, usize::MAX, Duration::ZERO, "removed nodes");
    }

    pub fn truth(&self) -> MutexGuard<'_, Truth> {
        lock(&self.truth)
    }

    pub fn trace(&self) -> MutexGuard<'_, Trace> {
        lock(&self.trace)
    }

    pub fn dice(&self) -> MutexGuard<'_, Dice> {
        lock(&self.dice)
    }

    /// Adds an event to the trace.
    pub fn note(&self, event: impl AsRef<str>) {
        self.trace().add(self.start.elapsed(), event.as_ref());
    }

    pub fn count(&self, what: &'static str) {
        *lock(&self.counts).0.entry(what).or_default() += 1;
    }

    pub fn counts(&self) -> Counts {
        let mut counts = lock(&self.counts).clone();
        let truth = self.truth();
        counts.0.insert("transactions", truth.transactions() as u64);
        counts.0.insert("leaderships", truth.leaderships() as u64);
        counts
    }

    /// Ends the run if an invariant is broken; the first one is reported.
    pub fn check(&self, check: Check) {
        if let Err(found) = check {
            self.note(format!("BROKEN {found}"));
            lock(&self.violation).get_or_insert(found);
            self.violated.notify_one();
        }
    }

    /// Waits until an invariant is broken.
    pub async fn violated(&self) -> Broken {
        loop {
            if let Some(found) = lock(&self.violation).clone() {
                return found;
            }
            self.violated.notified().await;
        }
    }

    /// Whether an invariant is broken.
    pub fn is_broken(&self) -> bool {
        lock(&self.violation).is_some()
    }

    pub fn with<T>(&self, node: u64, work: impl FnOnce(&mut Slot) -> T) -> T {
        let mut slots = lock(&self.slots);
        work(slots.get_mut(&node).expect("a slot stays"))
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// What a node's clock shows: Unix time in ms.
    pub fn clock_ms(&self, node: u64) -> u64 {
        let true_ms = EPOCH_MS + self.elapsed().as_millis() as u64;
        true_ms.saturating_add_signed(self.with(node, |slot| slot.offset_ms))
    }

    /// The running node. One that the ledger names may not be switched on yet.
    pub fn up(&self, node: u64) -> Option<Up> {
        let slots = lock(&self.slots);
        let slot = slots.get(&node)?;
        slot.up.clone().filter(|_| slot.alive)
    }

    /// Whether this life of the node goes on.
    pub fn lives(&self, node: u64, life: u32) -> bool {
        self.with(node, |slot| slot.alive && slot.life == life)
    }

    /// Ends a node without warning. Of its unsynced writes the first `kept` survive.
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
        self.note(format!(
            "node {node}.{life} ends: {why}, keeps {kept}, down {down:?}"
        ));
        self.count(why);
        self.check(self.after_crash(node));
        died.notify_one();
    }

    /// What a crash must not take away.
    fn after_crash(&self, node: u64) -> Check {
        let store = self.with(node, |slot| slot.store.clone());
        let signed = self.truth().last_attested(node);
        if let Some((height, header)) = signed {
            check_attested(node, &store, height, header)?;
        }
        let (purged, applied) = (wire::purged(&store), wire::applied(&store));
        if purged > applied {
            return broken(
                "nothing is purged before its effects are on disk",
                format!("node {node}: purged {purged:?}, applied {applied:?}"),
            );
        }
        let committed = self.truth().committed();
        committed.map_or(Ok(()), |place| self.check_majority(place))
    }

    /// An attestation is about to leave a node: what it says must be on disk.
    pub fn attests(&self, node: u64, attestation: &lamplighter_types::Attestation) {
        let store = self.with(node, |slot| slot.store.clone());
        self.check(self.truth().attest(node, attestation));
        self.check(check_attested(
            node,
            &*store.durable(),
            attestation.height,
            attestation.header,
        ));
    }

    /// A committed entry is on the disks of a majority, whatever crashes.
    pub fn check_majority(&self, place: wire::Place) -> Check {
        let all: Vec<u64> = lock(&self.slots).keys().copied().collect();
        let holders = all.into_iter().filter(|node| self.holds(*node, place));
        let holders: BTreeSet<u64> = holders.collect();
        if self.truth().is_quorum(&holders) {
            return Ok(());
        }
        broken(
            "a committed entry is durable on a majority",
            format!("{place:?} is on the disks of {holders:?} alone"),
        )
    }

    /// Whether a committed entry, or what it did, is on a node's disk.
    pub fn holds(&self, node: u64, place: wire::Place) -> bool {
        let store = self.with(node, |slot| slot.store.durable());
        let index = place.2;
        let entry = store.get(Cf::Log, &index.to_be_bytes());
        if let Ok(Some(entry)) = entry {
            return wire::entry_place(&entry) == Some(place);
        }
        wire::applied(&*store).is_some_and(|applied| applied.2 >= index)
    }

    /// The last entry of the log on a node's disk.
    pub fn last_entry(&self, node: u64) -> Option<wire::Place> {
        let store = self.with(node, |slot| slot.store.durable());
        let mut log = store
            .scan(Cf::Log, KeyRange::all(), Direction::Backward)
            .ok()?;
        let (_, entry) = log.next()?.ok()?;
        wire::entry_place(&entry)
    }

    pub fn keeps_certificate(&self, node: u64, certificate: &Certificate) {
        self.note(format!(
            "node {node} has the certificate {}",
            certificate.height
        ));
        let store = self.with(node, |slot| slot.store.clone());
        let check = match tables::validators_at(&store, certificate.height) {
            Ok(set) => self.truth().certificate(node, certificate, &set),
            Err(error) => broken("a disk is readable", error.to_string()),
        };
        self.check(check);
        self.count("certificates");
    }

    /// Whether the power fails at this write; then the node has ended.
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
                let mut dice = self.dice();
                let kept = *dice.pick(&[0, 0, 1, 2, 5, 1_000]);
                (kept, dice.millis(50, 3_000))
            };
            self.crash(node, kept, down, "power cuts");
        }
        now
    }

    /// An image is being installed: now the power may fail.
    pub fn endanger(&self, node: u64, life: u32) {
        let writes = {
            let mut dice = self.dice();
            (self.plan.cuts && self.net.has_faults() && dice.chance(400)).then(|| dice.below(14))
        };
        if let Some(writes) = writes.filter(|_| self.lives(node, life)) {
            self.note(format!(
                "the power of node {node} fails after {writes} writes"
            ));
            self.with(node, |slot| slot.power_for = Some(writes));
        }
    }

    /// A write failed because the run wanted it.
    pub fn disk_failed(self: &Arc<Self>, node: u64, life: u32) {
        self.note(format!("node {node}.{life}: a write fails"));
        self.count("failed writes");
        if !self.with(node, |slot| !std::mem::replace(&mut slot.disk_failed, true)) {
            return;
        }
        let (world, wait) = (self.clone(), self.dice().millis(4_000, 9_000));
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
        Err(error) => return broken("a disk is readable", error.to_string()),
    };
    if noted == Some(header) {
        return Ok(());
    }
    broken(
        "what a node signed is on its disk",
        format!("node {node} signed {header} at {height}, its disk has {noted:?}"),
    )
}
