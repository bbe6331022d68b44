//! One signed transaction on its way: the same bytes to one node after the other, until one says
//! what became of it.
//!
//! What a single node says is not enough to give a transaction up: a node that has taken it may
//! say that it has not, and whoever believes that signs anew and does the action twice. So a
//! refusal counts when a second node gives one too, and what was sent and not answered is told
//! as [`Pending`].

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use lamplighter_types::{Hash, SignedTransaction, codec};
use reqwest::Method;
use tokio::time::Instant;

use crate::calls::{Call, Pause};
use crate::error::{ClientError, Pending};
use crate::submit::{Submitted, Wait};
use crate::{Client, submit};

/// How long one node is asked at most before the next one is: longer than an election takes.
const STEP: Duration = Duration::from_secs(5);
/// Of that, what the answer may be on its way.
const ANSWER: Duration = Duration::from_secs(1);
/// Nodes whose refusal ends a submission.
const REFUSALS: usize = 2;

/// A signed transaction, and what nodes have said of it so far.
pub(crate) struct Sending<'a> {
    client: &'a Client,
    signed: &'a SignedTransaction,
    hash: Hash,
    body: Bytes,
    wait: Wait,
    /// Nodes that said that they have taken it.
    taken_by: BTreeSet<usize>,
    /// Nodes that may have it.
    sent_to: BTreeSet<usize>,
    begun: Instant,
}

/// What a node said.
enum Said {
    Done(Submitted),
    /// It is in no block yet.
    Taken,
    /// It can't be in any block, or is none.
    Refused(ClientError),
    /// Nothing that helps; with the pause that the node asked for.
    Failed(ClientError, Duration),
}

/// What the nodes said in one round.
#[derive(Default)]
struct Round {
    refusals: usize,
    refused: Option<ClientError>,
    last: Option<ClientError>,
    asked_pause: Duration,
}

impl<'a> Sending<'a> {
    pub fn new(client: &'a Client, signed: &'a SignedTransaction, hash: Hash, wait: Wait) -> Self {
        Self {
            client,
            signed,
            hash,
            body: codec::encode(signed).into(),
            wait,
            taken_by: BTreeSet::new(),
            sent_to: BTreeSet::new(),
            begun: Instant::now(),
        }
    }

    /// Sends it until it is known what became of it.
    pub async fn run(mut self) -> Result<Submitted, ClientError> {
        let until = self.begun + self.client.inner.config.deadline;
        let mut pause = Pause::default();
        loop {
            let mut round = Round::default();
            for index in self.client.inner.nodes.in_turn() {
                if let Some(submitted) = self.ask(index, until, &mut round).await {
                    return Ok(submitted);
                }
                let enough = round.refusals >= REFUSALS && self.nobody_has_it();
                if enough || Instant::now() >= until {
                    break;
                }
            }
            if round.refused.is_some() && self.nobody_has_it() {
                return Err(self.refused(round));
            }
            let rest = pause.next(round.asked_pause);
            if Instant::now() + rest >= until {
                return Err(self.ended(round.refused.or(round.last)));
            }
            tokio::time::sleep(rest).await;
        }
    }

    /// Asks one node; gives what became of the transaction, if it says so.
    async fn ask(&mut self, index: usize, until: Instant, round: &mut Round) -> Option<Submitted> {
        let nodes = &self.client.inner.nodes;
        match self.said(index, until).await {
            Said::Done(submitted) => {
                nodes.prefer(index);
                return Some(submitted);
            }
            Said::Taken => {
                self.sent_to.remove(&index);
                self.taken_by.insert(index);
            }
            Said::Refused(error) => {
                // Its last word counts.
                self.taken_by.remove(&index);
                self.sent_to.remove(&index);
                round.refusals += 1;
                round.refused.get_or_insert(error);
            }
            Said::Failed(error, asked) => {
                tracing::debug!(%error, "a node did not say what became of a transaction");
                if is_uncertified(&error) {
                    self.taken_by.insert(index);
                } else if may_have_it(&error) && !self.taken_by.contains(&index) {
                    self.sent_to.insert(index);
                }
                round.asked_pause = round.asked_pause.max(asked);
                round.last = Some(error);
            }
        }
        nodes.turn_from(index);
        None
    }

    async fn said(&self, index: usize, until: Instant) -> Said {
        let step = until.saturating_duration_since(Instant::now()).min(STEP);
        let waits_ms = (step - ANSWER.min(step / 4)).as_millis();
        let wait = self.wait.name();
        let path = format!("/v1/transactions?wait={wait}&timeout_ms={waits_ms}");
        let call = Call::new(Method::POST, path).octets(self.body.clone());
        let answered = self.client.attempt(index, &call, Instant::now() + step);
        let read = match answered.await {
            Ok(answer) => answer.json().and_then(|submitted| self.checked(submitted)),
            Err((error, asked)) if error.is_transient() => return Said::Failed(error, asked),
            Err((error, _)) => Err(error),
        };
        match read {
            Ok(done) if done.receipt.is_some() || self.wait == Wait::None => Said::Done(done),
            Ok(_) => Said::Taken,
            Err(error) if error.problem().is_some() => Said::Refused(error),
            Err(error) => Said::Failed(error, Duration::ZERO),
        }
    }

    fn nobody_has_it(&self) -> bool {
        self.taken_by.is_empty() && self.sent_to.is_empty()
    }

    /// An answer about this transaction.
    fn checked(&self, submitted: Submitted) -> Result<Submitted, ClientError> {
        let receipt = submitted
            .receipt
            .as_ref()
            .map(|receipt| receipt.transaction);
        let named = [Some(submitted.transaction), receipt];
        match named.into_iter().flatten().find(|got| *got != self.hash) {
            Some(got) => Err(ClientError::OtherTransaction {
                expected: self.hash,
                got,
            }),
            None => Ok(submitted),
        }
    }

    /// All who said something refused it. That a number is used is what a node also says that has
    /// the transaction and hides it, so there a second one must say so.
    fn refused(self, round: Round) -> ClientError {
        let refused = round.refused.expect("it is asked for when there is one");
        let several = self.client.inner.nodes.list.len() > 1;
        match several && submit::is_about_sequence(&refused) && round.refusals < REFUSALS {
            true => self.pending(Some(refused)),
            false => refused,
        }
    }

    /// The deadline came.
    fn ended(self, last: Option<ClientError>) -> ClientError {
        match self.nobody_has_it() {
            true => ClientError::Deadline {
                waited: self.begun.elapsed(),
                last: Box::new(last.unwrap_or(ClientError::NoAddress)),
            },
            false => self.pending(last),
        }
    }

    fn pending(self, last: Option<ClientError>) -> ClientError {
        let all = &self.client.inner.nodes.list;
        let urls = |some: &BTreeSet<usize>| {
            let urls = some.iter().map(|index| all[*index].url.clone());
            urls.collect::<Vec<_>>()
        };
        let sent_to = match self.nobody_has_it() {
            true => all.iter().map(|node| node.url.clone()).collect(),
            false => urls(&self.sent_to),
        };
        // Of what is no transaction no node takes anything.
        let expires_ms = self.signed.decode_payload().map_or(0, |t| t.expires_ms);
        ClientError::Pending(Box::new(Pending {
            transaction: self.hash,
            signed: self.signed.clone(),
            expires_ms,
            taken_by: urls(&self.taken_by),
            sent_to,
            waited: self.begun.elapsed(),
            last,
        }))
    }
}

/// It is in a block, for which there was no certificate in time.
fn is_uncertified(error: &ClientError) -> bool {
    error
        .problem()
        .is_some_and(|problem| problem.code == "deadline")
}

/// Whether a node that failed so may have taken what it was sent.
fn may_have_it(error: &ClientError) -> bool {
    match error {
        ClientError::Transport { source, .. } => !source.is_connect(),
        // It said that it did nothing.
        ClientError::Problem { problem, .. } => !matches!(problem.status, 429 | 503),
        _ => true,
    }
}
