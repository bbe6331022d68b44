//! Allowances: each account may add so many new records and bytes to the state in a day of block
//! time, as the policy for its kind says. Without them one key could fill the memory of all
//! validators, for ever.
//!
//! - The sender of a transaction is charged for all that the transaction adds, less what it
//!   removes. Its replay window is free: there is one for each registered key.
//! - A transaction that makes no record and adds less than [`FREE_BYTES`] is free, and costs no
//!   record of its own. Batches of events and reports are such.
//! - A day begins at midnight UTC. A refused transaction charges nothing.
//! - The work of blocks (expansion of rollouts, timers) is not charged. It is bounded for each
//!   device, see [`tables`](crate::tables), and for each block.

use lamplighter_state::{Growth, Key, Overlay, StateError};
use lamplighter_types::{Account, AccountKind, Allowance, AllowanceUse, Id};

use crate::refusal::refusals;
use crate::tables::Table;
use crate::{BlockContext, ExecutionError, Reader, governance};

/// Bytes that records may grow in one transaction without a charge. Each kind of record has its own
/// bound, so growth without new records ends by itself.
pub const FREE_BYTES: u64 = 1_024;

const DAY_MS: u64 = 24 * 3600 * 1000;

refusals! {
    /// Why a transaction may not add to the state now.
    pub enum AllowanceError [] {
        RecordsUsed { account: Id, needed: u64, used: u64, allowed: u64, renewed_ms: u64 }
            = "allowance.records_used",
            "{account} may make {allowed} new records a day and has made {used}; this makes \
             {needed} more. The allowance is renewed at {renewed_ms}";
        BytesUsed { account: Id, needed: u64, used: u64, allowed: u64, renewed_ms: u64 }
            = "allowance.bytes_used",
            "{account} may add {allowed} bytes a day and has added {used}; this adds {needed} \
             more. The allowance is renewed at {renewed_ms}";
    }
}

/// The state key of what an account has used.
pub fn usage_key(account: &Id) -> Key<AllowanceUse> {
    Key::table(Table::AllowanceUse as u8).id(account)
}

/// What an account has used on the last day on which it added to the state.
pub fn usage(reader: &impl Reader, account: &Id) -> Result<AllowanceUse, StateError> {
    Ok(reader.get(&usage_key(account))?.unwrap_or_default())
}

/// Charges the sender for what the current transaction adds to the state.
///
/// # Errors
/// More than the allowance of the sender, or the state can't be read.
pub(crate) fn charge(
    overlay: &mut Overlay,
    block: &BlockContext,
    sender: &Account,
) -> Result<(), ExecutionError> {
    let growth = overlay.growth()?;
    if growth.records == 0 && growth.bytes < FREE_BYTES {
        return Ok(());
    }
    let account = &sender.account;
    let day = block.time_ms / DAY_MS;
    let used = usage(overlay, account)?;
    let used = if used.day == day {
        used
    } else {
        AllowanceUse {
            day,
            ..AllowanceUse::default()
        }
    };
    let allowed = allowance(overlay, sender.kind)?;
    let used = added(account, used, growth, allowed)?;
    overlay.put(&usage_key(account), &used);
    Ok(())
}

fn allowance(overlay: &Overlay, kind: AccountKind) -> Result<Allowance, StateError> {
    let allowances = governance::policies(overlay)?.allowances;
    Ok(match kind {
        AccountKind::User => allowances.users,
        AccountKind::Gateway => allowances.gateways,
        AccountKind::Node => allowances.nodes,
    })
}

fn added(
    account: &Id,
    used: AllowanceUse,
    growth: Growth,
    allowed: Allowance,
) -> Result<AllowanceUse, AllowanceError> {
    let AllowanceUse {
        day,
        records,
        bytes,
    } = used;
    let renewed_ms = day.saturating_add(1).saturating_mul(DAY_MS);
    let sum = AllowanceUse {
        day,
        records: records.saturating_add(growth.records),
        bytes: bytes.saturating_add(growth.bytes),
    };
    let account = account.clone();
    if sum.records > allowed.records {
        return Err(AllowanceError::RecordsUsed {
            account,
            needed: growth.records,
            used: records,
            allowed: allowed.records,
            renewed_ms,
        });
    }
    if sum.bytes > allowed.bytes {
        return Err(AllowanceError::BytesUsed {
            account,
            needed: growth.bytes,
            used: bytes,
            allowed: allowed.bytes,
            renewed_ms,
        });
    }
    Ok(sum)
}
