//! Reports that the ledger refuses for a reason that is not their own and may pass: their device is
//! suspended, or assigned to another gateway, perhaps for a minute; its key is being changed; or
//! the gateway has added to the state as much as it may in a day, which ends at midnight. And those
//! that the ledger refuses for ever, while they can't be written to the dead letters. No IO.
//!
//! They stay in the spool and are tried again, alone and with a growing pause, so that the reports
//! of other devices do not wait for them. The gateway accepts no new reports of such a device. The
//! spool has the time of the first refusal of each: after a restart they are tried at once, in
//! their order, and their time goes on.

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
/// The same where the signature is not that of the key on the ledger: a key that was put in place
/// by mistake is put back in minutes, or what the former one signed is worth nothing any more.
pub const DEFERRED_BY_KEY_MAX: Duration = Duration::from_secs(600);
/// Shortest and longest pause between two tries: each costs a transaction.
const RETRY_MIN: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(600);

/// Codes of refusals that may pass, and the time after which a report is given up.
const TEMPORARY_CODES: [(&str, Duration); 9] = [
    ("devices.not_your_device", DEFERRED_MAX),
    ("devices.wrong_status", DEFERRED_MAX),
    ("allowance.records_used", DEFERRED_BY_ALLOWANCE_MAX),
    ("allowance.bytes_used", DEFERRED_BY_ALLOWANCE_MAX),
    ("forbidden", DEFERRED_MAX),
    ("events.wrong_signature", DEFERRED_BY_KEY_MAX),
    ("events.unsigned", DEFERRED_BY_KEY_MAX),
    ("devices.wrong_signature", DEFERRED_BY_KEY_MAX),
    ("devices.unsigned", DEFERRED_BY_KEY_MAX),
];

#[derive(Clone, Debug)]
struct Deferral {
    since: Instant,
    /// The time that had passed then already, before a restart.
    before: Duration,
    /// The reports up to this number are deferred since then; newer ones have a time of their own.
    newest: u64,
    retry_at: Instant,
    backoff: Backoff,
}

impl Deferral {
    fn new(now: Instant, before: Duration, newest: u64) -> Self {
        Self {
            since: now,
            before,
            newest,
            retry_at: now,
            backoff: Backoff::new(RETRY_MIN, RETRY_MAX),
        }
    }

    /// The time since the first refusal.
    fn age(&self, now: Instant) -> Duration {
        self.before + now.duration_since(self.since)
    }

    /// Waits for the next try, unless it does so already: reports of one key are refused together.
    fn pause(&mut self, now: Instant) {
        if now >= self.retry_at {
            self.retry_at = now + self.backoff.next_pause();
        }
    }
}

/// The deferred reports, by their ordering keys; at most as many as the spool has.
#[derive(Clone, Debug, Default)]
pub struct DeferredReports {
    deferrals: BTreeMap<OrderingKey, Deferral>,
}

impl DeferredReports {
    /// The deferred reports of a spool from before a restart. A clock that was set back since
    /// makes them wait longer.
    pub fn restore(spool: &SpoolState, now: Instant, now_ms: u64) -> Self {
        let mut deferrals: BTreeMap<OrderingKey, Deferral> = BTreeMap::new();
        for (number, waiting) in spool.reports() {
            let Some(since_ms) = waiting.deferred_since_ms else {
                continue;
            };
            let age = Duration::from_millis(now_ms.saturating_sub(since_ms));
            let deferral = deferrals
                .entry(waiting.outgoing.ordering_key())
                .or_insert_with(|| Deferral::new(now, age, *number));
            deferral.before = deferral.before.max(age);
            deferral.newest = deferral.newest.max(*number);
        }
        Self { deferrals }
    }

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

    /// Defers a report that was refused, if the reason may pass; true if it did.
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
        // The gateway makes these again, from what the ledger says by then.
        if *deferred_max != DEFERRED_BY_ALLOWANCE_MAX && is_made_again(outgoing) {
            return false;
        }
        let deferral = self.deferral(number, outgoing, spool, now);
        if deferral.age(now) >= *deferred_max {
            // The others of the same time are tried once more, one after the other, without a
            // pause.
            deferral.retry_at = now;
            return false;
        }
        deferral.pause(now);
        true
    }

    /// Defers a report that is rejected and can't be written to the dead letters, for as long as
    /// that lasts.
    pub fn defer_unwritten(
        &mut self,
        (number, outgoing): (u64, &OutgoingReport),
        spool: &SpoolState,
        now: Instant,
    ) {
        self.deferral(number, outgoing, spool, now).pause(now);
    }

    fn deferral(
        &mut self,
        number: u64,
        outgoing: &OutgoingReport,
        spool: &SpoolState,
        now: Instant,
    ) -> &mut Deferral {
        let key = outgoing.ordering_key();
        let newest = spool.newest_number(&key).unwrap_or(0).max(number);
        let started = || Deferral::new(now, Duration::ZERO, newest);
        let deferral = self.deferrals.entry(key).or_insert_with(started);
        if number > deferral.newest {
            *deferral = started();
        }
        deferral
    }

    /// Ends deferrals after reports have left the spool: one was accepted and none was deferred
    /// with it, or none is left.
    pub fn resolved(&mut self, resolved: &[ResolvedReport], spool: &SpoolState, now: Instant) {
        for report in resolved {
            let key = report.outgoing.ordering_key();
            let Some(deferral) = self.deferrals.get(&key) else {
                continue;
            };
            let is_accepted = report.rejection.is_none() && now >= deferral.retry_at;
            if is_accepted || spool.newest_number(&key).is_none() {
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

/// True for reports of deployments that no Thing signed.
fn is_made_again(outgoing: &OutgoingReport) -> bool {
    matches!(outgoing, OutgoingReport::Deployment(report) if report.signature.is_none())
}
