//! The audit of a chain that four validators made, of which one was removed; and of chains in
//! which something is not true.

use std::sync::Arc;

use crate::cluster::{Cluster, node_secret};
use crate::{WITHIN, committed};
use lamplighter_ledger::audit::{
    AuditError, AuditProgress, Auditor, Difference, Field, Keeps, Signatures, prepare,
};
use lamplighter_store::{Cf, Durability, Kv, MemoryKv, WriteBatch};
use lamplighter_types::wire::{ArchivedBlock, read_archive_page};
use lamplighter_types::{
    Attestation, Certificate, Genesis, GovernanceChange, Hash, Header, Receipt, SecretKey, codec,
};
use tempfile::TempDir;

/// A chain with its genesis file.
struct Chain {
    genesis: Genesis,
    blocks: Vec<ArchivedBlock>,
    /// The block after which node 4 is no validator any more.
    removal: u64,
    /// A block with a transaction above it.
    busy: u64,
}

impl Chain {
    async fn made() -> Self {
        let cluster = Cluster::start_calm(4).await;
        let leader = cluster.leader().await;
        let ledger = cluster.handle(leader);
        for n in 0..3 {
            let signed = cluster.organization(&format!("before-{n}"));
            committed(ledger.submit(signed).await.unwrap()).await;
        }
        let change = GovernanceChange::RemoveValidator {
            node: 1 + leader % 4,
        };
        let [propose, approve] = cluster.govern("removal", change);
        committed(ledger.submit(propose).await.unwrap()).await;
        let removal = committed(ledger.submit(approve).await.unwrap())
            .await
            .height;
        ledger.wait_certified(removal, WITHIN).await.unwrap();
        let mut busy = 0;
        for n in 0..3 {
            let signed = cluster.organization(&format!("after-{n}"));
            let height = committed(ledger.submit(signed).await.unwrap()).await.height;
            ledger.wait_certified(height, WITHIN).await.unwrap();
            busy = height;
        }
        let mut blocks: Vec<ArchivedBlock> = Vec::new();
        while blocks.len() < busy as usize {
            let next = blocks.len() as u64 + 1;
            let (page, certified) = ledger.archive_page(next).unwrap();
            assert!(certified >= busy);
            blocks.extend(read_archive_page(&page.into_bytes()).unwrap());
        }
        // As an archive that ends at this certificate.
        blocks.truncate(busy as usize);
        let genesis = cluster.genesis.clone();
        cluster.stop().await;
        Self {
            genesis,
            blocks,
            removal,
            busy,
        }
    }

    fn at(&mut self, height: u64) -> &mut ArchivedBlock {
        &mut self.blocks[height as usize - 1]
    }

    /// A copy in which something was changed.
    fn changed(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut changed = Self {
            genesis: self.genesis.clone(),
            blocks: self.blocks.clone(),
            ..*self
        };
        change(&mut changed);
        changed
    }

    fn audit(&self, signatures: Signatures) -> Result<AuditProgress, AuditError> {
        self.audit_on(&MemoryKv::new(), signatures)
    }

    /// Audits in a store, which may have a part of the audit already.
    fn audit_on(&self, kv: &MemoryKv, signatures: Signatures) -> Result<AuditProgress, AuditError> {
        let dir = TempDir::new().unwrap();
        let kv = Arc::new(kv.clone());
        let mut auditor = Auditor::open(kv, &self.genesis, dir.path(), Keeps::State).unwrap();
        let above = auditor.progress().height;
        let rest = self.blocks.iter().filter(|b| b.header.height > above);
        let rest = rest.cloned().collect();
        for block in prepare(rest, &self.genesis.chain_id(), signatures) {
            auditor.check(block)?;
        }
        auditor.check_end(self.busy)?;
        Ok(auditor.progress())
    }

    fn difference(&self) -> Difference {
        self.difference_of(Signatures::Verified)
    }

    fn difference_of(&self, signatures: Signatures) -> Difference {
        match self.audit(signatures) {
            Err(AuditError::Difference(difference)) => difference,
            other => panic!("{other:?}"),
        }
    }

    /// Replaces the header of a block by one that its validators certify in all form.
    fn recertify(&mut self, height: u64, secrets: &[SecretKey], change: impl Fn(&mut Header)) {
        let block = self.at(height);
        change(&mut block.header);
        let header = block.header.hash();
        let sign = |secret| Attestation::sign(height, header, secret);
        let attestations: Vec<_> = secrets.iter().map(sign).collect();
        let certificate = Certificate::from_attestations(height, header, &attestations);
        block.certificate = Some(certificate);
    }
}

fn all_secrets() -> Vec<SecretKey> {
    (1..=4).map(node_secret).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_follows_the_validators_and_finds_each_lie() {
    let honest = Chain::made().await;
    let (removal, busy) = (honest.removal, honest.busy);
    for signatures in [Signatures::Verified, Signatures::LeftOut] {
        let progress = honest.audit(signatures).unwrap();
        assert_eq!((progress.height, progress.certified), (busy, busy));
        assert_eq!((progress.set_changes, progress.transactions), (1, 8));
        assert!(progress.certificates >= 2);
    }
    let named = |chain: &Chain| {
        let difference = chain.difference();
        (difference.height, difference.field)
    };

    let lie = honest.changed(|c| c.at(busy).transactions[0].payload.0[30] ^= 1);
    assert_eq!(named(&lie), (busy, Field::Transaction));
    assert!(
        lie.difference().reason.contains("number 0"),
        "{lie:?}",
        lie = lie.difference()
    );
    let lie = lie.difference_of(Signatures::LeftOut);
    assert!(lie.height == busy && lie.field != Field::Receipt, "{lie}");
    let lie = honest.changed(|c| c.at(busy).transactions[0].signature.0[0] ^= 1);
    assert_eq!(named(&lie), (busy, Field::Transaction));
    assert!(lie.difference().reason.contains("signature"));
    // Signed in good form, and not the one of the block.
    let other =
        honest.changed(|c| c.at(busy).transactions[0] = c.blocks[0].transactions[0].clone());
    assert_eq!(
        named(&other),
        (busy, Field::Transaction),
        "{}",
        other.difference()
    );
    let none = honest.changed(|c| c.at(busy).transactions.clear());
    assert_eq!(none.difference().height, busy);

    let lie = honest.changed(|c| {
        let receipt = &mut c.at(busy).receipts[0];
        let mut changed: Receipt = codec::decode(receipt).unwrap();
        changed.notifications.clear();
        *receipt = codec::encode(&changed);
    });
    assert_eq!(named(&lie), (busy, Field::Receipt));
    let lie = honest.changed(|c| c.at(busy).receipts.clear());
    assert_eq!(named(&lie), (busy, Field::Receipt));

    // Even if everybody had signed it.
    type Lie = fn(&mut Header);
    let roots: [(Field, Lie); 8] = [
        (Field::TransactionRoot, |h| h.tx_root = Hash::ZERO),
        (Field::ReceiptRoot, |h| h.receipt_root = Hash::ZERO),
        (Field::EventRoot, |h| h.event_root = Hash::ZERO),
        (Field::StateRoot, |h| h.state_root = Hash::ZERO),
        (Field::HistoryRoot, |h| h.history_root = Hash::ZERO),
        (Field::Validators, |h| h.validators_hash = Hash::ZERO),
        (Field::Time, |h| h.timestamp_ms = 1),
        (Field::Version, |h| h.version += 1),
    ];
    for (field, change) in roots {
        let lie = honest.changed(|c| c.recertify(busy, &all_secrets(), change));
        assert_eq!(named(&lie), (busy, field), "{}", lie.difference());
    }
    // A header that nobody signed in its new form.
    let lie = honest.changed(|c| c.at(busy).header.position = Hash::of(b"elsewhere"));
    assert_eq!(named(&lie), (busy, Field::Certificate));
    let lie = honest.changed(|c| c.at(removal).header.batch = Hash::of(b"another"));
    assert_eq!(named(&lie), (removal, Field::Certificate));

    // The set before the removal is not in force above it, and strangers never were.
    let lie = honest.changed(|c| c.recertify(busy, &all_secrets(), |_| ()));
    assert_eq!(named(&lie), (busy, Field::Certificate));
    assert!(
        lie.difference()
            .reason
            .contains("not by the validators in force")
    );
    let strangers: Vec<_> = (11..=14).map(node_secret).collect();
    let lie = honest.changed(|c| c.recertify(removal, &strangers, |_| ()));
    assert_eq!(named(&lie), (removal, Field::Certificate));
    let lie = honest.changed(|c| c.at(removal).certificate = None);
    let found = lie.difference();
    assert_eq!(found.field, Field::Certificate);
    assert!(
        found
            .reason
            .contains(&format!("changed at height {removal}")),
        "{found}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_finds_where_a_chain_is_cut_and_resumes_where_it_was_ended() {
    let honest = Chain::made().await;
    let (removal, busy) = (honest.removal, honest.busy);
    let cut = honest.changed(|c| c.blocks.truncate(removal as usize));
    let found = cut.difference();
    assert_eq!((found.height, found.field), (removal + 1, Field::End));
    let gap = honest.changed(|c| drop(c.blocks.remove(removal as usize - 1)));
    let found = gap.difference();
    assert_eq!((found.height, found.field), (removal, Field::Height));
    let twice = honest.changed(|c| c.blocks.insert(1, c.blocks[0].clone()));
    assert_eq!(twice.difference().field, Field::Height);
    let uncovered = honest.changed(|c| c.at(busy).certificate = None);
    assert_eq!(uncovered.difference().field, Field::End);
    let foreign = honest.changed(|c| c.at(1).header.chain_id = Hash::ZERO);
    assert_eq!(foreign.difference().field, Field::ChainId);
    // Nothing of a block of another chain is executed.
    let orphan = honest.changed(|c| {
        c.at(2).header.parent = Hash::ZERO;
        c.at(2).receipts.clear();
    });
    assert_eq!(orphan.difference().field, Field::Parent);

    // Ended in the middle, it goes on above what it has, and only there.
    let kv = MemoryKv::new();
    assert!(cut.audit_on(&kv, Signatures::Verified).is_err());
    let progress = honest.audit_on(&kv, Signatures::Verified).unwrap();
    assert_eq!((progress.height, progress.certified), (busy, busy));
    assert_eq!(progress.transactions, 3);
    // From there a shorter chain is one that lost blocks.
    let shorter = honest.changed(|c| c.busy = removal);
    let error = shorter.audit_on(&kv, Signatures::Verified).unwrap_err();
    assert!(matches!(error, AuditError::Difference(d) if d.field == Field::End));
    // The state that it goes on from is compared too.
    let mut writes = WriteBatch::new();
    writes.put(Cf::State, b"more".to_vec(), b"more".to_vec());
    kv.write(writes, Durability::Synced).unwrap();
    let dir = TempDir::new().unwrap();
    let opened = Auditor::open(Arc::new(kv), &honest.genesis, dir.path(), Keeps::State);
    assert!(opened.is_err());
}
