//! One call to one of several nodes: which node, how often, until when.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use lamplighter_types::codec;
use lamplighter_types::login::Token;
use lamplighter_types::proof::PROOF_FILE_BYTES_MAX;
use rand::Rng;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::error::{ClientError, Problem};
use crate::{Client, ClientConfig};

/// Largest answer that is read: a proof bundle with its record; also bounds what a bad node can
/// make us keep.
pub(crate) const ANSWER_BYTES_MAX: usize = PROOF_FILE_BYTES_MAX;
/// First pause after every node was tried in vain; it doubles up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// Longest pause between two rounds.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// A node's wish to be left alone is heeded up to this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

/// Pauses between rounds over all nodes.
pub(crate) struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(PAUSE_FIRST)
    }
}

impl Pause {
    /// The next pause: not shorter than nodes asked for.
    pub fn next(&mut self, asked: Duration) -> Duration {
        let jitter = rand::rng().random_range(0.5..1.0);
        let rest = self.0.mul_f64(jitter).max(asked.min(RETRY_AFTER_MAX));
        self.0 = (self.0 * 2).min(PAUSE_MAX);
        rest
    }
}

/// The nodes of a ledger.
#[derive(Debug)]
pub(crate) struct Nodes {
    pub(crate) http: reqwest::Client,
    pub(crate) list: Vec<Node>,
    /// The one that answered last.
    preferred: AtomicUsize,
}

#[derive(Debug)]
pub(crate) struct Node {
    /// Without a slash at the end.
    pub(crate) url: String,
    token: Mutex<Option<Token>>,
}

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub method: Method,
    /// With its query, from the first slash.
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

    /// Reads an answer of up to so many bytes.
    pub fn at_most(mut self, bytes: usize) -> Self {
        self.answer_bytes_max = bytes;
        self
    }

    pub fn json(mut self, body: &impl serde::Serialize) -> Self {
        let bytes = serde_json::to_vec(body).expect("our types have JSON forms");
        self.body = Some(("application/json", bytes.into()));
        self
    }

    pub fn octets(mut self, body: Bytes) -> Self {
        self.body = Some(("application/octet-stream", body));
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

/// What a node answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub node: String,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// Reads the body.
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
        let http = reqwest::Client::builder()
            .connect_timeout(config.connect_timeout)
            .build()
            .map_err(ClientError::Setup)?;
        let list = config
            .urls
            .iter()
            .map(|url| Node::new(url))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            http,
            list,
            preferred: AtomicUsize::new(0),
        })
    }

    /// The nodes, the one that answered last first.
    pub fn in_turn(&self) -> impl Iterator<Item = usize> + use<> {
        let (first, count) = (self.preferred.load(Ordering::Relaxed), self.list.len());
        (0..count).map(move |step| (first + step) % count)
    }

    pub fn prefer(&self, node: usize) {
        self.preferred.store(node, Ordering::Relaxed);
    }

    /// The preferred one was no good.
    pub fn turn_from(&self, node: usize) {
        let next = (node + 1) % self.list.len();
        // If somebody else has turned meanwhile, that choice stands.
        self.preferred
            .compare_exchange(node, next, Ordering::Relaxed, Ordering::Relaxed)
            .ok();
    }
}

impl Node {
    fn new(url: &str) -> Result<Self, ClientError> {
        let wrong = || ClientError::Address(url.to_owned());
        let parsed = reqwest::Url::parse(url).map_err(|_| wrong())?;
        if parsed.scheme() != "http" || parsed.host().is_none() {
            return Err(wrong());
        }
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
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
    /// Calls nodes until one answers with success or with a refusal that no other node would take
    /// back.
    pub(crate) async fn call(&self, call: Call) -> Result<Answer, ClientError> {
        let begun = Instant::now();
        let until = begun + self.inner.config.deadline;
        let mut pause = Pause::default();
        loop {
            let mut wait = Duration::ZERO;
            let mut last = None;
            for index in self.inner.nodes.in_turn() {
                match self.attempt(index, &call, until).await {
                    Ok(answer) => {
                        self.inner.nodes.prefer(index);
                        return Ok(answer);
                    }
                    Err((error, _)) if !error.is_transient() => return Err(error),
                    Err((error, asked)) => {
                        tracing::debug!(%error, "a node did not serve a call");
                        wait = wait.max(asked);
                        last = Some(Box::new(error));
                    }
                }
            }
            let rest = pause.next(wait);
            if Instant::now() + rest >= until {
                let last = last.unwrap_or_else(|| Box::new(ClientError::NoAddress));
                return Err(ClientError::Deadline {
                    waited: begun.elapsed(),
                    last,
                });
            }
            tokio::time::sleep(rest).await;
        }
    }

    /// One attempt at one node; an error comes with the pause that the node asked for.
    pub(crate) async fn attempt(
        &self,
        index: usize,
        call: &Call,
        until: Instant,
    ) -> Result<Answer, (ClientError, Duration)> {
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

    /// Sends a call and gives the answer as it begins.
    pub(crate) async fn open(
        &self,
        index: usize,
        call: &Call,
        until: Option<Instant>,
    ) -> Result<Response, ClientError> {
        let node = &self.inner.nodes.list[index];
        let url = format!("{}{}", node.url, call.path);
        let mut request = self.inner.nodes.http.request(call.method.clone(), url);
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
        sent.map_err(|source| ClientError::Transport {
            node: node.url.clone(),
            source,
        })
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
) -> Result<Answer, ClientError> {
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
    Ok(Answer {
        node: node.to_owned(),
        status,
        headers,
        body: body.freeze(),
    })
}

/// The problem that an answer tells, whatever its form.
pub(crate) fn problem(answer: &Answer) -> ClientError {
    let mut problem: Problem = serde_json::from_slice(&answer.body).unwrap_or_else(|_| Problem {
        detail: String::from_utf8_lossy(&answer.body[..answer.body.len().min(200)]).into_owned(),
        ..Problem::default()
    });
    problem.status = answer.status.as_u16();
    ClientError::Problem {
        node: answer.node.clone(),
        problem,
    }
}
