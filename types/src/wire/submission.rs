use std::fmt;

use serde::{Deserialize, Serialize};

use super::problem::Problem;
use crate::{Hash, Receipt};

/// The point until which a submission waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Wait {
    /// The node has the transaction in its pool.
    None,
    /// The transaction is in a block, durable on a majority.
    #[default]
    Committed,
    /// A certificate covers the block.
    Certified,
}

impl Wait {
    /// The form in JSON and in a query.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Committed => "committed",
            Self::Certified => "certified",
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The state of a transaction after its submission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Submitted {
    pub transaction: Hash,
    /// The block's height; absent while the transaction waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
    /// The position among the transactions of the block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// True if a certificate covers it.
    pub certified: bool,
    /// The effect. A transaction that failed is in a block too, and its receipt says why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
    /// Why the action was refused, for people. The receipt has the code and the facts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Submitted {
    /// A transaction that is in no block yet.
    pub fn pending(transaction: Hash) -> Self {
        Self {
            transaction,
            height: None,
            index: None,
            certified: false,
            receipt: None,
            message: None,
        }
    }
}

/// The line about one transaction of a request that has many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SubmissionAnswer {
    /// The status that the transaction alone would be answered with.
    pub status: u16,
    /// With the status 200 or 202.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submitted: Option<Submitted>,
    /// With any other status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}
