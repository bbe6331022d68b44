//! The search for devices by a filter: the rows of the most selective term are looked at in the
//! order of the ids, and each device is decided by its records. A page looks at a bounded number of
//! rows, and its `next` also leads on over what does not match. A reader of a part of the devices
//! has only the rows of that part looked at, so that `next` is a device that it may read.

mod facts;
mod plan;
#[cfg(test)]
mod tests;

use lamplighter_state::tables::{self, DeviceTerm};
use lamplighter_state::{StateError, View};
use lamplighter_types::filter::Filter;
use lamplighter_types::{Device, Id};

pub use self::facts::{Needs, SearchedDevice};
use self::plan::{Candidate, Candidates, Plan, RowBudget};
use crate::rights::{Record, RightsAt};

/// Devices of which a page reads the records, at most: some milliseconds.
const DEVICES_READ_MAX: usize = 2_000;
/// Devices whose records are read at once: those of one take 20 KiB at most.
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

impl<'a> Search<'a> {
    /// Searches all devices that the account may read.
    pub fn for_all(view: &'a View, rights: &'a RightsAt<'a>, now_ms: u64) -> Self {
        Self {
            view,
            rights,
            filter: None,
            needs: Needs::default(),
            now_ms,
        }
    }

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
        let mut rows = self.rows(after)?;
        let (mut items, mut read) = (Vec::new(), 0);
        loop {
            let ids = rows.next(DEVICES_AT_ONCE.min(DEVICES_READ_MAX - read))?;
            read += ids.len();
            for ids in ids.chunks(limit.max(1)) {
                for device in facts::read(self, ids)? {
                    let id = device.device.device.clone();
                    if self.decide(&device)? {
                        add(device, &mut items)?;
                    }
                    if items.len() >= limit {
                        let next = Some(id);
                        return Ok(Found { items, next });
                    }
                }
            }
            if rows.is_over() || read >= DEVICES_READ_MAX {
                let next = rows.place();
                return Ok(Found { items, next });
            }
        }
    }

    /// Other records of the devices that the account may read, whatever the filter: `read` returns
    /// those of each of some devices. Up to `limit` items, and all those of the last device.
    pub fn records<T>(
        &self,
        after: Option<&Id>,
        limit: usize,
        read: impl Fn(&[Id]) -> Result<Vec<Vec<T>>, StateError>,
    ) -> Result<Found<T>, StateError> {
        let mut rows = self.rows(after)?;
        let mut items = Vec::new();
        loop {
            let ids = rows.next(DEVICES_AT_ONCE)?;
            for (id, records) in ids.iter().zip(read(&ids)?) {
                if !records.is_empty() && self.rights.allows(&Record::DeviceNamed(id))? {
                    items.extend(records);
                }
                if items.len() >= limit {
                    let next = Some(id.clone());
                    return Ok(Found { items, next });
                }
            }
            if rows.is_over() {
                let next = rows.place();
                return Ok(Found { items, next });
            }
        }
    }

    fn rows(&self, after: Option<&Id>) -> Result<LookedAtRows<'_>, StateError> {
        let scope = self.rights.device_filter();
        let plan = Plan::of(self, scope.as_ref(), after)?;
        // The rows of a reader's part say nothing of the filter: its terms do, without the records.
        let terms = match (&scope, self.filter) {
            (Some(_), Some(filter)) => plan::terms_of_all(filter),
            _ => Vec::new(),
        };
        Ok(LookedAtRows {
            view: self.view,
            candidates: plan.candidates(self.view, after, self.now_ms)?,
            terms,
            budget: RowBudget::new(),
            last: None,
            is_end: false,
        })
    }

    /// Tells whether a device is shown: it matches, and the account may read it.
    fn decide(&self, device: &SearchedDevice) -> Result<bool, StateError> {
        let matches = self
            .filter
            .is_none_or(|filter| filter.matches(&device.facts(self.now_ms)));
        Ok(matches && self.rights.allows(&Record::Device(&device.device))?)
    }
}

/// The rows that a page looks at.
struct LookedAtRows<'a> {
    view: &'a View,
    candidates: Candidates<'a>,
    /// Devices without one of these do not match.
    terms: Vec<DeviceTerm>,
    budget: RowBudget,
    last: Option<Id>,
    is_end: bool,
}

impl LookedAtRows<'_> {
    /// Some devices whose records have to be read, up to a number; it may be none of those whose
    /// rows were looked at.
    fn next(&mut self, at_most: usize) -> Result<Vec<Id>, StateError> {
        let mut ids = Vec::new();
        while ids.len() < at_most && self.budget.remains() {
            let Some(candidate) = self.candidates.next(&mut self.budget)? else {
                self.is_end = true;
                break;
            };
            let Candidate { device, is_wanted } = candidate;
            self.last = Some(device.clone());
            if is_wanted {
                ids.push(device);
            }
        }
        for term in &self.terms {
            ids = tables::having_term(&**self.view.store(), term, ids)?;
        }
        Ok(ids)
    }

    /// True if the page looks at no more.
    fn is_over(&self) -> bool {
        self.is_end || !self.budget.remains()
    }

    /// The device after which the next page begins; none after the last row.
    fn place(self) -> Option<Id> {
        self.last.filter(|_| !self.is_end)
    }
}

impl From<SearchedDevice> for Device {
    fn from(found: SearchedDevice) -> Self {
        found.device
    }
}
