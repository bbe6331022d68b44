//! An attack that fills the pool: with the majority of the validators stopped, nothing can be
//! ordered, until the pool refuses one transaction more.

use std::time::{Duration, Instant};

use lamplighter_types::{Action, DevicesAction, Hash, codec};
use serde_json::Value;

use super::problem_text;
use crate::DevnetError;
use crate::journal::Journal;
use crate::network::Devnet;

/// Text of one transaction: a pool of 64 MiB is full after some hundred transactions.
const TEXT_BYTES: usize = 250_000;
/// Transactions to try: more than fit the pool, and less than the window of one key.
const TRANSACTIONS_MAX: usize = 600;
/// Time for all accepted transactions to be in a block, once there is a majority again.
const ORDERED_WITHIN: Duration = Duration::from_secs(120);

pub(super) async fn run(devnet: &mut Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    let name = "one transaction more than the pool holds";
    let count = devnet.nodes.len();
    if count == 1 {
        // A single validator is its own majority: the pool never fills.
        journal.not_applicable(name, "1 validator");
        return Ok(());
    }
    // Half of them are no majority. The first keeps running: accepted transactions are in its
    // memory.
    let stopped = count / 2..count;
    for at in stopped.clone() {
        devnet.nodes[at].process.kill().await?;
    }
    let filled = fill(devnet).await;
    for at in stopped.clone() {
        devnet.nodes[at].process.start()?;
    }
    for at in stopped {
        devnet.ready(at).await?;
    }
    let (accepted, words) = filled?;
    let verdict = wait_receipts(devnet, &accepted).await.map(|()| {
        format!(
            "{words}; all {} that were taken before are in blocks",
            accepted.len()
        )
    });
    journal.attack(name, verdict);
    Ok(())
}

/// Fills the pool of the first node. Returns the accepted transactions, and the text with which the
/// next one was refused.
async fn fill(devnet: &Devnet) -> Result<(Vec<Hash>, String), DevnetError> {
    let operator = devnet.client("operator")?;
    let chain_id = devnet.city.genesis.chain_id();
    let url = format!("{}/v1/transactions?wait=none", devnet.nodes[0].url());
    let http = devnet.http()?;
    let failed =
        |error: reqwest::Error| DevnetError::Unexpected(format!("filling the pool: {error}"));
    let mut accepted = Vec::new();
    while accepted.len() < TRANSACTIONS_MAX {
        // Its execution fails and changes nothing.
        let function = "registerSpec".to_owned();
        let argument = "ab".repeat(TEXT_BYTES / 2);
        let action = Action::Devices(DevicesAction::IotRegistry { function, argument });
        let signed = operator
            .sign(action)
            .await
            .map_err(DevnetError::client("signing"))?;
        let request = http
            .post(&url)
            .header("content-type", "application/octet-stream");
        let answer = request
            .body(codec::encode(&signed))
            .send()
            .await
            .map_err(failed)?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        if status == 202 {
            accepted.push(signed.hash(&chain_id));
            continue;
        }
        let retry = headers
            .get("retry-after")
            .and_then(|v| v.to_str().ok())
            .unwrap_or("none");
        let problem: Value = answer.json().await.map_err(failed)?;
        let words = format!("{status} {}, Retry-After {retry}", problem_text(&problem));
        return if status == 503 && retry != "none" {
            Ok((accepted, words))
        } else {
            Err(DevnetError::Unexpected(words))
        };
    }
    Err(DevnetError::NotRefused(format!(
        "{} large transactions",
        accepted.len()
    )))
}

/// Waits until every transaction has its receipt.
async fn wait_receipts(devnet: &Devnet, accepted: &[Hash]) -> Result<(), DevnetError> {
    let client = devnet.client("operator")?;
    let begun = Instant::now();
    for hash in accepted {
        loop {
            match client.transaction(*hash).await {
                Ok(_) => break,
                Err(error) if !error.is_not_found() => {
                    return Err(DevnetError::client("asking for a receipt")(error));
                }
                _ if begun.elapsed() > ORDERED_WITHIN => {
                    return Err(DevnetError::Unexpected(format!(
                        "{hash} is in no block: lost"
                    )));
                }
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
    Ok(())
}
