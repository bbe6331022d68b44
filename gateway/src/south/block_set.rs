//! Packages that travel in sets of blocks (RFC 9177), to Things that take them so.

use std::collections::BTreeSet;

use super::Transfer;
use super::step::{BlockSet, StepResult};
use super::worker::{WorkerContext, read_block};
use crate::coap::block::{BLOCK_NUMBER_MAX, size_bytes};
use crate::coap::qblock::{BlockSender, SetOutcome};
use crate::coap::{Block, Peer, Request, RequestError, Response};

/// Bytes of the digest that tell the blocks of one package from those of another one.
const TAG_BYTES: usize = 2;

/// Why the blocks of a package can't be counted, if they can't.
pub(super) fn uncountable(size_bytes_total: u64, szx: u8) -> Option<String> {
    let block = size_bytes(szx) as u64;
    let (blocks, most) = (size_bytes_total.div_ceil(block), BLOCK_NUMBER_MAX + 1);
    (blocks > u64::from(most)).then(|| {
        format!("the image has {blocks} blocks of {block} bytes, at most {most} can be counted")
    })
}

/// The blocks of one package on their way.
#[derive(Debug)]
pub(super) struct SetTransfer {
    sender: BlockSender,
    start: u32,
    szx: u8,
}

impl SetTransfer {
    /// The blocks from an offset on, which is a multiple of their size.
    pub(super) fn new(transfer: &Transfer, offset: u64, szx: u8) -> SetTransfer {
        let size = size_bytes(szx) as u64;
        // The caller has checked that the blocks can be counted.
        let count = |bytes: u64| u32::try_from(bytes.div_ceil(size)).unwrap_or(u32::MAX);
        let start = count(offset);
        SetTransfer {
            sender: BlockSender::new(count(transfer.size_bytes), start),
            start,
            szx,
        }
    }

    /// The blocks that the Thing lacks, in any order.
    pub(super) fn repair(transfer: &Transfer, szx: u8, missing: BTreeSet<u32>) -> SetTransfer {
        let blocks = transfer.size_bytes.div_ceil(size_bytes(szx) as u64);
        // An image that was cast has few blocks.
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
        SetTransfer {
            sender: BlockSender::repair(blocks, missing),
            // It has answered what it lacks: it is known to take sets.
            start: u32::MAX,
            szx,
        }
    }

    /// The blocks to send now.
    pub(super) fn next(&mut self) -> BlockSet {
        let numbers = self.sender.next_set();
        // What the answer shows to be missing is sent again, also if it was never sent.
        numbers
            .iter()
            .for_each(|number| self.sender.sending(*number));
        BlockSet {
            numbers,
            szx: self.szx,
            silent: self.sender.silent(),
        }
    }

    pub(super) fn answered(&mut self, response: &Response) -> SetOutcome {
        self.sender.answered(response)
    }

    /// Takes note of a set without an answer; false if the Thing counts as silent.
    pub(super) fn not_answered(&mut self) -> bool {
        self.sender.not_answered()
    }

    /// True if nothing shows that the Thing has received a block.
    pub(super) fn is_unheard(&self) -> bool {
        self.sender.confirmed() == self.start
    }

    /// True if every block was sent.
    pub(super) fn is_sent(&self) -> bool {
        self.sender.is_sent()
    }

    /// Bytes that the Thing is known to have, from the first on.
    pub(super) fn confirmed_bytes(&self) -> u64 {
        u64::from(self.sender.confirmed()) * size_bytes(self.szx) as u64
    }
}

/// A set on its way to a Thing.
pub(super) struct SetSending {
    pub(super) context: WorkerContext,
    pub(super) peer: Peer,
    pub(super) template: Request,
    pub(super) transfer: Transfer,
    pub(super) set: BlockSet,
}

impl SetSending {
    /// Sends the blocks within the rate of the mesh, until they are answered or their time is over.
    pub(super) async fn run(self) -> StepResult {
        let SetSending {
            context,
            peer,
            template,
            transfer,
            set,
        } = self;
        let artifact = context.artifacts.join(transfer.artifact.to_string());
        let size = size_bytes(set.szx) as u64;
        let mut answers = match context.handle.begin_set(peer, set.silent).await {
            Ok(answers) => answers,
            Err(error) => return StepResult::Unreachable(error.to_string()),
        };
        let last = set.numbers.last().copied();
        for number in set.numbers {
            let more = u64::from(number + 1) * size < transfer.size_bytes;
            let szx = set.szx;
            let block = Block { number, more, szx };
            let payload = match read_block(artifact.clone(), transfer.size_bytes, block).await {
                Ok(payload) => payload,
                Err(error) => {
                    return StepResult::Unreadable(format!("reading the artifact: {error}"));
                }
            };
            tokio::select! {
                biased;
                answer = answers.answer() => return set_result(answer),
                () = context.rate.acquire(payload.len()) => {}
            }
            let part = Request {
                q_block1: Some(block),
                size1: u32::try_from(transfer.size_bytes).ok(),
                request_tag: Some(transfer.artifact.0[..TAG_BYTES].to_vec()),
                payload,
                ..template.clone()
            };
            if let Err(error) = answers.send(part, Some(number) == last).await {
                return StepResult::Unreachable(error.to_string());
            }
        }
        set_result(answers.answer().await)
    }
}

fn set_result(answer: Result<Response, RequestError>) -> StepResult {
    match answer {
        Ok(response) => StepResult::Response(Box::new(response)),
        // A Thing may refuse what it does not know in silence, or by a reset.
        Err(RequestError::NoResponse | RequestError::Reset) => StepResult::Silent,
        Err(error) => StepResult::Unreachable(error.to_string()),
    }
}
