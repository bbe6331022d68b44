//! Slots of rollouts that have begun and not ended, and their shares.
//!
//! There are [`ROLLOUTS_AT_WORK_MAX`] slots, which bound the work of a block. A rollout that
//! touches the whole city takes one of [`CITY_ROLLOUTS_MAX`]. Any other one takes one of
//! [`DISTRICT_ROLLOUTS_MAX`], and counts in each main district (the first level of a district's
//! path) that it touches, which has [`ROLLOUTS_PER_DISTRICT_MAX`]. So the people of one district
//! leave slots to the others, districts leave some to the city, and the city some to them. A slot
//! is free again when its rollout is finished or stopped.

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::Scope;

use super::{ROLLOUTS_AT_WORK_MAX, RolloutsError, keys};
use crate::{ExecutionError, Reader};

/// Slots of rollouts that touch the whole city.
pub const CITY_ROLLOUTS_MAX: usize = 32;
/// Slots of rollouts that touch districts.
pub const DISTRICT_ROLLOUTS_MAX: usize = 48;
/// Slots of rollouts that touch one main district.
pub const ROLLOUTS_PER_DISTRICT_MAX: usize = 8;

/// The first levels of the districts; none if the whole city is among them.
fn main_districts(districts: &[Scope]) -> Option<BTreeSet<Scope>> {
    let first = |district: &Scope| district.ancestry().into_iter().nth(1);
    districts.iter().map(first).collect()
}

/// Requires a free slot for a rollout in `districts`.
pub(super) fn require_free(overlay: &Overlay, districts: &[Scope]) -> Result<(), ExecutionError> {
    let at_work = Reader::page(overlay, &keys::at_work(), None, ROLLOUTS_AT_WORK_MAX)?;
    if at_work.len() >= ROLLOUTS_AT_WORK_MAX {
        return Err(RolloutsError::TooMany.into());
    }
    let (mut of_city, mut of_districts) = (0, 0);
    let mut used: BTreeMap<Scope, usize> = BTreeMap::new();
    for (name, _) in at_work {
        let missing = || StateError::Missing {
            what: format!("the rollout {name}"),
        };
        let rollout = overlay.get(&keys::rollout(&name))?.ok_or_else(missing)?;
        match main_districts(&rollout.districts) {
            None => of_city += 1,
            Some(touched) => {
                of_districts += 1;
                for district in touched {
                    *used.entry(district).or_default() += 1;
                }
            }
        }
    }
    let Some(touched) = main_districts(districts) else {
        return match of_city < CITY_ROLLOUTS_MAX {
            true => Ok(()),
            false => Err(RolloutsError::TooManyOfCity.into()),
        };
    };
    if of_districts >= DISTRICT_ROLLOUTS_MAX {
        return Err(RolloutsError::TooManyOfDistricts.into());
    }
    let is_full = |district: &Scope| {
        let used = used.get(district).copied();
        used.is_some_and(|used| used >= ROLLOUTS_PER_DISTRICT_MAX)
    };
    match touched.into_iter().find(is_full) {
        Some(full) => Err(RolloutsError::TooManyOfDistrict(full).into()),
        None => Ok(()),
    }
}
