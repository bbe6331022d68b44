//! The comparison of logs between voters.
//!
//! Once a second each node asks the other voters for the newest statements of leaders that they
//! have, and compares each with its own log. A leader that sent two contents signed both, so it is
//! found as soon as two nodes with different ones have talked. The work is bounded: one request to
//! each voter, a few signatures, and reads of the log only for a statement that a leader really
//! signed and that does not fit.
//!
//! While leaders are proven to have had two logs, nodes also ask each other what they hold there,
//! until all hold the same (see `divergence`). Evidence goes the same way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use lamplighter_store::StoreError;
use tokio::time::MissedTickBehavior;

use crate::NodeId;
use crate::control_client::ControlClient;
use crate::divergence::{HOLDING_MAX, HeldDigests, LogHolding, LogVerdict, Voters, decide};
use crate::election::{Elections, SignatureBytes};
use crate::electorate::Electorate;
use crate::evidence::{EVIDENCE_BYTES_MAX, EVIDENCE_MAX, EvidenceArchive, LeaderEvidence};
use crate::log::LogStore;
use crate::message::{ComparisonAnswer, ComparisonRequest};
use crate::recovery::Recovery;
use crate::statement::LeaderStatement;

/// Time between two comparisons.
const COMPARE_EVERY: Duration = Duration::from_secs(1);
/// Statements in one answer that are looked at.
const STATEMENTS_MAX: usize = 8;

/// The digests that this node holds up to a disputed index. A digest covers all before it, so they
/// stay right as long as the last of them is that of the log.
type LocalHolding = (u64, HeldDigests);

/// Compares this node's log with those of the other voters.
pub(crate) struct LogComparison {
    pub node_id: NodeId,
    pub log: LogStore,
    pub electorate: Arc<dyn Electorate>,
    pub peers: ControlClient,
    pub recovery: Arc<Recovery>,
    state: Mutex<LogComparisonState>,
}

#[derive(Default)]
struct LogComparisonState {
    /// Disputed indexes at which all voters were found to hold the same.
    equal: BTreeSet<u64>,
    /// The last holding that was read from the log.
    local: Option<LocalHolding>,
}

impl LogComparison {
    pub(crate) fn new(
        elections: &Elections,
        log: LogStore,
        peers: ControlClient,
        recovery: Arc<Recovery>,
    ) -> Self {
        Self {
            node_id: elections.node_id,
            log,
            electorate: elections.voters.electorate.clone(),
            peers,
            recovery,
            state: Mutex::default(),
        }
    }

    /// Compares until this node stops.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut tick = tokio::time::interval(COMPARE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let Some(archive) = self.electorate.evidence() else {
                return;
            };
            if let Err(error) = self.compare(&*archive).await {
                tracing::error!(%error, "the log can't be compared with those of other nodes");
            }
        }
    }

    fn voters(&self) -> BTreeSet<NodeId> {
        self.electorate
            .electors()
            .into_iter()
            .next()
            .unwrap_or_default()
    }

    async fn compare(&self, archive: &dyn EvidenceArchive) -> Result<(), StoreError> {
        let voters = self.voters();
        let disputed = self.disputed(archive).await?;
        let request = ComparisonRequest {
            evidence: archive.hashes(),
            disputed,
        };
        let others = voters.iter().copied().filter(|node| *node != self.node_id);
        let asked = others.map(|node| {
            let answer = self.peers.compare(node, request.clone());
            async move { (node, answer.await) }
        });
        let mut held = BTreeMap::new();
        for (node, answer) in join_all(asked).await {
            let Some(answer) = answer else {
                continue;
            };
            let holding = self.receive(archive, node, answer).await?;
            held.extend(holding.map(|holding| (node, holding)));
        }
        match disputed {
            Some(index) => self.decide(index, &voters, &held).await,
            None => Ok(()),
        }
    }

    /// Checks an answer, keeps what is evidence, and returns what the node holds.
    async fn receive(
        &self,
        archive: &dyn EvidenceArchive,
        node: NodeId,
        answer: ComparisonAnswer,
    ) -> Result<Option<HeldDigests>, StoreError> {
        let ComparisonAnswer {
            statements,
            evidence,
            holding,
        } = answer;
        if let Some(evidence) = evidence.filter(|bytes| bytes.len() <= EVIDENCE_BYTES_MAX) {
            archive.add_received(node, &evidence);
        }
        for statement in statements.iter().take(STATEMENTS_MAX) {
            if let Some(evidence) = self.contradiction(statement).await? {
                archive.add_found(&evidence);
            }
        }
        Ok(holding.and_then(|holding| self.check_holding(node, holding)))
    }

    /// The evidence that a statement makes together with one about this node's log.
    ///
    /// Nothing is evidence but two signatures of one leader in one term, and a chain of digests
    /// between them that only both logs explain. So a replay, a statement about entries that a
    /// later leader replaced, or another node's lie about what it received accuses no node.
    async fn contradiction(
        &self,
        statement: &LeaderStatement,
    ) -> Result<Option<LeaderEvidence>, StoreError> {
        let local = self.log.end(statement.index).await?;
        let differs = local.is_some_and(|end| end.digest.is_some_and(|d| d != statement.digest));
        if !differs || statement.leader == self.node_id {
            return Ok(None);
        }
        let leadership = (statement.term, statement.leader);
        let linked = self.log.statement_from(statement.index, leadership).await?;
        let Some(linked) = linked else {
            return Ok(None);
        };
        let evidence = LeaderEvidence {
            first: *statement,
            second: linked.statement,
            base: linked.base,
            links: linked.links,
        };
        let leader = evidence.leader();
        let verify = |message: &[u8], signature: &[u8; 64]| {
            self.electorate.verify(leader, message, signature)
        };
        let checked = evidence.check(&self.electorate.chain_id(), verify);
        Ok(checked.is_ok().then_some(evidence))
    }

    /// The lowest disputed index of this node's log at which the voters are not known to be equal.
    async fn disputed(&self, archive: &dyn EvidenceArchive) -> Result<Option<u64>, StoreError> {
        let mut disputed = archive.disputed();
        disputed.sort_unstable();
        for index in disputed {
            let purged = self
                .log
                .purged()
                .is_some_and(|log_id| log_id.index >= index);
            let equal = self.state().equal.contains(&index);
            // What is purged is in an image, which is certified.
            if !purged && !equal && self.log.end(index).await?.is_some() {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    async fn decide(
        &self,
        index: u64,
        voters: &BTreeSet<NodeId>,
        held: &BTreeMap<NodeId, HeldDigests>,
    ) -> Result<(), StoreError> {
        let Some(local) = self.local_holding(index).await? else {
            return Ok(());
        };
        let excluded = voters.iter().copied();
        let excluded = excluded.filter(|node| self.electorate.is_excluded(*node));
        let voters = Voters {
            all: voters,
            excluded: &excluded.collect(),
            local: self.node_id,
        };
        match decide(&voters, &local, held) {
            LogVerdict::Equal => {
                self.state().equal.insert(index);
            }
            LogVerdict::Keep => {}
            LogVerdict::Drop { index } => {
                let reason = format!("other voters hold another entry {index}");
                if let Err(error) = self.recovery.diverge(&reason).await {
                    tracing::error!(%error, "this node's log is another than the others'");
                }
            }
        }
        Ok(())
    }

    /// This node's digests up to an index, if its log has it.
    async fn local_holding(&self, index: u64) -> Result<Option<HeldDigests>, StoreError> {
        let Some(last) = self.log.end(index).await?.and_then(|end| end.digest) else {
            return Ok(None);
        };
        let kept = self.state().local.clone();
        if let Some((kept_index, held)) = kept
            && kept_index == index
            && held.digests.last() == Some(&last)
        {
            return Ok(Some(held));
        }
        let start = index.saturating_sub(HOLDING_MAX as u64 - 1);
        let digests = self.log.digests(start, index).await?;
        let (Some((first, _)), Some((end, _))) = (digests.first(), digests.last()) else {
            return Ok(None);
        };
        if *end != index {
            return Ok(None);
        }
        let held = HeldDigests {
            first: *first,
            digests: digests.iter().map(|(_, digest)| *digest).collect(),
        };
        self.state().local = Some((index, held.clone()));
        Ok(Some(held))
    }

    fn check_holding(&self, node: NodeId, holding: LogHolding) -> Option<HeldDigests> {
        let LogHolding {
            first,
            digests,
            signature,
        } = holding;
        if digests.len() > HOLDING_MAX || first.checked_add(digests.len() as u64).is_none() {
            return None;
        }
        let message = LogHolding::message(&self.electorate.chain_id(), node, first, &digests);
        let valid = self.electorate.verify(node, &message, &signature.0);
        valid.then_some(HeldDigests { first, digests })
    }

    /// Answers another node.
    pub(crate) async fn answer(
        &self,
        request: ComparisonRequest,
    ) -> Result<ComparisonAnswer, StoreError> {
        let Some(archive) = self.electorate.evidence() else {
            return Ok(ComparisonAnswer::default());
        };
        let ComparisonRequest { evidence, disputed } = request;
        let known: BTreeSet<[u8; 32]> = evidence.into_iter().take(EVIDENCE_MAX).collect();
        let unknown = archive
            .hashes()
            .into_iter()
            .find(|hash| !known.contains(hash));
        // Only what evidence disputes is read: other indexes would be work for nothing.
        let disputed = disputed.filter(|index| archive.disputed().contains(index));
        let holding = match disputed {
            Some(index) => self.signed_holding(index).await?,
            None => None,
        };
        Ok(ComparisonAnswer {
            statements: self.log.newest_statements(),
            evidence: unknown.and_then(|hash| archive.read(&hash)),
            holding,
        })
    }

    async fn signed_holding(&self, index: u64) -> Result<Option<LogHolding>, StoreError> {
        let Some(held) = self.local_holding(index).await? else {
            return Ok(None);
        };
        let HeldDigests { first, digests } = held;
        let chain_id = self.electorate.chain_id();
        let message = LogHolding::message(&chain_id, self.node_id, first, &digests);
        let signature = SignatureBytes(self.electorate.sign(&message));
        Ok(Some(LogHolding {
            first,
            digests,
            signature,
        }))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, LogComparisonState> {
        self.state
            .lock()
            .expect("no code panics while it holds this lock")
    }
}
