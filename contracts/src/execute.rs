//! The execution of a block: first the work that its time brings, then its transactions in order.

use std::collections::BTreeSet;

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::{
    Action, Fact, Id, Notification, Outcome, Receipt, Role, Transaction, UsersAction, Verified,
};

use crate::admission::examine;
use crate::users::keys;
use crate::{
    AdmissionError, BlockContext, Context, ExecutionError, Refusal, allowance, config, devices,
    events, firmware, governance, rollouts, users,
};

/// Does the work that is due at the beginning of a block: a new protocol version, expired timers.
/// The work is bounded by [`STEPS_PER_BLOCK_MAX`](lamplighter_types::limits::STEPS_PER_BLOCK_MAX),
/// not by the fleet.
///
/// # Errors
/// The state can't be read, or the protocol version in force is above those of this program. The
/// block must not be executed then.
pub fn begin_block(
    overlay: &mut Overlay,
    block: &BlockContext,
) -> Result<Vec<Notification>, StateError> {
    let mut notifications = governance::begin_block(overlay, block)?;
    notifications.extend(rollouts::tick(overlay, block)?);
    overlay.commit();
    Ok(notifications)
}

/// Executes one transaction. Its sequence number is used up even if the action fails, and the
/// receipt has the failure; a transaction that is not admitted leaves no trace.
///
/// # Errors
/// The outer one when the state can't be read: the node stops. The inner one when the transaction
/// doesn't belong into the block.
pub fn execute(
    overlay: &mut Overlay,
    block: &BlockContext,
    transaction: &Verified<Transaction>,
) -> Result<Result<Receipt, AdmissionError>, StateError> {
    let (sender, mut window) = match examine(overlay, transaction, block.time_ms)? {
        Ok(admitted) => admitted,
        Err(error) => return Ok(Err(error)),
    };
    let key = transaction.envelope().key;
    if let Err(error) = window.mark(transaction.get().sequence) {
        return Ok(Err(error.into()));
    }
    overlay.put(&keys::replay_window(&key), &window);
    overlay.commit();
    let hash = transaction.hash();
    let context = Context {
        block: *block,
        transaction: hash,
        key,
        sender,
    };
    let executed = run(overlay, &context, &transaction.get().action).and_then(|notifications| {
        allowance::charge(overlay, block, &context.sender)?;
        Ok(notifications)
    });
    let (outcome, notifications) = match executed {
        Ok(notifications) => {
            overlay.commit();
            (Outcome::Succeeded, notifications)
        }
        Err(ExecutionError::Refused(Refusal { code, fields })) => {
            overlay.rollback();
            let code = code.to_owned();
            (Outcome::Failed { code, fields }, Vec::new())
        }
        Err(ExecutionError::Fatal(error)) => {
            overlay.rollback();
            return Err(error);
        }
    };
    Ok(Ok(Receipt {
        transaction: hash,
        outcome,
        notifications,
    }))
}

/// Carries out an action of an admitted sender, without what [`execute`] does before and after it.
/// What was written counts only if it succeeds.
///
/// # Errors
/// The refusal, or that the state can't be read.
pub fn run(
    overlay: &mut Overlay,
    context: &Context,
    action: &Action,
) -> Result<Vec<Notification>, ExecutionError> {
    check(action).map_err(ExecutionError::Refused)?;
    let mut notifications = dispatch(overlay, context, action)?;
    let weakened = weakened(action, &notifications);
    if !weakened.is_empty() {
        let paused = rollouts::approvers_lost_power(overlay, &context.block, &weakened)?;
        notifications.extend(paused);
    }
    Ok(notifications)
}

/// The accounts whose approvals an action may have ended. Who rotates its key remains who it is.
fn weakened<'a>(action: &Action, notifications: &'a [Notification]) -> BTreeSet<&'a Id> {
    if matches!(action, Action::Users(UsersAction::RotateKey { .. })) {
        return BTreeSet::new();
    }
    let weakened = |notification: &'a Notification| match &notification.fact {
        Fact::AccountDisabled { account }
        | Fact::AccountRecovered { account }
        | Fact::KeyRevoked { account, key: _ }
        | Fact::RoleRevoked {
            account,
            role: Role::Approver,
            scope: _,
        } => Some(account),
        _ => None,
    };
    notifications.iter().filter_map(weakened).collect()
}

fn dispatch(
    overlay: &mut Overlay,
    context: &Context,
    action: &Action,
) -> Result<Vec<Notification>, ExecutionError> {
    match action {
        Action::Users(action) => users::execute(overlay, context, action),
        Action::Devices(action) => devices::execute(overlay, context, action),
        Action::Config(action) => config::execute(overlay, context, action),
        Action::Events(action) => events::execute(overlay, context, action),
        Action::Governance(action) => governance::execute(overlay, context, action),
        Action::Firmware(action) => firmware::execute(overlay, context, action),
        Action::Rollouts(action) => rollouts::execute(overlay, context, action),
    }
}

/// Checks an action's shape and size, without the state: at the edge, and again during execution.
///
/// # Errors
/// The refusal as it would be in the receipt.
pub fn check(action: &Action) -> Result<(), Refusal> {
    match action {
        Action::Users(action) => users::check(action).map_err(Refusal::of),
        Action::Devices(action) => devices::check(action).map_err(Refusal::of),
        Action::Config(action) => config::check(action).map_err(Refusal::of),
        Action::Events(action) => events::check(action).map_err(Refusal::of),
        Action::Governance(action) => governance::check(action),
        Action::Firmware(action) => firmware::check(action).map_err(Refusal::of),
        Action::Rollouts(action) => rollouts::check(action).map_err(Refusal::of),
    }
}
