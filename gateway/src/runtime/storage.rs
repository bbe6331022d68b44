//! The gateway's files: the spool, the dead letters, the table of devices. A Thing's report is
//! answered only once it is durable.

use std::collections::BTreeSet;
use std::time::Duration;

use lamplighter_system::{error_chain, unix_ms};
use lamplighter_types::{DeploymentState, Id, codec};
use tokio::runtime::RuntimeFlavor;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::GatewayError;
use super::dead_letter::DeadLetterFile;
use super::device_table::DeviceTable;
use super::report_check::{RejectReason, Remedy};
use crate::south::StorageReply;
use crate::spool::{BATCH_ITEMS_MAX, OutgoingReport, Spool, SpoolError, SpoolRecord, SpoolState};
use crate::submission::ResolvedReport;

/// The table of devices is written at most this often.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// A report of a Thing, and where the Thing waits for the answer.
pub(super) type PendingReport = (OutgoingReport, oneshot::Sender<StorageReply>);

/// The files. Methods that write block on the disk.
pub(super) struct Storage {
    spool: Spool,
    dead_letters: DeadLetterFile,
    devices: DeviceTable,
    /// When the table of devices was last written.
    saved_at: Instant,
}

impl Storage {
    pub fn new(spool: Spool, dead_letters: DeadLetterFile, devices: DeviceTable) -> Self {
        Self {
            spool,
            dead_letters,
            devices,
            saved_at: Instant::now(),
        }
    }

    pub fn spool(&self) -> &SpoolState {
        self.spool.state()
    }

    pub fn devices(&self) -> &DeviceTable {
        &self.devices
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

    /// Adds reports that the gateway makes itself; false if the disk failed.
    ///
    /// # Errors
    /// The spool can't be used any more.
    pub fn add_reports(&mut self, reports: &[OutgoingReport]) -> Result<bool, GatewayError> {
        self.commit(self.add_records(reports))
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
        let mut bytes = 0;
        for (outgoing, stored) in pending {
            let identity = outgoing.identity();
            if self.spool().contains(&outgoing) || identities.contains(&identity) {
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
            bytes += codec::encode(&outgoing).len();
            if let Err(full) = self.spool.check_capacity(bytes) {
                tracing::error!(error = %full, "a Thing has to wait");
                continue;
            }
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
                match on_disk(|| file.add_message(endpoint, bytes, reason, unix_ms(), now)) {
                    Ok(()) => StorageReply::Refused(text),
                    Err(error) => {
                        let error = error_chain(&error);
                        tracing::error!(error, "a refused report could not be written down");
                        StorageReply::Unavailable(text)
                    }
                }
            }
        }
    }

    /// Makes the outcome of a receipt durable: first the dead letters of rejected reports, then the
    /// record that takes the reports out of the spool. False if the disk failed: then all reports
    /// are still in the spool, and some letters may be written twice.
    ///
    /// # Errors
    /// The spool can't be used any more.
    pub fn resolve(
        &mut self,
        resolved: &[ResolvedReport],
        record: SpoolRecord,
    ) -> Result<bool, GatewayError> {
        Ok(self.write_dead_letters(resolved) && self.commit(vec![record])?)
    }

    fn write_dead_letters(&mut self, resolved: &[ResolvedReport]) -> bool {
        for ResolvedReport {
            outgoing,
            rejection,
        } in resolved
        {
            let Some(rejection) = rejection else { continue };
            let device = outgoing.device();
            let (code, message) = (&rejection.code, &rejection.message);
            tracing::warn!(%device, code, message, "the ledger refused a report");
            // The gateway makes its own reports again: nothing is lost with them.
            if is_made_by_gateway(outgoing) {
                continue;
            }
            let file = &mut self.dead_letters;
            if let Err(error) = on_disk(|| file.add_report(outgoing, rejection, unix_ms())) {
                tracing::error!(%error, %device, "a refused report could not be written down");
                return false;
            }
        }
        true
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
fn on_disk<T>(call: impl FnOnce() -> T) -> T {
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
