//! The state of one account at the edge: its current connection, its rates, and the session that
//! outlives a connection.

mod mailbox;
mod registry;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lamplighter_system::RateLimit;
use lamplighter_types::wire::Cursor;
use lamplighter_types::{Hash, Id, PublicKey};
use tokio::sync::{Notify, OwnedMutexGuard, watch};

use super::codec::Message;
use super::counters::Counters;
use super::limits::{BURST_SECONDS, MAILBOX_BYTES, MAILBOX_WORK_BYTES, SYNCS_PER_SECOND};
use super::topics::Subscriptions;
use mailbox::{Mailbox, ReplyTargets};

pub use mailbox::{QueuedMessage, ReplyTarget, Undelivered};
pub use registry::SessionRegistry;

/// Which connections of an account have to end. Connections are numbered in the order in which they
/// were announced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ControlSignal {
    /// The newest connection; older ones end.
    pub newest: u64,
    /// All connections up to this one end because their key or account was revoked.
    pub revoked: u64,
}

/// The start of the newest connection of an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionStart {
    /// Connections that were accepted.
    pub connections: u64,
    /// The last of them continues the session before.
    pub resumed: bool,
}

/// Rates of one account.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// Packets a second.
    pub packets: u32,
    /// Bytes a second.
    pub bytes: u32,
    /// Filters of its session.
    pub subscriptions: usize,
}

/// One account. At most one connection at a time holds it; see [`AccountSession::acquire`].
pub struct AccountSession {
    /// The account, which is the client id too.
    pub id: Id,
    /// Notified when the mailbox gets a message.
    pub mailbox_ready: Notify,
    /// Notified when the mailbox has more room.
    pub mailbox_room: Notify,
    subscriptions_max: usize,
    exclusive: Arc<tokio::sync::Mutex<()>>,
    control: watch::Sender<ControlSignal>,
    started: watch::Sender<SessionStart>,
    state: Mutex<SessionState>,
    counters: Arc<Counters>,
}

struct SessionState {
    /// Key of the current connection; `None` if there is none.
    key: Option<PublicKey>,
    session: Option<Session>,
    packets: RateLimit,
    bytes: RateLimit,
    syncs: RateLimit,
    disconnected_at: Instant,
}

/// Subscriptions and waiting messages. Ends with the connection, or `expiry` after it.
pub struct Session {
    /// The client's filters.
    pub subscriptions: Subscriptions,
    /// Life of the session without a connection.
    pub expiry: Duration,
    /// Packet ids of QoS 2 publications that were received and not yet released.
    pub received_ids: BTreeSet<u16>,
    /// Position up to which the client read the notifications, while it has no connection.
    pub notifications_read: Option<Cursor>,
    mailbox: Mailbox,
    replies: ReplyTargets,
}

impl AccountSession {
    /// An account without connection and session.
    pub fn new(id: Id, rates: Rates, counters: Arc<Counters>) -> Self {
        let now = Instant::now();
        let limit = |rate: u32| {
            let rate = f64::from(rate);
            RateLimit::new(rate, rate * BURST_SECONDS, now)
        };
        Self {
            id,
            subscriptions_max: rates.subscriptions,
            mailbox_ready: Notify::new(),
            mailbox_room: Notify::new(),
            exclusive: Arc::default(),
            control: watch::Sender::default(),
            started: watch::Sender::default(),
            state: Mutex::new(SessionState {
                key: None,
                session: None,
                packets: limit(rates.packets),
                bytes: limit(rates.bytes),
                syncs: limit(SYNCS_PER_SECOND),
                disconnected_at: now,
            }),
            counters,
        }
    }

    /// Announces a connection, so that the current one ends. Returns its number.
    pub fn announce(&self) -> u64 {
        let mut number = 0;
        self.control.send_modify(|signal| {
            signal.newest += 1;
            number = signal.newest;
        });
        number
    }

    /// Waits until the connection before has ended completely, and holds the account.
    pub async fn acquire(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.exclusive).lock_owned().await
    }

    /// Signals for the current connection.
    pub fn control(&self) -> watch::Receiver<ControlSignal> {
        self.control.subscribe()
    }

    /// The starts of sessions from now on.
    pub fn starts(&self) -> watch::Receiver<SessionStart> {
        self.started.subscribe()
    }

    /// Ends every connection that was announced until now, and the session.
    pub fn revoke(&self) {
        self.control
            .send_modify(|signal| signal.revoked = signal.newest);
        self.state().session = None;
    }

    /// The key of the current connection.
    pub fn key(&self) -> Option<PublicKey> {
        self.state().key
    }

    /// True if the account has a connection.
    pub fn is_connected(&self) -> bool {
        self.key().is_some()
    }

    /// Starts a connection. It continues the session before, unless that has expired or a clean
    /// one is wanted. Returns whether it does.
    pub fn begin(&self, key: PublicKey, clean: bool, expiry: Duration) -> bool {
        let mut state = self.state();
        let expired = state.is_expired(Instant::now());
        state.key = Some(key);
        let resumed = !clean && !expired && state.session.is_some();
        if !resumed {
            state.session = Some(Session {
                subscriptions: Subscriptions::new(self.subscriptions_max),
                expiry,
                received_ids: BTreeSet::new(),
                notifications_read: None,
                mailbox: Mailbox::new(self.counters.clone()),
                replies: ReplyTargets::default(),
            });
        }
        if let Some(session) = &mut state.session {
            session.expiry = expiry;
            // Whether those were admitted is not known; the ledger executes the same bytes once.
            session.received_ids.clear();
        }
        self.started.send_modify(|start| {
            start.connections += 1;
            start.resumed = resumed;
        });
        resumed
    }

    /// Ends a connection. Messages that the client did not acknowledge go back to the front of the
    /// mailbox, if the session is kept.
    pub fn end(&self, unacknowledged: Vec<QueuedMessage>, notifications_read: Option<Cursor>) {
        let mut state = self.state();
        state.key = None;
        state.disconnected_at = Instant::now();
        match &mut state.session {
            Some(session) if !session.expiry.is_zero() => {
                session.notifications_read = notifications_read;
                session.mailbox.put_back(unacknowledged);
            }
            _ => state.session = None,
        }
    }

    /// Runs `change` on the session; the default value if there is none.
    pub fn with_session<T: Default>(&self, change: impl FnOnce(&mut Session) -> T) -> T {
        let mut state = self.state();
        state.session.as_mut().map(change).unwrap_or_default()
    }

    /// Remembers where the receipt of a transaction is wanted.
    pub fn expect_reply(&self, transaction: Hash, target: ReplyTarget) {
        self.with_session(|session| session.replies.insert(transaction, target));
    }

    /// Puts a receipt into the mailbox, also while the client is away.
    ///
    /// # Errors
    /// The account has no session that subscribed to it, or its mailbox is full.
    pub fn deliver_receipt(
        &self,
        mut message: Message,
        transaction: Option<Hash>,
    ) -> Result<(), Undelivered> {
        let mut state = self.state();
        let connected = state.key.is_some();
        let session = state.session.as_mut().ok_or(Undelivered::NoSubscriber)?;
        if let Some(target) = transaction.and_then(|hash| session.replies.remove(&hash)) {
            message.correlation = target.correlation;
            message.topic = target.topic.map_or(message.topic, Into::into);
        }
        message.transaction = transaction;
        let result = self.put(session, message, connected, MAILBOX_BYTES);
        if result == Err(Undelivered::Full) {
            self.counters.dropped.add(1);
        }
        result
    }

    /// Puts work into the mailbox of a connected gateway. While the gateway is away the ledger
    /// keeps its work; while its mailbox is full the sender does, so that there is always room left
    /// for receipts.
    ///
    /// # Errors
    /// The gateway is away or did not subscribe to it, or its mailbox has no room for more work.
    pub fn deliver_work(&self, message: Message) -> Result<(), Undelivered> {
        let mut state = self.state();
        if state.key.is_none() {
            return Err(Undelivered::NoSubscriber);
        }
        let session = state.session.as_mut().ok_or(Undelivered::NoSubscriber)?;
        self.put(session, message, true, MAILBOX_WORK_BYTES)
    }

    fn put(
        &self,
        session: &mut Session,
        message: Message,
        connected: bool,
        bytes_max: usize,
    ) -> Result<(), Undelivered> {
        let granted = session.subscriptions.qos_of(&message.topic);
        let qos = granted.ok_or(Undelivered::NoSubscriber)?;
        if qos == 0 && !connected {
            return Err(Undelivered::NoSubscriber);
        }
        session
            .mailbox
            .push(QueuedMessage::new(message, qos), bytes_max)?;
        self.mailbox_ready.notify_one();
        Ok(())
    }

    /// Removes the oldest message from the mailbox.
    pub fn next_message(&self) -> Option<QueuedMessage> {
        let message = self.with_session(|session| session.mailbox.pop());
        if message.is_some() {
            self.mailbox_room.notify_one();
        }
        message
    }

    /// True if so much waits here that nothing more is read from the client.
    pub fn is_behind(&self) -> bool {
        self.with_session(|session| session.mailbox.is_high())
    }

    /// Counts a packet and returns how long its sender has to wait.
    pub fn charge(&self, bytes: usize) -> Duration {
        let now = Instant::now();
        let mut state = self.state();
        let for_packet = state.packets.charge(1.0, now);
        for_packet.max(state.bytes.charge(bytes as f64, now))
    }

    /// True if the account may ask for its work once more by now.
    pub fn may_sync(&self) -> bool {
        self.state().syncs.try_acquire(Instant::now())
    }

    /// True if nothing would be lost without this entry. Frees an expired session.
    fn is_idle(&self, now: Instant) -> bool {
        let mut state = self.state();
        if state.is_expired(now) {
            state.session = None;
        }
        // A rate limit that is full again is as good as a new one.
        let refilled = (now - state.disconnected_at).as_secs_f64() > BURST_SECONDS;
        state.key.is_none() && state.session.is_none() && refilled
    }

    fn state(&self) -> MutexGuard<'_, SessionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionState {
    fn is_expired(&self, now: Instant) -> bool {
        let session = self.session.as_ref();
        let expired = session.is_some_and(|s| now >= self.disconnected_at + s.expiry);
        self.key.is_none() && expired
    }
}
