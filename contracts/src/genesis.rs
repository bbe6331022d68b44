//! The state before the first block, from the genesis file.

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::limits::{GRANTS_PER_ACCOUNT_MAX, TEXT_BYTES_MAX};
use lamplighter_types::{
    Account, AccountKind, Genesis, GenesisAccount, GenesisError, Organization, Protocol, Scope,
    Validator,
};

use crate::ExecutionError;
use crate::governance::{self, GovernanceError, PROTOCOL_VERSION, check_address, check_policies};
use crate::shape::{self, ShapeError};
use crate::users::{accounts, keys as users};

/// Why a ledger can't begin with a genesis file.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error("the genesis file")]
    Genesis(#[from] GenesisError),
    #[error("an account of the genesis file")]
    Account(#[from] ShapeError),
    #[error("the policies or addresses of the genesis file")]
    Governance(#[from] GovernanceError),
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
        name,
        created_ms: _,
        validators,
        organization,
        accounts: first,
        policies,
    } = genesis;
    check_policies(policies)?;
    let record = Organization {
        organization: organization.clone(),
        name: name.clone(),
        registered_height: 0,
    };
    overlay.put(&users::organization(organization), &record);
    for account in first {
        insert(overlay, &user_account(account, genesis)?)?;
    }
    for Validator {
        node,
        account,
        key,
        address,
    } in &validators.validators
    {
        check_address(address)?;
        insert(
            overlay,
            &governance::node_account(account, organization, key, 0),
        )?;
        overlay.put(&governance::keys::used_node(*node), account);
    }
    overlay.put(&governance::keys::validator_set(), validators);
    overlay.put(&governance::keys::policies(), policies);
    let protocol = Protocol {
        version: PROTOCOL_VERSION,
        next: None,
    };
    overlay.put(&governance::keys::protocol(), &protocol);
    overlay.commit();
    Ok(())
}

fn user_account(account: &GenesisAccount, genesis: &Genesis) -> Result<Account, ShapeError> {
    let GenesisAccount {
        account,
        name,
        key,
        grants,
    } = account;
    shape::name("name", name, TEXT_BYTES_MAX)?;
    shape::at_most("grants", grants, GRANTS_PER_ACCOUNT_MAX)?;
    Ok(Account {
        account: account.clone(),
        kind: AccountKind::User,
        organization: genesis.organization.clone(),
        name: name.clone(),
        district: Scope::city(),
        keys: vec![*key],
        grants: grants.clone(),
        disabled: false,
        registered_height: 0,
    })
}

fn insert(overlay: &mut Overlay, account: &Account) -> Result<(), InstallError> {
    accounts::insert(overlay, account).map_err(|error| match error {
        ExecutionError::Refused(refusal) => InstallError::Refused(refusal.message),
        ExecutionError::Fatal(error) => InstallError::State(error),
    })
}
