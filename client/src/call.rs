//! A request to a node, and the times that its answer may take.

use std::time::Duration;

use bytes::Bytes;
use lamplighter_types::proof::PROOF_FILE_BYTES_MAX;
use lamplighter_types::wire::content_type;
use reqwest::Method;
use reqwest::header::HeaderMap;
use tokio::time::Instant;

/// Largest answer that is read: a proof bundle with its record. A bad node can't make the client
/// keep more.
pub(crate) const ANSWER_BYTES_MAX: usize = PROOF_FILE_BYTES_MAX;
/// Bytes a second at which a request is assumed to be sent: a slow field link.
const UPLOAD_RATE_MIN: u64 = 2_000;

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
    /// A refusal of one node, e.g. that it has no such record, is not believed: the others are
    /// asked too.
    pub confirms_refusals: bool,
}

/// The times of one attempt at one node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttemptTimeouts {
    /// Longest wait for the beginning of the answer, and for each further part of it.
    pub silence_max: Duration,
    /// End of the answer.
    pub until: Instant,
}

impl AttemptTimeouts {
    /// One deadline for everything.
    pub fn until(until: Instant) -> Self {
        let silence_max = until.saturating_duration_since(Instant::now());
        Self { silence_max, until }
    }
}

impl Call {
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            headers: HeaderMap::new(),
            body: None,
            answer_bytes_max: ANSWER_BYTES_MAX,
            confirms_refusals: false,
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

    /// Believes no refusal of a single node.
    pub fn confirming_refusals(mut self) -> Self {
        self.confirms_refusals = true;
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

    /// The time that its body takes on a slow link.
    pub fn upload_time(&self) -> Duration {
        let body_bytes = self.body.as_ref().map_or(0, |(_, body)| body.len() as u64);
        Duration::from_secs(body_bytes / UPLOAD_RATE_MIN)
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
