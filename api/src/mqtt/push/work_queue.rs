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
use lamplighter_types::wire::work::{DevicesHeld, WorkItem};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::open_work::{self, WorkSelection};
use super::pending::{NextStep, PendingWork, SYNC_TIMEOUT};
use crate::mqtt::codec::Message;
use crate::mqtt::limits::ROOM_TIME;
use crate::mqtt::session::{SessionRegistry, Undelivered};

/// Messages that are proven at once, for all gateways: proofs take turns with everything else that
/// reads the chain.
const PROVING_MAX: usize = 8;
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
        }))
    }

    /// Adds work for a gateway that is connected here.
    pub fn add(&self, gateway: &Id, items: Vec<WorkItem>) {
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
        self.change(gateway, |pending| pending.schedule_listing(SYNC_TIMEOUT));
    }

    /// Sends a gateway all that is open for it.
    pub fn send_all(&self, gateway: &Id) {
        self.change(gateway, |pending| pending.schedule_listing(Duration::ZERO));
    }

    /// Sends a gateway the devices for which the ledger differs from what it holds, and what is
    /// open for its devices.
    pub async fn send_difference(&self, gateway: &Id, held: DevicesHeld) -> Result<(), StateError> {
        self.change(gateway, PendingWork::cancel_listing);
        self.scan(gateway, WorkSelection::Difference(Arc::new(held)))
            .await
    }

    /// Adds what is selected of the ledger, page by page, off the runtime's threads.
    pub async fn scan(&self, gateway: &Id, selection: WorkSelection) -> Result<(), StateError> {
        let mut position = open_work::begin(&selection);
        while let Some(at) = position {
            let (items, next) = open_work::page(&self.0.handle, gateway, &selection, at).await?;
            self.add(gateway, items);
            position = next;
        }
        Ok(())
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
                        let error = error_chain(&error);
                        tracing::error!(error, %gateway, "the work of a gateway can't be read");
                        self.change(gateway, |pending| pending.schedule_listing(RETRY_PAUSE));
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
