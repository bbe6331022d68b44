//! Reports, a spool without a disk, and receipts.

mod batching;
mod deferral;
mod random;
mod submitter;

use lamplighter_types::{
    AlarmChange, ConfigReport, DeploymentReport, DeploymentState, DeviceEvent, Encoding, Hash, Id,
    KeyPurpose, KeyRotation, Outcome, Receipt, SecretKey, Severity, SignedTransaction, Transaction,
};

use super::batching::ReportBatch;
use crate::spool::{BATCH_ITEMS_MAX, OutgoingReport, SpoolRecord, SpoolState};

fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

fn chain() -> Hash {
    Hash::of(b"chain")
}

fn secret() -> SecretKey {
    SecretKey::from_seed([1; 32])
}

fn event(device: &str, sequence: u64) -> OutgoingReport {
    OutgoingReport::Event(DeviceEvent {
        device: id(device),
        sequence,
        time_ms: 1,
        kind: "x-test".to_owned(),
        severity: Severity::Minor,
        alarm: AlarmChange::None,
        data: String::new(),
        signature: None,
    })
}

fn step(device: &str, to: DeploymentState, counter: u64) -> OutgoingReport {
    OutgoingReport::Deployment(DeploymentReport {
        rollout: id("r1"),
        device: id(device),
        from: DeploymentState::Assigned,
        to,
        code: 0,
        digest: None,
        seen_height: 1,
        counter,
        detail: String::new(),
        signature: None,
    })
}

fn config(device: &str, counter: u64) -> OutgoingReport {
    OutgoingReport::Config(ConfigReport {
        device: id(device),
        document: Hash::ZERO,
        applied: true,
        detail: String::new(),
        counter,
        signature: None,
    })
}

fn rotation(device: &str, counter: u64) -> OutgoingReport {
    let new = SecretKey::from_seed([2; 32]);
    OutgoingReport::KeyRotation(KeyRotation {
        device: id(device),
        new_key: new.public(),
        proof: new.prove(KeyPurpose::Device, &chain(), &id(device)),
        counter,
        signature: None,
    })
}

fn add(spool: &mut SpoolState, outgoing: OutgoingReport) {
    let record = SpoolRecord::Add {
        number: spool.number() + 1,
        batch_max: BATCH_ITEMS_MAX,
        outgoing: Box::new(outgoing),
    };
    spool.apply(record).unwrap();
}

fn spool_with(reports: impl IntoIterator<Item = OutgoingReport>) -> SpoolState {
    let mut spool = SpoolState::default();
    reports.into_iter().for_each(|one| add(&mut spool, one));
    spool
}

fn sign(spool: &mut SpoolState, batch: ReportBatch) -> (Vec<u64>, Hash) {
    let sequence = spool.sequence() + 1;
    let content = Transaction {
        sender: id("gw"),
        sequence,
        expires_ms: 1,
        action: batch.action,
    };
    let envelope = SignedTransaction::sign(&content, Encoding::Bincode, &chain(), &secret());
    let transaction = envelope.hash(&chain());
    let record = SpoolRecord::Sign {
        sequence,
        items: batch.items.clone(),
        transaction,
        envelope: Box::new(envelope),
    };
    spool.apply(record).unwrap();
    (batch.items, transaction)
}

fn receipt(transaction: Hash, outcome: Outcome) -> Receipt {
    Receipt {
        transaction,
        outcome,
        notifications: Vec::new(),
    }
}

fn failed(transaction: Hash) -> Receipt {
    let code = "events.sequence_used".to_owned();
    let fields = Default::default();
    receipt(transaction, Outcome::Failed { code, fields })
}
