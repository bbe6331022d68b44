//! The cast of an image, as far as it is about the work on one Thing.

use tokio::time::Instant;

use super::{SessionTask, ThingSession};
use crate::south::Transfer;
use crate::south::casting::CastTurn;
use crate::south::step::{SessionStep, TaskStep};
use crate::south::transfer::TransferTask;

impl ThingSession {
    /// Sets whether images are cast to the Thing.
    pub fn set_takes_casts(&mut self, takes_casts: bool) {
        self.takes_casts = takes_casts;
    }

    pub(super) fn transfer_task(&self, transfer: Transfer) -> TransferTask {
        // One that sleeps would miss most of it.
        let takes_casts = self.takes_casts && !self.wakefulness.is_limited();
        let ways = (self.q_block, takes_casts);
        TransferTask::new(transfer, &self.config, ways)
    }

    pub(super) fn cast_step(&mut self, now: Instant, step: TaskStep) -> SessionStep {
        self.reading = false;
        let Some(SessionTask::Transfer(task)) = &self.task else {
            return SessionStep::Idle;
        };
        match step {
            TaskStep::JoinCast { may_open } => SessionStep::JoinCast {
                transfer: task.transfer().clone(),
                szx: task.szx(),
                may_open,
            },
            TaskStep::AwaitCast(map) => {
                // The wait may be long: its order must be in force at its end.
                self.interrupted = true;
                SessionStep::AwaitCast(map, self.expires.max(now + self.config.poll))
            }
            _ => SessionStep::Idle,
        }
    }

    fn cast_task(&mut self) -> Option<&mut TransferTask> {
        match self.task.as_mut() {
            Some(SessionTask::Transfer(task)) => Some(task),
            _ => None,
        }
    }

    /// True if the Thing has its place in a cast.
    pub fn is_in_cast(&self) -> bool {
        let is_member = |task: &SessionTask| match task {
            SessionTask::Transfer(task) => task.is_in_cast(),
            _ => false,
        };
        self.agent.is_some() && self.task.as_ref().is_some_and(is_member)
    }

    /// True if nothing follows before the cast's next turn.
    pub fn awaits_cast(&self) -> bool {
        let awaits = |task: &SessionTask| match task {
            SessionTask::Transfer(task) => task.awaits_cast(),
            _ => false,
        };
        self.task.as_ref().is_some_and(awaits)
    }

    /// Takes note of whether there is a cast for the Thing.
    pub fn cast_joined(&mut self, is_member: bool) {
        if let Some(task) = self.cast_task() {
            task.cast_joined(is_member);
        }
    }

    /// Takes note of what the cast wants next.
    pub fn cast_turn(&mut self, turn: CastTurn) {
        if let Some(task) = self.cast_task() {
            task.cast_turn(turn);
        }
    }
}
