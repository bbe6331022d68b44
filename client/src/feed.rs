//! The event stream (SSE), continued at another node without loss or repetition.

use std::time::Duration;

use bytes::BytesMut;
use lamplighter_system::Backoff;
use lamplighter_types::wire::{Cursor, FeedEvent, content_type, header, problem};
use lamplighter_types::{Id, Scope, codec};
use tokio::time::Instant;

use crate::Client;
use crate::calls::Call;
use crate::error::ClientError;
use crate::standing::Fault;

/// Longest event that is read; a notification is far below.
const EVENT_BYTES_MAX: usize = 256 * 1024;
/// Nodes send a comment more often than this on a silent stream.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// First pause after no node gave a stream.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A filter of notifications; all its parts must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedFilter {
    /// The name of the fact, e.g. `alarm_raised`.
    pub kind: Option<String>,
    pub district: Option<Scope>,
    pub device: Option<Id>,
}

/// A running subscription. It continues for ever; drop it to end it.
pub struct Feed {
    client: Client,
    path: String,
    cursor: Option<Cursor>,
    stream: Option<EventStream>,
    backoff: Backoff,
    outage: OutageListener,
}

type OutageCallback = Box<dyn FnMut(&ClientError) + Send + Sync>;

/// Calls back when no node gives a stream, once for each outage.
#[derive(Default)]
struct OutageListener {
    callback: Option<OutageCallback>,
    is_notified: bool,
}

impl OutageListener {
    fn notify(&mut self, error: &ClientError) {
        if let Some(callback) = self.callback.as_mut().filter(|_| !self.is_notified) {
            callback(error);
            self.is_notified = true;
        }
    }
}

/// An item of a stream.
enum StreamItem {
    Event(Box<FeedEvent>),
    /// A cursor alone: no notification up to there passes the filter.
    Cursor(Cursor),
}

impl StreamItem {
    fn cursor(&self) -> Cursor {
        match self {
            Self::Event(event) => event.cursor,
            Self::Cursor(cursor) => *cursor,
        }
    }
}

struct EventStream {
    node: usize,
    response: reqwest::Response,
    buffer: BytesMut,
    /// The first item, read when the stream was opened.
    first: Option<StreamItem>,
}

impl Client {
    /// Notifications after `after`; without it only new ones.
    pub fn feed(&self, filter: &FeedFilter, after: Option<Cursor>) -> Feed {
        let parts = [
            ("kind", filter.kind.as_deref()),
            ("district", filter.district.as_ref().map(Scope::as_str)),
            ("device", filter.device.as_ref().map(Id::as_str)),
        ];
        let parameters = parts
            .iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", (*value)?)));
        let path = format!("/v1/feed?{}", parameters.collect::<Vec<_>>().join("&"));
        Feed {
            client: self.clone(),
            path,
            cursor: after,
            stream: None,
            backoff: Backoff::new(PAUSE_MIN, PAUSE_MAX),
            outage: OutageListener::default(),
        }
    }
}

impl Feed {
    /// The position up to which notifications were delivered, or did not pass the filter.
    pub fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// Calls `callback` when no node gives a stream, with the error of the last one, once for each
    /// outage. The feed continues to try.
    pub fn on_outage(mut self, callback: impl FnMut(&ClientError) + Send + Sync + 'static) -> Self {
        self.outage.callback = Some(Box::new(callback));
        self
    }

    /// The next notification. Waits for it, through lost connections and stopped nodes.
    ///
    /// # Errors
    /// A refusal that no retry would change: an invalid filter, a token that is not given, or a
    /// cursor that is ahead of the ledger at every node.
    pub async fn next(&mut self) -> Result<FeedEvent, ClientError> {
        loop {
            let Some(stream) = self.stream.as_mut() else {
                self.connect().await?;
                continue;
            };
            let node = stream.node;
            let next = tokio::select! {
                next = stream.next(&self.client) => next,
                () = self.client.falls_behind(node) => Err(ClientError::Stream {
                    node: self.client.inner.nodes.list[node].url.clone(),
                    what: "other nodes have newer certified blocks",
                }),
            };
            match next {
                // After a reconnection a node may begin a little earlier.
                Ok(item) if self.cursor.is_some_and(|cursor| item.cursor() <= cursor) => {}
                Ok(item) => {
                    self.cursor = Some(item.cursor());
                    self.backoff.reset();
                    if let StreamItem::Event(event) = item {
                        return Ok(*event);
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "the event stream broke off");
                    let standings = &self.client.inner.nodes.standings;
                    standings.failed(node, Fault::Unserved);
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
                let error = match self.open(node).await {
                    Ok(()) => {
                        self.outage.is_notified = false;
                        return Ok(());
                    }
                    Err(error) => error,
                };
                let problem = error.problem();
                let is_ahead = problem.is_some_and(|p| p.code == problem::code::FEED_AHEAD);
                not_ahead -= usize::from(is_ahead);
                // One node may be far behind, not all of them.
                let may_pass = error.is_transient() || (is_ahead && not_ahead > 0);
                if !may_pass && !matches!(error, ClientError::Stream { .. }) {
                    return Err(error);
                }
                tracing::debug!(%error, "no event stream");
                last = error;
            }
            self.outage.notify(&last);
            tokio::time::sleep(self.backoff.next_pause()).await;
        }
        Ok(())
    }

    /// Opens a stream and, when there is no cursor yet, reads where it begins: without that it
    /// can't be continued.
    async fn open(&mut self, node: usize) -> Result<(), ClientError> {
        let mut call = Call::get(self.path.clone()).header("accept", content_type::EVENT_STREAM);
        if let Some(cursor) = self.cursor {
            call = call.header(header::LAST_EVENT_ID, cursor);
        }
        let deadline = self.client.silence_max();
        // The beginning of the answer has a deadline, the stream itself none.
        let begin_until = Instant::now() + deadline;
        let opened = self.client.open_stream(node, &call, begin_until, None);
        let mut stream = EventStream {
            node,
            response: opened.await?,
            buffer: BytesMut::new(),
            first: None,
        };
        if self.cursor.is_none() {
            let first = tokio::time::timeout(deadline, stream.next(&self.client)).await;
            let first = first.map_err(|_| ClientError::Stream {
                node: self.client.inner.nodes.list[node].url.clone(),
                what: "it does not say where it begins",
            })?;
            match first? {
                StreamItem::Cursor(cursor) => self.cursor = Some(cursor),
                event => stream.first = Some(event),
            }
        }
        self.stream = Some(stream);
        Ok(())
    }
}

impl EventStream {
    async fn next(&mut self, client: &Client) -> Result<StreamItem, ClientError> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        let node = || client.inner.nodes.list[self.node].url.clone();
        let failed = |what| ClientError::Stream { node: node(), what };
        loop {
            while let Some(text) = split_event(&mut self.buffer) {
                if let Some(item) = parse_event(&text, &node())? {
                    return Ok(item);
                }
            }
            if self.buffer.len() > EVENT_BYTES_MAX {
                return Err(ClientError::TooLong {
                    node: node(),
                    limit: EVENT_BYTES_MAX,
                });
            }
            let chunk = tokio::time::timeout(SILENCE_MAX, self.response.chunk()).await;
            let chunk = chunk.map_err(|_| failed("it fell silent"))?;
            let chunk = chunk.map_err(|source| ClientError::Transport {
                node: node(),
                source,
            })?;
            let chunk = chunk.ok_or_else(|| failed("it ended"))?;
            self.buffer.extend_from_slice(&chunk);
        }
    }
}

/// Splits the first event off: the text up to an empty line.
fn split_event(buffer: &mut BytesMut) -> Option<String> {
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

/// Parses an event; `None` for comments.
fn parse_event(text: &str, node: &str) -> Result<Option<StreamItem>, ClientError> {
    let mut cursor = None;
    let mut data = String::new();
    for line in text.lines() {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" => cursor = value.parse::<Cursor>().ok(),
            "data" => data.push_str(value),
            _ => {}
        }
    }
    if data.is_empty() {
        return Ok(cursor.map(StreamItem::Cursor));
    }
    let event: FeedEvent =
        codec::decode_json(data.as_bytes()).map_err(|source| ClientError::Answer {
            node: node.to_owned(),
            source,
        })?;
    if cursor != Some(event.cursor) {
        return Err(ClientError::Stream {
            node: node.to_owned(),
            what: "an event whose id is not its cursor",
        });
    }
    Ok(Some(StreamItem::Event(Box::new(event))))
}
