//! The tasks of the work on one Thing.

use tokio::time::Instant;

use super::ThingSession;
use crate::south::SouthCommand;
use crate::south::apply::ApplyTask;
use crate::south::inspect::InspectTask;
use crate::south::install::InstallTask;
use crate::south::single_request::{CancelTask, ConfigureTask, ObserveTask};
use crate::south::transfer::TransferTask;

#[derive(Debug)]
pub(in crate::south) enum SessionTask {
    Transfer(TransferTask),
    Install(InstallTask),
    Cancel(CancelTask),
    Configure(ConfigureTask),
    Apply(Box<ApplyTask>),
    Inspect(InspectTask),
    Observe(ObserveTask),
}

impl ThingSession {
    pub(super) fn task_for(&self, now: Instant, command: SouthCommand) -> Option<SessionTask> {
        Some(match command {
            SouthCommand::Transfer(transfer) => SessionTask::Transfer(self.transfer_task(transfer)),
            SouthCommand::Install {
                deployment,
                version,
                limits,
                ..
            } => {
                let task = InstallTask::new(now, deployment, version, limits, &self.config);
                SessionTask::Install(task)
            }
            SouthCommand::Watch {
                deployment,
                version,
                ..
            } => SessionTask::Install(InstallTask::resume(now, deployment, version, &self.config)),
            SouthCommand::Cancel { deployment, .. } => {
                SessionTask::Cancel(CancelTask::new(deployment))
            }
            SouthCommand::Configure { document, .. } => {
                SessionTask::Configure(ConfigureTask::new(document))
            }
            SouthCommand::Apply {
                document, values, ..
            } => {
                let task = ApplyTask::new(document, values, self.composite);
                SessionTask::Apply(Box::new(task?))
            }
            SouthCommand::Inspect { .. } => {
                SessionTask::Inspect(InspectTask::new(self.inventory.clone(), self.composite))
            }
            SouthCommand::Observe { path, .. } => SessionTask::Observe(ObserveTask::new(path)),
            // The manager ends the session instead.
            SouthCommand::Release { .. } => return None,
            // They were taken apart when they came.
            SouthCommand::Proven { .. } | SouthCommand::Lead { .. } => return None,
        })
    }

    /// Starts the task over after a registration, from the Thing's own state: it may have booted.
    pub(super) fn restart_task(&mut self) {
        match self.task.as_mut() {
            Some(SessionTask::Transfer(task)) => task.restart(),
            Some(SessionTask::Install(task)) => task.restart(),
            Some(SessionTask::Apply(task)) => task.restart(),
            _ => {}
        }
    }
}
