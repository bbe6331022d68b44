//! Attacks with the stolen key of one participant, for each role: whatever a thief does with it, it
//! has no more power than its role, and adds no more than its share.

mod administrator;
mod approver;
mod field;
mod operator;
mod security;
mod vendor;

use lamplighter_types::{
    Action, GovernanceAction, GovernanceChange, Id, KeyPurpose, Receipt, Role, Scope, SecretKey,
    Signature,
};

use super::unregistered_key;
use crate::DevnetError;
use crate::city::id;
use crate::feed::FeedSubscriber;
use crate::journal::Journal;
use crate::network::{Devnet, submit_action};

pub(super) async fn run(
    devnet: &mut Devnet,
    feed: &FeedSubscriber,
    journal: &mut Journal,
) -> Result<(), DevnetError> {
    journal.heading("a thief with the key of a Thing, or of a gateway");
    field::run(devnet, journal).await?;
    journal.heading("a thief with the key of a vendor");
    vendor::run(devnet, journal).await?;
    journal.heading("a thief with the key of an operator");
    operator::run(devnet, journal).await?;
    journal.heading("a thief with the key of an approver");
    approver::run(devnet, feed, journal).await?;
    journal.heading("a thief with the key of the security officer");
    security::run(devnet, journal).await?;
    journal.heading("a thief with the key of an administrator, or of two");
    administrator::run(devnet, journal).await
}

/// A role for the whole city.
fn grant_of(account: &str, role: Role) -> GovernanceChange {
    GovernanceChange::Grant {
        account: id(account),
        role,
        scope: Scope::city(),
    }
}

fn propose(proposal: &str, changes: Vec<GovernanceChange>) -> Action {
    Action::Governance(GovernanceAction::Propose {
        proposal: id(proposal),
        changes,
    })
}

fn approve(proposal: &str, changes: &[GovernanceChange]) -> Action {
    Action::Governance(GovernanceAction::Approve {
        proposal: id(proposal),
        changes: GovernanceChange::digest(changes),
    })
}

fn withdraw(proposal: &str) -> Action {
    Action::Governance(GovernanceAction::Withdraw {
        proposal: id(proposal),
    })
}

/// Carries changes out, by the two administrators of the city.
async fn agree(
    devnet: &Devnet,
    proposal: &str,
    changes: Vec<GovernanceChange>,
) -> Result<Receipt, DevnetError> {
    let approval = approve(proposal, &changes);
    let what = "proposing a change";
    submit_action(&devnet.client("admin-1")?, what, propose(proposal, changes)).await?;
    let what = "approving a change";
    submit_action(&devnet.client("admin-2")?, what, approval).await
}

/// A proof of possession of another key than that of `subject`.
fn foreign_proof(
    devnet: &Devnet,
    purpose: KeyPurpose,
    subject: &Id,
) -> Result<Signature, DevnetError> {
    let other: SecretKey = unregistered_key()?;
    Ok(other.prove(purpose, &devnet.city.genesis.chain_id(), subject))
}
