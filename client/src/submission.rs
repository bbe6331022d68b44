//! A submission: the same signed bytes to one node after the other, until one reports the outcome.
//!
//! The report of a single node is not enough to give a transaction up. A node that accepted it may
//! claim that it did not, and a client that believes that signs again and performs the action
//! twice. So a refusal counts when a second node refuses too, and a transaction that was sent
//! without an answer is reported as [`Pending`]. If a certificate is waited for and the genesis
//! file is there, a receipt counts only when it is proven, or, where the transaction has ended the
//! client's own right to read, when two nodes report the same.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use lamplighter_types::wire::{Submitted, Wait, problem};
use lamplighter_types::{Hash, SignedTransaction, codec};
use reqwest::Method;
use tokio::time::Instant;

use crate::calls::{AttemptTimeouts, Call, RoundBackoff};
use crate::error::{ClientError, Pending};
use crate::standing::Fault;
use crate::{Client, submit};

/// Longest call to one node before the next one is called: longer than an election takes.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The part of [`CALL_TIMEOUT`] that is left for the way of the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Refusals that end a submission.
const REFUSALS_MIN: usize = 2;

/// A signed transaction, and the reports of nodes about it so far.
pub(crate) struct Submission<'a> {
    client: &'a Client,
    signed: &'a SignedTransaction,
    hash: Hash,
    body: Bytes,
    wait: Wait,
    /// Nodes that reported that they accepted it.
    accepted_by: BTreeSet<usize>,
    /// Nodes that may have received it.
    sent_to: BTreeSet<usize>,
    /// Reports of receipts whose proof this client may not read.
    claims: Vec<Submitted>,
    started: Instant,
}

/// The report of one node.
enum NodeReport {
    Done(Submitted),
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
    refusals: usize,
    first_refusal: Option<ClientError>,
    last_error: Option<ClientError>,
    retry_after: Duration,
}

impl<'a> Submission<'a> {
    pub fn new(client: &'a Client, signed: &'a SignedTransaction, hash: Hash, wait: Wait) -> Self {
        Self {
            client,
            signed,
            hash,
            body: codec::encode(signed).into(),
            wait,
            accepted_by: BTreeSet::new(),
            sent_to: BTreeSet::new(),
            claims: Vec::new(),
            started: Instant::now(),
        }
    }

    /// Sends the transaction until its outcome is known.
    pub async fn run(mut self) -> Result<Submitted, ClientError> {
        let until = self.started + self.client.inner.config.deadline;
        let mut backoff = RoundBackoff::new();
        loop {
            let mut round = Round::default();
            for index in self.client.inner.nodes.in_turn() {
                if let Some(submitted) = self.send_to(index, until, &mut round).await {
                    return Ok(submitted);
                }
                let is_refused = round.refusals >= REFUSALS_MIN && !self.may_be_pending();
                if is_refused || Instant::now() >= until {
                    break;
                }
            }
            if !self.may_be_pending()
                && let Some(refusal) = round.first_refusal
            {
                return Err(self.refusal_error(refusal, round.refusals));
            }
            let pause = backoff.next_pause(round.retry_after);
            if Instant::now() + pause >= until {
                return Err(self.deadline_error(round.first_refusal.or(round.last_error)));
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends the transaction to one node. Returns the outcome if the node reports it.
    async fn send_to(
        &mut self,
        index: usize,
        until: Instant,
        round: &mut Round,
    ) -> Option<Submitted> {
        let standings = &self.client.inner.nodes.standings;
        match self.call_node(index, until).await {
            NodeReport::Done(submitted) => {
                standings.served(index);
                return Some(submitted);
            }
            NodeReport::Accepted => {
                self.sent_to.remove(&index);
                self.accepted_by.insert(index);
            }
            NodeReport::Refused(error) => {
                // The last report of a node counts.
                self.accepted_by.remove(&index);
                self.sent_to.remove(&index);
                round.refusals += 1;
                round.first_refusal.get_or_insert(error);
                return None;
            }
            NodeReport::Failed(error, retry_after) => {
                tracing::debug!(%error, "a node did not report the outcome of a transaction");
                if is_uncertified(&error) {
                    self.accepted_by.insert(index);
                } else if may_have_received(&error) && !self.accepted_by.contains(&index) {
                    self.sent_to.insert(index);
                }
                round.retry_after = round.retry_after.max(retry_after);
                let fault = error.fault().unwrap_or(Fault::Unserved);
                standings.failed(index, fault);
                round.last_error = Some(error);
                return None;
            }
        }
        // It may be cut off: what it accepts gets into no block.
        standings.failed(index, Fault::Unserved);
        None
    }

    async fn call_node(&mut self, index: usize, until: Instant) -> NodeReport {
        let timeout = until
            .saturating_duration_since(Instant::now())
            .min(CALL_TIMEOUT);
        let timeout_ms = (timeout - ANSWER_TIMEOUT.min(timeout / 4)).as_millis();
        let wait = self.wait;
        let path = format!("/v1/transactions?wait={wait}&timeout_ms={timeout_ms}");
        let call = Call::new(Method::POST, path).bytes(self.body.clone());
        let timeouts = AttemptTimeouts::until(Instant::now() + timeout);
        let answer = self.client.attempt(index, &call, timeouts);
        let submitted = match answer.await {
            Ok(answer) => answer.json().and_then(|submitted| self.checked(submitted)),
            Err((error, retry_after)) if error.is_transient() => {
                return NodeReport::Failed(error, retry_after);
            }
            Err((error, _)) => Err(error),
        };
        match submitted {
            Ok(done) if self.wait == Wait::None => NodeReport::Done(done),
            Ok(done) if done.receipt.is_some() => match self.proven(done.clone()).await {
                Ok(done) => NodeReport::Done(done),
                Err(error) if is_barred(&error) && self.is_confirmed(&done) => {
                    NodeReport::Done(done)
                }
                Err(error) => {
                    self.claims.push(done);
                    NodeReport::Failed(error, Duration::ZERO)
                }
            },
            Ok(_) => NodeReport::Accepted,
            Err(error) if error.problem().is_some() => NodeReport::Refused(error),
            Err(error) => NodeReport::Failed(error, Duration::ZERO),
        }
    }

    /// Replaces the receipt that a node reports by the proven one. Without the genesis file, and
    /// without a certificate, the node is believed.
    async fn proven(&self, submitted: Submitted) -> Result<Submitted, ClientError> {
        if self.wait != Wait::Certified || self.client.trust_anchor().is_err() {
            return Ok(submitted);
        }
        let (receipt, proven) = Box::pin(self.client.proven_receipt(&self.hash)).await?;
        let is_same = submitted.receipt.as_ref() == Some(&receipt);
        Ok(Submitted {
            height: Some(proven.height),
            certified: true,
            message: submitted.message.filter(|_| is_same),
            receipt: Some(receipt),
            ..submitted
        })
    }

    /// True if a node accepted the transaction or may have received it.
    fn may_be_pending(&self) -> bool {
        !self.accepted_by.is_empty() || !self.sent_to.is_empty()
    }

    /// True if another node reported the same receipt, or there is no other node.
    fn is_confirmed(&self, done: &Submitted) -> bool {
        let is_same =
            |claim: &Submitted| (claim.height, &claim.receipt) == (done.height, &done.receipt);
        self.client.inner.nodes.list.len() == 1 || self.claims.iter().any(is_same)
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

    /// All nodes that answered refused the transaction. A node that hides a transaction that it
    /// accepted also reports that the sequence number is used, so a second node must confirm that.
    fn refusal_error(self, refusal: ClientError, refusals: usize) -> ClientError {
        let are_several = self.client.inner.nodes.list.len() > 1;
        if are_several && submit::is_about_sequence(&refusal) && refusals < REFUSALS_MIN {
            self.pending(Some(refusal))
        } else {
            refusal
        }
    }

    fn deadline_error(self, last: Option<ClientError>) -> ClientError {
        if self.may_be_pending() {
            return self.pending(last);
        }
        ClientError::Deadline {
            waited: self.started.elapsed(),
            last: Box::new(last.unwrap_or(ClientError::NoAddress)),
        }
    }

    fn pending(self, last: Option<ClientError>) -> ClientError {
        let nodes = &self.client.inner.nodes.list;
        let urls = |indices: &BTreeSet<usize>| {
            let urls = indices.iter().map(|index| nodes[*index].url.clone());
            urls.collect::<Vec<_>>()
        };
        let sent_to = if self.may_be_pending() {
            urls(&self.sent_to)
        } else {
            nodes.iter().map(|node| node.url.clone()).collect()
        };
        // No node accepts bytes that do not decode.
        let expires_ms = self.signed.decode_payload().map_or(0, |t| t.expires_ms);
        ClientError::Pending(Box::new(Pending {
            transaction: self.hash,
            signed: self.signed.clone(),
            expires_ms,
            taken_by: urls(&self.accepted_by),
            sent_to,
            waited: self.started.elapsed(),
            last,
        }))
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

/// True if a node that failed so may have received the transaction.
fn may_have_received(error: &ClientError) -> bool {
    match error {
        ClientError::Transport { source, .. } => !source.is_connect(),
        // Nothing is sent before the handshake is complete.
        ClientError::NodeKey { .. } | ClientError::NotTls { .. } => false,
        // The node reported that it did nothing.
        ClientError::Problem { problem, .. } => !matches!(problem.status, 429 | 503),
        _ => true,
    }
}
