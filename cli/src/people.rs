//! `user`: organizations, accounts, keys and roles.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use lamplighter_client::HistoryOf;
use lamplighter_node::key;
use lamplighter_types::{Account, AccountKey, Action, Grant, Id, PublicKey, Scope, UsersAction};
use serde_json::json;

use crate::describe::{self, words};
use crate::failure::Failure;
use crate::history::{changes, emit_changes};
use crate::keys::{NewKey, grant};
use crate::output::{emit, emit_members, joined, name, print, yes};
use crate::paging;
use crate::session::{Session, asking};

#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// All accounts.
    List,
    /// One account.
    Show { account: Id },
    /// Registers an organization.
    Organization { organization: Id, name: String },
    /// Registers a user with a public key.
    Register {
        account: Id,
        #[arg(long)]
        organization: Id,
        #[arg(long)]
        name: String,
        #[command(flatten)]
        key: NewKey,
    },
    /// Registers a gateway with a public key.
    Gateway {
        account: Id,
        #[arg(long)]
        organization: Id,
        /// The district in which it acts.
        #[arg(long, default_value = "")]
        district: Scope,
        #[command(flatten)]
        key: NewKey,
    },
    /// Grants the role of an operator, auditor or relay, e.g. `operator@north/harbour`; without a
    /// district for the whole city. Other roles: `governance propose NAME grant`.
    Grant { account: Id, role: String },
    /// Revokes the role of an operator, auditor or relay.
    Revoke { account: Id, role: String },
    /// Replaces the key that signs this by a new one; the old key is revoked for ever.
    RotateKey {
        /// The file with the new secret key, as `key new` makes it.
        new_key: PathBuf,
    },
    /// Adds a key to the account that acts, e.g. one that lies in the safe.
    AddKey {
        /// The file with the new secret key, as `key new` makes it.
        new_key: PathBuf,
        /// Text by which its keys are told apart.
        #[arg(long)]
        label: String,
    },
    /// Revokes a key for ever.
    RevokeKey { account: Id, public_key: PublicKey },
    /// Disables an account. Several enable it again: `governance propose NAME enable`.
    Disable { account: Id },
}

pub async fn carry_out(session: &Session, command: UserCommand) -> Result<ExitCode, Failure> {
    let action = match command {
        UserCommand::List => return list(session).await,
        UserCommand::Show { account } => {
            return show(session, &account).await;
        }
        UserCommand::Organization { organization, name } => {
            UsersAction::RegisterOrganization { organization, name }
        }
        UserCommand::Register {
            account,
            organization,
            name,
            key,
        } => UsersAction::RegisterUser {
            account,
            organization,
            name,
            key: key.public_key,
            proof: key.proof,
        },
        UserCommand::Gateway {
            account,
            organization,
            district,
            key,
        } => UsersAction::RegisterGateway {
            account,
            organization,
            district,
            key: key.public_key,
            proof: key.proof,
        },
        UserCommand::Grant { account, role } => {
            let grant = grant(&role)?;
            UsersAction::Grant {
                account,
                role: grant.role,
                scope: grant.scope,
            }
        }
        UserCommand::Revoke { account, role } => {
            let grant = grant(&role)?;
            UsersAction::Revoke {
                account,
                role: grant.role,
                scope: grant.scope,
            }
        }
        UserCommand::RotateKey { new_key } => return rotate_key(session, &new_key).await,
        UserCommand::AddKey { new_key, label } => return add_key(session, &new_key, label).await,
        UserCommand::RevokeKey {
            account,
            public_key: key,
        } => UsersAction::RevokeKey { account, key },
        UserCommand::Disable { account } => UsersAction::Disable { account },
    };
    session
        .act(Action::Users(action))
        .await
        .map(|()| ExitCode::SUCCESS)
}

async fn rotate_key(session: &Session, file: &Path) -> Result<ExitCode, Failure> {
    let (account, _) = session.account()?;
    let new = key::read(file).map_err(Failure::during("the new key"))?;
    let action = session.client.rotation(&new).await.map_err(asking)?;
    session.act(action).await?;
    session.output.print_text(&format!(
        "{account} signs with the key in {} from now on: give it as --key, or put the file in the \
         place of the old one",
        file.display()
    ));
    Ok(ExitCode::SUCCESS)
}

async fn add_key(session: &Session, file: &Path, label: String) -> Result<ExitCode, Failure> {
    let (account, _) = session.account()?;
    let new = key::read(file).map_err(Failure::during("the new key"))?;
    let action = session.client.addition(&new, label).await.map_err(asking)?;
    session.act(action).await?;
    let text = format!("{account} may sign with the key in {} too", file.display());
    session.output.print_text(&text);
    Ok(ExitCode::SUCCESS)
}

async fn show(session: &Session, account: &Id) -> Result<ExitCode, Failure> {
    let read = session.client.user(account).await;
    let record = read.map_err(asking)?.value;
    let changes = changes(session, &HistoryOf::User(account.clone())).await?;
    if session.output.json {
        let mut printed = json!(record);
        printed["history"] = json!(changes.items);
        print(&printed);
        return Ok(ExitCode::SUCCESS);
    }
    let Account {
        account,
        kind,
        organization,
        name,
        district,
        keys,
        grants,
        disabled,
        registered_height,
    } = &record;
    emit_members(&[
        ("account", account.to_string()),
        ("name", name.clone()),
        ("kind", words(kind)),
        ("organization", organization.to_string()),
        ("acts in", describe::place(district)),
        (
            "roles",
            joined(&grants.iter().map(role).collect::<Vec<_>>()),
        ),
        ("disabled", yes(*disabled)),
        ("registered", format!("block {registered_height}")),
        (
            "keys",
            joined(&keys.iter().map(named_key).collect::<Vec<_>>()),
        ),
    ]);
    emit("");
    emit_changes(&changes);
    Ok(ExitCode::SUCCESS)
}

fn named_key(held: &AccountKey) -> String {
    let AccountKey { key, label } = held;
    match &label[..] {
        "" => key.to_string(),
        label => format!("{key} ({label})"),
    }
}

/// A role in the form that `user grant` takes.
fn role(grant: &Grant) -> String {
    match grant.scope.as_str() {
        "" => name(&grant.role),
        scope => format!("{}@{scope}", name(&grant.role)),
    }
}

async fn list(session: &Session) -> Result<ExitCode, Failure> {
    let client = &session.client;
    let accounts = paging::all(async |after: Option<&str>| client.users(after).await).await?;
    let heads = ["account", "kind", "organization", "roles", "name"];
    session
        .output
        .list("accounts", &accounts, &heads, |account| {
            let roles: Vec<_> = account.grants.iter().map(role).collect();
            let kind = if account.disabled {
                format!("{} (disabled)", name(&account.kind))
            } else {
                name(&account.kind)
            };
            let organization = account.organization.to_string();
            let who = account.account.to_string();
            vec![
                who,
                kind,
                organization,
                joined(&roles),
                account.name.clone(),
            ]
        });
    Ok(ExitCode::SUCCESS)
}
