//! The protocol: the rules by which all nodes make the same block of the same batch, in numbered
//! versions.
//!
//! A chain runs one version at a time. The state has its number
//! ([`Protocol`](crate::record::Protocol)); governance sets the next number for a height to come. A
//! program runs every version from 1 to [`PROTOCOL_VERSION`], so that all nodes can be renewed
//! before the height comes. A node that is still older then stops at that height with a clear
//! error, before it executes the block: it never makes another block than the others.
//!
//! # What belongs to a version
//! Everything that decides about bytes of a block: the types of this crate that are hashed or
//! stored, which transactions are admitted, what contracts write, and the codes *and texts* of
//! their errors, which are part of receipts (some show the name of a variant).
//!
//! # Adding a variant
//! Enums are encoded by the index of their variant. So variants are appended, and never moved,
//! renamed or removed; nothing may depend on the order of the indices. A new variant belongs to the
//! next version:
//!
//! 1. Append it, and add a line to [`NEW_VARIANTS`] with the next version.
//! 2. If [`PROTOCOL_VERSION`] is lower, raise it to that version.
//! 3. Add a sample in `tests/samples`, then approve the golden files with `UPDATE_GOLDEN=1`.
//!
//! | where the enum is | what keeps older nodes and newer ones together |
//! |---|---|
//! | in a transaction (actions, `Role`, `Severity`, `DeploymentState`, ..) | [`required_version`]: below that version it is not admitted, as on nodes that can't decode it |
//! | in records, receipts and notifications only (`RolloutStatus`, `SkipReason`, `Fact`, ..) | the contract writes it only where the version in force has it |
//! | around transactions and blocks (`Encoding`, `Outcome`) | a new [`HEADER_VERSION`](crate::HEADER_VERSION) too: older nodes can't even read the batch |
//! | in bytes or text that a contract decodes (`ReleaseManifest`, names of IOTRegistry functions) | the contract asks for the version in force before it understands more |
//! | in proofs, work for gateways, logins | not part of the protocol: these formats have versions of their own |
//!
//! # Changing fields
//! Structs are encoded by position. So a field is added to, or removed from, an encoded struct only
//! in a new variant (`PostponeV2`), which then belongs to the next version: an older node can't
//! decode the longer struct, and a newer one can't decode what is stored.
//!
//! Error codes, tables of the state ([`tables`](crate::tables)) and signature domains grow in the
//! same way: at the end, with a version, never reused.

mod scan;

use serde::Serialize;

/// The newest version of the rules that this program has.
pub const PROTOCOL_VERSION: u32 = 3;

/// A variant of an encoded enum that version 1 did not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewVariant {
    /// Name of the enum in the code, e.g. `Severity`.
    pub of: &'static str,
    /// Name of the variant in JSON, e.g. `warning`.
    pub variant: &'static str,
    /// The first version that has it.
    pub since: u32,
}

/// All variants that came after version 1.
pub const NEW_VARIANTS: &[NewVariant] = &[
    since_2("RolloutsAction", "plan_groups"),
    since_2("RolloutsAction", "amend"),
    since_2("RolloutsAction", "open_group"),
    since_2("Fact", "rollout_amended"),
    since_2("Fact", "group_opened"),
    since_2("Fact", "group_ready"),
    since_2("Fact", "device_runs_revoked"),
    since_2("Fact", "revocation_traced"),
    since_3("RolloutsAction", "plan_guarded"),
    since_3("RolloutsAction", "amend_guarded"),
    since_3("RolloutsAction", "consent"),
    since_3("Fact", "consent_decided"),
];

/// A variant that came with version 2: rollouts in groups.
const fn since_2(of: &'static str, variant: &'static str) -> NewVariant {
    NewVariant {
        of,
        variant,
        since: 2,
    }
}

/// A variant that came with version 3: windows and consent.
const fn since_3(of: &'static str, variant: &'static str) -> NewVariant {
    NewVariant {
        of,
        variant,
        since: 3,
    }
}

/// The lowest protocol version that has all variants in `value`, of those that `new` names.
pub fn required_version<T: Serialize>(value: &T, new: &[NewVariant]) -> u32 {
    if new.is_empty() {
        return 1;
    }
    scan::highest(value, new)
}
