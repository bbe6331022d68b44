//! Pages of the archive: certified blocks as nodes store them, for those who execute them again.
//!
//! A page is blocks one after the other. A block is its header, its transactions, its receipts and
//! its certificate (empty if it has none of its own). Each of them is in the ledger's binary
//! encoding behind its length; before transactions and receipts stands their number. Lengths and
//! numbers are 64 bits, little-endian. So a page is made of the bytes that a node has, and a block
//! may have more bytes than one value of the encoding.

use serde::Serialize;

use crate::codec::{self, CodecError};
use crate::{Certificate, Header, SignedTransaction};

/// A page ends with the block with which it has so many bytes: two of the largest batches.
pub const ARCHIVE_PAGE_BYTES: usize = 4 * 1024 * 1024;
/// Blocks of a page. Most blocks of a quiet city are empty, and each costs four reads.
pub const ARCHIVE_PAGE_BLOCKS_MAX: usize = 1_024;
/// Largest page that is read: its last block may begin just below [`ARCHIVE_PAGE_BYTES`], and the
/// receipts of the largest batch have some 20 MiB.
pub const ARCHIVE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A block of a page. Nothing of it is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedBlock {
    pub header: Header,
    pub transactions: Vec<SignedTransaction>,
    /// The encoded receipts, that of the block itself included.
    pub receipts: Vec<Vec<u8>>,
    /// The block's own certificate, if it has one: a later one certifies it too.
    pub certificate: Option<Certificate>,
}

/// Why bytes are no page of the archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("the page has {got} bytes, more than {ARCHIVE_BYTES_MAX}")]
    TooLong { got: usize },
    #[error("the page ends inside of its block number {block}")]
    Cut { block: usize },
    #[error("a part of block number {block} is malformed")]
    Part {
        block: usize,
        #[source]
        source: CodecError,
    },
}

/// A page that is being written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArchivePage {
    bytes: Vec<u8>,
    blocks: usize,
}

impl ArchivePage {
    /// Adds a block, of which transactions and receipts are encoded already.
    pub fn push(
        &mut self,
        header: &Header,
        transactions: &[Vec<u8>],
        receipts: &[Vec<u8>],
        certificate: Option<&Certificate>,
    ) {
        self.put_value(header);
        for list in [transactions, receipts] {
            self.put_number(list.len());
            list.iter().for_each(|item| self.put_bytes(item));
        }
        match certificate {
            Some(certificate) => self.put_value(certificate),
            None => self.put_bytes(&[]),
        }
        self.blocks += 1;
    }

    /// Adds a block that was read from a page.
    pub fn push_block(&mut self, block: &ArchivedBlock) {
        let transactions: Vec<_> = block.transactions.iter().map(codec::encode).collect();
        let certificate = block.certificate.as_ref();
        self.push(&block.header, &transactions, &block.receipts, certificate);
    }

    /// True if no more blocks belong into the page.
    pub fn is_full(&self) -> bool {
        self.blocks >= ARCHIVE_PAGE_BLOCKS_MAX || self.bytes.len() >= ARCHIVE_PAGE_BYTES
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn put_number(&mut self, number: usize) {
        self.bytes.extend((number as u64).to_le_bytes());
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_number(bytes.len());
        self.bytes.extend(bytes);
    }

    fn put_value(&mut self, value: &impl Serialize) {
        codec::with_encoded(value, |bytes| self.put_bytes(bytes));
    }
}

/// The rest of a page that is being read.
struct PageReader<'a> {
    rest: &'a [u8],
    /// The number of the block that is being read.
    block: usize,
}

impl<'a> PageReader<'a> {
    fn bytes(&mut self, length: usize) -> Result<&'a [u8], ArchiveError> {
        let block = self.block;
        let (bytes, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(ArchiveError::Cut { block })?;
        self.rest = rest;
        Ok(bytes)
    }

    fn number(&mut self) -> Result<usize, ArchiveError> {
        let bytes = self.bytes(size_of::<u64>())?;
        let number = bytes
            .iter()
            .rev()
            .fold(0, |n, byte| n << 8 | u64::from(*byte));
        let block = self.block;
        usize::try_from(number).map_err(|_| ArchiveError::Cut { block })
    }

    fn part(&mut self) -> Result<&'a [u8], ArchiveError> {
        let length = self.number()?;
        self.bytes(length)
    }

    /// Reads a list. It takes no memory for items that are not there.
    fn list<T>(
        &mut self,
        read: impl Fn(&[u8]) -> Result<T, CodecError>,
    ) -> Result<Vec<T>, ArchiveError> {
        let mut items = Vec::new();
        for _ in 0..self.number()? {
            let item = self.part()?;
            items.push(read(item).map_err(self.malformed())?);
        }
        Ok(items)
    }

    fn malformed(&self) -> impl Fn(CodecError) -> ArchiveError + use<> {
        let block = self.block;
        move |source| ArchiveError::Part { block, source }
    }

    fn block(&mut self) -> Result<ArchivedBlock, ArchiveError> {
        let header = codec::decode(self.part()?).map_err(self.malformed())?;
        // Whether they are the bytes of the ledger is for the root in the header to show.
        let transactions = self.list(codec::decode_stored)?;
        let receipts = self.list(|bytes| Ok(bytes.to_vec()))?;
        let certificate = match self.part()? {
            [] => None,
            bytes => Some(codec::decode(bytes).map_err(self.malformed())?),
        };
        Ok(ArchivedBlock {
            header,
            transactions,
            receipts,
            certificate,
        })
    }
}

/// Reads a page.
///
/// # Errors
/// Too long, cut, or with a part that is malformed.
pub fn read_archive_page(bytes: &[u8]) -> Result<Vec<ArchivedBlock>, ArchiveError> {
    let got = bytes.len();
    if got > ARCHIVE_BYTES_MAX {
        return Err(ArchiveError::TooLong { got });
    }
    let mut reader = PageReader {
        rest: bytes,
        block: 0,
    };
    let mut blocks = Vec::new();
    while !reader.rest.is_empty() {
        blocks.push(reader.block()?);
        reader.block += 1;
    }
    Ok(blocks)
}
