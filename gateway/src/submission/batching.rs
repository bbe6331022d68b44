//! The choice of the reports for the next transaction. No IO.
//!
//! Reports of one device are sent in the order in which they came, because their counters must go
//! up and each step names the state before it: while one is in flight, the next with the same
//! [`OrderingKey`] waits, or goes into the same transaction behind it. Reports of different devices
//! do not wait for each other.

use std::collections::BTreeSet;

use lamplighter_types::{Action, ConfigAction, DevicesAction, EventsAction, RolloutsAction};
use tokio::time::Instant;

use super::deferral::DeferredReports;
use crate::spool::{BATCH_ITEMS_MAX, OrderingKey, OutgoingReport, SpoolState, WaitingReport};

/// Transactions in flight at once: below what the edge takes unacknowledged, far below the window
/// of a key.
pub const IN_FLIGHT_MAX: usize = 64;
/// Bytes of the reports of one transaction. In JSON an envelope is twice as long, and must fit a
/// packet.
const BATCH_BYTES_MAX: u64 = 64 * 1024;
/// Waiting reports that are looked at for one transaction.
const SCAN_MAX: usize = 20_000;

/// The reports of one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportBatch {
    /// Their numbers in the spool.
    pub items: Vec<u64>,
    pub action: Action,
}

/// Chooses the reports for the next transaction; `None` if none can be sent now.
pub fn next_batch(
    spool: &SpoolState,
    deferred: &DeferredReports,
    now: Instant,
) -> Option<ReportBatch> {
    if spool.in_flight().len() >= IN_FLIGHT_MAX {
        return None;
    }
    let in_flight = spool.in_flight().values();
    let in_flight = in_flight.flat_map(|transaction| transaction.items.values());
    let mut blocked: BTreeSet<OrderingKey> = in_flight
        .map(|waiting| waiting.outgoing.ordering_key())
        .collect();
    let mut chosen: Vec<(u64, &WaitingReport)> = Vec::new();
    let (mut limit, mut bytes) = (BATCH_ITEMS_MAX as usize, 0);
    let batch_max = |waiting: &WaitingReport| match &waiting.outgoing {
        // The ledger takes all or none of a transaction: a bad one must not hold up the others.
        OutgoingReport::KeyRotation(_) => 1,
        _ => waiting.batch_max as usize,
    };
    let ready = spool.waiting().iter();
    let ready = ready.filter(|(_, waiting)| !deferred.is_blocked(&waiting.outgoing, now));
    for (number, waiting) in ready.take(SCAN_MAX) {
        let key = waiting.outgoing.ordering_key();
        if blocked.contains(&key) {
            continue;
        }
        if waits_for_events(spool, *number, &waiting.outgoing) {
            blocked.insert(key);
            continue;
        }
        let fits = chosen.first().is_none_or(|(_, first)| {
            same_kind(&first.outgoing, &waiting.outgoing)
                && chosen.len() < limit.min(batch_max(waiting))
                && bytes + waiting.bytes <= BATCH_BYTES_MAX
        });
        if !fits {
            // Newer reports with this key have to wait for it.
            blocked.insert(key);
            continue;
        }
        limit = limit.min(batch_max(waiting));
        bytes += waiting.bytes;
        chosen.push((*number, waiting));
        if chosen.len() >= limit {
            break;
        }
    }
    Some(ReportBatch {
        items: chosen.iter().map(|(number, _)| *number).collect(),
        action: action_of(&chosen)?,
    })
}

/// True if a new key has to wait for events that the present one has signed: the ledger would not
/// accept them any more.
fn waits_for_events(spool: &SpoolState, number: u64, outgoing: &OutgoingReport) -> bool {
    match outgoing {
        OutgoingReport::KeyRotation(rotation) => spool.has_events_before(&rotation.device, number),
        OutgoingReport::Inventory(_)
        | OutgoingReport::Deployment(_)
        | OutgoingReport::Config(_)
        | OutgoingReport::Event(_) => false,
    }
}

fn same_kind(a: &OutgoingReport, b: &OutgoingReport) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

/// The reports of one kind.
macro_rules! of_kind {
    ($chosen:expr, $kind:path) => {{
        let reports = $chosen.iter().filter_map(|(_, waiting)| {
            let $kind(report) = &waiting.outgoing else {
                return None;
            };
            Some(report.clone())
        });
        reports.collect()
    }};
}

/// The action with reports of one kind; `None` if there are no reports.
fn action_of(chosen: &[(u64, &WaitingReport)]) -> Option<Action> {
    let (_, first) = chosen.first()?;
    Some(match &first.outgoing {
        OutgoingReport::Inventory(_) => {
            let reports = of_kind!(chosen, OutgoingReport::Inventory);
            Action::Devices(DevicesAction::ReportInventory { reports })
        }
        OutgoingReport::Deployment(_) => {
            let reports = of_kind!(chosen, OutgoingReport::Deployment);
            Action::Rollouts(RolloutsAction::Report { reports })
        }
        OutgoingReport::Config(_) => {
            let reports = of_kind!(chosen, OutgoingReport::Config);
            Action::Config(ConfigAction::Report { reports })
        }
        OutgoingReport::KeyRotation(_) => {
            let rotations = of_kind!(chosen, OutgoingReport::KeyRotation);
            Action::Devices(DevicesAction::RotateKeys { rotations })
        }
        OutgoingReport::Event(_) => {
            let events = of_kind!(chosen, OutgoingReport::Event);
            Action::Events(EventsAction::Append { events })
        }
    })
}
