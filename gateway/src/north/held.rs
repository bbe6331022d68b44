//! Reports that the ledger refuses for a reason that is not their own and may pass: their device is
//! suspended, or at another gateway, perhaps for a minute. No IO.
//!
//! They stay in the spool and are tried again, alone and with a growing pause, so that those of
//! other devices do not wait for them. What the device says meanwhile is left with it. This is
//! memory only: after a restart they are tried at once, and their time begins anew.

use std::collections::BTreeMap;
use std::time::Duration;

use lamplighter_types::Id;
use tokio::time::Instant;

use super::outbox::Settled;
use crate::spool::{Lane, Outgoing, State};

/// After so long a report is given up: by then it is no mistake, and its device is suspended or
/// elsewhere for good. A day is what it takes until somebody has noticed.
pub const HELD_MAX: Duration = Duration::from_secs(24 * 3600);
/// Pause before the next try, doubled with each up to the last: each costs a transaction.
const RETRY_FIRST: Duration = Duration::from_secs(5);
const RETRY_LAST: Duration = Duration::from_secs(600);

/// Refusals of the devices contract that may pass.
const PASSING: [&str; 2] = ["devices.not_your_device", "devices.wrong_status"];

#[derive(Clone, Copy, Debug)]
struct Hold {
    since: Instant,
    /// Reports up to this number are held since then; later ones have a time of their own.
    newest: u64,
    retry_at: Instant,
    pause: Duration,
}

/// The lanes of held reports; at most as many as the spool has.
#[derive(Clone, Debug, Default)]
pub struct Held {
    lanes: BTreeMap<Lane, Hold>,
}

impl Held {
    /// Whether nothing of this lane is sent now.
    pub fn blocks(&self, outgoing: &Outgoing, now: Instant) -> bool {
        !self.lanes.is_empty()
            && self
                .lanes
                .get(&outgoing.lane())
                .is_some_and(|hold| now < hold.retry_at)
    }

    /// Whether something of this lane is held.
    pub fn holds(&self, outgoing: &Outgoing) -> bool {
        !self.lanes.is_empty() && self.lanes.contains_key(&outgoing.lane())
    }

    /// Says of a report that was refused alone whether it is to be tried again.
    pub fn keeps(
        &mut self,
        (number, outgoing): (u64, &Outgoing),
        code: &str,
        state: &State,
        now: Instant,
    ) -> bool {
        // Deployments are refused one by one, and have their own rules.
        if !PASSING.contains(&code) || matches!(outgoing, Outgoing::Deployment(_)) {
            return false;
        }
        let lane = outgoing.lane();
        let begun = Hold {
            since: now,
            newest: newest_of(state, &lane).max(number),
            retry_at: now,
            pause: RETRY_FIRST,
        };
        let hold = self.lanes.entry(lane).or_insert(begun);
        if number > hold.newest {
            *hold = begun;
        }
        if now.duration_since(hold.since) >= HELD_MAX {
            // The others of its time are tried once more, one after the other, without a pause.
            hold.retry_at = now;
            return false;
        }
        hold.retry_at = now + hold.pause;
        hold.pause = (hold.pause * 2).min(RETRY_LAST);
        true
    }

    /// Takes note of reports that are done with and out of the spool.
    pub fn settled(&mut self, settled: &[Settled], state: &State) {
        for Settled { outgoing, refused } in settled {
            let lane = outgoing.lane();
            if self.lanes.contains_key(&lane) && (refused.is_none() || newest_of(state, &lane) == 0)
            {
                self.lanes.remove(&lane);
            }
        }
    }

    /// What is held of a device is tried at once: the ledger has changed what it says of it.
    pub fn hurry(&mut self, device: &Id, now: Instant) {
        for is_event in [false, true] {
            if let Some(hold) = self.lanes.get_mut(&(device.clone(), is_event)) {
                hold.retry_at = now;
            }
        }
    }
}

/// The highest number in a lane; 0 if it is empty.
fn newest_of(state: &State, lane: &Lane) -> u64 {
    let flying = state.flights().values().flat_map(|flight| &flight.items);
    let all = state.waiting().iter().chain(flying);
    let own = all.filter(|(_, waiting)| {
        waiting.outgoing.device() == &lane.0 && waiting.outgoing.is_event() == lane.1
    });
    own.map(|(number, _)| *number).max().unwrap_or(0)
}
