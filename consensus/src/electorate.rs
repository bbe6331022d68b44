//! The voters, as the layer above knows them.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::NodeId;
use crate::evidence::EvidenceArchive;

/// The voters that the ledger explains, and their keys.
///
/// Raft keeps its own members in its log, and the log is what a leader says. So consensus asks here
/// before it believes anything: whether a node may vote or lead at all, whether a membership entry
/// is one that the ledger explains, and whether a signature is a node's. All methods are called
/// often and must not wait; they may read the store.
pub trait Electorate: Send + Sync + 'static {
    /// The id of the chain, which every signed statement begins with.
    fn chain_id(&self) -> [u8; 32];

    /// Signs a statement with this node's key.
    fn sign(&self, message: &[u8]) -> [u8; 64];

    /// True if a signature under a statement was made with the key of that node. The keys of all
    /// nodes that the ledger names are known, also of those whose removal is not carried out yet.
    fn verify(&self, node: NodeId, message: &[u8], signature: &[u8; 64]) -> bool;

    /// True if the key of a node is known, so that its signatures can be verified. A node that the
    /// ledger named long ago, or will name later, has none.
    fn has_key(&self, node: NodeId) -> bool;

    /// The sets of voters that the ledger names now: the one that has the votes, and one that this
    /// node learned with its proof while its chain is behind. A quorum of any of them elects.
    fn electors(&self) -> Vec<BTreeSet<NodeId>>;

    /// True if a node is in one of [`electors`](Self::electors).
    fn may_vote(&self, node: NodeId) -> bool {
        self.electors().iter().any(|set| set.contains(&node))
    }

    /// The place of a set of voters among those that the ledger's *certified* record had, from the
    /// genesis on: a later set has a higher one. None if this node's ledger does not explain the
    /// set, or not yet. A set that was in force more than once has the place of the last time.
    fn explains(&self, voters: &BTreeSet<NodeId>) -> Option<u64>;

    /// True if the ledger names a node, or ever named it, in whatever role. Such a node may be a
    /// member of Raft without a vote.
    fn names(&self, node: NodeId) -> bool;

    /// True if a node is proven to have signed two contents for one place. It neither votes nor
    /// leads any more.
    fn is_excluded(&self, node: NodeId) -> bool;

    /// The evidence by which nodes are excluded. Without it logs are not compared.
    fn evidence(&self) -> Option<Arc<dyn EvidenceArchive>> {
        None
    }
}
