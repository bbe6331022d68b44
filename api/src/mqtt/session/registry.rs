//! The sessions of all accounts that connected to this node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use lamplighter_types::{Id, PublicKey};

use super::{AccountSession, Rates};
use crate::mqtt::accounts::Accounts;
use crate::mqtt::counters::Counters;

/// All sessions. Only accounts that proved themselves get one, so the ledger's registry bounds
/// their number.
pub struct SessionRegistry {
    sessions: Mutex<HashMap<Id, Arc<AccountSession>>>,
    rates: Rates,
    counters: Arc<Counters>,
}

impl SessionRegistry {
    /// No sessions yet.
    pub fn new(rates: Rates, counters: Arc<Counters>) -> Self {
        Self {
            sessions: Mutex::default(),
            rates,
            counters,
        }
    }

    /// The session of an account that proved itself; made if there is none.
    pub fn open(&self, account: &Id) -> Arc<AccountSession> {
        let mut sessions = self.lock();
        let session = sessions.entry(account.clone()).or_insert_with(|| {
            let counters = Arc::clone(&self.counters);
            Arc::new(AccountSession::new(account.clone(), self.rates, counters))
        });
        Arc::clone(session)
    }

    /// The session of an account, if it has one.
    pub fn find(&self, account: &Id) -> Option<Arc<AccountSession>> {
        self.lock().get(account).cloned()
    }

    /// The accounts that are connected to this node now.
    pub fn connected(&self) -> Vec<Id> {
        let sessions = self.all();
        let connected = sessions.iter().filter(|session| session.is_connected());
        connected.map(|session| session.id.clone()).collect()
    }

    /// True if an account is connected to this node now.
    pub fn is_connected(&self, account: &Id) -> bool {
        self.find(account)
            .is_some_and(|session| session.is_connected())
    }

    /// Closes the connection of an account whose rights have changed, and ends its session.
    pub fn revoke(&self, account: &Id) {
        if let Some(session) = self.find(account) {
            session.revoke();
        }
    }

    /// Closes the connection that proved itself with this key, and ends its session.
    pub fn revoke_key(&self, key: &PublicKey) {
        for session in self.all() {
            if session.key().as_ref() == Some(key) {
                session.revoke();
            }
        }
    }

    /// Ends the connections whose key is no longer their account's. They end when the ledger
    /// notifies of it; this finds what was missed, e.g. when the node got a snapshot of the chain.
    pub fn revoke_invalid(&self, accounts: &Accounts) {
        for session in self.all() {
            let valid = |key: PublicKey| accounts.is_valid(&key, &session.id);
            if !session.key().is_none_or(valid) {
                session.revoke();
            }
        }
    }

    /// Removes accounts without connection and session.
    pub fn sweep(&self) {
        let now = Instant::now();
        // One reference is the map's; a new connection takes another while the map is locked.
        self.lock()
            .retain(|_, session| Arc::strong_count(session) > 1 || !session.is_idle(now));
    }

    fn all(&self) -> Vec<Arc<AccountSession>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Id, Arc<AccountSession>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
