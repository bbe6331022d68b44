//! The rules and the durable state of a Thing, without network and tasks. Each change that must
//! survive is on disk before the method returns, so a Thing may be killed between any two calls.

use lamplighter_gateway::coap::qblock::BlockReceiver;
use lamplighter_gateway::lwm2m::agent::{Offer, ThingReport};
use lamplighter_gateway::lwm2m::{FirmwareState, UpdateResult};
use lamplighter_gateway::verify::LedgerPin;
use lamplighter_node::key;
use lamplighter_system::unix_ms;
use lamplighter_types::limits::EVENT_DATA_BYTES_MAX;
use lamplighter_types::{
    ConfigReport, DeploymentReport, DeploymentState, DeviceEvent, DeviceSigned, Hash, HexBytes,
    InventoryReport, KeyPurpose, KeyRotation, PublicKey, SecretKey, Version, codec,
};

use super::ThingError;
use super::casting::{CastReception, PackageMap};
use super::config::ThingConfig;
use super::disk::Disk;
use super::lifecycle::NewEvent;
use super::state::{Image, OutboxMessage, Slot, ThingState, UpdatePhase};

/// The state file.
const STATE_FILE: &str = "state.json";
/// Messages in the outbox that may be events; reports have the rest, so that events never crowd out
/// the last report of a deployment.
const OUTBOX_EVENTS_MAX: usize = 192;
/// Messages that wait for the gateway, reports included.
const OUTBOX_MAX: usize = 256;

/// The image that the boot loader has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boot {
    /// The confirmed image.
    Normal,
    /// A new image for the first time; it must confirm itself.
    Trial,
}

/// The status of a Thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Active slot.
    pub slot: Slot,
    /// blake3 of the active slot, read from its file.
    pub digest: Hash,
    /// Version of the active slot.
    pub version: Version,
    /// Number of boots.
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
    /// Reports and events that the gateway has not stored.
    pub outbox: usize,
}

/// One Thing without its network.
pub struct Machine {
    pub(super) config: ThingConfig,
    pub(super) disk: Disk,
    pub(super) state: ThingState,
    /// Flip one bit of the next block, like a bad link or flash.
    pub(super) corrupt_next: bool,
    /// Blocks of the package that came before others that are missing.
    pub(super) blocks: BlockReceiver,
    /// The blocks of a package that comes in any order.
    pub(super) map: Option<PackageMap>,
    /// The cast that it is in.
    pub(super) cast: Option<CastReception>,
    /// Value of the update lock: seconds for which it wants no installation.
    pub(super) busy_s: u32,
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
                ThingState::new(Image {
                    digest: Hash::of(&factory.image),
                    version: factory.version,
                    security_counter: factory.security_counter,
                })
            }
        };
        let mut machine = Machine::of(config, disk, state);
        machine.load_map()?;
        machine.save()?;
        Ok(machine)
    }

    fn of(config: ThingConfig, disk: Disk, mut state: ThingState) -> Machine {
        // The validators of the factory count once: what was proven since is newer.
        state.ledger = match &config.ledger {
            Some(trusted) => state
                .ledger
                .or_else(|| Some(LedgerPin::new(trusted.clone()))),
            None => None,
        };
        Machine {
            config,
            disk,
            state,
            corrupt_next: false,
            blocks: BlockReceiver::default(),
            map: None,
            cast: None,
            busy_s: 0,
        }
    }

    /// Boots: counts, falls back to the old image if the new one did not confirm itself, and never
    /// starts an image whose bytes differ from the verified ones.
    pub fn boot(&mut self) -> Result<Boot, ThingError> {
        self.state.boots += 1;
        self.revert_configuration_on_trial()?;
        let boot = match self.state.update.as_ref().map(|u| u.phase) {
            Some(UpdatePhase::Staged) => self.boot_staged()?,
            Some(UpdatePhase::Trial) => {
                self.fall_back("the new image did not confirm itself before the next boot")?;
                Boot::Normal
            }
            // In phase "installing" the power failed while the other slot was written; the package
            // is still there, and the caller installs it again.
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
            self.fall_back("the new image changed after it was written")?;
            return Ok(Boot::Normal);
        }
        self.phase(UpdatePhase::Trial);
        self.state.active = new;
        Ok(Boot::Trial)
    }

    /// True if the package must be written to the other slot.
    pub fn is_installing(&self) -> bool {
        self.state.update.as_ref().map(|u| u.phase) == Some(UpdatePhase::Installing)
    }

    /// Reports that the new image runs: on trial, not yet a success.
    pub fn begin_trial(&mut self) -> Result<(), ThingError> {
        let digest = self.disk.digest(self.state.active.file())?.0;
        self.report_deployment(DeploymentState::Trial, 0, Some(digest), "")?;
        self.save()
    }

    /// Confirms the new image, which works and has reached the gateway, and raises the floor.
    pub fn confirm(&mut self) -> Result<(), ThingError> {
        if self.state.update.as_ref().map(|u| u.phase) != Some(UpdatePhase::Trial) {
            return Ok(());
        }
        let image = self.state.running();
        let digest = self.disk.digest(self.state.active.file())?.0;
        let (slot, boots) = (self.state.active.name(), self.state.boots);
        let detail = format!("version {}, slot {slot}, boot {boots}", image.version);
        self.state.result = UpdateResult::Success.value();
        self.report_deployment(DeploymentState::Confirmed, 1, Some(digest), &detail)?;
        self.state.floor = self.state.floor.max(image.security_counter);
        self.end_update();
        self.report_inventory()?;
        self.save()?;
        self.drop_package()
    }

    /// Makes the old image active again, since the new one does not work. The caller boots it.
    pub fn revert(&mut self, reason: &str) -> Result<(), ThingError> {
        if self.state.update.as_ref().map(|u| u.phase) == Some(UpdatePhase::Trial) {
            self.fall_back(reason)?;
        }
        self.save()
    }

    fn fall_back(&mut self, reason: &str) -> Result<(), ThingError> {
        if self.state.update.as_ref().map(|u| u.phase) == Some(UpdatePhase::Trial) {
            self.state.active = self.state.active.other();
        }
        let digest = self.disk.digest(self.state.active.file())?.0;
        let result = UpdateResult::UpdateFailed.value();
        self.state.result = result;
        let to = DeploymentState::Reverted;
        self.report_deployment(to, u32::from(result), Some(digest), reason)?;
        self.end_update();
        self.drop_package()
    }

    /// Forgets the update, the blocks that it held, and that its orders were ever good.
    pub(super) fn end_update(&mut self) {
        self.state.update = None;
        self.blocks = BlockReceiver::default();
        (self.map, self.cast) = (None, None);
        if let Some(pin) = &mut self.state.ledger {
            pin.deployment_ended();
        }
    }

    /// Queues a signed report of the running image.
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
        report.sign(&self.config.chain_id, &self.key());
        self.queue_report(ThingReport::Inventory(report))
    }

    /// The key with which it signs.
    pub(super) fn key(&self) -> SecretKey {
        let rotated = self.state.key_seed.map(SecretKey::from_seed);
        rotated.unwrap_or_else(|| self.config.key.clone())
    }

    /// The keys with which it may be known: the gateway knows the new one only when the ledger has
    /// it, and the Thing has to be registered to bring it there.
    pub(super) fn known_keys(&self) -> Vec<SecretKey> {
        let former = self.state.former_key_seed.map(SecretKey::from_seed);
        std::iter::once(self.key()).chain(former).collect()
    }

    /// Queues a report that asks for another key, and signs with that one from then on. Both are on
    /// the disk in one write. Returns the new key.
    pub fn rotate_key(&mut self) -> Result<PublicKey, ThingError> {
        if !self.state.outbox.is_empty() {
            return Err(ThingError::Unanswered);
        }
        let (new, chain_id) = (key::generate()?, self.config.chain_id);
        let device = self.config.device.clone();
        let mut rotation = KeyRotation {
            new_key: new.public(),
            proof: new.prove(KeyPurpose::Device, &chain_id, &device),
            device,
            counter: self.next_counter(),
            signature: None,
        };
        rotation.sign(&chain_id, &self.key());
        self.state.former_key_seed = Some(self.key().seed());
        self.state.key_seed = Some(new.seed());
        self.queue_report(ThingReport::KeyRotation(rotation))?;
        self.save()?;
        Ok(new.public())
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
        report.sign(&self.config.chain_id, &self.key());
        self.queue_report(ThingReport::Deployment(report))
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
        report.sign(&self.config.chain_id, &self.key());
        self.queue_report(ThingReport::Config(report))
    }

    /// Signs an event with the next sequence number and queues it. Returns the number.
    pub fn raise(&mut self, event: &NewEvent) -> Result<u64, ThingError> {
        if event.data.len() > EVENT_DATA_BYTES_MAX {
            return Err(ThingError::EventTooLong);
        }
        if self
            .state
            .outbox
            .iter()
            .filter(|message| message.event)
            .count()
            >= OUTBOX_EVENTS_MAX
        {
            return Err(ThingError::OutboxFull);
        }
        self.state.event_sequence += 1;
        let mut signed = DeviceEvent {
            device: self.config.device.clone(),
            sequence: self.state.event_sequence,
            time_ms: unix_ms(),
            kind: event.kind.clone(),
            severity: event.severity,
            alarm: event.alarm,
            data: event.data.clone(),
            signature: None,
        };
        signed.sign(&self.config.chain_id, &self.key());
        self.queue_message(true, codec::encode(&signed))?;
        self.save()?;
        Ok(self.state.event_sequence)
    }

    /// The oldest report or event in the outbox: its number, whether it is an event, and its bytes.
    pub fn next_message(&self) -> Option<(u64, bool, Vec<u8>)> {
        self.state
            .outbox
            .front()
            .map(|l| (l.number, l.event, l.bytes.0.clone()))
    }

    /// Removes a message that the gateway has stored, or will never accept.
    pub fn delivered(&mut self, number: u64) -> Result<(), ThingError> {
        self.state.outbox.retain(|message| message.number != number);
        self.save()
    }

    /// The status of the Thing.
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
            held_bytes: self.received_bytes(),
            configuration: self.state.applied.as_ref().map(|applied| applied.digest),
            outbox: self.state.outbox.len(),
        })
    }

    /// The bytes of the active slot.
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
        let manifest = self.verified_manifest(&self.offer()?).ok()?;
        Some((manifest.release.to_string(), manifest.version.to_string()))
    }

    pub(super) fn phase(&mut self, phase: UpdatePhase) {
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

    fn queue_report(&mut self, report: ThingReport) -> Result<(), ThingError> {
        self.queue_message(false, codec::encode(&report))
    }

    /// Queues a message. A full outbox drops its oldest inventory or configuration report first:
    /// deployments would otherwise end without their last report.
    fn queue_message(&mut self, event: bool, bytes: Vec<u8>) -> Result<(), ThingError> {
        if self.state.outbox.len() >= OUTBOX_MAX {
            let spare = |message: &OutboxMessage| {
                let report = codec::decode_stored::<ThingReport>(&message.bytes.0);
                !message.event && !matches!(report, Ok(ThingReport::Deployment(_)))
            };
            let oldest = self.state.outbox.iter().position(spare);
            let oldest = oldest.ok_or(ThingError::OutboxFull)?;
            self.state.outbox.remove(oldest);
        }
        self.state.message_number += 1;
        let message = OutboxMessage {
            number: self.state.message_number,
            event,
            bytes: HexBytes(bytes),
        };
        self.state.outbox.push_back(message);
        Ok(())
    }
}
