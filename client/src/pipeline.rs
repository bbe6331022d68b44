//! Many transactions on their way at once. They are sent in a few requests with many transactions
//! each, so that a transaction costs client and node a fraction of a request.
//!
//! What a lost connection or a busy node leaves open is sent again as the same bytes, to the next
//! node: each transaction happens once. What a node refuses is sent to the next one likewise.
//! Otherwise the rules are those of a single submission: the refusal of one node is not believed,
//! and a transaction that may have arrived and has no answer, or that one node alone refuses, is
//! reported as [`Pending`](crate::Pending).

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use lamplighter_types::codec;
use lamplighter_types::limits::REPLAY_WINDOW;
use lamplighter_types::wire::{Problem, Submitted};
use lamplighter_types::{Hash, SignedTransaction};
use reqwest::{Method, Response};
use serde::Deserialize;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::Client;
use crate::calls::{ANSWER_BYTES_MAX, Call, RoundBackoff};
use crate::error::ClientError;
use crate::lines::LineBuffer;
use crate::receivers::Receivers;
use crate::standing::Fault;

/// Transactions of one request; a node takes 1,024.
const TRANSACTIONS_MAX: usize = 256;
/// Bytes of one request, except for a single larger transaction; a node takes 8 MiB.
const REQUEST_BYTES_MAX: usize = 2 << 20;
/// Requests at once: while one is answered the next ones are on their way.
const REQUESTS_AT_ONCE: usize = 4;
/// The time for which a node waits for the blocks of one request: longer than an election takes.
const NODE_WAIT: Duration = Duration::from_secs(5);
/// Submissions after one without an outcome: fewer than the [`REPLAY_WINDOW`], below which a number
/// of the key is too old, so that callers at once may be a few out of order.
const SUBMISSIONS_BACK_MAX: usize = REPLAY_WINDOW as usize - 24;
/// The part of a call that is left for the way of the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Submits signed transactions as they come, each until it is in a block. At most so many as its
/// window are on their way.
#[derive(Debug)]
pub struct Pipeline {
    client: Client,
    window: Arc<Semaphore>,
    /// The last [`SUBMISSIONS_BACK_MAX`] transactions, until each is decided.
    recent: Mutex<VecDeque<oneshot::Receiver<()>>>,
    queue: mpsc::Sender<OpenTransaction>,
}

/// The outcome to come of a transaction in a [`Pipeline`].
#[derive(Debug)]
pub struct PipelinedTransaction {
    pub hash: Hash,
    signed: Arc<SignedTransaction>,
    client: Client,
    begun: Instant,
    outcome: oneshot::Receiver<Result<Submitted, ClientError>>,
}

/// A transaction without an outcome, what nodes reported about it, and its place in the window.
#[derive(Debug)]
struct OpenTransaction {
    signed: Arc<SignedTransaction>,
    hash: Hash,
    body: Bytes,
    receivers: Receivers,
    last: Option<Arc<ClientError>>,
    outcome: oneshot::Sender<Result<Submitted, ClientError>>,
    _place: OwnedSemaphorePermit,
    _decided: oneshot::Sender<()>,
}

/// A node's line about one transaction.
#[derive(Deserialize)]
struct Line {
    status: u16,
    #[serde(default)]
    submitted: Option<Submitted>,
    #[serde(default)]
    problem: Option<serde_json::Value>,
}

/// The report of one node about one transaction.
enum LineReport {
    Done(Box<Submitted>),
    Accepted,
    /// The node is busy, or its answer broke off.
    Failed(Arc<ClientError>),
    Refused(ClientError),
}

impl Pipeline {
    /// A pipeline whose requests end when it is dropped and all is decided. A window beyond 1,000
    /// has no use: newer transactions of a key would push the older ones out of the numbers that
    /// the ledger takes of it. For the same reason a transaction that takes long stops the
    /// thousandth one after it.
    pub fn start(client: &Client, window: usize) -> Self {
        let window = window.clamp(1, SUBMISSIONS_BACK_MAX);
        let (queue, queued) = mpsc::channel(window);
        tokio::spawn(send_requests(client.clone(), queued));
        Self {
            client: client.clone(),
            window: Arc::new(Semaphore::new(window)),
            recent: Mutex::default(),
            queue,
        }
    }

    /// Submits a signed transaction as soon as the window has a place. Those of one key come in the
    /// order of their sequence numbers, or nearly so.
    ///
    /// # Errors
    /// The ledger's chain id is not known and can't be asked for.
    pub async fn submit(
        &self,
        signed: SignedTransaction,
    ) -> Result<PipelinedTransaction, ClientError> {
        let hash = signed.hash(&self.client.chain_id().await?);
        let body = codec::encode(&signed).into();
        // Waiting submissions keep their order.
        let mut recent = self.recent.lock().await;
        while recent.len() >= SUBMISSIONS_BACK_MAX
            && let Some(oldest) = recent.front_mut()
        {
            oldest.await.ok();
            recent.pop_front();
        }
        let place = self.window.clone().acquire_owned().await;
        let ((sender, outcome), (decided, is_decided)) = (oneshot::channel(), oneshot::channel());
        let signed = Arc::new(signed);
        let open = OpenTransaction {
            signed: signed.clone(),
            hash,
            body,
            receivers: Receivers::default(),
            last: None,
            outcome: sender,
            _place: place.expect("this semaphore is never closed"),
            _decided: decided,
        };
        recent.push_back(is_decided);
        // The task that receives ends after this sender.
        self.queue.send(open).await.ok();
        Ok(PipelinedTransaction {
            hash,
            signed,
            client: self.client.clone(),
            begun: Instant::now(),
            outcome,
        })
    }
}

impl PipelinedTransaction {
    /// Waits for the outcome: the place in a block and the receipt, which may be one of a failure.
    ///
    /// # Errors
    /// As [`Client::submit_signed`].
    pub async fn outcome(self) -> Result<Submitted, ClientError> {
        self.outcome.await.unwrap_or_else(|_| {
            // The sending task has ended with its runtime: any node may have the transaction.
            let (sent, waited) = ((self.hash, &*self.signed), self.begun.elapsed());
            Err(Receivers::default().pending(&self.client, sent, waited, None))
        })
    }
}

impl OpenTransaction {
    /// Takes up the report of a node. Returns the transaction if it is open after it.
    fn take_up(mut self, index: usize, report: LineReport) -> Option<Self> {
        match report {
            LineReport::Done(submitted) => {
                self.outcome.send(Ok(*submitted)).ok();
                return None;
            }
            LineReport::Accepted => self.receivers.accepted(index),
            LineReport::Failed(error) => {
                self.receivers.failed(index, &error);
                self.last = Some(error);
            }
            LineReport::Refused(error) => self.receivers.refused(index, error),
        }
        Some(self)
    }

    /// Gives the transaction up if enough nodes refused it and no other may have it. Returns it
    /// otherwise.
    fn end_if_refused(mut self, client: &Client) -> Option<Self> {
        let Some(refusal) = self.receivers.refusal(client) else {
            return Some(self);
        };
        self.outcome.send(Err(refusal)).ok();
        None
    }

    /// Gives the transaction up at the deadline.
    fn end(self, client: &Client, begun: Instant) {
        let (sent, waited) = ((self.hash, &*self.signed), begun.elapsed());
        let error = self.receivers.at_deadline(client, sent, waited, self.last);
        self.outcome.send(Err(error)).ok();
    }
}

/// Sends what waits in requests, a few at once.
async fn send_requests(client: Client, mut queued: mpsc::Receiver<OpenTransaction>) {
    let requests = Arc::new(Semaphore::new(REQUESTS_AT_ONCE));
    let mut next = None;
    loop {
        let turn = requests.clone().acquire_owned().await;
        let first = match next.take() {
            Some(first) => Some(first),
            None => queued.recv().await,
        };
        let Some(first) = first else {
            return;
        };
        let mut bytes = first.body.len();
        let mut open = vec![first];
        while open.len() < TRANSACTIONS_MAX
            && let Ok(further) = queued.try_recv()
        {
            bytes += further.body.len();
            if bytes > REQUEST_BYTES_MAX {
                next = Some(further);
                break;
            }
            open.push(further);
        }
        let client = client.clone();
        tokio::spawn(async move {
            submit_all(&client, open).await;
            drop(turn);
        });
    }
}

/// Submits transactions to one node after the other until all are decided, or the deadline.
async fn submit_all(client: &Client, mut open: Vec<OpenTransaction>) {
    let begun = Instant::now();
    let until = begun + client.inner.config.deadline;
    let mut backoff = RoundBackoff::new();
    loop {
        for index in client.inner.nodes.in_turn() {
            if open.is_empty() || Instant::now() >= until {
                break;
            }
            let still_open = send_once(client, index, open, until).await.into_iter();
            open = still_open
                .filter_map(|transaction| transaction.end_if_refused(client))
                .collect();
        }
        let pause = backoff.next_pause(Duration::ZERO);
        if open.is_empty() || Instant::now() + pause >= until {
            break;
        }
        tokio::time::sleep(pause).await;
    }
    for transaction in open {
        transaction.end(client, begun);
    }
}

/// Sends transactions to one node, and returns those that are open after it. A node that leaves any
/// open is called last for a while, and one that refused what this node shows in a block.
async fn send_once(
    client: &Client,
    index: usize,
    open: Vec<OpenTransaction>,
    until: Instant,
) -> Vec<OpenTransaction> {
    let mut answer = begin_answer(client, index, &open, until).await;
    let mut still_open = Vec::new();
    let (mut is_any_done, mut is_any_left, mut refuted) = (false, false, BTreeSet::new());
    for transaction in open {
        let report = match &mut answer {
            Ok(lines) => lines.next(&transaction.hash).await,
            Err(error) => Ok(LineReport::Failed(error.clone())),
        };
        // Nothing more comes of an answer that broke off.
        let report = report.unwrap_or_else(|error| {
            let error = Arc::new(error);
            answer = Err(error.clone());
            LineReport::Failed(error)
        });
        match &report {
            LineReport::Done(_) => {
                is_any_done = true;
                refuted.extend(transaction.receivers.refused_by());
            }
            LineReport::Accepted | LineReport::Failed(_) => is_any_left = true,
            LineReport::Refused(_) => {}
        }
        still_open.extend(transaction.take_up(index, report));
    }
    let standings = &client.inner.nodes.standings;
    if let Err(error) = answer {
        tracing::debug!(%error, "a node left transactions open");
        standings.failed(index, error.fault().unwrap_or(Fault::Unserved));
    } else if is_any_left {
        standings.failed(index, Fault::Unserved);
    } else if is_any_done {
        standings.served(index);
    }
    for liar in refuted {
        standings.failed(liar, Fault::Unserved);
    }
    still_open
}

/// Sends transactions to one node, and returns the lines of its answer as it begins.
async fn begin_answer(
    client: &Client,
    index: usize,
    open: &[OpenTransaction],
    until: Instant,
) -> Result<AnswerLines, Arc<ClientError>> {
    let left = until.saturating_duration_since(Instant::now());
    let wait = NODE_WAIT.min(left - ANSWER_TIMEOUT.min(left / 4));
    let path = format!(
        "/v1/submissions?wait=committed&timeout_ms={}",
        wait.as_millis()
    );
    let call = Call::new(Method::POST, path).bytes(body_of(open));
    let begin_until = (Instant::now() + client.silence_max() + call.upload_time()).min(until);
    let response = client.open_stream(index, &call, begin_until, Some(until));
    Ok(AnswerLines {
        node: client.inner.nodes.list[index].url.clone(),
        response: response.await?,
        buffer: LineBuffer::default(),
        silence_max: wait + ANSWER_TIMEOUT,
    })
}

/// The body of a request: each transaction after its length (4 bytes, little-endian).
fn body_of(transactions: &[OpenTransaction]) -> Bytes {
    let mut body = BytesMut::new();
    for transaction in transactions {
        body.put_u32_le(transaction.body.len() as u32);
        body.extend_from_slice(&transaction.body);
    }
    body.freeze()
}

/// The lines of an answer as they come.
struct AnswerLines {
    node: String,
    response: Response,
    buffer: LineBuffer,
    silence_max: Duration,
}

impl AnswerLines {
    /// The report about the next transaction, which has this hash.
    async fn next(&mut self, hash: &Hash) -> Result<LineReport, ClientError> {
        let line = self.next_line().await?;
        let line: Line = codec::decode_json(&line).map_err(|source| ClientError::Answer {
            node: self.node.clone(),
            source,
        })?;
        let Some(submitted) = line.submitted else {
            let problem = line.problem.unwrap_or_default().to_string();
            let problem = Problem::from_answer(line.status, problem.as_bytes());
            let error = ClientError::Problem {
                node: self.node.clone(),
                problem: Box::new(problem),
            };
            return Ok(match error.is_transient() {
                true => LineReport::Failed(Arc::new(error)),
                false => LineReport::Refused(error),
            });
        };
        let receipt = submitted.receipt.as_ref().map(|r| r.transaction);
        let named = [Some(submitted.transaction), receipt];
        if let Some(got) = named.into_iter().flatten().find(|got| got != hash) {
            return Err(ClientError::WrongTransaction {
                expected: *hash,
                got,
            });
        }
        Ok(match receipt {
            Some(_) => LineReport::Done(Box::new(submitted)),
            None => LineReport::Accepted,
        })
    }

    async fn next_line(&mut self) -> Result<Bytes, ClientError> {
        loop {
            if let Some(line) = self.buffer.take_line() {
                return Ok(line);
            }
            let node = || self.node.clone();
            if self.buffer.len() > ANSWER_BYTES_MAX {
                let (node, limit) = (node(), ANSWER_BYTES_MAX);
                return Err(ClientError::TooLong { node, limit });
            }
            let chunk = timeout(self.silence_max, self.response.chunk()).await;
            let chunk = chunk.map_err(|_| ClientError::Silent {
                node: node(),
                waited: self.silence_max,
            })?;
            let chunk = chunk.map_err(|source| ClientError::Transport {
                node: node(),
                source,
            })?;
            let Some(chunk) = chunk else {
                return Err(ClientError::Missing {
                    node: node(),
                    what: "the rest of the answer",
                });
            };
            self.buffer.push(&chunk);
        }
    }
}
