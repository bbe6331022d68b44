//! Records of organizations, accounts, keys and roles.

use serde::{Deserialize, Serialize};

use crate::limits::{NUMBER_MAX, REPLAY_WINDOW};
use crate::{Id, PublicKey, Scope};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Organization {
    pub organization: Id,
    pub name: String,
    pub registered_height: u64,
}

/// The kind of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum AccountKind {
    User,
    Gateway,
    /// A validator or observer.
    Node,
}

/// A role: what an account may do within the scope of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Role {
    /// Accounts, roles, organizations, governance.
    Administrator,
    /// Devices, rollouts, configuration, alarms.
    Operator,
    /// Approves releases and rollouts.
    Approver,
    /// Publishes releases signed by its key.
    Vendor,
    /// Revokes releases and keys.
    Security,
    /// Reads everything.
    Auditor,
    /// Relays IOTRegistry operations.
    Relay,
}

impl Role {
    /// Tells whether the role decides about others, or about what runs on devices. Only a proposal
    /// that several approve grants and revokes such a role.
    pub fn is_power(self) -> bool {
        match self {
            Self::Administrator | Self::Approver | Self::Vendor | Self::Security => true,
            Self::Operator | Self::Auditor | Self::Relay => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Grant {
    pub role: Role,
    pub scope: Scope,
    /// Block time in Unix ms at which it was granted; 0 in the genesis file.
    pub since_ms: u64,
}

impl Grant {
    /// A grant of the genesis file.
    pub fn founding(role: Role, scope: Scope) -> Self {
        Self {
            role,
            scope,
            since_ms: 0,
        }
    }

    /// The block time in Unix ms from which on the grant is old enough for approvals by it,
    /// `wait_ms` after it was made.
    pub fn matures_ms(&self, wait_ms: u64) -> u64 {
        match self.since_ms {
            0 => 0,
            since_ms => since_ms.saturating_add(wait_ms),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Account {
    pub account: Id,
    pub kind: AccountKind,
    pub organization: Id,
    pub name: String,
    /// The district in which a gateway acts; the whole city for users.
    pub district: Scope,
    /// Keys in use. With each of them the account has all its rights.
    pub keys: Vec<AccountKey>,
    pub grants: Vec<Grant>,
    pub disabled: bool,
    pub registered_height: u64,
}

/// A key of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AccountKey {
    pub key: PublicKey,
    /// Text by which people tell the keys apart; empty for the first one.
    pub label: String,
}

impl AccountKey {
    /// The key with which an account is registered or recovered.
    pub fn first(key: PublicKey) -> Self {
        let label = String::new();
        Self { key, label }
    }
}

impl Account {
    /// Tells whether the account acts with `key`.
    pub fn has_key(&self, key: &PublicKey) -> bool {
        self.keys.iter().any(|held| held.key == *key)
    }

    /// Tells whether the account has `role` for all of `scope`.
    pub fn has_role(&self, role: Role, scope: &Scope) -> bool {
        self.grants
            .iter()
            .any(|grant| grant.role == role && grant.scope.covers(scope))
    }

    /// Tells whether the account can act, and has had `role` for all of `scope` long enough for an
    /// approval.
    pub fn may_approve(&self, role: Role, scope: &Scope, time_ms: u64, wait_ms: u64) -> bool {
        let from_ms = self.may_approve_from(role, scope, wait_ms);
        from_ms.is_some_and(|from_ms| from_ms <= time_ms)
    }

    /// The block time in Unix ms from which on an approval by `role` counts for all of `scope`;
    /// `None` without the role, without a key, or disabled.
    pub fn may_approve_from(&self, role: Role, scope: &Scope, wait_ms: u64) -> Option<u64> {
        if self.disabled || self.keys.is_empty() {
            return None;
        }
        let of_role = |grant: &&Grant| grant.role == role && grant.scope.covers(scope);
        let grants = self.grants.iter().filter(of_role);
        grants.map(|grant| grant.matures_ms(wait_ms)).min()
    }

    /// Tells whether the account has `role` for any scope.
    pub fn has_role_somewhere(&self, role: Role) -> bool {
        self.grants.iter().any(|grant| grant.role == role)
    }
}

/// The account of a key. The record is kept for ever, so that a revoked key is not registered
/// again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeyRecord {
    pub account: Id,
    pub revoked: bool,
}

const WORDS: usize = (REPLAY_WINDOW / 64) as usize;

/// The sequence numbers that a key has used (RFC 4303, section 3.4.3 and appendix A2): the highest,
/// and a bit map of the 1,024 up to it. Numbers begin at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReplayWindow {
    highest: u64,
    /// Bit `n % 1024` stands for number `n`.
    used: [u64; WORDS],
}

/// Why a sequence number can't be used.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
pub enum SequenceError {
    #[error("the sequence number {sequence} was used before")]
    Used { sequence: u64 },
    #[error("the sequence number {sequence} is below the window, which begins at {lowest}")]
    TooOld { sequence: u64, lowest: u64 },
    #[error("sequence numbers begin at 1 and end at {NUMBER_MAX} (2^53 - 1)")]
    OutOfRange,
    #[error(
        "the sequence number {sequence} is more than 2^32 above the highest one used, {highest}"
    )]
    TooFar { sequence: u64, highest: u64 },
}

/// Largest jump of a sequence number: a mistake must not use up all numbers of a key.
const JUMP_MAX: u64 = 1 << 32;

impl Default for ReplayWindow {
    fn default() -> Self {
        Self {
            highest: 0,
            used: [0; WORDS],
        }
    }
}

impl ReplayWindow {
    /// The highest number used, 0 if none.
    pub fn highest(&self) -> u64 {
        self.highest
    }

    fn bit(sequence: u64) -> (usize, u64) {
        let at = (sequence % REPLAY_WINDOW) as usize;
        (at / 64, 1 << (at % 64))
    }

    /// Checks that `sequence` can be used.
    pub fn check(&self, sequence: u64) -> Result<(), SequenceError> {
        if sequence == 0 || sequence > NUMBER_MAX {
            return Err(SequenceError::OutOfRange);
        }
        if sequence > self.highest {
            if sequence - self.highest > JUMP_MAX {
                return Err(SequenceError::TooFar {
                    sequence,
                    highest: self.highest,
                });
            }
            return Ok(());
        }
        if self.highest - sequence >= REPLAY_WINDOW {
            let lowest = self.highest - REPLAY_WINDOW + 1;
            return Err(SequenceError::TooOld { sequence, lowest });
        }
        let (word, bit) = Self::bit(sequence);
        if self.used[word] & bit != 0 {
            return Err(SequenceError::Used { sequence });
        }
        Ok(())
    }

    /// Marks `sequence` as used.
    ///
    /// # Errors
    /// Those of [`check`](Self::check); then nothing has changed.
    pub fn mark(&mut self, sequence: u64) -> Result<(), SequenceError> {
        self.check(sequence)?;
        if sequence > self.highest {
            if sequence - self.highest >= REPLAY_WINDOW {
                self.used = [0; WORDS];
            } else {
                for skipped in self.highest + 1..sequence {
                    let (word, bit) = Self::bit(skipped);
                    self.used[word] &= !bit;
                }
            }
            self.highest = sequence;
        }
        let (word, bit) = Self::bit(sequence);
        self.used[word] |= bit;
        Ok(())
    }
}
