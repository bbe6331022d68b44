//! Notifications, for users.
//!
//! One task reads the ledger's feed, encodes each notification once and publishes it to all
//! connections through a bounded ring. A connection that falls behind the ring, and a session that
//! is resumed, read what they missed from the feed themselves: nothing is lost, and a slow reader
//! costs no memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use lamplighter_ledger::{FeedStep, Handle, NotificationFilter, Subscription};
use lamplighter_state::tables::FeedKey;
use lamplighter_system::{Backoff, error_chain};
use lamplighter_types::wire::topics::NotificationTopic;
use lamplighter_types::wire::{Cursor, FeedEvent, NotificationMessage};
use lamplighter_types::{Account, Fact, Id, Notification, Scope};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::mqtt::Shared;
use crate::mqtt::accounts::readable_districts;
use crate::mqtt::counters::Counters;
use crate::mqtt::limits::{NOTIFICATION_RING, REPLAY_MESSAGES, REPLAY_MESSAGES_SHARED};
use crate::mqtt::session::SessionRegistry;

/// Pauses after the feed could not be read.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// Districts whose newest notification is remembered, more than a city has. One more, and all are
/// forgotten: subscribers then assume a gap and read the feed.
pub(super) const DISTRICTS_MAX: usize = 4_096;

/// A notification as it is published.
#[derive(Debug)]
pub struct PublishedNotification {
    pub cursor: Cursor,
    pub district: Scope,
    pub topic: Arc<str>,
    pub payload: Bytes,
}

/// The ring of the newest notifications.
pub struct NotificationHub {
    handle: Handle,
    ring: broadcast::Sender<Arc<PublishedNotification>>,
    /// Permits for the notifications that replays hold beyond [`REPLAY_MESSAGES`].
    room: Arc<Semaphore>,
    counters: Arc<Counters>,
}

impl NotificationHub {
    pub fn new(handle: Handle, counters: Arc<Counters>) -> Self {
        let (ring, _) = broadcast::channel(NOTIFICATION_RING);
        Self {
            handle,
            ring,
            room: Arc::new(Semaphore::new(REPLAY_MESSAGES_SHARED)),
            counters,
        }
    }

    /// A reader of what comes after `after`; of what comes from now on if that is `None`.
    pub fn reader(&self, account: &Account, after: Option<Cursor>) -> NotificationReader {
        let live = self.ring.subscribe();
        // In this order: every block above this height is published to `live`.
        let newest = Cursor::end_of(self.handle.head().height);
        let mut reader = NotificationReader {
            handle: self.handle.clone(),
            account: account.account.clone(),
            districts: readable_districts(account).into(),
            room: Arc::clone(&self.room),
            counters: Arc::clone(&self.counters),
            live,
            cursor: after.unwrap_or(newest),
            last: None,
            replay: None,
        };
        if reader.cursor < newest {
            reader.start_replay();
        }
        reader
    }
}

/// Publishes the notifications of a feed, and closes connections whose key or account ended, until
/// the node stops. The feed began before the first connection.
pub async fn run(shared: Arc<Shared>, mut feed: Subscription) {
    let mut previous = PreviousNotifications::default();
    let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
    loop {
        let next = tokio::select! {
            next = feed.next() => next,
            () = shared.stop.cancelled() => return,
        };
        match next {
            Ok(Some(step)) => {
                backoff.reset();
                for event in step.events {
                    close_connections(&shared.sessions, &event.notification.fact);
                    if let Some(published) = encode(event, &mut previous) {
                        // Fails only while there is no subscriber.
                        shared.notifications.ring.send(Arc::new(published)).ok();
                    }
                }
            }
            Ok(None) => return,
            // The feed continues where it was, so that no connection outlives its key.
            Err(error) => {
                let error = error_chain(&error);
                tracing::error!(
                    error,
                    "the feed can't be read: MQTT subscribers get nothing"
                );
                tokio::select! {
                    () = tokio::time::sleep(backoff.next_pause()) => {}
                    () = shared.stop.cancelled() => return,
                }
            }
        }
    }
}

fn close_connections(sessions: &SessionRegistry, fact: &Fact) {
    match fact {
        Fact::KeyRevoked { account: _, key } => sessions.revoke_key(key),
        Fact::AccountDisabled { account } | Fact::RoleRevoked { account, .. } => {
            sessions.revoke(account);
        }
        _ => {}
    }
}

/// Encodes a notification about a device; `None` for others, which are in the feed only.
fn encode(event: FeedEvent, previous: &mut PreviousNotifications) -> Option<PublishedNotification> {
    let place = event.notification.place.clone()?;
    let cursor = event.cursor;
    let topic = NotificationTopic {
        kind: event.notification.fact.kind(),
        district: place.district.clone(),
        device: place.device,
    };
    let previous = previous.replace(&place.district, cursor);
    let message = NotificationMessage { event, previous };
    Some(PublishedNotification {
        cursor,
        district: place.district,
        topic: topic.to_string().into(),
        payload: message.to_json().into(),
    })
}

/// The newest notification of each district. A subscriber that did not get the one before a message
/// has a gap.
#[derive(Default)]
pub(super) struct PreviousNotifications(BTreeMap<Scope, Cursor>);

impl PreviousNotifications {
    /// Knows the last notification alone.
    fn after(last: Option<&PublishedNotification>) -> Self {
        Self(
            last.into_iter()
                .map(|p| (p.district.clone(), p.cursor))
                .collect(),
        )
    }

    /// Records `cursor`, and returns the one before it if it is known.
    pub fn replace(&mut self, district: &Scope, cursor: Cursor) -> Option<Cursor> {
        if let Some(newest) = self.0.get_mut(district) {
            return Some(std::mem::replace(newest, cursor));
        }
        if self.0.len() >= DISTRICTS_MAX {
            self.0.clear();
        }
        self.0.insert(district.clone(), cursor);
        None
    }
}

/// One connection's position in the notifications.
pub struct NotificationReader {
    handle: Handle,
    account: Id,
    /// The districts whose notifications the account may read.
    districts: Arc<[Scope]>,
    room: Arc<Semaphore>,
    counters: Arc<Counters>,
    live: broadcast::Receiver<Arc<PublishedNotification>>,
    /// Everything up to here was returned, or is not for this account.
    cursor: Cursor,
    /// The newest notification that was read.
    last: Option<Arc<PublishedNotification>>,
    replay: Option<Replay>,
}

impl NotificationReader {
    /// Everything up to here was returned, or is not for this account.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The next notification that the account may read. While the feed can't be read it is tried
    /// again. A call that is dropped loses nothing.
    pub async fn next(&mut self) -> Arc<PublishedNotification> {
        loop {
            let next = match &mut self.replay {
                Some(replay) => match replay.next().await {
                    Some(replayed) => replayed,
                    None => {
                        self.cursor = self.cursor.max(replay.after);
                        self.replay = None;
                        continue;
                    }
                },
                None => match self.live.recv().await {
                    Ok(published) => published,
                    Err(RecvError::Lagged(_)) => {
                        self.start_replay();
                        continue;
                    }
                    // The node is stopping.
                    Err(RecvError::Closed) => std::future::pending().await,
                },
            };
            // What the replay returned is in the ring too.
            if next.cursor <= self.cursor {
                continue;
            }
            self.cursor = next.cursor;
            self.last = Some(Arc::clone(&next));
            if self.districts.iter().any(|d| d.covers(&next.district)) {
                return next;
            }
        }
    }

    /// Reads from the feed up to the present head. What the ring has dropped is in blocks up to it.
    fn start_replay(&mut self) {
        self.counters.replays.add(1);
        let source = Source {
            handle: self.handle.clone(),
            account: self.account.clone(),
            districts: Arc::clone(&self.districts),
            room: Arc::clone(&self.room),
        };
        let step = read_step(source.clone(), self.cursor);
        self.replay = Some(Replay {
            until: self.handle.head().height,
            source,
            after: self.cursor,
            step: Some(step),
            read: VecDeque::new(),
            permit: None,
            previous: PreviousNotifications::after(self.last.as_deref()),
        });
    }
}

fn filter(districts: Arc<[Scope]>) -> NotificationFilter {
    Arc::new(move |notification: &Notification| {
        let place = notification.place.as_ref();
        place.is_some_and(|place| districts.iter().any(|d| d.covers(&place.district)))
    })
}

type Step = BoxFuture<'static, Option<(FeedStep, Option<OwnedSemaphorePermit>)>>;

/// The feed as one account reads it.
#[derive(Clone)]
struct Source {
    handle: Handle,
    account: Id,
    districts: Arc<[Scope]>,
    room: Arc<Semaphore>,
}

impl Source {
    /// The blocks with a match are found by any of the districts.
    fn keys(&self) -> Vec<Vec<FeedKey>> {
        let districts = self.districts.iter().cloned();
        vec![districts.map(FeedKey::District).collect()]
    }
}

/// A reader of the feed. Its steps finish even if no call waits for them.
struct Replay {
    source: Source,
    /// The last height that is read.
    until: u64,
    /// Everything up to here is in `read` or was taken from it.
    after: Cursor,
    step: Option<Step>,
    read: VecDeque<FeedEvent>,
    /// For what `read` had beyond [`REPLAY_MESSAGES`].
    permit: Option<OwnedSemaphorePermit>,
    /// Knows one notification of the time before: the first message of each other district has no
    /// `previous`.
    previous: PreviousNotifications,
}

impl Replay {
    async fn next(&mut self) -> Option<Arc<PublishedNotification>> {
        loop {
            while let Some(event) = self.read.pop_front() {
                if let Some(published) = encode(event, &mut self.previous) {
                    return Some(Arc::new(published));
                }
            }
            self.read = VecDeque::new();
            self.permit = None;
            let step = self.step.as_mut()?.await;
            self.step = None;
            let (step, permit) = step?;
            self.after = step.cursor;
            self.read = step.events.into();
            self.permit = permit;
            if self.after < Cursor::end_of(self.until) {
                self.step = Some(read_step(self.source.clone(), self.after));
            }
        }
    }
}

/// Reads the notifications of the next block after a cursor that has any, or only the first few of
/// them; `None` when there is nothing more to read.
fn read_step(source: Source, after: Cursor) -> Step {
    async move {
        let filter = filter(Arc::clone(&source.districts));
        // A cursor that is ahead of the chain is one of another node; then there is no gap to fill.
        let feed = source.handle.follow(Some(after), filter).ok()?;
        let feed = feed.for_account(Some(&source.account));
        let mut feed = feed.indexed_by(source.keys());
        let mut step = next_step(&mut feed).await?;
        let more = step.events.len().saturating_sub(REPLAY_MESSAGES);
        let permits = u32::try_from(more).unwrap_or(u32::MAX);
        let permit = source.room.try_acquire_many_owned(permits).ok();
        if permit.is_none() {
            // The rest is read again.
            step.events.truncate(REPLAY_MESSAGES);
            step.events.shrink_to_fit();
            step.cursor = step.events[REPLAY_MESSAGES - 1].cursor;
        }
        Some((step, permit))
    }
    .boxed()
}

/// The next step of a feed, which is tried again while it can't be read: the client would only come
/// back for the same.
async fn next_step(feed: &mut Subscription) -> Option<FeedStep> {
    let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
    loop {
        match feed.next().await {
            Ok(step) => return step,
            Err(error) => {
                let error = error_chain(&error);
                tracing::error!(error, "the feed can't be read: an MQTT subscriber waits");
                tokio::time::sleep(backoff.next_pause()).await;
            }
        }
    }
}
