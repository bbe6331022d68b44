//! Attacks that must be refused, tried from outside; each result has the text of the refusal.

mod artifacts;
mod certificates;
mod events;
mod hostile_nodes;
mod lying_node;
mod nodes;
mod orders;
mod pool;
mod releases;
mod thieves;
mod topics;
mod transactions;

use std::time::Instant;

use lamplighter_client::{Client, ClientError, Submitted, Wait};
use lamplighter_contracts::refusal;
use lamplighter_types::{Action, Hash, Id, Outcome, SecretKey, UsersAction};

use crate::DevnetError;
use crate::city::id;
use crate::feed::FeedSubscriber;
use crate::journal::{AttackOutcome, Journal};
use crate::network::{Devnet, submit_action};
use crate::scenario;

/// Runs all attacks.
///
/// # Errors
/// An attack could not even be tried; whether each was refused is in the journal.
pub async fn run(
    devnet: &mut Devnet,
    feed: &FeedSubscriber,
    journal: &mut Journal,
) -> Result<(), DevnetError> {
    let begun = Instant::now();
    let tries = attempts(devnet, feed, journal).await;
    let tried = journal.attacks.len() - journal.count(AttackOutcome::NotApplicable);
    let refused = journal.count(AttackOutcome::Refused);
    let verdict = match (tries, journal.count(AttackOutcome::NotRefused)) {
        (Ok(()), 0) => Ok(serde_json::json!({ "tried": tried, "refused": refused })),
        (Ok(()), through) => Err(DevnetError::NotRefused(format!("{through} of {tried}"))),
        (Err(error), _) => Err(error),
    };
    let passed = format!("{refused} attacks were tried, each was refused");
    journal.record("attacks", &passed, begun, &verdict);
    verdict?;
    let passed = "all validators still have the same certified block";
    journal
        .step("still in agreement", passed, scenario::same_head(devnet))
        .await
        .map(drop)
}

async fn attempts(
    devnet: &mut Devnet,
    feed: &FeedSubscriber,
    journal: &mut Journal,
) -> Result<(), DevnetError> {
    journal.heading("anybody, with bytes that are wrong");
    transactions::run(devnet, journal).await?;
    transactions::json(devnet, journal).await?;
    certificates::run(devnet, journal).await?;
    journal.heading("people and gateways beyond their rights");
    releases::run(devnet, feed, journal).await?;
    events::run(devnet, journal).await?;
    topics::run(devnet, journal).await?;
    artifacts::store(devnet, journal).await?;
    artifacts::field(devnet, feed, journal).await?;
    orders::run(devnet, journal).await?;
    thieves::run(devnet, feed, journal).await?;
    journal.heading("nodes");
    nodes::run(devnet, journal).await?;
    hostile_nodes::run(devnet, journal).await?;
    pool::run(devnet, journal).await
}

/// The stable code and the text with which a submission was refused, by a node or in a receipt.
fn refusal(result: &Result<Submitted, ClientError>) -> Option<(String, String)> {
    match result {
        Ok(submitted) => match &submitted.receipt.as_ref()?.outcome {
            Outcome::Succeeded => None,
            Outcome::Failed { code, fields } => {
                Some((code.clone(), refusal::message(code, fields)))
            }
        },
        Err(error) => {
            let problem = error.problem()?;
            Some((problem.code.clone(), problem.detail.clone()))
        }
    }
}

/// Code and detail of a problem document that a node answered.
fn problem_text(problem: &serde_json::Value) -> String {
    let member = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
    format!("{}: {}", member("code"), member("detail"))
}

/// Checks that a submission was refused with one of these codes, and that it changed nothing.
fn must_refuse(
    result: Result<Submitted, ClientError>,
    codes: &[&str],
) -> Result<String, DevnetError> {
    let changed = match &result {
        Ok(submitted) => submitted
            .receipt
            .as_ref()
            .is_some_and(|r| !r.notifications.is_empty()),
        Err(_) => false,
    };
    match refusal(&result) {
        Some((code, words)) if codes.contains(&code.as_str()) && !changed => {
            Ok(format!("{code}: {words}"))
        }
        Some((code, words)) => Err(DevnetError::Unexpected(format!(
            "{code}: {words}, where {codes:?} was expected"
        ))),
        None => Err(DevnetError::NotRefused(match result {
            Ok(submitted) => format!("the transaction {}", submitted.transaction),
            Err(error) => lamplighter_system::error_chain(&error),
        })),
    }
}

/// Submits an action that must fail with one of these codes.
async fn must_fail(client: &Client, action: Action, codes: &[&str]) -> Result<String, DevnetError> {
    must_refuse(client.submit(action, Wait::Committed).await, codes)
}

/// A client that signs with this key, whether it belongs to the account or not.
fn client_with(devnet: &Devnet, account: &Id, secret: &SecretKey) -> Result<Client, DevnetError> {
    let urls = devnet.nodes.iter().map(crate::NodeProcess::url).collect();
    let config = lamplighter_client::ClientConfig::new(urls)
        .with_genesis(devnet.city.genesis.clone())
        .with_key(account.clone(), secret.clone());
    Client::new(config).map_err(DevnetError::client("setting up a client"))
}

/// A new key that the ledger does not know.
fn unregistered_key() -> Result<SecretKey, DevnetError> {
    Ok(lamplighter_node::key::generate()?)
}

/// Registers one more user by a transaction.
async fn register_user(devnet: &mut Devnet, name: &str) -> Result<(), DevnetError> {
    let member = devnet.city.add_key(&devnet.files.keys(), name)?;
    let action = UsersAction::RegisterUser {
        proof: devnet.city.proof(&member),
        account: member.account,
        organization: id("city"),
        name: name.to_owned(),
        key: member.secret.public(),
    };
    submit_action(
        &devnet.client("admin-1")?,
        "registering a user",
        Action::Users(action),
    )
    .await
    .map(drop)
}

/// An image that no other part of the demonstration uses.
fn image_of(seed: &str) -> (Vec<u8>, Hash) {
    let image = crate::files::synthetic_image(seed);
    let digest = Hash::of(&image);
    (image, digest)
}
