//! The share of each address in the connections of a listener: one client can't have all places,
//! before anybody knows who it is.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

/// The connections of each address.
#[derive(Clone)]
pub struct AddressShares {
    most: usize,
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl AddressShares {
    pub fn new(most: usize) -> Self {
        Self {
            most,
            counts: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.counts
            .lock()
            .expect("the lock is not poisoned: no holder panics")
    }

    /// The place of a connection, until it is dropped; none if its address has all of its share.
    pub fn acquire(&self, address: IpAddr) -> Option<AddressPlace> {
        let mut counts = self.lock();
        let count = counts.entry(address).or_insert(0);
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(AddressPlace {
            shares: self.clone(),
            address,
        })
    }
}

/// The place of one connection.
pub struct AddressPlace {
    shares: AddressShares,
    address: IpAddr,
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let mut counts = self.shares.lock();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}
