//! The Rust SDK: signs and submits transactions, reads, follows the feed, moves artifacts and
//! checks proofs, over the HTTP interface of several nodes of one ledger.
//!
//! Every call goes to the node that answered last and, when that one does not serve it within
//! seconds, to the others in turn until the deadline. Nodes whose answers do not verify, or that
//! are behind, are called last. All calls may be repeated: a transaction sent again is the same
//! bytes and gets the same receipt.
//!
//! Plain reads trust the node. [`Client::proof`] and [`Client::proven_receipt`] do not: they check
//! proof bundles from the validators of the genesis file, or from newer ones that were proven, and
//! compare the rest of the answer with them.

mod archive;
mod artifacts;
mod call;
mod calls;
mod error;
mod feed;
mod hedge;
mod history;
mod lines;
mod login;
mod node_keys;
mod pipeline;
mod proof;
mod read;
mod receivers;
mod round;
mod sequences;
mod sessions;
mod standing;
mod submission;
mod submit;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use lamplighter_types::{Genesis, Hash, Id, SecretKey};

pub use archive::ArchiveAnswer;
pub use artifacts::{DownloadProgress, UploadProgress};
pub use error::{ClientError, Pending};
pub use feed::{Feed, FeedFilter};
pub use history::HistoryOf;
pub use lamplighter_types::wire::{
    Cursor, CursorError, Decision, DecodedTransaction, DeviceConfig, DeviceEvents, DeviceSummary,
    EventEntry, Exposure, FeedEvent, FullBlock, HistoryEntry, KeyInfo, Page, Problem, Status,
    Submitted, TimelineEntry, TransactionRecord, Wait,
};
pub use node_keys::http_client_of;
pub use pipeline::{Pipeline, PipelinedTransaction};
pub use proof::Subject;
pub use read::{DeviceFilter, ExposureTo, Read};
pub use sequences::Sequences;
pub use sessions::EndedAt;
pub use standing::NodeStanding;
pub use trust::{TrustAnchor, TrustAnchorError};

use calls::Nodes;

/// The account and key that sign the client's transactions.
#[derive(Clone, Debug)]
pub struct Signer {
    pub account: Id,
    pub secret: SecretKey,
    pub sequences: Arc<Sequences>,
}

/// Settings of a client.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Base addresses of nodes, e.g. `https://10.0.0.1:8080`; one at least. A fragment is the
    /// node's public key, for a node that is no validator: `https://10.0.0.9:8080#3dec..`.
    pub urls: Vec<String>,
    /// Certificates of authorities (PEM), whose certificates nodes may show in place of their
    /// ledger keys.
    pub authorities: Option<Vec<u8>>,
    /// Lets addresses of other machines begin with `http://`, where something else encrypts.
    pub plain_http_beyond_loopback: bool,
    /// The trust root; needed to check proofs.
    pub genesis: Option<Genesis>,
    /// The newest validators that were proven; needed to check proofs.
    pub trust: Option<Arc<TrustAnchor>>,
    /// The chain, if there is no genesis file. If neither is given, a node is asked when it is
    /// first needed.
    pub chain_id: Option<Hash>,
    /// Needed to submit, and to read where nodes want a token.
    pub signer: Option<Signer>,
    /// Longest duration of a call, all attempts together.
    pub deadline: Duration,
    /// Longest duration of one attempt to connect.
    pub connect_timeout: Duration,
    /// Longest silence of a node before the next one is called.
    pub silence_max: Duration,
}

impl ClientConfig {
    /// A client that only reads, with 30 s for each call.
    pub fn new(urls: Vec<String>) -> Self {
        Self {
            urls,
            authorities: None,
            plain_http_beyond_loopback: false,
            genesis: None,
            trust: None,
            chain_id: None,
            signer: None,
            deadline: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(3),
            silence_max: Duration::from_secs(4),
        }
    }

    /// Adds the genesis file, whose validators are trusted until newer ones are proven.
    pub fn with_genesis(mut self, genesis: Genesis) -> Self {
        let anchor = TrustAnchor::in_memory((&genesis).into());
        self.trust = Some(Arc::new(anchor));
        self.chain_id = Some(genesis.chain_id());
        self.genesis = Some(genesis);
        self
    }

    /// Checks proofs from the validators of an anchor of the same chain as the genesis file, and
    /// lets it keep newer ones.
    pub fn with_trust(mut self, anchor: Arc<TrustAnchor>) -> Self {
        self.trust = Some(anchor);
        self
    }

    /// Adds an account that signs. Sequence numbers continue after the highest one of the key that
    /// the nodes report.
    pub fn with_key(mut self, account: Id, secret: SecretKey) -> Self {
        let sequences = Arc::new(Sequences::from_ledger());
        self.signer = Some(Signer {
            account,
            secret,
            sequences,
        });
        self
    }

    /// Adds an account that signs, with its own sequence numbers.
    pub fn with_signer(mut self, signer: Signer) -> Self {
        self.signer = Some(signer);
        self
    }
}

/// A client of one ledger. Clones share connections, tokens and the sequence counter.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<ClientState>,
}

#[derive(Debug)]
struct ClientState {
    nodes: Nodes,
    config: ClientConfig,
    chain_id: tokio::sync::OnceCell<Hash>,
}

impl Client {
    /// Sets up a client. Nothing is sent yet.
    ///
    /// # Errors
    /// No address, one that is not usable, or an HTTPS address without genesis file, authorities or
    /// key: no node could be recognized.
    pub fn new(config: ClientConfig) -> Result<Self, ClientError> {
        let nodes = Nodes::new(&config)?;
        let genesis_id = config.genesis.as_ref().map(Genesis::chain_id);
        let chain_id = genesis_id.or(config.chain_id);
        let chain_id = tokio::sync::OnceCell::new_with(chain_id);
        Ok(Self {
            inner: Arc::new(ClientState {
                nodes,
                config,
                chain_id,
            }),
        })
    }

    /// The settings.
    pub fn config(&self) -> &ClientConfig {
        &self.inner.config
    }

    /// The chain. A node is asked once, if neither genesis file nor id was given.
    pub async fn chain_id(&self) -> Result<Hash, ClientError> {
        let fetch = async || Ok(self.status().await?.chain_id);
        self.inner.chain_id.get_or_try_init(fetch).await.copied()
    }

    /// Calls the node at `urls[index]` first from now on, e.g. because another connection goes to
    /// it.
    pub fn prefer(&self, index: usize) {
        if index < self.inner.nodes.list.len() {
            self.inner.nodes.standings.prefer(index);
        }
    }

    /// What is worth remembering of the nodes until the program runs again.
    pub fn standings(&self) -> Vec<NodeStanding> {
        let nodes = &self.inner.nodes;
        nodes.standings.remembered(nodes.urls())
    }

    /// Takes up what was remembered of the nodes. It decides about the order in which they are
    /// called, and leaves none out.
    pub fn restore_standings(&self, known: &[NodeStanding]) {
        let nodes = &self.inner.nodes;
        nodes.standings.restore(nodes.urls(), known);
    }

    /// The position in `urls` of the node that is called first: the last one that answered well,
    /// unless it has failed since.
    pub fn first_node(&self) -> usize {
        self.inner.nodes.in_turn().next().unwrap_or(0)
    }

    fn trust_anchor(&self) -> Result<&Arc<TrustAnchor>, ClientError> {
        let anchor = self.inner.config.trust.as_ref();
        anchor.ok_or(ClientError::NoGenesis)
    }

    fn signer(&self) -> Result<&Signer, ClientError> {
        self.inner.config.signer.as_ref().ok_or(ClientError::NoKey)
    }
}
