//! Configuration documents that devices should have and have not reported.

use std::collections::BTreeMap;

use lamplighter_types::{ConfigReport, Hash, Id};

use crate::south::SouthCommand;
use crate::verify::DesiredDocument;

/// The pending document of each device.
#[derive(Debug, Default)]
pub(super) struct PendingDocuments {
    pending: BTreeMap<Id, DesiredDocument>,
    /// The last document that was sent to each Thing since it registered.
    sent: BTreeMap<Id, Hash>,
}

impl PendingDocuments {
    /// Sets the proven document of a device. It is not pending if the device has reported it.
    pub fn set(&mut self, document: DesiredDocument) {
        let device = document.device.clone();
        let reported = document.reported.as_ref();
        if reported.is_some_and(|known| document.is_reported_by(&known.document, known.attested)) {
            self.pending.remove(&device);
        } else {
            self.pending.insert(device, document);
        }
    }

    /// Ends a document that the ledger now has a report of.
    pub fn reported(&mut self, report: &ConfigReport) {
        let attested = report.signature.is_some();
        let pending = self.pending.get(&report.device);
        if pending.is_some_and(|document| document.is_reported_by(&report.document, attested)) {
            self.pending.remove(&report.device);
        }
    }

    /// Forgets a device.
    pub fn remove(&mut self, device: &Id) {
        self.pending.remove(device);
        self.sent.remove(device);
    }

    /// Lets the document of a device be sent again: the Thing may not have got it.
    pub fn clear_sent(&mut self, device: &Id) {
        self.sent.remove(device);
    }

    /// The command that sends a Thing its pending document, once for each registration.
    pub fn next_command(&mut self, device: &Id) -> Option<SouthCommand> {
        let document = self.pending.get(device)?;
        let hash = document.hash;
        if self.sent.insert(device.clone(), hash) == Some(hash) {
            return None;
        }
        Some(SouthCommand::Configure {
            endpoint: device.to_string(),
            document: document.document.clone().into_bytes(),
        })
    }
}
