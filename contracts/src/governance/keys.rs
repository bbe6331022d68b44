//! State keys of governance.

use lamplighter_state::Key;
use lamplighter_types::{Id, Observer, Policies, Proposal, Protocol, ValidatorSet};

use crate::tables::Table;

/// The key whose record the proof bundles follow.
pub fn validator_set() -> Key<ValidatorSet> {
    Key::table(Table::ValidatorSet as u8)
}

pub fn observers() -> Key<Observer> {
    Key::table(Table::Observer as u8)
}

pub fn observer(node: u64) -> Key<Observer> {
    observers().number(node)
}

pub fn policies() -> Key<Policies> {
    Key::table(Table::Policies as u8)
}

pub fn proposals() -> Key<Proposal> {
    Key::table(Table::Proposal as u8)
}

pub fn proposal(proposal: &Id) -> Key<Proposal> {
    proposals().id(proposal)
}

pub fn proposal_deadlines() -> Key<Id> {
    Key::table(Table::ProposalDeadline as u8)
}

/// An open proposal by the time at which it expires.
pub fn proposal_deadline(deadline_ms: u64, proposal: &Id) -> Key<Id> {
    proposal_deadlines().number(deadline_ms).id(proposal)
}

pub fn protocol() -> Key<Protocol> {
    Key::table(Table::Protocol as u8)
}

/// A node id that is or was in use, with its account.
pub fn used_node(node: u64) -> Key<Id> {
    Key::table(Table::UsedNode as u8).number(node)
}
