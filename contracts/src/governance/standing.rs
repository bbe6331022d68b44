//! What an open proposal still lacks, for people.

use lamplighter_state::StateError;
use lamplighter_types::wire::{ApprovalCounts, ApprovalStanding, Candidate, ProposalStanding};
use lamplighter_types::{Account, Approval, Proposal, Role, Scope};

use super::{Requirement, policies};
use crate::{Reader, users};

/// The standing of a proposal at `time_ms`, the time of the newest block.
///
/// # Errors
/// The state can't be read.
pub fn standing(
    reader: &impl Reader,
    proposal: Proposal,
    time_ms: u64,
) -> Result<ProposalStanding, StateError> {
    let requirement = Requirement::of(reader, &proposal.changes)?;
    let wait_ms = policies(reader)?.newcomer_wait_ms;
    let inspect = |approval: &Approval| inspect(reader, &requirement, approval, time_ms, wait_ms);
    let approvals = proposal.approvals.iter().map(inspect);
    let approvals = approvals.collect::<Result<Vec<_>, _>>()?;
    let counted = requirement.count(reader, &proposal, time_ms)?;
    let mut candidates = Vec::new();
    for account in users::administrators(reader)? {
        let counts = |standing: &ApprovalStanding| {
            standing.account == account.account && standing.counts == ApprovalCounts::Counts
        };
        if requirement.excluded.contains(&account.account) || approvals.iter().any(counts) {
            continue;
        }
        if let Some(from_ms) = from_ms(&account, &requirement.scopes, wait_ms) {
            candidates.push(Candidate {
                account: account.account,
                from_ms,
            });
        }
    }
    Ok(ProposalStanding {
        needed: requirement.policy.approvals,
        // A proposal has at most APPROVALS_MAX of them.
        counted: u8::try_from(counted).unwrap_or(u8::MAX),
        approvals,
        scopes: requirement.scopes,
        candidates,
        proposal,
    })
}

/// The time from which on an account may approve for all of `scopes`.
fn from_ms(account: &Account, scopes: &[Scope], wait_ms: u64) -> Option<u64> {
    let each = scopes
        .iter()
        .map(|scope| account.may_approve_from(Role::Administrator, scope, wait_ms));
    each.collect::<Option<Vec<_>>>()?.into_iter().max()
}

fn inspect(
    reader: &impl Reader,
    requirement: &Requirement,
    approval: &Approval,
    time_ms: u64,
    wait_ms: u64,
) -> Result<ApprovalStanding, StateError> {
    let Approval {
        account: name,
        key,
        at_ms,
    } = approval;
    let expires_ms = at_ms.saturating_add(requirement.policy.expires_ms);
    let holder = users::account_of_key(reader, key)?.filter(|holder| holder.account == *name);
    let counts = if requirement.excluded.contains(name) {
        ApprovalCounts::Interested
    } else if expires_ms <= time_ms {
        ApprovalCounts::Expired
    } else {
        match holder.map(|holder| from_ms(&holder, &requirement.scopes, wait_ms)) {
            None => ApprovalCounts::KeyRevoked,
            Some(None) => ApprovalCounts::RoleLost,
            Some(Some(from_ms)) if from_ms > time_ms => ApprovalCounts::From { time_ms: from_ms },
            Some(Some(_)) => ApprovalCounts::Counts,
        }
    };
    Ok(ApprovalStanding {
        account: name.clone(),
        counts,
        at_ms: *at_ms,
        expires_ms,
    })
}
