use std::time::Duration;

use lamplighter_types::{Hash, Outcome, Receipt};
use tokio::time::Instant;

use super::{add, chain, event, failed, id, receipt, secret};
use crate::spool::{OutgoingReport, SpoolRecord, SpoolState};
use crate::submission::submitter::{PAUSE, PROOFS_MAX, RESEND_AFTER};
use crate::submission::{Signer, SubmitCommand, Submitter};

/// A submitter, a spool that can fail, and the requests that nobody has answered yet.
pub(super) struct Bench {
    pub submitter: Submitter,
    pub spool: SpoolState,
    pub now: Instant,
    pub disk_works: bool,
    /// Queries of the sequence number.
    pub queries: usize,
    /// Receipts that are being fetched.
    pub fetches: Vec<Hash>,
    /// Reports that have left the spool, with true if they were rejected.
    pub resolved: Vec<(OutgoingReport, bool)>,
}

impl Bench {
    pub fn new() -> Self {
        let signer = Signer {
            account: id("gw"),
            secret: secret(),
            chain_id: chain(),
        };
        let now = Instant::now();
        Self {
            submitter: Submitter::new(signer, &SpoolState::default(), now, 0),
            spool: SpoolState::default(),
            now,
            disk_works: true,
            queries: 0,
            fetches: Vec::new(),
            resolved: Vec::new(),
        }
    }

    /// A bench that is connected and knows the sequence number.
    fn ready() -> Self {
        let mut bench = Self::new();
        bench.connect();
        bench.answer_query(0);
        bench
    }

    pub fn add_event(&mut self, device: &str, sequence: u64) {
        add(&mut self.spool, event(device, sequence));
    }

    pub fn run(&mut self, commands: impl IntoIterator<Item = SubmitCommand>) {
        for command in commands {
            let more =
                match command {
                    SubmitCommand::QuerySequence => {
                        self.queries += 1;
                        Vec::new()
                    }
                    SubmitCommand::FetchReceipt(transaction) => {
                        self.fetches.push(transaction);
                        assert!(self.fetches.len() <= PROOFS_MAX);
                        Vec::new()
                    }
                    SubmitCommand::Store(record) => {
                        let stored = self.store(&record);
                        self.submitter
                            .stored(&record, stored, &self.spool, self.now)
                    }
                    SubmitCommand::Resolve { outcome, .. } => {
                        let stored = self.store(&outcome.record);
                        if stored {
                            let resolved = outcome.resolved.iter();
                            self.resolved.extend(resolved.map(|report| {
                                (report.outgoing.clone(), report.rejection.is_some())
                            }));
                        }
                        self.submitter
                            .outcome_stored(&outcome, stored, &self.spool, self.now)
                    }
                };
            self.run(more);
        }
    }

    fn store(&mut self, record: &SpoolRecord) -> bool {
        if self.disk_works {
            self.spool.apply(record.clone()).unwrap();
        }
        self.disk_works
    }

    pub fn connect(&mut self) {
        let commands = self.submitter.connected(&self.spool);
        self.run(commands);
    }

    pub fn answer_query(&mut self, highest: u64) {
        self.queries -= 1;
        let command = self
            .submitter
            .sequence_fetched(Some(highest), &self.spool, self.now);
        self.run(command);
    }

    /// Signs all that can be signed; returns how many transactions that were.
    pub fn sign(&mut self) -> usize {
        let mut count = 0;
        while let Some(record) = self.submitter.sign_next(&self.spool, self.now, 1) {
            self.run([SubmitCommand::Store(record)]);
            count += 1;
        }
        count
    }

    pub fn tick(&mut self, pause: Duration) {
        self.now += pause;
        let commands = self.submitter.tick(&self.spool, self.now);
        self.run(commands);
    }

    /// Sends all transactions of the queue.
    pub fn send(&mut self) -> Vec<Hash> {
        let mut sent = Vec::new();
        while let Some(envelope) = self.submitter.next_transaction(&self.spool, self.now) {
            sent.push(envelope.hash(&chain()));
        }
        assert!(!self.submitter.has_transaction());
        sent
    }

    pub fn announce(&mut self, transaction: Hash) {
        let command = self.submitter.receipt_announced(transaction, &self.spool);
        self.run(command);
    }

    pub fn refuse(&mut self, transaction: Hash) {
        let commands = self
            .submitter
            .transaction_refused(transaction, &self.spool, self.now);
        self.run(commands);
    }

    /// Answers the fetch of a receipt with its proof.
    pub fn prove(&mut self, receipt: &Receipt) {
        self.answer_fetch(receipt.transaction, Some((receipt.clone(), 9)));
    }

    /// Ends the fetch of a receipt that no node proves.
    pub fn fail_fetch(&mut self, transaction: Hash) {
        self.answer_fetch(transaction, None);
    }

    fn answer_fetch(&mut self, transaction: Hash, proven: Option<(Receipt, u64)>) {
        self.fetches.retain(|fetched| *fetched != transaction);
        let command = self
            .submitter
            .receipt_fetched(transaction, proven, &self.spool, self.now);
        self.run(command);
    }
}

fn succeeded(transaction: Hash) -> Receipt {
    receipt(transaction, Outcome::Succeeded)
}

#[test]
fn a_report_is_submitted_and_its_receipt_is_proven() {
    let mut bench = Bench::new();
    bench.add_event("a", 1);
    assert_eq!(bench.sign(), 0, "not connected");
    bench.connect();
    assert_eq!(
        (bench.queries, bench.sign()),
        (1, 0),
        "the number is not known"
    );
    bench.answer_query(41);
    assert_eq!(bench.sign(), 1);
    assert_eq!(bench.spool.sequence(), 42);
    let sent = bench.send();
    bench.announce(sent[0]);
    bench.announce(sent[0]);
    assert_eq!(bench.fetches, sent, "once");
    assert!(bench.resolved.is_empty(), "an announcement proves nothing");
    bench.prove(&succeeded(sent[0]));
    assert_eq!(bench.resolved, [(event("a", 1), false)]);
    assert!(bench.spool.in_flight().is_empty());
}

#[test]
fn a_refused_transaction_is_signed_again_after_a_pause_with_a_new_number() {
    let mut bench = Bench::ready();
    bench.add_event("a", 1);
    bench.sign();
    let first = bench.send()[0];
    bench.refuse(Hash::of(b"other"));
    assert_eq!(bench.queries, 0);
    bench.refuse(first);
    assert_eq!((bench.queries, bench.sign()), (1, 0));
    bench.answer_query(7);
    assert_eq!(bench.sign(), 0, "not at once");
    bench.tick(PAUSE);
    assert_eq!(bench.sign(), 1);
    assert_eq!(bench.spool.sequence(), 8);
    assert_ne!(bench.send()[0], first);
}

#[test]
fn a_transaction_without_receipt_is_sent_and_looked_for_again() {
    let mut bench = Bench::ready();
    bench.add_event("a", 1);
    bench.sign();
    let sent = bench.send();
    bench.tick(RESEND_AFTER);
    assert_eq!(bench.send(), []);
    bench.tick(Duration::from_millis(1));
    assert_eq!((bench.send(), &bench.fetches), (sent.clone(), &sent));
    // No node can prove it yet.
    bench.fail_fetch(sent[0]);
    bench.submitter.disconnected();
    bench.tick(2 * RESEND_AFTER);
    assert!(!bench.submitter.has_transaction(), "there is no connection");
    bench.connect();
    assert_eq!(bench.send(), sent);
    assert_eq!(bench.queries, 0, "the number is still known");
}

#[test]
fn proofs_are_fetched_in_limited_numbers_and_none_is_forgotten() {
    let mut bench = Bench::ready();
    let count = 3 * PROOFS_MAX as u64;
    for number in 1..=count {
        bench.add_event("a", number);
        bench.sign();
        bench.add_event(&format!("b-{number}"), 1);
    }
    bench.sign();
    let sent = bench.send();
    sent.iter()
        .for_each(|transaction| bench.announce(*transaction));
    while let Some(transaction) = bench.fetches.first().copied() {
        bench.prove(&succeeded(transaction));
    }
    assert!(bench.spool.in_flight().is_empty());
}

#[test]
fn a_node_can_not_use_up_the_sequence_numbers() {
    let mut bench = Bench::new();
    bench.connect();
    bench.answer_query(u64::MAX);
    assert_eq!(bench.spool.sequence(), 1 << 32);
    let mut bench = Bench::ready();
    bench.add_event("a", 1);
    bench.sign();
    let sent = bench.send();
    bench.refuse(sent[0]);
    bench.answer_query(0);
    bench.tick(PAUSE);
    bench.sign();
    assert_eq!(bench.spool.sequence(), 2, "a lower number changes nothing");
}

#[test]
fn a_failed_query_is_repeated_after_a_pause() {
    let mut bench = Bench::new();
    bench.connect();
    bench.queries = 0;
    let failed = bench
        .submitter
        .sequence_fetched(None, &bench.spool, bench.now);
    assert_eq!(failed, None);
    bench.tick(PAUSE / 2);
    assert_eq!(bench.queries, 0);
    bench.tick(PAUSE);
    bench.tick(PAUSE);
    assert_eq!(bench.queries, 1);
}

#[test]
fn a_disk_that_fails_delays_and_loses_nothing() {
    let mut bench = Bench::new();
    bench.disk_works = false;
    bench.connect();
    bench.answer_query(5);
    bench.tick(PAUSE);
    assert_eq!(bench.queries, 1, "the counters were not stored");
    bench.disk_works = true;
    bench.answer_query(5);
    bench.add_event("a", 1);
    bench.disk_works = false;
    assert_eq!(bench.sign(), 1);
    assert_eq!(bench.send(), [], "only durable transactions are sent");
    bench.disk_works = true;
    assert_eq!(bench.sign(), 0, "not at once");
    bench.tick(PAUSE);
    assert_eq!(bench.sign(), 1);
    let sent = bench.send();
    bench.announce(sent[0]);
    bench.disk_works = false;
    bench.prove(&succeeded(sent[0]));
    bench.refuse(sent[0]);
    assert!(bench.spool.transaction(&sent[0]).is_some());
    assert!(bench.resolved.is_empty());
    bench.disk_works = true;
    bench.tick(2 * RESEND_AFTER);
    assert_eq!((bench.send(), &bench.fetches), (sent.clone(), &sent));
    bench.prove(&failed(sent[0]));
    assert_eq!(bench.resolved, [(event("a", 1), true)]);
}

#[test]
fn transactions_that_nodes_refuse_again_and_again_are_signed_less_and_less_often() {
    let mut bench = Bench::ready();
    bench.add_event("lamp", 1);
    let mut signed = 0;
    for second in 0..600 {
        bench.tick(Duration::from_secs(1));
        if bench.queries > 0 {
            bench.answer_query(second);
        }
        signed += bench.sign();
        for transaction in bench.send() {
            bench.refuse(transaction);
        }
    }
    assert!((10..40).contains(&signed), "{signed} in ten minutes");
    // Once a receipt is proven, the pauses are short again.
    bench.tick(Duration::from_secs(60));
    if bench.queries > 0 {
        bench.answer_query(1_000);
    }
    assert_eq!(bench.sign(), 1);
    let sent = bench.send();
    bench.announce(sent[0]);
    bench.prove(&receipt(sent[0], Outcome::Succeeded));
    bench.add_event("lamp", 2);
    assert_eq!(bench.sign(), 1);
    let sent = bench.send();
    bench.refuse(sent[0]);
    bench.tick(PAUSE);
    bench.answer_query(2_000);
    assert_eq!(bench.sign(), 1, "after a short pause");
}
