//! The changes of a proposal: checked when it is made, carried out when it is approved.

use lamplighter_state::Overlay;
use lamplighter_types::limits::ADDRESS_BYTES_MAX;
use lamplighter_types::{
    Fact, GovernanceChange, Id, Notification, Observer, Policies, PolicyError, Protocol, PublicKey,
    Role, Signature, Validator,
};

use super::membership::{self, Author};
use super::{GovernanceError, keys, protocol};
use crate::users::accounts::{self, Deciders};
use crate::users::registration::{self, Newcomer};
use crate::users::{UsersError, lifecycle, roles};
use crate::{BlockContext, ExecutionError, Refusal, devices, users, validate};

/// Checks shape and size.
pub(super) fn check(change: &GovernanceChange) -> Result<(), Refusal> {
    match change {
        GovernanceChange::AddValidator {
            validator,
            proof: _,
        } => {
            let Validator {
                node,
                account: _,
                key,
                address,
            } = validator;
            users::check_key(key).map_err(Refusal::of)?;
            check_node(*node, address).map_err(Refusal::of)
        }
        GovernanceChange::AddObserver { observer, proof: _ } => {
            let Observer {
                node,
                account: _,
                key,
                address,
            } = observer;
            users::check_key(key).map_err(Refusal::of)?;
            check_node(*node, address).map_err(Refusal::of)
        }
        GovernanceChange::RemoveValidator { node } | GovernanceChange::RemoveObserver { node } => {
            validate::number("node", *node).map_err(Refusal::of)
        }
        GovernanceChange::SetPolicies { policies } => check_policies(policies),
        GovernanceChange::SetProtocol {
            version: _,
            from_height,
        } => validate::number("from_height", *from_height).map_err(Refusal::of),
        GovernanceChange::RegisterUser {
            account: _,
            organization: _,
            name,
            key,
            proof: _,
        } => users::check_user(name, key).map_err(Refusal::of),
        GovernanceChange::Recover {
            account: _,
            new_key,
            proof: _,
        } => users::check_key(new_key).map_err(Refusal::of),
        GovernanceChange::ResetDevice {
            device: _,
            counters,
        } => devices::check_counters(counters).map_err(Refusal::of),
        GovernanceChange::ReplaceDeviceKey {
            device: _,
            key,
            proof: _,
        } => users::check_key(key).map_err(Refusal::of),
        GovernanceChange::Grant {
            account: _,
            role: _,
            scope: _,
        }
        | GovernanceChange::Revoke {
            account: _,
            role: _,
            scope: _,
        }
        | GovernanceChange::Disable { account: _ }
        | GovernanceChange::Enable { account: _ }
        | GovernanceChange::ReuseHardware { device: _ } => Ok(()),
    }
}

fn check_policies(policies: &Policies) -> Result<(), Refusal> {
    let out_of_range = |error: PolicyError| GovernanceError::Policies(error.field());
    policies
        .check()
        .map_err(|error| Refusal::of(out_of_range(error)))
}

fn check_node(node: u64, address: &str) -> Result<(), GovernanceError> {
    validate::number("node", node)?;
    check_address(address)
}

/// Checks a `host:port`.
pub(super) fn check_address(address: &str) -> Result<(), GovernanceError> {
    validate::name("address", address, ADDRESS_BYTES_MAX)?;
    if Validator::is_address(address) {
        Ok(())
    } else {
        Err(GovernanceError::Address(address.to_owned()))
    }
}

/// Makes one change, on behalf of the administrators who approved it.
pub(super) fn carry_out(
    overlay: &mut Overlay,
    author: &Author<'_>,
    change: &GovernanceChange,
) -> Result<Vec<Notification>, ExecutionError> {
    let block = author.block;
    match change {
        GovernanceChange::AddValidator { validator, proof } => {
            membership::add_validator(overlay, author, validator, proof)
        }
        GovernanceChange::RemoveValidator { node } => {
            membership::remove_validator(overlay, block, *node)
        }
        GovernanceChange::AddObserver { observer, proof } => {
            membership::add_observer(overlay, author, observer, proof)
        }
        GovernanceChange::RemoveObserver { node } => {
            membership::remove_observer(overlay, block, *node)
        }
        GovernanceChange::SetPolicies { policies } => set_policies(overlay, block, policies),
        GovernanceChange::SetProtocol {
            version,
            from_height,
        } => set_protocol(overlay, block, *version, *from_height),
        GovernanceChange::RegisterUser {
            account,
            organization,
            name,
            key,
            proof,
        } => register_user(overlay, block, account, organization, name, key, proof),
        GovernanceChange::Grant {
            account,
            role,
            scope,
        } => roles::grant(overlay, block, account, *role, scope),
        GovernanceChange::Revoke {
            account,
            role,
            scope,
        } => roles::revoke(overlay, block, account, *role, scope, Deciders::Several),
        GovernanceChange::Disable { account } => {
            lifecycle::disable(overlay, block, account, Deciders::Several)
        }
        GovernanceChange::Enable { account } => lifecycle::enable(overlay, block, account),
        GovernanceChange::Recover {
            account,
            new_key,
            proof,
        } => lifecycle::recover(overlay, block, account, new_key, proof),
        GovernanceChange::ResetDevice { device, counters } => {
            devices::reset(overlay, device, counters)
        }
        GovernanceChange::ReplaceDeviceKey { device, key, proof } => {
            devices::replace_key(overlay, block, device, key, proof)
        }
        GovernanceChange::ReuseHardware { device } => devices::reuse_hardware(overlay, device),
    }
}

fn register_user(
    overlay: &mut Overlay,
    block: &BlockContext,
    account: &Id,
    organization: &Id,
    name: &str,
    key: &PublicKey,
    proof: &Signature,
) -> Result<Vec<Notification>, ExecutionError> {
    let new = Newcomer {
        account,
        organization,
        name,
        gateway_of: None,
        key,
        proof,
    };
    registration::register(overlay, block, &new)
}

/// Sets the policies. The administrators whose approvals count under them must be as many as they
/// ask for, or no later proposal could be carried out.
fn set_policies(
    overlay: &mut Overlay,
    block: &BlockContext,
    policies: &Policies,
) -> Result<Vec<Notification>, ExecutionError> {
    overlay.put(&keys::policies(), policies);
    let needed = policies.approvals.administrators();
    let left = accounts::holders(overlay, Role::Administrator, block.time_ms)?.len();
    if left < usize::from(needed) {
        let role = Role::Administrator;
        return Err(UsersError::TooFewLeft { role, left, needed }.into());
    }
    Ok(vec![Notification::city(Fact::PoliciesSet)])
}

fn set_protocol(
    overlay: &mut Overlay,
    block: &BlockContext,
    version: u32,
    from_height: u64,
) -> Result<Vec<Notification>, ExecutionError> {
    let Protocol {
        version: now,
        next: _,
    } = protocol(overlay)?;
    if version <= now {
        return Err(GovernanceError::OldProtocol(now).into());
    }
    // 20 in place of 2 would stop all nodes for years: no release of the program knows it.
    if version - now > 1 {
        return Err(GovernanceError::ProtocolStep(now).into());
    }
    if from_height <= block.height {
        return Err(GovernanceError::PastHeight(block.height).into());
    }
    let next = Some((version, from_height));
    overlay.put(&keys::protocol(), &Protocol { version: now, next });
    Ok(vec![Notification::city(Fact::ProtocolSet {
        version,
        from_height,
    })])
}
