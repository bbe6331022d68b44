//! The public key that identifies a node, and its libp2p form.

use std::fmt;

use libp2p::PeerId;
use libp2p::identity::{Keypair, PublicKey, ed25519};

use crate::error::NetError;

/// A node's ed25519 public key, 32 bytes. Its order is the order of the libp2p peer ids, because
/// an ed25519 peer id is the key itself behind a constant prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeKey(pub [u8; 32]);

impl NodeKey {
    /// The public key of a 32-byte ed25519 secret (RFC 8032).
    ///
    /// # Errors
    /// [`NetError::Secret`] if libp2p refuses the bytes.
    pub fn of_secret(secret: &[u8; 32]) -> Result<NodeKey, NetError> {
        Ok(NodeKey::of_keypair(&keypair(secret)?))
    }

    pub(crate) fn of_keypair(keypair: &Keypair) -> NodeKey {
        let public = keypair.public().try_into_ed25519();
        NodeKey(
            public
                .expect("the pair was made from an ed25519 secret")
                .to_bytes(),
        )
    }

    /// The peer id of this key; `None` if the bytes are no point of the curve: no node can prove
    /// such a key.
    pub fn peer_id(&self) -> Option<PeerId> {
        let key = ed25519::PublicKey::try_from_bytes(&self.0).ok()?;
        Some(PublicKey::from(key).to_peer_id())
    }

    /// The key inside a peer id; `None` if the id is of another kind (hashed RSA, secp256k1).
    pub fn from_peer_id(peer: &PeerId) -> Option<NodeKey> {
        let inlined = peer.as_ref().digest();
        let key = PublicKey::try_decode_protobuf(inlined).ok()?;
        Some(NodeKey(key.try_into_ed25519().ok()?.to_bytes()))
    }
}

pub(crate) fn keypair(secret: &[u8; 32]) -> Result<Keypair, NetError> {
    // libp2p wipes the copy.
    Keypair::ed25519_from_bytes(*secret).map_err(|source| NetError::Secret { source })
}

impl fmt::Display for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// The first four bytes are enough to tell a handful of nodes apart in a log.
impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0[..4]))
    }
}

#[cfg(test)]
mod tests;
