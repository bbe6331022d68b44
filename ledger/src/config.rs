use std::time::Duration;

/// How a node's ledger works. The defaults are right for a validator on a small machine.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node's id in Raft.
    pub node: u64,
    pub pool: PoolLimits,
    /// Batches on their way at once: while one is being synced the next one is gathered.
    pub batches_in_flight_max: usize,
    /// An idle chain makes a block after so long, so that its freshness can be checked.
    pub heartbeat_every: Duration,
    /// A header whose time is further off this node's clock is not attested.
    pub clock_offset_max_ms: u64,
    /// Blocks without a certificate before the sequencer slows down.
    pub uncertified_max: u64,
    /// A transaction that was passed to the leader and is in no block by then is passed on again.
    pub forward_again_after: Duration,
    /// Does all work on the async thread, so that a simulation is deterministic.
    pub inline: bool,
}

impl Config {
    /// The defaults for one node.
    pub fn new(node: u64) -> Self {
        Self {
            node,
            pool: PoolLimits::default(),
            batches_in_flight_max: 3,
            heartbeat_every: Duration::from_secs(60),
            clock_offset_max_ms: 30_000,
            uncertified_max: 256,
            forward_again_after: Duration::from_secs(3),
            inline: false,
        }
    }
}

/// Bounds of the pool of transactions that wait for their block.
#[derive(Clone, Debug)]
pub struct PoolLimits {
    /// About two seconds of work.
    pub transactions_max: usize,
    pub bytes_max: usize,
    /// Of one key: its replay window, since more could not all be used anyway.
    pub per_key_max: usize,
    /// Callers that wait for the same transaction.
    pub waiters_max: usize,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            transactions_max: 20_000,
            bytes_max: 64 << 20,
            per_key_max: lamplighter_types::limits::REPLAY_WINDOW as usize,
            waiters_max: 16,
        }
    }
}
