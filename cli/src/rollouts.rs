//! `rollout`: delivery of releases.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use lamplighter_client::{FeedFilter, HistoryOf};
use lamplighter_types::{
    Action, DeferralPolicy, Fact, GroupStatus, GuardedPlan, Hash, Id, Postponement, Rollout,
    RolloutCounts, RolloutPlan, RolloutsAction, Scope, Selection, StepTimers,
};
use serde_json::json;

use crate::describe::words;
use crate::failure::Failure;
use crate::governance::approvers;
use crate::groups::{self, Grouping};
use crate::guards::{self, Decide, Guarding};
use crate::history::{author, changes, emit_changes, emit_delivery};
use crate::output::{emit, emit_members, emit_table, joined, or_dash, print, print_line, yes};
use crate::session::{Session, asking};
use crate::{paging, plans, time};

const MINUTE_MS: u64 = 60_000;

#[derive(Debug, Subcommand)]
pub enum RolloutCommand {
    /// All rollouts.
    List,
    /// One rollout and its deployments.
    Show {
        rollout: Id,
        /// The most deployments to list, in the order of their devices; all by default.
        #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
        limit: usize,
    },
    /// Plans a rollout; another person approves it.
    Plan(Box<Plan>),
    /// Replaces a plan that has not begun. Its approvals end.
    Amend(Box<Plan>),
    /// Opens the next group, where the plan leaves that to people.
    Open {
        rollout: Id,
        /// Its number in the plan, from 1.
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        group: u32,
    },
    /// Prints the plan that is on the ledger and approves it, or approves the one with this digest.
    Approve {
        rollout: Id,
        #[arg(long)]
        plan: Option<Hash>,
    },
    /// Takes back your approval of a plan.
    WithdrawApproval { rollout: Id },
    /// Starts an approved rollout.
    Start { rollout: Id },
    /// Pauses a rollout: nothing new is offered, what installs goes on.
    Pause { rollout: Id, reason: String },
    /// Ends a pause; after one by errors the plan is approved again before.
    Resume { rollout: Id },
    /// Cancels the deployments that are not yet installing.
    Cancel { rollout: Id, reason: String },
    /// Postpones one deployment; `0` ends the postponement.
    Postpone {
        rollout: Id,
        device: Id,
        /// The time: 2026-12-01T06:00, +2d, tomorrow, or Unix time in ms.
        #[arg(value_parser = time::parse)]
        until: u64,
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Consents to the installation on one device, withdraws that, or refuses it.
    Consent(Decide),
    /// Prints each step until the rollout has ended, or a person has to open its next group.
    Watch { rollout: Id },
}

#[derive(Debug, Args)]
pub struct Plan {
    rollout: Id,
    #[arg(long)]
    release: Id,
    /// A device; may be repeated.
    #[arg(long = "device", conflicts_with_all = ["district", "model", "hardware_class", "tag"])]
    devices: Vec<Id>,
    /// All devices of a district, or of the whole city without an option.
    #[arg(long, default_value = "")]
    district: Scope,
    #[arg(long)]
    model: Option<String>,
    #[arg(long)]
    hardware_class: Option<String>,
    /// `name`, or `name=value`.
    #[arg(long)]
    tag: Option<String>,
    /// Pauses when more than this share of ended deployments failed.
    #[arg(long, default_value_t = 10)]
    error_percent_max: u8,
    /// The number of ended deployments before the share is evaluated.
    #[arg(long, default_value_t = 5)]
    error_sample_min: u32,
    #[arg(long, default_value_t = 2)]
    postponements_max: u32,
    #[arg(long, default_value_t = 72 * 60)]
    postponed_minutes_max: u64,
    /// The time limit for each step of a deployment.
    #[arg(long, default_value_t = 24 * 60)]
    step_minutes_max: u64,
    #[arg(long, default_value_t = 2)]
    retries_max: u8,
    #[command(flatten)]
    grouping: Grouping,
    #[command(flatten)]
    guarding: Guarding,
}

pub async fn rollout(session: &Session, command: RolloutCommand) -> Result<ExitCode, Failure> {
    let action = match command {
        RolloutCommand::List => return list(session).await,
        RolloutCommand::Show { rollout, limit } => return show(session, &rollout, limit).await,
        RolloutCommand::Watch { rollout } => return watch(session, &rollout).await,
        RolloutCommand::Consent(decide) => return guards::decide(session, decide).await,
        RolloutCommand::Plan(plan) => planned(*plan),
        RolloutCommand::Amend(plan) => amended(*plan),
        RolloutCommand::Open { rollout, group } => RolloutsAction::OpenGroup {
            rollout,
            group: group - 1,
        },
        RolloutCommand::Approve { rollout, plan } => {
            return plans::approve(session, rollout, plan).await;
        }
        RolloutCommand::WithdrawApproval { rollout } => {
            RolloutsAction::WithdrawApproval { rollout }
        }
        RolloutCommand::Start { rollout } => RolloutsAction::Start { rollout },
        RolloutCommand::Pause { rollout, reason } => RolloutsAction::Pause { rollout, reason },
        RolloutCommand::Resume { rollout } => RolloutsAction::Resume { rollout },
        RolloutCommand::Cancel { rollout, reason } => RolloutsAction::Cancel { rollout, reason },
        RolloutCommand::Postpone {
            rollout,
            device,
            until,
            reason,
        } => RolloutsAction::Postpone(Postponement {
            rollout,
            device,
            until_ms: until,
            reason,
        }),
    };
    session
        .act(Action::Rollouts(action))
        .await
        .map(|()| ExitCode::SUCCESS)
}

/// The action that plans, with groups and guards if such options were written.
fn planned(mut plan: Plan) -> RolloutsAction {
    let grouping = std::mem::take(&mut plan.grouping);
    let rules = std::mem::take(&mut plan.guarding).rules();
    let is_grouped = !grouping.is_empty();
    let base = base_of(plan);
    match rules {
        Some(rules) => {
            let plan = grouping.plan(base);
            let plan = Box::new(GuardedPlan { plan, rules });
            RolloutsAction::PlanGuarded { plan }
        }
        None if is_grouped => RolloutsAction::PlanGroups {
            plan: grouping.plan(base),
        },
        None => RolloutsAction::Plan { plan: base },
    }
}

fn amended(mut plan: Plan) -> RolloutsAction {
    let grouping = std::mem::take(&mut plan.grouping);
    let rules = std::mem::take(&mut plan.guarding).rules();
    let plan = grouping.plan(base_of(plan));
    match rules {
        Some(rules) => RolloutsAction::AmendGuarded {
            plan: Box::new(GuardedPlan { plan, rules }),
        },
        None => RolloutsAction::Amend { plan },
    }
}

fn base_of(plan: Plan) -> RolloutPlan {
    let selection = if plan.devices.is_empty() {
        Selection::Filter {
            district: plan.district,
            model: plan.model,
            hardware_class: plan.hardware_class,
            tag: plan.tag,
        }
    } else {
        Selection::List {
            devices: plan.devices,
        }
    };
    let step_ms = plan.step_minutes_max * MINUTE_MS;
    RolloutPlan {
        rollout: plan.rollout,
        release: plan.release,
        selection,
        error_percent_max: plan.error_percent_max,
        error_sample_min: plan.error_sample_min,
        deferral: DeferralPolicy {
            count_max: plan.postponements_max,
            total_ms_max: plan.postponed_minutes_max * MINUTE_MS,
        },
        timers: StepTimers {
            offer_ms: step_ms,
            download_ms: step_ms,
            install_ms: step_ms,
            trial_ms: step_ms,
        },
        retries_max: plan.retries_max,
    }
}

async fn list(session: &Session) -> Result<ExitCode, Failure> {
    let client = &session.client;
    let rollouts = paging::all(async |after: Option<&str>| client.rollouts(after).await).await?;
    let heads = [
        "rollout",
        "release",
        "status",
        "author",
        "active",
        "confirmed",
        "failed",
        "skipped",
    ];
    session
        .output
        .list("rollouts", &rollouts, &heads, |rollout| {
            let counts = &rollout.counts;
            vec![
                rollout.plan.rollout.to_string(),
                rollout.plan.release.to_string(),
                words(&rollout.status),
                rollout.author.to_string(),
                (counts.assigned + counts.active).to_string(),
                counts.confirmed.to_string(),
                counts.failed.to_string(),
                counts.skipped.to_string(),
            ]
        });
    Ok(ExitCode::SUCCESS)
}

async fn show(session: &Session, rollout: &Id, limit: usize) -> Result<ExitCode, Failure> {
    let record = session.client.rollout(rollout).await.map_err(asking)?.value;
    let client = &session.client;
    let read = async |after: Option<&str>| client.deployments(rollout, after).await;
    let deployments = paging::first(limit, read).await?;
    let changes = changes(session, &HistoryOf::Rollout(rollout.clone())).await?;
    let grouped = match plans::grouped_plan(session, rollout).await? {
        Some(plan) => Some((plan, client.groups(rollout).await.map_err(asking)?.value)),
        None => None,
    };
    let rules = guards::rules(session, rollout).await?;
    if session.output.json {
        let (plan, groups) = grouped.unzip();
        print(&json!({
            "rollout": record,
            "plan": plan,
            "rules": rules,
            "groups": groups,
            "history": changes.items,
            "deployments": deployments,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    emit_members(&members(&record));
    if let Some(rules) = &rules {
        emit_members(&guards::rule_members(rules));
    }
    if let Some((plan, progress)) = &grouped {
        emit_members(&groups::plan_members(plan));
        emit("");
        groups::print(plan, progress);
        if progress.too_late > 0 {
            let late = progress.too_late;
            emit(&format!(
                "{late} were installing when it stopped: too late to recall"
            ));
        }
    }
    emit("");
    emit_changes(&changes);
    emit("");
    let rows = deployments.iter().map(|deployment| {
        let last = deployment.steps.last();
        let by = last.and_then(|step| step.by.as_ref());
        vec![
            deployment.device.to_string(),
            words(&deployment.state),
            or_dash(last.map(|step| time::local(step.time_ms))),
            author(by),
            yes(last.is_some_and(|step| step.attested)),
            last.map_or(String::new(), |step| step.detail.clone()),
        ]
    });
    let heads = [
        "device",
        "state",
        "since",
        "reported by",
        "signed",
        "detail",
    ];
    if deployments.is_empty() {
        emit("no deployments yet");
    } else {
        emit_table(&heads, rows.collect());
    }
    Ok(ExitCode::SUCCESS)
}

fn members(rollout: &Rollout) -> Vec<(&'static str, String)> {
    let status = match rollout.reason.as_str() {
        "" => words(&rollout.status),
        reason => format!("{}: {reason}", words(&rollout.status)),
    };
    let mut members = plans::members(&rollout.plan);
    members.extend([
        ("plan", rollout.plan_digest.to_string()),
        ("author", rollout.author.to_string()),
        ("approved by", joined(&approvers(&rollout.approvals))),
        ("status", status),
        ("started", or_dash(rollout.started_ms.map(time::local))),
        ("deployments", counts(&rollout.counts)),
    ]);
    members
}

fn counts(counts: &RolloutCounts) -> String {
    let RolloutCounts {
        assigned,
        active,
        confirmed,
        failed,
        other,
        skipped,
    } = counts;
    format!(
        "{confirmed} confirmed, {failed} failed, {active} at work, {assigned} waiting, {other} \
         ended otherwise, {skipped} devices left out"
    )
}

/// Follows the feed until the rollout has ended, or waits for a person.
async fn watch(session: &Session, rollout: &Id) -> Result<ExitCode, Failure> {
    let mut feed = session.feed(&FeedFilter::default(), None);
    feed.connect().await.map_err(asking)?;
    // The stream is open, so steps that the record lacks yet will come.
    let record = session.client.rollout(rollout).await.map_err(asking)?.value;
    let begun = json!({ "status": record.status, "counts": record.counts });
    if session.output.json {
        print_line(&begun);
    } else {
        emit(&format!(
            "{}: {}",
            words(&record.status),
            counts(&record.counts)
        ));
    }
    use lamplighter_types::RolloutStatus::{Finished, Stopped};
    if matches!(record.status, Finished | Stopped) {
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(ready) = ready_group(session, rollout).await? {
        return Ok(waits_for_person(session, rollout, ready));
    }
    loop {
        let delivery = feed.next().await.map_err(asking)?;
        let fact = &delivery.notification.fact;
        let about = json!(fact);
        let inner = about
            .as_object()
            .and_then(|members| members.values().next());
        if inner.is_none_or(|inner| inner["rollout"] != json!(rollout)) {
            continue;
        }
        let read = emit_delivery(session.output, &delivery);
        let ended = matches!(
            fact,
            Fact::RolloutFinished { .. } | Fact::RolloutStopped { .. }
        );
        if ended || !read {
            return Ok(ExitCode::SUCCESS);
        }
        if let Fact::GroupReady { group, .. } = fact {
            return Ok(waits_for_person(session, rollout, *group as usize));
        }
    }
}

/// The group behind which a person opens the next one, if the rollout waits for that.
async fn ready_group(session: &Session, rollout: &Id) -> Result<Option<usize>, Failure> {
    match session.client.groups(rollout).await {
        Ok(read) => {
            let mut groups = read.value.groups.iter();
            Ok(groups.position(|group| group.status == GroupStatus::Ready))
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(asking(error)),
    }
}

fn waits_for_person(session: &Session, rollout: &Id, ready: usize) -> ExitCode {
    // People count groups from 1.
    let (ready, next) = (ready + 1, ready + 2);
    session.output.print_text(&format!(
        "group {ready} is good enough; open the next one with: \
         lamplighter rollout open {rollout} {next}"
    ));
    ExitCode::SUCCESS
}
