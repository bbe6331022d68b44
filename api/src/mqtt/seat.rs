//! What the edge knows of one account: the place that one connection at a time may take, and the
//! session that outlives it.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, OwnedMutexGuard, watch};

use super::backend::{Account, AccountKind};
use super::broker::Saved;
use super::counters::Counters;
use super::limits::{
    BURST_SECONDS, MAILBOX_BYTES, MAILBOX_HIGH, MAILBOX_ITEMS, MAILBOX_WORK_BYTES, MAILBOXES_BYTES,
    REPLIES_MAX, SYNCS_PER_SECOND,
};
use super::rate::{Bucket, Rates};
use super::topics::Subscriptions;
use super::wire::Message;

/// Orders to the connection on a seat. Each connection has an arrival number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Orders {
    /// The newest arrival; older ones leave.
    pub latest: u64,
    /// All arrivals up to this one leave because their key was revoked.
    pub revoked: u64,
}

/// How the sessions of an account went on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Begun {
    /// Connections that were accepted.
    pub connections: u64,
    /// The last of them goes on with the session before.
    pub resumed: bool,
}

/// See the module.
pub struct Seat {
    /// The account.
    pub id: String,
    /// Rung when the mailbox gets something.
    pub bell: Notify,
    /// Rung when the mailbox has more room.
    pub room: Notify,
    gate: Arc<tokio::sync::Mutex<()>>,
    orders: watch::Sender<Orders>,
    begun: watch::Sender<Begun>,
    state: Mutex<State>,
    counters: Arc<Counters>,
}

struct State {
    /// Key of the connection that sits here.
    key: Option<[u8; 32]>,
    session: Option<Session>,
    packets: Bucket,
    bytes: Bucket,
    syncs: Bucket,
    left: Instant,
}

/// Subscriptions and waiting messages. Ends with the connection, or `expiry` after it.
#[derive(Default)]
pub struct Session {
    /// The client's filters.
    pub subscriptions: Subscriptions,
    /// How long it is kept without a connection.
    pub expiry: Duration,
    /// What the router keeps of it while there is no connection.
    pub saved: Option<Saved>,
    /// QoS 2 packet ids that were taken and not yet released.
    pub taken_ids: BTreeSet<u16>,
    mailbox: VecDeque<Item>,
    mailbox_bytes: usize,
    replies: Replies,
}

/// A message in the mailbox.
#[derive(Debug, Clone)]
pub struct Item {
    /// What is sent.
    pub message: Message,
    /// 0 or 1.
    pub qos: u8,
    /// It was sent before and not acknowledged.
    pub again: bool,
}

/// Where MQTT 5 wants the receipt of a transaction.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// Response topic.
    pub topic: Option<String>,
    /// Correlation data.
    pub correlation: Option<Bytes>,
}

#[derive(Default)]
struct Replies {
    by_transaction: HashMap<[u8; 32], Reply>,
    order: VecDeque<[u8; 32]>,
}

impl Replies {
    fn put(&mut self, transaction: [u8; 32], reply: Reply) {
        if self.by_transaction.insert(transaction, reply).is_none() {
            self.order.push_back(transaction);
        }
        while self.order.len() > REPLIES_MAX {
            let oldest = self.order.pop_front();
            oldest.and_then(|oldest| self.by_transaction.remove(&oldest));
        }
    }

    fn take(&mut self, transaction: &[u8; 32]) -> Option<Reply> {
        let reply = self.by_transaction.remove(transaction)?;
        self.order.retain(|other| other != transaction);
        Some(reply)
    }
}

/// Why a message did not get into a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    /// The account has no session, or none that subscribed to this.
    #[error("nobody subscribed to it here")]
    NobodyThere,
    /// Its mailbox, or all mailboxes together, are full.
    #[error("the mailbox is full")]
    Full,
}

impl Seat {
    /// An empty seat.
    pub fn new(id: &str, rates: Rates, counters: Arc<Counters>) -> Self {
        let now = Instant::now();
        Self {
            id: id.to_owned(),
            bell: Notify::new(),
            room: Notify::new(),
            gate: Arc::default(),
            orders: watch::Sender::default(),
            begun: watch::Sender::default(),
            state: Mutex::new(State {
                key: None,
                session: None,
                packets: Bucket::new(rates.packets, now),
                bytes: Bucket::new(rates.bytes, now),
                syncs: Bucket::new(SYNCS_PER_SECOND, now),
                left: now,
            }),
            counters,
        }
    }

    /// Announces a connection; the one that sits here leaves. Returns its arrival number.
    pub fn arrive(&self) -> u64 {
        let mut mine = 0;
        self.orders.send_modify(|orders| {
            orders.latest += 1;
            mine = orders.latest;
        });
        mine
    }

    /// Waits until the connection before has left the router and gives the seat.
    pub async fn sit(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.gate).lock_owned().await
    }

    /// Orders for the connection that sits here.
    pub fn orders(&self) -> watch::Receiver<Orders> {
        self.orders.subscribe()
    }

    /// How sessions begin from now on.
    pub fn begun(&self) -> watch::Receiver<Begun> {
        self.begun.subscribe()
    }

    /// Sends away every connection that has arrived until now.
    pub fn revoke(&self) {
        self.orders
            .send_modify(|orders| orders.revoked = orders.latest);
        self.state().set_session(None, &self.counters);
    }

    /// Whether the connection that sits here proved itself with this key.
    pub fn has_key(&self, key: &[u8; 32]) -> bool {
        self.state().key.as_ref() == Some(key)
    }

    /// The key of the connection that sits here.
    pub fn key(&self) -> Option<[u8; 32]> {
        self.state().key
    }

    /// Whether a connection sits here.
    pub fn is_taken(&self) -> bool {
        self.key().is_some()
    }

    /// Begins a connection: goes on with the old session unless it ran out or a clean one is
    /// wanted. Returns whether there was one.
    pub fn begin(&self, key: [u8; 32], clean: bool, expiry: Duration) -> bool {
        let mut state = self.state();
        let lost = state.expired(Instant::now());
        state.key = Some(key);
        let kept = !clean && !lost && state.session.is_some();
        if !kept {
            let stale = state
                .session
                .as_mut()
                .and_then(|session| session.saved.take());
            let fresh = Session {
                saved: stale,
                ..Session::default()
            };
            state.set_session(Some(fresh), &self.counters);
        }
        if let Some(session) = &mut state.session {
            session.expiry = expiry;
            // Whether those were admitted is not known; the ledger takes the same bytes once only.
            session.taken_ids.clear();
        }
        self.begun.send_modify(|begun| {
            begun.connections += 1;
            begun.resumed = kept;
        });
        kept
    }

    /// Ends a connection: what it had not delivered goes back in front.
    pub fn end(&self, unsent: Vec<Item>, saved: Option<Saved>) {
        let mut state = self.state();
        state.key = None;
        state.left = Instant::now();
        let keep = state
            .session
            .as_ref()
            .is_some_and(|session| !session.expiry.is_zero());
        if !keep {
            state.set_session(None, &self.counters);
            return;
        }
        if let Some(session) = &mut state.session {
            session.saved = saved.or(session.saved.take());
            for item in unsent.into_iter().rev().filter(|item| item.qos > 0) {
                self.counters.mailbox_bytes.add(item.bytes() as u64);
                session.mailbox_bytes += item.bytes();
                session.mailbox.push_front(item);
            }
        }
    }

    /// Runs `change` on the session of the connection that sits here.
    pub fn with_session<T: Default>(&self, change: impl FnOnce(&mut Session) -> T) -> T {
        self.state()
            .session
            .as_mut()
            .map(change)
            .unwrap_or_default()
    }

    /// Remembers where a receipt is wanted.
    pub fn expect_reply(&self, transaction: [u8; 32], reply: Reply) {
        self.with_session(|session| session.replies.put(transaction, reply));
    }

    /// Puts a receipt into the mailbox, also while the client is away.
    pub fn deliver_receipt(
        &self,
        mut message: Message,
        transaction: Option<[u8; 32]>,
    ) -> Result<(), Undelivered> {
        let mut state = self.state();
        let connected = state.key.is_some();
        let session = state.session.as_mut().ok_or(Undelivered::NobodyThere)?;
        if let Some(reply) = transaction.and_then(|hash| session.replies.take(&hash)) {
            message.correlation = reply.correlation;
            message.topic = reply.topic.unwrap_or(message.topic);
        }
        message.transaction = transaction;
        let put = self.put(session, message, connected, MAILBOX_BYTES);
        if put == Err(Undelivered::Full) {
            self.counters.dropped.add(1);
        }
        put
    }

    /// Puts work into the mailbox of a connected gateway; while it is away the ledger keeps it, and
    /// while its mailbox is full whoever sends it: there is always room left for receipts.
    pub fn deliver_work(&self, message: Message) -> Result<(), Undelivered> {
        let mut state = self.state();
        if state.key.is_none() {
            return Err(Undelivered::NobodyThere);
        }
        let session = state.session.as_mut().ok_or(Undelivered::NobodyThere)?;
        self.put(session, message, true, MAILBOX_WORK_BYTES)
    }

    fn put(
        &self,
        session: &mut Session,
        message: Message,
        connected: bool,
        bytes_max: usize,
    ) -> Result<(), Undelivered> {
        let qos = session
            .subscriptions
            .qos_of(&message.topic)
            .ok_or(Undelivered::NobodyThere)?;
        if qos == 0 && !connected {
            return Err(Undelivered::NobodyThere);
        }
        let item = Item {
            message,
            qos,
            again: false,
        };
        let bytes = item.bytes();
        let full = session.mailbox.len() >= MAILBOX_ITEMS
            || session.mailbox_bytes + bytes > bytes_max
            || self.counters.mailbox_bytes.get() as usize + bytes > MAILBOXES_BYTES;
        if full {
            return Err(Undelivered::Full);
        }
        session.mailbox.push_back(item);
        session.mailbox_bytes += bytes;
        self.counters.mailbox_bytes.add(bytes as u64);
        self.bell.notify_one();
        Ok(())
    }

    /// Takes the oldest message out of the mailbox.
    pub fn take(&self) -> Option<Item> {
        self.with_session(|session| {
            let item = session.mailbox.pop_front()?;
            session.mailbox_bytes -= item.bytes();
            self.counters.mailbox_bytes.sub(item.bytes() as u64);
            self.room.notify_one();
            Some(item)
        })
    }

    /// Whether so much waits here that nothing more is read from the client.
    pub fn is_behind(&self) -> bool {
        self.with_session(|session| {
            session.mailbox.len() >= MAILBOX_HIGH || session.mailbox_bytes >= MAILBOX_BYTES / 2
        })
    }

    /// Counts a packet and returns how long its sender has to wait.
    pub fn charge(&self, bytes: usize) -> Duration {
        let now = Instant::now();
        let mut state = self.state();
        state
            .packets
            .charge(1.0, now)
            .max(state.bytes.charge(bytes as f64, now))
    }

    /// Whether the account may ask for its work once more by now.
    pub fn may_sync(&self) -> bool {
        self.state().syncs.take(Instant::now())
    }

    /// Whether nothing would be lost with this seat. Frees a session that ran out.
    pub fn is_idle(&self, now: Instant) -> bool {
        let mut state = self.state();
        if state.expired(now) {
            let saved = state.session.take().and_then(|session| {
                self.counters
                    .mailbox_bytes
                    .sub(session.mailbox_bytes as u64);
                session.saved
            });
            // The router still knows it; that is cleared when the account comes back.
            state.session = saved.map(|saved| Session {
                saved: Some(saved),
                ..Session::default()
            });
        }
        // A bucket that is full again is as good as a new one.
        let paid = (now - state.left).as_secs_f64() > BURST_SECONDS;
        state.key.is_none() && state.session.is_none() && paid
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn expired(&self, now: Instant) -> bool {
        let over = |session: &Session| now >= self.left + session.expiry;
        self.key.is_none() && self.session.as_ref().is_some_and(over)
    }

    fn set_session(&mut self, session: Option<Session>, counters: &Counters) {
        let old = std::mem::replace(&mut self.session, session);
        counters
            .mailbox_bytes
            .sub(old.map_or(0, |old| old.mailbox_bytes) as u64);
    }
}

impl Item {
    fn bytes(&self) -> usize {
        super::wire::publish_bytes(&self.message)
    }
}

/// All seats. Only accounts that proved themselves get one, so the registry bounds their number.
pub struct Seats {
    seats: Mutex<HashMap<String, Arc<Seat>>>,
    /// Gateways that have logged in by certificate since the node started; they are registered.
    certified: Mutex<HashSet<String>>,
    rates: Rates,
    counters: Arc<Counters>,
}

impl Seats {
    /// No seats yet.
    pub fn new(rates: Rates, counters: Arc<Counters>) -> Self {
        Self {
            seats: Mutex::default(),
            certified: Mutex::default(),
            rates,
            counters,
        }
    }

    /// Remembers that a gateway shows a certificate. It has no use for tokens then, so one that
    /// comes in its name was stolen. People may use several programs and are let in by either.
    pub fn saw_certificate(&self, account: &Account) {
        if account.kind == AccountKind::Gateway {
            self.certified().insert(account.id.clone());
        }
    }

    /// Whether this gateway has shown a certificate since the node started.
    pub fn has_certificate(&self, account: &Account) -> bool {
        self.certified().contains(&account.id)
    }

    fn certified(&self) -> MutexGuard<'_, HashSet<String>> {
        let certified = self.certified.lock();
        certified.unwrap_or_else(PoisonError::into_inner)
    }

    /// The seat of an account that proved itself.
    pub fn of(&self, account: &Account) -> Arc<Seat> {
        let mut seats = self.lock();
        let seat = seats.entry(account.id.clone()).or_insert_with(|| {
            Arc::new(Seat::new(
                &account.id,
                self.rates,
                Arc::clone(&self.counters),
            ))
        });
        Arc::clone(seat)
    }

    /// The seat of an account, if it has one.
    pub fn find(&self, account: &str) -> Option<Arc<Seat>> {
        self.lock().get(account).cloned()
    }

    /// Every seat.
    pub fn all(&self) -> Vec<Arc<Seat>> {
        self.lock().values().cloned().collect()
    }

    /// Removes seats that nobody uses.
    pub fn sweep(&self) {
        let now = Instant::now();
        // One reference is the map's; whoever arrives takes another while the map is locked.
        self.lock()
            .retain(|_, seat| Arc::strong_count(seat) > 1 || !seat.is_idle(now));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Seat>>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
