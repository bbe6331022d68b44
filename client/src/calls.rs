//! Calls to one of several nodes: the choice of the node, retries and deadlines.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use lamplighter_system::Backoff;
use lamplighter_types::codec;
use lamplighter_types::login::Token;
use lamplighter_types::proof::PROOF_FILE_BYTES_MAX;
use lamplighter_types::wire::{Problem, content_type};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::error::ClientError;
use crate::node_keys::{self, NodeKeys};
use crate::{Client, ClientConfig};

/// Largest answer that is read: a proof bundle with its record. A bad node can't make the client
/// keep more.
pub(crate) const ANSWER_BYTES_MAX: usize = PROOF_FILE_BYTES_MAX;
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
    /// The node that answered last.
    preferred: AtomicUsize,
}

#[derive(Debug)]
pub(crate) struct Node {
    /// Without a slash at the end.
    pub(crate) url: String,
    pub(crate) keys: NodeKeys,
    http: reqwest::Client,
    token: Mutex<Option<Token>>,
}

/// A request to a node.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub method: Method,
    /// The path with its query, from the first slash on.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Option<(&'static str, Bytes)>,
    /// Largest answer that is read.
    pub answer_bytes_max: usize,
}

impl Call {
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            headers: HeaderMap::new(),
            body: None,
            answer_bytes_max: ANSWER_BYTES_MAX,
        }
    }

    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// Sets the largest answer that is read.
    pub fn answer_bytes_max(mut self, bytes: usize) -> Self {
        self.answer_bytes_max = bytes;
        self
    }

    pub fn json(mut self, body: &impl serde::Serialize) -> Self {
        let bytes = serde_json::to_vec(body).expect("our types have JSON forms");
        self.body = Some((content_type::JSON, bytes.into()));
        self
    }

    pub fn bytes(mut self, body: Bytes) -> Self {
        self.body = Some((content_type::BYTES, body));
        self
    }

    pub fn header(mut self, name: &'static str, value: impl std::fmt::Display) -> Self {
        let value = value
            .to_string()
            .parse()
            .expect("digits and plain letters are a header");
        self.headers.insert(name, value);
        self
    }
}

/// The answer of a node.
#[derive(Clone, Debug)]
pub(crate) struct NodeResponse {
    pub node: String,
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
        Ok(Self {
            list,
            preferred: AtomicUsize::new(0),
        })
    }

    /// The nodes, beginning with the one that answered last.
    pub fn in_turn(&self) -> impl Iterator<Item = usize> + use<> {
        let (first, count) = (self.preferred.load(Ordering::Relaxed), self.list.len());
        (0..count).map(move |step| (first + step) % count)
    }

    pub fn prefer(&self, node: usize) {
        self.preferred.store(node, Ordering::Relaxed);
    }

    /// Prefers the next node, if `node` is still the preferred one.
    pub fn prefer_next(&self, node: usize) {
        let next = (node + 1) % self.list.len();
        // The choice of another task stands.
        self.preferred
            .compare_exchange(node, next, Ordering::Relaxed, Ordering::Relaxed)
            .ok();
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
    /// Calls nodes until one answers with success, or with a refusal that other nodes would repeat.
    pub(crate) async fn call(&self, call: Call) -> Result<NodeResponse, ClientError> {
        let begun = Instant::now();
        let until = begun + self.inner.config.deadline;
        let mut backoff = RoundBackoff::new();
        loop {
            let mut retry_after = Duration::ZERO;
            let mut last = None;
            for index in self.inner.nodes.in_turn() {
                match self.attempt(index, &call, until).await {
                    Ok(answer) => {
                        self.inner.nodes.prefer(index);
                        return Ok(answer);
                    }
                    Err((error, _)) if !error.is_transient() => return Err(error),
                    Err((error, pause)) => {
                        tracing::debug!(%error, "a node did not serve a call");
                        retry_after = retry_after.max(pause);
                        last = Some(Box::new(error));
                    }
                }
            }
            let pause = backoff.next_pause(retry_after);
            if Instant::now() + pause >= until {
                let last = last.unwrap_or_else(|| Box::new(ClientError::NoAddress));
                return Err(ClientError::Deadline {
                    waited: begun.elapsed(),
                    last,
                });
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// One attempt at one node, with a login if the node wants one. An error comes with the pause
    /// that the node asked for.
    pub(crate) async fn attempt(
        &self,
        index: usize,
        call: &Call,
        until: Instant,
    ) -> Result<NodeResponse, (ClientError, Duration)> {
        let node = &self.inner.nodes.list[index];
        let mut logged_in = false;
        loop {
            let response = self.open(index, call, Some(until)).await;
            let response = response.map_err(|error| (error, Duration::ZERO))?;
            let status = response.status();
            let pause = retry_after(response.headers());
            let answer = read_body(&node.url, response, call.answer_bytes_max).await;
            let answer = answer.map_err(|error| (error, Duration::ZERO))?;
            if status.is_success() {
                return Ok(answer);
            }
            if status == StatusCode::UNAUTHORIZED && !logged_in && self.signer().is_ok() {
                node.set_token(None);
                self.log_in(index, until)
                    .await
                    .map_err(|error| (error, Duration::ZERO))?;
                logged_in = true;
                continue;
            }
            return Err((problem(&answer), pause));
        }
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
                last: Box::new(ClientError::NoAddress),
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
                Err(problem(&read_body(url, response, PROBLEM_BYTES_MAX).await?))
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

/// Reads an answer of at most `limit` bytes.
pub(crate) async fn read_body(
    node: &str,
    mut response: Response,
    limit: usize,
) -> Result<NodeResponse, ClientError> {
    let (status, headers) = (response.status(), response.headers().clone());
    let transport = |source| ClientError::Transport {
        node: node.to_owned(),
        source,
    };
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(transport)? {
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
