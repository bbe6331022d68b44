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

use std::sync::Arc;

use lamplighter_store::{Kv, StoreError};

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

/// Everything that a node knows of elections.
pub(crate) struct Elections {
    pub node_id: NodeId,
    pub voters: Arc<Voters>,
    pub candidacy: Arc<Candidacy>,
    pub gate: CommitGate,
    pub proven: ProvenLeaders,
    store: ProofStore,
    log: LogStore,
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
            writing: tokio::sync::Mutex::default(),
        }))
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
