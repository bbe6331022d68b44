//! Transfers in sets (RFC 9177): sender and receiver joined by a link that loses, repeats and
//! reorders, and peers that never end.

use proptest::collection::vec;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::super::block::BLOCK_NUMBER_MAX;
use super::super::qblock::{
    BlockReceipt, BlockReceiver, BlockSender, SET_BLOCKS, SetOutcome, decode_missing,
    encode_missing,
};
use super::super::*;
use super::body;

const SZX: u8 = 0;
const BLOCK_BYTES: usize = 16;

fn blocks_of(image: &[u8]) -> u32 {
    image.len().div_ceil(BLOCK_BYTES) as u32
}

/// The receiver's end: what it has written, and its answer to a block.
#[derive(Default)]
struct Written {
    receiver: BlockReceiver,
    bytes: Vec<u8>,
    most_held: usize,
}

impl Written {
    fn accept(&mut self, image: &[u8], number: u32) -> Option<Response> {
        let start = number as usize * BLOCK_BYTES;
        let end = image.len().min(start + BLOCK_BYTES);
        let block = Block {
            number,
            more: end < image.len(),
            szx: SZX,
        };
        let next = (self.bytes.len() / BLOCK_BYTES) as u32;
        if self.bytes.len() == image.len() {
            return Some(Response::new(Code::CHANGED));
        }
        let mut ready = Vec::new();
        let payload = image[start..end].to_vec();
        let receipt = self
            .receiver
            .accept(b"tag", block, next, payload, &mut ready);
        self.bytes.extend(ready.concat());
        if self.bytes.len() == image.len() {
            return Some(Response::new(Code::CHANGED));
        }
        let next = (self.bytes.len() / BLOCK_BYTES) as u32;
        self.most_held = self.most_held.max(self.receiver.held());
        match receipt {
            BlockReceipt::Silence => None,
            BlockReceipt::Continue => Some(Response {
                q_block1: Some(Block {
                    number: next - 1,
                    more: true,
                    szx: SZX,
                }),
                ..Response::new(Code::CONTINUE)
            }),
            BlockReceipt::Missing(numbers) => {
                assert!(!numbers.is_empty() && numbers.len() <= 2 * SET_BLOCKS as usize);
                Some(lacking(numbers))
            }
        }
    }
}

fn lacking(numbers: Vec<u32>) -> Response {
    Response {
        code: Code::INCOMPLETE,
        ..Response::content(format::MISSING_BLOCKS, encode_missing(numbers))
    }
}

/// Transfers an image; returns what was written and the blocks that were repeated. Of the answers
/// to a set the first one that is not lost ends it, as in the endpoint.
fn transfer(image: &[u8], seed: u64, loss: f64, duplicate: f64) -> (Vec<u8>, u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut sender = BlockSender::new(blocks_of(image), 0);
    let mut there = Written::default();
    for _ in 0..20 * blocks_of(image) + 100 {
        let mut numbers = sender.next_set();
        assert!(!numbers.is_empty() && numbers.len() <= SET_BLOCKS as usize);
        numbers.iter().for_each(|number| sender.sending(*number));
        let repeated: Vec<u32> = numbers
            .iter()
            .copied()
            .filter(|_| random.random_bool(duplicate))
            .collect();
        numbers.extend(repeated);
        numbers.retain(|_| !random.random_bool(loss));
        numbers.shuffle(&mut random);
        let answers: Vec<_> = numbers
            .iter()
            .filter_map(|number| there.accept(image, *number))
            .collect();
        let answer = answers.iter().find(|_| !random.random_bool(loss));
        match answer.map(|answer| sender.answered(answer)) {
            Some(SetOutcome::Complete) => return (there.bytes, sender.repeated()),
            Some(outcome) => assert_eq!(outcome, SetOutcome::Continues),
            None => {
                sender.not_answered();
            }
        }
    }
    panic!("no end: {} of {} bytes", there.bytes.len(), image.len());
}

proptest! {
    #[test]
    fn an_image_passes_any_link_byte_for_byte(
        length in 1usize..5_000, seed: u64, loss in 0.0..0.3, duplicate in 0.0..0.3,
    ) {
        let image = body(length);
        prop_assert_eq!(transfer(&image, seed, loss, duplicate).0, image);
    }

    #[test]
    fn lists_of_missing_blocks_are_read_as_they_were_written(
        numbers in vec(0..=BLOCK_NUMBER_MAX, 0..20),
    ) {
        prop_assert_eq!(decode_missing(&encode_missing(numbers.clone())), Some(numbers));
    }

    #[test]
    fn any_bytes_are_a_bounded_list_or_none(bytes in vec(any::<u8>(), 0..300)) {
        if let Some(numbers) = decode_missing(&bytes) {
            prop_assert!(numbers.len() <= 2 * SET_BLOCKS as usize);
            prop_assert!(numbers.iter().all(|number| *number <= BLOCK_NUMBER_MAX));
        }
    }

    #[test]
    fn a_receiver_holds_a_bounded_part_of_any_blocks(
        numbers in vec((0..2_000u32, any::<bool>()), 1..300),
    ) {
        let (image, mut there) = (body(40_000), Written::default());
        for (number, _) in numbers {
            there.accept(&image, number);
            prop_assert!(there.most_held <= 2 * SET_BLOCKS as usize);
        }
        prop_assert_eq!(&image[..there.bytes.len()], &there.bytes[..]);
    }
}

#[test]
fn without_a_loss_nothing_is_repeated() {
    for blocks in [1, 9, 10, 11, 100, 101] {
        let image = body(blocks * BLOCK_BYTES - 3);
        assert_eq!(transfer(&image, 1, 0.0, 0.0), (image, 0));
    }
}

/// The 48 KiB of a slow mesh in blocks of 64 bytes, of which a tenth is lost in both directions.
#[test]
fn a_loss_of_a_tenth_repeats_little() {
    let image = body(768 * BLOCK_BYTES);
    let repeated: u64 = (0..20).map(|seed| transfer(&image, seed, 0.1, 0.0).1).sum();
    // 77 are lost in each run. The others are those whose answer was lost with them.
    assert!((50..150).contains(&(repeated / 20)), "{}", repeated / 20);
}

#[test]
fn a_receiver_that_asks_for_ever_ends_the_transfer() {
    let endless = |answer: fn() -> Response| {
        let mut sender = BlockSender::new(100, 0);
        for sets in 0..10_000 {
            let numbers = sender.next_set();
            numbers.iter().for_each(|number| sender.sending(*number));
            if sender.answered(&answer()) == SetOutcome::TooManyRepeated {
                return sets;
            }
        }
        panic!("it went on");
    };
    let lacks = || lacking((0..10).collect());
    let stands_still = || Response {
        q_block1: Some(Block {
            number: 4,
            more: true,
            szx: SZX,
        }),
        ..Response::new(Code::CONTINUE)
    };
    assert!(endless(lacks) < 100);
    assert!(endless(stands_still) < 100);
}

#[test]
fn one_that_does_not_know_sets_is_noticed() {
    let answer = |code| {
        let mut sender = BlockSender::new(100, 0);
        sender.next_set().iter().for_each(|n| sender.sending(*n));
        sender.answered(&Response::new(code))
    };
    // It took a block for the whole body, or refused the option.
    assert_eq!(answer(Code::CHANGED), SetOutcome::NotSupported);
    assert_eq!(answer(Code::CONTINUE), SetOutcome::NotSupported);
    assert_eq!(answer(Code::BAD_OPTION), SetOutcome::NotSupported);
    assert_eq!(answer(Code::FORBIDDEN), SetOutcome::Refused);
    let mut silent = BlockSender::new(100, 0);
    let answered = (0..10).take_while(|_| silent.not_answered()).count();
    assert_eq!(answered, 3, "the fourth silence in a row is the end");
}

/// A gateway that restarts with another size of blocks sends the same package with the same tag:
/// the numbers then mean other bytes.
#[test]
fn blocks_that_are_held_are_forgotten_with_their_size() {
    let image: Vec<u8> = (0..1_280u32).map(|at| (at % 251) as u8).collect();
    let mut receiver = BlockReceiver::default();
    let mut written = Vec::new();
    let mut accept = |number: u32, szx: u8| {
        let bytes = 16 << szx;
        let start = number as usize * bytes;
        let (more, next) = (true, (written.len() / bytes) as u32);
        let block = Block { number, more, szx };
        let payload = image[start..start + bytes].to_vec();
        let mut ready = Vec::new();
        receiver.accept(b"tag", block, next, payload, &mut ready);
        written.extend(ready.concat());
        (receiver.held(), written.clone())
    };
    // Block 0 is lost.
    let (held, _) = (1..10).map(|number| accept(number, 2)).last().unwrap();
    assert_eq!(held, 9);
    let (held, written) = (0..10).map(|number| accept(number, 1)).last().unwrap();
    assert_eq!((held, &written[..]), (0, &image[..320]));
}
