//! The search for devices by a filter: the rows of the most selective term are looked at in the
//! order of the ids, and each device is decided by its records. A page looks at a bounded number of
//! rows, and its `next` also leads on over what does not match.

mod facts;
mod plan;
#[cfg(test)]
mod tests;

use lamplighter_state::{StateError, View};
use lamplighter_types::filter::Filter;
use lamplighter_types::{Device, Id};

pub use self::facts::{Needs, SearchedDevice};
use self::plan::{Candidate, Plan, RowBudget};
use crate::rights::{Record, RightsAt};

/// Devices of which a page reads the records, at most: some milliseconds.
const DEVICES_READ_MAX: usize = 2_000;
/// Devices whose records are read at once.
const DEVICES_AT_ONCE: usize = 256;

/// What is searched.
pub struct Search<'a> {
    pub view: &'a View,
    pub rights: &'a RightsAt<'a>,
    /// All devices, if there is none.
    pub filter: Option<&'a Filter>,
    /// Parts of the records that the caller wants beside those that the filter needs.
    pub needs: Needs,
    /// The time of the newest block, Unix ms.
    pub now_ms: u64,
}

/// A part of what was found.
pub struct Found<T> {
    pub items: Vec<T>,
    /// The device after which the next page begins; none after the last one.
    pub next: Option<Id>,
}

impl Search<'_> {
    /// The matching devices by id, after the device `after`.
    pub fn page(
        &self,
        after: Option<&Id>,
        limit: usize,
    ) -> Result<Found<SearchedDevice>, StateError> {
        self.page_of(after, limit, |device, items| {
            items.push(device);
            Ok(())
        })
    }

    /// What `add` makes of the matching devices, up to about `limit` items.
    pub fn page_of<T>(
        &self,
        after: Option<&Id>,
        limit: usize,
        mut add: impl FnMut(SearchedDevice, &mut Vec<T>) -> Result<(), StateError>,
    ) -> Result<Found<T>, StateError> {
        let scope = self.rights.device_filter();
        let plan = Plan::of(self, scope.as_ref(), after)?;
        let mut budget = RowBudget::new();
        let mut candidates = plan.candidates(self.view, after, self.now_ms)?;
        let (mut items, mut read) = (Vec::new(), 0);
        loop {
            let (mut ids, mut last, mut is_end) = (Vec::new(), None, false);
            while ids.len() < DEVICES_AT_ONCE.min(limit.max(1)) && budget.remains() {
                match candidates.next(&mut budget)? {
                    Some(Candidate { device, is_wanted }) => {
                        last = Some(device.clone());
                        if is_wanted {
                            ids.push(device);
                        }
                    }
                    None => {
                        is_end = true;
                        break;
                    }
                }
            }
            read += ids.len();
            for device in facts::read(self, &ids)? {
                let id = device.device.device.clone();
                if self.decide(&device)? {
                    add(device, &mut items)?;
                }
                if items.len() >= limit {
                    return Ok(Found {
                        items,
                        next: Some(id),
                    });
                }
            }
            if is_end {
                return Ok(Found { items, next: None });
            }
            if read >= DEVICES_READ_MAX || !budget.remains() {
                return Ok(Found { items, next: last });
            }
        }
    }

    /// Tells whether a device is shown: it matches, and the account may read it.
    fn decide(&self, device: &SearchedDevice) -> Result<bool, StateError> {
        let matches = self
            .filter
            .is_none_or(|filter| filter.matches(&device.facts(self.now_ms)));
        Ok(matches && self.rights.allows(&Record::Device(&device.device))?)
    }
}

impl From<SearchedDevice> for Device {
    fn from(found: SearchedDevice) -> Self {
        found.device
    }
}
