//! The actions on rollouts: checks and dispatch.

use lamplighter_state::Overlay;
use lamplighter_types::limits::{
    ID_BYTES_MAX, LIST_ITEMS_MAX, ROLLOUT_LIST_MAX, TAG_VALUE_BYTES_MAX, TEXT_BYTES_MAX,
};
use lamplighter_types::{
    DeferralPolicy, DeploymentReport, GuardedPlan, Notification, RolloutPlan, RolloutsAction,
    Selection, StepTimers,
};

use super::{
    RolloutsError, STEP_MS_MAX, approving, groups, guards, operator_actions, plan, reports,
};
use crate::validate::{self, FieldError};
use crate::{Context, ExecutionError};

/// Checks shape and size.
pub fn check(action: &RolloutsAction) -> Result<(), RolloutsError> {
    match action {
        RolloutsAction::Plan { plan } => check_plan(plan)?,
        RolloutsAction::PlanGroups { plan } | RolloutsAction::Amend { plan } => {
            check_plan(&plan.base)?;
            groups::check(plan)?;
        }
        RolloutsAction::PlanGuarded { plan } | RolloutsAction::AmendGuarded { plan } => {
            let GuardedPlan { plan, rules } = &**plan;
            check_plan(&plan.base)?;
            groups::check(plan)?;
            guards::check(rules)?;
        }
        RolloutsAction::Consent(decision) => guards::check_decision(decision)?,
        RolloutsAction::Pause { rollout: _, reason }
        | RolloutsAction::Cancel { rollout: _, reason } => {
            validate::text("reason", reason, TEXT_BYTES_MAX)?;
        }
        RolloutsAction::Postpone(postponement) => {
            operator_actions::check_postponement(postponement)?
        }
        RolloutsAction::Report { reports } => {
            validate::list("reports", reports, LIST_ITEMS_MAX)?;
            reports.iter().try_for_each(check_report)?;
        }
        RolloutsAction::Approve {
            rollout: _,
            plan: _,
        }
        | RolloutsAction::WithdrawApproval { rollout: _ }
        | RolloutsAction::Start { rollout: _ }
        | RolloutsAction::Resume { rollout: _ }
        | RolloutsAction::OpenGroup {
            rollout: _,
            group: _,
        } => {}
    }
    Ok(())
}

fn check_report(report: &DeploymentReport) -> Result<(), FieldError> {
    let DeploymentReport {
        rollout: _,
        device: _,
        from: _,
        to: _,
        code: _,
        digest: _,
        seen_height,
        counter,
        detail,
        signature: _,
    } = report;
    validate::number("seen_height", *seen_height)?;
    validate::number("counter", *counter)?;
    validate::text("detail", detail, TEXT_BYTES_MAX)
}

fn check_plan(plan: &RolloutPlan) -> Result<(), RolloutsError> {
    let RolloutPlan {
        rollout: _,
        release: _,
        selection,
        error_percent_max,
        error_sample_min: _,
        deferral,
        timers,
        retries_max: _,
    } = plan;
    check_selection(selection)?;
    if *error_percent_max > 100 {
        return Err(RolloutsError::Percent(*error_percent_max));
    }
    let DeferralPolicy {
        count_max: _,
        total_ms_max,
    } = deferral;
    if *total_ms_max > STEP_MS_MAX {
        return Err(RolloutsError::Duration {
            field: "total_ms_max",
            got: *total_ms_max,
        });
    }
    let StepTimers {
        offer_ms,
        download_ms,
        install_ms,
        trial_ms,
    } = timers;
    for (field, got) in [
        ("offer_ms", *offer_ms),
        ("download_ms", *download_ms),
        ("install_ms", *install_ms),
        ("trial_ms", *trial_ms),
    ] {
        if got == 0 || got > STEP_MS_MAX {
            return Err(RolloutsError::Duration { field, got });
        }
    }
    Ok(())
}

pub(super) fn check_selection(selection: &Selection) -> Result<(), FieldError> {
    match selection {
        Selection::List { devices } => {
            validate::list("devices", devices, ROLLOUT_LIST_MAX)?;
            validate::distinct("devices", devices)
        }
        Selection::Filter {
            district: _,
            model,
            hardware_class,
            tag,
        } => {
            let named = [
                ("model", model),
                ("hardware_class", hardware_class),
                ("tag", tag),
            ];
            for (field, text) in named {
                if let Some(text) = text {
                    validate::name(field, text, FILTER_BYTES_MAX)?;
                }
            }
            Ok(())
        }
    }
}

/// Longest text of a filter: `name=value` of a tag.
const FILTER_BYTES_MAX: usize = ID_BYTES_MAX + 1 + TAG_VALUE_BYTES_MAX;

/// Carries out a checked action.
pub fn execute(
    overlay: &mut Overlay,
    context: &Context,
    action: &RolloutsAction,
) -> Result<Vec<Notification>, ExecutionError> {
    match action {
        RolloutsAction::Plan { plan } => plan::plan(overlay, context, plan),
        RolloutsAction::Approve { rollout, plan } => {
            approving::approve(overlay, context, rollout, plan)
        }
        RolloutsAction::WithdrawApproval { rollout } => {
            approving::withdraw(overlay, context, rollout)
        }
        RolloutsAction::Start { rollout } => approving::start(overlay, context, rollout),
        RolloutsAction::Pause { rollout, reason } => {
            operator_actions::pause(overlay, context, rollout, reason)
        }
        RolloutsAction::Resume { rollout } => operator_actions::resume(overlay, context, rollout),
        RolloutsAction::Cancel { rollout, reason } => {
            operator_actions::cancel(overlay, context, rollout, reason)
        }
        RolloutsAction::Postpone(postponement) => {
            operator_actions::postpone(overlay, context, postponement)
        }
        RolloutsAction::Report { reports } => reports::report(overlay, context, reports),
        RolloutsAction::PlanGroups { plan } => plan::plan_groups(overlay, context, plan),
        RolloutsAction::Amend { plan } => plan::amend(overlay, context, plan, None),
        RolloutsAction::PlanGuarded { plan } => plan::plan_guarded(overlay, context, plan),
        RolloutsAction::AmendGuarded { plan } => {
            plan::amend(overlay, context, &plan.plan, Some(plan))
        }
        RolloutsAction::Consent(decision) => guards::decide(overlay, context, decision),
        RolloutsAction::OpenGroup { rollout, group } => {
            groups::open_by_hand(overlay, context, rollout, *group)
        }
    }
}
