//! What concerns an account through devices: the districts of an operator, the devices of a
//! gateway.

use std::collections::BTreeSet;

use lamplighter_contracts::{devices, rollouts};
use lamplighter_state::{StateError, View};
use lamplighter_types::{ConfigTarget, Id, Rollout, Scope, Selection};

use super::{Record, RightsAt};

/// Devices and deployments of a gateway that are looked at: ten for each of 10,000 devices, more
/// than a gateway has. What is found only behind them is refused.
const ROWS_MAX: usize = 100_000;
/// Rows that are read at once.
const PAGE: usize = 1_000;

/// The records that concern the devices of a gateway.
#[derive(Default)]
pub struct Concern {
    rollouts: BTreeSet<Id>,
    releases: BTreeSet<Id>,
    models: BTreeSet<String>,
    districts: BTreeSet<Scope>,
}

impl Concern {
    /// Looks at all devices of a gateway and their deployments: off the async threads.
    ///
    /// # Errors
    /// The state can't be read.
    pub fn of(view: &View, gateway: &Id) -> Result<Self, StateError> {
        let (mut concern, mut rows) = (Self::default(), 0);
        let mut after: Option<Id> = None;
        while rows < ROWS_MAX {
            let page = devices::by_gateway(view, gateway, after.as_ref(), PAGE)?;
            rows += page.len();
            let is_last = page.len() < PAGE;
            after = page.last().map(|device| device.device.clone());
            for device in page {
                let deployments =
                    rollouts::deployments_of_device(view, &device.device, None, PAGE)?;
                rows += deployments.len();
                let ids = deployments.into_iter().map(|deployment| deployment.rollout);
                concern.rollouts.extend(ids);
                concern.models.insert(device.model);
                concern.districts.insert(device.district);
            }
            if is_last {
                break;
            }
        }
        for rollout in &concern.rollouts {
            let rollout = rollouts::rollout(view, rollout)?;
            concern
                .releases
                .extend(rollout.map(|rollout| rollout.plan.release));
        }
        Ok(concern)
    }
}

impl RightsAt<'_> {
    fn concern(&self, gateway: &Id) -> Result<&Concern, StateError> {
        if let Some(concern) = self.concern.get() {
            return Ok(concern);
        }
        let concern = Concern::of(self.view, gateway)?;
        Ok(self.concern.get_or_init(|| concern))
    }

    pub(super) fn concerns_gateway(&self, record: &Record<'_>) -> Result<bool, StateError> {
        let Some(gateway) = &self.rights.account else {
            return Ok(false);
        };
        let is_assigned = |id: &Id| -> Result<bool, StateError> {
            let device = self.device(id)?;
            Ok(device.is_some_and(|device| device.gateway.as_ref() == Some(gateway)))
        };
        Ok(match record {
            Record::Device(device) => device.gateway.as_ref() == Some(gateway),
            Record::DeviceNamed(id) => is_assigned(id)?,
            Record::Release(release) => {
                let releases = &self.concern(gateway)?.releases;
                releases.contains(&release.manifest.release)
            }
            Record::ReleaseNamed(id) => self.concern(gateway)?.releases.contains(*id),
            Record::Rollout(rollout) => self
                .concern(gateway)?
                .rollouts
                .contains(&rollout.plan.rollout),
            Record::RolloutNamed(id) => self.concern(gateway)?.rollouts.contains(*id),
            Record::Config(target) => match target {
                ConfigTarget::Fleet => true,
                ConfigTarget::Model { model } => self.concern(gateway)?.models.contains(model),
                ConfigTarget::District { district } => {
                    let districts = &self.concern(gateway)?.districts;
                    districts.iter().any(|place| district.covers(place))
                }
                ConfigTarget::Device { device } => is_assigned(device)?,
            },
            Record::Common
            | Record::Block
            | Record::Governance
            | Record::Transaction { .. }
            | Record::Account(_)
            | Record::AccountNamed(_)
            | Record::Sessions(_) => false,
        })
    }

    pub(super) fn selects_from_districts(&self, rollout: &Rollout) -> Result<bool, StateError> {
        let mut districts = rollout.districts.iter();
        if !districts
            .clone()
            .any(|district| self.rights.meets(district))
        {
            return Ok(false);
        }
        let Selection::List { devices } = &rollout.plan.selection else {
            return Ok(true);
        };
        // Each of these districts has a listed device, perhaps in a part of it.
        if districts.any(|district| self.rights.covers(district)) {
            return Ok(true);
        }
        for device in devices {
            let device = self.device(device)?;
            if device.is_some_and(|device| self.rights.covers(&device.district)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn configures_districts(&self, target: &ConfigTarget) -> Result<bool, StateError> {
        match target {
            ConfigTarget::Fleet | ConfigTarget::Model { .. } => Ok(true),
            ConfigTarget::District { district } => Ok(self.rights.meets(district)),
            ConfigTarget::Device { device } => {
                let district = self.device(device)?.map(|device| device.district);
                Ok(self.rights.covers(&district.unwrap_or_else(Scope::city)))
            }
        }
    }
}
