//! The gateway's files: the spool, the dead letters, the table of devices. A Thing's report is
//! answered only once it is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lamplighter_system::{error_chain, unix_ms};
use lamplighter_types::{DeploymentState, Id, codec};
use tokio::runtime::RuntimeFlavor;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::GatewayError;
use super::dead_letter::{DeadLetterError, DeadLetterFile};
use super::device_table::DeviceTable;
use super::recent_reports::RecentReports;
use super::report_check::{RejectReason, Remedy};
use crate::south::StorageReply;
use crate::spool::{
    BATCH_ITEMS_MAX, DeviceShare, OutgoingReport, Spool, SpoolError, SpoolRecord, SpoolState,
};
use crate::submission::{ReceiptOutcome, ResolvedReport};

/// The table of devices is written at most this often.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Reports that are stored with one sync: of the longest, they are still less than a frame.
const ADD_MAX: usize = 256;

/// A report of a Thing, and where the Thing waits for the answer.
pub(super) type PendingReport = (OutgoingReport, oneshot::Sender<StorageReply>);

/// The files. Methods that write block on the disk.
pub(super) struct Storage {
    spool: Spool,
    dead_letters: DeadLetterFile,
    devices: DeviceTable,
    /// What the ledger has already.
    recent: RecentReports,
    /// When the table of devices was last written.
    saved_at: Instant,
    /// The log says already that no dead letters are written.
    letters_fail: bool,
}

impl Storage {
    pub fn new(spool: Spool, dead_letters: DeadLetterFile, devices: DeviceTable) -> Self {
        Self {
            spool,
            dead_letters,
            devices,
            recent: RecentReports::default(),
            saved_at: Instant::now(),
            letters_fail: false,
        }
    }

    pub fn spool(&self) -> &SpoolState {
        self.spool.state()
    }

    pub fn devices(&self) -> &DeviceTable {
        &self.devices
    }

    /// The device of a Thing, if the gateway reports for it: it is served here and has no key.
    pub fn speaks_for(&self, endpoint: &str) -> Option<Id> {
        let device = Id::new(endpoint).ok()?;
        let record = self.devices.get(&device)?;
        record.key.is_none().then_some(device)
    }

    /// Makes records durable; false if the disk failed: then nothing has changed.
    ///
    /// # Errors
    /// The spool can't be used any more.
    pub fn commit(&mut self, records: Vec<SpoolRecord>) -> Result<bool, GatewayError> {
        if records.is_empty() {
            return Ok(true);
        }
        match on_disk(|| self.spool.commit(records)) {
            Ok(()) => Ok(true),
            Err(error @ SpoolError::Disk { .. }) => {
                let error = error_chain(&error);
                tracing::error!(error, "the spool did not take reports");
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Adds reports that the gateway makes itself. Returns those that are not stored, because the
    /// disk failed.
    ///
    /// # Errors
    /// The spool can't be used any more.
    pub fn add_reports<'a>(
        &mut self,
        reports: &'a [OutgoingReport],
    ) -> Result<&'a [OutgoingReport], GatewayError> {
        for (done, chunk) in reports.chunks(ADD_MAX).enumerate() {
            if !self.commit(self.add_records(chunk))? {
                return Ok(&reports[done * ADD_MAX..]);
            }
        }
        Ok(&[])
    }

    fn add_records(&self, reports: &[OutgoingReport]) -> Vec<SpoolRecord> {
        let numbered = (self.spool().number() + 1..).zip(reports);
        let records = numbered.map(|(number, report)| SpoolRecord::Add {
            number,
            batch_max: BATCH_ITEMS_MAX,
            outgoing: Box::new(report.clone()),
        });
        records.collect()
    }

    /// Stores reports of Things, all with one sync, and answers those Things. Returns the new
    /// reports. A Thing without an answer tries again.
    ///
    /// # Errors
    /// The spool can't be used any more.
    pub fn store_reports(
        &mut self,
        pending: Vec<PendingReport>,
        is_deferred: impl Fn(&OutgoingReport) -> bool,
    ) -> Result<Vec<OutgoingReport>, GatewayError> {
        let (mut new, mut answers) = (Vec::new(), Vec::new());
        let mut identities = BTreeSet::new();
        let mut shares: BTreeMap<Id, DeviceShare> = BTreeMap::new();
        let mut bytes = 0;
        for (outgoing, stored) in pending {
            let identity = outgoing.identity();
            let is_here = self.spool().contains(&outgoing) || self.recent.contains(&outgoing);
            if is_here || identities.contains(&identity) {
                // A copy: the answer to the first one was lost.
                answers.push(stored);
                continue;
            }
            let device = outgoing.device();
            let is_rotating = self.spool().is_rotating(device)
                || new.iter().any(|before| is_rotation_of(before, device));
            if is_rotating || is_deferred(&outgoing) {
                let reason = "the ledger takes nothing of this device now";
                answer(stored, StorageReply::Unavailable(reason.to_owned()));
                continue;
            }
            let length = codec::encode(&outgoing).len();
            let share = shares.entry(device.clone()).or_default();
            let more = DeviceShare {
                reports: share.reports + 1,
                bytes: share.bytes + length as u64,
            };
            let fits = self.spool.check_share(device, more);
            if let Err(full) = fits.and_then(|()| self.spool.check_capacity(bytes + length)) {
                tracing::error!(error = %full, "a Thing has to wait");
                answer(stored, StorageReply::Unavailable(full.to_string()));
                continue;
            }
            *share = more;
            bytes += length;
            identities.insert(identity);
            answers.push(stored);
            new.push(outgoing);
        }
        if !self.commit(self.add_records(&new))? {
            // Dropping the channels makes the Things try again.
            return Ok(Vec::new());
        }
        for stored in answers {
            answer(stored, StorageReply::Stored);
        }
        Ok(new)
    }

    /// The answer to a message that is not stored. What the Thing shall discard is first written to
    /// the dead letters.
    pub fn reject(&mut self, endpoint: &str, bytes: &[u8], reason: RejectReason) -> StorageReply {
        let text = reason.to_string();
        match reason.remedy() {
            Remedy::Register => StorageReply::Unregistered(text),
            Remedy::Retry => StorageReply::Unavailable(text),
            Remedy::Discard => {
                let (file, now) = (&mut self.dead_letters, Instant::now().into_std());
                let written = on_disk(|| file.add_message(endpoint, bytes, reason, unix_ms(), now));
                if self.is_written(written) {
                    StorageReply::Refused(text)
                } else {
                    StorageReply::Unavailable(text)
                }
            }
        }
    }

    /// Makes the outcome of a receipt durable: first the dead letters of rejected reports, then the
    /// record that takes the reports out of the spool. A rejected report whose letter can't be
    /// written stays in the spool. False if the spool's disk failed: then all reports are still in
    /// it, and some letters may be written twice.
    ///
    /// # Errors
    /// The spool can't be used any more.
    pub fn resolve(&mut self, outcome: &mut ReceiptOutcome) -> Result<bool, GatewayError> {
        outcome.write_rejected(|report| self.write_dead_letter(report));
        let committed = self.commit(outcome.records(unix_ms()))?;
        if committed {
            let accepted = outcome.resolved.iter().filter(|r| r.rejection.is_none());
            accepted.for_each(|report| self.recent.insert(&report.outgoing));
        }
        Ok(committed)
    }

    /// Writes a rejected report to the dead letters; false if that failed.
    fn write_dead_letter(&mut self, report: &ResolvedReport) -> bool {
        let ResolvedReport {
            number: _,
            outgoing,
            rejection,
        } = report;
        let Some(rejection) = rejection else {
            return true;
        };
        let device = outgoing.device();
        let (code, message) = (&rejection.code, &rejection.message);
        tracing::warn!(%device, code, message, "the ledger refused a report");
        // The gateway makes its own reports again: nothing is lost with them.
        if is_made_by_gateway(outgoing) {
            return true;
        }
        let file = &mut self.dead_letters;
        let written = on_disk(|| file.add_report(outgoing, rejection, unix_ms()));
        self.is_written(written)
    }

    /// True if a dead letter was written. That they can't be written is logged once, not for each
    /// message of a flood.
    fn is_written(&mut self, result: Result<(), DeadLetterError>) -> bool {
        let failed_before = std::mem::replace(&mut self.letters_fail, result.is_err());
        let Err(error) = result else { return true };
        let error = error_chain(&error);
        if failed_before {
            tracing::debug!(error, "what is refused can't be written down");
        } else {
            tracing::error!(error, "what is refused can't be written down, and waits");
        }
        false
    }

    /// Writes the table of devices if it has changed and was not written just now.
    pub fn save_devices_if_due(&mut self) {
        if self.saved_at.elapsed() >= SAVE_EVERY {
            self.save_devices();
        }
    }

    /// Writes the table of devices if it has changed. After a power loss the nodes send again what
    /// was not written.
    pub fn save_devices(&mut self) {
        self.saved_at = Instant::now();
        if !self.devices.is_changed() {
            return;
        }
        if let Err(error) = on_disk(|| self.devices.save()) {
            let error = error_chain(&error);
            tracing::error!(error, "the devices can't be kept");
        }
    }
}

/// True for the reports of deployments that the gateway makes without the Thing.
fn is_made_by_gateway(outgoing: &OutgoingReport) -> bool {
    let OutgoingReport::Deployment(report) = outgoing else {
        return false;
    };
    let is_step_of_gateway = matches!(
        report.to,
        DeploymentState::Offered | DeploymentState::Downloading
    );
    is_step_of_gateway && report.signature.is_none()
}

/// Blocks on the disk, for a few milliseconds, without holding up other tasks where the runtime
/// allows it.
pub(super) fn on_disk<T>(call: impl FnOnce() -> T) -> T {
    match tokio::runtime::Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(call),
        _ => call(),
    }
}

/// Answers a Thing. One that has stopped waiting sends its report again.
pub(super) fn answer(stored: oneshot::Sender<StorageReply>, result: StorageReply) {
    if stored.send(result).is_err() {
        tracing::debug!("a Thing did not wait for the answer to its report");
    }
}

fn is_rotation_of(outgoing: &OutgoingReport, device: &Id) -> bool {
    matches!(outgoing, OutgoingReport::KeyRotation(rotation) if rotation.device == *device)
}
