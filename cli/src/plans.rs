//! The plan of a rollout in words, and its approval.

use std::process::ExitCode;

use lamplighter_types::{
    Action, DeferralPolicy, Group, GroupMembers, GroupedPlan, GuardedPlan, Hash, Id, InstallRules,
    ReleaseManifest, RolloutPlan, RolloutsAction, Selection, StepTimers, codec,
};

use crate::failure::Failure;
use crate::output::{emit, emit_members, emit_table, joined};
use crate::session::{Session, asking};
use crate::{describe, groups, guards, time};

/// Approves a plan. The plan that is on the ledger is printed before the approval is sent.
pub async fn approve(
    session: &Session,
    rollout: Id,
    plan: Option<Hash>,
) -> Result<ExitCode, Failure> {
    let plan = match plan {
        Some(plan) => plan,
        None => {
            let read = session.client.rollout(&rollout).await;
            let base = read.map_err(asking)?.value.plan;
            let grouped = grouped_plan(session, &rollout).await?;
            let rules = guards::rules(session, &rollout).await?;
            let digest = digest_of(&base, grouped.as_ref(), rules.as_ref());
            if !session.output.json {
                let release = session.client.release(&base.release).await;
                // What the vendor signed counts, not the node's copy of it.
                let manifest = release.map_err(asking)?.value.signed.verify();
                let manifest = manifest.map_err(Failure::during("the release is not signed"))?;
                print(&base, grouped.as_ref(), rules.as_ref(), &manifest, &digest);
            }
            digest
        }
    };
    let action = RolloutsAction::Approve { rollout, plan };
    session.act(Action::Rollouts(action)).await?;
    Ok(ExitCode::SUCCESS)
}

/// The digest of the plan with all its parts.
fn digest_of(
    base: &RolloutPlan,
    grouped: Option<&GroupedPlan>,
    rules: Option<&InstallRules>,
) -> Hash {
    match (grouped, rules) {
        (None, _) => codec::digest(base),
        (Some(plan), None) => codec::digest(plan),
        (Some(plan), Some(rules)) => codec::digest(&GuardedPlan {
            plan: plan.clone(),
            rules: rules.clone(),
        }),
    }
}

/// The plan in groups, if the rollout has groups.
pub async fn grouped_plan(session: &Session, rollout: &Id) -> Result<Option<GroupedPlan>, Failure> {
    match session.client.grouped_plan(rollout).await {
        Ok(read) => Ok(Some(read.value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(asking(error)),
    }
}

fn print(
    base: &RolloutPlan,
    grouped: Option<&GroupedPlan>,
    rules: Option<&InstallRules>,
    manifest: &ReleaseManifest,
    digest: &Hash,
) {
    let mut lines = members(base);
    let of_release = format!(
        "version {} by {}, for {}, image {}",
        manifest.version,
        manifest.vendor,
        joined(&manifest.hardware_classes),
        describe::short(&manifest.artifact)
    );
    lines.insert(2, ("which is", of_release));
    lines.extend(grouped.map(groups::plan_members).unwrap_or_default());
    lines.extend(rules.map(guards::rule_members).unwrap_or_default());
    lines.push(("plan", digest.to_string()));
    emit_members(&lines);
    emit("");
    if let Some(plan) = grouped {
        let rows = plan.groups.iter().zip(1..);
        let rows = rows.map(|(Group { members, gate }, number)| {
            vec![
                i32::to_string(&number),
                of_group(members),
                groups::gate(gate),
            ]
        });
        emit_table(&["group", "devices", "gate"], rows.collect());
        emit("");
    }
}

/// The members of a plan without groups, or of what all plans have.
pub fn members(plan: &RolloutPlan) -> Vec<(&'static str, String)> {
    let RolloutPlan {
        rollout,
        release,
        selection,
        error_percent_max,
        error_sample_min,
        deferral,
        timers,
        retries_max,
    } = plan;
    let DeferralPolicy {
        count_max,
        total_ms_max,
    } = deferral;
    let StepTimers {
        offer_ms,
        download_ms,
        install_ms,
        trial_ms,
    } = timers;
    let (offer, download) = (time::duration(*offer_ms), time::duration(*download_ms));
    let (install, trial) = (time::duration(*install_ms), time::duration(*trial_ms));
    let steps = format!("offer {offer}, download {download}, install {install}, trial {trial}");
    let put_off = format!(
        "{count_max} times, {} in all",
        time::duration(*total_ms_max)
    );
    let gate = format!("more than {error_percent_max} % of {error_sample_min} or more failed");
    vec![
        ("rollout", rollout.to_string()),
        ("release", release.to_string()),
        ("devices", devices(selection)),
        ("pauses when", gate),
        ("postponed at most", put_off),
        ("time for each step", steps),
        ("tried again", format!("{retries_max} times")),
    ]
}

/// The devices of a group, each by its name: they are what is decided.
pub fn of_group(members: &GroupMembers) -> String {
    match members {
        GroupMembers::Selected { selection } => devices(selection),
        other => describe::members(other),
    }
}

fn devices(selection: &Selection) -> String {
    match selection {
        Selection::List { devices } => joined(devices),
        filter => describe::selection(filter),
    }
}
