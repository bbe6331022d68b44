//! The meaning of a proven receipt for the reports of its transaction. No IO.

use lamplighter_contracts::refusal;
use lamplighter_types::{Fact, Hash, Outcome, Receipt};
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
}

/// Reads the receipt of a transaction in flight. One that failed as a whole because of one of its
/// reports is divided in two, until the bad report stands alone. If that one was refused for a
/// reason that may pass, it waits again.
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
            let only = in_flight.items.first_key_value();
            let is_deferred = only.is_some_and(|(number, waiting)| {
                deferred.defer((*number, &waiting.outgoing), code, spool, now)
            });
            if is_deferred {
                return ReceiptOutcome::requeue(transaction, 1);
            }
            let rejection = Rejection {
                code: code.clone(),
                message: refusal::message(code, fields),
            };
            ReceiptOutcome::resolve(in_flight, |_| Some(rejection.clone()))
        }
        Outcome::Succeeded => {
            ReceiptOutcome::resolve(in_flight, |outgoing| rejection_of(outgoing, receipt))
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
        }
    }

    fn resolve(
        in_flight: &InFlightTransaction,
        rejection_of: impl Fn(&OutgoingReport) -> Option<Rejection>,
    ) -> Self {
        let resolved = in_flight.items.values().map(|waiting| ResolvedReport {
            outgoing: waiting.outgoing.clone(),
            rejection: rejection_of(&waiting.outgoing),
        });
        Self {
            record: SpoolRecord::Resolve {
                transaction: in_flight.transaction,
            },
            resolved: resolved.collect(),
        }
    }
}

/// The rejection of one report in a transaction that succeeded. Only reports of deployments are
/// refused one by one, and the receipt names those.
fn rejection_of(outgoing: &OutgoingReport, receipt: &Receipt) -> Option<Rejection> {
    let OutgoingReport::Deployment(report) = outgoing else {
        return None;
    };
    receipt.notifications.iter().find_map(|notification| {
        let place = notification.place.as_ref();
        if place.is_some_and(|place| place.device != report.device) {
            return None;
        }
        match &notification.fact {
            Fact::ReportRefused {
                rollout,
                to,
                counter,
                code,
            } if *rollout == report.rollout && *to == report.to && *counter == report.counter => {
                Some(Rejection {
                    code: code.clone(),
                    message: "the receipt names the report as refused".to_owned(),
                })
            }
            _ => None,
        }
    })
}
