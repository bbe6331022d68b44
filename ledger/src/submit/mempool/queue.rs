use std::collections::{BTreeMap, VecDeque};

use lamplighter_types::{Hash, Id};

/// The queued transactions: oldest first for each account, and accounts take turns. So the many
/// transactions of one account delay those of another by one each.
#[derive(Default)]
pub(super) struct FairQueue {
    accounts: BTreeMap<Id, VecDeque<Hash>>,
    /// The accounts that have any, each once, the next one in front.
    turns: VecDeque<Id>,
    len: usize,
}

impl FairQueue {
    /// Adds a transaction of an account behind its others.
    pub fn push_back(&mut self, account: &Id, hash: Hash) {
        self.of(account).push_back(hash);
    }

    /// Adds a transaction of an account before its others; the account itself keeps its turn.
    pub fn push_front(&mut self, account: &Id, hash: Hash) {
        self.of(account).push_front(hash);
    }

    fn of(&mut self, account: &Id) -> &mut VecDeque<Hash> {
        self.len += 1;
        if !self.accounts.contains_key(account) {
            self.turns.push_back(account.clone());
        }
        self.accounts.entry(account.clone()).or_default()
    }

    /// Removes the next transaction, and returns it with its account.
    pub fn pop_front(&mut self) -> Option<(Id, Hash)> {
        let account = self.turns.pop_front()?;
        let queue = self.accounts.get_mut(&account)?;
        let hash = queue.pop_front()?;
        self.len -= 1;
        if queue.is_empty() {
            self.accounts.remove(&account);
        } else {
            self.turns.push_back(account.clone());
        }
        Some((account, hash))
    }

    /// Returns a transaction that was just removed to its place.
    pub fn unpop(&mut self, account: Id, hash: Hash) {
        self.push_front(&account, hash);
        // Its turn was used, and it is the next one again.
        if let Some(at) = self.turns.iter().rposition(|turn| *turn == account) {
            self.turns.remove(at);
        }
        self.turns.push_front(account);
    }

    /// Keeps the transactions that `keeps` returns true for.
    pub fn retain(&mut self, keeps: impl Fn(&Hash) -> bool) {
        for queue in self.accounts.values_mut() {
            queue.retain(&keeps);
        }
        self.accounts.retain(|_, queue| !queue.is_empty());
        let Self {
            accounts, turns, ..
        } = self;
        turns.retain(|account| accounts.contains_key(account));
        self.len = self.accounts.values().map(VecDeque::len).sum();
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}
