use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lamplighter_types::{Hash, Outcome, Receipt};
use proptest::prelude::*;

use super::submitter::Bench;
use super::{failed, receipt};
use crate::spool::ReportIdentity;

/// A ledger that executes each report once.
#[derive(Default)]
struct Ledger {
    receipts: BTreeMap<Hash, Receipt>,
    reports: BTreeSet<ReportIdentity>,
    highest: u64,
}

impl Ledger {
    fn execute(&mut self, bench: &Bench, transaction: Hash) {
        let mut in_flight = bench.spool.in_flight().iter();
        let found = in_flight.find(|(_, one)| one.transaction == transaction);
        let Some((sequence, in_flight)) =
            found.filter(|_| !self.receipts.contains_key(&transaction))
        else {
            return;
        };
        self.highest = self.highest.max(*sequence);
        let waiting = in_flight.items.values();
        let identities: BTreeSet<_> = waiting.map(|one| one.outgoing.identity()).collect();
        let receipt = if identities.is_disjoint(&self.reports) {
            self.reports.extend(identities);
            receipt(transaction, Outcome::Succeeded)
        } else {
            failed(transaction)
        };
        self.receipts.insert(transaction, receipt);
    }
}

/// One thing that happens to the gateway.
#[derive(Clone, Debug)]
enum Input {
    Report(u8),
    Connect,
    Disconnect,
    DiskFails,
    DiskWorks,
    /// Time passes, and what waits is signed.
    Tick(u64),
    /// All transactions of the queue are sent; those whose bit is 0 are lost.
    Send(u8),
    /// A node announces the receipt of a transaction in flight, which may not exist.
    Announce(usize),
    /// A node refuses a transaction in flight, which may have been executed.
    Refuse(usize),
    AnswerFetch,
    AnswerQuery,
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        4 => (0u8..4).prop_map(Input::Report),
        2 => Just(Input::Connect),
        1 => Just(Input::Disconnect),
        1 => Just(Input::DiskFails),
        2 => Just(Input::DiskWorks),
        4 => (50u64..20_000).prop_map(Input::Tick),
        4 => any::<u8>().prop_map(Input::Send),
        3 => (0usize..8).prop_map(Input::Announce),
        1 => (0usize..8).prop_map(Input::Refuse),
        3 => Just(Input::AnswerFetch),
        3 => Just(Input::AnswerQuery),
    ]
}

struct Run {
    bench: Bench,
    ledger: Ledger,
    reports: u64,
    connected: bool,
}

impl Run {
    fn in_flight(&self, index: usize) -> Option<Hash> {
        let mut all = self.bench.spool.in_flight().values();
        all.nth(index).map(|one| one.transaction)
    }

    fn answer_fetch(&mut self) {
        let Some(transaction) = self.bench.fetches.first().copied() else {
            return;
        };
        if let Some(receipt) = self.ledger.receipts.get(&transaction).cloned() {
            self.bench.prove(&receipt);
        } else {
            self.bench.fail_fetch(transaction);
        }
    }

    fn apply(&mut self, input: Input) {
        let bench = &mut self.bench;
        match input {
            Input::Report(device) => {
                self.reports += 1;
                bench.add_event(&format!("lamp-{device}"), self.reports);
            }
            Input::Connect => {
                self.connected = true;
                bench.connect();
            }
            Input::Disconnect => {
                self.connected = false;
                bench.submitter.disconnected();
            }
            Input::DiskFails => bench.disk_works = false,
            Input::DiskWorks => bench.disk_works = true,
            Input::Tick(ms) => {
                bench.tick(Duration::from_millis(ms));
                let signed = bench.sign();
                assert!(self.connected || signed == 0);
            }
            Input::Send(mask) => {
                if bench.submitter.has_transaction() {
                    for (bit, transaction) in bench.send().into_iter().enumerate() {
                        if mask >> (bit % 8) & 1 == 1 {
                            self.ledger.execute(&self.bench, transaction);
                        }
                    }
                }
            }
            Input::Announce(index) => {
                if let Some(transaction) = self.in_flight(index) {
                    self.bench.announce(transaction);
                }
            }
            Input::Refuse(index) => {
                if let Some(transaction) = self.in_flight(index) {
                    self.bench.refuse(transaction);
                }
            }
            Input::AnswerFetch => self.answer_fetch(),
            Input::AnswerQuery if bench.queries > 0 => bench.answer_query(self.ledger.highest),
            Input::AnswerQuery => {}
        }
    }

    /// Everything works from now on.
    fn finish(&mut self) {
        self.apply(Input::DiskWorks);
        self.apply(Input::Connect);
        for _ in 0..500 {
            self.apply(Input::AnswerQuery);
            self.apply(Input::Tick(16_000));
            self.apply(Input::Send(0xff));
            while !self.bench.fetches.is_empty() {
                self.answer_fetch();
            }
            if self.bench.spool.bytes() == 0 {
                return;
            }
        }
    }
}

proptest! {
    #[test]
    fn each_report_is_executed_once_and_leaves_the_spool_once(
        inputs in prop::collection::vec(input(), 0..150),
    ) {
        let mut run = Run {
            bench: Bench::new(),
            ledger: Ledger::default(),
            reports: 0,
            connected: false,
        };
        inputs.into_iter().for_each(|input| run.apply(input));
        run.finish();
        prop_assert_eq!(run.bench.spool.bytes(), 0);
        let resolved = run.bench.resolved.iter();
        let resolved: Vec<_> = resolved.map(|(report, _)| report.identity()).collect();
        let distinct: BTreeSet<_> = resolved.iter().cloned().collect();
        prop_assert_eq!(resolved.len() as u64, run.reports);
        prop_assert_eq!(&distinct, &run.ledger.reports);
    }
}
