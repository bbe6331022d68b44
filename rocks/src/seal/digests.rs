//! Digests of a file's bytes, piece by piece, so that damage has an offset.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of one piece: small enough that growing the last one of a file is cheap, large enough
/// that the digests of a file are a hundredth of a per cent of it.
pub(crate) const PIECE_BYTES: u64 = 256 << 10;

/// The length of a file's beginning and the digests of its pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileDigests {
    pub bytes: u64,
    pub pieces: Vec<blake3::Hash>,
}

/// Bytes that are not what they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    pub offset: u64,
    pub length: u64,
}

impl FileDigests {
    pub fn of(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut digests = Self::default();
        digests.grow(&file, file.metadata()?.len())?;
        Ok(digests)
    }

    /// Extends the digests to the new length of a file that only grows.
    pub fn grow(&mut self, file: &File, bytes: u64) -> io::Result<()> {
        let whole = self.bytes / PIECE_BYTES;
        self.pieces.truncate(whole as usize);
        self.bytes = bytes;
        let mut buffer = vec![0; PIECE_BYTES as usize];
        for at in whole..self.count() {
            let (offset, length) = self.place(at);
            let piece = &mut buffer[..length as usize];
            file.read_exact_at(piece, offset)?;
            self.pieces.push(blake3::hash(piece));
        }
        Ok(())
    }

    /// The number of pieces.
    pub fn count(&self) -> u64 {
        self.bytes.div_ceil(PIECE_BYTES)
    }

    fn place(&self, at: u64) -> (u64, u64) {
        let offset = at * PIECE_BYTES;
        (offset, (self.bytes - offset).min(PIECE_BYTES))
    }

    /// Compares pieces from `first` on, at most `most` of them, with the file.
    pub fn compare(&self, file: &File, first: u64, most: u64) -> io::Result<Option<Mismatch>> {
        let have = file.metadata()?.len();
        let mut buffer = vec![0; PIECE_BYTES as usize];
        for at in first..self.count().min(first.saturating_add(most)) {
            let (offset, length) = self.place(at);
            if have < offset + length {
                return Ok(Some(Mismatch {
                    offset: have,
                    length: self.bytes - have,
                }));
            }
            let piece = &mut buffer[..length as usize];
            file.read_exact_at(piece, offset)?;
            if self.pieces.get(at as usize) != Some(&blake3::hash(piece)) {
                return Ok(Some(Mismatch { offset, length }));
            }
        }
        Ok(None)
    }

    /// Compares the whole file.
    pub fn compare_all(&self, path: &Path) -> io::Result<Option<Mismatch>> {
        self.compare(&File::open(path)?, 0, u64::MAX)
    }

    /// One line: the bytes and the digests.
    pub fn to_line(&self) -> String {
        let pieces = self.pieces.iter().map(|piece| piece.to_hex().to_string());
        let words: Vec<_> = [self.bytes.to_string()].into_iter().chain(pieces).collect();
        words.join(" ")
    }

    pub fn from_line(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let bytes = words.next()?.parse().ok()?;
        let pieces = words.map(|word| blake3::Hash::from_hex(word).ok());
        let digests = Self {
            bytes,
            pieces: pieces.collect::<Option<Vec<_>>>()?,
        };
        (digests.pieces.len() as u64 == digests.count()).then_some(digests)
    }
}
