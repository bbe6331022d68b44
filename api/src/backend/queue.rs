//! Work on its way to the gateways that are connected here. Nothing is left out because somebody is
//! busy: what a mailbox has no room for, or what can't be proven yet, waits here as a name, and
//! goes on when there is room.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lamplighter_ledger::Handle;
use lamplighter_state::StateError;
use lamplighter_types::Id;
use lamplighter_types::work::{DevicesHeld, WorkItem};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::pending::{Next, Pending, SYNC_WITHIN};
use super::work::{self, Wanted};
use crate::mqtt::Publisher;

/// Messages that are proven at once, for all gateways: proofs take turns with everything else that
/// reads the chain.
const PROVING_MAX: usize = 8;
/// What could not be proven or read is tried again after so long.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The queue. Clones share it. One task for each gateway that has something to come, which is
/// bounded in [`Pending::add`].
#[derive(Clone)]
pub(super) struct WorkQueue(Arc<Shared>);

struct Shared {
    handle: Handle,
    publisher: Publisher,
    proving: Semaphore,
    tasks: TaskTracker,
    stop: CancellationToken,
    gateways: Mutex<BTreeMap<Id, Entry>>,
}

#[derive(Default)]
struct Entry {
    pending: Pending,
    changed: Arc<Notify>,
}

impl WorkQueue {
    pub fn new(
        handle: Handle,
        publisher: Publisher,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self(Arc::new(Shared {
            handle,
            publisher,
            proving: Semaphore::new(PROVING_MAX),
            tasks,
            stop,
            gateways: Mutex::default(),
        }))
    }

    /// Adds work for a gateway that is connected here.
    pub fn add(&self, gateway: &Id, items: Vec<WorkItem>) {
        if !items.is_empty() {
            let left_out = self.change(gateway, |pending| pending.add(items));
            if left_out > 0 {
                tracing::warn!(%gateway, left_out, "a gateway has too much work to come");
            }
        }
    }

    /// A gateway listens from now on. It is told all that is open, unless it says shortly what it
    /// has.
    pub fn listens(&self, gateway: &Id) {
        self.change(gateway, |pending| pending.list(SYNC_WITHIN));
    }

    /// A gateway is told all that is open.
    pub fn list(&self, gateway: &Id) {
        self.change(gateway, |pending| pending.list(Duration::ZERO));
    }

    /// Tells a gateway where the ledger differs from the devices that it holds, and which of its
    /// devices have something to be done.
    pub async fn compare(&self, gateway: &Id, held: DevicesHeld) -> Result<(), StateError> {
        self.change(gateway, Pending::said);
        self.look(gateway, Wanted::Difference(Arc::new(held))).await
    }

    /// Looks for something in the ledger, page by page, off the runtime's threads.
    pub async fn look(&self, gateway: &Id, wanted: Wanted) -> Result<(), StateError> {
        let mut place = work::begin(&wanted);
        while let Some(at) = place {
            let (items, next) = work::page(&self.0.handle, gateway, &wanted, at).await?;
            self.add(gateway, items);
            place = next;
        }
        Ok(())
    }

    fn gateways(&self) -> MutexGuard<'_, BTreeMap<Id, Entry>> {
        let gateways = self.0.gateways.lock();
        gateways.unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, gateway: &Id, change: impl FnOnce(&mut Pending) -> T) -> T {
        let mut gateways = self.gateways();
        let known = gateways.contains_key(gateway);
        let entry = gateways.entry(gateway.clone()).or_default();
        let changed = change(&mut entry.pending);
        entry.changed.notify_one();
        drop(gateways);
        if !known {
            let (this, gateway) = (self.clone(), gateway.clone());
            self.0.tasks.spawn(async move {
                let stop = this.0.stop.clone();
                stop.run_until_cancelled(this.serve(&gateway)).await;
            });
        }
        changed
    }

    /// What is next for a gateway; its entry ends with its task.
    fn next(&self, gateway: &Id) -> (Next, Arc<Notify>) {
        let mut gateways = self.gateways();
        let Some(entry) = gateways.get_mut(gateway) else {
            return (Next::Nothing, Arc::default());
        };
        let (next, changed) = (entry.pending.next(Instant::now()), entry.changed.clone());
        if next == Next::Nothing {
            gateways.remove(gateway);
        }
        (next, changed)
    }

    fn forget(&self, gateway: &Id, asked: u64) {
        if let Some(entry) = self.gateways().get_mut(gateway) {
            entry.pending.forget(asked);
        }
    }

    /// Sends to one gateway until nothing is left for it.
    async fn serve(&self, gateway: &Id) {
        loop {
            let (next, changed) = self.next(gateway);
            match next {
                Next::Nothing => return,
                Next::Wait(until) => tokio::select! {
                    () = sleep_until(until) => {}
                    () = changed.notified() => {}
                },
                Next::List => {
                    if let Err(error) = self.look(gateway, Wanted::All).await {
                        let error = crate::http::chain(&error);
                        tracing::error!(error, %gateway, "the work of a gateway can't be read");
                        self.change(gateway, |pending| pending.list(AGAIN_AFTER));
                    }
                }
                Next::Send(items, asked) => {
                    if !self.send(gateway, items).await {
                        self.forget(gateway, asked);
                    }
                }
            }
        }
    }

    /// Sends items in as many messages as they need. False when the gateway is not here any more.
    async fn send(&self, gateway: &Id, items: Vec<WorkItem>) -> bool {
        let mut waiting = vec![items];
        while let Some(mut part) = waiting.pop() {
            let proven = {
                let _permit = self.0.proving.acquire().await;
                work::message(&self.0.handle, gateway, part.clone()).await
            };
            let message = match proven {
                Ok(message) => message,
                Err(error) => {
                    let error = crate::http::chain(&*error);
                    tracing::warn!(error, %gateway, "work can't be proven yet");
                    if !self.0.publisher.is_connected(gateway.as_str()) {
                        return false;
                    }
                    sleep(AGAIN_AFTER).await;
                    waiting.push(part);
                    continue;
                }
            };
            match work::fitting(&message) {
                Some(json) => {
                    if !self.publish(gateway, json).await {
                        return false;
                    }
                }
                None if part.len() > 1 => {
                    let rest = part.split_off(part.len() / 2);
                    waiting.extend([rest, part]);
                }
                None => tracing::error!(item = ?part[0], %gateway, "work is too long to be told"),
            }
        }
        true
    }

    /// Puts a message into the gateway's mailbox; waits for room there.
    async fn publish(&self, gateway: &Id, json: bytes::Bytes) -> bool {
        loop {
            let published = self
                .0
                .publisher
                .publish_work(gateway.as_str(), json.clone());
            match published {
                Ok(()) => return true,
                Err(error) if error.is_nobody_there() => return false,
                Err(error) if error.is_full() => self.0.publisher.room(gateway.as_str()).await,
                Err(error) => {
                    let error = crate::http::chain(&error);
                    tracing::error!(error, %gateway, "work was not delivered");
                    return true;
                }
            }
        }
    }
}
