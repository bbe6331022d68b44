use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lamplighter_consensus::{Consensus, Metrics, ReadError};
use lamplighter_contracts::governance;
use lamplighter_state::{StateError, View, tables};
use lamplighter_types::proof::{ProofBundle, SetPath};
use lamplighter_types::wire::ArchivePage;
use lamplighter_types::{
    Action, Block, Certificate, Genesis, Hash, Header, Id, Protocol, PublicKey, Receipt,
    SignedTransaction, ValidatorSet,
};
use tokio::sync::watch;

use crate::alarms::{Alarms, DiskFull, RaisedAlarm};
use crate::apply::snapshot::Installation;
use crate::artifacts::Artifacts;
use crate::blocking::Blocking;
use crate::certify::certifier::Certifier;
use crate::chain::{Chain, Commitment, Halt, HeadInfo};
use crate::clock_comparison::{ClockComparison, ClockStanding};
use crate::evidence::EvidenceStore;
use crate::membership::Membership;
use crate::message::{PeerAnswer, PeerGossip, PeerRequest, Peers};
use crate::order::leader_contact::LeaderContact;
use crate::peers::progress::Progress;
use crate::peers::server::PeerServer;
use crate::peers::validator_discovery::{AnnouncedValidators, ValidatorAnnouncements};
use crate::read::archive;
use crate::read::feed::{Cursor, CursorAhead, Feed, NotificationFilter, Subscription};
use crate::read::prove::{self, ProveError, Subject};
use crate::read::wait::{self, WaitError};
use crate::submit::admission::{Admission, SubmitError};
use crate::submit::mempool::{Busy, Mempool, Ticket};
use crate::submit::node_account::NodeAccount;

/// Certificates, from the newest on, that are searched for a validator's signature.
const CERTIFICATES_SEARCHED: usize = 64;

/// The state of the node.
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
    pub alarms: Vec<RaisedAlarm>,
    /// This node's clock among those of the validators.
    pub clock: ClockStanding,
    pub halted: Option<Halt>,
    /// The reason why no transaction that the node takes gets into a block.
    pub cut_off: Option<Busy>,
    /// The shortage of space that makes the node read-only.
    pub disk_full: Option<DiskFull>,
    /// The reason why other nodes may refuse this node's identity: its key is in use elsewhere, or
    /// validators refuse it.
    pub identity_trouble: Option<String>,
    /// The progress towards what the others have, measured every second.
    pub progress: Progress,
    /// An image that is being installed; `consensus.incoming` is the one that is being received.
    pub installing: Option<Installation>,
}

/// The parts of a ledger that its handle reaches, by stage.
pub(crate) struct Stages {
    pub node: u64,
    pub chain: Arc<Chain>,
    pub alarms: Arc<Alarms>,
    pub evidence: Arc<EvidenceStore>,
    pub blocking: Blocking,
    pub clocks: Arc<ClockComparison>,
    // Submit.
    pub mempool: Arc<Mempool>,
    pub admission: Arc<Admission>,
    pub node_account: Arc<NodeAccount>,
    // Order. Set when the ledger starts.
    pub consensus: Arc<OnceLock<Consensus>>,
    pub leader_contact: Arc<LeaderContact>,
    // Apply. Sent by the state machine.
    pub installation: watch::Receiver<Option<Installation>>,
    // Certify and read.
    pub certifier: Arc<Certifier>,
    pub feed: Feed,
    pub artifacts: Artifacts,
    // Peers. The progress is sent by its monitor, the trouble by the node's network.
    pub peers: Arc<dyn Peers>,
    pub peer_server: PeerServer,
    pub announcements: Arc<ValidatorAnnouncements>,
    pub progress: watch::Sender<Progress>,
    pub identity_trouble: watch::Sender<Option<String>>,
}

/// The ledger as the edges and the node use it. Clones share it.
#[derive(Clone)]
pub struct Handle(pub(crate) Arc<Stages>);

impl Handle {
    pub fn chain_id(&self) -> Hash {
        self.0.chain.chain_id()
    }

    pub fn genesis(&self) -> &Genesis {
        self.0.chain.genesis()
    }

    /// Submits a client's transaction; the ticket gives its verdict.
    pub async fn submit(&self, signed: SignedTransaction) -> Result<Ticket, SubmitError> {
        self.0.admission.submit(signed).await
    }

    /// The reason why this node takes no new transactions though it has room: it has known no
    /// leader for long, or halted.
    pub fn cut_off(&self) -> Option<Busy> {
        self.0.admission.cut_off()
    }

    /// Submits an action that this node's account signs.
    pub async fn submit_as_node(&self, action: Action) -> Result<Ticket, SubmitError> {
        self.0.node_account.submit(action).await
    }

    /// A consistent view of the newest state, and its block. It waits for no block that is being
    /// written.
    pub fn view(&self) -> Result<(View, HeadInfo), StateError> {
        self.0.chain.newest_view()
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

    /// Validators of a height that this node's chain has not reached, proven by peers or named by
    /// [`add_bootstrap_validators`](Self::add_bootstrap_validators).
    pub fn watch_announced_validators(&self) -> watch::Receiver<Option<AnnouncedValidators>> {
        self.0.announcements.watch()
    }

    /// Names the first nodes to ask on a node that joins. It only decides which nodes may connect.
    pub fn add_bootstrap_validators(&self, validators: AnnouncedValidators) {
        self.0.announcements.add(validators);
    }

    /// The progress of this node towards what the others have.
    pub fn watch_progress(&self) -> watch::Receiver<Progress> {
        self.0.progress.subscribe()
    }

    pub fn certified_height(&self) -> u64 {
        self.0.chain.certified_height()
    }

    /// Waits until this node has applied `height`.
    pub async fn wait_height(&self, height: u64, within: Duration) -> Result<(), WaitError> {
        wait::wait_height(&self.0.chain, height, within).await
    }

    /// Waits until this node has applied everything that was committed before the call, as the
    /// leader of this moment confirms (Raft thesis 6.4): a view taken then is linearizable.
    pub async fn wait_current(&self, within: Duration) -> Result<(), WaitError> {
        match self.consensus().read_index(within).await {
            Ok(_) => Ok(()),
            Err(ReadError::Deadline(waited)) => Err(WaitError::Unconfirmed { waited }),
            Err(ReadError::Stopped) => Err(WaitError::Stopped),
        }
    }

    /// Announces to the validators that a caller will wait for a certificate of a block to come:
    /// they sign the headers of the next second without delay.
    pub fn hasten_certificates(&self) {
        self.0.certifier.demands().record_local();
    }

    /// Waits until a certificate covers `height`.
    pub async fn wait_certified(&self, height: u64, within: Duration) -> Result<(), WaitError> {
        if self.certified_height() < height {
            self.hasten_certificates();
        }
        wait::wait_certified(&self.0.chain, height, within).await
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

    /// A page of the certified blocks from a height on, and the height of the last one.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn archive_page(&self, from: u64) -> Result<(ArchivePage, u64), StateError> {
        archive::page(&self.0.chain, from)
    }

    /// The highest header that this node recorded as signed.
    pub fn last_signed(&self) -> Result<Option<u64>, StateError> {
        let last = tables::last_attested(&*self.0.chain.store())?;
        Ok(last.map(|(height, _)| height))
    }

    /// The highest of the newest certificates with a signature of this key. Not every certificate
    /// has one of each validator, so several are searched.
    pub fn newest_signed_by(&self, key: &PublicKey) -> Result<Option<u64>, StateError> {
        let store = &*self.0.chain.store();
        let newest = tables::certificates_up_to(store, self.certified_height())?;
        for certificate in newest.take(CERTIFICATES_SEARCHED) {
            let (height, certificate) = certificate?;
            if certificate.signatures.iter().any(|s| s.key == *key) {
                return Ok(Some(height));
            }
        }
        Ok(None)
    }

    /// The place and receipt of a transaction that is in the chain.
    pub fn transaction(&self, hash: &Hash) -> Result<Option<Commitment>, StateError> {
        self.0.chain.commitment(hash)
    }

    /// The set that certifies the header of `height`.
    pub fn validators_at(&self, height: u64) -> Result<Arc<ValidatorSet>, StateError> {
        self.0.chain.validators_at(height)
    }

    /// A subscription of the node itself to every notification after a cursor; only to those to
    /// come when it is `None`.
    pub fn subscribe(&self, after: Option<Cursor>) -> Subscription {
        self.0.feed.subscribe(after)
    }

    /// A subscription of an outside reader to the matching notifications after a cursor; to those
    /// to come when it is `None`. All outside readers together take a bounded share of the machine.
    ///
    /// # Errors
    /// The cursor is further ahead than any node can be.
    pub fn follow(
        &self,
        after: Option<Cursor>,
        filter: NotificationFilter,
    ) -> Result<Subscription, CursorAhead> {
        let peer_height = self.0.certifier.peer_certified_height();
        self.0.feed.follow(after, filter, peer_height)
    }

    /// Does a long read of the store for an account, or for an outside reader without one, off the
    /// async threads. All such reads and the readers that [`follow`](Self::follow) together take a
    /// bounded share of the machine, and accounts take turns.
    pub async fn read_in_turn<T: Send + 'static>(
        &self,
        account: Option<&Id>,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        self.0.feed.read_in_turn(account, read).await
    }

    /// Does a short read, of one record or page, as [`read_in_turn`](Self::read_in_turn) does long
    /// ones, and apart from them.
    pub async fn read_page<T: Send + 'static>(
        &self,
        account: Option<&Id>,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        self.0.feed.read_page(account, read).await
    }

    /// A proof of one record under a certificate, made when the record is certified, for a verifier
    /// with the validators of the height `trusted`; 0 for those of the genesis file.
    pub async fn prove(
        &self,
        subject: Subject,
        trusted: u64,
        within: Duration,
    ) -> Result<ProofBundle, ProveError> {
        let Stages {
            chain, blocking, ..
        } = &*self.0;
        prove::prove(chain, *blocking, subject, trusted, within).await
    }

    /// Proofs of the values under several keys of the state at one height, with the newest changes
    /// of the validators, at most `changes`: for verifiers that keep those they have seen.
    pub async fn prove_states(
        &self,
        keys: Vec<Vec<u8>>,
        changes: usize,
        within: Duration,
    ) -> Result<Vec<ProofBundle>, ProveError> {
        let Stages {
            chain, blocking, ..
        } = &*self.0;
        prove::prove_states(chain, *blocking, keys, changes, within).await
    }

    /// Changes that lead a verifier on from the validators of the height `trusted`.
    pub async fn set_path(&self, trusted: u64) -> Result<SetPath, ProveError> {
        let Stages {
            chain, blocking, ..
        } = &*self.0;
        prove::set_path(chain, *blocking, trusted).await
    }

    pub fn artifacts(&self) -> &Artifacts {
        &self.0.artifacts
    }

    /// The protocol version in force at the newest block, and the next one.
    pub fn protocol(&self) -> Result<Protocol, StateError> {
        governance::protocol(&self.view()?.0)
    }

    pub fn status(&self) -> Status {
        let stages = &self.0;
        Status {
            node: stages.node,
            head: self.head(),
            certified_height: self.certified_height(),
            pending: stages.mempool.len(),
            consensus: self.consensus().metrics(),
            connected: stages.peers.connected(),
            alarms: stages.alarms.list(),
            clock: stages.clocks.standing(),
            halted: stages.chain.halted(),
            cut_off: self.cut_off(),
            disk_full: stages.alarms.disk_full(),
            identity_trouble: stages.identity_trouble.borrow().clone(),
            progress: *stages.progress.borrow(),
            installing: *stages.installation.borrow(),
        }
    }

    /// Sets the reason why other nodes may refuse this node's identity, for its operator. It
    /// changes nothing in the node's work.
    pub fn set_identity_trouble(&self, reason: Option<String>) {
        self.0.identity_trouble.send_replace(reason);
    }

    /// Waits until a certificate proves that this node's chain is not the others'; returns what
    /// differs. A quorum signed another header than this node computed, so its log or its state has
    /// to go.
    pub async fn contradicted(&self) -> Halt {
        let mut halted = self.0.chain.watch_halted();
        let contradiction = |halt: &Option<Halt>| matches!(halt, Some(Halt::Contradiction { .. }));
        let halt = halted.wait_for(contradiction).await;
        let halt = halt.expect("the chain lives as long as the handle").clone();
        halt.expect("it was waited for")
    }

    /// Makes the ledger read-only while the disk is too full, and writable again with `None`.
    pub fn set_disk_full(&self, full: Option<DiskFull>) {
        self.0.alarms.set_disk_full(full);
    }

    /// The shortage of space that makes the ledger read-only.
    pub fn disk_full(&self) -> Option<DiskFull> {
        self.0.alarms.disk_full()
    }

    /// Answers another node, whose id `from` is proven.
    pub async fn serve(&self, from: u64, request: PeerRequest) -> Result<PeerAnswer, StateError> {
        self.0.peer_server.answer(from, request).await
    }

    /// Handles a broadcast of another node.
    pub async fn handle_gossip(&self, gossip: PeerGossip) -> Result<(), StateError> {
        let certifier = self.0.certifier.clone();
        let handle = move || certifier.handle_gossip(gossip);
        self.0.peer_server.blocking.run(handle).await
    }

    fn consensus(&self) -> &Consensus {
        self.0
            .consensus
            .get()
            .expect("the ledger has started with a consensus")
    }
}
