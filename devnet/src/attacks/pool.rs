//! A full pool: the majority of the validators is gone, nothing can be ordered, and one more
//! transaction is too many.

use std::time::{Duration, Instant};

use lamplighter_types::{Action, DevicesAction, Hash, codec};
use serde_json::Value;

use super::words_of;
use crate::DevnetError;
use crate::journal::Journal;
use crate::network::Devnet;

/// Text of one transaction, so that a pool of 64 MiB is full after some hundred.
const TEXT_BYTES: usize = 250_000;
/// More than fit the pool, and less than the window of one key.
const TRANSACTIONS_MAX: usize = 600;
/// For everything that was taken to be in a block, once there is a majority again.
const ORDERED_WITHIN: Duration = Duration::from_secs(120);

pub(super) async fn run(devnet: &mut Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    let name = "one transaction more than the pool holds";
    let count = devnet.nodes.len();
    if count == 1 {
        // Without it there is no pool, and with it every transaction is ordered.
        journal.not_applicable(name, "1 validator");
        return Ok(());
    }
    // Half of them are no majority. The first stays: transactions that were only promised a place
    // live in its memory.
    let gone = count / 2..count;
    for at in gone.clone() {
        devnet.nodes[at].process.kill().await?;
    }
    let filled = fill(devnet).await;
    for at in gone.clone() {
        devnet.nodes[at].process.start()?;
    }
    for at in gone {
        devnet.ready(at).await?;
    }
    let (accepted, words) = filled?;
    let verdict = all_there(devnet, &accepted).await.map(|()| {
        format!(
            "{words}; all {} that were taken before are in blocks",
            accepted.len()
        )
    });
    journal.attack(name, verdict);
    Ok(())
}

/// Fills the pool of the first node. Gives what it took, and the words with which it refused the
/// next one.
async fn fill(devnet: &Devnet) -> Result<(Vec<Hash>, String), DevnetError> {
    let operator = devnet.client("operator")?;
    let chain_id = devnet.city.genesis.chain_id();
    let url = format!("{}/v1/transactions?wait=none", devnet.nodes[0].url());
    let http = reqwest::Client::new();
    let failed = |error: reqwest::Error| DevnetError::Found(format!("filling the pool: {error}"));
    let mut accepted = Vec::new();
    while accepted.len() < TRANSACTIONS_MAX {
        // It fails when it is executed, and changes nothing.
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
        let words = format!("{status} {}, Retry-After {retry}", words_of(&problem));
        return match status == 503 && retry != "none" {
            true => Ok((accepted, words)),
            false => Err(DevnetError::Found(words)),
        };
    }
    Err(DevnetError::NotRefused(format!(
        "{} large transactions",
        accepted.len()
    )))
}

/// Every transaction has its receipt.
async fn all_there(devnet: &Devnet, accepted: &[Hash]) -> Result<(), DevnetError> {
    let client = devnet.client("operator")?;
    let begun = Instant::now();
    for hash in accepted {
        loop {
            match client.transaction(hash).await {
                Ok(_) => break,
                Err(error) if !error.is_not_found() => {
                    return Err(DevnetError::client("asking for a receipt")(error));
                }
                _ if begun.elapsed() > ORDERED_WITHIN => {
                    return Err(DevnetError::Found(format!("{hash} is in no block: lost")));
                }
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
    Ok(())
}
