//! How fast an audit is: a chain of events of gateways, executed again with and without signatures.
//!
//! `LAMPLIGHTER_AUDIT_TRANSACTIONS=200000 cargo nextest run --workspace --lib --no-capture
//! -E 'test(an_audit_executes)'` prints the rates; with `CARGO_PROFILE_DEV_OPT_LEVEL=3` those of
//! optimised code.

use std::env;
use std::sync::Arc;
use std::time::Instant;

use lamplighter_store::MemoryKv;
use lamplighter_types::wire::{ArchivedBlock, read_archive_page};
use lamplighter_types::{Attestation, Certificate};
use tempfile::TempDir;

use super::cost::{Fleet, Load};
use super::secret;
use crate::audit::{Auditor, Keeps, Signatures, prepare};
use crate::read::archive;

const COUNT: &str = "LAMPLIGHTER_AUDIT_TRANSACTIONS";
const COUNT_SMALL: u64 = 2_000;
const PER_BLOCK: u64 = 1_000;

/// A chain of so many transactions with one event each, and its last certificate.
fn chain(count: u64) -> (Fleet, Vec<ArchivedBlock>) {
    let mut fleet = Fleet::new();
    let load = Load {
        name: "audit",
        blocks: 1,
        transactions: PER_BLOCK,
        events: 1,
        known: false,
    };
    for _ in 0..count / PER_BLOCK {
        let transactions = fleet.transactions(&load);
        fleet.apply(transactions);
    }
    let chain = fleet.machine.chain.clone();
    let head = chain.head();
    let sign = |n| Attestation::sign(head.height, head.hash, &secret(n));
    let attestations: Vec<_> = (1..=3).map(sign).collect();
    let certificate = Certificate::from_attestations(head.height, head.hash, &attestations);
    chain.add_certificate(&certificate).unwrap();
    let mut blocks: Vec<ArchivedBlock> = Vec::new();
    while (blocks.len() as u64) < head.height {
        let (page, _) = archive::page(&chain, blocks.len() as u64 + 1).unwrap();
        blocks.extend(read_archive_page(&page.into_bytes()).unwrap());
    }
    (fleet, blocks)
}

#[test]
fn an_audit_executes_what_a_node_has_executed() {
    let count = env::var(COUNT).map_or(COUNT_SMALL, |count| count.parse().unwrap());
    let (fleet, blocks) = chain(count);
    let chain = &fleet.machine.chain;
    for signatures in [Signatures::Verified, Signatures::LeftOut] {
        let dir = TempDir::new().unwrap();
        let kv = Arc::new(MemoryKv::new());
        let mut auditor = Auditor::open(kv, chain.genesis(), dir.path(), Keeps::State).unwrap();
        let pages: Vec<Vec<_>> = blocks.chunks(8).map(<[_]>::to_vec).collect();
        let begun = Instant::now();
        let prepared = pages
            .into_iter()
            .map(|page| prepare(page, &chain.chain_id(), signatures));
        let prepared: Vec<_> = prepared.flatten().collect();
        let preparation = begun.elapsed();
        let begun = Instant::now();
        for block in prepared {
            auditor.check(block).unwrap();
        }
        let execution = begun.elapsed();
        let progress = auditor.progress();
        auditor.check_end(chain.certified_height()).unwrap();
        assert_eq!(auditor.header().hash(), chain.head().hash);
        assert!(progress.transactions > count);
        let rate = |seconds: f64| progress.transactions as f64 / seconds;
        println!(
            "{signatures:?}: {:.0} transactions/s on one core ({:.0} prepared, {:.0} executed)",
            rate((preparation + execution).as_secs_f64()),
            rate(preparation.as_secs_f64()),
            rate(execution.as_secs_f64()),
        );
    }
}
