//! Changes of the validator set and of the observers.

use lamplighter_state::Overlay;
use lamplighter_types::limits::VALIDATORS_MAX;
use lamplighter_types::{
    Account, AccountKind, Fact, Grant, Id, Notification, Observer, PublicKey, Role, Scope,
    Validator,
};

use super::{GovernanceError, OBSERVERS_MAX, keys, observers, validator_set};
use crate::ExecutionError;
use crate::users::{accounts, keys as users};

/// The account of a node, with which it relays IOTRegistry operations and reports the artifacts
/// that it holds.
pub fn node_account(account: &Id, organization: &Id, key: &PublicKey, height: u64) -> Account {
    Account {
        account: account.clone(),
        kind: AccountKind::Node,
        organization: organization.clone(),
        name: account.to_string(),
        district: Scope::city(),
        keys: vec![*key],
        grants: vec![Grant::founding(Role::Relay, Scope::city())],
        disabled: false,
        registered_height: height,
    }
}

/// A node that is new to the ledger.
struct NewNode<'a> {
    node: u64,
    account: &'a Id,
    key: &'a PublicKey,
    organization: &'a Id,
    height: u64,
}

pub(super) fn add_validator(
    overlay: &mut Overlay,
    validator: &Validator,
    organization: &Id,
    height: u64,
) -> Result<Vec<Notification>, ExecutionError> {
    let Validator {
        node,
        account,
        key,
        address: _,
    } = validator;
    let mut set = validator_set(overlay)?;
    if set.validators.len() >= VALIDATORS_MAX {
        return Err(GovernanceError::TooManyValidators.into());
    }
    let mut notifications = Vec::new();
    match overlay.get(&keys::observer(*node))? {
        Some(observer) if observer.account == *account && observer.key == *key => {
            overlay.delete(&keys::observer(*node));
            notifications.push(Notification::city(Fact::ObserverRemoved { node: *node }));
        }
        _ => admit_node(
            overlay,
            &NewNode {
                node: *node,
                account,
                key,
                organization,
                height,
            },
        )?,
    }
    set.validators.push(validator.clone());
    set.validators.sort_by_key(|v| v.node);
    overlay.put(&keys::validator_set(), &set);
    notifications.push(Notification::city(Fact::ValidatorAdded {
        validator: validator.clone(),
    }));
    Ok(notifications)
}

pub(super) fn remove_validator(
    overlay: &mut Overlay,
    node: u64,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut set = validator_set(overlay)?;
    let Some(at) = set.validators.iter().position(|v| v.node == node) else {
        return Err(GovernanceError::UnknownValidator(node).into());
    };
    if set.validators.len() == 1 {
        return Err(GovernanceError::LastValidator.into());
    }
    let Validator {
        node,
        account,
        key: _,
        address: _,
    } = set.validators.remove(at);
    overlay.put(&keys::validator_set(), &set);
    retire_node(overlay, &account)?;
    Ok(vec![Notification::city(Fact::ValidatorRemoved { node })])
}

pub(super) fn add_observer(
    overlay: &mut Overlay,
    observer: &Observer,
    organization: &Id,
    height: u64,
) -> Result<Vec<Notification>, ExecutionError> {
    let Observer {
        node,
        account,
        key,
        address: _,
    } = observer;
    if observers(overlay)?.len() >= OBSERVERS_MAX {
        return Err(GovernanceError::TooManyObservers.into());
    }
    admit_node(
        overlay,
        &NewNode {
            node: *node,
            account,
            key,
            organization,
            height,
        },
    )?;
    overlay.put(&keys::observer(*node), observer);
    Ok(vec![Notification::city(Fact::ObserverAdded {
        node: *node,
    })])
}

pub(super) fn remove_observer(
    overlay: &mut Overlay,
    node: u64,
) -> Result<Vec<Notification>, ExecutionError> {
    let Some(observer) = overlay.get(&keys::observer(node))? else {
        return Err(GovernanceError::UnknownObserver(node).into());
    };
    overlay.delete(&keys::observer(node));
    retire_node(overlay, &observer.account)?;
    Ok(vec![Notification::city(Fact::ObserverRemoved { node })])
}

fn admit_node(overlay: &mut Overlay, new: &NewNode<'_>) -> Result<(), ExecutionError> {
    let used = keys::used_node(new.node);
    if overlay.exists(&used)? {
        return Err(GovernanceError::NodeUsed(new.node).into());
    }
    overlay.put(&used, new.account);
    let account = node_account(new.account, new.organization, new.key, new.height);
    accounts::insert(overlay, &account)
}

fn retire_node(overlay: &mut Overlay, name: &Id) -> Result<(), ExecutionError> {
    let Some(mut account) = overlay.get(&users::account(name))? else {
        return Ok(());
    };
    for key in std::mem::take(&mut account.keys) {
        accounts::retire_key(overlay, name, &key);
    }
    account.disabled = true;
    accounts::update(overlay, &account)
}
