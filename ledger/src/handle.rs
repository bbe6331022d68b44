use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lamplighter_consensus::{Metrics, ReadError};
use lamplighter_contracts::admission::{self, AdmissionError};
use lamplighter_state::{Overlay, StateError, View, tables};
use lamplighter_types::limits::TRANSACTION_BYTES_MAX;
use lamplighter_types::proof::ProofBundle;
use lamplighter_types::{
    Action, Block, Certificate, Genesis, Hash, Header, PublicKey, Receipt, SignedTransaction,
    TransactionError, ValidatorSet,
};
use tokio::sync::watch;

use crate::alarms::Noticed;
use crate::artifacts::Artifacts;
use crate::chain::{Halt, HeadInfo};
use crate::feed::{Cursor, CursorAhead, Filter, Subscription};
use crate::inner::Inner;
use crate::later::{self, Later};
use crate::machine;
use crate::membership::Membership;
use crate::message::{PeerAnswer, PeerNotice, PeerRequest};
use crate::pool::Busy;
use crate::progress::Progress;
use crate::prove::{self, ProveError, Subject};
use crate::snapshot::Installation;
use crate::space::DiskFull;
use crate::ticket::{Commitment, Ticket, Verdict};
use crate::{attest, own, serve, settle};

/// Heights below the newest certificate in which a validator's signature is looked for.
const CERTIFICATES_SEARCHED: u64 = 64;

/// Why a transaction was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error("not a transaction of this chain")]
    Invalid(#[source] TransactionError),
    #[error("the transaction can't be in a block")]
    Refused(#[source] AdmissionError),
    /// Nothing was done; the same bytes may be sent again.
    #[error("busy")]
    Busy(#[source] Busy),
    #[error("this node can't read its state")]
    State(#[from] StateError),
}

/// Waiting ended without what was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    #[error("the height {height} was not reached within {:.1} s", waited.as_secs_f64())]
    Deadline { height: u64, waited: Duration },
    #[error(
        "the block {height} is there, but was not certified within {:.1} s: fewer validators than \
         a certificate needs have signed it",
        waited.as_secs_f64()
    )]
    Uncertified { height: u64, waited: Duration },
    #[error(
        "no leader confirmed within {waited:.1?} what is newest, or this node did not catch up"
    )]
    Unconfirmed { waited: Duration },
    #[error("the node is stopping")]
    Stopped,
}

/// Where the node stands.
#[derive(Clone, Debug)]
pub struct Status {
    pub node: u64,
    pub head: HeadInfo,
    pub certified_height: u64,
    /// Transactions waiting for their block.
    pub pending: usize,
    pub consensus: Metrics,
    /// Node ids.
    pub connected: Vec<u64>,
    pub alarms: Vec<Noticed>,
    pub halted: Option<Halt>,
    /// Why it is read-only, if so.
    pub disk_full: Option<DiskFull>,
    /// Why others may not take this node for who it says it is: its key is in use elsewhere, or
    /// validators refuse it.
    pub identity_trouble: Option<String>,
    /// How far this node is behind the others, looked at every second.
    pub progress: Progress,
    /// An image that is being installed; `consensus.incoming` is the one that is coming in.
    pub installing: Option<Installation>,
}

/// The ledger, for the edges and the node. Clones share it.
#[derive(Clone)]
pub struct Handle(pub(crate) Arc<Inner>);

impl Handle {
    pub fn chain_id(&self) -> Hash {
        self.0.chain.chain_id()
    }

    pub fn genesis(&self) -> &Genesis {
        self.0.chain.genesis()
    }

    /// Takes a transaction from outside; its verdict follows by the ticket.
    pub async fn submit(&self, signed: SignedTransaction) -> Result<Ticket, SubmitError> {
        submit(&self.0, signed).await
    }

    /// Submits an action in the name of the node's own account.
    pub async fn submit_own(&self, action: Action) -> Result<Ticket, SubmitError> {
        own::submit(&self.0, action).await
    }

    /// A consistent view of the newest state, and the height it is of.
    pub fn view(&self) -> Result<(View, HeadInfo), StateError> {
        let head = self.0.chain.read_head();
        let view = self.0.chain.lasting_view()?;
        let Header {
            height,
            timestamp_ms,
            ..
        } = head.header;
        Ok((
            view,
            HeadInfo {
                height,
                hash: head.hash,
                timestamp_ms,
            },
        ))
    }

    pub fn head(&self) -> HeadInfo {
        self.0.chain.head()
    }

    pub fn watch_head(&self) -> watch::Receiver<HeadInfo> {
        self.0.chain.watch_head()
    }

    pub fn watch_certified(&self) -> watch::Receiver<u64> {
        self.0.chain.watch_certified()
    }

    /// Validators and observers, and their changes.
    pub fn watch_membership(&self) -> watch::Receiver<Membership> {
        self.0.chain.watch_membership()
    }

    /// Validators of a height that this node's chain has not reached, once others have proven them
    /// or [`introduce`](Self::introduce) has named them.
    pub fn watch_later(&self) -> watch::Receiver<Option<Later>> {
        self.0.later.subscribe()
    }

    /// Whom to ask first on a node that joins. This says who may connect, not what is true.
    pub fn introduce(&self, later: Later) {
        later::take(&self.0, later);
    }

    /// How far this node is behind the others.
    pub fn watch_progress(&self) -> watch::Receiver<Progress> {
        self.0.progress.subscribe()
    }

    pub fn certified_height(&self) -> u64 {
        self.0.chain.certified_height()
    }

    /// Waits until this node has applied `height`.
    pub async fn wait_height(&self, height: u64, within: Duration) -> Result<(), WaitError> {
        let mut head = self.watch_head();
        wait(head.wait_for(|head| head.height >= height), height, within).await
    }

    /// Waits until this node has applied everything that was committed before the call, as the
    /// leader of this moment confirms (Raft thesis 6.4): a view taken then is linearizable.
    pub async fn wait_current(&self, within: Duration) -> Result<(), WaitError> {
        match self.0.consensus().read_index(within).await {
            Ok(_) => Ok(()),
            Err(ReadError::Deadline(waited)) => Err(WaitError::Unconfirmed { waited }),
            Err(ReadError::Stopped) => Err(WaitError::Stopped),
        }
    }

    /// Waits until a certificate covers `height`.
    pub async fn wait_certified(&self, height: u64, within: Duration) -> Result<(), WaitError> {
        let mut certified = self.watch_certified();
        let reached = certified.wait_for(|certified| *certified >= height);
        match wait(reached, height, within).await {
            Err(WaitError::Deadline { height, waited }) if self.head().height >= height => {
                Err(WaitError::Uncertified { height, waited })
            }
            result => result,
        }
    }

    pub fn header(&self, height: u64) -> Result<Option<Header>, StateError> {
        tables::header(&*self.0.chain.store(), height)
    }

    pub fn block(&self, height: u64) -> Result<Option<Block>, StateError> {
        tables::block(&*self.0.chain.store(), height)
    }

    pub fn receipts(&self, height: u64) -> Result<Vec<Receipt>, StateError> {
        tables::receipts(&*self.0.chain.store(), height)
    }

    pub fn certificate(&self, height: u64) -> Result<Option<Certificate>, StateError> {
        tables::certificate(&*self.0.chain.store(), height)
    }

    /// The highest header that this node noted as signed.
    pub fn last_signed(&self) -> Result<Option<u64>, StateError> {
        let last = tables::last_attested(&*self.0.chain.store())?;
        Ok(last.map(|(height, _)| height))
    }

    /// The highest of the newest certificates that has a signature of this key. Not every
    /// certificate has one of each validator, so some are searched.
    pub fn newest_signed_by(&self, key: &PublicKey) -> Result<Option<u64>, StateError> {
        let newest = self.certified_height();
        for height in (newest.saturating_sub(CERTIFICATES_SEARCHED)..=newest).rev() {
            let certificate = self.certificate(height)?;
            if certificate.is_some_and(|c| c.signatures.iter().any(|s| s.key == *key)) {
                return Ok(Some(height));
            }
        }
        Ok(None)
    }

    /// Where a transaction is in the chain, and its receipt.
    pub fn transaction(&self, hash: &Hash) -> Result<Option<Commitment>, StateError> {
        machine::commitment(&self.0.chain, hash)
    }

    /// The set that certifies the header of `height`.
    pub fn validators_at(&self, height: u64) -> Result<Arc<ValidatorSet>, StateError> {
        self.0.chain.validators_at(height)
    }

    /// Every notification after a cursor, for the node itself; only those to come when it is
    /// `None`.
    pub fn subscribe(&self, after: Option<Cursor>) -> Subscription {
        self.0.feeds.own(after)
    }

    /// What a reader from outside wants of the notifications after a cursor; of those to come when
    /// it is `None`. All such readers together take a bounded share of the machine.
    ///
    /// # Errors
    /// The cursor is further ahead than any node can be.
    pub fn follow(
        &self,
        after: Option<Cursor>,
        filter: Filter,
    ) -> Result<Subscription, CursorAhead> {
        let told = self.0.told_height.load(Ordering::Relaxed);
        self.0.feeds.outside(after, filter, told)
    }

    /// Does a long read of the store for somebody outside, off the async threads. All such reads
    /// and those that [`follow`](Self::follow) together take a bounded share of the machine.
    pub async fn read_in_turn<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        self.0.feeds.read_in_turn(read).await
    }

    /// A proof of one record under a certificate, made when the record is certified.
    pub async fn prove(
        &self,
        subject: Subject,
        within: Duration,
    ) -> Result<ProofBundle, ProveError> {
        prove::prove(self, subject, within).await
    }

    /// Proofs of what the state has under several keys at one height.
    pub async fn prove_states(
        &self,
        keys: &[Vec<u8>],
        within: Duration,
    ) -> Result<Vec<ProofBundle>, ProveError> {
        prove::prove_states(self, keys, within).await
    }

    pub fn artifacts(&self) -> &Artifacts {
        &self.0.artifacts
    }

    pub fn status(&self) -> Status {
        let inner = &self.0;
        Status {
            node: inner.config.node,
            head: self.head(),
            certified_height: self.certified_height(),
            pending: inner.pool.len(),
            consensus: inner.consensus().metrics(),
            connected: inner.peers.connected(),
            alarms: inner.alarms.list(),
            halted: inner.chain.halted().cloned(),
            disk_full: inner.alarms.space.full(),
            identity_trouble: inner.identity_trouble.borrow().clone(),
            progress: *inner.progress.borrow(),
            installing: *inner.installation.borrow(),
        }
    }

    /// Notes why others may not take this node for who it says it is, for its operator. It changes
    /// nothing of what the node does.
    pub fn set_identity_trouble(&self, why: Option<String>) {
        self.0.identity_trouble.send_replace(why);
    }

    /// Makes the ledger take no transactions while the disk is too full, or again when it is not.
    pub fn set_disk_full(&self, full: Option<DiskFull>) {
        self.0.alarms.space.set(full, self.0.clock.now_ms());
    }

    /// Whether it takes none.
    pub fn disk_full(&self) -> Option<DiskFull> {
        self.0.alarms.space.full()
    }

    /// Answers another node. `from` is its proven id.
    pub async fn serve(&self, from: u64, request: PeerRequest) -> Result<PeerAnswer, StateError> {
        serve::answer(&self.0, from, request).await
    }

    /// Takes what another node tells.
    pub fn take_notice(&self, notice: PeerNotice) -> Result<(), StateError> {
        if let Some(certified) = &notice.certified {
            let told = certified.header.height;
            self.0.told_height.fetch_max(told, Ordering::Relaxed);
        }
        attest::take_notice(&self.0, notice)
    }
}

async fn wait<T, E>(
    reached: impl Future<Output = Result<T, E>>,
    height: u64,
    within: Duration,
) -> Result<(), WaitError> {
    match tokio::time::timeout(within, reached).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(WaitError::Stopped),
        Err(_) => Err(WaitError::Deadline {
            height,
            waited: within,
        }),
    }
}

/// The way in. The same bytes sent again get the same answer.
pub(crate) async fn submit(
    inner: &Arc<Inner>,
    signed: SignedTransaction,
) -> Result<Ticket, SubmitError> {
    if inner.alarms.space.full().is_some() {
        return Err(SubmitError::Busy(Busy::ReadOnly));
    }
    let got = signed.payload.0.len();
    if got > TRANSACTION_BYTES_MAX {
        return Err(SubmitError::Invalid(TransactionError::TooLong { got }));
    }
    let answer = inner
        .verifier
        .verify(signed)
        .await
        .map_err(SubmitError::Busy)?;
    let verified = Arc::new(answer.map_err(SubmitError::Invalid)?);
    let hash = verified.hash();
    if let Some(joined) = inner.pool.join(&hash) {
        return joined.map_err(SubmitError::Busy);
    }
    let HeadInfo {
        height,
        timestamp_ms: time_ms,
        ..
    } = inner.chain.head();
    let overlay = Overlay::new(inner.chain.newest_view());
    if let Err(refusal) = admission::admit(&overlay, &verified, time_ms)? {
        // Refused because it has happened already: then its receipt is the answer.
        return match machine::commitment(&inner.chain, &hash)? {
            Some(commitment) => Ok(Ticket::known(hash, Verdict::Committed(commitment))),
            None => Err(SubmitError::Refused(refusal)),
        };
    }
    let ticket = inner.pool.insert(verified.clone());
    let ticket = ticket.map_err(SubmitError::Busy)?;
    // A block that came between looked at the pool without it.
    if inner.chain.head().height != height {
        settle::one(&inner.chain, &inner.pool, &verified)?;
    }
    Ok(ticket)
}
