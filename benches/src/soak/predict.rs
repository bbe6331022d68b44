//! The prediction of the disk space that a transaction takes for ever, from the rows that it
//! leaves.
//!
//! The code of the nodes makes the rows of the transactions that the clients signed, with their
//! receipts, and writes them into a separate store with the settings of the nodes. This is done
//! twice, with the blocks as they were and with large ones, since some rows exist once for each
//! block: the two sizes of the table files give bytes per transaction and bytes per block. The
//! disks of the nodes are not used.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use lamplighter_rocks::{Options, RocksKv};
use lamplighter_state::tables;
use lamplighter_store::{Durability, Kv, WriteBatch};
use lamplighter_types::merkle::History;
use lamplighter_types::{
    Action, Attestation, Certificate, CertificateSignature, EventRecord, EventsAction,
    HEADER_VERSION, Hash, Header, SecretKey, SignedTransaction, Transaction, ValidatorSet,
    Verified, codec,
};
use serde::Serialize;

use super::pace::SentTransaction;
use crate::cluster::Cluster;
use crate::error::BenchError;
use crate::procfs;

/// Transactions of a large block: as many as share a row.
const LARGE: usize = 64;

/// The predicted growth of the disk.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Prediction {
    /// Bytes of table files per transaction.
    pub transaction_bytes: f64,
    /// Bytes of table files per block.
    pub block_bytes: f64,
    pub rows: Rows,
}

impl Prediction {
    /// Bytes of table files of these transactions and blocks.
    pub fn bytes(&self, transactions: u64, blocks: u64) -> f64 {
        self.transaction_bytes * transactions as f64 + self.block_bytes * blocks as f64
    }
}

/// The rows of the prediction. Bytes are means per transaction, before compression.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Rows {
    pub transactions: u64,
    pub blocks: u64,
    /// The signed transaction as it is sent.
    pub envelope_bytes: f64,
    pub receipt_bytes: f64,
    pub event_bytes: f64,
    /// All permanent rows, keys included.
    pub all_bytes: f64,
    /// The part of them that each block has once: history, certificate, note of the attestation.
    pub once_bytes: f64,
}

/// The kept transactions of one block, by index.
type Members = BTreeMap<u32, SentTransaction>;

pub fn predict(
    sent: Vec<SentTransaction>,
    dir: &Path,
    cluster: &Cluster,
) -> Result<Prediction, BenchError> {
    let mut blocks: BTreeMap<u64, Members> = BTreeMap::new();
    for one in sent {
        let block = blocks.entry(one.committed.height).or_default();
        block.insert(one.committed.index, one);
    }
    // The first and the last block may be incomplete.
    blocks.pop_first();
    blocks.pop_last();
    let blocks: Vec<Vec<SentTransaction>> = blocks
        .into_values()
        .map(|block| block.into_values().collect())
        .collect();
    let all: Vec<SentTransaction> = blocks.iter().flatten().cloned().collect();
    let large: Vec<Vec<SentTransaction>> =
        all.chunks(LARGE).map(<[SentTransaction]>::to_vec).collect();
    let (rows, as_sent_bytes) = write(cluster, dir, "as-sent", blocks)?;
    let (of_large, large_bytes) = write(cluster, dir, "large", large)?;
    let (transactions, blocks) = (rows.transactions as f64, rows.blocks as f64);
    let more_blocks = blocks - of_large.blocks as f64;
    // If the blocks were as large already, their share cannot be told apart, and need not.
    let block_bytes = if more_blocks > blocks / 10.0 {
        (as_sent_bytes as f64 - large_bytes as f64) / more_blocks
    } else {
        0.0
    };
    Ok(Prediction {
        transaction_bytes: (as_sent_bytes as f64 - blocks * block_bytes) / transactions.max(1.0),
        block_bytes,
        rows,
    })
}

/// Writes blocks to a separate store; returns the rows, and the bytes of its tables.
fn write(
    cluster: &Cluster,
    dir: &Path,
    name: &str,
    blocks: Vec<Vec<SentTransaction>>,
) -> Result<(Rows, u64), BenchError> {
    let store = RocksKv::open(&dir.join(name), Options::default())?;
    let mut writer = Writer::new(cluster);
    for (height, members) in (1..).zip(blocks) {
        let mut batch = WriteBatch::new();
        writer.block(&mut batch, height, members);
        store.write(batch, Durability::Unsynced)?;
    }
    let image = dir.join(format!("{name}-image"));
    store.checkpoint(&image)?;
    let disk = procfs::disk_use(&image)?;
    Ok((writer.rows(), disk.tables_bytes))
}

/// Makes rows, and counts their bytes.
struct Writer<'a> {
    chain_id: Hash,
    set: &'a ValidatorSet,
    secrets: Vec<SecretKey>,
    history: History,
    sums: Rows,
}

impl<'a> Writer<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        let set = &cluster.validators;
        // Signatures are equally random under any key.
        let key = |n: usize| SecretKey::from_seed(Hash::of(&n.to_le_bytes()).0);
        Self {
            chain_id: cluster.chain_id,
            set,
            secrets: (0..set.quorum()).map(key).collect(),
            history: History::new(),
            sums: Rows::default(),
        }
    }

    fn block(&mut self, batch: &mut WriteBatch, height: u64, members: Vec<SentTransaction>) {
        let (mut transactions, mut receipts, mut events) = (Vec::new(), Vec::new(), Vec::new());
        let mut timestamp_ms = 0;
        for sent in members {
            let SentTransaction { signed, committed } = sent;
            let receipt = committed.receipt;
            self.sums.transactions += 1;
            self.sums.envelope_bytes += codec::encode(&signed).len() as f64;
            self.sums.receipt_bytes += codec::encode(&receipt).len() as f64;
            let Some(verified) = verified(signed, &self.chain_id) else {
                continue;
            };
            for event in event_records(&verified) {
                timestamp_ms = event.received_ms;
                self.sums.event_bytes += codec::encode(&event).len() as f64;
                events.push(event);
            }
            transactions.push(Arc::new(verified));
            receipts.push(Arc::new(receipt));
        }
        let header = self.header(height, timestamp_ms);
        self.put_once_rows(batch, &header);
        self.sums.once_bytes += batch.size_bytes() as f64;
        tables::put_block(batch, &header, &transactions, &receipts, &events);
        self.sums.all_bytes += batch.size_bytes() as f64;
        self.sums.blocks += 1;
    }

    /// Writes the rows that each block has once, except for its header, which is written with its
    /// lists.
    fn put_once_rows(&mut self, batch: &mut WriteBatch, header: &Header) {
        let hash = header.hash();
        tables::put_history(batch, &self.history.append(&hash));
        tables::put_attested(batch, header.height, &hash);
        let sign = |secret| Attestation::sign(header.height, hash, secret);
        let signatures = self.secrets.iter().map(sign).map(|signed| {
            let Attestation { key, signature, .. } = signed;
            CertificateSignature { key, signature }
        });
        let certificate = Certificate {
            height: header.height,
            header: hash,
            signatures: signatures.collect(),
        };
        tables::put_certificate(batch, &certificate);
    }

    fn header(&self, height: u64, timestamp_ms: u64) -> Header {
        let root = |name: &str| Hash::of(format!("{name} {height}").as_bytes());
        Header {
            version: HEADER_VERSION,
            chain_id: self.chain_id,
            height,
            parent: root("parent"),
            timestamp_ms,
            tx_root: root("transactions"),
            receipt_root: root("receipts"),
            event_root: root("events"),
            state_root: root("state"),
            history_root: self.history.root(),
            validators_hash: self.set.hash(),
            batch: root("batch"),
            position: root("position"),
        }
    }

    fn rows(self) -> Rows {
        let sums = self.sums;
        let each = |sum: f64| sum / sums.transactions.max(1) as f64;
        Rows {
            transactions: sums.transactions,
            blocks: sums.blocks,
            envelope_bytes: each(sums.envelope_bytes),
            receipt_bytes: each(sums.receipt_bytes),
            event_bytes: each(sums.event_bytes),
            all_bytes: each(sums.all_bytes),
            once_bytes: each(sums.once_bytes),
        }
    }
}

fn verified(signed: SignedTransaction, chain_id: &Hash) -> Option<Verified<Transaction>> {
    let verified = signed.verify(chain_id);
    // The ledger committed it, so it is valid.
    verified.ok()
}

/// The events of a transaction as the ledger records them.
fn event_records(verified: &Verified<Transaction>) -> Vec<EventRecord> {
    let transaction = verified.get();
    let Action::Events(EventsAction::Append { events }) = &transaction.action else {
        return Vec::new();
    };
    let record = |event: &lamplighter_types::DeviceEvent| EventRecord {
        event: event.clone(),
        gateway: transaction.sender.clone(),
        attested: false,
        received_ms: event.time_ms,
    };
    events.iter().map(record).collect()
}
