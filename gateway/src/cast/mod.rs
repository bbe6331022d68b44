//! One image for several Things at once: the formats of a *cast*, for both of its ends.
//!
//! A gateway invites each Thing by unicast, in its session: an [`Invitation`] written to
//! `/33000/0/14`. Then it sends every block once to an IP multicast address, as one datagram:
//!
//! | bytes | content |
//! |---|---|
//! | 4 | number of the cast |
//! | 1 | round: blocks that several members lack are sent again in another one |
//! | 3 | number of the block |
//! | | the block, encrypted with AES-CCM-16-64-128 under the key of the invitation |
//! | 8 | the cipher's tag |
//!
//! The first 8 bytes, and 5 zeros, are the nonce, and are authenticated with the block. All numbers
//! are big-endian. What a Thing lacks is a [`BlockMap`], which it shows at `/33000/0/15`.

mod cipher;
mod map;
mod socket;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use lamplighter_types::artifact::{ArtifactMismatch, GROUP_BYTES, Groups};
use lamplighter_types::codec::{self, CodecError};
use lamplighter_types::{Hash, HexBytes};
use serde::{Deserialize, Serialize};

use crate::coap::block::{SZX_MAX, size_bytes};

pub use cipher::{CastCipher, CastKey, DATAGRAM_BYTES_MAX, OVERHEAD_BYTES};
pub use map::BlockMap;
pub use socket::{receiving_socket, sending_socket};

/// The attribute of object 33000 in a Thing's list of objects by which it says that it takes casts,
/// with the version of this format.
pub const ATTRIBUTE: (&str, &str) = ("cast", "1");
/// Takes an [`Invitation`]; the answer has the encoded [`BlockMap`] of what the Thing has.
pub const INVITATION: &str = "/33000/0/14";
/// The encoded [`BlockMap`] of a package whose blocks came in any order.
pub const HELD_BLOCKS: &str = "/33000/0/15";

/// Blocks of an image that is cast: a Thing keeps a bit for each, 2 KiB, in memory. It is 1 MiB in
/// blocks of 64 bytes.
pub const BLOCKS_MAX: u32 = 16_384;
/// Longest image that is cast: the values of its groups, 32 bytes for each 16 KiB, are in every
/// invitation.
pub const IMAGE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Longest invitation: the values of all groups, and what is beside them.
pub const INVITATION_BYTES_MAX: usize = 32 * (IMAGE_BYTES_MAX as usize / GROUP_BYTES) + 256;

/// Number of blocks of an image that can be cast; `None` for one that is too long for that.
pub fn block_count(image_bytes: u64, szx: u8) -> Option<u32> {
    if !(1..=IMAGE_BYTES_MAX).contains(&image_bytes) || szx > SZX_MAX {
        return None;
    }
    let count = u32::try_from(image_bytes.div_ceil(size_bytes(szx) as u64)).ok()?;
    (count <= BLOCKS_MAX).then_some(count)
}

/// Why an invitation can't be followed.
#[derive(Debug, thiserror::Error)]
pub enum InvitationError {
    #[error("no invitation")]
    Malformed(#[source] CodecError),
    #[error("longer than {INVITATION_BYTES_MAX} bytes")]
    Length,
    #[error("{0} is no multicast address")]
    Address(SocketAddr),
    #[error("the image is too long, or its blocks too small or too large")]
    Size,
    #[error(transparent)]
    Groups(#[from] ArtifactMismatch),
}

/// What a Thing needs to know before the first block. It comes by unicast: whoever has it can make
/// blocks that the members of the cast take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invitation {
    /// Number of the cast, in each of its datagrams.
    pub cast: u32,
    /// The multicast address, an IPv4 address in its IPv6 form.
    pub address: [u8; 16],
    pub port: u16,
    pub key: CastKey,
    /// Digest of the image.
    pub artifact: Hash,
    pub size_bytes: u64,
    /// Size exponent of the blocks.
    pub szx: u8,
    /// The values of the image's groups of 16 KiB, which give its digest. Each group is checked
    /// once it is complete, so that a false block costs its group and not the image.
    pub groups: HexBytes,
}

impl Invitation {
    /// An invitation to a cast at this address.
    pub fn new(cast: u32, at: SocketAddr, key: CastKey, groups: &Groups, szx: u8) -> Invitation {
        let address = match at.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        Invitation {
            cast,
            address: address.octets(),
            port: at.port(),
            key,
            artifact: groups.digest(),
            size_bytes: groups.size_bytes(),
            szx,
            groups: HexBytes(groups.to_bytes()),
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads an invitation, and checks everything in it that does not depend on the Thing.
    ///
    /// # Errors
    /// It is malformed, or names what can't be cast.
    pub fn decode(bytes: &[u8]) -> Result<(Invitation, Groups), InvitationError> {
        if bytes.len() > INVITATION_BYTES_MAX {
            return Err(InvitationError::Length);
        }
        let read: Invitation = codec::decode(bytes).map_err(InvitationError::Malformed)?;
        if !read.address().ip().is_multicast() {
            return Err(InvitationError::Address(read.address()));
        }
        if block_count(read.size_bytes, read.szx).is_none() {
            return Err(InvitationError::Size);
        }
        let groups = Groups::from_bytes(read.artifact, read.size_bytes, &read.groups.0)?;
        Ok((read, groups))
    }

    /// The multicast address. The interface is the Thing's affair.
    pub fn address(&self) -> SocketAddr {
        let address = Ipv6Addr::from(self.address).to_canonical();
        SocketAddr::new(address, self.port)
    }
}
