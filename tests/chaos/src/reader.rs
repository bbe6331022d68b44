//! The reader of a node's whole chain over HTTP.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use lamplighter_client::{Client, ClientConfig, FullBlock};
use lamplighter_types::merkle::list::block_root;
use lamplighter_types::{
    Action, ConfigAction, ConfigTarget, EventsAction, Genesis, Hash, Receipt, SignedTransaction,
    UsersAction, codec,
};

use crate::check::{ActionEffect, BlockDigest, ChainBlock, ChainEntry};
use crate::cluster::url;
use crate::error::ChaosError;
use crate::fleet::Signer;

/// Concurrent requests for blocks.
const AT_ONCE: usize = 8;
/// Timeout for one block from a healthy node.
const BLOCK_WITHIN: Duration = Duration::from_secs(60);

/// A client that asks one node alone.
pub fn single_node_client(
    genesis: &Genesis,
    signer: &Signer,
    node: usize,
) -> Result<Client, ChaosError> {
    let mut config = ClientConfig::new(vec![url(node)])
        .with_genesis(genesis.clone())
        .with_key(signer.account.clone(), signer.secret.clone());
    config.deadline = BLOCK_WITHIN;
    Client::new(config).map_err(ChaosError::client("setting up a client"))
}

/// Fetches the blocks 1 to `last`, each checked against its header.
pub async fn chain(client: &Client, last: u64) -> Result<Vec<ChainBlock>, ChaosError> {
    let chain_id = client
        .chain_id()
        .await
        .map_err(ChaosError::client("asking for the chain"))?;
    blocks(client, last, move |full| block(&full, &chain_id)).await
}

/// Fetches the digests of the blocks 1 to `last`.
pub async fn digests(client: &Client, last: u64) -> Result<Vec<BlockDigest>, ChaosError> {
    blocks(client, last, |full| {
        Ok(BlockDigest {
            height: full.block.header.height,
            header: full.block.header.hash(),
            content: content(&full),
        })
    })
    .await
}

async fn blocks<T>(
    client: &Client,
    last: u64,
    reduce: impl Fn(FullBlock) -> Result<T, ChaosError>,
) -> Result<Vec<T>, ChaosError> {
    let fetch = |height: u64| async move {
        let fetched = client.block(height).await;
        fetched.map_err(ChaosError::client(format!("fetching block {height}")))
    };
    let fetched = stream::iter(1..=last).map(fetch).buffered(AT_ONCE);
    fetched
        .and_then(|full| std::future::ready(reduce(full)))
        .try_collect()
        .await
}

/// Waits until every node has the newest block of all, and returns the height that all have.
pub async fn wait_same_height(clients: &[Client], within: Duration) -> Result<u64, ChaosError> {
    let begun = Instant::now();
    let mut wanted = 0;
    while begun.elapsed() < within {
        let asked = futures::future::join_all(clients.iter().map(Client::status)).await;
        let heights: Vec<u64> = asked.into_iter().flatten().map(|s| s.height).collect();
        let lowest = heights.iter().min().copied().unwrap_or(0);
        if heights.len() == clients.len() {
            if wanted > 0 && lowest >= wanted {
                return Ok(lowest);
            }
            wanted = wanted.max(heights.into_iter().max().unwrap_or(0));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Err(ChaosError::Deadline {
        what: format!("every node has block {wanted}"),
        within,
    })
}

/// Digest of all transactions and receipts.
fn content(full: &FullBlock) -> Hash {
    codec::digest(&(&full.block.transactions, &full.receipts))
}

fn block(full: &FullBlock, chain_id: &Hash) -> Result<ChainBlock, ChaosError> {
    let header = &full.block.header;
    let wrong = |what| ChaosError::Block {
        height: header.height,
        what,
    };
    let transactions = &full.block.transactions;
    if block_root(transactions.iter().map(codec::encode)) != header.tx_root {
        return Err(wrong("transactions"));
    }
    if block_root(full.receipts.iter().map(codec::encode)) != header.receipt_root {
        return Err(wrong("receipts"));
    }
    // The block's own receipt may follow those of the transactions.
    if full.receipts.len() < transactions.len() {
        return Err(wrong("number of receipts"));
    }
    let entries = transactions.iter().zip(&full.receipts);
    let entries = entries.map(|(transaction, receipt)| entry(transaction, receipt, chain_id));
    let entries: Option<Vec<ChainEntry>> = entries.collect();
    Ok(ChainBlock {
        height: header.height,
        header: header.hash(),
        parent: header.parent,
        timestamp_ms: header.timestamp_ms,
        content: content(full),
        entries: entries.ok_or_else(|| wrong("a transaction or the name in its receipt"))?,
    })
}

/// The entry of a transaction; `None` if the payload cannot be decoded or the receipt is of another
/// transaction.
fn entry(signed: &SignedTransaction, receipt: &Receipt, chain_id: &Hash) -> Option<ChainEntry> {
    let transaction = signed.decode_payload().ok()?;
    let hash = signed.hash(chain_id);
    (receipt.transaction == hash).then(|| ChainEntry {
        transaction: hash,
        expires_ms: transaction.expires_ms,
        receipt: codec::digest(receipt),
        succeeded: receipt.succeeded(),
        effect: effect(&transaction.action),
    })
}

fn effect(action: &Action) -> ActionEffect {
    match action {
        Action::Config(ConfigAction::SetDesired {
            target: ConfigTarget::Model { model },
            document,
            replaces_version,
        }) => ActionEffect::Set {
            register: model.clone(),
            document: Hash::of(document.as_bytes()),
            replaces: *replaces_version,
        },
        Action::Events(EventsAction::Append { events }) => {
            let events = events.iter().map(|e| (e.device.clone(), e.sequence));
            ActionEffect::Append(events.collect())
        }
        Action::Users(UsersAction::RegisterOrganization { organization, .. }) => {
            ActionEffect::Organization(organization.clone())
        }
        _ => ActionEffect::Other,
    }
}
