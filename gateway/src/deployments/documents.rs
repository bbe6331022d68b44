//! Configuration documents that devices should have and have not reported.

use std::collections::BTreeMap;
use std::time::Duration;

use lamplighter_types::{ConfigReport, Hash, Id};

use super::floors::Floors;
use super::pause::ProofPause;
use crate::lwm2m::mapping;
use crate::lwm2m::order::OrderAction;
use crate::south::SouthCommand;
use crate::verify::DesiredDocument;

/// The next step of a device's configuration.
#[derive(Debug)]
pub(super) enum DocumentStep {
    /// Give the Thing this.
    Command(SouthCommand),
    /// Report without asking the Thing: the document does not fit it, or needs nothing of it.
    Report {
        document: Hash,
        applied: bool,
        detail: String,
    },
}

/// The pending document of each device.
#[derive(Debug, Default)]
pub(super) struct PendingDocuments {
    pending: BTreeMap<Id, DesiredDocument>,
    /// The last document that was sent to each Thing since it registered.
    sent: BTreeMap<Id, Hash>,
    /// The document whose report by the gateway itself is on its way to the ledger.
    queued: BTreeMap<Id, Hash>,
    /// Heights of the newest proven documents of the devices.
    floors: Floors,
    /// The pauses of Things with a pending document that found a proof outdated. A pause is about
    /// the Thing, so that another document does not end it.
    pauses: BTreeMap<Id, ProofPause>,
}

impl PendingDocuments {
    /// Sets the proven document of a device, unless a newer one is known. It is not pending if the
    /// device has reported it.
    pub fn set(&mut self, document: DesiredDocument) {
        let device = document.device.clone();
        if !self.floors.raise(&device, document.height) {
            return;
        }
        let reported = document.reported.as_ref();
        if reported.is_some_and(|known| document.is_reported_by(&known.document, known.attested)) {
            self.pending.remove(&device);
            self.pauses.remove(&device);
        } else {
            self.pending.insert(device, document);
        }
    }

    /// Ends a document that the ledger now has a report of.
    fn reported(&mut self, report: &ConfigReport) {
        let attested = report.signature.is_some();
        let pending = self.pending.get(&report.device);
        if pending.is_some_and(|document| document.is_reported_by(&report.document, attested)) {
            self.pending.remove(&report.device);
            self.pauses.remove(&report.device);
        }
    }

    /// Forgets a device, but for the height of its newest document.
    pub fn remove(&mut self, device: &Id) {
        self.pauses.remove(device);
        self.pending.remove(device);
        self.sent.remove(device);
        self.queued.remove(device);
    }

    /// Takes note that the gateway reports a document itself: until the ledger has answered, the
    /// Thing is not asked again.
    pub fn report_queued(&mut self, device: &Id, document: Hash) {
        self.queued.insert(device.clone(), document);
    }

    /// Takes note that the ledger has answered a report, in the block at `height`. After a
    /// rejection the Thing is asked again with the node's next reminder.
    pub fn report_resolved(&mut self, report: &ConfigReport, rejected: bool, height: u64) {
        self.queued.remove(&report.device);
        if rejected {
            self.sent.remove(&report.device);
        } else {
            // An older proof, which is on its way, does not know of the report.
            self.floors.raise(&report.device, height);
            self.reported(report);
        }
    }

    /// True if the gateway reports for the Thing whether it has this document.
    pub fn is_vouched_for(&self, device: &Id, document: &Hash) -> bool {
        let pending = self.pending.get(device);
        pending.is_some_and(|pending| pending.hash == *document && !pending.keyed)
    }

    /// Lets the document of a device be sent again: the Thing may not have got it.
    pub fn clear_sent(&mut self, device: &Id) {
        self.sent.remove(device);
    }

    /// Takes note that a Thing wants a newer proof of the document.
    pub fn outdated(&mut self, device: &Id, now_ms: u64) {
        self.sent.remove(device);
        if let Some(document) = self.pending.get_mut(device) {
            document.proven_ms = 0;
            let pause = self.pauses.entry(device.clone()).or_default();
            pause.outdated(now_ms);
        }
    }

    /// True if the Thing is not given the document for now.
    pub fn is_paused(&self, device: &Id, now_ms: u64) -> bool {
        let pause = self.pauses.get(device);
        pause.is_some_and(|pause| pause.is_paused(now_ms))
    }

    /// The devices whose pause has ended, each once.
    pub fn paused_until(&mut self, now_ms: u64) -> Vec<Id> {
        let ended = self.pauses.iter_mut();
        let ended = ended.filter_map(|(device, pause)| pause.ends(now_ms).then_some(device));
        ended.cloned().collect()
    }

    /// True if the pending document is to be sent and was proven too long ago.
    pub fn is_expired(&self, device: &Id, now_ms: u64, age_max: Duration) -> bool {
        self.pending.get(device).is_some_and(|document| {
            let age_ms = now_ms.saturating_sub(document.proven_ms);
            let is_sent = self.sent.get(device) == Some(&document.hash);
            !is_sent && Duration::from_millis(age_ms) > age_max
        })
    }

    /// Takes note that a Thing is given its pending document.
    pub fn sent(&mut self, device: &Id) {
        if let Some(document) = self.pending.get(device) {
            self.sent.insert(device.clone(), document.hash);
        }
    }

    /// The step that gives a Thing its pending document, once for each registration.
    pub fn next_step(&self, device: &Id, agent: bool) -> Option<DocumentStep> {
        let document = self.pending.get(device)?;
        let is_known = |known: &BTreeMap<Id, Hash>| known.get(device) == Some(&document.hash);
        if is_known(&self.sent) || is_known(&self.queued) {
            return None;
        }
        if agent {
            let command = SouthCommand::Configure {
                endpoint: device.to_string(),
                document: document.document.clone().into_bytes(),
            };
            let command = command.with_proof(&OrderAction::Configure, &document.proof);
            return Some(DocumentStep::Command(command));
        }
        if document.keyed {
            return None;
        }
        let hash = document.hash;
        let report = |applied, detail| DocumentStep::Report {
            document: hash,
            applied,
            detail,
        };
        Some(match mapping::resources(&document.document) {
            Ok(None) => return None,
            Ok(Some(values)) if values.is_empty() => {
                report(true, "no resource is mapped".to_owned())
            }
            Ok(Some(values)) => DocumentStep::Command(SouthCommand::Apply {
                endpoint: device.to_string(),
                document: hash,
                values,
            }),
            Err(error) => report(false, error.to_string()),
        })
    }
}
