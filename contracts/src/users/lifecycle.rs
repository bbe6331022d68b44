//! Accounts disabled and enabled again.

use lamplighter_state::Overlay;
use lamplighter_types::{Fact, Id, Notification, Role};

use super::UsersError;
use super::accounts::{self, changeable_account};
use crate::{Context, ExecutionError};

pub(super) fn set_disabled(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    disabled: bool,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut account = changeable_account(overlay, name)?;
    context.require(Role::Administrator, &account.district)?;
    if account.disabled == disabled {
        let error = if disabled {
            UsersError::Disabled
        } else {
            UsersError::Enabled
        };
        return Err(error(account.account).into());
    }
    account.disabled = disabled;
    accounts::update(overlay, &account)?;
    let account = account.account;
    let fact = if disabled {
        Fact::AccountDisabled { account }
    } else {
        Fact::AccountEnabled { account }
    };
    Ok(vec![Notification::city(fact)])
}
