//! `session`: the logins of an account at the nodes, and their end.

use std::process::ExitCode;

use clap::Subcommand;
use lamplighter_client::EndedAt;
use lamplighter_types::{Id, SessionId};
use serde_json::json;

use crate::describe::short;
use crate::failure::Failure;
use crate::output::{name, or_dash, print, warn, yes};
use crate::session::{Session, asking};
use crate::time;

#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// The sessions of the account that acts, at each node that answers.
    List {
        /// The sessions of another account.
        #[arg(long)]
        account: Option<Id>,
    },
    /// Ends a session with its streams and MQTT connection, or all but that of this command.
    ///
    /// The keys of the account stay as they are: whoever has one logs in again, until
    /// `user revoke-key`.
    End {
        /// The session, as `session list` shows it.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        session: Option<SessionId>,
        /// All sessions at all nodes.
        #[arg(long)]
        all: bool,
        /// Sessions of another account; only for administrators of the whole city.
        #[arg(long)]
        account: Option<Id>,
    },
}

pub async fn carry_out(session: &Session, command: SessionCommand) -> Result<ExitCode, Failure> {
    match command {
        SessionCommand::List { account } => list(session, account.as_ref()).await,
        SessionCommand::End {
            session: Some(ended),
            account,
            ..
        } => end(session, &ended, account.as_ref()).await,
        SessionCommand::End { account, .. } => end_all(session, account.as_ref()).await,
    }
}

async fn list(session: &Session, account: Option<&Id>) -> Result<ExitCode, Failure> {
    let all = session.client.sessions(account).await.map_err(asking)?;
    if session.output.json {
        let items = all.iter().map(|(node, listed)| {
            let mut item = json!(listed);
            item["node"] = json!(node);
            item
        });
        print(&items.collect());
        return Ok(ExitCode::SUCCESS);
    }
    let heads = [
        "session", "at", "for", "key", "from", "since", "until", "open", "this",
    ];
    session
        .output
        .list("sessions", &all, &heads, |(node, listed)| {
            vec![
                listed.session.to_string(),
                node.clone(),
                name(&listed.audience),
                short(&listed.key),
                or_dash(listed.address.as_ref()),
                time::local(listed.issued_ms),
                time::local(listed.expires_ms),
                listed.connections.to_string(),
                yes(listed.current),
            ]
        });
    Ok(ExitCode::SUCCESS)
}

async fn end(
    session: &Session,
    ended: &SessionId,
    account: Option<&Id>,
) -> Result<ExitCode, Failure> {
    session.account()?;
    let client = &session.client;
    if !client.end_session(ended, account).await.map_err(asking)? {
        return Err(Failure::refused(format!(
            "refused: no node has a session {ended} of the account (not_found); \
             `lamplighter session list` lists them"
        )));
    }
    session.output.answer(&json!({ "ended": 1 }), "ended");
    Ok(ExitCode::SUCCESS)
}

async fn end_all(session: &Session, account: Option<&Id>) -> Result<ExitCode, Failure> {
    session.account()?;
    let (mut ended, mut failed) = (0, None);
    for EndedAt { node, ended: at } in session.client.end_sessions(account).await {
        match at {
            Ok(count) => ended += count,
            Err(error) => {
                let failure = asking(error);
                warn(&format!("{node}: {failure}"));
                failed = Some(failure);
            }
        }
    }
    let words = format!("{ended} sessions ended");
    session.output.answer(&json!({ "ended": ended }), &words);
    failed.map_or(Ok(ExitCode::SUCCESS), Err)
}
