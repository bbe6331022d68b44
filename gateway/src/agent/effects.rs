//! Carries out what the jobs want done, and judges the work that comes from the node.

use std::time::Duration;

use lamplighter_types::work::{WorkItem, WorkMessage};
use lamplighter_types::{DeploymentState, Id};
use tokio::time::Instant;

use super::GatewayError;
use super::actor::{Actor, Done, now_ms};
use super::devices::{DEVICES_MAX, Learnt};
use super::jobs::Effect;
use crate::south::SouthCommand;
use crate::spool::{BATCH_ITEMS_MAX, Outgoing, Record};
use crate::verify::{self, Distrust, Judged, ProvenState};

/// Commands that wait for the south: a few for each device that a mesh can carry.
const COMMANDS_MAX: usize = 20_000;
/// Messages of work that are checked at once. While there are so many nothing is read from the
/// node, which keeps the others.
pub(super) const JUDGING_MAX: usize = 8;
/// After devices were not believed the node is asked for them again.
const SYNC_AGAIN_AFTER: Duration = Duration::from_secs(30);

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
    ) -> Vec<Effect> {
        let (message, state) = match judged {
            Ok(proven) => proven,
            Err(distrust) => {
                let error = crate::chain(&distrust);
                tracing::warn!(error, "work from a node was not believed");
                self.sync_again();
                return Vec::new();
            }
        };
        self.jobs.saw(state.head_height);
        self.set_changes.clone_from(&state.set_changes);
        let mut effects = self.on_devices(&state, &message.items);
        for item in &message.items {
            match self.on_item(&state, item) {
                Ok(wanted) => effects.extend(wanted),
                Err(distrust) => leave(item, &distrust),
            }
        }
        effects
    }

    /// The node is asked soon for the devices that we miss, by then with newer proofs.
    fn sync_again(&mut self) {
        self.sync_at = self.sync_at.min(Instant::now() + SYNC_AGAIN_AFTER);
    }

    /// Takes all devices of a message together.
    fn on_devices(&mut self, state: &ProvenState, items: &[WorkItem]) -> Vec<Effect> {
        let account = self.parts.config.account.clone();
        let mut proven = Vec::new();
        for item in items {
            let WorkItem::Device { device } = item else {
                continue;
            };
            match verify::device(state, device, &account) {
                Ok((found, height)) => proven.push((device.clone(), found, height)),
                Err(distrust) => {
                    leave(item, &distrust);
                    self.sync_again();
                }
            }
        }
        for (device, _, _) in proven.iter().filter(|(_, found, _)| found.is_some()) {
            self.held.hurry(device, Instant::now());
        }
        let Learnt { gone, left_out } = self.parts.devices.learn(proven);
        if left_out > 0 {
            tracing::error!(
                left_out,
                "the ledger has more than {DEVICES_MAX} devices for us"
            );
        }
        gone.iter()
            .flat_map(|device| self.jobs.removed(device))
            .collect()
    }

    fn on_item(&mut self, state: &ProvenState, item: &WorkItem) -> Result<Vec<Effect>, Distrust> {
        let account = self.parts.config.account.clone();
        let now = now_ms();
        match item {
            WorkItem::Device { .. } => Ok(Vec::new()),
            WorkItem::Deployment { rollout, device } => {
                match verify::deployment(state, rollout, device, &account, now)? {
                    // A node can prove the end of anybody's deployment.
                    Judged::Ended { .. } if !self.parts.devices.has(device) => Ok(Vec::new()),
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

fn leave(item: &WorkItem, distrust: &Distrust) {
    let error = crate::chain(distrust);
    tracing::warn!(?item, error, "work is not carried out");
}
