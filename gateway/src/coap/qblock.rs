//! Robust block-wise transfer of a request's body (RFC 9177, Q-Block1) without IO. Blocks travel in
//! sets of non-confirmable messages, and the receiver answers once for each set: 2.31 when it has
//! all blocks so far, 4.08 with the numbers of those that it lacks. [`BlockSender`] chooses what is
//! sent next, [`BlockReceiver`] puts the blocks in order.

use std::collections::{BTreeMap, BTreeSet};

use super::block::{BLOCK_NUMBER_MAX, Block};
use super::message::Code;
use super::request::{Response, format};

/// MAX_PAYLOADS of RFC 9177: blocks that are sent before an answer is awaited. Both ends need the
/// same.
pub const SET_BLOCKS: u32 = 10;
/// Sets in a row without an answer before the peer counts as silent. The waits double meanwhile.
const SILENT_MAX: u32 = 4;
/// Blocks behind a missing one that a receiver holds in memory: two sets, 20 KiB at most.
const HELD_MAX: u32 = 2 * SET_BLOCKS;
/// Numbers in one list of missing blocks: as many as a receiver can hold the successors of.
const MISSING_MAX: usize = HELD_MAX as usize;
/// Repetitions that a receiver may ask for, as a multiple of the blocks: one that asks for ever
/// would keep the mesh busy. At a loss of a half, each block is sent twice.
const REPEATED_FACTOR: u64 = 4;

/// The numbers of missing blocks as a CBOR sequence (RFC 9177 section 5).
pub fn encode_missing(numbers: impl IntoIterator<Item = u32>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in numbers {
        let long = number.to_be_bytes();
        match number {
            0..24 => bytes.push(long[3]),
            24..0x100 => bytes.extend([24, long[3]]),
            0x100..0x1_0000 => bytes.extend([25, long[2], long[3]]),
            _ => bytes.extend([&[26], &long[..]].concat()),
        }
    }
    bytes
}

/// Reads a list of missing blocks; `None` if it is malformed. More than a receiver can lack at once
/// are left out.
pub fn decode_missing(mut bytes: &[u8]) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    while let [first, rest @ ..] = bytes {
        let length = match first {
            0..24 => 0,
            24 => 1,
            25 => 2,
            26 => 4,
            _ => return None,
        };
        let (value, after) = rest.split_at_checked(length)?;
        let number = match length {
            0 => u32::from(*first),
            _ => value
                .iter()
                .fold(0, |sum, byte| sum << 8 | u32::from(*byte)),
        };
        if number > BLOCK_NUMBER_MAX {
            return None;
        }
        if numbers.len() < MISSING_MAX {
            numbers.push(number);
        }
        bytes = after;
    }
    Some(numbers)
}

/// What an answer means for the transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetOutcome {
    /// More is to be sent.
    Continues,
    /// The receiver has answered the whole body.
    Complete,
    /// The receiver does not know these blocks: it answered the first ones as if they were all.
    NotSupported,
    /// The receiver asked for too many repetitions.
    TooManyRepeated,
    /// Any other answer.
    Refused,
}

/// The sending side of one body.
#[derive(Debug)]
pub struct BlockSender {
    blocks: u32,
    /// The receiver has the blocks below.
    confirmed: u32,
    /// The next block to send, once nothing is missing.
    sent: u32,
    /// The blocks below were sent at least once.
    highest: u32,
    /// Blocks that the receiver asked for again.
    missing: BTreeSet<u32>,
    repeated: u64,
    silent: u32,
}

impl BlockSender {
    /// A body of some blocks, of which the receiver has the first ones.
    pub fn new(blocks: u32, confirmed: u32) -> BlockSender {
        BlockSender {
            blocks,
            confirmed,
            sent: confirmed,
            highest: confirmed,
            missing: BTreeSet::new(),
            repeated: 0,
            silent: 0,
        }
    }

    /// A body of which the receiver lacks these blocks, wherever they are.
    pub fn repair(blocks: u32, missing: BTreeSet<u32>) -> BlockSender {
        let confirmed = missing.first().copied().unwrap_or(blocks);
        BlockSender {
            missing,
            confirmed,
            ..BlockSender::new(blocks, blocks)
        }
    }

    /// Blocks that the receiver is known to have, counted from the first.
    pub fn confirmed(&self) -> u32 {
        self.confirmed
    }

    /// True if every block was sent at least once.
    pub fn is_sent(&self) -> bool {
        self.highest >= self.blocks
    }

    /// Blocks that were sent more than once.
    pub fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Sets in a row that were not answered.
    pub fn silent(&self) -> u32 {
        self.silent
    }

    /// The numbers of the blocks to send now, at most [`SET_BLOCKS`].
    pub fn next_set(&self) -> Vec<u32> {
        if !self.missing.is_empty() {
            let missing = self.missing.iter().take(SET_BLOCKS as usize);
            return missing.copied().collect();
        }
        if self.sent < self.blocks {
            let end = (self.sent / SET_BLOCKS + 1) * SET_BLOCKS;
            return (self.sent..end.min(self.blocks)).collect();
        }
        // All was sent: a repetition of the last block asks for the answer.
        vec![self.blocks.saturating_sub(1)]
    }

    /// Takes note that a block goes out.
    pub fn sending(&mut self, number: u32) {
        self.repeated += u64::from(number < self.highest);
        self.sent = self.sent.max(number + 1);
        self.highest = self.highest.max(self.sent);
    }

    /// Processes the answer to a set.
    pub fn answered(&mut self, response: &Response) -> SetOutcome {
        self.silent = 0;
        match response.code {
            Code::CONTINUE => {
                let Some(block) = response.q_block1 else {
                    return SetOutcome::NotSupported;
                };
                self.confirm(block.number.saturating_add(1).min(self.highest));
                // It has nothing behind these: what was sent of the next set did not get through,
                // or was not sent because this answer came before.
                self.sent = self.confirmed;
                self.missing.clear();
                self.unless_repeated_too_often()
            }
            Code::INCOMPLETE if response.content_format == Some(format::MISSING_BLOCKS) => {
                self.lacks(&response.payload)
            }
            code if code.is_success() && !self.is_sent() => SetOutcome::NotSupported,
            code if code.is_success() => {
                self.confirm(self.blocks);
                SetOutcome::Complete
            }
            Code::BAD_OPTION => SetOutcome::NotSupported,
            _ => SetOutcome::Refused,
        }
    }

    /// Takes note that a set was not answered in time; false if the peer counts as silent.
    pub fn not_answered(&mut self) -> bool {
        self.silent += 1;
        // The next set follows, which makes the receiver ask for what it lacks. A repetition that
        // was asked for is repeated.
        self.silent < SILENT_MAX
    }

    fn confirm(&mut self, blocks: u32) {
        self.confirmed = self.confirmed.max(blocks);
    }

    fn lacks(&mut self, list: &[u8]) -> SetOutcome {
        let Some(numbers) = decode_missing(list).filter(|numbers| !numbers.is_empty()) else {
            return SetOutcome::Refused;
        };
        let lowest = numbers.iter().min().copied().unwrap_or_default();
        self.confirm(lowest.min(self.highest));
        self.missing = numbers.into_iter().filter(|n| *n < self.highest).collect();
        self.unless_repeated_too_often()
    }

    fn unless_repeated_too_often(&self) -> SetOutcome {
        let most = u64::from(self.blocks) * REPEATED_FACTOR + u64::from(SET_BLOCKS);
        match self.repeated > most {
            true => SetOutcome::TooManyRepeated,
            false => SetOutcome::Continues,
        }
    }
}

/// The answer of a receiver to one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlockReceipt {
    /// None.
    Silence,
    /// 2.31: all blocks so far are there.
    Continue,
    /// 4.08: these are to be sent again.
    Missing(Vec<u32>),
}

/// The receiving side of one body, which is written in order.
#[derive(Debug, Default)]
pub struct BlockReceiver {
    /// The tag and the size exponent of the blocks. With either of them their numbers change their
    /// meaning.
    body: (Vec<u8>, u8),
    held: BTreeMap<u32, Vec<u8>>,
    /// The newest set for which missing blocks were asked for.
    asked: Option<u32>,
}

impl BlockReceiver {
    /// Takes a block, whose payload has the size that it names unless it is the last one. The
    /// blocks below `next` are written already; those that can be written now
    /// are added to `ready`, in order.
    pub fn accept(
        &mut self,
        tag: &[u8],
        block: Block,
        next: u32,
        payload: Vec<u8>,
        ready: &mut Vec<Vec<u8>>,
    ) -> BlockReceipt {
        if (self.body.0.as_slice(), self.body.1) != (tag, block.szx) {
            *self = BlockReceiver {
                body: (tag.to_vec(), block.szx),
                ..BlockReceiver::default()
            };
        }
        // What was written by other means is not held any more.
        self.held = self.held.split_off(&next);
        let set = |number: u32| number / SET_BLOCKS;
        let is_held = block.number < next || self.held.contains_key(&block.number);
        let is_beyond = block.number >= next.saturating_add(HELD_MAX);
        if !is_held && !is_beyond {
            self.held.insert(block.number, payload);
        }
        let mut end = next;
        while let Some(bytes) = self.held.remove(&end) {
            ready.push(bytes);
            end += 1;
        }
        if end > next && (set(end) > set(next) || !block.more) && self.held.is_empty() {
            return BlockReceipt::Continue;
        }
        // The sender has passed on to another set, or repeats what is here: it got no answer.
        let is_new_set = set(block.number) > set(end) && Some(set(block.number)) > self.asked;
        let crossed = end > next && set(end) > set(next);
        if is_new_set {
            self.asked = Some(set(block.number));
        }
        let is_asked = is_new_set || crossed || is_held || is_beyond;
        if !is_asked {
            return BlockReceipt::Silence;
        }
        if self.held.is_empty() && end > block.number {
            return BlockReceipt::Continue;
        }
        // Of a set that has just begun, the others may be on their way.
        let newest = match is_new_set {
            true => set(block.number) * SET_BLOCKS,
            false => self
                .held
                .last_key_value()
                .map_or(end + 1, |(newest, _)| *newest),
        };
        let lacks = |number: &u32| !self.held.contains_key(number);
        BlockReceipt::Missing((end..newest).filter(lacks).take(MISSING_MAX).collect())
    }

    /// Blocks that are held in memory.
    pub fn held(&self) -> usize {
        self.held.len()
    }
}
