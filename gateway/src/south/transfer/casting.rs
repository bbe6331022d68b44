//! The part of a transfer that is a cast: the Thing is invited, its blocks come by multicast, and
//! what it lacks then is sent to it as sets of blocks.

use std::sync::Arc;

use super::{TransferPhase, TransferTask};
use crate::cast::{self, BlockMap};
use crate::coap::{Code, Request, Response, format};
use crate::south::block_set::SetTransfer;
use crate::south::casting::CastTurn;
use crate::south::step::{TaskOutcome, TaskResponse, TaskStep};

#[derive(Debug, Clone, PartialEq, Eq)]
enum CastStage {
    Join,
    Invite(Arc<Vec<u8>>),
    Wait,
    Ask,
    /// Ask for the blocks that it has of an earlier cast, or of one that is over.
    AskLast,
}

/// The part of one Thing in a cast.
#[derive(Debug)]
pub(super) struct CastPart {
    /// The Thing takes casts, and none has failed.
    pub(super) is_possible: bool,
    /// It was in one: it opens no other.
    has_joined: bool,
    stage: CastStage,
    /// The blocks that it had when it was asked last, and whether the cast knows of it.
    map: Option<BlockMap>,
    is_reported: bool,
}

impl CastPart {
    pub(super) fn new(is_possible: bool) -> CastPart {
        CastPart {
            is_possible,
            has_joined: false,
            stage: CastStage::Join,
            map: None,
            is_reported: false,
        }
    }

    fn enter(&mut self, stage: CastStage) {
        self.stage = stage;
    }

    pub(super) fn next(&mut self) -> TaskStep {
        let ask = || Request::get(cast::HELD_BLOCKS).with_accept(format::OCTETS);
        match &self.stage {
            CastStage::Join => TaskStep::JoinCast {
                may_open: !self.has_joined,
            },
            CastStage::Invite(invitation) => {
                let put = Request::new(Code::PUT, cast::INVITATION);
                TaskStep::Request(put.with_payload(format::OCTETS, invitation.to_vec()))
            }
            CastStage::Wait => {
                let unreported = !std::mem::replace(&mut self.is_reported, true);
                TaskStep::AwaitCast(self.map.clone().filter(|_| unreported))
            }
            CastStage::Ask | CastStage::AskLast => TaskStep::Request(ask()),
        }
    }
}

impl TransferTask {
    /// Blocks of the image, if it can be cast to this Thing.
    pub(super) fn cast_blocks(&self) -> Option<u32> {
        let blocks = cast::block_count(self.transfer.size_bytes, self.szx);
        blocks.filter(|_| self.cast.is_possible)
    }

    /// Begins with the cast.
    pub(super) fn begin_cast(&mut self) {
        self.cast.enter(CastStage::Join);
        self.cast.map = None;
    }

    /// True if the Thing is in a cast, once it has joined it.
    pub(in crate::south) fn is_in_cast(&self) -> bool {
        let joined = !matches!(self.cast.stage, CastStage::Join | CastStage::AskLast);
        self.phase == Some(TransferPhase::Cast) && joined
    }

    /// True if the next step is the cast's.
    pub(in crate::south) fn awaits_cast(&self) -> bool {
        self.is_in_cast() && self.cast.stage == CastStage::Wait
    }

    /// Takes note of whether there is a cast for the Thing.
    pub(in crate::south) fn cast_joined(&mut self, is_member: bool) {
        self.cast.has_joined |= is_member;
        self.cast.is_reported = true;
        self.cast.enter(match is_member {
            true => CastStage::Wait,
            false => CastStage::AskLast,
        });
    }

    /// Goes on as the cast has it.
    pub(in crate::south) fn cast_turn(&mut self, turn: CastTurn) {
        match (turn, self.cast.map.take()) {
            (CastTurn::Invite(invitation), _) => self.cast.enter(CastStage::Invite(invitation)),
            (CastTurn::Ask, _) => self.cast.enter(CastStage::Ask),
            (CastTurn::Over { is_fresh: true }, Some(map)) => self.repair(&map),
            (CastTurn::Over { .. }, _) => self.cast.enter(CastStage::AskLast),
        }
    }

    pub(super) fn cast_answered(&mut self, reply: &TaskResponse<'_>) -> TaskOutcome {
        let map = self.read_map(reply.response);
        match (&self.cast.stage, map) {
            (CastStage::AskLast, Some(map)) => {
                self.repair(&map);
                TaskOutcome::pending()
            }
            // It has the package.
            (_, Some(map)) if map.is_full() => self.enter(TransferPhase::State),
            (_, Some(map)) => {
                (self.cast.map, self.cast.is_reported) = (Some(map), false);
                self.cast.enter(CastStage::Wait);
                TaskOutcome::pending()
            }
            (CastStage::Invite(_), None) => {
                let code = reply.response.code;
                tracing::debug!(endpoint = self.transfer.endpoint, %code, "takes no invitation");
                self.cast.enter(CastStage::AskLast);
                TaskOutcome::pending()
            }
            // It keeps none: what it has, it has in order.
            (_, None) => {
                self.cast.is_possible = false;
                self.enter(TransferPhase::Received)
            }
        }
    }

    fn read_map(&self, response: &Response) -> Option<BlockMap> {
        let blocks = self.cast_blocks().filter(|_| response.code.is_success())?;
        BlockMap::decode(blocks, &response.payload)
    }

    /// Sends what the Thing lacks.
    fn repair(&mut self, map: &BlockMap) {
        let missing = map.missing().collect();
        self.phase = Some(match map.is_full() {
            true => TransferPhase::State,
            false => TransferPhase::Set,
        });
        self.sets = Some(SetTransfer::repair(&self.transfer, self.szx, missing));
    }
}
