//! `governance`: the nodes of the ledger, the policies and the protocol, changed by proposals that
//! enough administrators approve.

use std::process::ExitCode;

use clap::Subcommand;
use lamplighter_client::HistoryOf;
use lamplighter_types::protocol::PROTOCOL_VERSION;
use lamplighter_types::wire::{ApprovalCounts, ApprovalStanding, Candidate, ProposalStanding};
use lamplighter_types::{
    Action, Approval, GovernanceAction, GovernanceChange, Hash, Id, Policies, Proposal, Scope,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::changes::ChangeCommand;
use crate::describe;
use crate::failure::Failure;
use crate::history::{changes, emit_changes};
use crate::output::{emit, emit_members, joined, print, text};
use crate::paging;
use crate::session::{Session, asking};
use crate::time;

/// Proposals of one page.
const PAGE: usize = 1_000;

#[derive(Debug, Subcommand)]
pub enum GovernanceCommand {
    /// Validators and observers.
    Nodes,
    /// The number of approvals for each kind of decision.
    Policies,
    /// All open proposals.
    List,
    /// One proposal, with the digest that approvers name.
    Show { proposal: Id },
    /// Proposes a change; it is carried out when enough administrators have approved it.
    Propose {
        /// A new name for the proposal, e.g. `join-5`.
        proposal: Id,
        #[command(subcommand)]
        change: ChangeCommand,
    },
    /// Prints the changes that are on the ledger and approves them, or those with this digest,
    /// which `show` prints.
    Approve {
        proposal: Id,
        #[arg(long)]
        digest: Option<Hash>,
    },
    /// Takes an approval back; who proposed ends the proposal by it.
    Withdraw { proposal: Id },
}

/// A node's identity and its connections.
#[derive(Deserialize)]
struct Peers {
    node: u64,
    connected: Vec<u64>,
}

pub async fn carry_out(session: &Session, command: GovernanceCommand) -> Result<ExitCode, Failure> {
    match command {
        GovernanceCommand::Nodes => nodes(session).await?,
        GovernanceCommand::Policies => session.output.record(&policies(session).await?),
        GovernanceCommand::List => list(session).await?,
        GovernanceCommand::Show { proposal } => show(session, &proposal).await?,
        GovernanceCommand::Propose { proposal, change } => {
            let changes = change.changes(session).await?;
            demand_known_protocol(&changes)?;
            demand_connected(session, &changes).await?;
            let digest = GovernanceChange::digest(&changes);
            let action = GovernanceAction::Propose {
                proposal: proposal.clone(),
                changes,
            };
            session.act(Action::Governance(action)).await?;
            session.output.print_text(&format!(
                "others approve it with: \
                 lamplighter governance approve {proposal} --digest {digest}"
            ));
        }
        GovernanceCommand::Approve { proposal, digest } => {
            approve(session, proposal, digest).await?;
        }
        GovernanceCommand::Withdraw { proposal } => {
            let action = GovernanceAction::Withdraw { proposal };
            session.act(Action::Governance(action)).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn approve(session: &Session, proposal: Id, digest: Option<Hash>) -> Result<(), Failure> {
    let all = proposals(session).await?;
    let found = all.iter().find(|found| found.proposal == proposal);
    if let Some(found) = found {
        demand_known_protocol(&found.changes)?;
        demand_connected(session, &found.changes).await?;
        let words = describe::changes(&found.changes);
        session.output.print_text(&format!("{proposal}: {words}"));
    }
    let changes = match (digest, found) {
        (Some(digest), _) => digest,
        (None, Some(found)) => GovernanceChange::digest(&found.changes),
        (None, None) => return Err(no_proposal(&proposal)),
    };
    let action = GovernanceAction::Approve { proposal, changes };
    session.act(Action::Governance(action)).await
}

/// Refuses a protocol version that this program does not know: the contract can't know what
/// programs the nodes run, and each that does not know the version stops for good at its block.
fn demand_known_protocol(changes: &[GovernanceChange]) -> Result<(), Failure> {
    for change in changes {
        if let GovernanceChange::SetProtocol {
            version,
            from_height,
        } = change
            && *version > PROTOCOL_VERSION
        {
            return Err(Failure::plain(format!(
                "this program knows protocol versions up to {PROTOCOL_VERSION}, and nodes that \
                 do not know version {version} stop at block {from_height}: install a release of \
                 Lamplighter that knows it on all nodes and here first (`lamplighter status` \
                 shows what a node knows)"
            )));
        }
    }
    Ok(())
}

/// Refuses to add a validator that the asked node is not connected with. A validator counts for the
/// quorum of every certificate from its block on. One that never comes can end certification for
/// ever: two validators need the signatures of both.
async fn demand_connected(session: &Session, changes: &[GovernanceChange]) -> Result<(), Failure> {
    for change in changes {
        if let GovernanceChange::AddValidator { validator, .. } = change {
            demand_node(session, validator.node).await?;
        }
    }
    Ok(())
}

async fn demand_node(session: &Session, node: u64) -> Result<(), Failure> {
    let status: Peers = session
        .client
        .get("/v1/status")
        .await
        .map_err(asking)?
        .value;
    if status.node == node || status.connected.contains(&node) {
        Ok(())
    } else {
        Err(Failure::plain(format!(
            "node {node} is not connected with node {}, and blocks could not be certified without \
             it: start it first, with `lamplighter node join`",
            status.node
        )))
    }
}

async fn nodes(session: &Session) -> Result<(), Failure> {
    let read = session.client.get::<Value>("/v1/nodes").await;
    let nodes = read.map_err(asking)?.value;
    let of = |kind: &'static str, list: &str| {
        let all = nodes[list].as_array().cloned().unwrap_or_default();
        all.into_iter().map(move |node| (kind, node))
    };
    let all: Vec<_> = of("validator", "validators")
        .chain(of("observer", "observers"))
        .collect();
    let heads = ["node", "kind", "account", "address", "key"];
    session.output.list("nodes", &all, &heads, |(kind, node)| {
        let member = |name: &str| text(&node[name]);
        vec![
            member("node"),
            (*kind).to_owned(),
            member("account"),
            member("address"),
            member("key"),
        ]
    });
    Ok(())
}

pub async fn policies(session: &Session) -> Result<Policies, Failure> {
    let read = session.client.get("/v1/policies").await;
    Ok(read.map_err(asking)?.value)
}

async fn proposals(session: &Session) -> Result<Vec<Proposal>, Failure> {
    let read = async |after: Option<&str>| {
        let after = after.map_or(String::new(), |after| format!("&after={after}"));
        let path = format!("/v1/proposals?limit={PAGE}{after}");
        session.client.get(&path).await
    };
    paging::all(read).await
}

/// One open proposal, with what it lacks.
pub async fn proposal(session: &Session, proposal: &Id) -> Result<ProposalStanding, Failure> {
    match session.client.proposal(proposal).await {
        Ok(read) => Ok(read.value),
        Err(error) if error.is_not_found() => Err(no_proposal(proposal)),
        Err(error) => Err(asking(error)),
    }
}

fn no_proposal(proposal: &Id) -> Failure {
    Failure::refused(format!(
        "refused: there is no open proposal {proposal} (not_found)"
    ))
}

async fn show(session: &Session, proposal: &Id) -> Result<(), Failure> {
    let found = self::proposal(session, proposal).await?;
    let changes = changes(session, &HistoryOf::Proposal(proposal.clone())).await?;
    if session.output.json {
        let mut printed = document(&found);
        printed["history"] = json!(changes.items);
        print(&printed);
        return Ok(());
    }
    let Proposal {
        proposal,
        changes: proposed,
        digest,
        author,
        approvals: _,
        proposed_height,
        expires_ms,
    } = &found.proposal;
    let mut members = vec![
        ("proposal", proposal.to_string()),
        ("to", describe::changes(proposed)),
        ("digest", digest.to_string()),
        ("author", author.to_string()),
        ("proposed", format!("block {proposed_height}")),
        ("expires", time::local(*expires_ms)),
        ("lacks", lacks(&found)),
    ];
    let approved = found.approvals.iter().map(approval);
    members.extend(approved.map(|line| ("approved by", line)));
    members.push(("may approve", joined(&candidates(&found))));
    emit_members(&members);
    emit("");
    emit_changes(&changes);
    Ok(())
}

/// The JSON of a proposal: its record, with what it lacks.
fn document(standing: &ProposalStanding) -> Value {
    let mut document = json!(standing.proposal);
    let mut added = json!(standing);
    if let Some(members) = added.as_object_mut() {
        members.remove("proposal");
    }
    document["standing"] = added;
    document
}

/// What a proposal waits for.
fn lacks(standing: &ProposalStanding) -> String {
    let ProposalStanding {
        needed, counted, ..
    } = standing;
    match needed.saturating_sub(*counted) {
        // The policies or the roles have changed since the last approval.
        0 => format!("nothing: {counted} of {needed} approvals count, the next one carries it out"),
        1 => format!("1 approval: {counted} of {needed} count"),
        missing => format!("{missing} approvals: {counted} of {needed} count"),
    }
}

/// An approval, and whether it counts.
fn approval(standing: &ApprovalStanding) -> String {
    let ApprovalStanding {
        account,
        counts,
        at_ms: _,
        expires_ms,
    } = standing;
    let until = time::local(*expires_ms);
    let words = match counts {
        ApprovalCounts::Counts => format!("counts until {until}"),
        ApprovalCounts::From { time_ms } => {
            let from = time::local(*time_ms);
            format!("does not count before {from}: the role is too new")
        }
        ApprovalCounts::Expired => format!("has not counted since {until}: it has expired"),
        ApprovalCounts::KeyRevoked => "does not count: its key is revoked".to_owned(),
        ApprovalCounts::RoleLost => "does not count: the role is lost".to_owned(),
        ApprovalCounts::Interested => {
            "does not count: the account gets power by the proposal".to_owned()
        }
    };
    format!("{account}, {words}")
}

/// The accounts that may still approve, with the time from which on they may.
fn candidates(standing: &ProposalStanding) -> Vec<String> {
    let now_ms = lamplighter_system::unix_ms();
    let each = standing.candidates.iter().map(|candidate| {
        let Candidate { account, from_ms } = candidate;
        match *from_ms > now_ms {
            true => format!("{account} from {}", time::local(*from_ms)),
            false => account.to_string(),
        }
    });
    let city = each.collect();
    let places = standing
        .scopes
        .iter()
        .filter(|scope| **scope != Scope::city());
    let places = places.map(|scope| format!("administrators of {scope}"));
    [city, places.collect::<Vec<_>>()].concat()
}

/// The accounts that have approved.
pub fn approvers(approvals: &[Approval]) -> Vec<&Id> {
    approvals.iter().map(|approval| &approval.account).collect()
}

async fn list(session: &Session) -> Result<(), Failure> {
    let mut all = Vec::new();
    for Proposal { proposal, .. } in proposals(session).await? {
        match session.client.proposal(&proposal).await {
            Ok(read) => all.push(read.value),
            // It has ended meanwhile.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(asking(error)),
        }
    }
    if session.output.json {
        print(&all.iter().map(document).collect());
        return Ok(());
    }
    let heads = [
        "proposal",
        "author",
        "approvals",
        "lacks",
        "may approve",
        "expires",
        "changes",
    ];
    session
        .output
        .list("open proposals", &all, &heads, |standing| {
            let ProposalStanding {
                proposal,
                needed,
                counted,
                ..
            } = standing;
            vec![
                proposal.proposal.to_string(),
                proposal.author.to_string(),
                joined(&approvers(&proposal.approvals)),
                format!("{} of {needed}", needed.saturating_sub(*counted)),
                joined(&candidates(standing)),
                time::local(proposal.expires_ms),
                describe::changes(&proposal.changes),
            ]
        });
    Ok(())
}
