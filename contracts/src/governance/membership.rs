//! Changes of the validator set and of the observers.

use lamplighter_state::Overlay;
use lamplighter_types::limits::VALIDATORS_MAX;
use lamplighter_types::{
    Account, AccountKey, AccountKind, Fact, Grant, Id, KeyPurpose, Notification, Observer,
    PublicKey, Role, Scope, Signature, Validator,
};

use super::{GovernanceError, OBSERVERS_MAX, keys, observers, validator_set};
use crate::users::accounts::{self, Deciders};
use crate::users::{UsersError, keys as users};
use crate::{BlockContext, ExecutionError};

/// The account of a node, with which it relays IOTRegistry operations and reports the artifacts
/// that it holds.
pub fn node_account(account: &Id, organization: &Id, key: &PublicKey, height: u64) -> Account {
    Account {
        account: account.clone(),
        kind: AccountKind::Node,
        organization: organization.clone(),
        name: account.to_string(),
        district: Scope::city(),
        keys: vec![AccountKey::first(*key)],
        grants: vec![Grant::founding(Role::Relay, Scope::city())],
        disabled: false,
        registered_height: height,
    }
}

/// The organization that proposed a change, and the block that makes it.
pub(super) struct Author<'a> {
    pub organization: &'a Id,
    pub block: &'a BlockContext,
}

/// A node that is new to the ledger.
struct NewNode<'a> {
    node: u64,
    account: &'a Id,
    key: &'a PublicKey,
    proof: &'a Signature,
}

pub(super) fn add_validator(
    overlay: &mut Overlay,
    author: &Author<'_>,
    validator: &Validator,
    proof: &Signature,
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
            let proven = KeyPurpose::Node.verify(&author.block.chain_id, account, key, proof);
            proven.map_err(|_| UsersError::WrongProof)?;
            overlay.delete(&keys::observer(*node));
            notifications.push(Notification::city(Fact::ObserverRemoved { node: *node }));
        }
        _ => admit_node(
            overlay,
            author,
            &NewNode {
                node: *node,
                account,
                key,
                proof,
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
    block: &BlockContext,
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
    retire_node(overlay, block, &account)?;
    Ok(vec![Notification::city(Fact::ValidatorRemoved { node })])
}

pub(super) fn add_observer(
    overlay: &mut Overlay,
    author: &Author<'_>,
    observer: &Observer,
    proof: &Signature,
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
        author,
        &NewNode {
            node: *node,
            account,
            key,
            proof,
        },
    )?;
    overlay.put(&keys::observer(*node), observer);
    Ok(vec![Notification::city(Fact::ObserverAdded {
        node: *node,
    })])
}

pub(super) fn remove_observer(
    overlay: &mut Overlay,
    block: &BlockContext,
    node: u64,
) -> Result<Vec<Notification>, ExecutionError> {
    let Some(observer) = overlay.get(&keys::observer(node))? else {
        return Err(GovernanceError::UnknownObserver(node).into());
    };
    overlay.delete(&keys::observer(node));
    retire_node(overlay, block, &observer.account)?;
    Ok(vec![Notification::city(Fact::ObserverRemoved { node })])
}

fn admit_node(
    overlay: &mut Overlay,
    author: &Author<'_>,
    new: &NewNode<'_>,
) -> Result<(), ExecutionError> {
    let NewNode {
        node,
        account: name,
        key,
        proof,
    } = new;
    let used = keys::used_node(*node);
    if overlay.exists(&used)? {
        return Err(GovernanceError::NodeUsed(*node).into());
    }
    let Author {
        organization,
        block,
    } = author;
    accounts::require_possession(overlay, block, KeyPurpose::Node, name, key, proof)?;
    overlay.put(&used, name);
    let account = node_account(name, organization, key, block.height);
    accounts::insert(overlay, &account)
}

fn retire_node(
    overlay: &mut Overlay,
    block: &BlockContext,
    name: &Id,
) -> Result<(), ExecutionError> {
    let Some(mut account) = overlay.get(&users::account(name))? else {
        return Ok(());
    };
    for AccountKey { key, label: _ } in std::mem::take(&mut account.keys) {
        accounts::retire_key(overlay, name, &key);
    }
    account.disabled = true;
    accounts::update(overlay, block, &account, Deciders::Several)
}
