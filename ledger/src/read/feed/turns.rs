//! The turns of outside readers: few reads run at once, and accounts get them alternately.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use lamplighter_types::Id;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A read that took no longer needs no pause.
const REST_AFTER: Duration = Duration::from_millis(1);

/// The turns of all outside readers. One read at most of each account waits among those of the
/// others, so that an account with a hundred readers has the share of an account with one.
pub(super) struct ReadTurns {
    reads: Arc<Semaphore>,
    /// The accounts with readers; no account stands for all readers without one.
    accounts: Mutex<BTreeMap<Option<Id>, Weak<Semaphore>>>,
}

impl ReadTurns {
    /// So many reads run at once; the others wait in the order of their arrival.
    pub fn new(at_once: usize) -> Self {
        Self {
            reads: Arc::new(Semaphore::new(at_once)),
            accounts: Mutex::default(),
        }
    }

    /// The turns of one account's readers.
    pub fn of(&self, account: Option<&Id>) -> AccountTurns {
        let mut accounts = self
            .accounts
            .lock()
            .expect("the lock is not poisoned: no holder panics");
        let known = accounts.get(&account.cloned()).and_then(Weak::upgrade);
        let account = known.unwrap_or_else(|| {
            accounts.retain(|_, turns| turns.strong_count() > 0);
            let turns = Arc::new(Semaphore::new(1));
            accounts.insert(account.cloned(), Arc::downgrade(&turns));
            turns
        });
        AccountTurns {
            account,
            reads: self.reads.clone(),
        }
    }

    #[cfg(test)]
    pub fn reads(&self) -> &Arc<Semaphore> {
        &self.reads
    }
}

/// The turns of one account's readers, which read one after another.
#[derive(Clone)]
pub(super) struct AccountTurns {
    account: Arc<Semaphore>,
    reads: Arc<Semaphore>,
}

/// The right to read, until it is dropped.
pub(super) struct ReadTurn {
    _read: OwnedSemaphorePermit,
    _account: OwnedSemaphorePermit,
}

impl ReadTurn {
    /// Ends the turn after a pause as long as the read was: long reads take half of their
    /// processors' time at most, and short requests find the other half. A short read, as of a
    /// reader that follows the newest blocks, is followed by none.
    pub fn rest(self, took: Duration) {
        if took < REST_AFTER {
            return;
        }
        tokio::spawn(async move {
            tokio::time::sleep(took).await;
            drop(self);
        });
    }
}

impl AccountTurns {
    /// Waits for a turn. A call that is dropped loses its place.
    pub async fn acquire(&self) -> ReadTurn {
        let account = acquire(&self.account).await;
        ReadTurn {
            _read: acquire(&self.reads).await,
            _account: account,
        }
    }
}

async fn acquire(permits: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    let permit = permits.clone().acquire_owned().await;
    permit.expect("the semaphore is never closed")
}
