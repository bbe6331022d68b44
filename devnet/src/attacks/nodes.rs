//! Attacks by nodes that do not belong to the ledger, and with the data of another chain.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::unregistered_key;
use crate::DevnetError;
use crate::journal::Journal;
use crate::network::{Devnet, NodeProcess};

/// Time for a process to end by itself, or to be refused.
const WITHIN: Duration = Duration::from_secs(30);

pub(super) async fn run(devnet: &mut Devnet, journal: &mut Journal) -> Result<(), DevnetError> {
    let verdict = unlisted_node(devnet).await;
    journal.attack("a node that is not on the allow-list", verdict);
    let verdict = wrong_key(devnet).await;
    journal.attack("a validator's id with another key", verdict);
    let verdict = other_chain(devnet).await;
    journal.attack("a data directory of another chain", verdict);
    let last = devnet.nodes.len() - 1;
    devnet.nodes[last].process.start()?;
    devnet.ready(last).await
}

/// Starts a node with an unregistered key: it comes up and dials, and no peer accepts it.
async fn unlisted_node(devnet: &mut Devnet) -> Result<String, DevnetError> {
    let lowest = devnet
        .city
        .genesis
        .validators
        .validators
        .iter()
        .map(|v| v.key)
        .min();
    // The node with the lower key dials: a lower key makes sure that there is a connection to
    // refuse.
    let secret = loop {
        let secret = unregistered_key()?;
        if lowest.is_none_or(|lowest| secret.public() < lowest) {
            break secret;
        }
    };
    lamplighter_node::key::write(&devnet.files.key("node-99"), &secret)?;
    let peer = devnet.ports.allocate()?;
    let mut node = devnet.node(99, peer)?;
    node.process.start()?;
    let verdict = wait_refused(&mut node).await;
    node.process.kill().await?;
    verdict
}

async fn wait_refused(node: &mut NodeProcess) -> Result<String, DevnetError> {
    let url = format!("{}/v1/status", node.url());
    let begun = Instant::now();
    let key = lamplighter_node::key::read(&node.config.key)?.public();
    let http = lamplighter_client::http_client_of([key]);
    let http = http.map_err(DevnetError::client("setting up an HTTP client"))?;
    loop {
        node.process.check()?;
        let log = node.process.read_log()?;
        let refused = log
            .lines()
            .rev()
            .find(|line| line.contains("no connection"))
            .map(str::to_owned);
        if let (Ok(answer), Some(line)) = (http.get(&url).send().await, refused) {
            let failed = |error: reqwest::Error| DevnetError::Unexpected(error.to_string());
            let status: Value = answer.json().await.map_err(failed)?;
            let alone = status["connected"].as_array().is_some_and(Vec::is_empty);
            let words = line.split("no connection").last().unwrap_or_default();
            return if alone && status["height"] == 0 {
                Ok(format!("no peer, height 0{}", words.trim_end()))
            } else {
                Err(DevnetError::NotRefused(status.to_string()))
            };
        }
        if begun.elapsed() > WITHIN {
            let what = "the stranger is turned away".to_owned();
            return Err(DevnetError::Deadline {
                what,
                within: WITHIN,
                seen: String::new(),
            });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn wrong_key(devnet: &mut Devnet) -> Result<String, DevnetError> {
    let peer = devnet.ports.allocate()?;
    // A key that was never used: a used one is refused for that reason already.
    let stranger = devnet.files.key("node-1-pretended");
    lamplighter_node::key::write(&stranger, &unregistered_key()?)?;
    let mut config = devnet.node(99, peer)?.config;
    config.node = 1;
    config.key = stranger;
    config.data_dir = devnet.files.root.join("node-1-pretended");
    let node = devnet.node_process("node-1-pretended", config)?;
    must_exit_with(node, "the key is of no node").await
}

/// Kills the last validator and starts a validator of another chain on its data.
async fn other_chain(devnet: &mut Devnet) -> Result<String, DevnetError> {
    let last = devnet.nodes.len() - 1;
    devnet.nodes[last].process.kill().await?;
    let mut genesis = devnet.city.genesis.clone();
    genesis.name = "Another City".to_owned();
    let path = devnet.files.write_json("another-genesis.json", &genesis)?;
    let mut config = devnet.nodes[last].config.clone();
    config.genesis = path;
    let node = devnet.node_process("another-city", config)?;
    must_exit_with(node, "chain").await
}

/// Checks that the process ends by itself, with an error that contains this text.
async fn must_exit_with(mut node: NodeProcess, words: &str) -> Result<String, DevnetError> {
    node.process.start()?;
    let good = node.process.wait(WITHIN).await?;
    let log = node.process.read_log()?;
    let line = log
        .lines()
        .rev()
        .find(|line| line.starts_with("lamplighter:"));
    match line {
        Some(line) if !good && line.contains(words) => Ok(line.to_owned()),
        _ => Err(DevnetError::NotRefused(format!("{good}: {line:?}"))),
    }
}
