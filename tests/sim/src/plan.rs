//! The plan of a seed. Each seed has its own subset of the faults ("swarm testing": Groce et al.,
//! ISSTA 2012): some runs are extreme in one kind and others have none of it, which finds more bugs
//! than a little of everything.

use std::time::Duration;

use crate::lies::{Lie, LiePlan};
use crate::planted::Planted;
use crate::rng::SimRng;

/// The errors of the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skew {
    None,
    /// Within the tolerance of attesters.
    Within,
    /// More than that, on some nodes.
    Beyond,
    /// Three years, on one node at a time.
    Years,
}

/// The faults of one seed. Chances are per mille.
#[derive(Clone, Debug)]
pub struct Plan {
    pub nodes: u64,
    pub clients: u64,
    /// Transactions that one client submits at once.
    pub streams: u64,
    /// The time with faults.
    pub safety: Duration,
    /// The delay of every link, in ms.
    pub delay_ms: (u64, u64),
    pub loss: u64,
    pub duplicates: u64,
    /// Messages that take much longer, and so are overtaken.
    pub stragglers: u64,
    pub straggle_ms: u64,
    pub partitions: bool,
    pub one_way: bool,
    pub flapping: bool,
    pub crashes: bool,
    /// Power fails in the middle of writing.
    pub cuts: bool,
    /// The power of all nodes at once.
    pub blackouts: bool,
    pub disk_faults: bool,
    pub skew: Skew,
    pub jumps: bool,
    /// A node joins and becomes a validator, and another one is removed.
    pub changes: bool,
    /// The duration of a sync, in ms.
    pub sync_ms: (u64, u64),
    /// Log entries from one snapshot to the next.
    pub snapshot_every: u64,
    /// Log entries that are kept behind a snapshot.
    pub keep_entries: u64,
    /// The log is purged even if a node that is behind still needs it.
    pub purges_early: bool,
    /// Bytes of a snapshot sent at once.
    pub chunk_bytes: usize,
    pub heartbeat_block_ms: u64,
    /// The heartbeat interval of the leader.
    pub heartbeat: Duration,
    /// The shortest and the longest election timeout.
    pub election: (Duration, Duration),
    pub planted: Option<Planted>,
    pub lies: Option<LiePlan>,
}

/// The heartbeat interval and the election timeouts of a real node, in ms.
const REAL_TIMERS: (u64, u64, u64) = (250, 1_500, 3_000);

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64) -> Self {
        let mut rng = SimRng::new(seed, "plan");
        let rng = &mut rng;
        let often = |rng: &mut SimRng| rng.chance(500);
        let slow = rng.chance(250);
        let snapshots = rng.chance(700);
        let ms = Duration::from_millis;
        let quick = *rng.pick(&[(100, 400, 800), (100, 300, 900), REAL_TIMERS]);
        // A candidate needs its own sync and that of a voter before its next candidacy.
        let (heartbeat, least, most) = if slow { REAL_TIMERS } else { quick };
        Self {
            nodes: rng.between(3, 5),
            clients: rng.between(1, 5),
            streams: rng.between(1, 6),
            safety: rng.millis(8_000, 16_000),
            delay_ms: *rng.pick(&[(0, 2), (1, 10), (1, 10), (5, 60), (0, 150)]),
            loss: *rng.pick(&[0, 0, 10, 50, 200]),
            duplicates: *rng.pick(&[0, 0, 20, 200]),
            stragglers: *rng.pick(&[0, 0, 20, 100]),
            straggle_ms: *rng.pick(&[300, 3_000, 9_000]),
            partitions: often(rng),
            one_way: often(rng),
            flapping: rng.chance(250),
            crashes: rng.chance(600),
            cuts: often(rng),
            blackouts: rng.chance(200),
            disk_faults: rng.chance(300),
            skew: *rng.pick(&[Skew::None, Skew::Within, Skew::Beyond]),
            jumps: rng.chance(250),
            sync_ms: if slow {
                *rng.pick(&[(20, 200), (0, 400), (100, 100)])
            } else {
                *rng.pick(&[(0, 0), (1, 8), (2, 30)])
            },
            snapshot_every: if snapshots {
                rng.between(3, 20)
            } else {
                10_000
            },
            keep_entries: rng.between(0, 5),
            purges_early: rng.chance(700),
            chunk_bytes: *rng.pick(&[4 << 10, 64 << 10, 1 << 20]),
            heartbeat_block_ms: *rng.pick(&[300, 1_000, 5_000]),
            heartbeat: ms(heartbeat),
            election: (ms(least), ms(most)),
            // Drawn last, so that the rest of a seed's plan stays the same.
            changes: rng.chance(500),
            planted: None,
            lies: None,
        }
    }

    /// Adds liars, if the seed is one of this share (in percent). Half of these runs have no other
    /// faults; the clocks of the others are good enough, as a liar takes the place of a bad one.
    pub fn with_liars(mut self, seed: u64, share: u64, only: Option<Lie>) -> Self {
        let mut rng = SimRng::new(seed, "liars");
        if rng.below(100) >= share {
            return self;
        }
        let lies = LiePlan::new(seed, &mut self.nodes, only);
        self.changes = lies.observer;
        self.skew = match self.skew {
            Skew::Beyond => Skew::Within,
            skew => skew,
        };
        self.jumps = false;
        self.safety = rng.millis(4_000, 9_000);
        if rng.chance(500) {
            self.loss = 0;
            self.duplicates = 0;
            self.stragglers = 0;
            self.partitions = false;
            self.one_way = false;
            self.flapping = false;
            self.crashes = false;
            self.cuts = false;
            self.blackouts = false;
            self.disk_faults = false;
        }
        self.lies = Some(lies);
        self
    }
}
