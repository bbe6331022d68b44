//! What happens to orders before and beside the work on them: they are queued, cancelled, and
//! proven again when they have waited for long.

use tokio::time::Instant;

use super::{SessionTask, ThingSession};
use crate::south::SouthCommand;
use crate::south::orders::{Order, WORK_MAX};
use crate::south::proven::EncodedOrder;
use crate::south::single_request::CancelTask;
use crate::south::step::WorkNotice;

impl ThingSession {
    /// Queues a command, unless the same one is under way or queued already.
    pub(super) fn enqueue(
        &mut self,
        now: Instant,
        command: SouthCommand,
        proof: Option<EncodedOrder>,
    ) -> Vec<WorkNotice> {
        let under_way = match (&self.task, &command) {
            (Some(SessionTask::Transfer(task)), SouthCommand::Transfer(transfer)) => {
                task.transfer().deployment == transfer.deployment
            }
            (
                Some(SessionTask::Install(task)),
                SouthCommand::Install { deployment, .. } | SouthCommand::Watch { deployment, .. },
            ) => task.deployment() == deployment,
            _ => false,
        };
        let open_for = match &command {
            SouthCommand::Install { limits, .. } => limits.open_for,
            _ => None,
        };
        let age_max = self.config.order_age_max;
        let expires = now + open_for.map_or(age_max, |open_for| open_for.min(age_max));
        if under_way {
            (self.expires, self.held) = (expires, false);
            self.proofs.renew(proof);
            return vec![];
        }
        let deployment = command.deployment().unwrap_or_default().to_owned();
        let order = Order {
            command,
            proof,
            expires,
        };
        if self.queue.push(order) {
            return vec![];
        }
        let reason = format!("{WORK_MAX} commands wait for this Thing already");
        vec![WorkNotice::Refused { deployment, reason }]
    }

    /// The deployment whose order must be proven again before it is carried out; empty for a
    /// configuration. A transfer under way goes on: it is checked where the Thing was away, and
    /// again before the order to install.
    pub(super) fn take_expired(&mut self, now: Instant) -> Option<String> {
        let waits = match &self.task {
            _ if self.held => return None,
            None => {
                let command = self.queue.pop_expired(now)?;
                return Some(command.deployment().unwrap_or_default().to_owned());
            }
            Some(SessionTask::Transfer(task)) if self.interrupted => &task.transfer().deployment,
            Some(SessionTask::Install(task)) if task.is_about_to_order() => task.deployment(),
            Some(_) => return None,
        };
        let expired = (self.expires <= now).then(|| waits.to_owned());
        self.held = expired.is_some();
        // The next window may be days away, and other work must not wait for it.
        if expired.is_some()
            && matches!(&self.task, Some(SessionTask::Install(task)) if task.is_bound_to_window())
        {
            (self.task, self.held) = (None, false);
        }
        expired
    }

    pub(super) fn cancel(&mut self, now: Instant, deployment: String) -> (bool, Vec<WorkNotice>) {
        self.queue.remove(&deployment);
        let started = match &self.task {
            Some(SessionTask::Install(task)) if task.deployment() == deployment => {
                if task.order_was_sent() {
                    let reason = "too late: it is being installed".to_owned();
                    return (false, vec![WorkNotice::Refused { deployment, reason }]);
                }
                true
            }
            Some(SessionTask::Transfer(task)) => task.transfer().deployment == deployment,
            _ => false,
        };
        if started {
            self.held = false;
            self.proofs.begin(None);
            self.task = Some(SessionTask::Cancel(CancelTask::new(deployment)));
        } else {
            let endpoint = String::new();
            let command = SouthCommand::Cancel {
                endpoint,
                deployment,
            };
            let expires = now + self.config.order_age_max;
            self.queue.push_front(Order {
                command,
                proof: None,
                expires,
            });
        }
        (started, vec![])
    }

    /// Ends an installation whose Thing never comes back, so that other work can follow.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<WorkNotice> {
        let outcome = match &self.task {
            Some(SessionTask::Install(task)) => task.overdue(now),
            _ => None,
        };
        if outcome.is_some() {
            self.task = None;
        }
        outcome.into_iter().collect()
    }
}
