//! Guards of a plan: consent, and the wait for it and for a window.
//!
//! The image is downloaded as in any other rollout. From then on the deployment waits for
//! `wait_ms_max` at most, and:
//!
//! - While the plan asks for consent and there is none that counts now, it is `waiting_consent`.
//!   Each of those who are asked may consent, until a time, withdraw it, or refuse; a refusal
//!   cancels the deployment. A consent whose time is over leads back to `waiting_consent`. Where
//!   nobody has consented in time the deployment is cancelled: it says nothing about the release.
//! - The *gateway* orders the installation inside of a window alone; the contract has no calendar
//!   and no zones. Outside of them the gateway reports `waiting_window`, with the time of the next
//!   one. A gateway that never finds one is silent for too long, and that counts as a failure.
//! - A Thing, or its gateway when it finds the Thing busy, may postpone within the caps of the
//!   plan, like a person. It names seconds; beyond the caps the latest time counts.
//!
//! A Thing that installs nevertheless is believed, with a step that says so: the ledger must not be
//! blind. In `from` a Thing names `downloaded` for all of these, since it knows no more.

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::limits::{TEXT_BYTES_MAX, WINDOW_MINUTES_MAX, WINDOWS_MAX};
use lamplighter_types::schedule::{Schedule, is_zone_name};
use lamplighter_types::{
    AccountKind, Consent, ConsentChoice, ConsentDecision, ConsentFrom, Deployment,
    DeploymentReport, DeploymentState, Device, Fact, InstallRecord, InstallRules,
    MaintenanceWindow, Notification, Role,
};

use super::operator_actions::{put_off, require_postponable};
use super::plan::find;
use super::transitions::{is_held, is_postponable};
use super::unit::{RolloutUnit, StepInfo};
use super::{RolloutsError, STEP_MS_MAX, keys};
use crate::validate::{self, FieldError};
use crate::{Context, ExecutionError, devices};

use DeploymentState::*;

const MS_PER_SECOND: u64 = 1_000;

/// Checks shape and size. That a schedule fires is decided without any calendar of years or zones.
pub(super) fn check(rules: &InstallRules) -> Result<(), RolloutsError> {
    let InstallRules {
        windows,
        consent,
        wait_ms_max,
    } = rules;
    if windows.len() > WINDOWS_MAX {
        return Err(RolloutsError::TooManyWindows(windows.len()));
    }
    for (window, number) in windows.iter().zip(1..) {
        check_window(window).map_err(|problem| RolloutsError::Window {
            window: number,
            problem,
        })?;
    }
    let is_repeated = |at: usize| consent[..at].contains(&consent[at]);
    if (0..consent.len()).any(is_repeated) {
        return Err(RolloutsError::ConsentTwice);
    }
    match *wait_ms_max {
        1..=STEP_MS_MAX => Ok(()),
        got => Err(RolloutsError::Duration {
            field: "wait_ms_max",
            got,
        }),
    }
}

fn check_window(window: &MaintenanceWindow) -> Result<(), &'static str> {
    let MaintenanceWindow {
        schedule,
        minutes,
        zone,
    } = window;
    if let Err(error) = schedule.parse::<Schedule>() {
        return Err(error.reason());
    }
    if !(1..=WINDOW_MINUTES_MAX).contains(minutes) {
        return Err("it is open for 1 to 10080 minutes");
    }
    match is_zone_name(zone) {
        true => Ok(()),
        false => Err("its zone is no name of IANA, such as Europe/Berlin"),
    }
}

pub(super) fn check_decision(decision: &ConsentDecision) -> Result<(), FieldError> {
    let ConsentDecision {
        rollout: _,
        device: _,
        decision,
        reason,
    } = decision;
    match decision {
        ConsentChoice::Granted { until_ms } => validate::number("until_ms", *until_ms)?,
        ConsentChoice::Withdrawn | ConsentChoice::Refused => {}
    }
    validate::text("reason", reason, TEXT_BYTES_MAX)
}

/// Carries out a person's decision.
pub(super) fn decide(
    overlay: &mut Overlay,
    context: &Context,
    decision: &ConsentDecision,
) -> Result<Vec<Notification>, ExecutionError> {
    let ConsentDecision {
        rollout: name,
        device,
        decision,
        reason,
    } = decision;
    find(overlay, name)?;
    let unknown = || RolloutsError::UnknownDeployment {
        rollout: name.clone(),
        device: device.clone(),
    };
    let mut deployment = overlay
        .get(&keys::deployment(name, device))?
        .ok_or_else(unknown)?;
    let device = devices::device(overlay, device)?
        .ok_or_else(|| RolloutsError::UnknownDevice(device.clone()))?;
    let mut unit = RolloutUnit::new(overlay, context.block);
    let rules = unit.rules(name)?.filter(|rules| !rules.consent.is_empty());
    let rules = rules.ok_or_else(|| RolloutsError::NoConsentAsked(name.clone()))?;
    if !rules
        .consent
        .iter()
        .any(|kind| is_asked(*kind, context, &device))
    {
        return Err(RolloutsError::NotAsked(context.sender.account.clone()).into());
    }
    let state = deployment.state;
    if state.is_past_return() {
        return Err(RolloutsError::TooLate(state).into());
    }
    if !is_postponable(state) || deployment.first_offered_ms.is_none() {
        return Err(RolloutsError::NotOffered(state).into());
    }
    require_possible(&unit, &deployment, *decision)?;
    let info = StepInfo {
        by: Some(context.sender.account.clone()),
        detail: reason.clone(),
        ..StepInfo::default()
    };
    record_decision(&mut unit, &mut deployment, &device, *decision, info)?;
    Ok(unit.commit()?)
}

fn is_asked(kind: ConsentFrom, context: &Context, device: &Device) -> bool {
    let sender = &context.sender;
    match kind {
        ConsentFrom::Operator => sender.has_role(Role::Operator, &device.district),
        ConsentFrom::Owner => {
            sender.kind == AccountKind::User && sender.organization == device.owner
        }
        ConsentFrom::Thing => false,
    }
}

fn require_possible(
    unit: &RolloutUnit<'_>,
    deployment: &Deployment,
    decision: ConsentChoice,
) -> Result<(), ExecutionError> {
    let now_ms = unit.block.time_ms;
    let latest_ms = now_ms.saturating_add(STEP_MS_MAX);
    match decision {
        ConsentChoice::Granted { until_ms } if until_ms <= now_ms || until_ms > latest_ms => {
            Err(RolloutsError::ConsentTime {
                until_ms,
                latest_ms,
            }
            .into())
        }
        ConsentChoice::Withdrawn if record(unit, deployment)?.consent.is_none() => {
            Err(RolloutsError::NoConsent.into())
        }
        ConsentChoice::Granted { .. } | ConsentChoice::Withdrawn | ConsentChoice::Refused => Ok(()),
    }
}

fn record_decision(
    unit: &mut RolloutUnit<'_>,
    deployment: &mut Deployment,
    device: &Device,
    decision: ConsentChoice,
    info: StepInfo,
) -> Result<(), StateError> {
    let by_thing = info.attested;
    let mut record = record(unit, deployment)?;
    record.consent = None;
    match (decision, &info.by) {
        (ConsentChoice::Granted { until_ms }, Some(by)) => {
            record.granted = record.granted.saturating_add(1);
            record.consent = Some(Consent {
                by: by.clone(),
                by_thing,
                granted_ms: unit.block.time_ms,
                until_ms,
            });
        }
        // Nobody but an account decides.
        (ConsentChoice::Granted { .. }, None) => {}
        (ConsentChoice::Withdrawn, _) => record.withdrawn = record.withdrawn.saturating_add(1),
        (ConsentChoice::Refused, _) => record.refused = record.refused.saturating_add(1),
    }
    put(unit, &record);
    let fact = Fact::ConsentDecided {
        rollout: deployment.rollout.clone(),
        decision,
        by_thing,
    };
    unit.notify(Notification::about_device(device, fact));
    let to = match (decision, deployment.state) {
        (ConsentChoice::Refused, _) => Cancelled,
        (ConsentChoice::Granted { .. }, WaitingConsent) => Downloaded,
        (ConsentChoice::Withdrawn, Downloaded | WaitingWindow) => WaitingConsent,
        (ConsentChoice::Granted { .. } | ConsentChoice::Withdrawn, state) => state,
    };
    if to != deployment.state {
        return unit.advance(deployment, device, to, info);
    }
    unit.add_step(deployment, to, info);
    if is_held(to) {
        unit.set_timer(deployment, Some(limit_ms(&record, to)));
    }
    unit.put(deployment);
    Ok(())
}

/// Makes the record of a deployment that a block assigns: it is charged to no account then.
pub(super) fn begin(unit: &mut RolloutUnit<'_>, deployment: &Deployment) -> Result<(), StateError> {
    if unit.rules(&deployment.rollout)?.is_some() {
        let record = record(unit, deployment)?;
        put(unit, &record);
    }
    Ok(())
}

/// The record of a deployment, or an empty one.
fn record(unit: &RolloutUnit<'_>, deployment: &Deployment) -> Result<InstallRecord, StateError> {
    let (rollout, device) = (&deployment.rollout, &deployment.device);
    let found = unit.overlay.get(&keys::install_record(rollout, device))?;
    Ok(found.unwrap_or_else(|| InstallRecord {
        rollout: rollout.clone(),
        device: device.clone(),
        wait_until_ms: None,
        consent: None,
        granted: 0,
        withdrawn: 0,
        refused: 0,
        postponed_by_thing: 0,
    }))
}

fn put(unit: &mut RolloutUnit<'_>, record: &InstallRecord) {
    let key = keys::install_record(&record.rollout, &record.device);
    unit.overlay.put(&key, record);
}

/// The time at which a deployment that is held is looked at again: the end of its wait, or of its
/// consent.
fn limit_ms(record: &InstallRecord, state: DeploymentState) -> u64 {
    let wait_ms = record.wait_until_ms.unwrap_or(0);
    match &record.consent {
        Some(consent) if state != WaitingConsent => wait_ms.min(consent.until_ms),
        Some(_) | None => wait_ms,
    }
}

/// The deadline of a deployment with guards that was just moved; `None` where the timers of the
/// plan count.
pub(super) fn deadline(
    unit: &mut RolloutUnit<'_>,
    deployment: &Deployment,
    from: Option<DeploymentState>,
) -> Result<Option<u64>, StateError> {
    let state = deployment.state;
    if !is_held(state) && state != Installing {
        return Ok(None);
    }
    let Some(rules) = unit.rules(&deployment.rollout)? else {
        return Ok(None);
    };
    let (wait_ms, now_ms) = (rules.wait_ms_max, unit.block.time_ms);
    if state == Installing {
        let install_ms = unit.rollout(&deployment.rollout)?.plan.timers.install_ms;
        return Ok(Some(now_ms.saturating_add(install_ms)));
    }
    let mut record = record(unit, deployment)?;
    if !from.is_some_and(is_held) {
        record.wait_until_ms = Some(now_ms.saturating_add(wait_ms));
        put(unit, &record);
    }
    Ok(Some(limit_ms(&record, state)))
}

/// Tells whether a deployment could be installed but for a consent that counts now.
pub(super) fn lacks_consent(
    unit: &mut RolloutUnit<'_>,
    deployment: &Deployment,
) -> Result<bool, StateError> {
    if !matches!(deployment.state, Downloaded | WaitingWindow) {
        return Ok(false);
    }
    let rules = unit.rules(&deployment.rollout)?;
    if rules.is_none_or(|rules| rules.consent.is_empty()) {
        return Ok(false);
    }
    let consent = record(unit, deployment)?.consent;
    Ok(consent.is_none_or(|consent| consent.until_ms <= unit.block.time_ms))
}

/// Handles the timer of a deployment with guards; false if it is that of any other one.
pub(super) fn on_expired(
    unit: &mut RolloutUnit<'_>,
    deployment: &mut Deployment,
    device: &Device,
    paused: bool,
) -> Result<bool, StateError> {
    let state = deployment.state;
    let rules = unit.rules(&deployment.rollout)?;
    let Some(rules) = rules.filter(|_| is_held(state)) else {
        return Ok(false);
    };
    let (wait_ms, now_ms) = (rules.wait_ms_max, unit.block.time_ms);
    let mut record = record(unit, deployment)?;
    let is_over = record
        .wait_until_ms
        .is_none_or(|until_ms| until_ms <= now_ms);
    if paused && is_over {
        record.wait_until_ms = Some(now_ms.saturating_add(wait_ms));
        put(unit, &record);
    }
    if lacks_consent(unit, deployment)? && (paused || !is_over) {
        let info = StepInfo::system("the consent is over");
        unit.advance(deployment, device, WaitingConsent, info)?;
        return Ok(true);
    }
    if paused {
        unit.set_timer(deployment, Some(limit_ms(&record, state)));
        unit.put(deployment);
        return Ok(true);
    }
    if state == WaitingConsent {
        let info = StepInfo::system("nobody consented in time");
        unit.advance(deployment, device, Cancelled, info)?;
        return Ok(true);
    }
    Ok(false)
}

/// Tells whether a report may move a deployment by the guards of its plan, besides the table of
/// transitions.
pub(super) fn allows(
    unit: &mut RolloutUnit<'_>,
    deployment: &Deployment,
    from: DeploymentState,
    to: DeploymentState,
) -> Result<bool, StateError> {
    if unit.rules(&deployment.rollout)?.is_none() {
        return Ok(false);
    }
    let current = deployment.state;
    let was_held =
        is_held(current) || current == Postponed && deployment.postponed_from.is_some_and(is_held);
    if from != current && !(from == Downloaded && was_held) {
        return Ok(false);
    }
    Ok(match to {
        WaitingWindow => current == Downloaded,
        Postponed => is_postponable(current) && current != Postponed,
        Downloaded | Cancelled => current == WaitingConsent,
        Installing | Failed | Rejected => was_held,
        Assigned | Offered | WaitingConsent | Downloading | Staged | Trial | Confirmed
        | Reverted | TimedOut | Superseded | Removed | NotNeeded => false,
    })
}

/// What a report of a Thing, or of its gateway, asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Postpone { until_ms: u64 },
    Decide(ConsentChoice),
}

/// Validates a report that [`allows`] lets pass and that asks for something; `None` for a step as
/// any other.
pub(super) fn asked(
    unit: &mut RolloutUnit<'_>,
    deployment: &Deployment,
    report: &DeploymentReport,
    info: &StepInfo,
) -> Result<Option<Asked>, ExecutionError> {
    let now_ms = unit.block.time_ms;
    let span_ms = u64::from(report.code) * MS_PER_SECOND;
    let rules = unit.rules(&deployment.rollout)?.cloned();
    let Some(rules) = rules else {
        return Ok(None);
    };
    let decision = match (deployment.state, report.to) {
        (_, Postponed) => {
            let plan = unit.rollout(&deployment.rollout)?.plan.clone();
            let offered_ms = deployment.first_offered_ms.unwrap_or(now_ms);
            let latest_ms = offered_ms.saturating_add(plan.deferral.total_ms_max);
            let until_ms = now_ms.saturating_add(span_ms).min(latest_ms);
            require_postponable(unit, &plan, deployment, until_ms)?;
            return Ok(Some(Asked::Postpone { until_ms }));
        }
        (WaitingConsent, Downloaded) => {
            let span_ms = match span_ms {
                0 => rules.wait_ms_max,
                span_ms => span_ms.min(STEP_MS_MAX),
            };
            ConsentChoice::Granted {
                until_ms: now_ms.saturating_add(span_ms),
            }
        }
        (WaitingConsent, Cancelled) => ConsentChoice::Refused,
        _ => return Ok(None),
    };
    // Nobody answers for a Thing but its key.
    if !info.attested || !rules.consent.contains(&ConsentFrom::Thing) {
        let account = info.by.clone();
        return Err(RolloutsError::NotAsked(account.unwrap_or(deployment.device.clone())).into());
    }
    Ok(Some(Asked::Decide(decision)))
}

/// Carries out what a report asks for.
pub(super) fn carry_out(
    unit: &mut RolloutUnit<'_>,
    deployment: &mut Deployment,
    device: &Device,
    asked: Asked,
    info: StepInfo,
) -> Result<(), StateError> {
    match asked {
        Asked::Decide(decision) => record_decision(unit, deployment, device, decision, info),
        Asked::Postpone { until_ms } => {
            let mut record = record(unit, deployment)?;
            record.postponed_by_thing = record.postponed_by_thing.saturating_add(1);
            put(unit, &record);
            put_off(unit, deployment, device, until_ms, info)
        }
    }
}

/// The step of a Thing that installs although it should not yet: the detail says so.
pub(super) fn explained(
    deployment: &mut Deployment,
    to: DeploymentState,
    mut info: StepInfo,
) -> StepInfo {
    if to != Installing {
        return info;
    }
    match deployment.state {
        WaitingConsent => info.detail.insert_str(0, "without consent: "),
        Postponed => {
            deployment.postponed_until_ms = None;
            deployment.postponed_from = None;
            info.detail.insert_str(0, "while postponed: ");
        }
        _ => {}
    }
    info
}
