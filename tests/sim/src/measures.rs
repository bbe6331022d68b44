//! What a run measures, and what it has to look at again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

/// The measurements of one run.
#[derive(Default)]
pub struct Measures {
    values: Mutex<BTreeMap<&'static str, Vec<u64>>>,
    /// The lives of nodes that applied a void batch lately.
    voids: Mutex<BTreeMap<u64, (u32, u64)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("a panic ends the run")
}

impl Measures {
    /// Adds a measurement; all of them are shown, not their sum.
    pub fn add(&self, what: &'static str, value: u64) {
        lock(&self.values).entry(what).or_default().push(value);
    }

    /// Keeps the highest value of this run.
    pub fn peak(&self, what: &'static str, value: u64) {
        let mut measured = lock(&self.values);
        let values = measured.entry(what).or_default();
        match values.first_mut() {
            Some(highest) => *highest = value.max(*highest),
            None => values.push(value),
        }
    }

    /// All of them by name.
    pub fn all(&self) -> BTreeMap<&'static str, Vec<u64>> {
        lock(&self.values).clone()
    }

    /// Records that an honest node applied a batch that became no block, and its certified height.
    pub fn record_void(&self, node: u64, life: u32, certified: u64) {
        lock(&self.voids).insert(node, (life, certified));
    }

    /// True if this life of a node applied a void batch since the last call, and nothing was
    /// certified since: the next certified block ends the alarm, which may be before it is looked
    /// for.
    pub fn remove_void(&self, node: u64, life: u32, certified: u64) -> bool {
        lock(&self.voids).remove(&node) == Some((life, certified))
    }
}
