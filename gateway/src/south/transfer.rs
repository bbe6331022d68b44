//! The transfer of a package to a Thing, block by block, resumed at the point where it stopped.

use tokio::time::Instant;

use super::Transfer;
use super::session::{SessionConfig, TaskOutcome, TaskResponse, TaskStep, WorkNotice};
use crate::coap::block::size_bytes;
use crate::coap::{Block, Code, Request, Response, format};
use crate::lwm2m::{FirmwareState, Stage, UpdateResult, agent, path, value};

/// Restarts that a Thing may ask for before the transfer fails: a Thing that loses the blocks it
/// accepted would otherwise keep the mesh busy for ever.
const RESTARTS_MAX: u32 = 8;
/// Notices of progress per package.
const PROGRESS_STEPS: u64 = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TransferPhase {
    /// Announce the release to the agent.
    Offer,
    /// Ask the agent how many bytes it holds.
    Received,
    /// Ask a foreign Thing whether object 5 is idle.
    Probe,
    /// Make object 5 idle by an empty write.
    Reset,
    /// The same with one NUL byte, for a Thing that takes no empty write.
    ResetByNul,
    /// Send the block at the offset.
    Block,
    /// Ask for the state, when the package is complete.
    State,
    /// Ask for the result.
    Result(FirmwareState),
}

#[derive(Debug)]
pub(super) struct TransferTask {
    transfer: Transfer,
    phase: Option<TransferPhase>,
    offset: u64,
    szx: u8,
    restarts: u32,
    /// True if it registered again in the middle, and may have lost the blocks before.
    resumed: bool,
    poll_at: Option<Instant>,
    deadline: Option<Instant>,
    reported_bytes: u64,
}

impl TransferTask {
    pub(super) fn new(_now: Instant, transfer: Transfer, config: &SessionConfig) -> TransferTask {
        TransferTask {
            transfer,
            phase: None,
            offset: 0,
            szx: config.szx,
            restarts: 0,
            resumed: false,
            poll_at: None,
            deadline: None,
            reported_bytes: 0,
        }
    }

    pub(super) fn transfer(&self) -> &Transfer {
        &self.transfer
    }

    /// Resumes after a registration: the agent is asked for its position; a foreign Thing gets the
    /// next block, and answers 4.08, or another error, if it has lost the others.
    pub(super) fn restart(&mut self) {
        self.poll_at = None;
        self.resumed = true;
        self.phase = match self.phase {
            Some(TransferPhase::Block) if self.offset > 0 => Some(TransferPhase::Block),
            _ => None,
        };
    }

    pub(super) fn next(&mut self, now: Instant, agent: bool) -> TaskStep {
        if let Some(at) = self.poll_at.filter(|at| *at > now) {
            return TaskStep::Wait(at);
        }
        let first = if agent {
            TransferPhase::Offer
        } else {
            TransferPhase::Probe
        };
        let get = |path| TaskStep::Request(Request::get(path));
        let put = |path, body| {
            let put = Request::new(Code::PUT, path);
            TaskStep::Request(put.with_payload(format::OCTETS, body))
        };
        match *self.phase.get_or_insert(first) {
            TransferPhase::Offer => put(agent::OFFER, self.transfer.offer.clone()),
            TransferPhase::Received => get(agent::RECEIVED_BYTES),
            TransferPhase::Reset => put(path::PACKAGE, Vec::new()),
            TransferPhase::ResetByNul => put(path::PACKAGE, vec![0]),
            TransferPhase::Block => TaskStep::Block(self.block()),
            TransferPhase::Probe | TransferPhase::State => get(path::STATE),
            TransferPhase::Result(_) => get(path::RESULT),
        }
    }

    pub(super) fn answer(&mut self, reply: &TaskResponse<'_>) -> TaskOutcome {
        if matches!(
            reply.response.code,
            Code::UNAVAILABLE | Code::TOO_MANY_REQUESTS
        ) {
            self.poll_at = Some(reply.next_poll());
            return TaskOutcome::pending();
        }
        match self.phase {
            Some(TransferPhase::Offer) if reply.response.code.is_success() => {
                self.enter(TransferPhase::Received)
            }
            Some(TransferPhase::Offer) => {
                self.refused(UpdateResult::UnsupportedPackage, reply.response)
            }
            Some(TransferPhase::Received) => {
                let received =
                    value::integer(reply.response, 6).and_then(|n| u64::try_from(n).ok());
                self.resume_at(received.unwrap_or(0))
            }
            Some(TransferPhase::Probe) => match value::integer(reply.response, 3) {
                Some(0) => self.enter(TransferPhase::Block),
                _ => self.enter(TransferPhase::Reset),
            },
            Some(TransferPhase::Reset) if !reply.response.code.is_success() => {
                self.enter(TransferPhase::ResetByNul)
            }
            // Its answer to the first block shows whether it is idle now.
            Some(TransferPhase::Reset | TransferPhase::ResetByNul) => {
                self.enter(TransferPhase::Block)
            }
            Some(TransferPhase::Block) => self.block_answered(reply),
            Some(TransferPhase::State) => self.state_answered(reply.response),
            Some(TransferPhase::Result(state)) => self.result_answered(state, reply),
            None => TaskOutcome::pending(),
        }
    }

    fn enter(&mut self, phase: TransferPhase) -> TaskOutcome {
        self.phase = Some(phase);
        TaskOutcome::pending()
    }

    fn resume_at(&mut self, received: u64) -> TaskOutcome {
        if received >= self.transfer.size_bytes {
            return self.enter(TransferPhase::State);
        }
        self.offset = received - received % size_bytes(self.szx) as u64;
        self.enter(TransferPhase::Block)
    }

    fn block(&self) -> Block {
        let size = size_bytes(self.szx) as u64;
        let more = self.offset + size < self.transfer.size_bytes;
        Block {
            number: (self.offset / size) as u32,
            more,
            szx: self.szx,
        }
    }

    fn block_answered(&mut self, reply: &TaskResponse<'_>) -> TaskOutcome {
        let sent = self.block();
        let wanted = reply
            .response
            .block1
            .map_or(self.szx, |b| b.szx.min(self.szx));
        match reply.response.code {
            Code::TOO_LARGE if wanted < self.szx => {
                self.szx = wanted;
                TaskOutcome::pending()
            }
            Code::INCOMPLETE => self.start_over(reply.agent, reply.response),
            code if !code.is_success() && self.resumed && !reply.agent && sent.number > 0 => {
                self.start_over(reply.agent, reply.response)
            }
            code if code.is_success() => {
                self.resumed = false;
                let end = sent.offset_bytes() + sent.size_bytes() as u64;
                self.offset = end.min(self.transfer.size_bytes);
                self.szx = wanted;
                if !sent.more {
                    self.deadline = Some(reply.now + reply.config.install_timeout);
                    self.phase = Some(TransferPhase::State);
                }
                self.progress()
            }
            // The reason of the refusal is in the result; the code may be any error.
            _ if !sent.more => self.enter(TransferPhase::State),
            _ => self.refused(UpdateResult::UpdateFailed, reply.response),
        }
    }

    fn start_over(&mut self, agent: bool, response: &Response) -> TaskOutcome {
        self.restarts += 1;
        if self.restarts > RESTARTS_MAX {
            return self.refused(UpdateResult::ConnectionLost, response);
        }
        (self.offset, self.reported_bytes) = (0, 0);
        // A foreign Thing may mistake block 0 for one that it has, unless it was reset.
        self.enter(if agent {
            TransferPhase::Received
        } else {
            TransferPhase::Reset
        })
    }

    fn progress(&mut self) -> TaskOutcome {
        let Transfer {
            deployment,
            size_bytes,
            ..
        } = &self.transfer;
        let due = self.reported_bytes + size_bytes / PROGRESS_STEPS;
        if self.offset < due && self.offset < *size_bytes {
            return TaskOutcome::pending();
        }
        self.reported_bytes = self.offset;
        TaskOutcome::notify(WorkNotice::Progress {
            deployment: deployment.clone(),
            sent_bytes: self.offset,
            total_bytes: *size_bytes,
        })
    }

    fn state_answered(&mut self, response: &Response) -> TaskOutcome {
        match FirmwareState::read(response) {
            Some(state) => self.enter(TransferPhase::Result(state)),
            None => self.refused(UpdateResult::UnsupportedProtocol, response),
        }
    }

    fn result_answered(&mut self, state: FirmwareState, reply: &TaskResponse<'_>) -> TaskOutcome {
        let Some(result) = UpdateResult::read(reply.response) else {
            return self.refused(UpdateResult::UnsupportedProtocol, reply.response);
        };
        let stage = Stage::of(state, result);
        let deadline = *self
            .deadline
            .get_or_insert(reply.now + reply.config.install_timeout);
        if stage == Stage::Downloading && reply.now < deadline {
            self.phase = Some(TransferPhase::State);
            self.poll_at = Some(reply.next_poll());
            return TaskOutcome::pending();
        }
        // A Thing with our agent reports the end itself; for a foreign one it is reported here.
        let (stage, detail) = match stage {
            _ if reply.agent => (stage, ""),
            Stage::Idle => (
                Stage::Failed(UpdateResult::UpdateFailed),
                "the Thing keeps nothing of the complete package (state 0, result 0)",
            ),
            Stage::Downloading => (
                Stage::Failed(UpdateResult::ConnectionLost),
                "the Thing still waits for more of the complete package",
            ),
            Stage::Cancelled => (Stage::Failed(result), "the Thing cancelled the update"),
            Stage::Postponed => (Stage::Failed(result), "the Thing put the update off"),
            other => (other, ""),
        };
        TaskOutcome::end(WorkNotice::Stage {
            deployment: self.transfer.deployment.clone(),
            stage,
            detail: detail.to_owned(),
        })
    }

    fn refused(&self, result: UpdateResult, response: &Response) -> TaskOutcome {
        let stage = match result {
            UpdateResult::UnsupportedPackage => Stage::Rejected(result),
            _ => Stage::Failed(result),
        };
        let detail = format!("{} {}", response.code, response.text());
        TaskOutcome::end(WorkNotice::Stage {
            deployment: self.transfer.deployment.clone(),
            stage,
            detail,
        })
    }
}
