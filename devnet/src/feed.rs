//! A subscriber of the feed, which collects what was notified and lets steps wait for it.

use std::collections::BTreeMap;
use std::time::Duration;

use lamplighter_client::{Client, Cursor, FeedFilter};
use lamplighter_types::{AlarmId, DeploymentState, Fact, Hash, Id, RolloutStatus, SkipReason};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use lamplighter_system::error_chain;

use crate::DevnetError;

/// The state collected from all notifications so far.
#[derive(Clone, Debug, Default)]
pub struct FeedState {
    /// Notifications by the name of their fact.
    pub counts: BTreeMap<String, u64>,
    /// The newest state of each deployment.
    pub deployments: BTreeMap<(Id, Id), DeploymentState>,
    /// Deployments that failed by the report of a Thing or gateway: rollout, device, result code.
    pub failures: Vec<(Id, Id, u32)>,
    /// Devices that got no deployment, with the reason.
    pub skipped: Vec<(Id, Id, SkipReason)>,
    /// Block time of the last confirmation of each rollout, Unix ms.
    pub confirmed_ms: BTreeMap<Id, u64>,
    pub rollouts: BTreeMap<Id, RolloutStatus>,
    /// Validators that hold an artifact.
    pub holders: BTreeMap<Hash, u32>,
    /// Alarms; true once they are acknowledged.
    pub alarms: BTreeMap<AlarmId, bool>,
    /// Device, number and kind of each event.
    pub events: Vec<(Id, u64, String)>,
    /// Devices that have reported their running image.
    pub inventories: BTreeMap<Id, Hash>,
    /// Devices that applied a configuration document.
    pub applied: BTreeMap<Id, Hash>,
    pub height: u64,
    /// Notifications that came twice or out of order: always 0 if the ledger works.
    pub disorder: u64,
    /// The reason of the end of the subscription.
    pub ended: Option<String>,
}

impl FeedState {
    /// Deployments of a rollout by their state.
    pub fn by_state(&self, rollout: &Id) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for ((of, _), state) in &self.deployments {
            if of == rollout {
                *counts.entry(name_of(state)).or_default() += 1;
            }
        }
        counts
    }

    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    fn apply(&mut self, device: Option<Id>, fact: Fact, time_ms: u64) {
        *self.counts.entry(fact.kind()).or_default() += 1;
        match fact {
            Fact::DeploymentMoved {
                rollout,
                from,
                to,
                code,
                ..
            } => {
                // A failure that is tried again is notified as a move from failed to assigned.
                let again = from == Some(DeploymentState::Failed);
                if let Some(device) = device.clone().filter(|_| again || to.is_failure()) {
                    self.failures.push((rollout.clone(), device, code));
                }
                if to == DeploymentState::Confirmed {
                    self.confirmed_ms.insert(rollout.clone(), time_ms);
                }
                if let Some(device) = device {
                    self.deployments.insert((rollout, device), to);
                }
            }
            Fact::DeploymentSkipped { rollout, reason } => {
                self.skipped
                    .extend(device.map(|device| (rollout, device, reason)));
            }
            Fact::RolloutStarted { rollout } => self.rollout(rollout, RolloutStatus::Running),
            Fact::RolloutFinished { rollout } => self.rollout(rollout, RolloutStatus::Finished),
            Fact::RolloutPaused { rollout, .. } => self.rollout(rollout, RolloutStatus::Paused),
            Fact::RolloutStopped { rollout } => self.rollout(rollout, RolloutStatus::Stopped),
            Fact::ArtifactHeld {
                artifact, holders, ..
            } => {
                self.holders.insert(artifact, holders);
            }
            Fact::AlarmRaised { alarm, .. } => {
                self.alarms.insert(alarm, false);
            }
            Fact::AlarmAcknowledged { alarm, .. } => {
                self.alarms.insert(alarm, true);
            }
            Fact::EventAppended { kind, sequence, .. } => {
                self.events
                    .extend(device.map(|device| (device, sequence, kind)));
            }
            Fact::InventoryReported { digest } => {
                self.inventories
                    .extend(device.map(|device| (device, digest)));
            }
            Fact::ConfigReported {
                document,
                applied: true,
            } => {
                self.applied.extend(device.map(|device| (device, document)));
            }
            _ => {}
        }
    }

    fn rollout(&mut self, rollout: Id, status: RolloutStatus) {
        self.rollouts.insert(rollout, status);
    }
}

/// The name of a state or reason as in JSON.
pub(crate) fn name_of(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).expect("our types have JSON forms");
    value.as_str().unwrap_or_default().to_owned()
}

/// A running subscription.
#[derive(Debug)]
pub struct FeedSubscriber {
    seen: watch::Receiver<FeedState>,
    task: JoinHandle<()>,
}

impl FeedSubscriber {
    /// Subscribes to everything from the first block on.
    pub fn start(client: &Client) -> Self {
        let (writer, seen) = watch::channel(FeedState::default());
        let mut feed = client.feed(&FeedFilter::default(), Some(Cursor::default()));
        let task = tokio::spawn(async move {
            let mut last = Cursor::default();
            loop {
                match feed.next().await {
                    Ok(delivery) => writer.send_modify(|seen| {
                        if delivery.cursor <= last {
                            seen.disorder += 1;
                        }
                        last = delivery.cursor;
                        seen.height = delivery.cursor.height;
                        let device = delivery.notification.place.map(|place| place.device);
                        seen.apply(device, delivery.notification.fact, delivery.time_ms);
                    }),
                    Err(error) => {
                        writer.send_modify(|seen| seen.ended = Some(error_chain(&error)));
                        return;
                    }
                }
            }
        });
        Self { seen, task }
    }

    pub fn seen(&self) -> FeedState {
        self.seen.borrow().clone()
    }

    /// Waits until the collected state fulfils a condition.
    ///
    /// # Errors
    /// The condition was not fulfilled in time, or the subscription ended.
    pub async fn until(
        &self,
        what: &str,
        within: Duration,
        mut done: impl FnMut(&FeedState) -> bool,
    ) -> Result<FeedState, DevnetError> {
        let mut seen = self.seen.clone();
        let reached = seen.wait_for(|seen| seen.ended.is_some() || done(seen));
        let found = match tokio::time::timeout(within, reached).await {
            Ok(Ok(found)) => found.clone(),
            _ => {
                let counts = &self.seen.borrow().counts;
                let counts = counts.iter().map(|(kind, count)| format!("{kind} {count}"));
                let seen = counts.collect::<Vec<_>>().join(", ");
                return Err(DevnetError::Deadline {
                    what: what.to_owned(),
                    within,
                    seen,
                });
            }
        };
        match found.ended.clone() {
            Some(reason) => Err(DevnetError::Unexpected(format!(
                "the event stream ended: {reason}"
            ))),
            None => Ok(found),
        }
    }
}

impl Drop for FeedSubscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}
