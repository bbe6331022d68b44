//! Work on its way to the gateways that are connected here. What a mailbox has no room for, or what
//! can't be proven yet, waits here as a name until there is room, so that nothing is left out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use lamplighter_ledger::Handle;
use lamplighter_state::StateError;
use lamplighter_system::error_chain;
use lamplighter_types::Id;
use lamplighter_types::wire::topics::GatewayTopic;
use lamplighter_types::wire::work::{DevicesDigest, DevicesHeld, RangeDigest, WorkItem};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::open_work::{self, DigestProgress, WorkSelection};
use super::pending::{NextStep, PendingWork, SYNC_TIMEOUT};
use super::reminders::{DueItem, Reminders};
use crate::mqtt::codec::Message;
use crate::mqtt::counters::Counters;
use crate::mqtt::limits::ROOM_TIME;
use crate::mqtt::session::{SessionRegistry, Undelivered};

/// Messages that are proven at once, for all gateways: proofs take turns with everything else that
/// reads the chain.
const PROVING_MAX: usize = 8;
/// Items that are due and are read at a time.
const DUE_MAX: usize = 256;
/// Pause after work could not be proven or read.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The queue. Clones share it. It has one task for each gateway with pending work, which is bounded
/// in [`PendingWork::add`].
#[derive(Clone)]
pub struct WorkQueue(Arc<QueueState>);

struct QueueState {
    handle: Handle,
    sessions: Arc<SessionRegistry>,
    proving: Semaphore,
    tasks: TaskTracker,
    stop: CancellationToken,
    gateways: Mutex<BTreeMap<Id, GatewayQueue>>,
    reminders: Mutex<Reminders>,
    /// Notified when an item was noted: it may be due before the others.
    reminded: Notify,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct GatewayQueue {
    pending: PendingWork,
    changed: Arc<Notify>,
}

impl WorkQueue {
    pub fn new(
        handle: Handle,
        sessions: Arc<SessionRegistry>,
        counters: Arc<Counters>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self(Arc::new(QueueState {
            handle,
            sessions,
            proving: Semaphore::new(PROVING_MAX),
            tasks,
            stop,
            gateways: Mutex::default(),
            reminders: Mutex::default(),
            reminded: Notify::new(),
            counters,
        }))
    }

    /// Adds work for a gateway that is connected here, and sends it again until it is done.
    pub fn add(&self, gateway: &Id, items: Vec<WorkItem>) {
        self.reminders().record(gateway, &items, Instant::now());
        self.0.reminded.notify_one();
        self.push(gateway, items);
    }

    fn push(&self, gateway: &Id, items: Vec<WorkItem>) {
        if !items.is_empty() {
            let rejected = self.change(gateway, |pending| pending.add(items));
            if rejected > 0 {
                tracing::warn!(%gateway, rejected, "a gateway has too much pending work");
            }
        }
    }

    /// A gateway subscribed to its work. It gets all that is open, unless it sends shortly which
    /// devices it holds.
    pub fn subscribed(&self, gateway: &Id) {
        self.change(gateway, |pending| {
            pending.schedule_open();
            pending.schedule_listing(SYNC_TIMEOUT);
        });
    }

    /// Looks for open work of a gateway that is connected here.
    pub fn inspect(&self, gateway: &Id) {
        self.change(gateway, PendingWork::schedule_open);
    }

    /// Sends a gateway all that is open for it.
    pub fn send_all(&self, gateway: &Id) {
        self.change(gateway, |pending| pending.schedule_listing(Duration::ZERO));
    }

    /// Sends a gateway the devices for which the ledger differs from what it holds.
    pub async fn send_difference(&self, gateway: &Id, held: DevicesHeld) -> Result<(), StateError> {
        self.change(gateway, PendingWork::cancel_listing);
        self.scan(gateway, WorkSelection::Difference(Arc::new(held)))
            .await
    }

    /// Compares digests of what a gateway holds with the ledger. Where they differ, it is asked for
    /// the range; where it holds nothing, it gets what there is.
    pub async fn compare(&self, gateway: &Id, ranges: Vec<RangeDigest>) -> Result<(), StateError> {
        self.change(gateway, PendingWork::cancel_listing);
        for range in ranges {
            let here = self.digest(gateway, &range).await?;
            let RangeDigest {
                after,
                until,
                count,
                digest,
            } = range;
            if here == (count, digest) {
                continue;
            }
            if count > 0 {
                self.push(gateway, vec![WorkItem::Range { after, until }]);
                continue;
            }
            let held = DevicesHeld {
                after,
                until,
                devices: BTreeMap::new(),
            };
            let nothing = WorkSelection::Difference(Arc::new(held));
            self.scan(gateway, nothing).await?;
        }
        Ok(())
    }

    /// The number and the digest of a gateway's devices in a range of the ledger.
    async fn digest(
        &self,
        gateway: &Id,
        range: &RangeDigest,
    ) -> Result<(u32, DevicesDigest), StateError> {
        let mut progress = DigestProgress::begin(range);
        loop {
            let (gateway, until) = (gateway.clone(), range.until.clone());
            let read = open_work::read(&self.0.handle, move |view| {
                let more = progress.read_page(view, &gateway, until.as_ref())?;
                Ok((more, progress))
            });
            let (more, read) = read.await?;
            self.0.counters.work_reads.add(1);
            if !more {
                return Ok(read.finish());
            }
            progress = read;
        }
    }

    /// Sends open work again when it is due, until the node stops.
    pub async fn remind(&self) {
        let stop = self.0.stop.clone();
        let never = Duration::from_secs(3_600);
        while !stop.is_cancelled() {
            let due = self.reminders().take_due(DUE_MAX, Instant::now());
            if due.is_empty() {
                let next_at = self.reminders().next_at();
                let next_at = next_at.unwrap_or_else(|| Instant::now() + never);
                tokio::select! {
                    () = sleep_until(next_at) => {}
                    () = self.0.reminded.notified() => {}
                    () = stop.cancelled() => {}
                }
                continue;
            }
            if let Err(error) = self.remind_of(due.clone()).await {
                let error = error_chain(&error);
                tracing::error!(error, "open work can't be read");
                let mut reminders = self.reminders();
                due.into_iter()
                    .for_each(|one| reminders.again(one, Instant::now()));
            }
        }
    }

    async fn remind_of(&self, due: Vec<DueItem>) -> Result<(), StateError> {
        let sessions = &self.0.sessions;
        // One that comes back gets everything that is open then.
        let due = due.into_iter();
        let due: Vec<_> = due
            .filter(|one| sessions.is_connected(&one.gateway))
            .collect();
        if due.is_empty() {
            return Ok(());
        }
        self.0.counters.work_reads.add(due.len() as u64);
        let open = open_work::read(&self.0.handle, move |view| {
            let mut open = Vec::new();
            for one in due {
                if open_work::is_open(view, &one.gateway, &one.item)? {
                    open.push(one);
                }
            }
            Ok(open)
        });
        for one in open.await? {
            self.push(&one.gateway, vec![one.item.clone()]);
            self.reminders().again(one, Instant::now());
        }
        Ok(())
    }

    /// Adds what is selected of the ledger, page by page, off the runtime's threads.
    pub async fn scan(&self, gateway: &Id, selection: WorkSelection) -> Result<(), StateError> {
        let mut position = open_work::begin(&selection);
        while let Some(at) = position {
            let (items, next) = open_work::page(&self.0.handle, gateway, &selection, at).await?;
            self.0.counters.work_reads.add(1);
            self.add(gateway, items);
            position = next;
        }
        Ok(())
    }

    fn reminders(&self) -> MutexGuard<'_, Reminders> {
        let reminders = self.0.reminders.lock();
        reminders.unwrap_or_else(PoisonError::into_inner)
    }

    fn gateways(&self) -> MutexGuard<'_, BTreeMap<Id, GatewayQueue>> {
        let gateways = self.0.gateways.lock();
        gateways.unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, gateway: &Id, change: impl FnOnce(&mut PendingWork) -> T) -> T {
        let mut gateways = self.gateways();
        let running = gateways.contains_key(gateway);
        let queue = gateways.entry(gateway.clone()).or_default();
        let changed = change(&mut queue.pending);
        queue.changed.notify_one();
        drop(gateways);
        if !running {
            let (this, gateway) = (self.clone(), gateway.clone());
            self.0.tasks.spawn(async move {
                let stop = this.0.stop.clone();
                stop.run_until_cancelled(this.serve(&gateway)).await;
            });
        }
        changed
    }

    /// The next step for a gateway. Its queue is removed when there is none.
    fn next_step(&self, gateway: &Id) -> (NextStep, Arc<Notify>) {
        let mut gateways = self.gateways();
        let Some(queue) = gateways.get_mut(gateway) else {
            return (NextStep::Done, Arc::default());
        };
        let (next, changed) = (queue.pending.next(Instant::now()), queue.changed.clone());
        if next == NextStep::Done {
            gateways.remove(gateway);
        }
        (next, changed)
    }

    fn discard(&self, gateway: &Id, requests: u64) {
        if let Some(queue) = self.gateways().get_mut(gateway) {
            queue.pending.discard(requests);
        }
    }

    /// Sends to one gateway until nothing is left for it.
    async fn serve(&self, gateway: &Id) {
        loop {
            let (next, changed) = self.next_step(gateway);
            match next {
                NextStep::Done => return,
                NextStep::Wait(until) => tokio::select! {
                    () = sleep_until(until) => {}
                    () = changed.notified() => {}
                },
                NextStep::List => {
                    if let Err(error) = self.scan(gateway, WorkSelection::All).await {
                        self.log_unread(gateway, &error);
                        self.change(gateway, |pending| pending.schedule_listing(RETRY_PAUSE));
                    }
                }
                NextStep::ListOpen => {
                    if let Err(error) = self.scan(gateway, WorkSelection::Open).await {
                        self.log_unread(gateway, &error);
                        sleep(RETRY_PAUSE).await;
                        self.inspect(gateway);
                    }
                }
                NextStep::Send(items, requests) => {
                    if !self.send(gateway, items).await {
                        self.discard(gateway, requests);
                    }
                }
            }
        }
    }

    fn log_unread(&self, gateway: &Id, error: &StateError) {
        let error = error_chain(error);
        tracing::error!(error, %gateway, "the work of a gateway can't be read");
    }

    /// Sends items in as many messages as they need. False when the gateway is no longer here.
    async fn send(&self, gateway: &Id, items: Vec<WorkItem>) -> bool {
        let mut waiting = vec![items];
        while let Some(mut part) = waiting.pop() {
            let proven = {
                let _permit = self.0.proving.acquire().await;
                open_work::message(&self.0.handle, gateway, part.clone()).await
            };
            let message = match proven {
                Ok(message) => message,
                Err(error) => {
                    let error = error_chain(&*error);
                    tracing::warn!(error, %gateway, "work can't be proven yet");
                    if !self.0.sessions.is_connected(gateway) {
                        return false;
                    }
                    sleep(RETRY_PAUSE).await;
                    waiting.push(part);
                    continue;
                }
            };
            match open_work::to_payload(&message) {
                Some(payload) => {
                    if !self.deliver(gateway, payload).await {
                        return false;
                    }
                }
                None if part.len() > 1 => {
                    let rest = part.split_off(part.len() / 2);
                    waiting.extend([rest, part]);
                }
                None => {
                    tracing::error!(item = ?part[0], %gateway, "work is too long for a message")
                }
            }
        }
        true
    }

    /// Puts a message into the gateway's mailbox, and waits for room there. False when the gateway
    /// is no longer here.
    async fn deliver(&self, gateway: &Id, payload: Bytes) -> bool {
        let message = Message {
            topic: GatewayTopic::Work.of(gateway).into(),
            payload,
            ..Message::default()
        };
        loop {
            let Some(session) = self.0.sessions.find(gateway) else {
                return false;
            };
            match session.deliver_work(message.clone()) {
                Ok(()) => return true,
                Err(Undelivered::NoSubscriber) => return false,
                Err(Undelivered::Full) => {
                    let room = session.mailbox_room.notified();
                    timeout(ROOM_TIME, room).await.ok();
                }
            }
        }
    }
}
