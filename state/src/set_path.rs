//! Paths of set changes: from a set of validators that a verifier trusts to the newest ones, in as
//! few changes as can be found with bounded work.
//!
//! A verifier accepts a change of the validators that a quorum of its trusted set signed, however
//! many changes lie between (`types::proof`). So a path is short as long as validators come back or
//! stay; only where all have been replaced it needs about one change for each replacement.
//!
//! When a change is certified, [`extend`] finds the set nearest to the genesis set, among those on
//! the path to the change before, of which a quorum signed it. It is written beside the change, so
//! that the path from the genesis file to every change can be read backwards, change by change. The
//! rows are made of the tables alone: a node makes those that a crash took, or an image did not
//! bring, again.
//!
//! [`find`] makes the path from any other set. It joins the stored one where it can; otherwise it
//! continues with the furthest change within reach. A verifier that is far behind gets a part of
//! the path, and asks again from where that leads.

use lamplighter_store::{Durability, Kv, KvView, WriteBatch};
use lamplighter_types::limits::{SET_CHANGES_MAX, SET_PATH_MAX};
use lamplighter_types::proof::SetChange;
use lamplighter_types::{Certificate, ValidatorSet};

use crate::tables::{self, SetPathStep};
use crate::{StateError, prove};

/// Steps of the stored path that are looked at for one change: as many as a bundle may have.
const STEPS_MAX: usize = SET_CHANGES_MAX;
/// Changes that are compared with one trusted set on either end of the stored path, and among those
/// that follow it: sets of the largest size can lose a quorum by no fewer than eleven changes, and
/// one comparison costs two reads.
const NEAR_MAX: usize = 64;

/// A path from a trusted set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetPath {
    /// The heights of its changes, lowest first.
    pub heights: Vec<u64>,
    /// False if it ends before the newest change.
    pub complete: bool,
}

/// Writes the steps to the certified changes that have none yet. Does nothing if there are none.
///
/// # Errors
/// The store fails, or a row does not decode.
pub fn extend(kv: &dyn Kv) -> Result<(), StateError> {
    let mut last = tables::last_set_path(kv)?.unwrap_or(0);
    loop {
        let Some(next) = tables::set_changes(kv, last + 1..u64::MAX)?.next() else {
            return Ok(());
        };
        let (height, ..) = next?;
        let Some(certificate) = tables::certificate(kv, height)? else {
            return Ok(());
        };
        let step = shortest_step(kv, last, &certificate)?;
        let mut batch = WriteBatch::new();
        tables::put_set_path(&mut batch, height, &step);
        kv.write(batch, Durability::Unsynced)?;
        last = height;
    }
}

/// The step to the change that follows the one at `last` and has this certificate.
fn shortest_step(
    store: &dyn KvView,
    last: u64,
    certificate: &Certificate,
) -> Result<SetPathStep, StateError> {
    // The set before the change is in force there, so a quorum of it signed.
    let steps = |from| Ok::<_, StateError>(step_to(store, from)?.map_or(0, |step| step.steps) + 1);
    let mut best = last;
    let mut from = last;
    for _ in 0..STEPS_MAX {
        let Some(step) = step_to(store, from)? else {
            break;
        };
        from = step.from;
        if is_signed_by(&set_after(store, from)?, certificate) {
            best = from;
        }
    }
    Ok(SetPathStep {
        from: best,
        steps: steps(best)?,
    })
}

/// The step to a change; none for the genesis set.
fn step_to(store: &dyn KvView, height: u64) -> Result<Option<SetPathStep>, StateError> {
    if height == 0 {
        return Ok(None);
    }
    let step = tables::set_path(store, height)?;
    let missing = || StateError::Missing {
        what: format!("the step to the change of the validators at height {height}"),
    };
    // A path leads downwards, whatever a damaged row says.
    let step = step.filter(|step| step.from < height);
    step.ok_or_else(missing).map(Some)
}

fn set_after(store: &dyn KvView, height: u64) -> Result<ValidatorSet, StateError> {
    tables::validators_at(store, height + 1)
}

fn is_signed_by(set: &ValidatorSet, certificate: &Certificate) -> bool {
    set.count_signers(certificate) >= set.quorum()
}

fn is_step(store: &dyn KvView, set: &ValidatorSet, to: u64) -> Result<bool, StateError> {
    let certificate = prove::certificate(store, to)?;
    Ok(is_signed_by(set, &certificate))
}

/// The newest changes on the stored path to the last change below the height `below`, lowest first.
///
/// # Errors
/// A row is missing or does not decode.
pub fn newest(store: &dyn KvView, below: u64, limit: usize) -> Result<Vec<u64>, StateError> {
    let mut heights = Vec::new();
    let mut at = tables::last_set_change(store, below)?.unwrap_or(0);
    while heights.len() < limit
        && let Some(step) = step_to(store, at)?
    {
        heights.push(at);
        at = step.from;
    }
    heights.reverse();
    Ok(heights)
}

/// A path from the set that is in force after `trusted` to the last change below `below`, of at
/// most `limit` changes, and at most [`SET_PATH_MAX`] until it joins the stored one. All changes
/// below `below` are certified.
///
/// # Errors
/// A row is missing or does not decode.
pub fn find(
    store: &dyn KvView,
    trusted: u64,
    below: u64,
    limit: usize,
) -> Result<SetPath, StateError> {
    let stored = newest(store, below, STEPS_MAX)?;
    let mut at = tables::last_set_change(store, trusted.saturating_add(1))?.unwrap_or(0);
    let mut heights = Vec::new();
    loop {
        if let Some(rest) = join(store, &stored, at)? {
            let space = limit.saturating_sub(heights.len());
            let complete = rest.len() <= space;
            heights.extend(rest.iter().take(space));
            return Ok(SetPath { heights, complete });
        }
        let next = furthest(store, at, below)?;
        let Some(next) = next.filter(|_| heights.len() < limit.min(SET_PATH_MAX)) else {
            let complete = next.is_none();
            return Ok(SetPath { heights, complete });
        };
        heights.push(next);
        at = next;
    }
}

/// The changes of the stored path that lead on from the set after the change at `at`.
fn join<'a>(
    store: &dyn KvView,
    stored: &'a [u64],
    at: u64,
) -> Result<Option<&'a [u64]>, StateError> {
    let above = stored.partition_point(|height| *height <= at);
    let rest = &stored[above..];
    // The path leads through that set, or it is older than the part that was read.
    let on_path = match above.checked_sub(1) {
        Some(below) => stored[below] == at,
        None => match rest.first() {
            Some(first) => step_to(store, *first)?.is_some_and(|step| step.from == at),
            None => true,
        },
    };
    let set = set_after(store, at)?;
    // The last change that a quorum signed leaves the shortest rest.
    let ends = (0..rest.len()).rev().take(NEAR_MAX);
    let beginnings = (0..rest.len().saturating_sub(NEAR_MAX))
        .take(NEAR_MAX)
        .rev();
    for place in ends.chain(beginnings) {
        if is_step(store, &set, rest[place])? {
            return Ok(Some(&rest[place..]));
        }
    }
    Ok(on_path.then_some(rest))
}

/// The furthest of the next changes that a quorum of the set after the change at `at` signed; none
/// if no change follows.
fn furthest(store: &dyn KvView, at: u64, below: u64) -> Result<Option<u64>, StateError> {
    let set = set_after(store, at)?;
    let following = tables::set_changes(store, at + 1..below)?.take(NEAR_MAX);
    let heights: Vec<_> = following
        .map(|change| change.map(|(height, ..)| height))
        .collect::<Result<_, _>>()?;
    for height in heights.iter().rev() {
        if is_step(store, &set, *height)? {
            return Ok(Some(*height));
        }
    }
    // The first one is certified by that very set.
    Ok(heights.first().copied())
}

/// The changes at these heights, with their certificates.
///
/// # Errors
/// A row is missing or does not decode.
pub fn changes(store: &dyn KvView, heights: &[u64]) -> Result<Vec<SetChange>, StateError> {
    let changes = heights.iter().map(|height| {
        let missing = || StateError::Missing {
            what: format!("the change of the validators at height {height}"),
        };
        let (next, path) = tables::set_change(store, *height)?.ok_or_else(missing)?;
        Ok(SetChange {
            certified: prove::certified_header(store, *height)?,
            in_force: tables::validators_at(store, *height)?,
            next,
            path,
        })
    });
    changes.collect()
}
