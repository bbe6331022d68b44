//! The comparison of logs between voters.
//!
//! Once a second each node asks the other voters for what the last leaderships signed about their
//! logs, and compares each statement with its own log. A leader that sent two contents signed both,
//! so it is found as soon as two nodes with different ones have talked. The work is bounded: one
//! request to each voter, a few signatures, and reads of the log only for a statement that a leader
//! really signed and that does not fit.
//!
//! As soon as a voter is a proven liar, nodes also ask each other what they hold, from the last
//! index on up to which enough of them held the same, and decide by `divergence` whose log goes.
//!
//! # Two honest nodes that differ end with a proof
//!
//! Two logs of honest nodes that differ under one log id differ under the last log id that they
//! share, too. Both nodes have its author's signature for what they hold there, and one of them
//! shows it in each answer (`log::received` has the argument): the other one has the evidence. So
//! it is of no importance which statements are the newest, and what later leaders added. What is
//! not in a log any more is in one of these places: a log that was dropped left its statements
//! (`dropped`), which are compared with the log that took its place; what was purged is in an
//! image, so it is certified, and its certificate contradicts the other node. An author whose key a
//! node did not know is one of long ago: its entries are certified, too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use lamplighter_store::StoreError;
use tokio::sync::{Notify, watch};

use crate::NodeId;
use crate::control_client::ControlClient;
use crate::divergence::{
    HOLDING_MAX, HeldDigests, LogHolding, LogVerdict, Voters, decide, refusals,
};
use crate::dropped::{DeadContents, LogContent};
use crate::election::{Elections, SignatureBytes};
use crate::electorate::Electorate;
use crate::evidence::{EVIDENCE_BYTES_MAX, EVIDENCE_MAX, EvidenceArchive, LeaderEvidence};
use crate::log::{LogDigest, LogStore};
use crate::message::{ComparisonAnswer, ComparisonRequest};
use crate::recovery::Recovery;
use crate::statement::LeaderStatement;

/// Time between two comparisons.
const COMPARE_EVERY: Duration = Duration::from_secs(1);
/// Time between two comparisons while logs are known to differ.
const SEARCH_EVERY: Duration = Duration::from_millis(200);
/// Comparisons in a row that come so soon.
const SEARCHES_MAX: u32 = 50;
/// Statements in one answer: the ends and the newest of the last leaderships, and as many of a
/// dropped log.
const STATEMENTS_MAX: usize = 64;
/// Indexes without a gap that a node asks about.
const DENSE: u64 = 256;
/// Indexes behind them: a difference far behind is found in a few comparisons, each of which makes
/// the distance smaller by this factor.
const SPARSE: u64 = 16;

/// Compares this node's log with those of the other voters.
pub(crate) struct LogComparison {
    pub node_id: NodeId,
    pub log: LogStore,
    pub electorate: Arc<dyn Electorate>,
    pub peers: ControlClient,
    pub recovery: Arc<Recovery>,
    /// The end up to which enough voters held the same that this node's log can't be dead there.
    common: Mutex<Option<LogContent>>,
    /// The first index at which another voter's log is known to differ from this node's.
    differs_at: watch::Sender<Option<u64>>,
    /// The nodes of which others said that they have evidence: the first time it is asked for at
    /// once.
    announced: Mutex<BTreeSet<NodeId>>,
    accused: Notify,
    /// Where other voters' logs are said to differ from each other, beyond this node's.
    splits: Mutex<BTreeSet<u64>>,
    /// Held from the check of an append to openraft's answer, and while this node refuses a content
    /// that must not get into its log meanwhile.
    pub turn: tokio::sync::Mutex<()>,
    /// Held while the log is read for another node: one of them at a time.
    reading: tokio::sync::Mutex<()>,
}

/// What this node asks about: its own digests, which have no gap up to `dense`.
#[derive(Default)]
struct LocalDigests {
    digests: BTreeMap<u64, LogDigest>,
    dense: u64,
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
            common: Mutex::default(),
            differs_at: watch::Sender::new(None),
            announced: Mutex::default(),
            accused: Notify::new(),
            splits: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            reading: tokio::sync::Mutex::default(),
        }
    }

    /// Compares until this node stops.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut searched = 0;
        while let Some(archive) = self.electorate.evidence() {
            let searches = self.compare(&*archive).await.unwrap_or_else(|error| {
                tracing::error!(%error, "the log can't be compared with those of other nodes");
                false
            });
            self.recovery.allow_elections();
            searched = if searches { searched + 1 } else { 0 };
            tokio::time::sleep(SEARCH_EVERY).await;
            if !(1..=SEARCHES_MAX).contains(&searched) {
                // Or earlier, if another node has evidence.
                let pause = COMPARE_EVERY - SEARCH_EVERY;
                let _ = tokio::time::timeout(pause, self.accused.notified()).await;
            }
        }
    }

    /// The first index at which another voter's log is known to differ from this node's.
    pub(crate) fn differs_at(&self) -> Option<u64> {
        *self.differs_at.borrow()
    }

    fn voters(&self) -> BTreeSet<NodeId> {
        self.electorate
            .electors()
            .into_iter()
            .next()
            .unwrap_or_default()
    }

    fn excluded(&self, voters: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
        let excluded = |node: &NodeId| self.electorate.is_excluded(*node);
        voters.iter().copied().filter(excluded).collect()
    }

    /// Compares once; returns whether logs are known to differ.
    async fn compare(&self, archive: &dyn EvidenceArchive) -> Result<bool, StoreError> {
        let voters = self.voters();
        let accused = archive.accused();
        let local = match self.excluded(&voters).is_empty() {
            true => LocalDigests::default(),
            false => self.local_digests().await?,
        };
        let request = ComparisonRequest {
            accused: accused.clone(),
            indexes: self.asked(&local).into_iter().collect(),
        };
        let others = voters.iter().copied().filter(|node| *node != self.node_id);
        let asked = others.map(|node| {
            let answer = self.peers.compare(node, request.clone());
            async move { (node, answer.await) }
        });
        let (mut held, mut splits) = (BTreeMap::new(), BTreeSet::new());
        for (node, answer) in join_all(asked).await {
            let Some(answer) = answer else {
                continue;
            };
            if !self.electorate.is_excluded(node) {
                splits.extend(answer.differs_at);
            }
            let holding = self.receive(archive, node, answer).await?;
            held.extend(holding.map(|holding| (node, holding)));
        }
        for statement in &self.log.dropped().statements {
            if let Some(evidence) = self.contradiction(statement).await? {
                archive.add_found(&evidence);
            }
        }
        let searches = self.decide(&voters, &local, &held).await?;
        let refuses = !searches && self.refuse(&voters, &held, splits).await?;
        Ok(searches || refuses || archive.accused() != accused)
    }

    /// The indexes that this node asks about: those of its log, and each split beyond it with the
    /// entry before.
    fn asked(&self, local: &LocalDigests) -> BTreeSet<u64> {
        let splits = self.splits().clone();
        let beyond = splits
            .iter()
            .flat_map(|index| [index.saturating_sub(1), *index]);
        local.digests.keys().copied().chain(beyond).collect()
    }

    /// Refuses what this node does not hold, if it was asked about; returns whether there are
    /// splits to ask about.
    async fn refuse(
        &self,
        voters: &BTreeSet<NodeId>,
        held: &BTreeMap<NodeId, HeldDigests>,
        splits: BTreeSet<u64>,
    ) -> Result<bool, StoreError> {
        let _turn = self.turn.lock().await;
        let last = self.log.last().max(self.log.purged());
        let end = match last {
            Some(last) => self.log.end(last.index).await?,
            None => None,
        };
        let end = end.and_then(|end| {
            let (index, digest) = (end.log_id.index, end.digest?);
            Some(LogContent { index, digest })
        });
        let beyond = |index: &u64| last.is_none_or(|last| last.index < *index);
        let excluded = self.excluded(voters);
        let voters = Voters {
            all: voters,
            excluded: &excluded,
            local: self.node_id,
        };
        let known = end.is_some() || last.is_none();
        for index in splits.iter().filter(|index| known && beyond(index)) {
            if let Some(dead) = refusals(&voters, end, held, *index) {
                self.recovery.refuse(&dead).await?;
            }
        }
        let splits: BTreeSet<u64> = splits.into_iter().filter(beyond).collect();
        let is_split = !splits.is_empty();
        *self.splits() = splits;
        Ok(is_split)
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
            differs_at: _,
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

    /// The evidence that a statement makes together with one about this node's log. None of a node
    /// that is proven to lie already.
    ///
    /// Nothing is evidence but two signatures of one leader in one term, and a chain of digests
    /// between them that only both logs explain. So a replay, a statement about entries that a
    /// later leader replaced, or another node's lie about what it received accuses no node.
    async fn contradiction(
        &self,
        statement: &LeaderStatement,
    ) -> Result<Option<LeaderEvidence>, StoreError> {
        let leader = statement.leader;
        if leader == self.node_id || self.electorate.is_excluded(leader) {
            return Ok(None);
        }
        let local = self.log.end(statement.index).await?;
        let differs = local.is_some_and(|end| end.digest.is_some_and(|d| d != statement.digest));
        if !differs {
            return Ok(None);
        }
        let leadership = (statement.term, leader);
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
        let verify = |message: &[u8], signature: &[u8; 64]| {
            self.electorate.verify(leader, message, signature)
        };
        let checked = evidence.check(&self.electorate.chain_id(), verify);
        Ok(checked.is_ok().then_some(evidence))
    }

    /// The end up to which this node's log is not asked about: where enough held the same, or the
    /// last purged entry. What is purged is in an image, which is certified.
    async fn common(&self) -> Result<Option<u64>, StoreError> {
        let common = *self.lock();
        let common = match common {
            Some(common) => self.log.end(common.index).await?.and_then(|end| {
                let same = end.digest == Some(common.digest);
                same.then_some(common.index)
            }),
            None => None,
        };
        Ok(common.max(self.log.purged().map(|log_id| log_id.index)))
    }

    /// The digests that this node asks about.
    async fn local_digests(&self) -> Result<LocalDigests, StoreError> {
        let first = self.common().await?.map_or(0, |common| common + 1);
        let last = match self.log.last() {
            Some(last) if last.index >= first => last.index,
            _ => return Ok(LocalDigests::default()),
        };
        let dense = last.min(first + DENSE - 1);
        let digests = self.log.digests(first, dense).await?;
        let mut digests: BTreeMap<u64, LogDigest> = digests.into_iter().collect();
        for part in 1..=SPARSE {
            let index = dense + (last - dense) * part / SPARSE;
            if let Some(digest) = self.log.end(index).await?.and_then(|end| end.digest) {
                digests.insert(index, digest);
            }
        }
        Ok(LocalDigests { digests, dense })
    }

    /// Decides by the holdings of others; returns whether logs are known to differ.
    async fn decide(
        &self,
        voters: &BTreeSet<NodeId>,
        local: &LocalDigests,
        held: &BTreeMap<NodeId, HeldDigests>,
    ) -> Result<bool, StoreError> {
        let voters = Voters {
            all: voters,
            excluded: &self.excluded(voters),
            local: self.node_id,
        };
        let verdict = decide(&voters, &local.digests, local.dense, held);
        let differs_at = match verdict {
            LogVerdict::Keep { index } | LogVerdict::Drop { index, .. } => Some(index),
            LogVerdict::Equal { .. } => None,
        };
        self.differs_at.send_replace(differs_at);
        match verdict {
            LogVerdict::Equal { upto, differs } => {
                let common = upto.and_then(|index| {
                    let digest = *local.digests.get(&index)?;
                    Some(LogContent { index, digest })
                });
                if common.is_some() {
                    *self.lock() = common;
                }
                Ok(differs)
            }
            LogVerdict::Keep { .. } => Ok(true),
            LogVerdict::Drop { index, replaced } => {
                if let Some(digest) = local.digests.get(&index).copied() {
                    let held = LogContent { index, digest };
                    self.drop_content(held, &replaced).await?;
                }
                Ok(true)
            }
        }
    }

    /// Drops this node's log, which has a content that is replaced, if what is there may not be
    /// replaced as usual: it is applied, or a proven liar made it. How logs of honest leaders end
    /// differently is openraft's business. It may have replaced the content while the others
    /// answered: what is there now was not judged.
    async fn drop_content(
        &self,
        held: LogContent,
        replaced: &BTreeSet<LogDigest>,
    ) -> Result<(), StoreError> {
        let index = held.index;
        let end = self.log.end(index).await?;
        if end.is_none_or(|end| end.digest != Some(held.digest)) {
            return Ok(());
        }
        let by_liar = end.is_some_and(|end| {
            let author = end.log_id.leader_id.node_id;
            self.electorate.is_excluded(author)
        });
        if !by_liar && self.recovery.applied() < index {
            return Ok(());
        }
        let reason = format!("other voters hold another entry {index}");
        let dead = DeadContents {
            index,
            digests: replaced.clone(),
        };
        if let Err(error) = self.recovery.diverge(&reason, Some(&dead)).await {
            tracing::error!(%error, "this node's log is another than the others'");
        }
        Ok(())
    }

    fn check_holding(&self, node: NodeId, holding: LogHolding) -> Option<HeldDigests> {
        if !holding.is_bounded() {
            return None;
        }
        let chain_id = self.electorate.chain_id();
        let message = LogHolding::message(&chain_id, node, &holding.held, &holding.dropped);
        let valid = self.electorate.verify(node, &message, &holding.signature.0);
        valid.then(|| holding.into())
    }

    /// Answers another node.
    pub(crate) async fn answer(
        &self,
        request: ComparisonRequest,
    ) -> Result<ComparisonAnswer, StoreError> {
        let Some(archive) = self.electorate.evidence() else {
            return Ok(ComparisonAnswer::default());
        };
        let ComparisonRequest { accused, indexes } = request;
        self.announce(&accused);
        let known: BTreeSet<NodeId> = accused.into_iter().take(EVIDENCE_MAX).collect();
        let mut unknown = archive.accused().into_iter();
        let unknown = unknown.find(|accused| !known.contains(accused));
        // Without a proven liar there is nothing to decide, and to read.
        let holding = match self.excluded(&self.voters()).is_empty() {
            true => None,
            false => Some(self.signed_holding(indexes).await?),
        };
        let mut statements = self.log.newest_statements();
        statements.extend(self.log.dropped().statements.iter().rev());
        statements.truncate(STATEMENTS_MAX);
        Ok(ComparisonAnswer {
            statements,
            evidence: unknown.and_then(|accused| archive.read(accused)),
            holding,
            differs_at: self.differs_at(),
        })
    }

    /// What this node holds at some indexes, once it is durable: it must not hold another content
    /// there after a crash.
    async fn signed_holding(&self, indexes: Vec<u64>) -> Result<LogHolding, StoreError> {
        let _reading = self.reading.lock().await;
        let indexes: BTreeSet<u64> = indexes.into_iter().take(HOLDING_MAX).collect();
        let held = self.log.held(&indexes).await?;
        if let Err(error) = self.log.all_durable().await {
            return Err(StoreError::Failed {
                what: error.to_string(),
            });
        }
        let dropped = self.log.dropped().dead.clone();
        let chain_id = self.electorate.chain_id();
        let message = LogHolding::message(&chain_id, self.node_id, &held, &dropped);
        let signature = SignatureBytes(self.electorate.sign(&message));
        Ok(LogHolding {
            held,
            dropped,
            signature,
        })
    }

    /// Asks for evidence at once, the first time that another node says to have it.
    fn announce(&self, accused: &[NodeId]) {
        let voters = self.voters();
        let accused = accused.iter().take(EVIDENCE_MAX).copied();
        let accused = accused.filter(|node| voters.contains(node));
        let mut announced = self
            .announced
            .lock()
            .expect("no code panics with this lock");
        let known = announced.len();
        announced.extend(accused);
        if announced.len() > known {
            self.accused.notify_one();
        }
    }

    fn splits(&self) -> std::sync::MutexGuard<'_, BTreeSet<u64>> {
        self.splits
            .lock()
            .expect("no code panics while it holds this lock")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<LogContent>> {
        self.common
            .lock()
            .expect("no code panics while it holds this lock")
    }
}
