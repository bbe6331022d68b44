//! The meaning of a proven receipt for the reports of its transaction. No IO.

use lamplighter_contracts::refusal;
use lamplighter_types::{Fact, Hash, Id, MessageKind, Outcome, Receipt};
use tokio::time::Instant;

use super::deferral::DeferredReports;
use crate::spool::{InFlightTransaction, OutgoingReport, SpoolRecord, SpoolState};

/// Why the ledger rejected a report for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub code: String,
    pub message: String,
}

/// A report that the ledger has accepted or rejected for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedReport {
    /// Its number in the spool.
    pub number: u64,
    pub outgoing: OutgoingReport,
    pub rejection: Option<Rejection>,
}

/// The consequence of a receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptOutcome {
    /// For the spool.
    pub record: SpoolRecord,
    /// The reports that leave the spool with this record.
    pub resolved: Vec<ResolvedReport>,
    /// Rejected reports that stay in the spool, because they can't be written to the dead letters
    /// now.
    pub unwritten: Vec<ResolvedReport>,
    /// The reports that stay in the spool because they were refused for a reason that may pass, for
    /// the first time.
    pub deferred: Vec<u64>,
}

/// Reads the receipt of a transaction in flight. One that failed as a whole because of one of its
/// reports is divided in two, until the bad report stands alone. Reports that were refused for a
/// reason that may pass wait again.
pub fn apply_receipt(
    in_flight: &InFlightTransaction,
    receipt: &Receipt,
    spool: &SpoolState,
    deferred: &mut DeferredReports,
    now: Instant,
) -> ReceiptOutcome {
    let transaction = in_flight.transaction;
    match &receipt.outcome {
        Outcome::Failed { .. } if in_flight.items.len() > 1 => {
            ReceiptOutcome::requeue(transaction, in_flight.items.len() as u32 / 2)
        }
        Outcome::Failed { code, fields } => {
            let rejection = Rejection {
                code: code.clone(),
                message: refusal::message(code, fields),
            };
            let rejection_of = |_: &OutgoingReport| Some(rejection.clone());
            ReceiptOutcome::resolve(in_flight, rejection_of, spool, deferred, now)
        }
        Outcome::Succeeded => {
            let rejection_of = |outgoing: &OutgoingReport| rejection_of(outgoing, receipt);
            ReceiptOutcome::resolve(in_flight, rejection_of, spool, deferred, now)
        }
    }
}

impl ReceiptOutcome {
    fn requeue(transaction: Hash, batch_max: u32) -> Self {
        Self {
            record: SpoolRecord::Requeue {
                transaction,
                batch_max,
            },
            resolved: Vec::new(),
            unwritten: Vec::new(),
            deferred: Vec::new(),
        }
    }

    fn resolve(
        in_flight: &InFlightTransaction,
        rejection_of: impl Fn(&OutgoingReport) -> Option<Rejection>,
        spool: &SpoolState,
        deferred: &mut DeferredReports,
        now: Instant,
    ) -> Self {
        let transaction = in_flight.transaction;
        let mut outcome = Self {
            record: SpoolRecord::Resolve { transaction },
            resolved: Vec::new(),
            unwritten: Vec::new(),
            deferred: Vec::new(),
        };
        for (number, waiting) in &in_flight.items {
            let (number, outgoing) = (*number, &waiting.outgoing);
            let rejection = rejection_of(outgoing);
            let is_deferred = rejection.as_ref().is_some_and(|rejection| {
                deferred.defer((number, outgoing), &rejection.code, spool, now)
            });
            if is_deferred {
                outcome.keep(number);
                if waiting.deferred_since_ms.is_none() {
                    outcome.deferred.push(number);
                }
                continue;
            }
            outcome.resolved.push(ResolvedReport {
                number,
                outgoing: outgoing.clone(),
                rejection,
            });
        }
        outcome
    }

    /// Lets a report of the transaction wait again.
    fn keep(&mut self, number: u64) {
        match &mut self.record {
            SpoolRecord::ResolvePart { kept, .. } => kept.push(number),
            SpoolRecord::Resolve { transaction } => {
                self.record = SpoolRecord::ResolvePart {
                    transaction: *transaction,
                    kept: vec![number],
                };
            }
            // All reports of the transaction wait again, or it is another record.
            SpoolRecord::Requeue { .. }
            | SpoolRecord::Add { .. }
            | SpoolRecord::Sign { .. }
            | SpoolRecord::Deferred { .. }
            | SpoolRecord::Counters { .. } => {}
        }
    }

    /// The records for the spool: the outcome, and since when reports are deferred. A restart must
    /// not begin their time again.
    pub fn records(&self, now_ms: u64) -> Vec<SpoolRecord> {
        let numbers = self.deferred.clone();
        let deferred = (!numbers.is_empty()).then_some(SpoolRecord::Deferred {
            since_ms: now_ms,
            numbers,
        });
        [self.record.clone()].into_iter().chain(deferred).collect()
    }

    /// Keeps the rejected reports in the spool of which `write` says that they could not be
    /// written to the dead letters.
    pub fn write_rejected(&mut self, mut write: impl FnMut(&ResolvedReport) -> bool) {
        let resolved = std::mem::take(&mut self.resolved);
        for report in resolved {
            if report.rejection.is_none() || write(&report) {
                self.resolved.push(report);
            } else {
                self.keep(report.number);
                self.unwritten.push(report);
            }
        }
    }
}

/// The rejection of one report in a transaction that succeeded: the receipt names those that were
/// refused.
fn rejection_of(outgoing: &OutgoingReport, receipt: &Receipt) -> Option<Rejection> {
    receipt.notifications.iter().find_map(|notification| {
        let code = match (&notification.fact, outgoing) {
            (
                Fact::ReportRefused {
                    rollout,
                    to,
                    counter,
                    code,
                },
                OutgoingReport::Deployment(report),
            ) => {
                let place = notification.place.as_ref();
                let is_device = place.is_none_or(|place| place.device == report.device);
                let is_report =
                    (rollout, to, counter) == (&report.rollout, &report.to, &report.counter);
                (is_device && is_report).then_some(code)
            }
            (
                Fact::MessageRefused {
                    message,
                    device,
                    number,
                    code,
                },
                outgoing,
            ) => (message_of(outgoing) == Some((*message, device, *number))).then_some(code),
            _ => None,
        }?;
        Some(Rejection {
            code: code.clone(),
            message: "the receipt names the report as refused".to_owned(),
        })
    })
}

/// The name of a report that the ledger refuses one by one; `None` for those of deployments, which
/// have a fact of their own, and for new keys.
fn message_of(outgoing: &OutgoingReport) -> Option<(MessageKind, &Id, u64)> {
    match outgoing {
        OutgoingReport::Event(event) => Some((MessageKind::Event, &event.device, event.sequence)),
        OutgoingReport::Inventory(report) => {
            Some((MessageKind::Inventory, &report.device, report.counter))
        }
        OutgoingReport::Config(report) => {
            Some((MessageKind::Config, &report.device, report.counter))
        }
        OutgoingReport::Deployment(_) | OutgoingReport::KeyRotation(_) => None,
    }
}
