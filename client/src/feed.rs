//! The event stream (SSE), taken up again at another node without loss or doubling.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::BytesMut;
use lamplighter_types::{Hash, Id, Notification, Scope, codec};
use reqwest::StatusCode;
use serde::Deserialize;
use tokio::time::Instant;

use crate::Client;
use crate::calls::{Call, problem, read_body};
use crate::error::ClientError;

/// Longest event that is read; a notification is far below.
const EVENT_BYTES_MAX: usize = 256 * 1024;
/// Nodes send a comment more often than this on a silent stream.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// First pause after no node gave a stream; it doubles up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// The code of a node's problem with a cursor that is ahead of its ledger.
const AHEAD: &str = "feed.ahead";
/// Longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A place in the feed: height of the block and number of the notification in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    pub height: u64,
    pub index: u32,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.height, self.index)
    }
}

/// Not of the form `height.index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cursor has the form height.index")]
pub struct NotACursor;

impl FromStr for Cursor {
    type Err = NotACursor;
    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let (height, index) = text.split_once('.').ok_or(NotACursor)?;
        let height = height.parse().map_err(|_| NotACursor)?;
        Ok(Self {
            height,
            index: index.parse().map_err(|_| NotACursor)?,
        })
    }
}

/// Which notifications are wanted; all given parts must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedFilter {
    /// The name of the fact, e.g. `alarm_raised`.
    pub kind: Option<String>,
    pub district: Option<Scope>,
    pub device: Option<Id>,
}

/// One notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub cursor: Cursor,
    /// Block time, Unix ms.
    pub time_ms: u64,
    /// The transaction it came from; zero when the block itself was the cause.
    pub transaction: Hash,
    /// The account that signed the transaction; none when the block itself was the cause.
    pub author: Option<Id>,
    pub notification: Notification,
}

/// The data of an event; nodes may tell more.
#[derive(Deserialize)]
struct Data {
    time_ms: u64,
    transaction: Hash,
    author: Option<Id>,
    notification: Notification,
}

/// A running subscription. It goes on for ever; drop it to end it.
pub struct Feed {
    client: Client,
    path: String,
    last: Option<Cursor>,
    stream: Option<Stream>,
    pause: Duration,
    outage: Outage,
}

type Tell = Box<dyn FnMut(&ClientError) + Send + Sync>;

/// Who is told that no node gives a stream, once until one does.
#[derive(Default)]
struct Outage {
    tell: Option<Tell>,
    told: bool,
}

impl Outage {
    fn is_here(&mut self, error: &ClientError) {
        if let Some(tell) = self.tell.as_mut().filter(|_| !self.told) {
            tell(error);
            self.told = true;
        }
    }
}

/// What a stream brings: an id, and mostly a notification. Up to an id alone nothing is wanted.
struct Event {
    cursor: Cursor,
    delivery: Option<Delivery>,
}

struct Stream {
    node: usize,
    response: reqwest::Response,
    buffer: BytesMut,
    /// Read when the stream was opened.
    first: Option<Event>,
}

impl Client {
    /// Notifications after `after`; without it those to come.
    pub fn feed(&self, filter: &FeedFilter, after: Option<Cursor>) -> Feed {
        let parts = [
            ("kind", filter.kind.as_deref()),
            ("district", filter.district.as_ref().map(Scope::as_str)),
            ("device", filter.device.as_ref().map(Id::as_str)),
        ];
        let given = parts
            .iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", (*value)?)));
        let path = format!("/v1/feed?{}", given.collect::<Vec<_>>().join("&"));
        Feed {
            client: self.clone(),
            path,
            last: after,
            stream: None,
            pause: PAUSE_FIRST,
            outage: Outage::default(),
        }
    }
}

impl Feed {
    /// The place up to which notifications were delivered, or were not wanted.
    pub fn cursor(&self) -> Option<Cursor> {
        self.last
    }

    /// Calls `tell` when no node gives a stream, with what the last one met: once for each outage.
    /// The feed goes on trying.
    pub fn on_outage(mut self, tell: impl FnMut(&ClientError) + Send + Sync + 'static) -> Self {
        self.outage.tell = Some(Box::new(tell));
        self
    }

    /// The next notification; waits for it, through lost connections and stopped nodes.
    ///
    /// # Errors
    /// A refusal that no retry would change: an invalid filter, a token that is not given, or a
    /// cursor that is ahead of the ledger at every node.
    pub async fn next(&mut self) -> Result<Delivery, ClientError> {
        loop {
            let Some(stream) = self.stream.as_mut() else {
                self.connect().await?;
                continue;
            };
            match stream.next(&self.client).await {
                // After a reconnection a node may begin a little earlier.
                Ok(event) if self.last.is_some_and(|last| event.cursor <= last) => {}
                Ok(event) => {
                    self.last = Some(event.cursor);
                    self.pause = PAUSE_FIRST;
                    if let Some(delivery) = event.delivery {
                        return Ok(delivery);
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "the event stream broke off");
                    let node = stream.node;
                    self.client.inner.nodes.turn_from(node);
                    self.stream = None;
                }
            }
        }
    }

    /// Opens the stream, so that nothing that happens from now on is missed.
    pub async fn connect(&mut self) -> Result<(), ClientError> {
        while self.stream.is_none() {
            let nodes: Vec<usize> = self.client.inner.nodes.in_turn().collect();
            let mut not_ahead = nodes.len();
            let mut last = ClientError::NoAddress;
            for node in nodes {
                let error = match self.begin(node).await {
                    Ok(()) => {
                        self.outage.told = false;
                        return Ok(());
                    }
                    Err(error) => error,
                };
                let is_ahead = error.problem().is_some_and(|p| p.code == AHEAD);
                not_ahead -= usize::from(is_ahead);
                // One node may be far behind, not all of them.
                let may_pass = error.is_transient() || (is_ahead && not_ahead > 0);
                if !may_pass && !matches!(error, ClientError::Stream { .. }) {
                    return Err(error);
                }
                tracing::debug!(%error, "no event stream");
                last = error;
            }
            self.outage.is_here(&last);
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        }
        Ok(())
    }

    /// Opens a stream and, when there is no cursor yet, learns where it begins: only so can it be
    /// taken up again.
    async fn begin(&mut self, node: usize) -> Result<(), ClientError> {
        let mut stream = self.open(node).await?;
        if self.last.is_none() {
            let waited = self.client.inner.config.deadline;
            let first = tokio::time::timeout(waited, stream.next(&self.client)).await;
            let first = first.map_err(|_| ClientError::Stream {
                node: self.client.inner.nodes.list[node].url.clone(),
                what: "it does not say where it begins",
            })?;
            match first? {
                Event {
                    cursor,
                    delivery: None,
                } => self.last = Some(cursor),
                event => stream.first = Some(event),
            }
        }
        self.stream = Some(stream);
        Ok(())
    }

    async fn open(&self, node: usize) -> Result<Stream, ClientError> {
        let mut call = Call::get(self.path.clone()).header("accept", "text/event-stream");
        if let Some(last) = self.last {
            call = call.header("last-event-id", last);
        }
        let until = Instant::now() + self.client.inner.config.deadline;
        let mut response = self.within(node, &call, until).await?;
        if response.status() == StatusCode::UNAUTHORIZED && self.client.signer().is_ok() {
            self.client.log_in(node, until).await?;
            response = self.within(node, &call, until).await?;
        }
        if !response.status().is_success() {
            let url = &self.client.inner.nodes.list[node].url;
            return Err(problem(&read_body(url, response, 64 * 1024).await?));
        }
        Ok(Stream {
            node,
            response,
            buffer: BytesMut::new(),
            first: None,
        })
    }

    /// The beginning of an answer has a deadline, the stream itself none.
    async fn within(
        &self,
        node: usize,
        call: &Call,
        until: Instant,
    ) -> Result<reqwest::Response, ClientError> {
        let opened = tokio::time::timeout_at(until, self.client.open(node, call, None)).await;
        let waited = self.client.inner.config.deadline;
        let late = |_| ClientError::Deadline {
            waited,
            last: Box::new(ClientError::NoAddress),
        };
        opened.map_err(late)?
    }
}

impl Stream {
    async fn next(&mut self, client: &Client) -> Result<Event, ClientError> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        let node = || client.inner.nodes.list[self.node].url.clone();
        loop {
            while let Some(event) = take_event(&mut self.buffer) {
                if let Some(event) = read_event(&event, &node())? {
                    return Ok(event);
                }
            }
            if self.buffer.len() > EVENT_BYTES_MAX {
                return Err(ClientError::TooLong {
                    node: node(),
                    limit: EVENT_BYTES_MAX,
                });
            }
            let silent = || ClientError::Stream {
                node: node(),
                what: "it fell silent",
            };
            let chunk = tokio::time::timeout(SILENCE_MAX, self.response.chunk()).await;
            let chunk = chunk.map_err(|_| silent())?;
            let chunk = chunk.map_err(|source| ClientError::Transport {
                node: node(),
                source,
            })?;
            let ended = || ClientError::Stream {
                node: node(),
                what: "it ended",
            };
            self.buffer.extend_from_slice(&chunk.ok_or_else(ended)?);
        }
    }
}

/// Cuts the first event off: the text up to an empty line.
fn take_event(buffer: &mut BytesMut) -> Option<String> {
    let lf = buffer
        .windows(2)
        .position(|w| w == b"\n\n")
        .map(|at| (at, 2));
    let crlf = buffer
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .map(|at| (at, 4));
    let (at, length) = lf.into_iter().chain(crlf).min()?;
    let event = buffer.split_to(at + length);
    Some(String::from_utf8_lossy(&event[..at]).into_owned())
}

/// Reads an event; `None` for comments.
fn read_event(event: &str, node: &str) -> Result<Option<Event>, ClientError> {
    let mut cursor = None;
    let mut data = String::new();
    for line in event.lines() {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" => cursor = value.parse::<Cursor>().ok(),
            "data" => data.push_str(value),
            _ => {}
        }
    }
    if data.is_empty() {
        return Ok(cursor.map(|cursor| Event {
            cursor,
            delivery: None,
        }));
    }
    let what = "an event without cursor";
    let cursor = cursor.ok_or_else(|| ClientError::Stream {
        node: node.to_owned(),
        what,
    })?;
    let wrong = |source| ClientError::Answer {
        node: node.to_owned(),
        source,
    };
    let Data {
        time_ms,
        transaction,
        author,
        notification,
    } = codec::decode_json(data.as_bytes()).map_err(wrong)?;
    let delivery = Delivery {
        cursor,
        time_ms,
        transaction,
        author,
        notification,
    };
    Ok(Some(Event {
        cursor,
        delivery: Some(delivery),
    }))
}
