//! The other nodes, as this one reaches them: their ports, their clocks, their versions; and the
//! node itself, if it runs.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use jiff::fmt::rfc2822::DateTimeParser;
use lamplighter_client::{ClientError, http_client_of};
use lamplighter_node::{HttpTls, NamedTls, NodeConfig, key};
use lamplighter_system::unix_ms;
use lamplighter_types::protocol::PROTOCOL_VERSION;
use lamplighter_types::wire::{NextProtocol, ProtocolStatus, Status};
use lamplighter_types::{Genesis, PublicKey, Validator};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Finding;
use crate::failure::Failure;

/// For a connection, and for an answer: longer than any healthy node takes.
const WITHIN: Duration = Duration::from_secs(3);
/// Clocks are told in whole seconds, and answers take a part of one: a smaller difference is none.
const CLOCK_MS_WARNED: i64 = 2_000;
/// What services leave that set the clock, each where its package has it.
const TIME_SERVICES: [&str; 5] = [
    "/run/systemd/timesync/synchronized",
    "/run/chrony/chronyd.pid",
    "/run/ntpd.pid",
    "/run/openntpd.pid",
    "/run/ntpsec/ntpd.pid",
];

/// The answer of a node, with the offset of its clock from this machine's.
#[derive(Debug)]
pub struct NodeAnswer {
    status: Status,
    clock_ms: Option<i64>,
}

/// Asks a node for its status.
async fn ask(url: &str, keys: Vec<PublicKey>) -> Result<NodeAnswer, ClientError> {
    let client = http_client_of(keys)?;
    let failed = ClientError::Setup;
    let begun = unix_ms();
    let request = client.get(format!("{url}/v1/status")).timeout(WITHIN);
    let answer = request.send().await.map_err(failed)?;
    let date = answer.headers().get("date").cloned();
    let middle = i64::try_from(begun.midpoint(unix_ms())).unwrap_or(i64::MAX);
    let status = answer.json().await.map_err(failed)?;
    let date = date.as_ref().and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| DateTimeParser::new().parse_timestamp(date).ok());
    // The date leaves out up to a second.
    let clock_ms = date.map(|date| date.as_millisecond() + 500 - middle);
    Ok(NodeAnswer { status, clock_ms })
}

/// The node of this configuration, if it runs.
pub async fn running(config: &NodeConfig) -> Result<Option<NodeAnswer>, Failure> {
    let Ok(secret) = key::read(&config.key) else {
        return Ok(None);
    };
    let mut address = config.http_listen;
    if address.ip().is_unspecified() {
        address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let url = format!("{}://{address}", scheme(config));
    Ok(ask(&url, vec![secret.public()]).await.ok())
}

fn scheme(config: &NodeConfig) -> &'static str {
    match config.http.tls {
        HttpTls::Named(NamedTls::Off) => "http",
        HttpTls::Named(NamedTls::Ledger) | HttpTls::Files(_) => "https",
    }
}

/// Whether a node can be connected to.
#[derive(Debug)]
enum Reached {
    Connected,
    /// Its machine answers, and nothing listens there.
    Refused,
    Silent(String),
}

async fn reach(address: &str) -> Reached {
    match timeout(WITHIN, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Reached::Connected,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Reached::Refused,
        Ok(Err(error)) => Reached::Silent(error.to_string()),
        Err(_) => Reached::Silent(format!("no answer within {} s", WITHIN.as_secs())),
    }
}

/// All findings about this node, if it runs, and about the others of the genesis file.
pub async fn examine(
    config: &NodeConfig,
    genesis: &Genesis,
    urls: &[String],
    local: Option<NodeAnswer>,
) -> Result<Vec<Finding>, Failure> {
    let all = genesis.validators.validators.iter();
    let others: Vec<_> = all.filter(|v| v.node != config.node).collect();
    let reached = reach_all(&others).await;
    let answers = ask_all(config, genesis, &others, urls).await;
    let mut findings = Vec::new();
    findings.extend(local.as_ref().map(|local| itself(&local.status)));
    findings.extend(peers(&others, &reached, local.as_ref(), genesis));
    findings.push(clock(config, &answers));
    findings.push(versions(local.as_ref(), &answers));
    Ok(findings)
}

async fn reach_all(others: &[&Validator]) -> BTreeMap<u64, Reached> {
    let mut attempts = JoinSet::new();
    for Validator { node, address, .. } in others.iter().copied().cloned() {
        attempts.spawn(async move { (node, reach(&address).await) });
    }
    attempts.join_all().await.into_iter().collect()
}

/// The answers of the other nodes: at the given addresses, or else where their HTTP interface is if
/// their ports are laid out as those of this node, as `node init` does it.
async fn ask_all(
    config: &NodeConfig,
    genesis: &Genesis,
    others: &[&Validator],
    urls: &[String],
) -> BTreeMap<u64, NodeAnswer> {
    let guessed = others
        .iter()
        .filter_map(|validator| guess(config, validator));
    let urls: Vec<_> = match urls {
        [] => guessed.collect(),
        named => named.to_vec(),
    };
    let keys: Vec<_> = genesis
        .validators
        .validators
        .iter()
        .map(|v| v.key)
        .collect();
    let mut questions = JoinSet::new();
    for url in urls {
        let keys = keys.clone();
        questions.spawn(async move { ask(url.trim_end_matches('/'), keys).await });
    }
    let answers = questions.join_all().await.into_iter().flatten();
    let is_other = |answer: &NodeAnswer| answer.status.node != config.node;
    let answers = answers.filter(is_other);
    answers.map(|answer| (answer.status.node, answer)).collect()
}

fn guess(config: &NodeConfig, validator: &Validator) -> Option<String> {
    let (host, port) = validator.address.rsplit_once(':')?;
    let port: i32 = port.parse().ok()?;
    let step = i32::from(config.http_listen.port()) - i32::from(config.peer_listen.port());
    let port = u16::try_from(port + step).ok()?;
    Some(format!("{}://{host}:{port}", scheme(config)))
}

/// What the node says of itself.
fn itself(status: &Status) -> Finding {
    let Status { node, height, .. } = status;
    if let Some(reason) = &status.halted {
        let remedy = "keep its data, and see \"What the alarms of a node mean\" in the operations";
        return Finding::fault("node", format!("node {node} has stopped: {reason}"), remedy);
    }
    let alarms: Vec<_> = status
        .alarms
        .iter()
        .map(|alarm| alarm.message.clone())
        .collect();
    if !alarms.is_empty() {
        let remedy = "see \"What the alarms of a node mean\" in the operations";
        return Finding::warning("node", alarms.join("; "), remedy);
    }
    if status.leader.is_none() {
        let remedy = "start the other nodes, and look at the peers below";
        return Finding::warning("node", "it runs, and knows no leader", remedy);
    }
    Finding::good("node", format!("node {node} runs, at block {height}"))
}

/// One finding for each node that is not reached, or one for all.
fn peers(
    others: &[&Validator],
    reached: &BTreeMap<u64, Reached>,
    local: Option<&NodeAnswer>,
    genesis: &Genesis,
) -> Vec<Finding> {
    let connected = local.map_or(&[][..], |local| &local.status.connected);
    let missing = others.iter().filter(|v| !connected.contains(&v.node));
    let findings: Vec<_> = missing
        .filter_map(|validator| peer(validator, reached.get(&validator.node)?, local.is_some()))
        .collect();
    if findings.is_empty() {
        let quorum = genesis.validators.quorum();
        let found = format!(
            "all {} others are reached; {quorum} nodes decide",
            others.len()
        );
        return vec![Finding::good("peers", found)];
    }
    findings
}

fn peer(validator: &Validator, reached: &Reached, runs: bool) -> Option<Finding> {
    let Validator { node, address, .. } = validator;
    match reached {
        Reached::Connected if runs => Some(Finding::warning(
            "peers",
            format!("{address} answers, and this node is not connected to node {node}"),
            format!("look at `identity` in /readyz here and at node {node}"),
        )),
        Reached::Connected => None,
        Reached::Refused => Some(Finding::warning(
            "peers",
            format!("nothing listens at {address} of node {node}"),
            format!("start node {node}; if it runs, compare its peer_listen with this address"),
        )),
        Reached::Silent(reason) => Some(Finding::fault(
            "peers",
            format!("node {node} is not reached at {address}: {reason}"),
            "look at the address in the genesis file, the route, and the firewalls of both sides",
        )),
    }
}

/// The clock against the median of the other nodes.
fn clock(config: &NodeConfig, answers: &BTreeMap<u64, NodeAnswer>) -> Finding {
    let offsets = answers.values().filter_map(|answer| answer.clock_ms);
    let mut offsets: Vec<_> = offsets.collect();
    offsets.sort_unstable();
    let Some(&offset) = offsets.get(offsets.len() / 2) else {
        return clock_alone();
    };
    let ahead = if offset < 0 { "ahead of" } else { "behind" };
    let seconds = offset.unsigned_abs() / 1_000;
    let found = format!("{seconds} s {ahead} the median of {} nodes", offsets.len());
    let remedy = "let NTP set it (`apt install chrony`); if the others are wrong, repair theirs";
    if offset.unsigned_abs() > config.clock_offset_max_ms {
        return Finding::fault("clock", found, remedy);
    }
    match offset.abs() > CLOCK_MS_WARNED {
        true => Finding::warning("clock", found, remedy),
        false => Finding::good("clock", format!("that of {} nodes", offsets.len())),
    }
}

fn clock_alone() -> Finding {
    match TIME_SERVICES.iter().any(|file| Path::new(file).exists()) {
        true => Finding::good(
            "clock",
            "a service sets it; no other node answers to compare",
        ),
        false => Finding::warning(
            "clock",
            "no other node answers to compare, and no service seems to set it",
            "let NTP set it (`apt install chrony`), and run this again when others are up",
        ),
    }
}

/// The versions of this program, of the node that runs, and of the others.
fn versions(local: Option<&NodeAnswer>, answers: &BTreeMap<u64, NodeAnswer>) -> Finding {
    let program = env!("CARGO_PKG_VERSION");
    let all = local.into_iter().chain(answers.values());
    for NodeAnswer { status, .. } in all.clone() {
        let Some(ProtocolStatus { version, next, .. }) = &status.protocol else {
            continue;
        };
        let newest = next.map_or(*version, |NextProtocol { version, .. }| version);
        if newest > PROTOCOL_VERSION {
            let begins = next.map_or(String::new(), |next| {
                format!(" from block {} on", next.from_height)
            });
            return Finding::fault(
                "versions",
                format!(
                    "the chain runs protocol version {newest}{begins}, this program knows up to \
                     {PROTOCOL_VERSION}"
                ),
                "install a newer release on this node",
            );
        }
    }
    let differ: Vec<_> = all
        .filter(|answer| answer.status.version != program)
        .map(|NodeAnswer { status, .. }| format!("node {} runs {}", status.node, status.version))
        .collect();
    match differ.is_empty() {
        true => Finding::good(
            "versions",
            format!("{program} here and wherever a node answers"),
        ),
        false => Finding::warning(
            "versions",
            format!("{program} here, {}", differ.join(", ")),
            "upgrade one node after the other; restart a node that runs an older program",
        ),
    }
}
