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
pub(crate) use self::voters::{AppliedVoters, Voters};
use crate::NodeId;
use crate::blocking_io::BlockingIo;
use crate::electorate::Electorate;
use crate::log::LogStore;
use crate::types::LeaderId;

/// After a voter deposed this node, it can't do so again for so many of the longest election
/// timeouts while a quorum of the others confirms this node; each time, the pause doubles.
///
/// A voter that was cut off comes back with a higher term, and is followed at once. It may have to
/// come twice: it does not follow who was elected in a term in which it stood itself, if its own id
/// is the higher one. One that claims a higher term again and again costs less and less.
const FIRST_PAUSE_TIMEOUTS: u32 = 8;
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// The last time that a voter deposed this node.
struct Deposition {
    at: Instant,
    /// The leadership that it ended.
    leader: LeaderId,
    pause: Duration,
}

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
    deposed: Mutex<BTreeMap<NodeId, Deposition>>,
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
        let last = deposed.get(&node);
        if last.is_some_and(|last| last.at.elapsed() < last.pause)
            && self.gate.is_confirmed_without(leader, node, within)
        {
            return false;
        }
        let pause = match last {
            // Several answers of one kind came.
            Some(last) if last.leader == leader => last.pause,
            Some(last) if last.at.elapsed() < 2 * PAUSE_MAX => PAUSE_MAX.min(2 * last.pause),
            _ => PAUSE_MAX.min(FIRST_PAUSE_TIMEOUTS * within),
        };
        tracing::warn!(node, %leader, ?pause, "a voter's higher vote ends this leadership");
        let at = Instant::now();
        deposed.insert(node, Deposition { at, leader, pause });
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
