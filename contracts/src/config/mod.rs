//! Configuration: the documents that devices should have (*desired*) and report (*reported*).
//!
//! | action | who | refused |
//! |---|---|---|
//! | set desired, for the fleet or a model | operator of the whole city | not a JSON object of the allowed kind, another version than the current one is replaced |
//! | set desired, for a district | operator of the district | the same; the whole city, which is the fleet |
//! | set desired, for a device | operator of its district | the same; unknown or decommissioned device |
//! | report | the device's gateway | not active, used counter, wrong signature, none of a device that has a key |
//!
//! A document is a JSON object without fractions and exponents, nested at most
//! [`CONFIG_DEPTH_MAX`](lamplighter_types::limits::CONFIG_DEPTH_MAX) deep, no name twice in one
//! object ([`json`](lamplighter_types::json)). It is stored in canonical form: names in the order
//! of their bytes, no white space, the shortest escapes. The empty document changes no other one:
//! its record leaves the state, and the next document of that target is the first one again.
//!
//! A device gets the *effective* document: an empty object, into which the documents of fleet,
//! model, district (from the outermost to the innermost) and device are merged in this order by RFC
//! 7396; `null` removes. The device reports its digest.
//!
//! A gateway's report for a device without a key is stored as not attested.

mod error;
mod execute;
pub mod keys;
mod merge;
mod read;
#[cfg(test)]
mod tests;

pub use error::ConfigError;
pub use execute::{check, execute};
pub use read::*;
