//! The load of clients that send many transactions in each request.

use std::sync::Arc;

use lamplighter_contracts::refusal;
use lamplighter_types::{Outcome, SignedTransaction, codec};
use serde::Deserialize;
use tokio::time::Instant;

use crate::error::BenchError;
use crate::http::Connection;
use crate::load::{BUSY_PAUSE, LoadRun, LoadTally, SubmitOutcome, Submitted, open};

/// Transactions of one request.
pub const TRANSACTIONS: usize = 64;
/// A node answers when all are in blocks.
const PATH: &str = "/v1/submissions?wait=committed";
/// Statuses after which the same bytes are sent again.
const BUSY: [u16; 3] = [202, 429, 503];

/// A line of the answer.
#[derive(Deserialize)]
struct Line {
    status: u16,
    #[serde(default)]
    submitted: Option<Submitted>,
}

/// Runs one client until the phase ends. A transaction takes as long as the request that has it.
pub async fn client(
    run: Arc<LoadRun>,
    number: usize,
    node: std::net::SocketAddr,
) -> Result<LoadTally, BenchError> {
    let mut tally = LoadTally::default();
    let mut connection = open(node).await?;
    while Instant::now() < run.ends && run.may_send(TRANSACTIONS) {
        let mut pending = run.fleet.events(number, TRANSACTIONS);
        let begun = Instant::now();
        while !pending.is_empty() && Instant::now() < run.ends {
            pending = submit(&mut connection, &run, &mut tally, begun, pending).await?;
            if !pending.is_empty() {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
        }
    }
    Ok(tally)
}

/// Sends transactions once, and returns those that are to be sent again.
async fn submit(
    connection: &mut Connection,
    run: &LoadRun,
    tally: &mut LoadTally,
    begun: Instant,
    mut pending: Vec<SignedTransaction>,
) -> Result<Vec<SignedTransaction>, BenchError> {
    let node = connection.address;
    let mut body = Vec::new();
    for signed in &pending {
        let bytes = codec::encode(signed);
        body.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        body.extend_from_slice(&bytes);
    }
    let answer = connection.post(PATH, &body).await;
    let answer = answer.map_err(|source| BenchError::Http { node, source })?;
    let invalid_answer = || BenchError::Answer {
        node,
        status: answer.status,
        body: String::from_utf8_lossy(&answer.body).into_owned(),
    };
    if BUSY.contains(&answer.status) {
        return Ok(pending);
    }
    let lines = answer.body.split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    let lines: Result<Vec<Line>, _> = lines.map(serde_json::from_slice).collect();
    let lines = lines.map_err(|_| invalid_answer())?;
    if answer.status != 200 || lines.len() != pending.len() {
        return Err(invalid_answer());
    }
    let mut lines = lines.into_iter();
    let mut keep = || {
        let line = lines.next();
        let Some(line) = line.filter(|line| !BUSY.contains(&line.status)) else {
            return true;
        };
        tally.record(run, begun, outcome(line));
        false
    };
    pending.retain(|_| keep());
    Ok(pending)
}

fn outcome(line: Line) -> SubmitOutcome {
    let receipt = line.submitted.and_then(Submitted::committed);
    match receipt {
        Some(committed) => match &committed.receipt.outcome {
            Outcome::Succeeded => SubmitOutcome::Committed(committed),
            Outcome::Failed { code, fields } => {
                SubmitOutcome::Failed(refusal::message(code, fields))
            }
        },
        None => SubmitOutcome::Failed(format!("a transaction was answered {}", line.status)),
    }
}
