//! Calls to one of several nodes: the choice of the node, retries and deadlines.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use lamplighter_system::Backoff;
use lamplighter_types::codec;
use lamplighter_types::login::Token;
use lamplighter_types::wire::{Problem, header};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

pub(crate) use crate::call::{ANSWER_BYTES_MAX, AttemptTimeouts, Call};
use crate::error::ClientError;
use crate::hedge::{AnswerTime, Hedge};
use crate::node_keys::{self, NodeKeys};
use crate::round::Round;
use crate::standing::Standings;
use crate::{Client, ClientConfig};

/// Largest answer that is read of a call that failed.
const PROBLEM_BYTES_MAX: usize = 64 * 1024;
/// First pause after every node was tried in vain.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause between two rounds.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// A pause that a node asks for is obeyed up to this length.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

/// Pauses between rounds over all nodes, not shorter than the nodes asked for.
pub(crate) struct RoundBackoff(Backoff);

impl RoundBackoff {
    pub fn new() -> Self {
        Self(Backoff::new(PAUSE_MIN, PAUSE_MAX))
    }

    pub fn next_pause(&mut self, retry_after: Duration) -> Duration {
        self.0.next_pause().max(retry_after.min(RETRY_AFTER_MAX))
    }
}

/// The nodes of a ledger.
#[derive(Debug)]
pub(crate) struct Nodes {
    pub(crate) list: Vec<Node>,
    pub(crate) standings: Standings,
    /// The usual times of reads and of submissions.
    pub(crate) read_time: AnswerTime,
    pub(crate) submission_time: AnswerTime,
}

#[derive(Debug)]
pub(crate) struct Node {
    /// Without a slash at the end.
    pub(crate) url: String,
    pub(crate) keys: NodeKeys,
    http: reqwest::Client,
    token: Mutex<Option<Token>>,
}

/// The answer of a node.
#[derive(Clone, Debug)]
pub(crate) struct NodeResponse {
    pub node: String,
    /// The position of the node in the configuration.
    pub index: usize,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl NodeResponse {
    /// Decodes the body.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        codec::decode_json(&self.body).map_err(|source| ClientError::Answer {
            node: self.node.clone(),
            source,
        })
    }

    /// A header with a number in it.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.headers.get(name)?.to_str().ok()?.parse().ok()
    }
}

impl Nodes {
    pub fn new(config: &ClientConfig) -> Result<Self, ClientError> {
        if config.urls.is_empty() {
            return Err(ClientError::NoAddress);
        }
        let list = config
            .urls
            .iter()
            .map(|url| Node::new(url, config))
            .collect::<Result<_, _>>()?;
        let standings = Standings::new(config.urls.len());
        Ok(Self {
            list,
            standings,
            read_time: AnswerTime::default(),
            submission_time: AnswerTime::default(),
        })
    }

    /// The addresses of the nodes.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|node| node.url.as_str())
    }

    /// The nodes, in the order in which they are called.
    pub fn in_turn(&self) -> impl Iterator<Item = usize> + use<> {
        self.standings.in_turn().into_iter()
    }
}

impl Node {
    fn new(url: &str, config: &ClientConfig) -> Result<Self, ClientError> {
        let (url, keys) = node_keys::parse_address(url, config)?;
        Ok(Self {
            url,
            http: node_keys::http_client(keys.clone(), config)?,
            keys,
            token: Mutex::default(),
        })
    }

    pub fn token(&self) -> Option<String> {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        token.as_ref().map(|token| token.token.clone())
    }

    pub fn set_token(&self, token: Option<Token>) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }
}

impl Client {
    /// Calls nodes until the answer of one passes the check, or is a refusal that other nodes would
    /// repeat. The next node is called too when one takes long ([`Hedge`]). A node that does not
    /// answer is given up after the configured time, which doubles with each round, so that nodes
    /// behind a slow link are heard too. The call may arrive at any number of nodes.
    pub(crate) async fn call_checked<T, F>(
        &self,
        call: Call,
        check: impl Fn(NodeResponse) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let (begun, config, nodes) = (Instant::now(), &self.inner.config, &self.inner.nodes);
        let until = begun + config.deadline;
        let mut silence_max = self.silence_max();
        let mut backoff = RoundBackoff::new();
        loop {
            let mut round = Round::new(call.confirms_refusals);
            let timeouts = AttemptTimeouts { silence_max, until };
            let attempt = |index| self.attempt_checked(index, &call, timeouts, &check);
            let after = nodes.read_time.hedge_after() + call.upload_time();
            let mut hedge = Hedge::new(nodes.in_turn().collect(), after);
            while let Some((index, result)) = hedge.next(attempt).await {
                match result {
                    Ok((value, height)) => {
                        round.succeeded(&nodes.standings, index, height);
                        return Ok(value);
                    }
                    Err((error, pause)) => {
                        tracing::debug!(%error, "a node did not serve a call");
                        if let Some(fault) = error.fault() {
                            nodes.standings.failed(index, fault);
                        }
                        if let Some(verdict) = round.failed(index, error, pause) {
                            return Err(verdict);
                        }
                    }
                }
                if Instant::now() >= until {
                    break;
                }
            }
            let pause = backoff.next_pause(round.retry_after());
            let over = Instant::now() + pause >= until;
            match round.verdict() {
                Ok(verdict) => return Err(verdict),
                Err(last) if over => {
                    return Err(ClientError::Deadline {
                        waited: begun.elapsed(),
                        last: Arc::new(last),
                    });
                }
                Err(_) => {}
            }
            tokio::time::sleep(pause).await;
            silence_max = silence_max.saturating_mul(2);
        }
    }

    /// One attempt at one node, whose answer has to pass the check: the value with the height of
    /// the answer, or the error with the pause that the node asked for.
    async fn attempt_checked<T, F>(
        &self,
        index: usize,
        call: &Call,
        timeouts: AttemptTimeouts,
        check: &impl Fn(NodeResponse) -> F,
    ) -> (usize, Result<(T, Option<u64>), (ClientError, Duration)>)
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let begun = Instant::now();
        let answer = match Box::pin(self.attempt(index, call, timeouts)).await {
            Ok(answer) => answer,
            Err(failed) => return (index, Err(failed)),
        };
        self.inner.nodes.read_time.took(begun.elapsed());
        let height = answer.number(header::LEDGER_HEIGHT);
        let checked = Box::pin(check(answer)).await;
        let result = checked.map(|value| (value, height));
        (index, result.map_err(|error| (error, Duration::ZERO)))
    }

    /// Longest silence of a node before the next one is called; there may be no other.
    pub(crate) fn silence_max(&self) -> Duration {
        let config = &self.inner.config;
        match self.inner.nodes.list.len() {
            1 => config.deadline,
            _ => config.silence_max.min(config.deadline),
        }
    }

    /// One attempt at one node, with a login if the node wants one. An error comes with the pause
    /// that the node asked for.
    pub(crate) async fn attempt(
        &self,
        index: usize,
        call: &Call,
        timeouts: AttemptTimeouts,
    ) -> Result<NodeResponse, (ClientError, Duration)> {
        let node = &self.inner.nodes.list[index];
        let mut logged_in = false;
        let at_once = |error| (error, Duration::ZERO);
        loop {
            let response = self.open_within(index, call, timeouts).await;
            let response = response.map_err(at_once)?;
            let status = response.status();
            let pause = retry_after(response.headers());
            let read = read_body(
                &node.url,
                response,
                call.answer_bytes_max,
                timeouts.silence_max,
            );
            let mut answer = read.await.map_err(at_once)?;
            answer.index = index;
            if status.is_success() {
                return Ok(answer);
            }
            if status == StatusCode::UNAUTHORIZED && !logged_in && self.signer().is_ok() {
                node.set_token(None);
                let until = (Instant::now() + timeouts.silence_max).min(timeouts.until);
                self.log_in(index, until).await.map_err(at_once)?;
                logged_in = true;
                continue;
            }
            return Err((problem(&answer), pause));
        }
    }

    /// Sends a call and returns the answer as it begins, if it does in time.
    async fn open_within(
        &self,
        index: usize,
        call: &Call,
        timeouts: AttemptTimeouts,
    ) -> Result<Response, ClientError> {
        let limit = timeouts.silence_max + call.upload_time();
        let opened = self.open(index, call, Some(timeouts.until));
        let opened = tokio::time::timeout(limit, opened).await;
        opened.unwrap_or_else(|_| {
            let node = self.inner.nodes.list[index].url.clone();
            Err(ClientError::Silent {
                node,
                waited: limit,
            })
        })
    }

    /// Begins a call whose answer is read as it arrives, with a login if the node wants one. The
    /// answer must begin before `begin_until` and end before `end_until`.
    ///
    /// # Errors
    /// The node's problem, if it answers with neither 200 nor 206.
    pub(crate) async fn open_stream(
        &self,
        index: usize,
        call: &Call,
        begin_until: Instant,
        end_until: Option<Instant>,
    ) -> Result<Response, ClientError> {
        let open = async || {
            let opened = self.open(index, call, end_until);
            let opened = tokio::time::timeout_at(begin_until, opened).await;
            opened.map_err(|_| ClientError::Deadline {
                waited: self.inner.config.deadline,
                last: Arc::new(ClientError::NoAddress),
            })?
        };
        let mut response = open().await?;
        if response.status() == StatusCode::UNAUTHORIZED && self.signer().is_ok() {
            self.log_in(index, begin_until).await?;
            response = open().await?;
        }
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
            _ => {
                let url = &self.inner.nodes.list[index].url;
                let silence_max = begin_until.saturating_duration_since(Instant::now());
                let read = read_body(url, response, PROBLEM_BYTES_MAX, silence_max);
                Err(problem(&read.await?))
            }
        }
    }

    /// Sends a call and returns the answer as it begins. If the node's key is unknown, the newest
    /// validators are learned first.
    pub(crate) async fn open(
        &self,
        index: usize,
        call: &Call,
        until: Option<Instant>,
    ) -> Result<Response, ClientError> {
        let opened = self.send(index, call, until).await;
        if !matches!(opened, Err(ClientError::NodeKey { .. })) {
            return opened;
        }
        let learn_until = until.unwrap_or_else(|| Instant::now() + self.inner.config.deadline);
        if self.learn_node_keys(index, learn_until).await {
            self.send(index, call, until).await
        } else {
            opened
        }
    }

    async fn send(
        &self,
        index: usize,
        call: &Call,
        until: Option<Instant>,
    ) -> Result<Response, ClientError> {
        let node = &self.inner.nodes.list[index];
        let url = format!("{}{}", node.url, call.path);
        let mut request = node.http.request(call.method.clone(), url);
        request = request.headers(call.headers.clone());
        if let Some(until) = until {
            request = request.timeout(until.saturating_duration_since(Instant::now()));
        }
        if let Some(token) = node.token() {
            request = request.bearer_auth(token);
        }
        if let Some((kind, body)) = &call.body {
            request = request.header(CONTENT_TYPE, *kind).body(body.clone());
        }
        let sent = request.send().await;
        sent.map_err(|source| Self::transport_error(node, source))
    }
}

fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    seconds.map_or(Duration::ZERO, Duration::from_secs)
}

/// Reads an answer of at most `limit` bytes, no part of which may take longer than `silence_max`.
pub(crate) async fn read_body(
    node: &str,
    mut response: Response,
    limit: usize,
    silence_max: Duration,
) -> Result<NodeResponse, ClientError> {
    let (status, headers) = (response.status(), response.headers().clone());
    let transport = |source| ClientError::Transport {
        node: node.to_owned(),
        source,
    };
    let silent = |_| ClientError::Silent {
        node: node.to_owned(),
        waited: silence_max,
    };
    let mut body = BytesMut::new();
    loop {
        let chunk = tokio::time::timeout(silence_max, response.chunk()).await;
        let Some(chunk) = chunk.map_err(silent)?.map_err(transport)? else {
            break;
        };
        if body.len() + chunk.len() > limit {
            return Err(ClientError::TooLong {
                node: node.to_owned(),
                limit,
            });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(NodeResponse {
        node: node.to_owned(),
        index: 0,
        status,
        headers,
        body: body.freeze(),
    })
}

/// The problem in an answer, whatever its form.
pub(crate) fn problem(answer: &NodeResponse) -> ClientError {
    let problem = Problem::from_answer(answer.status.as_u16(), &answer.body);
    ClientError::Problem {
        node: answer.node.clone(),
        problem: Box::new(problem),
    }
}
