//! The task that owns everything: takes one input after the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lamplighter_client::{Client, ClientError};
use lamplighter_types::proof::SetChange;
use lamplighter_types::work::DevicesHeld;
use lamplighter_types::{Genesis, Hash, Id, Receipt, SecretKey};
use tokio::runtime::RuntimeFlavor;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::GatewayError;
use super::devices::Devices;
use super::effects::JUDGING_MAX;
use super::intake::{self, Remedy, Unfit};
use super::jobs::{Effect, Jobs};
use super::refused::Refused;
use crate::artifact::Cache;
use crate::config::GatewayConfig;
use crate::north::held::Held;
use crate::north::link::{FromNode, ToNode};
use crate::south::{South, SouthCommand, SouthEvent, StorageReply};
use crate::spool::{BATCH_ITEMS_MAX, Outgoing, Record, Spool};
use crate::verify::{Distrust, ProvenState};

/// Events of Things that are stored with one sync.
const GROUP_MAX: usize = 256;
/// The table of devices is written at most this often, whatever comes in.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// How long reports are gathered for one transaction.
const GATHER: Duration = Duration::from_millis(50);

/// What the gateway is made of.
pub(super) struct Parts {
    pub config: GatewayConfig,
    pub genesis: Genesis,
    pub secret: SecretKey,
    pub client: Client,
    pub spool: Spool,
    pub cache: Cache,
    pub devices: Devices,
    pub refused: Refused,
    pub south: South,
    pub stop: CancellationToken,
}

/// What a task that was sent out brings back.
pub(super) enum Done {
    Prepared {
        device: Id,
        digest: Hash,
        good: bool,
    },
    Proved {
        transaction: Hash,
        result: Result<(Receipt, u64), ClientError>,
    },
    Judged(Box<Result<(lamplighter_types::work::WorkMessage, ProvenState), Distrust>>),
    Highest(Result<u64, ClientError>),
}

pub(super) struct Actor {
    pub(super) parts: Parts,
    pub(super) chain_id: Hash,
    pub(super) jobs: Jobs,
    pub(super) tasks: JoinSet<Done>,
    /// Commands that wait for a place in the south's queue.
    pub(super) commands: VecDeque<SouthCommand>,
    /// Transactions that wait for a place in the link's queue.
    pub(super) outgoing: VecDeque<Hash>,
    /// What the node is still to be told of the devices that we hold.
    pub(super) syncs: VecDeque<DevicesHeld>,
    /// When it is told again: what was missed, or not believed, comes then.
    pub(super) sync_at: Instant,
    /// The table of devices was last written then.
    saved_at: Instant,
    pub(super) connected: bool,
    /// When each transaction was last sent.
    pub(super) sent: BTreeMap<Hash, Instant>,
    pub(super) proving: BTreeSet<Hash>,
    /// Transactions of which a node says that they have a receipt.
    pub(super) hinted: BTreeSet<Hash>,
    /// Reports that the ledger does not take now.
    pub(super) held: Held,
    pub(super) judging: usize,
    /// Sequence numbers of the key are known; nothing is signed before.
    pub(super) sequence_known: bool,
    pub(super) asking_sequence: bool,
    /// After a refusal nothing is signed until then.
    pub(super) hold_until: Instant,
    pub(super) to_node: mpsc::Sender<ToNode>,
    /// How the validators of the newest proven head came into force.
    pub(super) set_changes: Vec<SetChange>,
}

/// Unix time in ms; 0 if the clock is before 1970.
pub(super) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

impl Actor {
    pub(super) fn new(parts: Parts, to_node: mpsc::Sender<ToNode>) -> Self {
        Self {
            chain_id: parts.genesis.chain_id(),
            parts,
            jobs: Jobs::default(),
            tasks: JoinSet::new(),
            commands: VecDeque::new(),
            outgoing: VecDeque::new(),
            syncs: VecDeque::new(),
            sync_at: Instant::now(),
            saved_at: Instant::now(),
            connected: false,
            sent: BTreeMap::new(),
            proving: BTreeSet::new(),
            hinted: BTreeSet::new(),
            held: Held::default(),
            judging: 0,
            sequence_known: false,
            asking_sequence: false,
            hold_until: Instant::now(),
            to_node,
            set_changes: Vec::new(),
        }
    }

    /// Works until the token is cancelled or something fails that can't be worked around.
    pub(super) async fn run(
        mut self,
        mut south_events: mpsc::Receiver<SouthEvent>,
        mut node_events: mpsc::Receiver<FromNode>,
    ) -> Result<(), GatewayError> {
        let (stop, south) = (self.parts.stop.clone(), self.parts.south.commands());
        let to_node = self.to_node.clone();
        let mut tick = tokio::time::interval(GATHER);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut group = Vec::with_capacity(GROUP_MAX);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                count = south_events.recv_many(&mut group, GROUP_MAX) => {
                    if count == 0 {
                        return Err(GatewayError::Ended("the south side"));
                    }
                    self.on_things(std::mem::take(&mut group)).await?;
                }
                // Otherwise the node keeps the rest.
                event = node_events.recv(), if self.judging < JUDGING_MAX => match event {
                    Some(event) => self.on_node(event).await?,
                    None if stop.is_cancelled() => break,
                    None => return Err(GatewayError::Ended("the link to the nodes")),
                },
                Some(done) = self.tasks.join_next() => match done {
                    Ok(done) => self.on_done(done).await?,
                    Err(error) => return Err(GatewayError::Task(error)),
                },
                permit = south.reserve(), if !self.commands.is_empty() => {
                    let permit = permit.map_err(|_| GatewayError::Ended("the south side"))?;
                    if let Some(command) = self.commands.pop_front() {
                        permit.send(command);
                    }
                }
                permit = to_node.reserve(), if self.has_message() => {
                    let permit = permit.map_err(|_| GatewayError::Ended("the link"))?;
                    if let Some(message) = self.next_message() {
                        permit.send(message);
                    }
                }
                _ = tick.tick() => self.on_tick().await?,
            }
        }
        self.tasks.shutdown().await;
        self.save_devices();
        self.parts.south.close().await;
        Ok(())
    }

    /// Stores what Things handed in, all with one sync, and answers them; then the rest.
    async fn on_things(&mut self, events: Vec<SouthEvent>) -> Result<(), GatewayError> {
        let mut taken = Vec::new();
        let mut effects = Vec::new();
        for event in events {
            match event {
                SouthEvent::Report {
                    endpoint,
                    bytes,
                    stored,
                } => {
                    let read =
                        intake::report(&self.parts.devices, &self.chain_id, &endpoint, &bytes);
                    taken.push((read, endpoint, bytes, stored));
                }
                SouthEvent::Event {
                    endpoint,
                    bytes,
                    stored,
                } => {
                    let read =
                        intake::event(&self.parts.devices, &self.chain_id, &endpoint, &bytes);
                    taken.push((read.map(Some), endpoint, bytes, stored));
                }
                other => effects.extend(self.on_south(other)),
            }
        }
        let mut kept = Vec::new();
        for (read, endpoint, bytes, stored) in taken {
            match read {
                Ok(Some(outgoing)) => kept.push((outgoing, stored)),
                Ok(None) => answer(stored, StorageReply::Stored),
                Err(unfit) => {
                    tracing::warn!(endpoint, %unfit, "a Thing's report was not taken");
                    answer(stored, self.refuse(&endpoint, &bytes, unfit));
                }
            }
        }
        self.keep(kept).await?;
        self.carry_out(effects).await
    }

    /// The answer to a report that is not taken. What the Thing shall forget is written down first.
    fn refuse(&mut self, endpoint: &str, bytes: &[u8], unfit: Unfit) -> StorageReply {
        let reason = unfit.to_string();
        match unfit.remedy() {
            Remedy::Register => StorageReply::Unregistered(reason),
            Remedy::Wait => StorageReply::Unavailable(reason),
            Remedy::Forget => {
                let refused = &mut self.parts.refused;
                match on_disk(|| refused.add_unread(endpoint, bytes, unfit, now_ms())) {
                    Ok(()) => StorageReply::Refused(reason),
                    Err(error) => {
                        let error = crate::chain(&error);
                        tracing::error!(error, "a refused report could not be written down");
                        StorageReply::Unavailable(reason)
                    }
                }
            }
        }
    }

    /// What the south tells that needs no answer.
    fn on_south(&mut self, event: SouthEvent) -> Vec<Effect> {
        let now = now_ms();
        match event {
            SouthEvent::Registered {
                endpoint,
                peer,
                agent,
                fresh,
                ..
            } => {
                tracing::info!(endpoint, %peer, agent, "a Thing registered");
                let Ok(device) = Id::new(endpoint) else {
                    return Vec::new();
                };
                if fresh {
                    self.jobs.begun_anew(&device);
                }
                self.jobs.registered(&device, agent, now)
            }
            SouthEvent::Lost { endpoint } => {
                tracing::info!(endpoint, "a Thing is gone");
                Vec::new()
            }
            SouthEvent::Work { endpoint, notice } => {
                Id::new(endpoint).map_or_else(|_| vec![], |d| self.jobs.noticed(&d, &notice, now))
            }
            SouthEvent::Report { .. } | SouthEvent::Event { .. } => Vec::new(),
        }
    }

    /// Puts reports of Things into the spool. They are told `Kept` only once they are on disk.
    async fn keep(
        &mut self,
        all: Vec<(Outgoing, tokio::sync::oneshot::Sender<StorageReply>)>,
    ) -> Result<(), GatewayError> {
        let (mut records, mut waiting) = (Vec::new(), Vec::new());
        let mut names = BTreeSet::new();
        let mut number = self.parts.spool.state().number();
        let mut bytes = 0;
        for (outgoing, stored) in all {
            let known = self.parts.spool.state().has(&outgoing) || names.contains(&outgoing.name());
            if known {
                // The answer to its first copy was lost.
                waiting.push((None, stored));
                continue;
            }
            if self.held.holds(&outgoing) {
                let reason = "the ledger takes nothing of this device now";
                answer(stored, StorageReply::Unavailable(reason.to_owned()));
                continue;
            }
            bytes += lamplighter_types::codec::encode(&outgoing).len();
            if let Err(full) = self.parts.spool.check_room(bytes) {
                tracing::error!(error = %full, "a Thing has to wait");
                continue;
            }
            number += 1;
            names.insert(outgoing.name());
            let boxed = Box::new(outgoing.clone());
            records.push(Record::Add {
                number,
                batch_max: BATCH_ITEMS_MAX,
                outgoing: boxed,
            });
            waiting.push((Some(outgoing), stored));
        }
        if !self.commit(records).await? {
            // Dropping the channels makes the Things try again.
            return Ok(());
        }
        for (outgoing, stored) in waiting {
            if let Some(Outgoing::Deployment(report)) = &outgoing {
                self.jobs.reported(report);
            }
            answer(stored, StorageReply::Stored);
        }
        Ok(())
    }

    /// Makes records durable. False if the disk did not take them: nothing has changed then.
    pub(super) async fn commit(&mut self, records: Vec<Record>) -> Result<bool, GatewayError> {
        if records.is_empty() {
            return Ok(true);
        }
        let result = on_disk(|| self.parts.spool.commit(records));
        match result {
            Ok(()) => Ok(true),
            Err(error @ crate::spool::SpoolError::Disk { .. }) => {
                tracing::error!(
                    error = crate::chain(&error),
                    "the spool did not take reports"
                );
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn on_done(&mut self, done: Done) -> Result<(), GatewayError> {
        let effects = match done {
            Done::Prepared {
                device,
                digest,
                good,
            } => self.jobs.prepared(&device, &digest, good, now_ms()),
            Done::Proved {
                transaction,
                result,
            } => {
                self.proving.remove(&transaction);
                self.on_proved(transaction, result).await?
            }
            Done::Judged(judged) => {
                self.judging -= 1;
                self.on_judged(*judged)
            }
            Done::Highest(result) => {
                self.on_highest(result).await?;
                Vec::new()
            }
        };
        self.carry_out(effects).await
    }

    /// Writes the table of devices if it has changed. What is lost with the power is told again.
    fn save_devices(&mut self) {
        self.saved_at = Instant::now();
        if !self.parts.devices.is_changed() {
            return;
        }
        if let Err(error) = on_disk(|| self.parts.devices.save()) {
            tracing::error!(error = crate::chain(&error), "the devices can't be kept");
        }
    }

    async fn on_tick(&mut self) -> Result<(), GatewayError> {
        let effects = self.jobs.tick(now_ms());
        self.carry_out(effects).await?;
        if self.saved_at.elapsed() >= SAVE_EVERY {
            self.save_devices();
        }
        if self.connected && Instant::now() >= self.sync_at {
            self.sync();
        }
        self.resend_old();
        self.ask_sequence_again();
        self.sign_waiting().await
    }
}

/// Waits for the disk, a few milliseconds, without holding up other tasks where the runtime allows
/// it.
pub(super) fn on_disk<T>(call: impl FnOnce() -> T) -> T {
    match tokio::runtime::Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(call),
        _ => call(),
    }
}

/// A Thing that has stopped waiting asks again.
fn answer(stored: tokio::sync::oneshot::Sender<StorageReply>, what: StorageReply) {
    if stored.send(what).is_err() {
        tracing::debug!("a Thing did not wait for the answer to its report");
    }
}
