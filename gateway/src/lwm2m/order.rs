//! Orders to a Thing that checks by itself what the ledger says (object 33000, version 1.1), and
//! what it takes to lead such a Thing on to newer validators.
//!
//! An [`OrderMessage`] is written to [`ORDER`] in the encoding of `lamplighter_types::codec`. Its
//! [`ProofSet`] proves, from the validators that the Thing trusts:
//!
//! | action | records |
//! |---|---|
//! | offer, install | the deployment, the device, the release, the account of the release's vendor |
//! | configure | the device, and the desired documents of the fleet, its model, each level of its district from the outermost on, and the device itself, each there or absent |
//!
//! What is no record of these is the gateway's word, and decides nothing but the state from which
//! the Thing's first report goes.
//!
//! | answer | meaning | what helps |
//! |---|---|---|
//! | 2.04 | the Thing does it | |
//! | 4.00 | no order | |
//! | 4.03 | the ledger does not order it, or the proof does not hold | nothing |
//! | 4.09 | the proof does not lead on from the validators that the Thing trusts | their changes since [`TRUSTED_HEIGHT`], written to [`VALIDATORS`] |
//! | 4.12 | the proof is older than what the Thing has taken already, or than its clock allows | a newer proof |

use lamplighter_types::codec::{self, CodecError};
use lamplighter_types::proof::SetPath;
use lamplighter_types::wire::work::ProofSet;
use lamplighter_types::{DeploymentState, Id};
use serde::{Deserialize, Serialize};

use crate::coap::Code;

/// The version of object 33000 that a Thing lists if it takes proven orders alone.
pub const VERSION: &str = "1.1";
/// Height of the block after which the trusted validators are in force.
pub const TRUSTED_HEIGHT: &str = "/33000/0/11";
/// Takes an [`OrderMessage`].
pub const ORDER: &str = "/33000/0/12";
/// Takes a [`SetPath`] from the trusted validators on.
pub const VALIDATORS: &str = "/33000/0/13";

/// Longest order, and longest list of changes of the validators: the longest body of a request. An
/// offer has about 5 KiB with four validators and a million devices; documents may have 16 KiB
/// each.
pub const ORDER_BYTES_MAX: usize = 64 * 1024;

/// 4.09 Conflict (RFC 8132).
pub const CONFLICT: Code = Code(0x89);

/// The deed that is ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum OrderAction {
    /// Take the package of a deployment's release.
    Offer {
        rollout: Id,
        /// The state of the deployment on the ledger, from which the first report goes. Not proven:
        /// a wrong one makes the ledger refuse the Thing's report.
        state: DeploymentState,
    },
    /// Install the package.
    Install { rollout: Id },
    /// Apply the device's documents.
    Configure,
}

/// An order with its proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderMessage {
    pub action: OrderAction,
    pub proofs: ProofSet,
}

impl OrderMessage {
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// The bytes of an order whose proofs are encoded already.
    pub fn encode_with(action: &OrderAction, proofs: &[u8]) -> Vec<u8> {
        // A structure is encoded as its fields, one after the other.
        [&codec::encode(action), proofs].concat()
    }

    /// Decodes an order; nothing is proven yet.
    ///
    /// # Errors
    /// More than [`ORDER_BYTES_MAX`], or no order.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        decode("OrderMessage", bytes)
    }
}

/// Encodes changes of the validators for a Thing: as many as one request carries.
pub fn encode_changes(mut path: SetPath) -> Vec<u8> {
    loop {
        let bytes = codec::encode(&path);
        if bytes.len() <= ORDER_BYTES_MAX || path.set_changes.is_empty() {
            return bytes;
        }
        let half = path.set_changes.len() / 2;
        path.set_changes.truncate(half);
        path.more = true;
    }
}

/// Decodes changes of the validators; nothing is verified yet.
///
/// # Errors
/// More than [`ORDER_BYTES_MAX`], or no such list.
pub fn decode_changes(bytes: &[u8]) -> Result<SetPath, CodecError> {
    decode("SetPath", bytes)
}

fn decode<T: Serialize + serde::de::DeserializeOwned>(
    wanted: &'static str,
    bytes: &[u8],
) -> Result<T, CodecError> {
    if bytes.len() > ORDER_BYTES_MAX {
        return Err(CodecError::TooLong {
            wanted,
            got: bytes.len(),
            limit: ORDER_BYTES_MAX,
        });
    }
    codec::decode(bytes)
}
