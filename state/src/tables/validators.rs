//! The validator sets of the chain, and the path that leads from the genesis set to each of them.

use std::ops::Range;

use lamplighter_store::{Direction, KeyRange, KvView, WriteBatch};
use lamplighter_types::ValidatorSet;
use lamplighter_types::merkle::StateProof;
use serde::{Deserialize, Serialize};

use super::keys::{SET_PATHS, VALIDATORS, last_number};
use super::row;
use crate::StateError;

/// Height, new set and proof of a change.
pub type SetChangeRow = (u64, ValidatorSet, StateProof);

/// Adds the validators that are in force after the block at `height`, where they changed there,
/// with the proof of their record under that block's `state_root`. The genesis block has an entry
/// too; no other block has one that puts the set already in force.
pub fn put_validators(batch: &mut WriteBatch, height: u64, set: &ValidatorSet, path: &StateProof) {
    row::put(batch, VALIDATORS, VALIDATORS.height(height), &(set, path));
}

/// The validators that certify the header at `height`: those in the state of the block below it,
/// and for the genesis block its own.
///
/// # Errors
/// Not even the genesis block is there.
pub fn validators_at(store: &dyn KvView, height: u64) -> Result<ValidatorSet, StateError> {
    let end = VALIDATORS.height(height.max(1));
    let range = KeyRange::between(VALIDATORS.height(0), end);
    let mut found = row::scan(store, VALIDATORS, range, Direction::Backward)?;
    let newest: Option<(_, (ValidatorSet, StateProof))> = found.next().transpose()?;
    newest
        .map(|(_, (set, _))| set)
        .ok_or_else(|| StateError::Missing {
            what: "the first set of validators".to_owned(),
        })
}

/// The changes that the blocks at these heights made, lowest first. The genesis block made none.
pub fn set_changes(
    store: &dyn KvView,
    heights: Range<u64>,
) -> Result<impl Iterator<Item = Result<SetChangeRow, StateError>> + '_, StateError> {
    rows(store, heights, Direction::Forward)
}

fn rows(
    store: &dyn KvView,
    heights: Range<u64>,
    direction: Direction,
) -> Result<impl Iterator<Item = Result<SetChangeRow, StateError>> + '_, StateError> {
    let first = heights.start.max(1);
    let range = KeyRange::between(VALIDATORS.height(first), VALIDATORS.height(heights.end));
    let rows = row::scan(store, VALIDATORS, range, direction)?;
    Ok(rows.map(|row| {
        let (key, (set, path)) = row?;
        let height = row::read_key(VALIDATORS, &key, last_number(&key))?;
        Ok((height, set, path))
    }))
}

/// The change that the block at `height` made, if it made one.
pub fn set_change(
    store: &dyn KvView,
    height: u64,
) -> Result<Option<(ValidatorSet, StateProof)>, StateError> {
    if height == 0 {
        return Ok(None);
    }
    row::get(store, VALIDATORS, &VALIDATORS.height(height))
}

/// The changes that the blocks below `below` made, highest first.
pub fn set_changes_before(
    store: &dyn KvView,
    below: u64,
) -> Result<impl Iterator<Item = Result<SetChangeRow, StateError>> + '_, StateError> {
    rows(store, 1..below, Direction::Backward)
}

/// The height of the last block below `below` that changed the validators.
pub fn last_set_change(store: &dyn KvView, below: u64) -> Result<Option<u64>, StateError> {
    let last = set_changes_before(store, below)?.next().transpose()?;
    Ok(last.map(|(height, ..)| height))
}

/// The step to a certified change on the path that leads to it from the genesis file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetPathStep {
    /// The change before it on the path; 0 for the genesis set.
    pub from: u64,
    /// Number of steps from the genesis set, this one included.
    pub steps: u64,
}

/// Adds the step to the change at `height`.
pub fn put_set_path(batch: &mut WriteBatch, height: u64, step: &SetPathStep) {
    row::put(batch, SET_PATHS, SET_PATHS.height(height), step);
}

/// The step to the change at `height`, once it is certified.
pub fn set_path(store: &dyn KvView, height: u64) -> Result<Option<SetPathStep>, StateError> {
    row::get(store, SET_PATHS, &SET_PATHS.height(height))
}

/// The height of the last change that has a step.
pub fn last_set_path(store: &dyn KvView) -> Result<Option<u64>, StateError> {
    let range = row::whole(SET_PATHS);
    let mut rows = row::scan::<SetPathStep>(store, SET_PATHS, range, Direction::Backward)?;
    let Some((key, _)) = rows.next().transpose()? else {
        return Ok(None);
    };
    row::read_key(SET_PATHS, &key, last_number(&key)).map(Some)
}
