//! The configuration of devices: by a document to a Thing with our agent, by the values of standard
//! resources to another one.

use lamplighter_types::limits::TEXT_BYTES_MAX;
use lamplighter_types::{ConfigReport, Hash, Id};

use super::documents::DocumentStep;
use super::planner::{DeploymentPlanner, Effect};
use crate::spool::OutgoingReport;
use crate::text::sanitize;
use crate::verify::DesiredDocument;

impl DeploymentPlanner {
    /// Takes up the proven document of a device.
    pub fn set_document(&mut self, document: DesiredDocument, now_ms: u64) -> Vec<Effect> {
        let device = document.device.clone();
        self.documents.set(document);
        self.configure(&device, now_ms)
    }

    /// Gives a Thing its pending document, or the values that the document's mapping gives to its
    /// resources. A Thing without our agent whose device has a key gets none: only its signature
    /// would count.
    pub(super) fn configure(&mut self, device: &Id, now_ms: u64) -> Vec<Effect> {
        let Some(agent) = self.agents.get(device).copied() else {
            return Vec::new();
        };
        if self.documents.is_paused(device, now_ms) {
            return Vec::new();
        }
        let Some(step) = self.documents.next_step(device, agent) else {
            return Vec::new();
        };
        let age_max = self.record_age_max;
        match step {
            DocumentStep::Command(_) if self.documents.is_expired(device, now_ms, age_max) => {
                vec![Effect::ProveAgain]
            }
            DocumentStep::Command(command) => {
                self.documents.sent(device);
                vec![Effect::Command(command)]
            }
            DocumentStep::Report {
                document,
                applied,
                detail,
            } => self.report_configuration(device, document, applied, &detail, now_ms),
        }
    }

    /// Continues after the south has written the values of a document, or could not.
    pub(super) fn values_applied(
        &mut self,
        device: &Id,
        (document, applied, detail): (Hash, bool, &str),
        now_ms: u64,
    ) -> Vec<Effect> {
        tracing::info!(%device, %document, applied, detail, "a configuration was written");
        // Meanwhile another document may be desired, or the device may have got a key.
        match self.documents.is_vouched_for(device, &document) {
            true => self.report_configuration(device, document, applied, detail, now_ms),
            false => Vec::new(),
        }
    }

    /// A report that the gateway makes for a Thing that signs nothing.
    fn report_configuration(
        &mut self,
        device: &Id,
        document: Hash,
        applied: bool,
        detail: &str,
        now_ms: u64,
    ) -> Vec<Effect> {
        self.documents.report_queued(device, document);
        let report = ConfigReport {
            device: device.clone(),
            document,
            applied,
            detail: sanitize(detail, TEXT_BYTES_MAX),
            counter: self.next_counter(device, now_ms),
            signature: None,
        };
        vec![Effect::Report(Box::new(OutgoingReport::Config(report)))]
    }
}
