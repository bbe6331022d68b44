//! The file format of the spool: a head, then frames.
//!
//! The head is [`MAGIC`], a random file id and 8 bytes of its blake3. A frame is `length (u32) |
//! head check (8 bytes) | body check (16 bytes) | records`, little-endian. Both checks are keyed
//! with the file id and cover the frame's place in the file: a Thing that writes the bytes of a
//! frame into a report makes no frame of them, because it does not know the id.
//!
//! Files of the first format have no head, and frames `length (u32) | check (8 bytes of blake3) |
//! records`. They are read, and written again in this format when the spool is opened.

use lamplighter_types::codec;
use rand::RngCore;

use super::{SpoolError, SpoolRecord};

/// Begins a file. The fourth byte of a file of the first format is zero.
const MAGIC: &[u8; 8] = b"LLSPOOL2";
const FILE_ID_BYTES: usize = 32;
/// Bytes before the first frame.
pub(super) const FILE_HEAD: usize = MAGIC.len() + FILE_ID_BYTES + 8;
/// Longest frame: what a few hundred Things send at once, and far below what the codec reads.
pub(super) const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes before the records of a frame.
const FRAME_HEAD: usize = 4 + 8 + 16;
/// The same in the first format.
const FIRST_FRAME_HEAD: usize = 4 + 8;

/// The format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogFormat {
    First,
    Keyed([u8; FILE_ID_BYTES]),
}

impl LogFormat {
    /// The format of a new file, with an id of its own.
    pub fn new_file() -> Self {
        let mut id = [0; FILE_ID_BYTES];
        rand::rng().fill_bytes(&mut id);
        Self::Keyed(id)
    }

    /// The format of a file that was read; `None`: nothing was ever stored in it, because its head
    /// is not whole. The head is synced before the first frame is written.
    ///
    /// # Errors
    /// The head is damaged.
    pub fn of_file(bytes: &[u8]) -> Result<Option<Self>, SpoolError> {
        let is_torn_head = bytes.len() < FILE_HEAD && MAGIC.starts_with(first_bytes(bytes));
        if is_torn_head || bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let Some(rest) = bytes.strip_prefix(MAGIC) else {
            return Ok(Some(Self::First));
        };
        let id = rest.first_chunk::<FILE_ID_BYTES>();
        let found = id.map(|id| Self::Keyed(*id));
        match found.filter(|format| bytes.starts_with(&format.head())) {
            Some(format) => Ok(Some(format)),
            None => Err(SpoolError::Damaged { at: 0 }),
        }
    }

    /// The bytes before the first frame.
    pub fn head(&self) -> Vec<u8> {
        match self {
            Self::First => Vec::new(),
            Self::Keyed(id) => [MAGIC.as_slice(), id, &blake3::hash(id).as_bytes()[..8]].concat(),
        }
    }

    /// The first frame's place.
    pub fn begin(&self) -> usize {
        match self {
            Self::First => 0,
            Self::Keyed(_) => FILE_HEAD,
        }
    }

    /// Adds a frame at the place `at` of the file.
    pub fn write_frame(
        &self,
        into: &mut Vec<u8>,
        at: u64,
        records: &[SpoolRecord],
    ) -> Result<(), SpoolError> {
        let body = codec::encode(&records);
        if body.len() > FRAME_BYTES_MAX {
            return Err(SpoolError::FrameTooLarge { got: body.len() });
        }
        let length = (body.len() as u32).to_le_bytes();
        into.extend(length);
        match self {
            Self::First => into.extend(&blake3::hash(&body).as_bytes()[..8]),
            Self::Keyed(id) => {
                into.extend(head_check(id, at, length));
                into.extend(body_check(id, at, &body));
            }
        }
        into.extend(body);
        Ok(())
    }

    /// Reads the frame at `at`: its records and its end. `None`: there is no whole frame any more.
    ///
    /// # Errors
    /// There is a frame behind a damaged one: only the last frame can be torn.
    pub fn read_frame(
        &self,
        bytes: &[u8],
        at: usize,
    ) -> Result<Option<(Vec<SpoolRecord>, usize)>, SpoolError> {
        let Some(body) = self.body(bytes, at) else {
            let is_damaged = match self {
                // A file of this format is never empty, and its first frame was synced long ago.
                Self::First if at == 0 => true,
                Self::First => (at + 1..bytes.len()).any(|at| self.body(bytes, at).is_some()),
                // A frame behind it was begun, so this one had been synced.
                Self::Keyed(id) => {
                    (at + 1..bytes.len()).any(|at| keyed_head(id, bytes, at).is_some())
                }
            };
            if is_damaged {
                return Err(SpoolError::Damaged { at: at as u64 });
            }
            return Ok(None);
        };
        let records = codec::decode_stored(body).map_err(SpoolError::Record)?;
        Ok(Some((records, at + self.frame_head() + body.len())))
    }

    fn frame_head(&self) -> usize {
        match self {
            Self::First => FIRST_FRAME_HEAD,
            Self::Keyed(_) => FRAME_HEAD,
        }
    }

    /// The body of the frame at `at`, if it is whole.
    fn body<'a>(&self, bytes: &'a [u8], at: usize) -> Option<&'a [u8]> {
        match self {
            Self::First => {
                let (length, rest) = length_at(bytes, at)?;
                let (expected, rest) = rest.split_first_chunk::<8>()?;
                let body = rest.get(..length)?;
                (blake3::hash(body).as_bytes()[..8] == *expected).then_some(body)
            }
            Self::Keyed(id) => {
                let (length, rest) = keyed_head(id, bytes, at)?;
                let (expected, rest) = rest.split_first_chunk::<16>()?;
                let body = rest.get(..length)?;
                (body_check(id, at as u64, body) == *expected).then_some(body)
            }
        }
    }
}

fn first_bytes(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(MAGIC.len())]
}

/// The length of the frame at `at`, if there may be one, and what follows.
fn length_at(bytes: &[u8], at: usize) -> Option<(usize, &[u8])> {
    let (length, rest) = bytes.get(at..)?.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    (1..=FRAME_BYTES_MAX)
        .contains(&length)
        .then_some((length, rest))
}

/// The length of the frame that was begun at `at`, and what follows its head check.
fn keyed_head<'a>(
    id: &[u8; FILE_ID_BYTES],
    bytes: &'a [u8],
    at: usize,
) -> Option<(usize, &'a [u8])> {
    let (length, rest) = length_at(bytes, at)?;
    let (expected, rest) = rest.split_first_chunk::<8>()?;
    let check = head_check(id, at as u64, (length as u32).to_le_bytes());
    (check == *expected).then_some((length, rest))
}

fn head_check(id: &[u8; FILE_ID_BYTES], at: u64, length: [u8; 4]) -> [u8; 8] {
    keyed_check(&[&at.to_le_bytes(), length.as_slice()].concat(), id)
}

fn body_check(id: &[u8; FILE_ID_BYTES], at: u64, body: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_keyed(id);
    hasher
        .update(b"body")
        .update(&at.to_le_bytes())
        .update(body);
    let mut check = [0; 16];
    check.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    check
}

fn keyed_check(bytes: &[u8], id: &[u8; FILE_ID_BYTES]) -> [u8; 8] {
    let mut check = [0; 8];
    check.copy_from_slice(&blake3::keyed_hash(id, bytes).as_bytes()[..8]);
    check
}
