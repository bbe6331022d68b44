//! The protection of the blocks of a cast: a key that its members share, and a nonce that is used
//! once.

use std::{fmt, io};

use ccm::aead::{AeadInOut, KeyInit};
use ccm::consts::{U8, U13};
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::{Deserialize, Serialize};

use crate::coap::block::{SZX_MAX, size_bytes};

const KEY_BYTES: usize = 16;
const HEAD_BYTES: usize = 8;
const TAG_BYTES: usize = 8;
const NONCE_BYTES: usize = 13;
/// Bytes by which a datagram is longer than its block.
pub const OVERHEAD_BYTES: usize = HEAD_BYTES + TAG_BYTES;
/// Longest datagram of a cast.
pub const DATAGRAM_BYTES_MAX: usize = size_bytes(SZX_MAX) + OVERHEAD_BYTES;
/// Block numbers have 3 bytes.
const NUMBER_MAX: u32 = 0xFF_FFFF;

type AesCcm = ccm::Ccm<aes::Aes128, U8, U13>;

/// The key of one cast.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CastKey([u8; KEY_BYTES]);

impl fmt::Debug for CastKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CastKey")
    }
}

impl CastKey {
    /// A key from the operating system's randomness.
    ///
    /// # Errors
    /// It has none.
    pub fn generate() -> io::Result<CastKey> {
        let mut key = [0; KEY_BYTES];
        OsRng.try_fill_bytes(&mut key).map_err(io::Error::other)?;
        Ok(CastKey(key))
    }
}

/// Encrypts and decrypts the blocks of one cast.
pub struct CastCipher {
    cast: u32,
    cipher: AesCcm,
}

impl fmt::Debug for CastCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CastCipher({})", self.cast)
    }
}

impl CastCipher {
    pub fn new(cast: u32, key: &CastKey) -> CastCipher {
        let cipher = AesCcm::new_from_slice(&key.0).expect("the key has the cipher's length");
        CastCipher { cast, cipher }
    }

    /// The number of the cast.
    pub fn cast(&self) -> u32 {
        self.cast
    }

    /// The datagram of a block. A round has each number once, and a cast each round.
    pub fn seal(&self, round: u8, number: u32, block: &[u8]) -> Vec<u8> {
        assert!(number <= NUMBER_MAX, "an image that is cast has few blocks");
        let mut datagram = Vec::with_capacity(block.len() + OVERHEAD_BYTES);
        datagram.extend(self.cast.to_be_bytes());
        datagram.extend((u32::from(round) << 24 | number).to_be_bytes());
        let nonce = nonce(&datagram);
        let mut bytes = block.to_vec();
        let tag = self.cipher.encrypt_inout_detached(
            &nonce.into(),
            &datagram,
            bytes.as_mut_slice().into(),
        );
        let tag = tag.expect("a block is shorter than what the cipher takes");
        datagram.extend(bytes);
        datagram.extend_from_slice(&tag);
        datagram
    }

    /// Number and bytes of a block; `None` if no member of this cast made the datagram.
    pub fn open(&self, datagram: &[u8]) -> Option<(u32, Vec<u8>)> {
        let (head, rest) = datagram.split_at_checked(HEAD_BYTES)?;
        let (cast, place) = head.split_at(4);
        if cast != self.cast.to_be_bytes() || datagram.len() > DATAGRAM_BYTES_MAX {
            return None;
        }
        let number = u32::from_be_bytes(place.try_into().ok()?) & NUMBER_MAX;
        let (sealed, tag) = rest.split_at_checked(rest.len().checked_sub(TAG_BYTES)?)?;
        let tag: [u8; TAG_BYTES] = tag.try_into().ok()?;
        let mut bytes = sealed.to_vec();
        let opened = self.cipher.decrypt_inout_detached(
            &nonce(head).into(),
            head,
            bytes.as_mut_slice().into(),
            &tag.into(),
        );
        opened.ok().map(|()| (number, bytes))
    }
}

fn nonce(head: &[u8]) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    nonce[..HEAD_BYTES].copy_from_slice(head);
    nonce
}
