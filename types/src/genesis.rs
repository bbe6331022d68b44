//! The trust root: what the ledger begins with. Whoever has this file can check everything that
//! follows.

use serde::{Deserialize, Serialize};

use crate::codec;
use crate::limits::{SMALL_LIST_MAX, TEXT_BYTES_MAX, VALIDATORS_MAX};
use crate::record::Policies;
use crate::{Grant, Hash, Id, PublicKey, ValidatorSet};

/// The genesis file (JSON). Its digest is the chain id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Genesis {
    /// For people, e.g. `Harbour City`.
    pub name: String,
    pub created_ms: u64,
    pub validators: ValidatorSet,
    /// The organization of the accounts below.
    pub organization: Id,
    pub accounts: Vec<GenesisAccount>,
    pub policies: Policies,
}

/// A first user. At least one is an administrator of the whole city.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GenesisAccount {
    pub account: Id,
    pub name: String,
    pub key: PublicKey,
    pub grants: Vec<Grant>,
}

/// Why a genesis file can't be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum GenesisError {
    #[error("a ledger has 1 to {VALIDATORS_MAX} validators")]
    ValidatorCount,
    #[error("validators must be in the order of their node ids, each id, account and key once")]
    Validators,
    #[error("accounts: at most {SMALL_LIST_MAX}, each name and key once, none that of a validator")]
    Accounts,
    #[error("the key {0} is no usable ed25519 key")]
    Key(PublicKey),
    #[error("no account is an administrator of the whole city")]
    NoAdministrator,
    #[error("the name has more than {TEXT_BYTES_MAX} bytes")]
    Name,
}

impl Genesis {
    pub fn chain_id(&self) -> Hash {
        codec::digest(self)
    }

    /// Checks what execution relies on.
    pub fn check(&self) -> Result<(), GenesisError> {
        if self.name.len() > TEXT_BYTES_MAX {
            return Err(GenesisError::Name);
        }
        let validators = &self.validators.validators;
        if validators.is_empty() || validators.len() > VALIDATORS_MAX {
            return Err(GenesisError::ValidatorCount);
        }
        if validators
            .windows(2)
            .any(|pair| pair[0].node >= pair[1].node)
        {
            return Err(GenesisError::Validators);
        }
        self.check_names()?;
        let city = crate::Scope::city();
        let administers = |a: &GenesisAccount| {
            a.grants
                .iter()
                .any(|g| g.role == crate::Role::Administrator && g.scope == city)
        };
        if !self.accounts.iter().any(administers) {
            return Err(GenesisError::NoAdministrator);
        }
        Ok(())
    }

    fn check_names(&self) -> Result<(), GenesisError> {
        use std::collections::BTreeSet;
        let mut names = BTreeSet::new();
        let mut keys = BTreeSet::new();
        for validator in &self.validators.validators {
            if !names.insert(&validator.account) || !keys.insert(validator.key) {
                return Err(GenesisError::Validators);
            }
        }
        if self.accounts.len() > SMALL_LIST_MAX {
            return Err(GenesisError::Accounts);
        }
        for account in &self.accounts {
            if !names.insert(&account.account) || !keys.insert(account.key) {
                return Err(GenesisError::Accounts);
            }
        }
        match keys.iter().find(|key| !key.is_acceptable()) {
            Some(key) => Err(GenesisError::Key(*key)),
            None => Ok(()),
        }
    }
}
