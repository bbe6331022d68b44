//! The transfer in sets of blocks, as far as it is about the task.

use super::{TransferPhase, TransferTask};
use crate::coap::Code;
use crate::coap::qblock::SetOutcome;
use crate::lwm2m::UpdateResult;
use crate::south::step::{TaskOutcome, TaskResponse};

impl TransferTask {
    pub(super) fn set_answered(&mut self, reply: &TaskResponse<'_>) -> TaskOutcome {
        let Some(sets) = self.sets.as_mut() else {
            return TaskOutcome::pending();
        };
        let (code, outcome) = (reply.response.code, sets.answered(reply.response));
        self.offset = sets.confirmed_bytes().min(self.transfer.size_bytes);
        match outcome {
            SetOutcome::Continues => self.progress(),
            SetOutcome::Complete => {
                self.deadline = Some(reply.now + reply.config.install_timeout);
                (self.phase, self.sets) = (Some(TransferPhase::State), None);
                self.progress()
            }
            SetOutcome::NotSupported => self.without_sets(reply),
            SetOutcome::TooManyRepeated => {
                self.refused(UpdateResult::ConnectionLost, reply.response)
            }
            SetOutcome::Refused if code == Code::INCOMPLETE => {
                self.start_over(reply.agent, reply.response)
            }
            SetOutcome::Refused if code == Code::TOO_LARGE && self.szx > 0 => {
                let Some(wanted) = reply.response.q_block1 else {
                    return self.without_sets(reply);
                };
                self.szx = wanted.szx.min(self.szx - 1);
                self.start_over(reply.agent, reply.response)
            }
            // The reason of the refusal is in the result; the code may be any error.
            SetOutcome::Refused if sets.is_sent() => {
                self.sets = None;
                self.enter(TransferPhase::State)
            }
            SetOutcome::Refused => self.refused(UpdateResult::UpdateFailed, reply.response),
        }
    }

    /// Starts over with single blocks: the Thing passes over options that it does not know.
    fn without_sets(&mut self, reply: &TaskResponse<'_>) -> TaskOutcome {
        self.q_block = Some(false);
        self.start_over(reply.agent, reply.response)
    }
}
