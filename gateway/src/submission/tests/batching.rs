use std::collections::BTreeMap;
use std::time::Duration;

use lamplighter_contracts::Refusal;
use lamplighter_contracts::allowance::AllowanceError;
use lamplighter_contracts::devices::DevicesError;
use lamplighter_types::{
    Action, DeploymentState, DeviceStatus, EventsAction, Fact, Hash, Id, MessageKind, Notification,
    Outcome, Place, Receipt, RolloutsAction, Scope,
};
use tokio::time::Instant;

use super::{add, config, event, failed, id, receipt, rotation, sign, spool_with, step};
use crate::spool::{BATCH_ITEMS_MAX, InFlightTransaction, OutgoingReport, SpoolRecord, SpoolState};
use crate::submission::batching::{self, IN_FLIGHT_MAX, ReportBatch};
use crate::submission::deferral::{DEFERRED_MAX, DeferredReports};
use crate::submission::receipt::{self as receipts, ReceiptOutcome, ResolvedReport};

fn next_batch(spool: &SpoolState) -> Option<ReportBatch> {
    batching::next_batch(spool, &DeferredReports::default(), Instant::now())
}

fn apply_receipt(in_flight: &InFlightTransaction, receipt: &Receipt) -> ReceiptOutcome {
    receipts::apply_receipt(
        in_flight,
        receipt,
        &SpoolState::default(),
        &mut DeferredReports::default(),
        Instant::now(),
    )
}

/// Signs the next batch; returns the numbers in it and the transaction.
fn sign_next(spool: &mut SpoolState) -> Option<(Vec<u64>, Hash)> {
    let batch = next_batch(spool)?;
    Some(sign(spool, batch))
}

#[test]
fn reports_of_one_device_are_sent_in_their_order() {
    use DeploymentState::{Downloaded, Downloading, Offered};
    let all = [
        step("a", Offered, 1),
        step("a", Downloading, 2),
        config("a", 3),
        step("b", Offered, 1),
        step("a", Downloaded, 4),
        event("a", 1),
    ];
    let mut spool = spool_with(all);
    // Later reports of `a` wait behind its configuration; events and other devices do not.
    let (first, transaction) = sign_next(&mut spool).unwrap();
    assert_eq!(first, [1, 2, 4]);
    assert_eq!(sign_next(&mut spool).unwrap().0, [6]);
    assert_eq!(sign_next(&mut spool), None);
    let in_flight = spool.transaction(&transaction).unwrap();
    let outcome = apply_receipt(in_flight, &receipt(transaction, Outcome::Succeeded));
    assert_eq!(outcome.resolved.len(), 3);
    spool.apply(outcome.record).unwrap();
    assert_eq!(sign_next(&mut spool).unwrap().0, [3]);
    assert_eq!(sign_next(&mut spool), None);
}

#[test]
fn a_bad_event_is_found_by_halving() {
    let mut spool = spool_with((1..=100).map(|n| event(&format!("lamp-{n}"), 1)));
    let (mut rejected, mut accepted, mut rounds) = (Vec::new(), 0, 0);
    while let Some((items, transaction)) = sign_next(&mut spool) {
        rounds += 1;
        let receipt = if items.contains(&37) {
            failed(transaction)
        } else {
            receipt(transaction, Outcome::Succeeded)
        };
        let outcome = apply_receipt(spool.transaction(&transaction).unwrap(), &receipt);
        spool.apply(outcome.record).unwrap();
        for report in outcome.resolved {
            match report.rejection {
                Some(rejection) => rejected.push((report.outgoing, rejection.code)),
                None => accepted += 1,
            }
        }
    }
    assert_eq!(
        rejected,
        [(event("lamp-37", 1), "events.sequence_used".to_owned())]
    );
    assert_eq!(accepted, 99);
    assert!(rounds < 20, "{rounds} transactions");
}

fn refused(outgoing: &OutgoingReport, code: &str) -> Notification {
    let (message, number) = match outgoing {
        OutgoingReport::Event(event) => (MessageKind::Event, event.sequence),
        OutgoingReport::Config(report) => (MessageKind::Config, report.counter),
        other => panic!("no test refuses {other:?}"),
    };
    Notification::city(Fact::MessageRefused {
        message,
        device: outgoing.device().clone(),
        number,
        code: code.to_owned(),
    })
}

/// A ledger that refuses the reports of certain devices, and the spool before it.
pub struct Bench {
    pub spool: SpoolState,
    pub deferred: DeferredReports,
    pub now: Instant,
    pub now_ms: u64,
    pub refused: BTreeMap<Id, Refusal>,
    pub accepted: Vec<OutgoingReport>,
    pub rejected: Vec<OutgoingReport>,
    pub tries: usize,
}

impl Bench {
    pub fn new(all: impl IntoIterator<Item = OutgoingReport>) -> Self {
        Self {
            spool: spool_with(all),
            deferred: DeferredReports::default(),
            now: Instant::now(),
            now_ms: 1_700_000_000_000,
            refused: BTreeMap::new(),
            accepted: Vec::new(),
            rejected: Vec::new(),
            tries: 0,
        }
    }

    /// The receipt as the contracts make it: messages are refused one by one, unless one came alone
    /// or the reason is about the whole transaction.
    fn execute(&self, in_flight: &InFlightTransaction) -> Receipt {
        let mut refusals = in_flight.items.values().filter_map(|item| {
            let refusal = self.refused.get(item.outgoing.device())?;
            Some((item.outgoing.clone(), refusal.clone()))
        });
        let transaction = in_flight.transaction;
        let fails =
            |refusal: &Refusal| in_flight.items.len() == 1 || refusal.code.starts_with("allowance");
        let whole = refusals.clone().find(|(_, refusal)| fails(refusal));
        if let Some((_, Refusal { code, fields })) = whole {
            let code = code.to_owned();
            return receipt(transaction, Outcome::Failed { code, fields });
        }
        let mut receipt = receipt(transaction, Outcome::Succeeded);
        receipt.notifications = refusals
            .by_ref()
            .map(|(outgoing, refusal)| refused(&outgoing, refusal.code))
            .collect();
        receipt
    }

    /// Sends all that can be sent after a pause.
    pub fn after(&mut self, pause: Duration) {
        self.now += pause;
        self.now_ms += pause.as_millis() as u64;
        while let Some(batch) = batching::next_batch(&self.spool, &self.deferred, self.now) {
            let (_, transaction) = sign(&mut self.spool, batch);
            let in_flight = self.spool.transaction(&transaction).unwrap();
            let receipt = self.execute(in_flight);
            self.tries += 1;
            let outcome = receipts::apply_receipt(
                in_flight,
                &receipt,
                &self.spool,
                &mut self.deferred,
                self.now,
            );
            for record in outcome.records(self.now_ms) {
                self.spool.apply(record).unwrap();
            }
            let resolved = outcome.resolved;
            self.deferred.resolved(&resolved, &self.spool, self.now);
            for ResolvedReport {
                outgoing,
                rejection,
                ..
            } in resolved
            {
                match rejection {
                    Some(_) => self.rejected.push(outgoing),
                    None => self.accepted.push(outgoing),
                }
            }
        }
    }
}

pub fn suspended(device: &str) -> Refusal {
    let (device, status) = (id(device), DeviceStatus::Suspended);
    Refusal::of(DevicesError::WrongStatus { device, status })
}

fn elsewhere(device: &str) -> Refusal {
    let (device, account) = (id(device), id("gw"));
    Refusal::of(DevicesError::NotYourDevice { device, account })
}

fn allowance_used() -> Refusal {
    Refusal::of(AllowanceError::RecordsUsed {
        account: id("gw"),
        needed: 1,
        used: 10_000,
        allowed: 10_000,
        renewed_ms: 1,
    })
}

#[test]
fn a_report_that_is_refused_for_a_temporary_reason_is_deferred_alone() {
    for error in [suspended("a"), elsewhere("a"), allowance_used()] {
        let mut bench = Bench::new([event("a", 1), event("b", 1), event("a", 2), config("a", 1)]);
        bench.refused.insert(id("a"), error);
        bench.after(Duration::ZERO);
        assert_eq!(bench.accepted, [event("b", 1)]);
        assert!(
            bench.deferred.is_deferred(&event("a", 3))
                && bench.deferred.is_deferred(&config("a", 2))
        );
        assert!(!bench.deferred.is_deferred(&event("b", 2)));
        let tries = bench.tries;
        bench.after(Duration::from_secs(2));
        assert_eq!(bench.tries, tries, "not at once");
        for _ in 0..60 {
            bench.after(Duration::from_secs(60));
        }
        let tries = bench.tries - tries;
        assert!((4..60).contains(&tries), "{tries} in an hour");
        bench.refused.clear();
        bench.deferred.retry_now(&id("a"), bench.now);
        bench.after(Duration::ZERO);
        let events: Vec<_> = bench.accepted.iter().filter(|o| o.is_event()).collect();
        assert_eq!(events, [&event("b", 1), &event("a", 1), &event("a", 2)]);
        assert_eq!((bench.accepted.len(), bench.rejected.len()), (4, 0));
        assert!(
            !bench.deferred.is_deferred(&event("a", 3))
                && !bench.deferred.is_deferred(&config("a", 2))
        );
    }
}

#[test]
fn a_report_is_rejected_after_a_day() {
    let mut bench = Bench::new([event("a", 1), event("a", 2)]);
    bench.refused.insert(id("a"), suspended("a"));
    bench.after(Duration::ZERO);
    bench.after(DEFERRED_MAX - Duration::from_secs(1));
    assert_eq!(bench.rejected, []);
    bench.after(Duration::from_secs(601));
    assert_eq!(bench.rejected, [event("a", 1), event("a", 2)]);
    assert!(!bench.deferred.is_deferred(&event("a", 3)));
    // A permanent reason is not deferred at all.
    let mut bench = Bench::new([event("a", 1)]);
    bench
        .refused
        .insert(id("a"), Refusal::of(DevicesError::UnknownDevice(id("a"))));
    bench.after(Duration::ZERO);
    assert_eq!(bench.rejected, [event("a", 1)]);
}

#[test]
fn a_report_waits_for_the_allowance_of_the_next_day() {
    let mut bench = Bench::new([event("a", 1)]);
    bench.refused.insert(id("a"), allowance_used());
    bench.after(Duration::ZERO);
    // A day and more, with a try every ten minutes.
    for _ in 0..26 * 6 {
        bench.after(Duration::from_secs(600));
    }
    assert_eq!(bench.rejected, []);
    bench.refused.clear();
    bench.after(Duration::from_secs(600));
    assert_eq!(bench.accepted, [event("a", 1)]);
}

#[test]
fn a_refused_report_of_a_batch_is_distinguished_from_the_others() {
    let mut spool = spool_with([
        step("a", DeploymentState::Offered, 1),
        step("b", DeploymentState::Offered, 1),
    ]);
    let (_, transaction) = sign_next(&mut spool).unwrap();
    let mut receipt = receipt(transaction, Outcome::Succeeded);
    receipt.notifications.push(Notification {
        place: Some(Place {
            device: id("b"),
            district: Scope::city(),
            gateway: None,
        }),
        fact: Fact::ReportRefused {
            rollout: id("r1"),
            to: DeploymentState::Offered,
            counter: 1,
            code: "rollouts.stale".to_owned(),
        },
    });
    let outcome = apply_receipt(spool.transaction(&transaction).unwrap(), &receipt);
    let rejected: Vec<_> = outcome
        .resolved
        .iter()
        .map(|report| report.rejection.is_some())
        .collect();
    assert_eq!(rejected, [false, true]);
}

#[test]
fn transactions_are_bounded_in_number_and_size() {
    let mut spool = spool_with((0..20_000).map(|n| event(&format!("lamp-{n}"), 1)));
    for _ in 0..IN_FLIGHT_MAX {
        assert_eq!(
            sign_next(&mut spool).unwrap().0.len(),
            BATCH_ITEMS_MAX as usize
        );
    }
    assert_eq!(sign_next(&mut spool), None);
    let long = |n: u64| {
        let OutgoingReport::Event(mut event) = event(&format!("lamp-{n}"), 1) else {
            unreachable!()
        };
        event.data = "d".repeat(1_024);
        OutgoingReport::Event(event)
    };
    let batch = next_batch(&spool_with((0..100).map(long))).unwrap();
    let Action::Events(EventsAction::Append { events }) = batch.action else {
        unreachable!()
    };
    assert!(events.len() < 100 && events.len() > 40, "{}", events.len());
}

#[test]
fn kinds_become_their_actions() {
    let action = |outgoing| next_batch(&spool_with([outgoing])).unwrap().action;
    let reported = action(step("a", DeploymentState::Offered, 1));
    assert!(matches!(
        reported,
        Action::Rollouts(RolloutsAction::Report { .. })
    ));
    assert!(matches!(action(config("a", 1)), Action::Config(_)));
    assert!(matches!(action(event("a", 1)), Action::Events(_)));
    assert_eq!(next_batch(&SpoolState::default()), None);
}

#[test]
fn a_new_key_waits_for_what_the_former_one_has_signed() {
    let mut spool = spool_with([
        event("a", 1),
        rotation("a", 1),
        config("a", 2),
        event("b", 1),
    ]);
    assert!(spool.is_rotating(&id("a")) && !spool.is_rotating(&id("b")));
    let (first, events) = sign_next(&mut spool).unwrap();
    assert_eq!(first, [1, 4]);
    assert_eq!(sign_next(&mut spool), None, "the event is in flight");
    spool
        .apply(SpoolRecord::Resolve {
            transaction: events,
        })
        .unwrap();
    let (second, rotations) = sign_next(&mut spool).unwrap();
    assert_eq!(second, [2]);
    // The report after it is signed by the new key, which the ledger does not have yet.
    assert_eq!(sign_next(&mut spool), None);
    let copy = spool.records();
    let mut again = SpoolState::default();
    copy.into_iter()
        .for_each(|record| again.apply(record).unwrap());
    assert!(again.is_rotating(&id("a")), "after a restart too");
    let resolve = SpoolRecord::Resolve {
        transaction: rotations,
    };
    spool.apply(resolve).unwrap();
    assert!(!spool.is_rotating(&id("a")));
    assert_eq!(sign_next(&mut spool).unwrap().0, [3]);
}

#[test]
fn a_suspended_device_costs_no_other_a_transaction() {
    let mut bench = Bench::new((1..=100).map(|n| event(&format!("lamp-{n}"), 1)));
    for sequence in 2..=20 {
        add(&mut bench.spool, event("lamp-37", sequence));
    }
    bench.refused.insert(id("lamp-37"), suspended("lamp-37"));
    bench.after(Duration::ZERO);
    assert_eq!((bench.accepted.len(), bench.rejected.len()), (99, 0));
    assert!(bench.tries <= 2, "{} transactions", bench.tries);
    bench.refused.clear();
    bench.deferred.retry_now(&id("lamp-37"), bench.now);
    bench.after(Duration::ZERO);
    assert_eq!((bench.accepted.len(), bench.rejected.len()), (119, 0));
    assert!(bench.tries <= 4, "{} transactions", bench.tries);
}

#[test]
fn a_wrong_signature_waits_for_the_key_but_not_for_long() {
    let wrong = || Refusal::of(DevicesError::WrongSignature(id("a")));
    let mut bench = Bench::new([event("a", 1), event("b", 1)]);
    bench.refused.insert(id("a"), wrong());
    bench.after(Duration::ZERO);
    assert_eq!((bench.accepted.len(), bench.rejected.len()), (1, 0));
    for _ in 0..9 {
        bench.after(Duration::from_secs(60));
    }
    assert_eq!(bench.rejected, []);
    for _ in 0..10 {
        bench.after(Duration::from_secs(120));
    }
    assert_eq!(bench.rejected, [event("a", 1)]);
}

#[test]
fn what_is_rejected_and_not_written_down_waits_in_the_spool() {
    let mut spool = spool_with([event("a", 1), event("b", 1)]);
    let (_, transaction) = sign_next(&mut spool).unwrap();
    let mut receipt = receipt(transaction, Outcome::Succeeded);
    let code = "events.sequence_used";
    receipt.notifications.push(refused(&event("a", 1), code));
    let mut outcome = apply_receipt(spool.transaction(&transaction).unwrap(), &receipt);
    outcome.write_rejected(|_| false);
    let resolved: Vec<_> = outcome.resolved.iter().map(|one| &one.outgoing).collect();
    assert_eq!(resolved, [&event("b", 1)]);
    spool.apply(outcome.record).unwrap();
    assert!(spool.contains(&event("a", 1)) && !spool.contains(&event("b", 1)));
    let (mut deferred, now) = (DeferredReports::default(), Instant::now());
    for report in &outcome.unwritten {
        deferred.defer_unwritten((report.number, &report.outgoing), &spool, now);
    }
    deferred.resolved(&outcome.resolved, &spool, now);
    assert!(deferred.is_blocked(&event("a", 2), now));
    let retry_at = now + Duration::from_secs(3600);
    assert_eq!(
        batching::next_batch(&spool, &deferred, retry_at)
            .unwrap()
            .items,
        [1]
    );
}
