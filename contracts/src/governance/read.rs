//! Queries of validators, observers, policies and proposals.

use lamplighter_state::StateError;
use lamplighter_types::{Id, Observer, Policies, Proposal, Protocol, ValidatorSet};

use super::{OBSERVERS_MAX, keys};
use crate::Reader;

/// The validators in force from the next block on.
///
/// # Errors
/// The state can't be read, or no genesis was installed.
pub fn validator_set(reader: &impl Reader) -> Result<ValidatorSet, StateError> {
    reader
        .get(&keys::validator_set())?
        .ok_or_else(|| missing("the validator set"))
}

/// All observers, by node id.
pub fn observers(reader: &impl Reader) -> Result<Vec<Observer>, StateError> {
    reader.page(&keys::observers(), None, OBSERVERS_MAX)
}

pub fn observer(reader: &impl Reader, node: u64) -> Result<Option<Observer>, StateError> {
    reader.get(&keys::observer(node))
}

/// The numbers of people who must agree.
///
/// # Errors
/// The state can't be read, or no genesis was installed.
pub fn policies(reader: &impl Reader) -> Result<Policies, StateError> {
    reader
        .get(&keys::policies())?
        .ok_or_else(|| missing("the policies"))
}

/// The protocol version in force and the next one.
///
/// # Errors
/// The state can't be read, or no genesis was installed.
pub fn protocol(reader: &impl Reader) -> Result<Protocol, StateError> {
    reader
        .get(&keys::protocol())?
        .ok_or_else(|| missing("the protocol version"))
}

pub fn proposal(reader: &impl Reader, proposal: &Id) -> Result<Option<Proposal>, StateError> {
    reader.get(&keys::proposal(proposal))
}

/// Proposals by name, after the name `after`.
pub fn proposals(
    reader: &impl Reader,
    after: Option<&Id>,
    limit: usize,
) -> Result<Vec<Proposal>, StateError> {
    let after = after.map(keys::proposal);
    reader.page(&keys::proposals(), after.as_ref(), limit)
}

/// The account that has or had a node id.
pub fn used_node(reader: &impl Reader, node: u64) -> Result<Option<Id>, StateError> {
    reader.get(&keys::used_node(node))
}

fn missing(what: &str) -> StateError {
    StateError::Missing {
        what: what.to_owned(),
    }
}
