use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use lamplighter_consensus::{Consensus, StateMachine};
use lamplighter_contracts::genesis;
use lamplighter_state::tree::Tree;
use lamplighter_state::{Overlay, StateError, View, tables};
use lamplighter_store::{Batch, Durability, Kv, StoreError};
use lamplighter_types::merkle::{History, list};
use lamplighter_types::{Genesis, GenesisError, HEADER_VERSION, Hash, Header, Id, SecretKey};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::alarms::Alarms;
use crate::artifacts::{ArtifactError, Artifacts};
use crate::attest::Attester;
use crate::blocking::Blocking;
use crate::chain::{Chain, Head};
use crate::clock::Clock;
use crate::config::Config;
use crate::feed::Feeds;
use crate::handle::Handle;
use crate::inner::Inner;
use crate::machine::{Executed, Machine, put_block};
use crate::message::Peers;
use crate::own::Own;
use crate::pool::Pool;
use crate::progress::Progress;
use crate::snapshot::ImageError;
use crate::verifier::Verifier;
use crate::{
    attest, certify, forward, later, membership, progress, replicate, sequencer, snapshot,
};

/// Why a node's ledger does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the genesis file is not usable")]
    Genesis(#[from] GenesisError),
    #[error("the genesis can't be carried out: {0}")]
    Install(String),
    #[error("the data directory can't be used")]
    State(#[from] StateError),
    #[error("the store failed")]
    Store(#[from] StoreError),
    #[error("the artifacts can't be opened")]
    Artifacts(#[from] ArtifactError),
    #[error("the installation of an image was interrupted, and the image can't be used any more")]
    HalfInstalled(#[source] ImageError),
}

/// Who this node is.
#[derive(Clone, Debug)]
pub struct Identity {
    pub account: Id,
    pub secret: SecretKey,
}

/// A node's ledger before consensus runs.
pub struct Ledger {
    inner: Arc<Inner>,
    machine: Arc<Machine>,
}

impl Ledger {
    /// Opens the chain in `kv`, or begins it with the genesis block. Needs a tokio runtime.
    ///
    /// # Errors
    /// A genesis that is not usable, data of another chain, or a state that is not the one its
    /// header names.
    pub async fn open(
        kv: Arc<dyn Kv>,
        genesis: Genesis,
        config: Config,
        identity: Identity,
        artifacts: &Path,
        peers: Arc<dyn Peers>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        genesis.check()?;
        let blocking = if config.inline {
            Blocking::Inline
        } else {
            Blocking::Threads
        };
        let artifacts = Artifacts::open(artifacts.to_owned(), Default::default()).await?;
        let open = move || open_chain(kv, genesis);
        let chain = Arc::new(blocking.run(open).await?);
        let pool = Arc::new(Pool::new(config.pool.clone()));
        let installation = watch::Sender::new(None);
        let Identity { account, secret } = identity;
        let inner = Arc::new(Inner {
            feeds: Feeds::new(chain.clone(), blocking),
            verifier: Verifier::start(chain.chain_id(), blocking),
            attester: Attester::new(secret.clone(), chain.certified_height()),
            own: Own::new(account, secret),
            alarms: Alarms::default(),
            consensus: OnceLock::new(),
            chain: chain.clone(),
            pool: pool.clone(),
            config,
            peers,
            clock,
            blocking,
            artifacts,
            installation: installation.subscribe(),
            progress: watch::Sender::new(Progress::default()),
            told_height: AtomicU64::new(0),
            identity_trouble: watch::Sender::new(None),
            later: watch::Sender::new(None),
        });
        let machine = Machine {
            chain,
            pool,
            blocking,
            installation,
        };
        Ok(Self {
            inner,
            machine: Arc::new(machine),
        })
    }

    /// What consensus drives.
    pub fn state_machine(&self) -> Arc<dyn StateMachine> {
        self.machine.clone()
    }

    /// The handle, for those who serve other nodes before the tasks run. Submitting waits for
    /// consensus.
    pub fn handle(&self) -> Handle {
        Handle(self.inner.clone())
    }

    /// Begins to work with a consensus that drives [`state_machine`](Self::state_machine). The
    /// tasks end with `stop`.
    pub fn start(
        self,
        consensus: Consensus,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Handle {
        let inner = self.inner;
        let set = inner.consensus.set(consensus);
        assert!(set.is_ok(), "a ledger is started once: start consumes it");
        tasks.spawn(sequencer::run(inner.clone(), stop.clone()));
        tasks.spawn(forward::run(inner.clone(), stop.clone()));
        tasks.spawn(attest::run(inner.clone(), stop.clone()));
        tasks.spawn(membership::reconcile::run(inner.clone(), stop.clone()));
        tasks.spawn(replicate::run(inner.clone(), stop.clone()));
        tasks.spawn(progress::run(inner.clone(), stop.clone()));
        tasks.spawn(later::run(inner.clone(), stop.clone()));
        tasks.spawn(certify::fetch::run(inner.clone(), stop.clone()));
        Handle(inner)
    }
}

fn open_chain(kv: Arc<dyn Kv>, genesis: Genesis) -> Result<Chain, OpenError> {
    snapshot::resume(&*kv, &genesis).map_err(OpenError::HalfInstalled)?;
    let head = match tables::head_height(&*kv)? {
        Some(_) => snapshot::load_head(kv.clone(), &genesis.chain_id())?,
        None => begin(&kv, &genesis)?,
    };
    Ok(Chain::new(kv, genesis, head)?)
}

/// The block of height 0, which every node makes of the genesis file.
pub(crate) fn begin(kv: &Arc<dyn Kv>, genesis: &Genesis) -> Result<Head, OpenError> {
    let mut overlay = Overlay::new(View::new(kv.clone()));
    genesis::install(&mut overlay, genesis).map_err(|e| OpenError::Install(e.to_string()))?;
    overlay.commit();
    let changes = overlay.into_changes();
    let mut tree = Tree::default();
    let state_root = tree.apply(&changes);
    let empty = list::block_root(std::iter::empty::<&[u8]>());
    let history = History::new();
    let header = Header {
        version: HEADER_VERSION,
        chain_id: genesis.chain_id(),
        height: 0,
        parent: Hash::ZERO,
        timestamp_ms: genesis.created_ms,
        tx_root: empty,
        receipt_root: empty,
        event_root: empty,
        state_root,
        history_root: history.root(),
        validators_hash: genesis.validators.hash(),
    };
    let validators = Arc::new(genesis.validators.clone());
    let hash = header.hash();
    let block = Executed {
        header: header.clone(),
        transactions: Vec::new(),
        receipts: Vec::new(),
        refused: Vec::new(),
        changes,
    };
    let mut head = Head {
        hash,
        header,
        tree,
        history,
        validators: validators.clone(),
        last_batch: Hash::ZERO,
    };
    let mut writes = Batch::new();
    put_block(&mut writes, &mut head, &block, Some(&validators));
    kv.write(writes, Durability::Synced)?;
    Ok(head)
}
