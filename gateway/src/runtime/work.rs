//! Work from nodes: devices, deployments and documents, each acted on only when it is proven.

use std::sync::Arc;
use std::time::Duration;

use lamplighter_client::TrustAnchor;
use lamplighter_system::error_chain;
use lamplighter_types::proof::{CertifiedHeader, verify_head};
use lamplighter_types::wire::work::{ProofSet, WorkItem, WorkMessage};
use lamplighter_types::{DeploymentState, Device, Header, Id, codec};
use tokio::time::Instant;

use super::device_sync::DeviceSync;
use super::device_table::{DEVICES_MAX, DeviceTable, DeviceTableChanges, NameRange};
use super::storage::Storage;
use super::tasks::BackgroundTasks;
use crate::deployments::{DeploymentPlanner, Effect};
use crate::spool::{OutgoingReport, SpoolState};
use crate::submission::Submitter;
use crate::verify::{self, OrderProof, ProvenState, VerifiedDeployment, VerifyError};

/// Messages of work that are verified at once. While there are so many, nothing is read from the
/// node, which keeps the others.
const VERIFICATIONS_MAX: usize = 8;

/// The receiver of work.
pub(super) struct WorkReceiver {
    account: Id,
    anchor: Arc<TrustAnchor>,
    record_age_max: Duration,
    /// Messages that are being verified.
    verifications: usize,
}

impl WorkReceiver {
    pub fn new(account: Id, anchor: Arc<TrustAnchor>, record_age_max: Duration) -> Self {
        Self {
            account,
            anchor,
            record_age_max,
            verifications: 0,
        }
    }

    /// True if another message may be received.
    pub fn has_capacity(&self) -> bool {
        self.verifications < VERIFICATIONS_MAX
    }

    /// Starts to verify a message. Returns the ranges that the node asks for: what the gateway
    /// holds is no secret to a node, so that needs no proof.
    pub fn receive(
        &mut self,
        payload: &[u8],
        now_ms: u64,
        tasks: &mut BackgroundTasks,
    ) -> Vec<NameRange> {
        let mut message = match WorkMessage::from_json(payload, &self.account) {
            Ok(message) => message,
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(error, "a node sent something that is no work");
                return Vec::new();
            }
        };
        let mut ranges = Vec::new();
        message.items.retain(|item| match item {
            WorkItem::Range { after, until } => {
                let (after, until) = (after.clone(), until.clone());
                ranges.push(NameRange { after, until });
                false
            }
            _ => true,
        });
        if !message.items.is_empty() {
            self.verifications += 1;
            tasks.verify_work(message, self.anchor.clone(), now_ms, self.record_age_max);
        }
        ranges
    }

    /// The header of a head that is certified by the validators that are trusted. New validators
    /// come with the next work, or are fetched.
    pub fn certified_head(&self, payload: &[u8], tasks: &mut BackgroundTasks) -> Option<Header> {
        let head = codec::decode_json::<CertifiedHeader>(payload).ok()?;
        match verify_head(&head, &[], &self.anchor.current()) {
            Ok(_) => Some(head.header),
            Err(error) => {
                if error.lacks_changes() {
                    tasks.follow_validators(Instant::now());
                }
                tracing::debug!(error = error_chain(&error), "a head is not proven");
                None
            }
        }
    }

    /// Acts on a verified message, item by item: an item that is not valid stops no other.
    pub fn verified(
        &mut self,
        result: Result<(WorkMessage, ProvenState), VerifyError>,
        now_ms: u64,
        planner: &mut DeploymentPlanner,
        submitter: &mut Submitter,
        storage: &Storage,
        device_sync: &mut DeviceSync,
        tasks: &mut BackgroundTasks,
    ) -> Vec<Effect> {
        self.verifications -= 1;
        let (message, state) = match result {
            Ok(verified) => verified,
            Err(error) => {
                if error.lacks_changes() {
                    tasks.follow_validators(Instant::now());
                }
                let error = error_chain(&error);
                tracing::warn!(error, "work from a node was not believed");
                device_sync.start_soon(Instant::now());
                return Vec::new();
            }
        };
        planner.observe_height(state.head_height);
        let mut proven = Vec::new();
        for (item, device) in message.items.iter().filter_map(device_of) {
            match verify::device(&state, device, &self.account) {
                Ok((record, height)) => proven.push((device.clone(), record, height)),
                Err(error) => {
                    log_rejected(item, &error);
                    device_sync.start_soon(Instant::now());
                }
            }
        }
        let removed = update_devices(proven, submitter, storage.devices());
        let mut effects: Vec<_> = removed
            .iter()
            .flat_map(|device| planner.device_removed(device))
            .collect();
        for item in &message.items {
            let proofs = &message.proofs;
            match self.apply_item(&state, proofs, item, now_ms, planner, storage) {
                Ok(step) => effects.extend(step),
                Err(error) => log_rejected(item, &error),
            }
        }
        effects
    }

    fn apply_item(
        &self,
        state: &ProvenState,
        proofs: &ProofSet,
        item: &WorkItem,
        now_ms: u64,
        planner: &mut DeploymentPlanner,
        storage: &Storage,
    ) -> Result<Vec<Effect>, VerifyError> {
        match item {
            WorkItem::Device { .. } | WorkItem::Range { .. } => Ok(Vec::new()),
            WorkItem::Deployment { rollout, device } => {
                match verify::deployment(state, rollout, device, &self.account, now_ms)? {
                    // A node can prove the end of any gateway's deployment.
                    VerifiedDeployment::Ended { .. } if !storage.devices().contains(device) => {
                        Ok(Vec::new())
                    }
                    VerifiedDeployment::Ended { height, .. } => {
                        Ok(planner.ended(rollout, device, height))
                    }
                    VerifiedDeployment::Open(mut assignment) => {
                        let (deployment, manifest) = (&assignment.deployment, &assignment.manifest);
                        assignment.proof =
                            OrderProof::of_deployment(proofs, deployment, &manifest.vendor);
                        let queued = last_queued(storage.spool(), rollout, device);
                        Ok(planner.assigned(*assignment, queued, now_ms))
                    }
                }
            }
            WorkItem::Config { device } => {
                let mut document = verify::configuration(state, device, &self.account)?;
                // It is there: the document was merged by it.
                if let (Some(record), _) = verify::device(state, device, &self.account)? {
                    document.proof = OrderProof::of_documents(proofs, &record);
                }
                Ok(planner.set_document(document, now_ms))
            }
        }
    }
}

fn device_of(item: &WorkItem) -> Option<(&WorkItem, &Id)> {
    match item {
        WorkItem::Device { device } => Some((item, device)),
        WorkItem::Deployment { .. } | WorkItem::Config { .. } | WorkItem::Range { .. } => None,
    }
}

/// Updates the table with all devices of a message together; returns those that this gateway lost.
fn update_devices(
    proven: Vec<(Id, Option<Device>, u64)>,
    submitter: &mut Submitter,
    table: &DeviceTable,
) -> Vec<Id> {
    for (device, _, _) in proven.iter().filter(|(_, record, _)| record.is_some()) {
        submitter.retry_deferred(device, Instant::now());
    }
    let DeviceTableChanges { removed, omitted } = table.update(proven);
    if omitted > 0 {
        tracing::error!(
            omitted,
            "the ledger has more than {DEVICES_MAX} devices for us"
        );
    }
    removed
}

/// The last state of a deployment that is reported and still in the spool.
fn last_queued(spool: &SpoolState, rollout: &Id, device: &Id) -> Option<DeploymentState> {
    let states = spool
        .of_device(device)
        .filter_map(|outgoing| match outgoing {
            OutgoingReport::Deployment(report) if report.rollout == *rollout => Some(report.to),
            _ => None,
        });
    states.last()
}

fn log_rejected(item: &WorkItem, error: &VerifyError) {
    let error = error_chain(error);
    tracing::warn!(?item, error, "work is not carried out");
}
