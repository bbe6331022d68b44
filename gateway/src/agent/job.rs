//! The deployment of one device.

use lamplighter_types::{DeploymentState, codec};

use super::jobs::Effect;
use crate::lwm2m::agent::Offer;
use crate::south::{SouthCommand, Transfer};
use crate::verify::Assignment;

use DeploymentState::*;

/// A refused offer is made again after so long, doubled up to [`RETRY_MS_MAX`]: the rollout may be
/// paused.
const RETRY_MS: u64 = 5_000;
const RETRY_MS_MAX: u64 = 600_000;

#[derive(Debug)]
pub(super) struct Job {
    pub assignment: Assignment,
    /// As far as the ledger is known.
    pub state: DeploymentState,
    /// The last state that was reported and is not settled.
    pub queued: Option<DeploymentState>,
    /// The artifact is here, and was checked since this job began.
    pub ready: bool,
    pub preparing: bool,
    /// The state in which the Thing got its last command.
    pub ordered: Option<DeploymentState>,
    /// The Thing registered since then: whoever got that command may have been another one.
    pub anew: bool,
    /// The Thing may have begun with an earlier command.
    pub begun: bool,
    pub refusals: u32,
    pub not_before_ms: u64,
}

impl Job {
    /// `queued` is the last state that was reported and is not settled.
    pub fn new(assignment: Assignment, queued: Option<DeploymentState>) -> Self {
        Self {
            state: assignment.deployment.state,
            assignment,
            queued,
            ready: false,
            preparing: false,
            ordered: None,
            anew: false,
            begun: false,
            refusals: 0,
            not_before_ms: 0,
        }
    }

    pub fn back_off(&mut self, now_ms: u64) {
        let doubled = RETRY_MS.saturating_mul(1 << self.refusals.min(20));
        self.not_before_ms = now_ms + doubled.min(RETRY_MS_MAX);
        self.refusals = self.refusals.saturating_add(1);
    }

    pub fn prepare(&mut self) -> Vec<Effect> {
        if std::mem::replace(&mut self.preparing, true) {
            return Vec::new();
        }
        let Assignment {
            device, manifest, ..
        } = &self.assignment;
        let (digest, size_bytes) = (manifest.artifact, manifest.size_bytes);
        vec![Effect::Prepare {
            device: device.device.clone(),
            digest,
            size_bytes,
        }]
    }

    /// Whether it is of the deployment that the south calls so.
    pub fn is_of(&self, deployment: &str) -> bool {
        self.assignment.deployment.rollout.as_str() == deployment
    }

    /// The command for the Thing that the state asks for, once for each registration: the south
    /// does not take one twice that is under way.
    pub fn order(&mut self, seen_height: u64) -> Vec<Effect> {
        if self.ordered == Some(self.state) && !self.anew {
            return Vec::new();
        }
        let deployment = self.assignment.deployment.rollout.to_string();
        let endpoint = self.assignment.device.device.to_string();
        let command = match self.state {
            Downloading => SouthCommand::Transfer(self.transfer(seen_height)),
            Downloaded => SouthCommand::Install {
                endpoint,
                deployment,
                version: self.assignment.manifest.version,
            },
            Installing | Staged | Trial => SouthCommand::Watch {
                endpoint,
                deployment,
                version: self.assignment.manifest.version,
            },
            Postponed if self.ordered == Some(Downloading) => SouthCommand::Cancel {
                endpoint,
                deployment,
            },
            _ => return Vec::new(),
        };
        (self.ordered, self.anew) = (Some(self.state), false);
        self.begun = true;
        vec![Effect::Command(command)]
    }

    fn transfer(&self, seen_height: u64) -> Transfer {
        let Assignment {
            deployment,
            device,
            release,
            manifest,
            ..
        } = &self.assignment;
        let offer = Offer {
            rollout: deployment.rollout.clone(),
            device: device.device.clone(),
            release: release.clone(),
            state: self.state,
            seen_height,
        };
        Transfer {
            endpoint: device.device.to_string(),
            deployment: deployment.rollout.to_string(),
            artifact: std::path::PathBuf::from(manifest.artifact.to_string()),
            size_bytes: manifest.size_bytes,
            offer: codec::encode(&offer),
        }
    }

    /// What ends the work on the Thing, if that is still possible.
    pub fn give_up(&self) -> Option<Effect> {
        let at = self.queued.unwrap_or(self.state);
        let endpoint = self.assignment.device.device.to_string();
        let deployment = self.assignment.deployment.rollout.to_string();
        let can_end = self.begun && !at.is_past_return();
        can_end.then_some(Effect::Command(SouthCommand::Cancel {
            endpoint,
            deployment,
        }))
    }
}
