//! The results of background tasks.

use lamplighter_types::{Hash, Id, Receipt};
use tokio::time::Instant;

use super::{EventLoop, GatewayError};
use crate::deployments::Effect;
use crate::runtime::tasks::TaskResult;
use crate::south::SouthCommand;

impl EventLoop {
    /// Handles the result of a background task.
    pub(super) fn on_task_result(&mut self, result: TaskResult) -> Result<(), GatewayError> {
        let now_ms = self.now_ms();
        if let TaskResult::EventNumberFetched { device, highest } = result {
            let spool = self.storage.spool();
            let pending = self.values.number_fetched(&device, highest, spool, now_ms);
            return self.store(pending);
        }
        match result {
            TaskResult::ArtifactFetched {
                device,
                digest,
                available,
            } => {
                let effects = self
                    .planner
                    .artifact_fetched(&device, &digest, available, now_ms);
                self.carry_out(effects)
            }
            TaskResult::ChangesFetched { device, changes } => {
                self.changes_fetched(&device, changes)
            }
            TaskResult::ReceiptFetched {
                transaction,
                proven,
            } => {
                if proven.is_some() {
                    self.progress.receipt_proven(Instant::now());
                }
                self.receipt_fetched(transaction, proven)
            }
            TaskResult::ProvenElsewhere {
                connection,
                transaction,
                proven,
            } => {
                let step = self.progress.proven_elsewhere(connection);
                self.receipt_fetched(transaction, Some(proven))?;
                self.on_progress(step);
                Ok(())
            }
            TaskResult::SequenceFetched(highest) => self.sequence_fetched(highest),
            TaskResult::WorkVerified(result) => {
                let effects = self.work.verified(
                    *result,
                    now_ms,
                    &mut self.planner,
                    &mut self.submitter,
                    &self.storage,
                    &mut self.device_sync,
                    &mut self.tasks,
                );
                self.carry_out(effects)
            }
            TaskResult::Nothing | TaskResult::EventNumberFetched { .. } => Ok(()),
            TaskResult::OthersAhead { newer_than_ms } => {
                let step = self.progress.other_is_ahead(newer_than_ms);
                self.on_progress(step);
                Ok(())
            }
            TaskResult::ValidatorsFollowed { newer } => {
                self.tasks.validators_followed();
                if newer {
                    // What did not lead on from the old validators is sent again.
                    self.start_sync();
                }
                Ok(())
            }
        }
    }

    fn sequence_fetched(&mut self, highest: Option<u64>) -> Result<(), GatewayError> {
        let (spool, now) = (self.storage.spool(), Instant::now());
        let command = self.submitter.sequence_fetched(highest, spool, now);
        self.submit(command)
    }

    /// Sends a Thing the changes of the validators that it lacks.
    fn changes_fetched(
        &mut self,
        device: &Id,
        changes: Option<Vec<u8>>,
    ) -> Result<(), GatewayError> {
        self.tasks.changes_fetched(device);
        let endpoint = device.to_string();
        let lead = SouthCommand::Lead { endpoint, changes };
        self.carry_out(vec![Effect::Command(lead)])
    }

    fn receipt_fetched(
        &mut self,
        transaction: Hash,
        proven: Option<(Receipt, u64)>,
    ) -> Result<(), GatewayError> {
        let (spool, now) = (self.storage.spool(), Instant::now());
        let command = self
            .submitter
            .receipt_fetched(transaction, proven, spool, now);
        self.submit(command)
    }
}
