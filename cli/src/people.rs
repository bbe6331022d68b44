//! `user`: organizations, accounts, keys and roles.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use lamplighter_client::HistoryOf;
use lamplighter_node::key;
use lamplighter_types::{Account, Action, Grant, Id, PublicKey, Scope, UsersAction};
use serde_json::json;

use crate::describe::{self, words};
use crate::failure::Failure;
use crate::history::{changes, emit_changes};
use crate::keys::grant;
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
        #[arg(long = "public-key")]
        public_key: PublicKey,
    },
    /// Registers a gateway with a public key.
    Gateway {
        account: Id,
        #[arg(long)]
        organization: Id,
        /// The district in which it acts.
        #[arg(long, default_value = "")]
        district: Scope,
        #[arg(long = "public-key")]
        public_key: PublicKey,
    },
    /// Grants a role, e.g. `operator@north/harbour`; without a district for the whole city.
    Grant { account: Id, role: String },
    /// Revokes a role.
    Revoke { account: Id, role: String },
    /// Replaces the key that signs this by a new one; the old key is revoked for ever.
    RotateKey {
        /// The file with the new secret key, as `key new` makes it.
        new_key: PathBuf,
    },
    /// Revokes a key for ever.
    RevokeKey { account: Id, public_key: PublicKey },
    /// Votes for a new key of an account that lost its keys. The account gets it when as many
    /// administrators as the policy demands have voted for the same key.
    Recover {
        account: Id,
        #[arg(long = "public-key")]
        public_key: PublicKey,
    },
    /// Disables an account.
    Disable { account: Id },
    /// Enables a disabled account.
    Enable { account: Id },
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
            public_key: key,
        } => UsersAction::RegisterUser {
            account,
            organization,
            name,
            key,
        },
        UserCommand::Gateway {
            account,
            organization,
            district,
            public_key: key,
        } => UsersAction::RegisterGateway {
            account,
            organization,
            district,
            key,
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
        UserCommand::RevokeKey {
            account,
            public_key: key,
        } => UsersAction::RevokeKey { account, key },
        UserCommand::Recover {
            account,
            public_key: new_key,
        } => UsersAction::Recover { account, new_key },
        UserCommand::Disable { account } => UsersAction::Disable { account },
        UserCommand::Enable { account } => UsersAction::Enable { account },
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
        ("keys", joined(keys)),
    ]);
    emit("");
    emit_changes(&changes);
    Ok(ExitCode::SUCCESS)
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
    session.output.list(&accounts, &heads, |account| {
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
