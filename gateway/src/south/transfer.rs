//! The transfer of a package to a Thing, block by block, resumed at the point where it stopped.

mod casting;
mod sets;

use std::time::Duration;

use tokio::time::Instant;

use super::block_set::{SetTransfer, uncountable};
use super::step::{SessionConfig, TaskOutcome, TaskResponse, TaskStep, WorkNotice};
use super::transfer_phase::{PhaseContext, TransferPhase};
use super::{PullAddresses, Transfer};
use crate::coap::block::size_bytes;
use crate::coap::{Block, Code, Response};
use crate::lwm2m::{Delivery, FirmwareState, PullProtocol, Stage, UpdateResult, value};
use casting::CastPart;

/// Restarts that a Thing may ask for before the transfer fails: a Thing that loses the blocks it
/// accepted would otherwise keep the mesh busy for ever.
const RESTARTS_MAX: u32 = 8;
/// The slowest fetch that is waited for, beside the time to check a package.
const FETCH_BYTES_PER_S: u64 = 50;
/// Notices of progress per package.
const PROGRESS_STEPS: u64 = 16;

#[derive(Debug)]
pub(super) struct TransferTask {
    transfer: Transfer,
    phase: Option<TransferPhase>,
    offset: u64,
    szx: u8,
    /// Percent of its battery that the Thing must have; 0: it is not asked.
    battery_min_percent: u8,
    /// Whether the Thing is asked for sets, and its answer, once it is known.
    asks_for_sets: bool,
    q_block: Option<bool>,
    sets: Option<SetTransfer>,
    cast: CastPart,
    /// The way in which a foreign Thing gets the package, once it is known.
    delivery: Option<Delivery>,
    /// True if it was seen to fetch the package.
    has_begun: bool,
    restarts: u32,
    /// True if it registered again in the middle, and may have lost the blocks before.
    resumed: bool,
    poll_at: Option<Instant>,
    deadline: Option<Instant>,
    reported_bytes: u64,
}

impl TransferTask {
    /// A transfer to a Thing that takes sets of blocks, does not, or was not asked yet, and takes
    /// casts or does not.
    pub(super) fn new(
        transfer: Transfer,
        config: &SessionConfig,
        (q_block, takes_casts): (Option<bool>, bool),
    ) -> TransferTask {
        TransferTask {
            transfer,
            phase: None,
            offset: 0,
            szx: config.szx,
            battery_min_percent: config.battery_min_percent,
            asks_for_sets: config.q_block,
            q_block,
            sets: None,
            cast: CastPart::new(takes_casts),
            delivery: None,
            has_begun: false,
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

    /// Size exponent of the blocks.
    pub(super) fn szx(&self) -> u8 {
        self.szx
    }

    /// Whether the Thing takes blocks in sets, once it was asked.
    pub(super) fn q_block(&self) -> Option<bool> {
        self.q_block
    }

    /// Takes note that the last step, perhaps a set, was not answered; true if another one follows.
    pub(super) fn not_answered(&mut self, is_set: bool) -> bool {
        match (self.phase, self.sets.as_mut()) {
            (Some(TransferPhase::SetsProbe), _) => self.q_block = Some(false),
            (Some(TransferPhase::Set), Some(sets)) if is_set => {
                if sets.not_answered() {
                    return true;
                }
                if !sets.is_unheard() {
                    return false;
                }
                self.q_block = Some(false);
            }
            _ => return false,
        }
        (self.sets, self.phase) = (None, Some(TransferPhase::Block));
        true
    }

    /// Resumes after a registration: the agent is asked for its position; a foreign Thing gets the
    /// next block, and answers 4.08 or another error if it has lost the others.
    pub(super) fn restart(&mut self) {
        self.poll_at = None;
        self.resumed = true;
        if self.sets.take().is_some() {
            self.offset = 0;
        }
        self.phase = match self.phase {
            Some(TransferPhase::Block) if self.offset > 0 => Some(TransferPhase::Block),
            Some(TransferPhase::State | TransferPhase::Result(_)) if self.is_fetched() => {
                Some(TransferPhase::State)
            }
            _ => None,
        };
    }

    /// True if the package is on its way to the Thing, or about to be.
    pub(super) fn is_sending(&self) -> bool {
        use TransferPhase::*;
        match self.phase {
            Some(Block | Set | Uri(_) | UriInTlv(_)) => true,
            Some(State | Result(_)) => self.is_fetched(),
            _ => false,
        }
    }

    /// True while its battery is too low.
    pub(super) fn is_postponed(&self) -> bool {
        self.phase == Some(TransferPhase::Battery)
    }

    /// Begins, unless the battery is too low. A Thing without one has no such resource.
    fn battery_answered(&mut self, reply: &TaskResponse<'_>) -> TaskOutcome {
        let percent = value::integer(reply.response, 9);
        if let Some(percent) = percent.filter(|n| *n < i64::from(self.battery_min_percent)) {
            let endpoint = &self.transfer.endpoint;
            tracing::info!(endpoint, percent, "the battery is too low for a package");
            self.poll_at = Some(reply.now + reply.config.battery_poll);
            return TaskOutcome::pending();
        }
        self.enter(self.beginning(reply.agent))
    }

    /// True if the Thing fetches the package by itself.
    fn is_fetched(&self) -> bool {
        self.delivery == Some(Delivery::Pull)
    }

    pub(super) fn next(
        &mut self,
        now: Instant,
        agent: bool,
        addresses: &PullAddresses,
    ) -> TaskStep {
        if let Some(at) = self.poll_at.filter(|at| *at > now) {
            return TaskStep::Wait(at);
        }
        let first = match self.battery_min_percent {
            0 => self.beginning(agent),
            _ => TransferPhase::Battery,
        };
        let phase = *self.phase.get_or_insert(first);
        match phase {
            TransferPhase::Block => TaskStep::Block(self.block()),
            TransferPhase::Cast => self.cast.next(),
            TransferPhase::Set => {
                let new = || SetTransfer::new(&self.transfer, self.offset, self.szx);
                TaskStep::Set(self.sets.get_or_insert_with(new).next())
            }
            phase => {
                let context = PhaseContext {
                    transfer: &self.transfer,
                    is_fetched: self.is_fetched(),
                    szx: self.szx,
                    addresses,
                };
                TaskStep::Request(phase.request(&context))
            }
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
            Some(TransferPhase::Battery) => self.battery_answered(reply),
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
            Some(TransferPhase::Delivery) => {
                self.delivery = Some(Delivery::read(reply.response));
                self.enter(TransferPhase::Probe)
            }
            Some(TransferPhase::Probe) => match value::integer(reply.response, 3) {
                Some(0) => self.begin(),
                _ => self.enter(TransferPhase::Reset),
            },
            Some(TransferPhase::Protocols) => self.protocols_answered(reply),
            Some(TransferPhase::Uri(protocol) | TransferPhase::UriInTlv(protocol)) => {
                self.uri_answered(protocol, reply)
            }
            // Its state shows whether it is idle now.
            Some(TransferPhase::Reset) if self.is_fetched() => self.enter(TransferPhase::Protocols),
            Some(TransferPhase::Reset) if !reply.response.code.is_success() => {
                self.enter(TransferPhase::ResetByNul)
            }
            // Its answer to the first block shows whether it is idle now.
            Some(TransferPhase::Reset | TransferPhase::ResetByNul) => self.begin(),
            Some(TransferPhase::Block) => self.block_answered(reply),
            Some(TransferPhase::SetsProbe) => {
                self.q_block = Some(reply.response.code.is_success());
                self.begin_sending()
            }
            Some(TransferPhase::Cast) => self.cast_answered(reply),
            Some(TransferPhase::Set) => self.set_answered(reply),
            Some(TransferPhase::State) => self.state_answered(reply.response),
            Some(TransferPhase::Result(state)) => self.result_answered(state, reply),
            None => TaskOutcome::pending(),
        }
    }

    fn enter(&mut self, phase: TransferPhase) -> TaskOutcome {
        self.phase = Some(phase);
        TaskOutcome::pending()
    }

    /// The end of a transfer whose image has more blocks than their number can count.
    fn uncountable(&self) -> Option<TaskOutcome> {
        let detail = uncountable(self.transfer.size_bytes, self.szx)?;
        Some(TaskOutcome::end(WorkNotice::Stage {
            deployment: self.transfer.deployment.clone(),
            stage: Stage::Failed(UpdateResult::UnsupportedProtocol),
            detail,
        }))
    }

    /// Begins the transfer itself, to an object 5 that is idle.
    fn begin(&mut self) -> TaskOutcome {
        if let Some(end) = self.uncountable().filter(|_| !self.is_fetched()) {
            return end;
        }
        match self.is_fetched() {
            true => self.enter(TransferPhase::Protocols),
            false => self.begin_sending(),
        }
    }

    /// The first phase of the transfer itself.
    fn beginning(&self, agent: bool) -> TransferPhase {
        match self.delivery {
            _ if agent => TransferPhase::Offer,
            None => TransferPhase::Delivery,
            Some(_) => TransferPhase::Probe,
        }
    }

    /// Enters the phase in which blocks are sent. What a cast leaves missing is sent in sets.
    fn begin_sending(&mut self) -> TaskOutcome {
        let phase = match self.q_block.filter(|_| self.asks_for_sets) {
            None if self.asks_for_sets => TransferPhase::SetsProbe,
            Some(true) if self.cast_blocks().is_some() => TransferPhase::Cast,
            Some(true) => TransferPhase::Set,
            _ => TransferPhase::Block,
        };
        if phase == TransferPhase::Cast {
            self.begin_cast();
        }
        self.enter(phase)
    }

    fn protocols_answered(&mut self, reply: &TaskResponse<'_>) -> TaskOutcome {
        let named = PullProtocol::read(reply.response);
        let served = |protocol: &&PullProtocol| match protocol {
            PullProtocol::Coap => true,
            PullProtocol::Http => reply.http_is_served,
        };
        let served = named.iter().find(served).copied();
        match served {
            Some(protocol) => self.enter(TransferPhase::Uri(protocol)),
            None => TaskOutcome::end(WorkNotice::Stage {
                deployment: self.transfer.deployment.clone(),
                stage: Stage::Failed(UpdateResult::UnsupportedProtocol),
                detail: "the Thing fetches packages by no protocol that the gateway serves"
                    .to_owned(),
            }),
        }
    }

    fn uri_answered(&mut self, protocol: PullProtocol, reply: &TaskResponse<'_>) -> TaskOutcome {
        let code = reply.response.code;
        if code.is_success() {
            // The Thing begins when it likes, and takes as long as its link does.
            let transfer_time = self.transfer.size_bytes / FETCH_BYTES_PER_S;
            let time = reply.config.install_timeout + Duration::from_secs(transfer_time);
            self.deadline = Some(reply.now + time);
            self.poll_at = Some(reply.next_poll());
            return self.enter(TransferPhase::State);
        }
        let is_text = self.phase == Some(TransferPhase::Uri(protocol));
        if is_text && matches!(code, Code::UNSUPPORTED_FORMAT | Code::NOT_ACCEPTABLE) {
            return self.enter(TransferPhase::UriInTlv(protocol));
        }
        self.refused(UpdateResult::InvalidUri, reply.response)
    }

    fn resume_at(&mut self, received: u64) -> TaskOutcome {
        if received >= self.transfer.size_bytes {
            return self.enter(TransferPhase::State);
        }
        if let Some(end) = self.uncountable() {
            return end;
        }
        self.offset = received - received % size_bytes(self.szx) as u64;
        self.begin_sending()
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
                self.uncountable().unwrap_or_default()
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
                if let Some(end) = self.uncountable().filter(|_| sent.more) {
                    return end;
                }
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
        (self.sets, self.cast.is_possible) = (None, false);
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
        // One that fetches its package may not have begun, and show the result of its last update.
        let has_not_begun =
            self.is_fetched() && !self.has_begun && matches!(stage, Stage::Idle | Stage::Trial);
        self.has_begun |= stage == Stage::Downloading;
        let continues = stage == Stage::Downloading || has_not_begun;
        if continues && reply.now < deadline {
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
