//! Offers, configuration documents and orders to install, handled by a Thing.

use lamplighter_gateway::coap::Code;
use lamplighter_gateway::coap::qblock::BlockReceiver;
use lamplighter_gateway::lwm2m::agent::Offer;
use lamplighter_gateway::lwm2m::{FirmwareState, UpdateResult};
use lamplighter_system::unix_ms;
use lamplighter_types::limits::CONFIG_BYTES_MAX;
use lamplighter_types::{DeploymentState, Hash, HexBytes, ReleaseManifest, codec};

use super::ThingError;
use super::checks::{ReleaseRefusal, ThingFacts, check};
use super::machine::Machine;
use super::state::{AppliedConfiguration, Image, Update, UpdatePhase};

/// The received part of the package.
pub(super) const PACKAGE_FILE: &str = "package";
/// The applied configuration document, and the one before.
pub(super) const CONFIGURATION_FILE: &str = "configuration.json";
const BEFORE_FILE: &str = "configuration.before.json";

/// The reply of the Thing: a code and a text for a person.
pub(super) type Reply = (Code, String);

impl Machine {
    /// Accepts an encoded offer, after checking everything that the vendor signed. A refusal is
    /// also reported, signed. The same offer again changes nothing: a transfer continues.
    pub(super) fn accept_offer(&mut self, bytes: &[u8]) -> Result<Reply, ThingError> {
        let Ok(offer) = codec::decode::<Offer>(bytes) else {
            return Ok((Code::BAD_REQUEST, "not an offer".to_owned()));
        };
        self.take_offer(&offer)
    }

    pub(super) fn take_offer(&mut self, offer: &Offer) -> Result<Reply, ThingError> {
        if offer.device != self.config.device {
            return Ok((Code::FORBIDDEN, "for another device".to_owned()));
        }
        if let (Some(held), Some(update)) = (self.offer(), &self.state.update) {
            let same = held.rollout == offer.rollout && held.release == offer.release;
            match update.phase {
                UpdatePhase::Downloading | UpdatePhase::Downloaded if same => {
                    return self.repeat_offer(offer);
                }
                UpdatePhase::Downloading | UpdatePhase::Downloaded => {}
                _ => return Ok((Code::METHOD_NOT_ALLOWED, "installing".to_owned())),
            }
        }
        self.drop_package()?;
        self.blocks = BlockReceiver::default();
        self.state.seen_height = self.state.seen_height.max(offer.seen_height);
        self.state.result = UpdateResult::Initial.value();
        let reported = offer.state;
        let phase = UpdatePhase::Downloading;
        let held = HexBytes(codec::encode(offer));
        self.state.update = Some(Update {
            offer: held,
            phase,
            reported,
            without_casts: false,
        });
        if let Err(refusal) = self.verified_manifest(offer) {
            return self.refuse(&refusal);
        }
        self.save()?;
        Ok((Code::CHANGED, String::new()))
    }

    /// Handles an offer that was accepted before. If the ledger has reset the deployment to a state
    /// before the download, the Thing reports its state again.
    fn repeat_offer(&mut self, offer: &Offer) -> Result<Reply, ThingError> {
        self.state.seen_height = self.state.seen_height.max(offer.seen_height);
        let Some(update) = self.state.update.as_mut() else {
            return Ok((Code::CHANGED, String::new()));
        };
        let ahead = update.phase == UpdatePhase::Downloaded && offer.state != update.reported;
        update.reported = offer.state;
        if ahead && offer.state < DeploymentState::Downloaded {
            let digest = self.disk.digest(PACKAGE_FILE)?.0;
            self.report_deployment(DeploymentState::Downloaded, 0, Some(digest), "held already")?;
        }
        self.save()?;
        Ok((Code::CHANGED, String::new()))
    }

    /// The manifest of an offer, if it passes all checks now.
    pub(super) fn verified_manifest(
        &self,
        offer: &Offer,
    ) -> Result<ReleaseManifest, ReleaseRefusal> {
        let manifest = self.config.verifier.verify(&offer.release)?;
        let facts = ThingFacts {
            hardware_class: &self.config.hardware_class,
            floor: self.state.floor,
            running: self.state.running().version,
            now_ms: unix_ms(),
        };
        check(&manifest, &facts)?;
        Ok(manifest)
    }

    /// Ends the update with a signed report of the reason.
    pub(super) fn refuse(&mut self, refusal: &ReleaseRefusal) -> Result<Reply, ThingError> {
        let result = refusal.result().value();
        tracing::warn!(device = %self.config.device, %refusal, "release refused");
        self.state.result = result;
        let reason = refusal.to_string();
        self.report_deployment(DeploymentState::Rejected, u32::from(result), None, &reason)?;
        self.end_update();
        self.save()?;
        self.drop_package()?;
        Ok((Code::FORBIDDEN, reason))
    }

    /// Handles the order to install: everything is checked once more, since time has passed.
    pub(super) fn accept_install(&mut self) -> Result<Reply, ThingError> {
        let phase = self.state.update.as_ref().map(|u| u.phase);
        let (Some(UpdatePhase::Downloaded), Some(offer)) = (phase, self.offer()) else {
            return Ok((Code::METHOD_NOT_ALLOWED, "no package to install".to_owned()));
        };
        if let Err(refusal) = self.verified_manifest(&offer) {
            return self.refuse(&refusal);
        }
        self.phase(UpdatePhase::Installing);
        self.report_deployment(DeploymentState::Installing, 0, None, "")?;
        self.save()?;
        Ok((Code::CHANGED, String::new()))
    }

    /// Writes the package to the other slot, reads it back, and stages it for the next boot. False
    /// if the slot does not hold the signed image.
    pub fn install(&mut self) -> Result<bool, ThingError> {
        let Some(offer) = self.offer() else {
            return Ok(false);
        };
        let manifest = match self.verified_manifest(&offer) {
            Ok(manifest) => manifest,
            Err(refusal) => return self.refuse(&refusal).map(|_| false),
        };
        let slot = self.state.active.other();
        self.disk.copy_to_slot(PACKAGE_FILE, slot)?;
        if self.disk.digest(slot.file())? != (manifest.artifact, manifest.size_bytes) {
            return self.refuse(&ReleaseRefusal::Image).map(|_| false);
        }
        let ReleaseManifest {
            version,
            security_counter,
            artifact: digest,
            ..
        } = manifest;
        self.state.set_image(
            slot,
            Image {
                digest,
                version,
                security_counter,
            },
        );
        self.phase(UpdatePhase::Staged);
        self.report_deployment(DeploymentState::Staged, 0, Some(digest), "")?;
        self.save()?;
        Ok(true)
    }

    /// Drops the package, unless it is being installed. The ledger has cancelled the deployment
    /// before, so there is nothing to report.
    pub(super) fn cancel(&mut self) -> Result<Reply, ThingError> {
        match self.state.update.as_ref().map(|u| u.phase) {
            None => Ok((Code::CHANGED, "nothing under way".to_owned())),
            Some(UpdatePhase::Downloading | UpdatePhase::Downloaded) => {
                self.state.result = UpdateResult::Cancelled.value();
                self.end_update();
                self.save()?;
                self.drop_package()?;
                Ok((Code::CHANGED, String::new()))
            }
            Some(_) => Ok((Code::METHOD_NOT_ALLOWED, "installing".to_owned())),
        }
    }

    pub(super) fn firmware_state(&self) -> FirmwareState {
        match self.state.update.as_ref().map(|u| u.phase) {
            None => FirmwareState::Idle,
            Some(UpdatePhase::Downloading) if self.has_nothing() => FirmwareState::Idle,
            Some(UpdatePhase::Downloading) => FirmwareState::Downloading,
            Some(UpdatePhase::Downloaded) => FirmwareState::Downloaded,
            Some(UpdatePhase::Installing | UpdatePhase::Staged | UpdatePhase::Trial) => {
                FirmwareState::Updating
            }
        }
    }

    /// Applies a configuration document, on trial until the gateway is reached again.
    pub(super) fn configure(&mut self, document: &[u8]) -> Result<Reply, ThingError> {
        let digest = Hash::of(document);
        let applied = self.state.applied.as_ref();
        if applied.is_some_and(|a| a.digest == digest && !a.on_trial) {
            self.report_configuration(digest, true, "applied already")?;
            self.save()?;
            return Ok((Code::CHANGED, "applied already".to_owned()));
        }
        let object = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(document);
        if document.len() > CONFIG_BYTES_MAX || object.is_err() {
            let reason = "not a JSON object within the size limit";
            self.report_configuration(digest, false, reason)?;
            self.save()?;
            return Ok((Code::BAD_REQUEST, reason.to_owned()));
        }
        self.revert_configuration_on_trial()?;
        let before = self.state.applied.as_ref().map(|a| a.digest);
        if let Some(old) = self.disk.read(CONFIGURATION_FILE)? {
            self.disk.replace(BEFORE_FILE, &old)?;
        }
        self.state.applied = Some(AppliedConfiguration {
            digest,
            on_trial: true,
            before,
        });
        self.save()?;
        self.disk.replace(CONFIGURATION_FILE, document)?;
        Ok((Code::CHANGED, String::new()))
    }

    /// True if a configuration is on trial.
    pub(super) fn configuration_on_trial(&self) -> bool {
        self.state.applied.as_ref().is_some_and(|a| a.on_trial)
    }

    /// Confirms the configuration on trial, since the gateway was reached with it.
    pub(super) fn confirm_configuration(&mut self) -> Result<(), ThingError> {
        let Some(applied) = self.state.applied.as_mut().filter(|a| a.on_trial) else {
            return Ok(());
        };
        applied.on_trial = false;
        let digest = applied.digest;
        self.report_configuration(digest, true, "")?;
        self.save()
    }

    /// Reverts to the configuration before, since the gateway was not reached with the new one.
    pub(super) fn revert_configuration_on_trial(&mut self) -> Result<(), ThingError> {
        let Some(applied) = self.state.applied.clone().filter(|a| a.on_trial) else {
            return Ok(());
        };
        match (applied.before, self.disk.read(BEFORE_FILE)?) {
            (Some(digest), Some(old)) => {
                self.disk.replace(CONFIGURATION_FILE, &old)?;
                self.state.applied = Some(AppliedConfiguration {
                    digest,
                    on_trial: false,
                    before: None,
                });
            }
            _ => {
                self.disk.remove(CONFIGURATION_FILE)?;
                self.state.applied = None;
            }
        }
        let reason = "the gateway was not reached with it";
        self.report_configuration(applied.digest, false, reason)?;
        self.save()
    }
}
