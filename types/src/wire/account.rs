use serde::{Deserialize, Serialize};

use crate::record::Observer;
use crate::{Id, Validator};

/// The account of a key, and the key's highest sequence number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeyInfo {
    pub account: Id,
    /// The highest sequence number used, 0 if none: the next transaction has a higher one.
    pub highest_sequence: u64,
}

/// The nodes of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeList {
    pub validators: Vec<Validator>,
    pub observers: Vec<Observer>,
    /// Equal attestations that make a certificate.
    pub quorum: usize,
    /// An id that no node ever had, for the next one.
    pub next_node: u64,
}
