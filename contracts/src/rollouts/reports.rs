//! Reports of gateways and Things about their deployments.

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::{
    AccountKind, Deployment, DeploymentReport, DeploymentState, Device, DeviceState, Fact, Hash,
    Notification, ReleaseManifest, RolloutStatus,
};

use super::revoked::image_reported;
use super::transitions::{DigestRule, digest_rule, is_reportable, needs_signature};
use super::unit::{RolloutUnit, StepInfo};
use super::{RolloutsError, device_state, guards, keys};
use crate::devices::{self, AcceptedReport};
use crate::firmware::{self, FirmwareError};
use crate::{Context, ExecutionError};

/// Accepts or refuses each report on its own.
///
/// # Errors
/// The reason of the first one, if none was accepted; or the state can't be read.
pub fn report(
    overlay: &mut Overlay,
    context: &Context,
    reports: &[DeploymentReport],
) -> Result<Vec<Notification>, ExecutionError> {
    if context.sender.kind != AccountKind::Gateway {
        return Err(RolloutsError::NotGateway(context.sender.account.clone()).into());
    }
    let mut unit = RolloutUnit::new(overlay, context.block);
    let mut accepted = false;
    let mut refused = None;
    for report in reports {
        match apply_report(&mut unit, context, report) {
            Ok(()) => accepted = true,
            Err(ExecutionError::Refused(refusal)) => {
                let notification = refusal_of(&unit, report, refusal.code)?;
                unit.notify(notification);
                refused.get_or_insert(refusal);
            }
            Err(fatal @ ExecutionError::Fatal(_)) => return Err(fatal),
        }
    }
    match refused {
        Some(refusal) if !accepted => Err(ExecutionError::Refused(refusal)),
        Some(_) | None => Ok(unit.commit()?),
    }
}

fn refusal_of(
    unit: &RolloutUnit<'_>,
    report: &DeploymentReport,
    code: &str,
) -> Result<Notification, StateError> {
    let fact = Fact::ReportRefused {
        rollout: report.rollout.clone(),
        to: report.to,
        counter: report.counter,
        code: code.to_owned(),
    };
    let device = devices::device(unit.overlay, &report.device)?;
    Ok(device.map_or_else(
        || Notification::city(fact.clone()),
        |device| Notification::about_device(&device, fact.clone()),
    ))
}

/// Validates a report, then applies it. Nothing is written before all is validated: a refused
/// report changes nothing.
fn apply_report(
    unit: &mut RolloutUnit<'_>,
    context: &Context,
    report: &DeploymentReport,
) -> Result<(), ExecutionError> {
    let DeploymentReport {
        rollout,
        device: name,
        from,
        to,
        code,
        digest: _,
        seen_height,
        counter,
        detail,
        signature: _,
    } = report;
    let AcceptedReport {
        device,
        state,
        attested,
    } = devices::accept_report(unit.overlay, context, name, report, *counter)?;
    if *seen_height > context.block.height {
        return Err(RolloutsError::FutureHeight(*seen_height).into());
    }
    let unknown = || RolloutsError::UnknownDeployment {
        rollout: rollout.clone(),
        device: name.clone(),
    };
    let deployment = unit
        .overlay
        .get(&keys::deployment(rollout, name))?
        .ok_or_else(unknown)?;
    let by_guards = guards::allows(unit, &deployment, *from, *to)?;
    if deployment.state != *from && !by_guards {
        let (claimed, current) = (*from, deployment.state);
        return Err(RolloutsError::Stale { claimed, current }.into());
    }
    let manifest = unit.release(&deployment.release)?.manifest.clone();
    let late = is_late(*from, *to);
    if !late && !by_guards && !is_reportable(*from, *to) {
        let (from, to) = (*from, *to);
        return Err(RolloutsError::Transition { from, to }.into());
    }
    if device.key.is_some() && !attested && needs_signature(*to) {
        return Err(RolloutsError::Unsigned(*to).into());
    }
    require_digest(report, &manifest)?;
    require_permission(unit, &device, report, &manifest)?;
    let by = Some(context.sender.account.clone());
    let info = StepInfo {
        by,
        attested,
        code: *code,
        detail: detail.clone(),
    };
    let known = ReportSubject {
        deployment,
        device,
        state,
        manifest,
    };
    if late {
        known.confirm_late(unit, info)
    } else {
        known.apply(unit, report, info)
    }
}

/// Tells whether a Thing confirms a release although its deployment ended otherwise.
fn is_late(from: DeploymentState, to: DeploymentState) -> bool {
    use DeploymentState::{Confirmed, NotNeeded};
    to == Confirmed && from.is_end() && from != Confirmed && from != NotNeeded
}

fn require_digest(
    report: &DeploymentReport,
    manifest: &ReleaseManifest,
) -> Result<(), RolloutsError> {
    let same = report.digest.map(|digest| digest == manifest.artifact);
    let fits = match digest_rule(report.to) {
        DigestRule::Artifact => same == Some(true),
        DigestRule::ArtifactIfAny => same != Some(false),
        DigestRule::OtherIfAny => same != Some(true),
        DigestRule::Free => true,
    };
    if fits {
        Ok(())
    } else {
        Err(RolloutsError::Digest(manifest.artifact))
    }
}

/// Requires a running rollout, an active device and an unexpired release for the steps that a
/// gateway begins. A gateway that could not yet have seen that the rollout no longer runs is
/// believed.
fn require_permission(
    unit: &mut RolloutUnit<'_>,
    device: &Device,
    report: &DeploymentReport,
    manifest: &ReleaseManifest,
) -> Result<(), ExecutionError> {
    use DeploymentState::{Downloading, Offered};
    if !matches!(report.to, Offered | Downloading) {
        return Ok(());
    }
    devices::require_active(device)?;
    if firmware::is_expired(manifest, unit.block.time_ms) {
        return Err(FirmwareError::Expired(manifest.release.clone()).into());
    }
    let rollout = unit.rollout(&report.rollout)?;
    if rollout.status != RolloutStatus::Running && report.seen_height >= rollout.status_height {
        return Err(RolloutsError::Status(rollout.status).into());
    }
    Ok(())
}

/// The records that a report is about.
struct ReportSubject {
    deployment: Deployment,
    device: Device,
    state: DeviceState,
    manifest: ReleaseManifest,
}

impl ReportSubject {
    fn apply(
        mut self,
        unit: &mut RolloutUnit<'_>,
        report: &DeploymentReport,
        info: StepInfo,
    ) -> Result<(), ExecutionError> {
        let before = self.state.digest;
        let asked = guards::asked(unit, &self.deployment, report, &info)?;
        if let Some(asked) = asked {
            self.put_state(unit, before)?;
            let Self {
                deployment, device, ..
            } = &mut self;
            return Ok(guards::carry_out(unit, deployment, device, asked, info)?);
        }
        let info = guards::explained(&mut self.deployment, report.to, info);
        let mut drift = None;
        match report.to {
            DeploymentState::Offered => {
                self.deployment
                    .first_offered_ms
                    .get_or_insert(unit.block.time_ms);
            }
            DeploymentState::Confirmed | DeploymentState::NotNeeded => {
                device_state::record_confirmed(&mut self.state, &self.manifest);
            }
            DeploymentState::Reverted => {
                let (running, abandoned) = (report.digest, &self.manifest.artifact);
                drift =
                    device_state::record_revert(unit.overlay, &mut self.state, running, abandoned)?;
            }
            _ => {}
        }
        self.put_state(unit, before)?;
        if let (Some(expected), Some(running)) = (drift, report.digest) {
            let fact = Fact::DeviceDrifted { expected, running };
            unit.notify(Notification::about_device(&self.device, fact));
        }
        if report.to == DeploymentState::Failed && self.may_retry(unit, &info)? {
            unit.retry(&mut self.deployment, &self.device, info)?;
        } else {
            unit.advance(&mut self.deployment, &self.device, report.to, info)?;
        }
        Ok(())
    }

    /// Stores the device's state. `before` is the image that it ran until now.
    fn put_state(
        &self,
        unit: &mut RolloutUnit<'_>,
        before: Option<Hash>,
    ) -> Result<(), StateError> {
        device_state::put_state(unit.overlay, &self.device.device, &self.state);
        let named = image_reported(unit.overlay, &self.device, before, &self.state)?;
        named.into_iter().for_each(|named| unit.notify(named));
        Ok(())
    }

    /// Tells whether a failure leads to another attempt. A gateway's report that a Thing failed
    /// while installing does not: the Thing may still be at work. In the trial the image itself
    /// failed.
    fn may_retry(&self, unit: &mut RolloutUnit<'_>, info: &StepInfo) -> Result<bool, StateError> {
        let from = self.deployment.state;
        let vouched = info.attested || self.device.key.is_none() || !from.is_past_return();
        let policy = unit.grouped(&self.deployment.rollout)?;
        let listed = policy.is_none_or(|grouped| {
            let codes = &grouped.plan.retry.codes;
            codes.is_empty() || codes.contains(&info.code)
        });
        let rollout = unit.rollout(&self.deployment.rollout)?;
        let is_live = !matches!(
            rollout.status,
            RolloutStatus::Stopping | RolloutStatus::Stopped
        );
        let left = self.deployment.retries < rollout.plan.retries_max;
        Ok(vouched && listed && is_live && left && from != DeploymentState::Trial)
    }

    fn confirm_late(
        mut self,
        unit: &mut RolloutUnit<'_>,
        mut info: StepInfo,
    ) -> Result<(), ExecutionError> {
        let before = self.state.digest;
        device_state::record_confirmed(&mut self.state, &self.manifest);
        self.put_state(unit, before)?;
        info.detail.insert_str(0, "confirmed late: ");
        let end = self.deployment.state;
        unit.add_step(&mut self.deployment, end, info);
        unit.put(&self.deployment);
        let digest = self.manifest.artifact;
        unit.notify(Notification::about_device(
            &self.device,
            Fact::InventoryReported { digest },
        ));
        Ok(())
    }
}
