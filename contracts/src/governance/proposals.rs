//! Open proposals in the state: made, kept within their limits, removed.

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::limits::{PROPOSALS_MAX, PROPOSALS_PER_AUTHOR_MAX};
use lamplighter_types::{Fact, Id, Notification, Proposal};

use super::{GovernanceError, keys, proposals};
use crate::{BlockContext, ExecutionError, Reader};

/// Number of proposals that expire in one block. More wait for the next block, where they can't be
/// approved either.
const EXPIRED_PER_BLOCK_MAX: usize = 16;

/// Requires that `author` may have one more open proposal, with a name that no open one has.
pub(super) fn require_room(
    overlay: &Overlay,
    name: &Id,
    author: &Id,
) -> Result<(), ExecutionError> {
    if overlay.exists(&keys::proposal(name))? {
        return Err(GovernanceError::ProposalExists(name.clone()).into());
    }
    let open = proposals(overlay, None, PROPOSALS_MAX)?;
    if open.len() >= PROPOSALS_MAX {
        return Err(GovernanceError::TooManyProposals.into());
    }
    let of_author = open.iter().filter(|open| open.author == *author).count();
    if of_author >= PROPOSALS_PER_AUTHOR_MAX {
        return Err(GovernanceError::TooManyOfAuthor(author.clone()).into());
    }
    Ok(())
}

/// The proposal `name`, if it can still be approved.
pub(super) fn open(
    overlay: &Overlay,
    block: &BlockContext,
    name: &Id,
) -> Result<Proposal, ExecutionError> {
    let Some(proposal) = overlay.get(&keys::proposal(name))? else {
        return Err(GovernanceError::UnknownProposal(name.clone()).into());
    };
    if proposal.expires_ms <= block.time_ms {
        return Err(GovernanceError::Expired(name.clone()).into());
    }
    Ok(proposal)
}

pub(super) fn store(overlay: &mut Overlay, proposal: &Proposal) {
    let Proposal {
        proposal: name,
        expires_ms,
        ..
    } = proposal;
    overlay.put(&keys::proposal(name), proposal);
    overlay.put(&keys::proposal_deadline(*expires_ms, name), name);
}

pub(super) fn remove(overlay: &mut Overlay, proposal: &Proposal) {
    let name = &proposal.proposal;
    overlay.delete(&keys::proposal(name));
    overlay.delete(&keys::proposal_deadline(proposal.expires_ms, name));
}

/// Removes the proposals whose time has come.
pub(super) fn expire(
    overlay: &mut Overlay,
    block: &BlockContext,
) -> Result<Vec<Notification>, StateError> {
    let mut notifications = Vec::new();
    let first = Reader::page(
        overlay,
        &keys::proposal_deadlines(),
        None,
        EXPIRED_PER_BLOCK_MAX,
    )?;
    for name in first {
        let Some(proposal) = overlay.get(&keys::proposal(&name))? else {
            let what = format!("the proposal {name}, which a deadline names,");
            return Err(StateError::Missing { what });
        };
        if proposal.expires_ms > block.time_ms {
            break;
        }
        remove(overlay, &proposal);
        let expired = Fact::ProposalExpired { proposal: name };
        notifications.push(Notification::city(expired));
    }
    Ok(notifications)
}
