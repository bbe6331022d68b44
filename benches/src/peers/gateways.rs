//! Gateways of a ledger that are only connected: their registration and their logins.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures::{StreamExt, TryStreamExt};
use lamplighter_types::login::{Audience, Challenge, ChallengeRequest, Token, TokenRequest};
use lamplighter_types::{
    Action, Id, KeyPurpose, Scope, SecretKey, SignedTransaction, UsersAction, codec,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::mqtt::Client;
use crate::cluster::{Cluster, NodeProcess};
use crate::error::BenchError;
use crate::fleet::{Fleet, id, key_of, organization};
use crate::http::Connection;
use crate::load::{self, SubmitOutcome};

/// Requests at once; the administrator's sequence window is far above.
pub const AT_ONCE: usize = 64;
const JSON: &str = "content-type: application/json\r\n";

/// The name of a gateway that is only connected.
pub fn name(number: usize) -> String {
    format!("field-{number:05}")
}

/// Registers gateways of the whole city, by transactions of the administrator.
pub async fn register(
    cluster: &Cluster,
    fleet: &Arc<Fleet>,
    count: usize,
) -> Result<(), BenchError> {
    let signed = (0..count).map(|number| {
        let (account, secret) = (id(&name(number)), key_of(&name(number)));
        let action = Action::Users(UsersAction::RegisterGateway {
            organization: organization(),
            district: Scope::city(),
            key: secret.public(),
            proof: secret.prove(KeyPurpose::Account, &fleet.chain_id, &account),
            account,
        });
        fleet.sign_as_administrator(action)
    });
    submit_all(cluster.nodes[0].http, AT_ONCE, signed).await
}

/// Submits transactions, some at once, until all are in blocks. Each is taken from the iterator
/// when it is its turn, so that it can be signed then.
///
/// # Errors
/// One was refused or failed.
pub async fn submit_all(
    node: SocketAddr,
    at_once: usize,
    transactions: impl Iterator<Item = SignedTransaction>,
) -> Result<(), BenchError> {
    let transactions = Mutex::new(transactions);
    let next = || {
        transactions
            .lock()
            .expect("nobody panics with the lock")
            .next()
    };
    let workers = (0..at_once).map(|_| async {
        let mut connection = load::open(node).await?;
        while let Some(signed) = next() {
            let body = codec::encode(&signed);
            let outcome = load::submit_until_accepted(&mut connection, &body).await?;
            if let SubmitOutcome::Failed(why) = outcome {
                return Err(BenchError::Failures(1, "the making", why));
            }
        }
        Ok(())
    });
    futures::future::try_join_all(workers).await.map(drop)
}

/// Logs in with a key; the token is of this node.
pub async fn token(
    connection: &mut Connection,
    fleet: &Fleet,
    account: &Id,
    secret: &SecretKey,
    audience: Audience,
) -> Result<String, BenchError> {
    let request = ChallengeRequest {
        account: account.clone(),
        key: secret.public(),
    };
    let challenge: Challenge = post(connection, "/v1/auth/challenge", &request).await?;
    let request = TokenRequest::sign(&fleet.chain_id, account, audience, &challenge, secret);
    let token: Token = post(connection, "/v1/auth/token", &request).await?;
    Ok(token.token)
}

/// Sends JSON and reads JSON.
pub async fn post<T: DeserializeOwned>(
    connection: &mut Connection,
    path: &str,
    body: &impl Serialize,
) -> Result<T, BenchError> {
    let node = connection.address;
    let body = serde_json::to_vec(body).expect("our types have JSON forms");
    let answer = connection.send("POST", path, JSON, &body).await;
    let answer = answer.map_err(|source| BenchError::Http { node, source })?;
    serde_json::from_slice(&answer.body).map_err(|_| BenchError::Answer {
        node,
        status: answer.status,
        body: String::from_utf8_lossy(&answer.body).into_owned(),
    })
}

/// Logs all gateways in at a node.
pub async fn clients(
    node: &NodeProcess,
    fleet: &Arc<Fleet>,
    count: usize,
) -> Result<Vec<Client>, BenchError> {
    let accounts = (0..count).map(|number| (id(&name(number)), key_of(&name(number))));
    log_in(node.http, fleet, accounts.collect()).await
}

/// Logs the senders of the fleet in at a node.
pub async fn senders(
    node: &NodeProcess,
    fleet: &Arc<Fleet>,
    count: usize,
) -> Result<Vec<Client>, BenchError> {
    let of = |number| {
        let (account, secret) = fleet.gateway(number);
        (account.clone(), secret.clone())
    };
    log_in(node.http, fleet, (0..count).map(of).collect()).await
}

async fn log_in(
    node: SocketAddr,
    fleet: &Arc<Fleet>,
    accounts: Vec<(Id, SecretKey)>,
) -> Result<Vec<Client>, BenchError> {
    let chunk = accounts.len().div_ceil(AT_ONCE).max(1);
    let logins = accounts.chunks(chunk).map(|accounts| async move {
        let mut connection = load::open(node).await?;
        let mut clients = Vec::new();
        for (account, secret) in accounts {
            let token = token(&mut connection, fleet, account, secret, Audience::Mqtt).await?;
            clients.push(Client {
                id: account.to_string(),
                token: Some(token),
            });
        }
        Ok::<_, BenchError>(clients)
    });
    let logins: Vec<Vec<Client>> = futures::stream::iter(logins)
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(logins.into_iter().flatten().collect())
}
