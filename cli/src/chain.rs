//! `status`, `transaction`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use lamplighter_client::TransactionRecord;
use lamplighter_types::wire::{ProtocolStatus, TransactionName};
use lamplighter_types::{Action, Hash, Outcome, SignedTransaction, codec};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output::{emit, emit_members, joined, or_dash, print, print_line};
use crate::session::{Session, asking};
use crate::{describe, sent, time};

/// The status of a node, as far as people need it.
#[derive(Deserialize)]
struct Status {
    chain_id: Hash,
    name: String,
    version: String,
    protocol: Option<ProtocolStatus>,
    node: u64,
    height: u64,
    head_time_ms: u64,
    certified_height: u64,
    leader: Option<u64>,
    pending: u64,
    connected: Vec<u64>,
    alarms: Vec<NodeAlarm>,
    halted: Option<String>,
    progress: Progress,
}

#[derive(Deserialize)]
struct NodeAlarm {
    time_ms: u64,
    message: String,
}

#[derive(Deserialize)]
struct Progress {
    phase: String,
    bytes: Option<u64>,
    bytes_total: Option<u64>,
    blocks_behind: Option<u64>,
    seconds_left: Option<u64>,
}

impl Progress {
    fn words(&self) -> String {
        let of = |total: u64| format!(" of {total}");
        let left = self.seconds_left.map(|s| format!(", {s} s left"));
        let left = left.unwrap_or_default();
        let bytes = self.bytes.unwrap_or(0);
        match self.phase.as_str() {
            "connecting" => "connecting: no leader is known".to_owned(),
            "comparing" => "asking what the others have".to_owned(),
            "receiving" => {
                let total = self.bytes_total.map(of).unwrap_or_default();
                format!("receiving an image of the chain: {bytes}{total} bytes{left}")
            }
            "installing" => format!("installing an image of the chain: {bytes} bytes{left}"),
            "catching_up" => {
                let behind = self.blocks_behind.unwrap_or(0);
                format!("catching up: {behind} blocks behind{left}")
            }
            "following" => "has what the others have".to_owned(),
            other => other.to_owned(),
        }
    }
}

/// The protocol versions of the chain and of the node.
fn protocol(status: &ProtocolStatus) -> String {
    let ProtocolStatus {
        version,
        next,
        known,
    } = status;
    let next = next.map_or(String::new(), |next| {
        format!(", {} from block {} on", next.version, next.from_height)
    });
    format!("version {version}{next}; this node knows versions up to {known}")
}

/// Prints the state of the nodes.
pub async fn status(session: &Session) -> Result<ExitCode, Failure> {
    let read = session.client.get::<Value>("/v1/status").await;
    let value = read.map_err(asking)?.value;
    if session.output.json {
        print(&value);
        return Ok(ExitCode::SUCCESS);
    }
    let mut status: Status =
        serde_json::from_value(value).map_err(Failure::during("the status"))?;
    status.connected.sort_unstable();
    let made = time::local(status.head_time_ms);
    let (name, version) = (&status.name, &status.version);
    let mut members = vec![
        (
            "node",
            format!("{} of {name}, version {version}", status.node),
        ),
        ("chain", status.chain_id.to_string()),
        ("protocol", or_dash(status.protocol.as_ref().map(protocol))),
        ("block", format!("{}, made {made}", status.height)),
        (
            "certified",
            format!("up to block {}", status.certified_height),
        ),
        (
            "leader",
            or_dash(status.leader.map(|leader| format!("node {leader}"))),
        ),
        ("connected", joined(&status.connected)),
        ("waiting", format!("{} transactions", status.pending)),
        ("progress", status.progress.words()),
        ("halted", or_dash(status.halted)),
    ];
    let alarm = |alarm: &NodeAlarm| format!("{} {}", time::local(alarm.time_ms), alarm.message);
    match &status.alarms[..] {
        [] => members.push(("alarms", "none".to_owned())),
        alarms => members.extend(alarms.iter().map(|one| ("alarm", alarm(one)))),
    }
    emit_members(&members);
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, Subcommand)]
pub enum TransactionCommand {
    /// A transaction with its sender, its time and its receipt.
    Show {
        /// The transaction's hash, or its place as tables show it: block.number.
        transaction: TransactionName,
    },
    /// Submits a signed transaction from a file: the JSON of `POST /v1/transactions`.
    Send { file: PathBuf },
    /// Signs an action from a file (JSON) and prints the signed transaction.
    Sign { file: PathBuf },
    /// The transactions that this user's commands sent without learning the outcome, and what
    /// became of them.
    Pending,
    /// Sends the same bytes of such transactions again; each happens once.
    Resume {
        /// The transaction's hash; all that have not expired without it.
        transaction: Option<Hash>,
    },
}

pub async fn transaction(
    session: &Session,
    command: TransactionCommand,
) -> Result<ExitCode, Failure> {
    match command {
        TransactionCommand::Show { transaction } => show(session, transaction).await?,
        TransactionCommand::Send { file } => {
            let signed: SignedTransaction = read_json(&file)?;
            session.output.submitted(&session.send(&signed).await?);
        }
        TransactionCommand::Pending => sent::pending(session).await?,
        TransactionCommand::Resume { transaction } => sent::resume(session, transaction).await?,
        TransactionCommand::Sign { file } => {
            session.account()?;
            let action: Action = read_json(&file)?;
            let signed = session.client.sign(action).await.map_err(asking)?;
            print_line(&json!(signed));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a transaction. A failed one makes the command fail, as when it is sent.
async fn show(session: &Session, name: TransactionName) -> Result<(), Failure> {
    let found = session.client.transaction(name).await.map_err(asking)?;
    if session.output.json {
        print(&json!(found));
    } else {
        let TransactionRecord {
            height,
            index,
            certified,
            ..
        } = &found;
        let certified = if *certified { ", certified" } else { "" };
        emit_members(&[
            ("transaction", found.decoded.transaction.to_string()),
            (
                "place",
                format!("block {height}, number {index}{certified}"),
            ),
            ("time", time::local(found.time_ms)),
            ("author", found.decoded.sender.to_string()),
            ("key", found.decoded.key.to_string()),
            ("sequence", found.decoded.sequence.to_string()),
            ("could happen until", time::local(found.decoded.expires_ms)),
            ("asks to", describe::action(&found.decoded.action)),
        ]);
        for line in describe::receipt(&found.receipt) {
            emit(&format!("  {line}"));
        }
    }
    match found.receipt.outcome {
        Outcome::Succeeded => Ok(()),
        Outcome::Failed { code, fields } => {
            Err(Failure::refused(describe::refusal(&code, &fields, None)))
        }
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let operation = || format!("reading {}", path.display());
    let text = lamplighter_system::files::read_text(path).map_err(Failure::during(operation()))?;
    codec::decode_json(text.as_bytes()).map_err(Failure::during(operation()))
}
