//! The state of block 0, made of the genesis file.

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::{
    Account, AccountKey, AccountKind, Genesis, GenesisAccount, GenesisError, Organization,
    Protocol, Scope, Validator,
};

use crate::ExecutionError;
use crate::governance;
use crate::users::{accounts, keys as users};

/// Protocol version of a new chain. Governance raises it, so that a genesis file gives the same
/// state in every release.
const GENESIS_PROTOCOL: u32 = 1;

/// Why a ledger can't begin with a genesis file.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error("the genesis file")]
    Genesis(#[from] GenesisError),
    #[error("an account of the genesis file was refused: {0}")]
    Refused(String),
    #[error("writing the first state")]
    State(#[from] StateError),
}

/// Writes the first state and commits it to the overlay of block 0: the organization, its
/// accounts with their roles, an account for each validator, the validator set, policies and
/// protocol version.
///
/// # Errors
/// The genesis file breaks a rule, or the state can't be read.
pub fn install(overlay: &mut Overlay, genesis: &Genesis) -> Result<(), InstallError> {
    genesis.check()?;
    let Genesis {
        version: _,
        name,
        created_ms: _,
        validators,
        organization,
        accounts: first,
        policies,
    } = genesis;
    let record = Organization {
        organization: organization.clone(),
        name: name.clone(),
        registered_height: 0,
    };
    overlay.put(&users::organization(organization), &record);
    for account in first {
        insert(overlay, &user_account(account, genesis))?;
    }
    for Validator {
        node,
        account,
        key,
        address: _,
    } in &validators.validators
    {
        insert(
            overlay,
            &governance::node_account(account, organization, key, 0),
        )?;
        overlay.put(&governance::keys::used_node(*node), account);
    }
    overlay.put(&governance::keys::validator_set(), validators);
    overlay.put(&governance::keys::policies(), policies);
    let protocol = Protocol {
        version: GENESIS_PROTOCOL,
        next: None,
    };
    overlay.put(&governance::keys::protocol(), &protocol);
    overlay.commit();
    Ok(())
}

fn user_account(account: &GenesisAccount, genesis: &Genesis) -> Account {
    let GenesisAccount {
        account,
        name,
        key,
        grants,
    } = account;
    Account {
        account: account.clone(),
        kind: AccountKind::User,
        organization: genesis.organization.clone(),
        name: name.clone(),
        district: Scope::city(),
        keys: vec![AccountKey::first(*key)],
        grants: grants.clone(),
        disabled: false,
        registered_height: 0,
    }
}

fn insert(overlay: &mut Overlay, account: &Account) -> Result<(), InstallError> {
    accounts::insert(overlay, account).map_err(|error| match error {
        ExecutionError::Refused(refusal) => InstallError::Refused(refusal.to_string()),
        ExecutionError::Fatal(error) => InstallError::State(error),
    })
}
