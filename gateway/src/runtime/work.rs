//! Work from nodes: devices, deployments and documents, each acted on only when it is proven.

use std::time::Duration;

use lamplighter_system::{error_chain, unix_ms};
use lamplighter_types::proof::{CertifiedHeader, SetChange, verify_head};
use lamplighter_types::wire::work::{WorkItem, WorkMessage};
use lamplighter_types::{DeploymentState, Genesis, Id, codec};
use tokio::time::Instant;

use super::device_table::{DEVICES_MAX, DeviceTable};
use super::tasks::BackgroundTasks;
use crate::deployments::{DeploymentPlanner, Effect};
use crate::spool::{OutgoingReport, SpoolState};
use crate::submission::Submitter;
use crate::verify::{self, ProvenState, VerifiedDeployment, VerifyError};

/// Messages of work that are verified at once. While there are so many, nothing is read from the
/// node, which keeps the others.
const VERIFICATIONS_MAX: usize = 8;

/// The receiver of work.
pub(super) struct WorkReceiver {
    account: Id,
    genesis: Genesis,
    record_age_max: Duration,
    /// Messages that are being verified.
    verifications: usize,
    /// The changes that lead to the validators of the newest proven head.
    set_changes: Vec<SetChange>,
}

/// The state that work changes or depends on.
pub(super) struct WorkTargets<'a> {
    pub planner: &'a mut DeploymentPlanner,
    pub submitter: &'a mut Submitter,
    pub devices: &'a DeviceTable,
    pub spool: &'a SpoolState,
}

/// The consequences of a message of work.
#[derive(Default)]
pub(super) struct WorkOutcome {
    pub effects: Vec<Effect>,
    /// A proof of devices was not accepted: the gateway does not know all its devices.
    pub devices_missing: bool,
}

impl WorkReceiver {
    pub fn new(account: Id, genesis: Genesis, record_age_max: Duration) -> Self {
        Self {
            account,
            genesis,
            record_age_max,
            verifications: 0,
            set_changes: Vec::new(),
        }
    }

    /// True if another message may be received.
    pub fn has_capacity(&self) -> bool {
        self.verifications < VERIFICATIONS_MAX
    }

    /// Starts to verify a message.
    pub fn receive(&mut self, payload: &[u8], tasks: &mut BackgroundTasks) {
        match WorkMessage::from_json(payload, &self.account) {
            Ok(message) => {
                self.verifications += 1;
                tasks.verify_work(message, self.genesis.clone(), self.record_age_max);
            }
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(error, "a node sent something that is no work");
            }
        }
    }

    /// The height of a head that is certified by the validators that the gateway knows. New
    /// validators come with the next work.
    pub fn certified_height(&self, payload: &[u8]) -> Option<u64> {
        let head = codec::decode_json::<CertifiedHeader>(payload).ok()?;
        match verify_head(&head, &self.set_changes, &self.genesis) {
            Ok(_) => Some(head.header.height),
            Err(error) => {
                tracing::debug!(error = error_chain(&error), "a head is not proven");
                None
            }
        }
    }

    /// Acts on a verified message, item by item: an item that is not valid stops no other.
    pub fn verified(
        &mut self,
        result: Result<(WorkMessage, ProvenState), VerifyError>,
        mut targets: WorkTargets<'_>,
    ) -> WorkOutcome {
        self.verifications -= 1;
        let (message, state) = match result {
            Ok(verified) => verified,
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(error, "work from a node was not believed");
                return WorkOutcome {
                    effects: Vec::new(),
                    devices_missing: true,
                };
            }
        };
        targets.planner.observe_height(state.head_height);
        self.set_changes.clone_from(&state.set_changes);
        let mut outcome = self.update_devices(&state, &message.items, &mut targets);
        for item in &message.items {
            match self.apply_item(&state, item, &mut targets) {
                Ok(effects) => outcome.effects.extend(effects),
                Err(error) => log_rejected(item, &error),
            }
        }
        outcome
    }

    /// Updates all devices of a message together.
    fn update_devices(
        &self,
        state: &ProvenState,
        items: &[WorkItem],
        targets: &mut WorkTargets<'_>,
    ) -> WorkOutcome {
        let mut outcome = WorkOutcome::default();
        let mut proven = Vec::new();
        for item in items {
            let WorkItem::Device { device } = item else {
                continue;
            };
            match verify::device(state, device, &self.account) {
                Ok((found, height)) => proven.push((device.clone(), found, height)),
                Err(error) => {
                    log_rejected(item, &error);
                    outcome.devices_missing = true;
                }
            }
        }
        for (device, _, _) in proven.iter().filter(|(_, found, _)| found.is_some()) {
            targets.submitter.retry_deferred(device, Instant::now());
        }
        let changes = targets.devices.update(proven);
        if changes.omitted > 0 {
            let omitted = changes.omitted;
            tracing::error!(
                omitted,
                "the ledger has more than {DEVICES_MAX} devices for us"
            );
        }
        let removed = changes.removed.iter();
        outcome.effects = removed
            .flat_map(|device| targets.planner.device_removed(device))
            .collect();
        outcome
    }

    fn apply_item(
        &self,
        state: &ProvenState,
        item: &WorkItem,
        targets: &mut WorkTargets<'_>,
    ) -> Result<Vec<Effect>, VerifyError> {
        let now_ms = unix_ms();
        match item {
            WorkItem::Device { .. } => Ok(Vec::new()),
            WorkItem::Deployment { rollout, device } => {
                match verify::deployment(state, rollout, device, &self.account, now_ms)? {
                    // A node can prove the end of any gateway's deployment.
                    VerifiedDeployment::Ended { .. } if !targets.devices.contains(device) => {
                        Ok(Vec::new())
                    }
                    VerifiedDeployment::Ended { height, .. } => {
                        Ok(targets.planner.ended(rollout, device, height))
                    }
                    VerifiedDeployment::Open(assignment) => {
                        let queued = last_queued(targets.spool, rollout, device);
                        Ok(targets.planner.assigned(*assignment, queued, now_ms))
                    }
                }
            }
            WorkItem::Config { device } => {
                let document = verify::configuration(state, device, &self.account)?;
                Ok(targets.planner.set_document(document))
            }
        }
    }
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
