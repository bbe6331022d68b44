//! A thief with the key of one administrator, and two thieves together.

use lamplighter_types::{
    Action, ApprovalPolicies, GovernanceChange, Id, KeyPurpose, Policies, Role, Scope, UsersAction,
    Validator,
};

use super::{agree, approve, foreign_proof, grant_of, propose, withdraw};
use crate::DevnetError;
use crate::attacks::{client_with, must_fail, register_user, unregistered_key};
use crate::city::id;
use crate::journal::Journal;
use crate::network::{Devnet, submit_action};

/// The account that the thief makes.
const PUPPET: &str = "puppet";

pub(super) async fn run(devnet: &mut Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    roles(devnet, journal).await?;
    puppets(devnet, journal).await?;
    alone(devnet, journal).await?;
    stops(devnet, journal).await?;
    possession(devnet, journal).await?;
    two(devnet, journal).await
}

fn grant(account: &str, role: Role) -> Action {
    Action::Users(UsersAction::Grant {
        account: id(account),
        role,
        scope: Scope::city(),
    })
}

/// Roles that one administrator does not grant.
async fn roles(devnet: &mut Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    register_user(devnet, PUPPET).await?;
    let thief = devnet.client("admin-1")?;
    let action = grant(PUPPET, Role::Administrator);
    let verdict = must_fail(&thief, action, &["users.power_role"]).await;
    journal.attack("a puppet made administrator by one key", verdict);
    let action = grant(PUPPET, Role::Approver);
    let verdict = must_fail(&thief, action, &["users.power_role"]).await;
    journal.attack("a puppet made approver by one key", verdict);
    let action = grant("admin-1", Role::Operator);
    let verdict = must_fail(&thief, action, &["users.self_grant"]).await;
    journal.attack("an administrator that makes itself operator", verdict);
    Ok(())
}

/// A proposal of the thief, which its puppet and its other key approve.
async fn puppets(devnet: &mut Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    let thief = devnet.client("admin-1")?;
    let changes = vec![grant_of(PUPPET, Role::Administrator)];
    let approval = approve("take", &changes);
    submit_action(&thief, "proposing", propose("take", changes)).await?;
    let puppet = devnet.client(PUPPET)?;
    let verdict = must_fail(&puppet, approval.clone(), &["forbidden"]).await;
    journal.attack("a thief's proposal approved by its puppet", verdict);
    let verdict = must_fail(&thief, approval.clone(), &["governance.approved"]).await;
    journal.attack("a thief's proposal approved by its author", verdict);

    let account = id("admin-1");
    let spare = unregistered_key()?;
    let add = UsersAction::AddKey {
        key: spare.public(),
        label: "spare".to_owned(),
        proof: spare.prove(
            KeyPurpose::Account,
            &devnet.city.genesis.chain_id(),
            &account,
        ),
    };
    submit_action(&thief, "adding a key", Action::Users(add)).await?;
    let second = client_with(devnet, &account, &spare)?;
    submit_action(&second, "approving by a second key", approval).await?;
    let verdict = still_open(devnet, "take").await;
    journal.attack("a thief's proposal approved by its second key", verdict);
    let revoke = UsersAction::RevokeKey {
        account,
        key: spare.public(),
    };
    submit_action(&thief, "revoking a key", Action::Users(revoke)).await?;
    submit_action(&thief, "withdrawing", withdraw("take"))
        .await
        .map(drop)
}

/// Checks that a proposal was not carried out: it waits, and who it is for has no role.
async fn still_open(devnet: &Devnet, proposal: &str) -> Result<String, DevnetError> {
    let auditor = devnet.client("auditor")?;
    let read = auditor.get::<serde_json::Value>("/v1/proposals?limit=1000");
    let open = read
        .await
        .map_err(DevnetError::client("reading proposals"))?
        .value;
    let all = open["items"].as_array().cloned().unwrap_or_default();
    let found = all.iter().find(|open| open["proposal"] == proposal);
    match found.and_then(|open| open["approvals"].as_array()) {
        Some(approvals) => Ok(format!(
            "it waits for another administrator, with {} approval",
            approvals.len()
        )),
        None => Err(DevnetError::NotRefused(format!("the proposal {proposal}"))),
    }
}

/// What one administrator proposes alone waits for another one.
async fn alone(devnet: &Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    let thief = devnet.client("admin-1")?;
    let (key, other) = (unregistered_key()?, id("admin-2"));
    let mut once = Policies {
        ..devnet.city.genesis.policies
    };
    let ApprovalPolicies {
        policies, power, ..
    } = &mut once.approvals;
    (policies.approvals, power.approvals) = (1, 1);
    let chain_id = devnet.city.genesis.chain_id();
    let last = devnet.nodes.len() as u64;
    for (name, proposal, change) in [
        (
            "the policies set by one administrator",
            "policies",
            GovernanceChange::SetPolicies { policies: once },
        ),
        (
            "an account recovered by one administrator",
            "recovery",
            GovernanceChange::Recover {
                proof: key.prove(KeyPurpose::Account, &chain_id, &other),
                account: other,
                new_key: key.public(),
            },
        ),
        (
            "a validator removed by one administrator",
            "removal",
            GovernanceChange::RemoveValidator { node: last },
        ),
    ] {
        submit_action(&thief, "proposing", propose(proposal, vec![change])).await?;
        let verdict = still_open(devnet, proposal).await;
        journal.attack(name, verdict);
        submit_action(&thief, "withdrawing", withdraw(proposal)).await?;
    }
    Ok(())
}

/// One administrator stops those who could undo it.
async fn stops(devnet: &Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    let thief = devnet.client("admin-1")?;
    for (name, account) in [
        ("the other administrator disabled by one", "admin-2"),
        ("one of two approvers disabled by one", "approver-1"),
    ] {
        let account = id(account);
        let disable = Action::Users(UsersAction::Disable { account });
        let verdict = must_fail(&thief, disable, &["users.too_few_left"]).await;
        journal.attack(name, verdict);
    }
    Ok(())
}

/// Keys that enter without a proof that somebody has them.
async fn possession(devnet: &Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    let thief = devnet.client("admin-1")?;
    let (claimed, account): (_, Id) = (unregistered_key()?.public(), id("claimed"));
    let user = UsersAction::RegisterUser {
        proof: foreign_proof(devnet, KeyPurpose::Account, &account)?,
        account,
        organization: id("city"),
        name: "Somebody else".to_owned(),
        key: claimed,
    };
    let verdict = must_fail(&thief, Action::Users(user), &["users.wrong_proof"]).await;
    journal.attack("a user's key entered without having it", verdict);

    let account = id("node-77");
    let change = GovernanceChange::AddValidator {
        proof: foreign_proof(devnet, KeyPurpose::Node, &account)?,
        validator: Validator {
            node: 77,
            account,
            key: claimed,
            address: "127.0.0.1:7".to_owned(),
        },
    };
    let changes = vec![change];
    let approval = approve("claimed", &changes);
    let verdict = match must_fail(&thief, propose("claimed", changes), &["users.wrong_proof"]).await
    {
        // It is looked at when the proposal is carried out.
        Err(DevnetError::NotRefused(_)) => {
            let second = devnet.client("admin-2")?;
            let verdict = must_fail(&second, approval, &["users.wrong_proof"]).await;
            submit_action(&thief, "withdrawing", withdraw("claimed")).await?;
            verdict
        }
        verdict => verdict,
    };
    journal.attack("a validator's key entered without having it", verdict);
    Ok(())
}

/// Two thieves appoint a third one, who acts at once. One honest person stops it.
async fn two(devnet: &Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    agree(
        devnet,
        "a-third",
        vec![grant_of(PUPPET, Role::Administrator)],
    )
    .await?;
    let third = devnet.client(PUPPET)?;
    let removal = vec![GovernanceChange::RemoveValidator { node: 1 }];
    let verdict = must_fail(&third, propose("third", removal), &["users.newcomer"]).await;
    journal.attack("two administrators whose third acts at once", verdict);
    let account = id(PUPPET);
    let disable = Action::Users(UsersAction::Disable { account });
    submit_action(
        &devnet.client("admin-2")?,
        "disabling the newcomer",
        disable,
    )
    .await
    .map(drop)
}
