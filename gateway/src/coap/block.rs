//! The block option of block-wise transfer (RFC 7959 section 2.2).
//!
//! `coap-lite` keeps 12 bits of the block number, which is 4 MiB at the largest block and 64 KiB at
//! the smallest, and wraps beyond; here all 20 bits are kept.

use super::message::{decode_uint, encode_uint};

/// Largest block number: 20 bits.
pub const BLOCK_NUMBER_MAX: u32 = (1 << 20) - 1;
/// Largest size exponent: blocks of 1,024 bytes. 7 is reserved.
pub const SZX_MAX: u8 = 6;

/// Position and size of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Index of the block, in units of its own size.
    pub number: u32,
    /// True if more blocks follow.
    pub more: bool,
    /// Size exponent 0 to 6: blocks of `2^(4 + szx)` bytes.
    pub szx: u8,
}

impl Block {
    /// Bytes of a full block.
    pub fn size_bytes(&self) -> usize {
        size_bytes(self.szx)
    }

    /// Offset of its first byte in the whole body.
    pub fn offset_bytes(&self) -> u64 {
        u64::from(self.number) << (self.szx + 4)
    }

    /// Reads an option value of at most 3 bytes; `None` if it is longer or its size is reserved.
    pub fn decode(bytes: &[u8]) -> Option<Block> {
        if bytes.len() > 3 {
            return None;
        }
        let value = decode_uint(bytes)?;
        let szx = (value & 7) as u8;
        (szx <= SZX_MAX).then_some(Block {
            number: value >> 4,
            more: value & 8 != 0,
            szx,
        })
    }

    /// The option value.
    pub fn encode(&self) -> Vec<u8> {
        encode_uint(self.number << 4 | u32::from(self.more) << 3 | u32::from(self.szx))
    }
}

/// Bytes of a block with this size exponent.
pub const fn size_bytes(szx: u8) -> usize {
    16 << szx
}
