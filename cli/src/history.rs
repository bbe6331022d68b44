//! `history`: who changed a record, when, and by which transaction.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use lamplighter_client::{Cursor, FeedEvent, HistoryEntry, HistoryOf, Page};
use lamplighter_types::{AlarmId, ConfigTarget, Hash, Id};
use serde_json::{Value, json};

use crate::config::Target;
use crate::describe;
use crate::failure::Failure;
use crate::governance;
use crate::output::{Output, emit, emit_table, emit_while_read, print, print_line, warn};
use crate::session::{Session, asking};
use crate::time;

/// The record to list changes of, the newest first.
#[derive(Debug, Args)]
pub struct History {
    /// Changes before this place in the chain, which the end of a table names.
    #[arg(long, global = true)]
    after: Option<Cursor>,
    #[command(subcommand)]
    of: HistoryCommand,
}

#[derive(Debug, Subcommand)]
pub enum HistoryCommand {
    /// The changes of a device and of its deployments.
    Device { device: Id },
    /// The publication, approvals and revocation of a release.
    Release { release: Id },
    /// The plan, approvals, start, pauses and end of a rollout.
    Rollout { rollout: Id },
    /// The changes of an account, its keys and roles.
    User { user: Id },
    /// The registration of an organization.
    Organization { organization: Id },
    /// The changes of a desired document.
    Config(Target),
    /// The raising, acknowledgement and clearing of an alarm.
    Alarm { device: Id, sequence: u64 },
    /// The proposal, approvals and end of a change of power.
    Proposal { proposal: Id },
    /// The changes of the ledger itself: nodes, policies and protocol.
    Governance,
}

impl From<HistoryCommand> for HistoryOf {
    fn from(command: HistoryCommand) -> Self {
        match command {
            HistoryCommand::Device { device } => Self::Device(device),
            HistoryCommand::Release { release } => Self::Release(release),
            HistoryCommand::Rollout { rollout } => Self::Rollout(rollout),
            HistoryCommand::User { user } => Self::User(user),
            HistoryCommand::Organization { organization } => Self::Organization(organization),
            HistoryCommand::Config(target) => Self::Config(target.into()),
            HistoryCommand::Alarm { device, sequence } => Self::Alarm(AlarmId { device, sequence }),
            HistoryCommand::Proposal { proposal } => Self::Proposal(proposal),
            HistoryCommand::Governance => Self::Governance,
        }
    }
}

pub async fn carry_out(session: &Session, history: History) -> Result<ExitCode, Failure> {
    let History { after, of } = history;
    let after = after.map(|after| after.to_string());
    show(session, &of.into(), after.as_deref()).await
}

/// Prints one page of the changes of a record.
pub async fn show(
    session: &Session,
    of: &HistoryOf,
    after: Option<&str>,
) -> Result<ExitCode, Failure> {
    let page = session.client.history(of, after).await;
    let page = page.map_err(asking)?.value;
    if page.items.is_empty() && after.is_none() {
        demand_record(session, of).await?;
    }
    if session.output.json {
        print(&json!(page.items));
        if let Some(next) = &page.next {
            warn(&older(next));
        }
    } else {
        emit_changes(&page)
    }
    Ok(ExitCode::SUCCESS)
}

/// Fails for a record that does not exist: it has no changes either, but that is another answer.
async fn demand_record(session: &Session, of: &HistoryOf) -> Result<(), Failure> {
    let client = &session.client;
    let found = match of {
        HistoryOf::Device(device) | HistoryOf::Config(ConfigTarget::Device { device }) => {
            client.device(device).await.map(drop)
        }
        HistoryOf::Release(release) => client.release(release).await.map(drop),
        HistoryOf::Rollout(rollout) => client.rollout(rollout).await.map(drop),
        HistoryOf::User(account) => client.user(account).await.map(drop),
        HistoryOf::Organization(name) => client.organization(name).await.map(drop),
        HistoryOf::Alarm(AlarmId { device, sequence }) => {
            let path = format!("/v1/alarms/{device}/{sequence}");
            client.get::<Value>(&path).await.map(drop)
        }
        HistoryOf::Proposal(proposal) => {
            return governance::proposal(session, proposal).await.map(drop);
        }
        // A document that was never set, and the ledger itself.
        HistoryOf::Config(_) | HistoryOf::Governance => Ok(()),
    };
    found.map_err(asking)
}

/// The newest changes of a record, the newest first: one page.
pub async fn changes(session: &Session, of: &HistoryOf) -> Result<Page<HistoryEntry>, Failure> {
    let page = session.client.history(of, None).await;
    Ok(page.map_err(asking)?.value)
}

/// Prints changes as a table for people. `transaction show` takes the places in its column
/// `transaction`.
pub fn emit_changes(page: &Page<HistoryEntry>) {
    if page.items.is_empty() {
        return emit("no changes since the ledger began");
    }
    let rows = page.items.iter().map(|change| {
        let transaction = match change.transaction {
            Hash::ZERO => "-".to_owned(),
            _ => change.cursor.to_string(),
        };
        vec![
            time::local(change.time_ms),
            author(change.author.as_ref()),
            transaction,
            describe::receipt(&change.receipt).join("; "),
        ]
    });
    let heads = ["time", "author", "transaction", "what happened"];
    emit_table(&heads, rows.collect());
    if let Some(next) = &page.next {
        emit(&older(next));
    }
}

/// The hint below a page that is not the last one.
fn older(next: &str) -> String {
    format!("there are older ones: history .. --after {next}")
}

/// Prints a notification of the feed on a line, for people or as JSON; false when the reader is
/// gone.
pub fn emit_delivery(output: Output, delivery: &FeedEvent) -> bool {
    let FeedEvent {
        cursor,
        time_ms,
        transaction,
        author: by,
        notification,
    } = delivery;
    if output.json {
        let place = notification.place.as_ref().map(|place| &place.device);
        return print_line(&json!({ "cursor": cursor.to_string(), "time_ms": time_ms,
            "transaction": transaction, "author": by, "device": place,
            "fact": notification.fact }));
    }
    emit_while_read(&format!(
        "{}  {:14}  {}",
        time::local(*time_ms),
        author(by.as_ref()),
        describe::notification(notification)
    ))
}

/// The author of a change; changes that time brings have none, and the ledger makes them.
pub fn author(author: Option<&Id>) -> String {
    author.map_or("the ledger".to_owned(), Id::to_string)
}
