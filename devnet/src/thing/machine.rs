//! The rules of a Thing and everything durable of it, without network and tasks. Each change that
//! must survive is on disk before the method returns, so a Thing may be killed between any two
//! calls.

use std::time::{SystemTime, UNIX_EPOCH};

use lamplighter_gateway::lwm2m::agent::{Offer, ThingReport};
use lamplighter_gateway::lwm2m::{FirmwareState, UpdateResult};
use lamplighter_types::limits::EVENT_DATA_BYTES_MAX;
use lamplighter_types::{
    ConfigReport, DeploymentReport, DeploymentState, DeviceEvent, DeviceSigned, Hash, HexBytes,
    InventoryReport, Version, codec,
};

use super::config::ThingConfig;
use super::disk::Disk;
use super::life::NewEvent;
use super::state::{Image, Letter, Phase, Slot, State};
use super::{ThingError, update};

/// The state file.
const STATE_FILE: &str = "state.json";
/// Letters that events may fill; reports have the rest, so that events never crowd out the last
/// report of a deployment.
const EVENT_LETTERS_MAX: usize = 192;
/// Letters that wait for the gateway, reports included.
const LETTERS_MAX: usize = 256;

/// What the boot loader has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boot {
    /// The confirmed image.
    Normal,
    /// A new image for the first time; it must confirm itself.
    Trial,
}

/// What a Thing says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Active slot.
    pub slot: Slot,
    /// blake3 of the active slot, read from its file.
    pub digest: Hash,
    /// Version of the active slot.
    pub version: Version,
    /// How often it booted.
    pub boots: u64,
    /// Security counter floor.
    pub floor: u64,
    /// `/5/0/3`.
    pub state: FirmwareState,
    /// `/5/0/5`.
    pub result: UpdateResult,
    /// Bytes of the offered package that have arrived.
    pub held_bytes: u64,
    /// blake3 of the applied configuration document.
    pub configuration: Option<Hash>,
    /// Reports and events that the gateway has not taken.
    pub outbox: usize,
}

/// One Thing without its network.
pub struct Machine {
    pub(super) config: ThingConfig,
    pub(super) disk: Disk,
    pub(super) state: State,
    /// Flip one bit of the next block, as a bad link or flash would.
    pub(super) corrupt_next: bool,
}

impl Machine {
    /// Opens the directory of a Thing; an empty one gets the factory image in slot A.
    pub fn open(config: ThingConfig) -> Result<Machine, ThingError> {
        let disk = Disk::open(&config.directory)?;
        let state = match disk.read(STATE_FILE)? {
            Some(bytes) => codec::decode_json(&bytes).map_err(|source| ThingError::State {
                path: disk.path(STATE_FILE),
                source,
            })?,
            None => {
                let factory = &config.factory;
                disk.replace(Slot::A.file(), &factory.image)?;
                State::new(Image {
                    digest: Hash::of(&factory.image),
                    version: factory.version,
                    security_counter: factory.security_counter,
                })
            }
        };
        let mut machine = Machine {
            config,
            disk,
            state,
            corrupt_next: false,
        };
        machine.save()?;
        Ok(machine)
    }

    /// What the boot loader does: counts, takes the old image where the new one did not confirm
    /// itself, and never starts an image whose bytes are not those that were verified.
    pub fn boot(&mut self) -> Result<Boot, ThingError> {
        self.state.boots += 1;
        self.revert_configuration_on_trial()?;
        let boot = match self.state.update.as_ref().map(|u| u.phase) {
            Some(Phase::Staged) => self.boot_staged()?,
            Some(Phase::Trial) => {
                self.take_old_image("the new image did not confirm itself before the next boot")?;
                Boot::Normal
            }
            // With a phase "installing" the power failed while the other slot was written; the
            // package is still there, and the caller installs it again.
            _ => Boot::Normal,
        };
        self.save()?;
        Ok(boot)
    }

    fn boot_staged(&mut self) -> Result<Boot, ThingError> {
        let new = self.state.active.other();
        let expected = self.state.image(new).map(|image| image.digest);
        let (digest, _) = self.disk.digest(new.file())?;
        if expected != Some(digest) {
            self.take_old_image("the new image changed after it was written")?;
            return Ok(Boot::Normal);
        }
        self.phase(Phase::Trial);
        self.state.active = new;
        Ok(Boot::Trial)
    }

    /// Whether the package waits to be written to the other slot.
    pub fn is_installing(&self) -> bool {
        self.state.update.as_ref().map(|u| u.phase) == Some(Phase::Installing)
    }

    /// The new image says that it runs: on trial, not yet a success.
    pub fn begin_trial(&mut self) -> Result<(), ThingError> {
        let digest = self.disk.digest(self.state.active.file())?.0;
        self.report_deployment(DeploymentState::Trial, 0, Some(digest), "")?;
        self.save()
    }

    /// The new image works and has reached the gateway: it stays, and the floor rises.
    pub fn confirm(&mut self) -> Result<(), ThingError> {
        if self.state.update.as_ref().map(|u| u.phase) != Some(Phase::Trial) {
            return Ok(());
        }
        let image = self.state.running();
        let digest = self.disk.digest(self.state.active.file())?.0;
        let (slot, boots) = (self.state.active.name(), self.state.boots);
        let detail = format!("version {}, slot {slot}, boot {boots}", image.version);
        self.state.result = UpdateResult::Success.value();
        self.report_deployment(DeploymentState::Confirmed, 1, Some(digest), &detail)?;
        self.state.floor = self.state.floor.max(image.security_counter);
        self.state.update = None;
        self.report_inventory()?;
        self.save()?;
        self.disk.remove(update::PACKAGE_FILE)
    }

    /// The new image does not work: the old one is active again. The caller boots it.
    pub fn revert(&mut self, reason: &str) -> Result<(), ThingError> {
        if self.state.update.as_ref().map(|u| u.phase) == Some(Phase::Trial) {
            self.take_old_image(reason)?;
        }
        self.save()
    }

    fn take_old_image(&mut self, reason: &str) -> Result<(), ThingError> {
        if self.state.update.as_ref().map(|u| u.phase) == Some(Phase::Trial) {
            self.state.active = self.state.active.other();
        }
        let digest = self.disk.digest(self.state.active.file())?.0;
        let result = UpdateResult::UpdateFailed.value();
        self.state.result = result;
        let to = DeploymentState::Reverted;
        self.report_deployment(to, u32::from(result), Some(digest), reason)?;
        self.state.update = None;
        self.disk.remove(update::PACKAGE_FILE)
    }

    /// Notes what runs, signed, for the gateway.
    pub fn report_inventory(&mut self) -> Result<(), ThingError> {
        let image = self.state.running();
        let (digest, _) = self.disk.digest(self.state.active.file())?;
        let mut report = InventoryReport {
            device: self.config.device.clone(),
            version: Some(image.version),
            digest,
            security_counter: image.security_counter,
            counter: self.next_counter(),
            signature: None,
        };
        report.sign(&self.config.chain_id, &self.config.key);
        self.post(ThingReport::Inventory(report))
    }

    pub(super) fn report_deployment(
        &mut self,
        to: DeploymentState,
        code: u32,
        digest: Option<Hash>,
        detail: &str,
    ) -> Result<(), ThingError> {
        let counter = self.next_counter();
        let Some(offer) = self.offer() else {
            return Ok(());
        };
        let Some(update) = self.state.update.as_mut() else {
            return Ok(());
        };
        let from = std::mem::replace(&mut update.reported, to);
        let mut report = DeploymentReport {
            rollout: offer.rollout,
            device: self.config.device.clone(),
            from,
            to,
            code,
            digest,
            seen_height: self.state.seen_height,
            counter,
            detail: detail.to_owned(),
            signature: None,
        };
        report.sign(&self.config.chain_id, &self.config.key);
        self.post(ThingReport::Deployment(report))
    }

    pub(super) fn report_configuration(
        &mut self,
        document: Hash,
        applied: bool,
        detail: &str,
    ) -> Result<(), ThingError> {
        let mut report = ConfigReport {
            device: self.config.device.clone(),
            document,
            applied,
            detail: detail.to_owned(),
            counter: self.next_counter(),
            signature: None,
        };
        report.sign(&self.config.chain_id, &self.config.key);
        self.post(ThingReport::Config(report))
    }

    /// Signs an event with the next sequence number and keeps it for the gateway. Gives the number.
    pub fn raise(&mut self, event: &NewEvent) -> Result<u64, ThingError> {
        if event.data.len() > EVENT_DATA_BYTES_MAX {
            return Err(ThingError::EventTooLong);
        }
        if self
            .state
            .outbox
            .iter()
            .filter(|letter| letter.event)
            .count()
            >= EVENT_LETTERS_MAX
        {
            return Err(ThingError::OutboxFull);
        }
        self.state.event_sequence += 1;
        let mut signed = DeviceEvent {
            device: self.config.device.clone(),
            sequence: self.state.event_sequence,
            time_ms: now_ms(),
            kind: event.kind.clone(),
            severity: event.severity,
            alarm: event.alarm,
            data: event.data.clone(),
            signature: None,
        };
        signed.sign(&self.config.chain_id, &self.config.key);
        self.put_letter(true, codec::encode(&signed))?;
        self.save()?;
        Ok(self.state.event_sequence)
    }

    /// The oldest report or event that the gateway has not taken: its number, whether it is an
    /// event, and its bytes.
    pub fn next_letter(&self) -> Option<(u64, bool, Vec<u8>)> {
        self.state
            .outbox
            .front()
            .map(|l| (l.number, l.event, l.bytes.0.clone()))
    }

    /// The gateway has taken a letter, or never will.
    pub fn delivered(&mut self, number: u64) -> Result<(), ThingError> {
        self.state.outbox.retain(|letter| letter.number != number);
        self.save()
    }

    /// What the Thing says of itself now.
    pub fn status(&self) -> Result<Status, ThingError> {
        let image = self.state.running();
        Ok(Status {
            slot: self.state.active,
            digest: self.disk.digest(self.state.active.file())?.0,
            version: image.version,
            boots: self.state.boots,
            floor: self.state.floor,
            state: self.firmware_state(),
            result: UpdateResult::from_value(i64::from(self.state.result))
                .unwrap_or(UpdateResult::Initial),
            held_bytes: self.held(),
            configuration: self.state.applied.as_ref().map(|applied| applied.digest),
            outbox: self.state.outbox.len(),
        })
    }

    /// Every byte of the active slot.
    pub fn active_image(&self) -> Result<Vec<u8>, ThingError> {
        Ok(self
            .disk
            .read(self.state.active.file())?
            .unwrap_or_default())
    }

    /// Flips one bit of the next block that arrives.
    pub fn corrupt_next_block(&mut self) {
        self.corrupt_next = true;
    }

    pub(super) fn offer(&self) -> Option<Offer> {
        let update = self.state.update.as_ref()?;
        codec::decode_stored(&update.offer.0).ok()
    }

    /// Name and version of the offered release.
    pub(super) fn offered_release(&self) -> Option<(String, String)> {
        let manifest = self.checked(&self.offer()?).ok()?;
        Some((manifest.release.to_string(), manifest.version.to_string()))
    }

    pub(super) fn phase(&mut self, phase: Phase) {
        if let Some(update) = self.state.update.as_mut() {
            update.phase = phase;
        }
    }

    pub(super) fn save(&mut self) -> Result<(), ThingError> {
        let bytes = serde_json::to_vec(&self.state).expect("the state has only text keys");
        self.disk.replace(STATE_FILE, &bytes)
    }

    fn next_counter(&mut self) -> u64 {
        self.state.report_counter += 1;
        self.state.report_counter
    }

    fn post(&mut self, report: ThingReport) -> Result<(), ThingError> {
        self.put_letter(false, codec::encode(&report))
    }

    /// A Thing that cannot reach its gateway for very long forgets its oldest inventory or
    /// configuration reports first: deployments would otherwise end without their last word.
    fn put_letter(&mut self, event: bool, bytes: Vec<u8>) -> Result<(), ThingError> {
        if self.state.outbox.len() >= LETTERS_MAX {
            let spare = |letter: &Letter| {
                let report = codec::decode_stored::<ThingReport>(&letter.bytes.0);
                !letter.event && !matches!(report, Ok(ThingReport::Deployment(_)))
            };
            let oldest = self.state.outbox.iter().position(spare);
            let oldest = oldest.ok_or(ThingError::OutboxFull)?;
            self.state.outbox.remove(oldest);
        }
        self.state.letter += 1;
        let letter = Letter {
            number: self.state.letter,
            event,
            bytes: HexBytes(bytes),
        };
        self.state.outbox.push_back(letter);
        Ok(())
    }
}

/// Unix time in ms; 0 if the clock is before 1970.
pub(super) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64)
}
