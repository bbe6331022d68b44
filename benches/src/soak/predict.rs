//! How much a transaction takes on the disk for ever, from the records that it leaves.
//!
//! Rows of transactions that the clients signed, with the receipts that came back, are made by the
//! code that nodes use, and written into a store of their own with the settings that nodes have.
//! What its table files take is the prediction; the nodes' disks are not looked at.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use lamplighter_rocks::{Options, RocksKv};
use lamplighter_state::tables;
use lamplighter_store::{Batch, Durability, Kv};
use lamplighter_types::merkle::History;
use lamplighter_types::{
    Action, Attestation, Certificate, CertificateSignature, EventRecord, EventsAction,
    HEADER_VERSION, Hash, Header, Receipt, SecretKey, SignedTransaction, Transaction, ValidatorSet,
    Verified, codec,
};
use serde::Serialize;

use super::pace::Taken;
use crate::cluster::Cluster;
use crate::error::BenchError;
use crate::procfs;

/// Bytes for each transaction, all means.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Prediction {
    /// Transactions that were looked at.
    pub transactions: u64,
    pub blocks: u64,
    /// The signed transaction as it is sent.
    pub envelope_bytes: f64,
    pub receipt_bytes: f64,
    pub event_bytes: f64,
    /// All rows that stay, keys included, before compression.
    pub rows_bytes: f64,
    /// Of them what each block has once: header, history, certificate, note of the attestation.
    pub block_bytes: f64,
    /// Table files: what the disk grows by.
    pub disk_bytes: f64,
}

/// One block as far as it was seen.
type Members = BTreeMap<u32, Taken>;

pub fn predict(taken: Vec<Taken>, dir: &Path, cluster: &Cluster) -> Result<Prediction, BenchError> {
    let mut blocks: BTreeMap<u64, Members> = BTreeMap::new();
    for one in taken {
        let block = blocks.entry(one.landed.height).or_default();
        block.insert(one.landed.index, one);
    }
    // Of the first and the last block others may have the rest.
    blocks.pop_first();
    blocks.pop_last();
    let path = dir.join("prediction");
    let store = RocksKv::open(&path, Options::default())?;
    let mut writer = Writer::new(cluster);
    for (height, members) in blocks {
        let mut batch = Batch::new();
        writer.block(&mut batch, height, members);
        store.write(batch, Durability::Unsynced)?;
    }
    let image = dir.join("prediction-image");
    store.checkpoint(&image)?;
    let disk = procfs::disk_use(&image)?;
    Ok(writer.prediction(disk.tables_bytes))
}

/// Makes rows, and counts their bytes.
struct Writer<'a> {
    chain_id: Hash,
    set: &'a ValidatorSet,
    secrets: Vec<SecretKey>,
    history: History,
    sums: Prediction,
}

impl<'a> Writer<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        let set = &cluster.validators;
        // The bytes of a signature are as random under any key.
        let key = |n: usize| SecretKey::from_seed(Hash::of(&n.to_le_bytes()).0);
        Self {
            chain_id: cluster.chain_id,
            set,
            secrets: (0..set.quorum()).map(key).collect(),
            history: History::new(),
            sums: Prediction::default(),
        }
    }

    fn block(&mut self, batch: &mut Batch, height: u64, members: Members) {
        let (mut transactions, mut receipts, mut events) = (Vec::new(), Vec::new(), Vec::new());
        let mut timestamp_ms = 0;
        for taken in members.into_values() {
            let Taken { signed, landed } = taken;
            let receipt = landed.receipt;
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
        self.once(batch, &header);
        self.sums.block_bytes += batch.size_bytes() as f64;
        self.rows(batch, &header, &transactions, &receipts, &events);
    }

    fn rows(
        &mut self,
        batch: &mut Batch,
        header: &Header,
        transactions: &[Arc<Verified<Transaction>>],
        receipts: &[Arc<Receipt>],
        events: &[EventRecord],
    ) {
        tables::put_block(batch, header, transactions, receipts, events);
        self.sums.rows_bytes += batch.size_bytes() as f64;
        self.sums.blocks += 1;
    }

    /// What each block has once, but for its header, which comes with its lists.
    fn once(&mut self, batch: &mut Batch, header: &Header) {
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
        }
    }

    fn prediction(self, disk_bytes: u64) -> Prediction {
        let Prediction {
            transactions,
            blocks,
            ..
        } = self.sums;
        let each = |sum: f64| sum / transactions.max(1) as f64;
        Prediction {
            transactions,
            blocks,
            envelope_bytes: each(self.sums.envelope_bytes),
            receipt_bytes: each(self.sums.receipt_bytes),
            event_bytes: each(self.sums.event_bytes),
            rows_bytes: each(self.sums.rows_bytes),
            block_bytes: each(self.sums.block_bytes),
            disk_bytes: each(disk_bytes as f64),
        }
    }
}

fn verified(signed: SignedTransaction, chain_id: &Hash) -> Option<Verified<Transaction>> {
    let verified = signed.verify(chain_id);
    // The ledger took it, so it is good.
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
