//! A submission: the same signed bytes to one node after the other, until one reports the outcome.
//! While a node takes long, the next one gets them too.
//!
//! The report of a single node is not enough to give a transaction up. A node that accepted it may
//! claim that it did not, and a client that believes that signs again and performs the action
//! twice. So a refusal counts when a second node refuses too, and a transaction that was sent
//! without an answer, or that one node alone refuses, is reported as [`Pending`].
//!
//! If a certificate is waited for and the genesis file is there, a receipt counts only when it is
//! proven, or, where the transaction has ended the client's own right to read, when two nodes
//! report the same. The node that reports it proves it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lamplighter_types::wire::{Submitted, Wait, problem};
use lamplighter_types::{Hash, SignedTransaction, codec};
use reqwest::Method;
use tokio::time::Instant;

use crate::Client;
use crate::calls::{AttemptTimeouts, Call, RoundBackoff};
use crate::error::ClientError;
use crate::hedge::Hedge;
use crate::receivers::Receivers;
use crate::standing::Fault;

/// Longest call to one node in the first round. One that is cut off says only at the end that it
/// accepted the transaction, and the next node does better at once.
const FIRST_CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest call to one node in later rounds: longer than an election takes.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The part of a call that is left for the way of the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// A signed transaction as it is sent to nodes.
struct SignedCall<'a> {
    client: &'a Client,
    hash: Hash,
    body: Bytes,
    wait: Wait,
    /// End of the submission.
    until: Instant,
}

/// A signed transaction, and the reports of nodes about it so far.
pub(crate) struct Submission<'a> {
    client: &'a Client,
    signed: &'a SignedTransaction,
    hash: Hash,
    wait: Wait,
    receivers: Receivers,
    /// Reports of receipts whose proof this client may not read.
    claims: Vec<Submitted>,
    started: Instant,
}

/// The report of one node.
enum NodeReport {
    Done(Submitted),
    /// A receipt that the node did not prove.
    Claimed(Submitted, ClientError),
    /// The node accepted it; it is in no block yet.
    Accepted,
    /// The transaction can't be in any block, or the bytes are no transaction.
    Refused(ClientError),
    /// The outcome is unknown. With the pause that the node asked for.
    Failed(ClientError, Duration),
}

/// The reports of one round over all nodes.
#[derive(Default)]
struct Round {
    last_error: Option<ClientError>,
    retry_after: Duration,
}

impl SignedCall<'_> {
    /// Sends the transaction to one node, whose answer may take so long.
    async fn report_of(&self, index: usize, within: Duration) -> (usize, NodeReport) {
        let begun = Instant::now();
        let report = self.call(index, begun + within).await;
        if matches!(report, NodeReport::Done(_)) {
            self.client
                .inner
                .nodes
                .submission_time
                .took(begun.elapsed());
        }
        (index, report)
    }

    async fn call(&self, index: usize, until: Instant) -> NodeReport {
        let timeout = until.saturating_duration_since(Instant::now());
        let timeout_ms = (timeout - ANSWER_TIMEOUT.min(timeout / 4)).as_millis();
        let wait = self.wait;
        let path = format!("/v1/transactions?wait={wait}&timeout_ms={timeout_ms}");
        let call = Call::new(Method::POST, path).bytes(self.body.clone());
        let timeouts = AttemptTimeouts::until(until + call.upload_time());
        let answer = self.client.attempt(index, &call, timeouts);
        let submitted = match answer.await {
            Ok(answer) => answer.json().and_then(|submitted| self.checked(submitted)),
            Err((error, retry_after)) if error.is_transient() => {
                return NodeReport::Failed(error, retry_after);
            }
            Err((error, _)) => Err(error),
        };
        match submitted {
            Ok(done) if wait == Wait::None => NodeReport::Done(done),
            Ok(done) if done.receipt.is_some() => match self.proven(index, done.clone()).await {
                Ok(done) => NodeReport::Done(done),
                Err(error) => NodeReport::Claimed(done, error),
            },
            Ok(_) => NodeReport::Accepted,
            Err(error) if error.problem().is_some() => NodeReport::Refused(error),
            Err(error) => NodeReport::Failed(error, Duration::ZERO),
        }
    }

    /// Replaces the receipt that a node reports by the one that it proves. Without the genesis
    /// file, and without a certificate, the node is believed.
    async fn proven(&self, index: usize, submitted: Submitted) -> Result<Submitted, ClientError> {
        if self.wait != Wait::Certified || self.client.trust_anchor().is_err() {
            return Ok(submitted);
        }
        let proven = self.client.proven_receipt_at(index, &self.hash, self.until);
        let (receipt, proven) = Box::pin(proven).await?;
        let is_same = submitted.receipt.as_ref() == Some(&receipt);
        Ok(Submitted {
            height: Some(proven.height),
            certified: true,
            message: submitted.message.filter(|_| is_same),
            receipt: Some(receipt),
            ..submitted
        })
    }

    /// Checks that an answer is about this transaction.
    fn checked(&self, submitted: Submitted) -> Result<Submitted, ClientError> {
        let receipt = submitted
            .receipt
            .as_ref()
            .map(|receipt| receipt.transaction);
        let hashes = [Some(submitted.transaction), receipt];
        match hashes.into_iter().flatten().find(|got| *got != self.hash) {
            Some(got) => Err(ClientError::WrongTransaction {
                expected: self.hash,
                got,
            }),
            None => Ok(submitted),
        }
    }
}

impl<'a> Submission<'a> {
    pub fn new(client: &'a Client, signed: &'a SignedTransaction, hash: Hash, wait: Wait) -> Self {
        Self {
            client,
            signed,
            hash,
            wait,
            receivers: Receivers::default(),
            claims: Vec::new(),
            started: Instant::now(),
        }
    }

    /// Sends the transaction until its outcome is known.
    pub async fn run(mut self) -> Result<Submitted, ClientError> {
        let nodes = &self.client.inner.nodes;
        let until = self.started + self.client.inner.config.deadline;
        let call = SignedCall {
            client: self.client,
            hash: self.hash,
            body: codec::encode(self.signed).into(),
            wait: self.wait,
            until,
        };
        let (mut timeout, mut backoff) = (FIRST_CALL_TIMEOUT, RoundBackoff::new());
        loop {
            let mut round = Round::default();
            let left = || until.saturating_duration_since(Instant::now());
            let attempt = |index| call.report_of(index, left().min(timeout));
            let after = nodes.submission_time.hedge_after();
            let mut hedge = Hedge::new(nodes.in_turn().collect(), after);
            while let Some((index, report)) = hedge.next(attempt).await {
                if let Some(submitted) = self.take_up(index, report, &mut round) {
                    return Ok(submitted);
                }
                if hedge.awaited().is_empty()
                    && let Some(refusal) = self.receivers.refusal(self.client)
                {
                    return Err(refusal);
                }
                if Instant::now() >= until {
                    break;
                }
            }
            // Whoever was not waited for may have it.
            for index in hedge.awaited() {
                self.receivers.unheard(*index);
            }
            let pause = backoff.next_pause(round.retry_after);
            if Instant::now() + pause >= until {
                return Err(self.deadline_error(round.last_error));
            }
            tokio::time::sleep(pause).await;
            timeout = CALL_TIMEOUT;
        }
    }

    /// Takes up the report of a node. Returns the outcome if the node reports it.
    fn take_up(
        &mut self,
        index: usize,
        report: NodeReport,
        round: &mut Round,
    ) -> Option<Submitted> {
        let standings = &self.client.inner.nodes.standings;
        match report {
            NodeReport::Done(submitted) => {
                standings.served(index);
                return Some(submitted);
            }
            NodeReport::Claimed(done, error) => {
                if is_barred(&error) && self.is_confirmed(&done) {
                    standings.served(index);
                    return Some(done);
                }
                self.claims.push(done);
                self.node_failed(index, error, Duration::ZERO, round);
            }
            NodeReport::Accepted => {
                self.receivers.accepted(index);
                // It may be cut off: what it accepts gets into no block.
                standings.failed(index, Fault::Unserved);
            }
            NodeReport::Refused(error) => self.receivers.refused(index, error),
            NodeReport::Failed(error, retry_after) => {
                self.node_failed(index, error, retry_after, round);
            }
        }
        None
    }

    fn node_failed(
        &mut self,
        index: usize,
        error: ClientError,
        retry_after: Duration,
        round: &mut Round,
    ) {
        tracing::debug!(%error, "a node did not report the outcome of a transaction");
        if is_uncertified(&error) {
            self.receivers.accepted(index);
        } else {
            self.receivers.failed(index, &error);
        }
        round.retry_after = round.retry_after.max(retry_after);
        let fault = error.fault().unwrap_or(Fault::Unserved);
        self.client.inner.nodes.standings.failed(index, fault);
        round.last_error = Some(error);
    }

    /// True if another node reported the same receipt, or there is no other node.
    fn is_confirmed(&self, done: &Submitted) -> bool {
        let is_same =
            |claim: &Submitted| (claim.height, &claim.receipt) == (done.height, &done.receipt);
        self.client.inner.nodes.list.len() == 1 || self.claims.iter().any(is_same)
    }

    fn deadline_error(self, last: Option<ClientError>) -> ClientError {
        let (sent, waited) = ((self.hash, self.signed), self.started.elapsed());
        let last = last.map(Arc::new);
        self.receivers.at_deadline(self.client, sent, waited, last)
    }
}

/// True if the client may read nothing: its transaction has replaced or revoked its own key.
fn is_barred(error: &ClientError) -> bool {
    let problem = error.problem();
    problem.is_some_and(|problem| matches!(problem.status, 401 | 403))
}

/// True for a transaction in a block that was not certified in time.
fn is_uncertified(error: &ClientError) -> bool {
    error
        .problem()
        .is_some_and(|p| p.code == problem::code::DEADLINE)
}
