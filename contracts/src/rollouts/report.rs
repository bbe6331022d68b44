//! What gateways and Things say of their deployments.

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::{
    AccountKind, Deployment, DeploymentReport, DeploymentState, Device, DeviceState, Fact,
    Notification, ReleaseManifest, RolloutStatus,
};

use super::desk::{Desk, StepInfo};
use super::transitions::{DigestRule, digest_rule, is_reportable, needs_signature};
use super::{RolloutsError, block_of, fleet, keys};
use crate::devices::{self, Reported};
use crate::firmware::{self, FirmwareError};
use crate::{Context, ExecutionError, about_device, in_city};

/// Takes each report or refuses it by itself.
///
/// # Errors
/// The reason of the first one, if none was taken; or the state can't be read.
pub fn report(
    overlay: &mut Overlay,
    context: &Context,
    reports: &[DeploymentReport],
) -> Result<Vec<Notification>, ExecutionError> {
    if context.sender.kind != AccountKind::Gateway {
        return Err(RolloutsError::NotGateway(context.sender.account.clone()).into());
    }
    let mut desk = Desk::new(overlay, block_of(context));
    let mut taken = false;
    let mut refused = None;
    for report in reports {
        match take(&mut desk, context, report) {
            Ok(()) => taken = true,
            Err(ExecutionError::Refused(refusal)) => {
                let notification = refusal_of(&desk, report, refusal.code)?;
                desk.notify(notification);
                refused.get_or_insert(refusal);
            }
            Err(fatal @ ExecutionError::Fatal(_)) => return Err(fatal),
        }
    }
    match refused {
        Some(refusal) if !taken => Err(ExecutionError::Refused(refusal)),
        Some(_) | None => Ok(desk.close()?),
    }
}

fn refusal_of(
    desk: &Desk<'_>,
    report: &DeploymentReport,
    code: &str,
) -> Result<Notification, StateError> {
    let fact = Fact::ReportRefused {
        rollout: report.rollout.clone(),
        to: report.to,
        counter: report.counter,
        code: code.to_owned(),
    };
    let device = devices::device(desk.overlay, &report.device)?;
    Ok(device.map_or_else(
        || in_city(fact.clone()),
        |device| about_device(&device, fact.clone()),
    ))
}

/// Everything is judged before anything is written: a refused report changes nothing.
fn take(
    desk: &mut Desk<'_>,
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
    let Reported {
        device,
        state,
        attested,
    } = devices::accept_report(desk.overlay, context, name, report, *counter)?;
    if *seen_height > context.height {
        return Err(RolloutsError::FutureHeight(*seen_height).into());
    }
    let unknown = || RolloutsError::UnknownDeployment {
        rollout: rollout.clone(),
        device: name.clone(),
    };
    let deployment = desk
        .overlay
        .get(&keys::deployment(rollout, name))?
        .ok_or_else(unknown)?;
    if deployment.state != *from {
        let (claimed, current) = (*from, deployment.state);
        return Err(RolloutsError::Stale { claimed, current }.into());
    }
    let manifest = desk.release(&deployment.release)?.manifest.clone();
    let late = is_late(*from, *to);
    if !late && !is_reportable(*from, *to) {
        return Err(RolloutsError::Transition {
            from: *from,
            to: *to,
        }
        .into());
    }
    if device.key.is_some() && !attested && needs_signature(*to) {
        return Err(RolloutsError::Unsigned(*to).into());
    }
    demand_digest(report, &manifest)?;
    demand_permission(desk, &device, report, &manifest)?;
    let by = Some(context.sender.account.clone());
    let info = StepInfo {
        by,
        attested,
        code: *code,
        detail: detail.clone(),
    };
    let known = Known {
        deployment,
        device,
        state,
        manifest,
    };
    if late {
        known.confirm_late(desk, info)
    } else {
        known.apply(desk, report, info)
    }
}

/// A Thing runs the release although its deployment ended otherwise.
fn is_late(from: DeploymentState, to: DeploymentState) -> bool {
    use DeploymentState::{Confirmed, NotNeeded};
    to == Confirmed && from.is_end() && from != Confirmed && from != NotNeeded
}

fn demand_digest(
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

/// What a gateway begins needs a running rollout, an active device and a release that has not
/// expired. A gateway that could not have seen the end of that is believed.
fn demand_permission(
    desk: &mut Desk<'_>,
    device: &Device,
    report: &DeploymentReport,
    manifest: &ReleaseManifest,
) -> Result<(), ExecutionError> {
    use DeploymentState::{Downloading, Offered};
    if !matches!(report.to, Offered | Downloading) {
        return Ok(());
    }
    devices::demand_active(device)?;
    if firmware::is_expired(manifest, desk.block.time_ms) {
        return Err(FirmwareError::Expired(manifest.release.clone()).into());
    }
    let rollout = desk.rollout(&report.rollout)?;
    if rollout.status != RolloutStatus::Running && report.seen_height >= rollout.status_height {
        return Err(RolloutsError::Status(rollout.status).into());
    }
    Ok(())
}

/// What a report is about.
struct Known {
    deployment: Deployment,
    device: Device,
    state: DeviceState,
    manifest: ReleaseManifest,
}

impl Known {
    fn apply(
        mut self,
        desk: &mut Desk<'_>,
        report: &DeploymentReport,
        info: StepInfo,
    ) -> Result<(), ExecutionError> {
        let name = &self.device.device;
        let mut drift = None;
        match report.to {
            DeploymentState::Offered => {
                self.deployment
                    .first_offered_ms
                    .get_or_insert(desk.block.time_ms);
            }
            DeploymentState::Confirmed | DeploymentState::NotNeeded => {
                fleet::runs(&mut self.state, &self.manifest);
            }
            DeploymentState::Reverted => {
                let (running, abandoned) = (report.digest, &self.manifest.artifact);
                drift = fleet::went_back(desk.overlay, &mut self.state, running, abandoned)?;
            }
            _ => {}
        }
        fleet::put_state(desk.overlay, name, &self.state);
        if let (Some(expected), Some(running)) = (drift, report.digest) {
            let fact = Fact::DeviceDrifted { expected, running };
            desk.notify(about_device(&self.device, fact));
        }
        if report.to == DeploymentState::Failed && self.may_retry(desk, info.attested)? {
            desk.retry(&mut self.deployment, &self.device, info)?;
        } else {
            desk.advance(&mut self.deployment, &self.device, report.to, info)?;
        }
        Ok(())
    }

    /// A gateway's word that a Thing failed while installing does not start another attempt: the
    /// Thing may be at work. In its trial the image itself failed.
    fn may_retry(&self, desk: &mut Desk<'_>, attested: bool) -> Result<bool, StateError> {
        let from = self.deployment.state;
        let vouched = attested || self.device.key.is_none() || !from.is_past_return();
        let rollout = desk.rollout(&self.deployment.rollout)?;
        let goes_on = !matches!(
            rollout.status,
            RolloutStatus::Stopping | RolloutStatus::Stopped
        );
        let left = self.deployment.retries < rollout.plan.retries_max;
        Ok(vouched && goes_on && left && from != DeploymentState::Trial)
    }

    fn confirm_late(
        mut self,
        desk: &mut Desk<'_>,
        mut info: StepInfo,
    ) -> Result<(), ExecutionError> {
        fleet::runs(&mut self.state, &self.manifest);
        fleet::put_state(desk.overlay, &self.device.device, &self.state);
        info.detail.insert_str(0, "confirmed late: ");
        let end = self.deployment.state;
        desk.add_step(&mut self.deployment, end, info);
        desk.put(&self.deployment);
        let digest = self.manifest.artifact;
        desk.notify(about_device(
            &self.device,
            Fact::InventoryReported { digest },
        ));
        Ok(())
    }
}
