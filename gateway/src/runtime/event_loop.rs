//! The event loop: one task that owns the gateway's state and handles one input after the other.

mod inventory;
mod task_results;

use std::collections::VecDeque;
use std::time::Duration;

use lamplighter_system::unix_ms;
use lamplighter_types::Hash;
use lamplighter_types::wire::ReceiptMessage;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::GatewayError;
use super::device_sync::DeviceSync;
use super::inventory::Inventories;
use super::newest_head::NewestHead;
use super::node_progress::{NodeProgress, ProgressStep};
use super::report_check::ReportCheck;
use super::storage::{PendingReport, Storage, answer, on_disk};
use super::tasks::BackgroundTasks;
use super::thing_events::on_thing;
use super::values::{PendingValues, ValueEvents};
use super::work::WorkReceiver;
use crate::deployments::{DeploymentPlanner, Effect};
use crate::north::{NodeEvent, NodeRequest};
use crate::south::{South, SouthCommand, SouthEvent, StorageReply};
use crate::spool::OutgoingReport;
use crate::submission::{SubmitCommand, Submitter};

/// Events of Things that are stored with one sync.
const GROUP_MAX: usize = 256;
/// Reports are gathered for one transaction during this time.
const GATHER: Duration = Duration::from_millis(50);
/// Commands that wait for the south: a few for each device that a mesh can carry.
const COMMANDS_MAX: usize = 20_000;

/// The state of the gateway, which only the event loop uses.
pub(super) struct EventLoop {
    pub chain_id: Hash,
    pub storage: Storage,
    pub tasks: BackgroundTasks,
    pub planner: DeploymentPlanner,
    pub submitter: Submitter,
    pub work: WorkReceiver,
    pub device_sync: DeviceSync,
    pub progress: NodeProgress,
    pub newest_head: NewestHead,
    pub values: ValueEvents,
    pub inventories: Inventories,
    /// The clock of this machine can be right.
    pub clock_is_set: bool,
    /// The number of the newest connection that the link has to leave.
    pub left: watch::Sender<u64>,
    pub south: South,
    /// Commands that wait for a place in the south's queue.
    pub commands: VecDeque<SouthCommand>,
    pub node_requests: mpsc::Sender<NodeRequest>,
    /// The number of ticks whose work was done.
    pub turns: watch::Sender<u64>,
    pub stop: CancellationToken,
}

impl EventLoop {
    /// Runs until the token is cancelled, or something fails that can't be worked around.
    pub async fn run(
        mut self,
        mut south_events: mpsc::Receiver<SouthEvent>,
        mut node_events: mpsc::Receiver<NodeEvent>,
    ) -> Result<(), GatewayError> {
        let stop = self.stop.clone();
        let south = self.south.commands();
        let node_requests = self.node_requests.clone();
        let mut tick = tokio::time::interval(GATHER);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut group = Vec::with_capacity(GROUP_MAX);
        let ended = loop {
            tokio::select! {
                () = stop.cancelled() => break None,
                count = south_events.recv_many(&mut group, GROUP_MAX) => {
                    if count == 0 {
                        break Some("the south side");
                    }
                    self.on_south_events(std::mem::take(&mut group))?;
                }
                // Otherwise the node keeps the rest.
                event = node_events.recv(), if self.work.has_capacity() => {
                    let Some(event) = event else { break Some("the link to the nodes") };
                    self.on_node_event(event)?;
                }
                Some(result) = self.tasks.next() => {
                    self.on_task_result(result.map_err(GatewayError::Task)?)?;
                }
                permit = south.reserve(), if !self.commands.is_empty() => {
                    let Ok(permit) = permit else { break Some("the south side") };
                    if let Some(command) = self.commands.pop_front() {
                        permit.send(command);
                    }
                }
                permit = node_requests.reserve(), if self.has_request() => {
                    let Ok(permit) = permit else { break Some("the link to the nodes") };
                    if let Some(request) = self.next_request() {
                        permit.send(request);
                    }
                }
                _ = tick.tick() => self.on_tick()?,
            }
        };
        // The link may see before this loop that the gateway stops.
        if let Some(ended) = ended.filter(|_| !stop.is_cancelled()) {
            return Err(GatewayError::Ended(ended));
        }
        self.tasks.shutdown().await;
        self.storage.save_devices();
        on_disk(|| self.newest_head.save(Instant::now()));
        self.save_inventories(true);
        self.south.close().await;
        Ok(())
    }

    fn has_request(&self) -> bool {
        self.device_sync.has_request() || self.submitter.has_transaction()
    }

    fn next_request(&mut self) -> Option<NodeRequest> {
        if let Some(request) = self.device_sync.next_request() {
            return Some(NodeRequest::sync(&request));
        }
        let spool = self.storage.spool();
        let submitter = &mut self.submitter;
        let transaction = submitter.next_transaction(spool, Instant::now())?;
        Some(NodeRequest::transaction(transaction))
    }

    /// Stores the reports of Things, all with one sync, and answers them; then handles the rest.
    fn on_south_events(&mut self, events: Vec<SouthEvent>) -> Result<(), GatewayError> {
        let (mut effects, mut pending) = (Vec::new(), Vec::new());
        let now_ms = self.now_ms();
        let (events, questions) = self.take_inventories(events);
        let storage = &mut self.storage;
        for event in events {
            if let SouthEvent::Values {
                endpoint,
                values,
                stored,
            } = event
            {
                let Some(device) = storage.speaks_for(&endpoint) else {
                    let reason = "the device has a key: what it does not sign does not count";
                    answer(stored, StorageReply::Unavailable(reason.to_owned()));
                    continue;
                };
                let values = PendingValues {
                    device: device.clone(),
                    values,
                    stored,
                };
                let (reports, ask) = self.values.accept(values, storage.spool(), now_ms);
                pending.extend(reports);
                if ask {
                    self.tasks.fetch_event_number(device);
                }
                continue;
            }
            let is_event = matches!(event, SouthEvent::Event { .. });
            let (endpoint, bytes, stored) = match event {
                SouthEvent::Report {
                    endpoint,
                    bytes,
                    stored,
                }
                | SouthEvent::Event {
                    endpoint,
                    bytes,
                    stored,
                } => (endpoint, bytes, stored),
                other => {
                    effects.extend(on_thing(&mut self.planner, other, now_ms));
                    continue;
                }
            };
            let check = ReportCheck {
                devices: storage.devices(),
                chain_id: &self.chain_id,
                endpoint: &endpoint,
            };
            let checked = if is_event {
                check.event(&bytes).map(Some)
            } else {
                check.report(&bytes)
            };
            match checked {
                Ok(Some(outgoing)) => pending.push((outgoing, stored)),
                Ok(None) => answer(stored, StorageReply::Stored),
                Err(reason) => {
                    tracing::warn!(endpoint, %reason, "a Thing's report was not taken");
                    answer(stored, storage.reject(&endpoint, &bytes, reason));
                }
            }
        }
        self.store(pending)?;
        effects.extend(questions);
        self.carry_out(effects)
    }

    /// Stores reports and events with one sync, and answers the Things.
    fn store(&mut self, pending: Vec<PendingReport>) -> Result<(), GatewayError> {
        let submitter = &self.submitter;
        let is_deferred = |outgoing: &OutgoingReport| submitter.is_deferred(outgoing);
        for outgoing in self.storage.store_reports(pending, is_deferred)? {
            if let OutgoingReport::Deployment(report) = &outgoing {
                self.planner.report_stored(report);
            }
        }
        Ok(())
    }

    fn on_node_event(&mut self, event: NodeEvent) -> Result<(), GatewayError> {
        match event {
            NodeEvent::Connected(node) => {
                // This node can prove over HTTP the receipts that it announces over MQTT, while
                // others may be a block behind.
                self.tasks.prefer_node(node);
                self.progress.connected(Instant::now());
                self.start_sync();
                let spool = self.storage.spool();
                let commands = self.submitter.connected(spool);
                self.submit(commands)
            }
            NodeEvent::Disconnected => {
                self.device_sync.stop();
                self.progress.disconnected();
                self.submitter.disconnected();
                Ok(())
            }
            NodeEvent::Receipt(payload) => self.on_receipt(&payload),
            // It can't be told whether work is recent: the node sends it again.
            NodeEvent::Work(_) if !self.clock_is_set => Ok(()),
            NodeEvent::Work(payload) => {
                let now_ms = self.now_ms();
                let ranges = self.work.receive(&payload, now_ms, &mut self.tasks);
                let (devices, now) = (self.storage.devices(), Instant::now());
                for range in ranges {
                    self.device_sync.answer(|| devices.held(&range), now);
                }
                Ok(())
            }
            NodeEvent::Head(payload) => {
                let tasks = &mut self.tasks;
                if let Some(head) = self.work.certified_head(&payload, tasks) {
                    self.planner.observe_height(head.height);
                    let now_ms = unix_ms();
                    self.newest_head
                        .observe(head.height, head.timestamp_ms, now_ms);
                    self.progress.head(head.timestamp_ms, Instant::now());
                }
                Ok(())
            }
        }
    }

    /// The time by which the age of proofs is measured, in Unix ms.
    fn now_ms(&self) -> u64 {
        self.newest_head.time_ms(unix_ms())
    }

    /// Handles a node's message about a transaction. It is only a hint: a receipt counts when it is
    /// proven.
    fn on_receipt(&mut self, payload: &[u8]) -> Result<(), GatewayError> {
        let Ok(message) = serde_json::from_slice::<ReceiptMessage>(payload) else {
            tracing::warn!("a node sent something that is no receipt");
            return Ok(());
        };
        let spool = self.storage.spool();
        let in_flight = |transaction: &Hash| spool.transaction(transaction).is_some();
        let Some(transaction) = message.transaction().filter(in_flight) else {
            return Ok(());
        };
        let submitter = &mut self.submitter;
        if !matches!(message, ReceiptMessage::Refused { .. }) {
            let command = submitter.receipt_announced(transaction, spool);
            return self.submit(command);
        }
        let text = String::from_utf8_lossy(&payload[..payload.len().min(300)]);
        tracing::warn!(%transaction, %text, "a node refused a transaction; it is signed again");
        let commands = submitter.transaction_refused(transaction, spool, Instant::now());
        self.submit(commands)
    }

    /// Announces the devices of this gateway; the node sends what is different on the ledger.
    fn start_sync(&mut self) {
        let digest = self.storage.devices().digest();
        self.device_sync.start(digest, Instant::now());
    }

    fn on_tick(&mut self) -> Result<(), GatewayError> {
        self.check_clock();
        on_disk(|| self.newest_head.save_if_due(Instant::now()));
        self.storage.save_devices_if_due();
        self.save_inventories(false);
        if self.clock_is_set {
            let effects = self.planner.tick(self.now_ms());
            self.carry_out(effects)?;
        }
        if self.device_sync.is_due(Instant::now()) {
            self.start_sync();
        }
        let spool = self.storage.spool();
        let has_in_flight = !spool.in_flight().is_empty();
        let commands = self.submitter.tick(spool, Instant::now());
        self.submit(commands)?;
        if self.clock_is_set {
            self.sign_waiting()?;
        }
        let step = self.progress.tick(has_in_flight, Instant::now());
        self.on_progress(step);
        self.turns.send_modify(|turns| *turns += 1);
        Ok(())
    }

    /// Notices whether the clock is set. Once it is, what the node sent before is asked for again.
    fn check_clock(&mut self) {
        let is_set = self.newest_head.is_clock_set(unix_ms(), Instant::now());
        if is_set && !self.clock_is_set {
            tracing::info!("the clock is set now");
            self.device_sync.prove_again(Instant::now());
        }
        self.clock_is_set = is_set;
    }

    /// Leaves the node that the gateway is connected to, or compares it with the others.
    fn on_progress(&mut self, step: ProgressStep) {
        match step {
            ProgressStep::Stay => {}
            ProgressStep::SendElsewhere => {
                // One is enough to know what the others are worth.
                if let Some(in_flight) = self.storage.spool().in_flight().values().next() {
                    let (transaction, envelope) = (in_flight.transaction, &in_flight.envelope);
                    let connection = self.progress.connection();
                    self.tasks
                        .send_elsewhere(connection, transaction, envelope.clone());
                }
            }
            ProgressStep::AskOthers { newer_than_ms } => {
                self.tasks.ask_others(newer_than_ms);
            }
            ProgressStep::Leave(reason) => {
                tracing::warn!(reason, "the node makes no progress: the next one is tried");
                self.left.send_replace(self.progress.connection());
            }
        }
    }

    /// Signs the reports that wait, batch by batch.
    fn sign_waiting(&mut self) -> Result<(), GatewayError> {
        loop {
            let spool = self.storage.spool();
            let submitter = &self.submitter;
            let Some(record) = submitter.sign_next(spool, Instant::now(), unix_ms()) else {
                return Ok(());
            };
            self.submit([SubmitCommand::Store(record)])?;
        }
    }

    /// Carries out commands of the submission, and those that follow from them.
    fn submit(
        &mut self,
        commands: impl IntoIterator<Item = SubmitCommand>,
    ) -> Result<(), GatewayError> {
        let mut commands: VecDeque<_> = commands.into_iter().collect();
        let mut effects = Vec::new();
        let now_ms = self.now_ms();
        let Self {
            storage,
            tasks,
            submitter,
            planner,
            values,
            ..
        } = self;
        while let Some(command) = commands.pop_front() {
            match command {
                SubmitCommand::QuerySequence => tasks.fetch_sequence(),
                SubmitCommand::FetchReceipt(transaction) => tasks.fetch_receipt(transaction),
                SubmitCommand::Store(record) => {
                    let stored = storage.commit(vec![record.clone()])?;
                    let (spool, now) = (storage.spool(), Instant::now());
                    commands.extend(submitter.stored(&record, stored, spool, now));
                }
                SubmitCommand::Resolve {
                    mut outcome,
                    height,
                } => {
                    let stored = storage.resolve(&mut outcome)?;
                    let (spool, now) = (storage.spool(), Instant::now());
                    commands.extend(submitter.outcome_stored(&outcome, stored, spool, now));
                    for report in outcome.resolved.iter().filter(|_| stored) {
                        let (outgoing, rejected) = (&report.outgoing, report.rejection.is_some());
                        if rejected && outgoing.is_event() {
                            values.forget_number(outgoing.device());
                        }
                        let step = planner.report_resolved(outgoing, rejected, height, now_ms);
                        effects.extend(step);
                    }
                }
            }
        }
        self.carry_out(effects)
    }

    /// Carries out the effects of the planner.
    fn carry_out(&mut self, effects: Vec<Effect>) -> Result<(), GatewayError> {
        let mut reports = Vec::new();
        for effect in effects {
            match effect {
                Effect::Report(outgoing) => reports.push(*outgoing),
                Effect::FetchArtifact {
                    device,
                    digest,
                    size_bytes,
                } => {
                    let in_use = self.planner.artifacts();
                    let tasks = &mut self.tasks;
                    tasks.fetch_artifact(device, digest, size_bytes, in_use);
                }
                Effect::Command(command) if self.commands.len() >= COMMANDS_MAX => {
                    let endpoint = command.endpoint();
                    tracing::error!(endpoint, "too many commands wait for the south");
                }
                Effect::Command(command) => self.commands.push_back(command),
                Effect::FetchChanges { device, trusted } => {
                    self.tasks.fetch_changes(device, trusted);
                }
                Effect::ProveAgain => self.device_sync.prove_again(Instant::now()),
            }
        }
        for report in self.storage.add_reports(&reports)? {
            // As after a rejection, the planner tries again after a pause.
            self.planner.report_resolved(report, true, 0, unix_ms());
        }
        Ok(())
    }
}
