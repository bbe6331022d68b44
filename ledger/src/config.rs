use std::time::Duration;

use crate::artifacts::ArtifactLimits;

/// The keys of some 20,000 devices, in 16 MiB: with a million devices a node stays below 250 MiB.
pub(crate) const TREE_KEYS_IN_MEMORY: usize = 1 << 17;

/// Settings of a node's ledger. The defaults are right for a validator on a small machine.
#[derive(Clone, Debug)]
pub struct LedgerConfig {
    /// This node's id in Raft.
    pub node: u64,
    pub mempool: MempoolLimits,
    /// Unfinished uploads of one account.
    pub uploads_per_account_max: usize,
    /// Batches in flight at once: while one is being synced the next one is gathered.
    pub batches_in_flight_max: usize,
    /// The time after which an idle chain makes an empty block, so that its freshness can be
    /// checked.
    pub heartbeat_every: Duration,
    /// A header whose time is further off this node's clock is not attested.
    pub clock_offset_max_ms: u64,
    /// Blocks without a certificate before the sequencer slows down.
    pub uncertified_max: u64,
    /// The time after which a transaction that was forwarded to the leader, and is in no block, is
    /// forwarded again.
    pub forward_again_after: Duration,
    /// Keys of the state tree, of some 120 bytes with their nodes, that are in memory while the
    /// others are on disk.
    pub tree_keys_in_memory: usize,
    /// Does all work on the async thread, so that a simulation is deterministic.
    pub inline: bool,
}

impl LedgerConfig {
    /// The defaults for one node.
    pub fn new(node: u64) -> Self {
        Self {
            node,
            mempool: MempoolLimits::default(),
            uploads_per_account_max: ArtifactLimits::default().uploads_per_account_max,
            batches_in_flight_max: 3,
            heartbeat_every: Duration::from_secs(60),
            clock_offset_max_ms: 30_000,
            uncertified_max: 256,
            forward_again_after: Duration::from_secs(3),
            tree_keys_in_memory: TREE_KEYS_IN_MEMORY,
            inline: false,
        }
    }
}

/// Bounds of the mempool.
#[derive(Clone, Debug)]
pub struct MempoolLimits {
    /// About two seconds of work.
    pub transactions_max: usize,
    pub bytes_max: usize,
    /// The size of a key's replay window: more of its transactions could not all be used anyway.
    pub per_key_max: usize,
    /// Transactions of one account, which may have several keys.
    pub per_account_max: usize,
    /// Callers that wait for the same transaction.
    pub waiters_max: usize,
}

impl Default for MempoolLimits {
    fn default() -> Self {
        Self {
            transactions_max: 20_000,
            bytes_max: 64 << 20,
            per_key_max: lamplighter_types::limits::REPLAY_WINDOW as usize,
            per_account_max: 2 * lamplighter_types::limits::REPLAY_WINDOW as usize,
            waiters_max: 16,
        }
    }
}
