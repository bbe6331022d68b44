//! `governance`: the nodes of the ledger, the policies and the protocol, changed by proposals that
//! enough administrators approve.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use lamplighter_client::HistoryOf;
use lamplighter_types::{
    Action, Approval, GovernanceAction, GovernanceChange, Hash, Id, Observer, Policies, Proposal,
    PublicKey, Validator, codec,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::describe;
use crate::failure::Failure;
use crate::history::{changes, emit_changes};
use crate::output::{emit, emit_members, joined, print, text, yes};
use crate::paging;
use crate::session::{Session, asking};

/// Proposals of one page.
const PAGE: usize = 1_000;

#[derive(Debug, Subcommand)]
pub enum GovernanceCommand {
    /// Validators and observers.
    Nodes,
    /// The number of approvals for each kind of decision.
    Policies,
    /// All proposals.
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
    /// Approves the change with this digest, which `show` prints.
    Approve {
        proposal: Id,
        #[arg(long)]
        digest: Hash,
    },
}

#[derive(Debug, Subcommand)]
pub enum ChangeCommand {
    /// An observer: a node that follows. A validator begins as one.
    AddObserver(NewNode),
    /// A validator: a node that orders and signs. An observer with the same id and key becomes one.
    AddValidator(NewNode),
    RemoveObserver {
        node: u64,
    },
    RemoveValidator {
        node: u64,
    },
    /// The number of approvals; an omitted one stays as it is when the proposal is made.
    SetPolicies(NewPolicies),
    /// Other rules of execution from a block on, which every node must know by then.
    SetProtocol {
        #[arg(long)]
        version: u32,
        #[arg(long)]
        from_height: u64,
    },
}

#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = true)]
pub struct NewPolicies {
    /// Approvals of a release by others than its author.
    #[arg(long)]
    releases: Option<u8>,
    /// Approvals of a rollout's plan by others than its author.
    #[arg(long)]
    rollouts: Option<u8>,
    /// Administrators who must approve a role of power, or that an account is enabled.
    #[arg(long)]
    power: Option<u8>,
    /// Administrators who must approve the recovery of an account.
    #[arg(long)]
    recovery: Option<u8>,
    /// Administrators who must approve a change of the nodes.
    #[arg(long)]
    validators: Option<u8>,
    /// Administrators who must approve other policies or another protocol version.
    #[arg(long)]
    policies: Option<u8>,
    /// Administrators who must approve the reset or a new key of a device.
    #[arg(long)]
    devices: Option<u8>,
    /// Milliseconds from the grant of a role to the first approval that counts by it.
    #[arg(long)]
    newcomer_wait_ms: Option<u64>,
}

impl NewPolicies {
    fn over(&self, mut now: Policies) -> Policies {
        let Self {
            releases,
            rollouts,
            power,
            recovery,
            validators,
            policies,
            devices,
            newcomer_wait_ms,
        } = self;
        let kinds = &mut now.approvals;
        for (policy, approvals) in [
            (&mut kinds.releases, releases),
            (&mut kinds.rollouts, rollouts),
            (&mut kinds.power, power),
            (&mut kinds.recovery, recovery),
            (&mut kinds.validators, validators),
            (&mut kinds.policies, policies),
            (&mut kinds.devices, devices),
        ] {
            policy.approvals = approvals.unwrap_or(policy.approvals);
        }
        now.newcomer_wait_ms = newcomer_wait_ms.unwrap_or(now.newcomer_wait_ms);
        now
    }
}

/// The new node, as `node join` prints it.
#[derive(Clone, Debug, Args)]
pub struct NewNode {
    /// An id that no node ever had.
    #[arg(long)]
    pub node: u64,
    #[arg(long = "public-key")]
    pub public_key: PublicKey,
    /// Where the other nodes reach it, host:port.
    #[arg(long)]
    pub address: String,
}

impl NewNode {
    /// The account of every node that is added after genesis.
    fn account(&self) -> Result<Id, Failure> {
        Id::new(format!("node-{}", self.node)).map_err(Failure::during("the account of the node"))
    }

    pub fn observer(&self) -> Result<GovernanceChange, Failure> {
        let observer = Observer {
            node: self.node,
            account: self.account()?,
            key: self.public_key,
            address: self.address.clone(),
        };
        Ok(GovernanceChange::AddObserver { observer })
    }

    pub fn validator(&self) -> Result<GovernanceChange, Failure> {
        let validator = Validator {
            node: self.node,
            account: self.account()?,
            key: self.public_key,
            address: self.address.clone(),
        };
        Ok(GovernanceChange::AddValidator { validator })
    }
}

impl ChangeCommand {
    async fn change(&self, session: &Session) -> Result<GovernanceChange, Failure> {
        match self {
            Self::AddObserver(new) => new.observer(),
            Self::AddValidator(new) => new.validator(),
            Self::RemoveObserver { node } => Ok(GovernanceChange::RemoveObserver { node: *node }),
            Self::RemoveValidator { node } => Ok(GovernanceChange::RemoveValidator { node: *node }),
            Self::SetPolicies(new) => Ok(GovernanceChange::SetPolicies {
                policies: new.over(policies(session).await?),
            }),
            Self::SetProtocol {
                version,
                from_height,
            } => Ok(GovernanceChange::SetProtocol {
                version: *version,
                from_height: *from_height,
            }),
        }
    }
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
            let change = change.change(session).await?;
            demand_connected(session, &change).await?;
            let digest = codec::digest(&change);
            let action = GovernanceAction::Propose {
                proposal: proposal.clone(),
                change,
            };
            session.act(Action::Governance(action)).await?;
            session.output.print_text(&format!(
                "others approve it with: \
                 lamplighter governance approve {proposal} --digest {digest}"
            ));
        }
        GovernanceCommand::Approve { proposal, digest } => {
            let all = proposals(session).await?;
            if let Some(found) = all.iter().find(|found| found.proposal == proposal) {
                demand_connected(session, &found.change).await?;
            }
            let change = digest;
            let action = GovernanceAction::Approve { proposal, change };
            session.act(Action::Governance(action)).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses to add a validator that the asked node is not connected with. A validator counts for the
/// quorum of every certificate from its block on. One that never comes can end certification for
/// ever: two validators need the signatures of both.
async fn demand_connected(session: &Session, change: &GovernanceChange) -> Result<(), Failure> {
    let GovernanceChange::AddValidator { validator } = change else {
        return Ok(());
    };
    let status: Peers = session
        .client
        .get("/v1/status")
        .await
        .map_err(asking)?
        .value;
    let node = validator.node;
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
    session.output.list(&all, &heads, |(kind, node)| {
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

async fn policies(session: &Session) -> Result<Policies, Failure> {
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

/// One proposal; no route returns a single one, so it is searched in the list.
pub async fn proposal(session: &Session, proposal: &Id) -> Result<Proposal, Failure> {
    let all = proposals(session).await?;
    let missing = format!("refused: there is no proposal {proposal} (not_found)");
    let found = all.into_iter().find(|found| found.proposal == *proposal);
    found.ok_or_else(|| Failure::refused(missing))
}

async fn show(session: &Session, proposal: &Id) -> Result<(), Failure> {
    let found = self::proposal(session, proposal).await?;
    let changes = changes(session, &HistoryOf::Proposal(proposal.clone())).await?;
    if session.output.json {
        let mut printed = json!(found);
        printed["history"] = json!(changes.items);
        print(&printed);
        return Ok(());
    }
    let Proposal {
        proposal,
        change,
        digest,
        author,
        approvals,
        carried_out,
        proposed_height,
    } = &found;
    emit_members(&[
        ("proposal", proposal.to_string()),
        ("to", describe::change(change)),
        ("digest", digest.to_string()),
        ("author", author.to_string()),
        ("approved by", joined(&approvers(approvals))),
        ("carried out", yes(*carried_out)),
        ("proposed", format!("block {proposed_height}")),
    ]);
    emit("");
    emit_changes(&changes);
    Ok(())
}

/// The accounts that have approved.
pub fn approvers(approvals: &[Approval]) -> Vec<&Id> {
    approvals.iter().map(|approval| &approval.account).collect()
}

async fn list(session: &Session) -> Result<(), Failure> {
    let all = proposals(session).await?;
    let heads = ["proposal", "author", "approvals", "carried out", "change"];
    session.output.list(&all, &heads, |proposal| {
        vec![
            proposal.proposal.to_string(),
            proposal.author.to_string(),
            joined(&approvers(&proposal.approvals)),
            yes(proposal.carried_out),
            describe::change(&proposal.change),
        ]
    });
    Ok(())
}
