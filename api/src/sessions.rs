//! The sessions of accounts that logged in at this node: one for each token, until it expires or
//! somebody ends it. They are in memory, and their number is bounded.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lamplighter_types::login::{Audience, LoginSession};
use lamplighter_types::{Id, PublicKey, SessionId};
use tokio_util::sync::CancellationToken;

/// Sessions of one account. A command of the CLI takes one at each node that it asks, for the time
/// of its token; when there are more, the oldest ends.
const ACCOUNT_MAX: usize = 256;
/// Sessions of all accounts, about 20 MB. When there are more, the oldest of the account with the
/// most ends: one that logs in without pause ends nobody else's.
const ALL_MAX: usize = 100_000;

/// All sessions of a node.
#[derive(Clone, Default)]
pub struct Sessions(Arc<Mutex<Table>>);

/// The facts about a session when it begins.
#[derive(Clone, Debug)]
pub struct NewSession {
    pub session: SessionId,
    pub key: PublicKey,
    pub audience: Audience,
    pub issued_ms: u64,
    pub expires_ms: u64,
    pub address: Option<IpAddr>,
}

/// A session that a stream or connection belongs to; as many are counted as there are of these.
#[derive(Clone, Debug)]
pub struct OpenSession(Arc<CancellationToken>);

impl OpenSession {
    /// Resolves when somebody ends the session. Its expiry is not told.
    pub async fn ended(&self) {
        self.0.cancelled().await;
    }

    /// True if somebody has ended the session.
    pub fn has_ended(&self) -> bool {
        self.0.is_cancelled()
    }
}

struct Entry {
    new: NewSession,
    open: OpenSession,
}

impl Entry {
    fn end(self) {
        self.open.0.cancel();
    }

    fn to_listed(&self, current: Option<&SessionId>) -> LoginSession {
        let NewSession {
            session,
            key,
            audience,
            issued_ms,
            expires_ms,
            address,
        } = self.new;
        LoginSession {
            session,
            key,
            audience,
            issued_ms,
            expires_ms,
            address: address.map(|address| address.to_string()),
            // One reference is the table's.
            connections: Arc::strong_count(&self.open.0) as u64 - 1,
            current: current == Some(&session),
        }
    }
}

#[derive(Default)]
struct Table {
    /// The sessions of each account, in the order in which they began; no account has none.
    accounts: HashMap<Id, VecDeque<Entry>>,
    count: usize,
}

impl Table {
    fn retain(&mut self, account: &Id, keep: impl Fn(&Entry) -> bool) -> usize {
        let Some(sessions) = self.accounts.get_mut(account) else {
            return 0;
        };
        let before = sessions.len();
        let (kept, ended) = sessions.drain(..).partition(keep);
        *sessions = kept;
        let removed = before - sessions.len();
        if sessions.is_empty() {
            self.accounts.remove(account);
        }
        self.count -= removed;
        let ended: VecDeque<Entry> = ended;
        ended.into_iter().for_each(Entry::end);
        removed
    }

    fn end_oldest(&mut self, account: &Id) {
        let oldest = self.accounts.get(account).and_then(VecDeque::front);
        let Some(oldest) = oldest.map(|entry| entry.new.session) else {
            return;
        };
        self.retain(account, |entry| entry.new.session != oldest);
    }

    /// Makes room for one more session of an account.
    fn make_room(&mut self, account: &Id, now_ms: u64, account_max: usize, all_max: usize) {
        self.retain(account, |entry| entry.new.expires_ms > now_ms);
        if self.accounts.get(account).map_or(0, VecDeque::len) >= account_max {
            self.end_oldest(account);
        }
        if self.count < all_max {
            return;
        }
        let expired = |sessions: &VecDeque<Entry>| {
            let oldest = sessions.front();
            oldest.is_some_and(|entry| entry.new.expires_ms <= now_ms)
        };
        let accounts = self.accounts.iter().filter(|(_, all)| expired(all));
        let accounts: Vec<Id> = accounts.map(|(account, _)| account.clone()).collect();
        for account in accounts {
            self.retain(&account, |entry| entry.new.expires_ms > now_ms);
        }
        if self.count >= all_max {
            let most = self.accounts.iter().max_by_key(|(_, all)| all.len());
            if let Some(account) = most.map(|(account, _)| account.clone()) {
                self.end_oldest(&account);
            }
        }
    }
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session; the oldest one ends if there are too many.
    pub fn begin(&self, account: &Id, new: NewSession) {
        self.begin_within(account, new, ACCOUNT_MAX, ALL_MAX);
    }

    fn begin_within(&self, account: &Id, new: NewSession, account_max: usize, all_max: usize) {
        let mut table = self.lock();
        table.make_room(account, new.issued_ms, account_max, all_max);
        let open = OpenSession(Arc::new(CancellationToken::new()));
        let sessions = table.accounts.entry(account.clone()).or_default();
        sessions.push_back(Entry { new, open });
        table.count += 1;
    }

    /// A session that has not ended.
    pub fn open(&self, account: &Id, session: &SessionId) -> Option<OpenSession> {
        let table = self.lock();
        let mut sessions = table.accounts.get(account)?.iter();
        let found = sessions.find(|entry| entry.new.session == *session)?;
        Some(found.open.clone())
    }

    /// The sessions of an account that have neither ended nor expired, oldest first.
    pub fn list(
        &self,
        account: &Id,
        current: Option<&SessionId>,
        now_ms: u64,
    ) -> Vec<LoginSession> {
        let table = self.lock();
        let sessions = table.accounts.get(account).into_iter().flatten();
        let valid = sessions.filter(|entry| entry.new.expires_ms > now_ms);
        valid.map(|entry| entry.to_listed(current)).collect()
    }

    /// Ends a session of an account, with its streams and connections. False if there is none.
    pub fn end(&self, account: &Id, session: &SessionId) -> bool {
        let is_other = |entry: &Entry| entry.new.session != *session;
        self.lock().retain(account, is_other) > 0
    }

    /// Ends all sessions of an account but one. Returns how many.
    pub fn end_all(&self, account: &Id, but: Option<&SessionId>) -> usize {
        let is_kept = |entry: &Entry| but == Some(&entry.new.session);
        self.lock().retain(account, is_kept)
    }
}
