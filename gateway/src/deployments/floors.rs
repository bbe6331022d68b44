//! The newest proof that was taken about each device: older ones are ignored.

use std::collections::BTreeMap;

use lamplighter_types::Id;

/// Devices whose floors are known one by one: twice as many as a gateway has, so that one that it
/// has is not among the lowest half for having been silent.
const FLOORS_MAX: usize = 20_000;

/// Heights of proofs. They only rise, and only by what a proof shows.
#[derive(Debug)]
pub(super) struct Floors {
    pub(super) floors: BTreeMap<Id, u64>,
    /// The floor of all other devices: the highest one that there was no room for.
    others: u64,
    /// Another one than [`FLOORS_MAX`] is for tests.
    pub(super) limit: usize,
}

impl Default for Floors {
    fn default() -> Floors {
        Floors {
            floors: BTreeMap::new(),
            others: 0,
            limit: FLOORS_MAX,
        }
    }
}

impl Floors {
    /// Takes a proof of this height; false if a newer one was taken.
    pub(super) fn raise(&mut self, device: &Id, height: u64) -> bool {
        let floor = match self.floors.get_mut(device) {
            Some(floor) => floor,
            None => {
                if self.floors.len() >= self.limit {
                    self.forget_half();
                }
                self.floors.entry(device.clone()).or_insert(self.others)
            }
        };
        let is_recent = height >= *floor;
        *floor = (*floor).max(height);
        is_recent
    }

    /// Forgets the lower half, which from now on has the floor of the highest of it: a device that
    /// comes back needs a proof that is at least as new, which any node has.
    fn forget_half(&mut self) {
        let mut heights: Vec<u64> = self.floors.values().copied().collect();
        heights.sort_unstable();
        if let Some(height) = heights.get(heights.len() / 2) {
            self.others = self.others.max(*height);
        }
        let others = self.others;
        self.floors.retain(|_, floor| *floor > others);
    }
}
