//! Reports that the ledger refuses for a reason that is not their own and may pass: their device is
//! suspended, or assigned to another gateway, perhaps for a minute; or the gateway has added to the
//! state as much as it may in a day, which ends at midnight. No IO.
//!
//! They stay in the spool and are tried again, alone and with a growing pause, so that the reports
//! of other devices do not wait for them. The gateway accepts no new reports of such a device. This
//! is memory only: after a restart they are tried at once, and the day begins again.

use std::collections::BTreeMap;
use std::time::Duration;

use lamplighter_system::Backoff;
use lamplighter_types::Id;
use tokio::time::Instant;

use super::receipt::ResolvedReport;
use crate::spool::{OrderingKey, OutgoingReport, SpoolState};

/// A report is given up after this time: its device is suspended or elsewhere for good then, and
/// not by mistake. A day is enough for somebody to notice a mistake.
pub const DEFERRED_MAX: Duration = Duration::from_secs(24 * 3600);
/// The same where the gateway's allowance is used up: it is renewed within a day, and then the
/// reports take their turns.
pub const DEFERRED_BY_ALLOWANCE_MAX: Duration = Duration::from_secs(3 * 24 * 3600);
/// Shortest and longest pause between two tries: each costs a transaction.
const RETRY_MIN: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(600);

/// Codes of refusals that may pass, and the time after which a report is given up.
const TEMPORARY_CODES: [(&str, Duration); 4] = [
    ("devices.not_your_device", DEFERRED_MAX),
    ("devices.wrong_status", DEFERRED_MAX),
    ("allowance.records_used", DEFERRED_BY_ALLOWANCE_MAX),
    ("allowance.bytes_used", DEFERRED_BY_ALLOWANCE_MAX),
];

#[derive(Clone, Debug)]
struct Deferral {
    since: Instant,
    /// The reports up to this number are deferred since then; newer ones have a time of their own.
    newest: u64,
    retry_at: Instant,
    backoff: Backoff,
}

/// The deferred reports, by their ordering keys; at most as many as the spool has.
#[derive(Clone, Debug, Default)]
pub struct DeferredReports {
    deferrals: BTreeMap<OrderingKey, Deferral>,
}

impl DeferredReports {
    /// True if no report with the ordering key of this one may be sent now.
    pub fn is_blocked(&self, outgoing: &OutgoingReport, now: Instant) -> bool {
        let deferral = self.find(outgoing);
        deferral.is_some_and(|deferral| now < deferral.retry_at)
    }

    /// True if a report with the ordering key of this one is deferred.
    pub fn is_deferred(&self, outgoing: &OutgoingReport) -> bool {
        self.find(outgoing).is_some()
    }

    fn find(&self, outgoing: &OutgoingReport) -> Option<&Deferral> {
        // The usual case costs no copy of a name.
        if self.deferrals.is_empty() {
            return None;
        }
        self.deferrals.get(&outgoing.ordering_key())
    }

    /// Defers a report that was refused alone, if the reason may pass; true if it did.
    pub fn defer(
        &mut self,
        (number, outgoing): (u64, &OutgoingReport),
        code: &str,
        spool: &SpoolState,
        now: Instant,
    ) -> bool {
        let temporary = TEMPORARY_CODES.iter().find(|(known, _)| *known == code);
        let Some((_, deferred_max)) = temporary else {
            return false;
        };
        // For the sake of their device, reports of deployments are refused one by one and have
        // their own rules; an allowance is about the whole transaction.
        if *deferred_max == DEFERRED_MAX && matches!(outgoing, OutgoingReport::Deployment(_)) {
            return false;
        }
        let key = outgoing.ordering_key();
        let newest = spool.newest_number(&key).unwrap_or(0).max(number);
        let started = || Deferral {
            since: now,
            newest,
            retry_at: now,
            backoff: Backoff::new(RETRY_MIN, RETRY_MAX),
        };
        let deferral = self.deferrals.entry(key).or_insert_with(started);
        if number > deferral.newest {
            *deferral = started();
        }
        if now.duration_since(deferral.since) >= *deferred_max {
            // The others of the same time are tried once more, one after the other, without a
            // pause.
            deferral.retry_at = now;
            return false;
        }
        deferral.retry_at = now + deferral.backoff.next_pause();
        true
    }

    /// Ends deferrals after reports have left the spool: one was accepted, or none is left.
    pub fn resolved(&mut self, resolved: &[ResolvedReport], spool: &SpoolState) {
        for ResolvedReport {
            outgoing,
            rejection,
        } in resolved
        {
            let key = outgoing.ordering_key();
            if self.deferrals.contains_key(&key)
                && (rejection.is_none() || spool.newest_number(&key).is_none())
            {
                self.deferrals.remove(&key);
            }
        }
    }

    /// Lets the deferred reports of a device be tried at once: its record on the ledger has
    /// changed.
    pub fn retry_now(&mut self, device: &Id, now: Instant) {
        for is_event in [false, true] {
            let device = device.clone();
            let key = OrderingKey { device, is_event };
            if let Some(deferral) = self.deferrals.get_mut(&key) {
                deferral.retry_at = now;
            }
        }
    }
}
