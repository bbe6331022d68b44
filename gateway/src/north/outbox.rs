//! Which reports become a transaction, and what a receipt means for them. No IO.
//!
//! Reports of one device go out in the order in which they came, because their counters must go up
//! and each step names the state before it: while one is under way the next of the same [`Lane`]
//! waits, or goes in the same transaction behind it. Different devices do not wait for each other.

use std::collections::BTreeSet;

use lamplighter_types::{
    Action, ConfigAction, DevicesAction, EventsAction, Fact, Hash, Outcome, Receipt, RolloutsAction,
};

use tokio::time::Instant;

use super::held::Held;
use crate::spool::{BATCH_ITEMS_MAX, Flight, Lane, Outgoing, Record, State, Waiting};

/// Transactions under way at once: below what the edge takes unacknowledged, far below the window
/// of a key.
pub const FLIGHTS_MAX: usize = 64;
/// Bytes of the reports of one transaction. In JSON an envelope is twice as long, and must fit a
/// packet.
const BATCH_BYTES_MAX: usize = 64 * 1024;
/// Waiting reports that are looked at for one transaction.
const LOOK_MAX: usize = 20_000;

/// Reports for one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Their numbers.
    pub items: Vec<u64>,
    pub action: Action,
}

/// Chooses reports for the next transaction; `None` if nothing can go now.
pub fn next_batch(state: &State, held: &Held, now: Instant) -> Option<Batch> {
    if state.flights().len() >= FLIGHTS_MAX {
        return None;
    }
    let flying = state
        .flights()
        .values()
        .flat_map(|flight| flight.items.values());
    let mut blocked: BTreeSet<Lane> = flying.map(|waiting| waiting.outgoing.lane()).collect();
    let mut chosen: Vec<(u64, &Waiting)> = Vec::new();
    let (mut limit, mut bytes) = (BATCH_ITEMS_MAX as usize, 0);
    let free = state.waiting().iter();
    let free = free.filter(|(_, waiting)| !held.blocks(&waiting.outgoing, now));
    for (number, waiting) in free.take(LOOK_MAX) {
        let lane = waiting.outgoing.lane();
        if blocked.contains(&lane) {
            continue;
        }
        let size = size_of(&waiting.outgoing);
        let fits = chosen.first().is_none_or(|(_, first)| {
            same_kind(&first.outgoing, &waiting.outgoing)
                && chosen.len() < limit.min(waiting.batch_max as usize)
                && bytes + size <= BATCH_BYTES_MAX
        });
        if !fits {
            // What comes later in this lane has to wait for it.
            blocked.insert(lane);
            continue;
        }
        limit = limit.min(waiting.batch_max as usize);
        bytes += size;
        chosen.push((*number, waiting));
        if chosen.len() >= limit {
            break;
        }
    }
    let items = chosen.iter().map(|(number, _)| *number).collect();
    let action = action_of(chosen.iter().map(|(_, waiting)| &waiting.outgoing))?;
    Some(Batch { items, action })
}

fn size_of(outgoing: &Outgoing) -> usize {
    lamplighter_types::codec::encode(outgoing).len()
}

fn same_kind(a: &Outgoing, b: &Outgoing) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

/// One action for reports of one kind; `None` for none.
fn action_of<'a>(all: impl Iterator<Item = &'a Outgoing>) -> Option<Action> {
    let mut action = None;
    for outgoing in all {
        match (outgoing, &mut action) {
            (Outgoing::Inventory(report), None) => {
                let reports = vec![report.clone()];
                action = Some(Action::Devices(DevicesAction::ReportInventory { reports }));
            }
            (Outgoing::Deployment(report), None) => {
                let reports = vec![report.clone()];
                action = Some(Action::Rollouts(RolloutsAction::Report { reports }));
            }
            (Outgoing::Config(report), None) => {
                let reports = vec![report.clone()];
                action = Some(Action::Config(ConfigAction::Report { reports }));
            }
            (Outgoing::Event(event), None) => {
                let events = vec![event.clone()];
                action = Some(Action::Events(EventsAction::Append { events }));
            }
            (
                Outgoing::Inventory(report),
                Some(Action::Devices(DevicesAction::ReportInventory { reports })),
            ) => reports.push(report.clone()),
            (
                Outgoing::Deployment(report),
                Some(Action::Rollouts(RolloutsAction::Report { reports })),
            ) => reports.push(report.clone()),
            (Outgoing::Config(report), Some(Action::Config(ConfigAction::Report { reports }))) => {
                reports.push(report.clone());
            }
            (Outgoing::Event(event), Some(Action::Events(EventsAction::Append { events }))) => {
                events.push(event.clone());
            }
            _ => unreachable!("only reports of one kind are chosen"),
        }
    }
    action
}

/// What became of one report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    pub outgoing: Outgoing,
    /// The code and words with which the ledger refused it for ever.
    pub refused: Option<(String, String)>,
}

/// What a receipt means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landing {
    /// For the spool.
    pub record: Record,
    /// Reports that are done with.
    pub settled: Vec<Settled>,
}

/// Reads the receipt of a flight. A transaction that failed as a whole because of one of its
/// reports is parted in two, until the bad one stands alone. If that was refused for what may pass,
/// it waits again.
pub fn land(
    flight: &Flight,
    receipt: &Receipt,
    state: &State,
    held: &mut Held,
    now: Instant,
) -> Landing {
    let transaction = flight.transaction;
    match &receipt.outcome {
        Outcome::Failed { .. } if flight.items.len() > 1 => {
            Landing::again(transaction, flight.items.len() as u32 / 2)
        }
        Outcome::Failed { code, message } => {
            let alone = flight.items.first_key_value();
            let kept = alone.is_some_and(|(number, waiting)| {
                held.keeps((*number, &waiting.outgoing), code, state, now)
            });
            if kept {
                return Landing::again(transaction, 1);
            }
            let refused = Some((code.clone(), message.clone()));
            Landing::settle(transaction, flight, |_| refused.clone())
        }
        Outcome::Succeeded => Landing::settle(transaction, flight, |outgoing| {
            refusal_of(outgoing, receipt)
        }),
    }
}

impl Landing {
    fn again(transaction: Hash, batch_max: u32) -> Self {
        let record = Record::Requeue {
            transaction,
            batch_max,
        };
        let settled = Vec::new();
        Self { record, settled }
    }

    fn settle(
        transaction: Hash,
        flight: &Flight,
        refused: impl Fn(&Outgoing) -> Option<(String, String)>,
    ) -> Self {
        let settled = flight.items.values().map(|waiting| Settled {
            outgoing: waiting.outgoing.clone(),
            refused: refused(&waiting.outgoing),
        });
        Self {
            record: Record::Settle { transaction },
            settled: settled.collect(),
        }
    }
}

/// Reports of deployments are refused one by one, and the receipt says which.
fn refusal_of(outgoing: &Outgoing, receipt: &Receipt) -> Option<(String, String)> {
    let Outgoing::Deployment(report) = outgoing else {
        return None;
    };
    receipt.notifications.iter().find_map(|notification| {
        let here = notification
            .place
            .as_ref()
            .is_none_or(|place| place.device == report.device);
        match &notification.fact {
            Fact::ReportRefused {
                rollout,
                to,
                counter,
                code,
            } if here
                && *rollout == report.rollout
                && *to == report.to
                && *counter == report.counter =>
            {
                Some((
                    code.clone(),
                    "the receipt names the report as refused".to_owned(),
                ))
            }
            _ => None,
        }
    })
}
