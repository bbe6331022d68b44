//! The inventory of devices without our agent: asked for at a registration, kept in a file, and an
//! event where what a device is has changed.

use lamplighter_types::Id;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::EventLoop;
use crate::deployments::Effect;
use crate::lwm2m::Stage;
use crate::south::{SouthCommand, SouthEvent, WorkNotice};

impl EventLoop {
    /// Takes the inventories out of the events, and finds the questions for those that are old.
    /// What the ledger gets of them are values like those that a device sends by itself. What a
    /// device is to do comes before the questions.
    pub(super) fn take_inventories(
        &mut self,
        events: Vec<SouthEvent>,
    ) -> (Vec<SouthEvent>, Vec<Effect>) {
        let (now, now_ms) = (Instant::now(), self.now_ms());
        let (mut others, mut questions) = (Vec::with_capacity(events.len()), Vec::new());
        for event in events {
            match event {
                SouthEvent::Work {
                    endpoint,
                    notice: WorkNotice::Inspected { values },
                } => {
                    tracing::debug!(endpoint, ?values, "the inventory of a device");
                    let device = Id::new(&*endpoint).ok();
                    let device = device.filter(|one| self.storage.devices().contains(one));
                    let Some(device) = device else { continue };
                    let values = self.inventories.record(&device, &values, now_ms);
                    if !values.is_empty() && self.storage.speaks_for(&endpoint).is_some() {
                        // Nobody waits for the answer.
                        let (stored, _) = oneshot::channel();
                        others.push(SouthEvent::Values {
                            endpoint,
                            values,
                            stored,
                        });
                    }
                }
                other => {
                    questions.extend(self.question(&other, now, now_ms));
                    others.push(other);
                }
            }
        }
        (others, questions)
    }

    /// The question for the inventory of a device that has registered, or runs a new image.
    fn question(&mut self, event: &SouthEvent, now: Instant, now_ms: u64) -> Option<Effect> {
        let (endpoint, is_updated) = match event {
            SouthEvent::Registered {
                endpoint,
                agent: false,
                ..
            } => (endpoint, false),
            SouthEvent::Work {
                endpoint,
                notice:
                    WorkNotice::Stage {
                        stage: Stage::Confirmed,
                        ..
                    },
            } => (endpoint, true),
            _ => return None,
        };
        let device = Id::new(&**endpoint).ok();
        let device = device.filter(|one| self.storage.devices().contains(one))?;
        if is_updated {
            self.inventories.expire(&device);
        }
        let endpoint = endpoint.clone();
        let is_due = self.inventories.ask(&device, now, now_ms);
        is_due.then_some(Effect::Command(SouthCommand::Inspect { endpoint }))
    }

    /// Writes the inventories, without those of devices that are not served any more.
    pub(super) fn save_inventories(&mut self, at_once: bool) {
        let devices = self.storage.devices();
        let inventories = &mut self.inventories;
        super::on_disk(|| inventories.save(Instant::now(), at_once, |one| devices.contains(one)));
    }
}
