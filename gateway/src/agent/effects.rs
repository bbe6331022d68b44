//! Carries out what the jobs want done, and judges the work that comes from the node.

use lamplighter_types::work::{WorkItem, WorkMessage};
use lamplighter_types::{DeploymentState, Id};

use super::GatewayError;
use super::actor::{Actor, Done, now_ms, on_disk};
use super::devices::DevicesError;
use super::jobs::Effect;
use crate::south::SouthCommand;
use crate::spool::{BATCH_ITEMS_MAX, Outgoing, Record};
use crate::verify::{self, Distrust, Judged, ProvenState};

/// Commands that wait for the south: a few for each device that a mesh can carry.
const COMMANDS_MAX: usize = 20_000;
/// Messages of work that are checked at once; the node sends the others again.
const JUDGING_MAX: usize = 8;

impl Actor {
    /// Does what the jobs want; what follows from it too.
    pub(super) async fn carry_out(&mut self, effects: Vec<Effect>) -> Result<(), GatewayError> {
        let mut records = Vec::new();
        let mut reports = Vec::new();
        let mut number = self.parts.spool.state().number();
        for effect in effects {
            match effect {
                Effect::Report(outgoing) => {
                    number += 1;
                    reports.push((*outgoing).clone());
                    records.push(Record::Add {
                        number,
                        batch_max: BATCH_ITEMS_MAX,
                        outgoing,
                    });
                }
                Effect::Prepare {
                    device,
                    digest,
                    size_bytes,
                } => {
                    let (cache, client) = (self.parts.cache.clone(), self.parts.client.clone());
                    let in_use = self.jobs.artifacts();
                    self.tasks.spawn(async move {
                        let found = cache.ensure(&client, digest, size_bytes, in_use).await;
                        if let Err(error) = &found {
                            let error = crate::chain(error);
                            tracing::warn!(%digest, error, "an artifact can't be had now");
                        }
                        Done::Prepared {
                            device,
                            digest,
                            good: found.is_ok(),
                        }
                    });
                }
                Effect::Command(command) => self.command(command),
            }
        }
        if !self.commit(records).await? {
            for report in &reports {
                // As after a refusal: it is tried again later.
                self.jobs.settled(report, true, 0, now_ms());
            }
        }
        Ok(())
    }

    fn command(&mut self, command: SouthCommand) {
        if self.commands.len() >= COMMANDS_MAX {
            tracing::error!(
                endpoint = command.endpoint(),
                "too many commands wait for the south"
            );
            return;
        }
        self.commands.push_back(match command {
            SouthCommand::Transfer(mut transfer) => {
                transfer.artifact = self.parts.cache.dir().join(transfer.artifact);
                SouthCommand::Transfer(transfer)
            }
            other => other,
        });
    }

    /// Begins to prove a message of work.
    pub(super) fn on_work(&mut self, payload: &[u8]) {
        if self.judging >= JUDGING_MAX {
            tracing::debug!("work is left for the next time: too much at once");
            return;
        }
        let message = match WorkMessage::from_json(payload, &self.parts.config.account) {
            Ok(message) => message,
            Err(error) => {
                let error = crate::chain(&error);
                return tracing::warn!(error, "a node sent something that is no work");
            }
        };
        self.judging += 1;
        let genesis = self.parts.genesis.clone();
        let age_max = std::time::Duration::from_secs(self.parts.config.record_age_max_s);
        self.tasks.spawn_blocking(move || {
            let state = ProvenState::prove(&message, &genesis, now_ms(), age_max);
            Done::Judged(Box::new(state.map(|state| (message, state))))
        });
    }

    /// Acts on proven work, item by item: one that does not hold stops no other.
    pub(super) fn on_judged(
        &mut self,
        judged: Result<(WorkMessage, ProvenState), Distrust>,
    ) -> Result<Vec<Effect>, GatewayError> {
        let (message, state) = match judged {
            Ok(proven) => proven,
            Err(distrust) => {
                let error = crate::chain(&distrust);
                tracing::warn!(error, "work from a node was not believed");
                return Ok(Vec::new());
            }
        };
        self.jobs.saw(state.head_height);
        self.set_changes.clone_from(&state.set_changes);
        let mut effects = Vec::new();
        for item in &message.items {
            match self.on_item(&state, item) {
                Ok(wanted) => effects.extend(wanted),
                Err(Unacted::Distrust(distrust)) => {
                    let error = crate::chain(&distrust);
                    tracing::warn!(?item, error, "work is not carried out");
                }
                Err(Unacted::Devices(error)) => {
                    let error = crate::chain(&error);
                    tracing::error!(?item, error, "a device can't be kept");
                }
            }
        }
        Ok(effects)
    }

    fn on_item(&mut self, state: &ProvenState, item: &WorkItem) -> Result<Vec<Effect>, Unacted> {
        let account = self.parts.config.account.clone();
        let now = now_ms();
        match item {
            WorkItem::Device { device } => {
                let (found, height) = verify::device(state, device, &account)?;
                let gone = found.is_none();
                let changed = on_disk(|| self.parts.devices.learn(device, found, height))?;
                match gone && changed {
                    true => Ok(self.jobs.removed(device)),
                    false => Ok(Vec::new()),
                }
            }
            WorkItem::Deployment { rollout, device } => {
                match verify::deployment(state, rollout, device, &account, now)? {
                    Judged::Ended { height, .. } => Ok(self.jobs.ended(rollout, device, height)),
                    Judged::Open(assignment) => {
                        let queued = self.last_queued(rollout, device);
                        Ok(self.jobs.assigned(*assignment, queued, now))
                    }
                }
            }
            WorkItem::Config { device } => {
                let document = verify::configuration(state, device, &account)?;
                Ok(self.jobs.desired(document))
            }
        }
    }

    /// The last state of a deployment that is reported and not settled.
    fn last_queued(&self, rollout: &Id, device: &Id) -> Option<DeploymentState> {
        let reports = self.parts.spool.state().of_device(device);
        let states = reports.filter_map(|outgoing| match outgoing {
            Outgoing::Deployment(report) if report.rollout == *rollout => Some(report.to),
            _ => None,
        });
        states.last()
    }
}

/// Why an item leads to nothing.
enum Unacted {
    Distrust(Distrust),
    Devices(DevicesError),
}

impl From<Distrust> for Unacted {
    fn from(distrust: Distrust) -> Self {
        Self::Distrust(distrust)
    }
}

impl From<DevicesError> for Unacted {
    fn from(error: DevicesError) -> Self {
        Self::Devices(error)
    }
}
