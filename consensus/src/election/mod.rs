//! Proven leadership: a vote is signed, and a leader shows the votes of a quorum.
//!
//! - `proof` signed votes and the proof that they make, `store` keeps proofs on disk;
//! - `voters` who may vote and lead at this moment;
//! - `candidacy` collects the votes for this node, `commit_gate` the copies of its entries;
//! - `proven` knows the leaderships of other nodes.

mod candidacy;
mod commit_gate;
mod proof;
mod proven;
mod store;
#[cfg(test)]
mod tests;
mod voters;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lamplighter_store::{Kv, StoreError};
use tokio::time::Instant;

pub(crate) use self::candidacy::Candidacy;
pub(crate) use self::commit_gate::CommitGate;
pub use self::proof::{ElectionProof, SignatureBytes, SignedVote, quorum};
pub(crate) use self::proven::{ProvenLeaders, Standing};
use self::store::ProofStore;
pub(crate) use self::voters::Voters;
use crate::NodeId;
use crate::blocking_io::BlockingIo;
use crate::electorate::Electorate;
use crate::log::LogStore;
use crate::types::LeaderId;

/// The time in which one voter deposes this node at most once while a quorum of the others confirms
/// it. A voter that was cut off comes back with a higher term, and is followed at once; one that
/// claims a higher term again and again costs one election in this time.
const DEPOSED_ONCE_IN: Duration = Duration::from_secs(600);

/// Everything that a node knows of elections.
pub(crate) struct Elections {
    pub node_id: NodeId,
    pub voters: Arc<Voters>,
    pub candidacy: Arc<Candidacy>,
    pub gate: CommitGate,
    pub proven: ProvenLeaders,
    store: ProofStore,
    log: LogStore,
    /// When each voter last deposed this node.
    deposed: Mutex<BTreeMap<NodeId, Instant>>,
    /// Held while proofs are written.
    writing: tokio::sync::Mutex<()>,
}

impl Elections {
    pub(crate) async fn open(
        node_id: NodeId,
        electorate: Arc<dyn Electorate>,
        kv: Arc<dyn Kv>,
        io: BlockingIo,
        log: LogStore,
    ) -> Result<Arc<Self>, StoreError> {
        let voters = Arc::new(Voters::new(electorate));
        let candidacy = Arc::new(Candidacy::new(node_id, voters.clone()));
        let store = ProofStore::new(kv, io);
        let stored = store.read().await?;
        log.connect(candidacy.clone());
        Ok(Arc::new(Self {
            node_id,
            candidacy,
            gate: CommitGate::new(node_id, voters.clone()),
            proven: ProvenLeaders::new(node_id, voters.clone(), stored),
            voters,
            store,
            log,
            deposed: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
        }))
    }

    /// True if a voter's higher vote may end this node's leadership; it counts then. `within` is
    /// the time in which the others have to have confirmed it.
    pub(crate) fn may_depose(&self, leader: LeaderId, node: NodeId, within: Duration) -> bool {
        let mut deposed = self.deposed.lock().expect("no code panics with this lock");
        let lately = |at: &Instant| at.elapsed() < DEPOSED_ONCE_IN;
        if deposed.get(&node).is_some_and(lately)
            && self.gate.is_confirmed_without(leader, node, within)
        {
            return false;
        }
        deposed.insert(node, Instant::now());
        true
    }

    /// Stores the proof of a new leadership.
    pub(crate) async fn store(&self, proof: &ElectionProof) -> Result<(), StoreError> {
        let _writing = self.writing.lock().await;
        let proofs = self.proven.with(proof, self.log.last());
        self.store.write(&proofs).await?;
        self.proven.replace(proofs);
        Ok(())
    }

    /// Waits until a quorum has voted for this node, and stores the proof, which is then there
    /// before the first entry of the leadership.
    pub(crate) async fn elected(&self, leader: LeaderId) -> Result<bool, StoreError> {
        if !self.candidacy.elected(leader).await {
            return Ok(false);
        }
        if !self.proven.knows(leader)
            && let Some(proof) = self.candidacy.proof(leader)
        {
            self.store(&proof).await?;
        }
        Ok(true)
    }
}
