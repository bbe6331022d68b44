//! Which blocks of an image are there.

use std::ops::Range;

use super::BLOCKS_MAX;

/// Marks the two encodings; the shorter one is used, so that a list is never longer than the bitmap
/// and one byte.
const BITMAP: u8 = 0;
const RUNS: u8 = 1;

/// The blocks of an image, each there or missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockMap {
    blocks: u32,
    held: u32,
    bits: Vec<u8>,
}

impl BlockMap {
    /// A map of so many blocks, all of them missing; `None` for more than are cast.
    pub fn new(blocks: u32) -> Option<BlockMap> {
        (1..=BLOCKS_MAX).contains(&blocks).then(|| BlockMap {
            blocks,
            held: 0,
            bits: vec![0; blocks.div_ceil(8) as usize],
        })
    }

    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Blocks that are there.
    pub fn held(&self) -> u32 {
        self.held
    }

    pub fn is_full(&self) -> bool {
        self.held == self.blocks
    }

    pub fn has(&self, number: u32) -> bool {
        number < self.blocks && self.bits[number as usize / 8] & (0x80 >> (number % 8)) != 0
    }

    /// Notes a block; false if it is there already, or is none of the image.
    pub fn hold(&mut self, number: u32) -> bool {
        let is_new = number < self.blocks && !self.has(number);
        if is_new {
            self.bits[number as usize / 8] |= 0x80 >> (number % 8);
            self.held += 1;
        }
        is_new
    }

    /// Forgets blocks.
    pub fn forget(&mut self, numbers: Range<u32>) {
        for number in numbers {
            if self.has(number) {
                self.bits[number as usize / 8] &= !(0x80 >> (number % 8));
                self.held -= 1;
            }
        }
    }

    /// Blocks from the first on of which none is missing.
    pub fn prefix(&self) -> u32 {
        self.missing().next().unwrap_or(self.blocks)
    }

    /// True if all of these blocks are there.
    pub fn has_all(&self, mut numbers: Range<u32>) -> bool {
        numbers.all(|number| self.has(number))
    }

    /// The missing blocks, in their order.
    pub fn missing(&self) -> impl Iterator<Item = u32> {
        (0..self.blocks).filter(|number| !self.has(*number))
    }

    /// The bitmap, or the runs of missing blocks: pairs of how many are there before a run, and how
    /// many it has, each in 7 bits a byte, the lowest first.
    pub fn encode(&self) -> Vec<u8> {
        let mut runs = vec![RUNS];
        let (mut end, mut number) = (0, 0);
        while number < self.blocks && runs.len() <= self.bits.len() {
            if self.has(number) {
                number += 1;
                continue;
            }
            let start = number;
            while number < self.blocks && !self.has(number) {
                number += 1;
            }
            push_number(&mut runs, start - end);
            push_number(&mut runs, number - start);
            end = number;
        }
        match runs.len() <= self.bits.len() {
            true => runs,
            false => [&[BITMAP], self.bits.as_slice()].concat(),
        }
    }

    /// The encoding of a map, of any number of blocks, in which none is missing.
    pub fn encode_full() -> Vec<u8> {
        vec![RUNS]
    }

    /// Reads a map of so many blocks; `None` if it is malformed.
    pub fn decode(blocks: u32, bytes: &[u8]) -> Option<BlockMap> {
        let mut map = BlockMap::new(blocks)?;
        let (kind, mut rest) = bytes.split_first()?;
        match *kind {
            BITMAP if rest.len() == map.bits.len() => {
                let is_there =
                    |number: &u32| rest[*number as usize / 8] & 0x80 >> (number % 8) != 0;
                let there: Vec<u32> = (0..blocks).filter(is_there).collect();
                there.into_iter().for_each(|number| {
                    map.hold(number);
                });
            }
            RUNS if rest.len() <= map.bits.len() => {
                (0..blocks).for_each(|number| {
                    map.hold(number);
                });
                let mut end = 0_u32;
                while !rest.is_empty() {
                    let start = end.checked_add(read_number(&mut rest)?)?;
                    end = start.checked_add(read_number(&mut rest)?)?;
                    if end > blocks || end == start {
                        return None;
                    }
                    map.forget(start..end);
                }
            }
            _ => return None,
        }
        Some(map)
    }
}

fn push_number(bytes: &mut Vec<u8>, mut number: u32) {
    while number > 0x7F {
        bytes.push(0x80 | (number & 0x7F) as u8);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Reads a number of at most 3 bytes, which count beyond all blocks.
fn read_number(bytes: &mut &[u8]) -> Option<u32> {
    let mut number = 0;
    for shift in [0, 7, 14] {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u32::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
