//! What a seed does. Each seed has its own subset of the faults ("swarm testing": Groce et al.,
//! ISSTA 2012), so that some runs are extreme in one kind and others have none of it, which finds
//! more than a little of everything.

use std::time::Duration;

use crate::dice::Dice;
use crate::planted::Planted;

/// How far clocks are off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skew {
    None,
    /// Less than what attesters tolerate.
    Within,
    /// More than that, on some nodes.
    Beyond,
}

/// The faults of one seed. Chances are per mille.
#[derive(Clone, Debug)]
pub struct Plan {
    pub nodes: u64,
    pub clients: u64,
    /// Transactions of one client on their way at once.
    pub lanes: u64,
    /// The time with faults.
    pub safety: Duration,
    /// Of every link, in ms.
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
    /// How long a sync takes, in ms.
    pub sync_ms: (u64, u64),
    /// Log entries from one snapshot to the next.
    pub snapshot_every: u64,
    /// Log entries that are kept behind a snapshot.
    pub keep_entries: u64,
    /// Whether the log is purged though a node that is behind still needs it.
    pub purges_early: bool,
    /// Bytes of a snapshot sent at once.
    pub chunk_bytes: usize,
    pub heartbeat_block_ms: u64,
    /// Of the leader.
    pub heartbeat: Duration,
    /// Least and most.
    pub election: (Duration, Duration),
    pub planted: Option<Planted>,
}

/// Of heartbeats and of the shortest and longest election, in ms, as nodes have them.
const REAL_TIMERS: (u64, u64, u64) = (250, 1_500, 3_000);

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "plan");
        let dice = &mut dice;
        let often = |dice: &mut Dice| dice.chance(500);
        let slow = dice.chance(250);
        let snapshots = dice.chance(700);
        let ms = Duration::from_millis;
        let quick = *dice.pick(&[(100, 400, 800), (100, 300, 900), REAL_TIMERS]);
        // Who stands for election needs its own sync and that of a voter before it stands again.
        let (heartbeat, least, most) = if slow { REAL_TIMERS } else { quick };
        Self {
            nodes: dice.between(3, 5),
            clients: dice.between(1, 5),
            lanes: dice.between(1, 6),
            safety: dice.millis(8_000, 16_000),
            delay_ms: *dice.pick(&[(0, 2), (1, 10), (1, 10), (5, 60), (0, 150)]),
            loss: *dice.pick(&[0, 0, 10, 50, 200]),
            duplicates: *dice.pick(&[0, 0, 20, 200]),
            stragglers: *dice.pick(&[0, 0, 20, 100]),
            straggle_ms: *dice.pick(&[300, 3_000, 9_000]),
            partitions: often(dice),
            one_way: often(dice),
            flapping: dice.chance(250),
            crashes: dice.chance(600),
            cuts: often(dice),
            blackouts: dice.chance(200),
            disk_faults: dice.chance(300),
            skew: *dice.pick(&[Skew::None, Skew::Within, Skew::Beyond]),
            jumps: dice.chance(250),
            sync_ms: match slow {
                true => *dice.pick(&[(20, 200), (0, 400), (100, 100)]),
                false => *dice.pick(&[(0, 0), (1, 8), (2, 30)]),
            },
            snapshot_every: match snapshots {
                true => dice.between(3, 20),
                false => 10_000,
            },
            keep_entries: dice.between(0, 5),
            purges_early: dice.chance(700),
            chunk_bytes: *dice.pick(&[4 << 10, 64 << 10, 1 << 20]),
            heartbeat_block_ms: *dice.pick(&[300, 1_000, 5_000]),
            heartbeat: ms(heartbeat),
            election: (ms(least), ms(most)),
            // The last one drawn, so that the rest of a seed's plan is what it was.
            changes: dice.chance(500),
            planted: None,
        }
    }
}
