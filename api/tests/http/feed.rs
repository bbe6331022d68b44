//! `/v1/feed`: no event is lost or sent twice.

use std::collections::BTreeMap;

use lamplighter_types::wire::Cursor;
use reqwest::{Method, Response};
use serde_json::Value;

use crate::node::{Answer, Node, STEP_TIMEOUT};

/// Reads server-sent events (the event stream of the HTML standard).
pub struct Reader {
    response: Response,
    text: String,
}

impl Reader {
    async fn open(node: &Node, query: &str, last: Option<&str>) -> Self {
        Self::open_at(&node.base(), node, query, last).await
    }

    /// Opens the feed at an address that is not the node's, e.g. of a proxy.
    pub async fn open_at(base: &str, node: &Node, query: &str, last: Option<&str>) -> Self {
        let request = node.http.get(format!("{base}/v1/feed{query}"));
        let mut request = request.bearer_auth(&node.token);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let headers = response.headers();
        assert_eq!(headers["content-type"], "text/event-stream");
        assert_eq!(headers["cache-control"], "no-cache");
        Self {
            response,
            text: String::new(),
        }
    }

    /// The next event with data; `None` at the end.
    async fn next(&mut self) -> Option<BTreeMap<String, String>> {
        loop {
            let event = self.next_fields().await?;
            if event.contains_key("data") {
                return Some(event);
            }
        }
    }

    /// The id of the next event, which has nothing else.
    pub async fn cursor_alone(&mut self) -> Cursor {
        let event = self.next_fields().await.unwrap();
        assert_eq!(event.len(), 1, "{event:?}");
        event["id"].parse().unwrap()
    }

    /// The fields of the next event; `None` at the end.
    async fn next_fields(&mut self) -> Option<BTreeMap<String, String>> {
        // Comments come all the time and do not count.
        let event = tokio::time::timeout(STEP_TIMEOUT, self.read());
        event.await.expect("an event")
    }

    async fn read(&mut self) -> Option<BTreeMap<String, String>> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let fields = event.lines().filter_map(|line| line.split_once(": "));
                let fields = fields.filter(|(name, _)| !name.is_empty());
                let fields: BTreeMap<_, _> = fields
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect();
                self.text = rest.to_owned();
                if !fields.is_empty() {
                    return Some(fields);
                }
                continue;
            }
            let chunk = self.response.chunk().await.unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The devices of the next events, and the last one's id.
    pub async fn devices(&mut self, count: usize) -> (Vec<String>, String) {
        let (mut devices, mut id) = (Vec::new(), String::new());
        for _ in 0..count {
            let event = self.next().await.unwrap();
            let data: Value = serde_json::from_str(&event["data"]).unwrap();
            assert_eq!(data["cursor"], event["id"].as_str());
            assert_eq!(event["event"], "device_registered");
            assert_eq!(data["author"], "admin");
            devices.push(
                data["notification"]["place"]["device"]
                    .as_str()
                    .unwrap()
                    .to_owned(),
            );
            id.clone_from(&event["id"]);
        }
        (devices, id)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_resumes_without_loss_or_repetition() {
    let node = Node::start().await;
    node.act(node.devices(&["a1", "a2", "a3"], "north")).await;
    node.act(node.devices(&["b1", "b2"], "north/harbour")).await;

    let query = "?after=0.0&kind=device_registered";
    let (first, id) = Reader::open(&node, query, None).await.devices(2).await;
    assert_eq!(first, ["a1", "a2"]);
    let mut reader = Reader::open(&node, query, Some(&id)).await;
    let (second, id) = reader.devices(2).await;
    assert_eq!(second, ["a3", "b1"], "resumed inside a block");
    drop(reader);
    node.act(node.organization("unasked")).await;
    node.act(node.devices(&["c1"], "south")).await;
    let mut reader = Reader::open(&node, query, Some(&id)).await;
    assert_eq!(reader.devices(2).await.0, ["b2", "c1"]);
    node.act(node.devices(&["d1"], "south")).await;
    assert_eq!(reader.devices(1).await.0, ["d1"], "and what is new");

    let (north, _) = Reader::open(&node, "?after=0.0&district=north", None)
        .await
        .devices(5)
        .await;
    assert_eq!(north, ["a1", "a2", "a3", "b1", "b2"]);
    let (one, _) = Reader::open(&node, "?after=0.0&device=b2", None)
        .await
        .devices(1)
        .await;
    assert_eq!(one, ["b2"]);

    // An open stream ends with the node and does not hold it up.
    tokio::join!(node.stop(), async {
        assert!(reader.next().await.is_none())
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_cursor_is_refused() {
    let node = Node::start().await;
    node.get("/v1/feed?after=x")
        .await
        .assert_problem(400, "parameter");
    let request = node
        .request(Method::GET, "/v1/feed")
        .header("last-event-id", "1");
    Answer::of(request.send().await.unwrap())
        .await
        .assert_problem(400, "parameter");
    let stranger = node.open(Method::GET, "/v1/feed").send().await.unwrap();
    Answer::of(stranger)
        .await
        .assert_problem(401, "auth.missing");
    node.stop().await;
}

/// The connection breaks before any event matches the filter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_without_events_resumes_where_the_stream_began() {
    let node = Node::start().await;
    let query = "?kind=device_registered&district=north";
    let began = Reader::open(&node, query, None).await.cursor_alone().await;
    assert!(began.height <= node.handle.head().height);
    node.act(node.devices(&["a1"], "north")).await;
    let mut reader = Reader::open(&node, query, Some(&began.to_string())).await;
    assert_eq!(
        reader.cursor_alone().await,
        began,
        "the first line is an id"
    );
    assert_eq!(reader.devices(1).await.0, ["a1"]);
    node.stop().await;
}

/// Blocks are made all the time, and none has an event that matches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursors_are_sent_while_no_event_matches() {
    let node = Node::start().await;
    let mut reader = Reader::open(&node, "?after=0.0&device=missing", None).await;
    assert_eq!(reader.cursor_alone().await, Cursor::default());
    let reached = reader.cursor_alone().await;
    assert!(reached.height > 1, "{reached}");
    node.stop().await;
}

/// The cursor belongs to another ledger. Waiting would hide that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_from_the_future_is_refused() {
    let node = Node::start().await;
    let far = "999999999.0";
    let answer = node.get(&format!("/v1/feed?after={far}")).await;
    answer.assert_problem(409, "feed.ahead");
    let height: u64 = answer.header("ledger-height").parse().unwrap();
    assert!(height >= 1);
    let request = node.request(Method::GET, "/v1/feed");
    let request = request.header("last-event-id", far).send().await.unwrap();
    Answer::of(request).await.assert_problem(409, "feed.ahead");
    // The node is a little behind the one that sent the cursor: it waits, and skips earlier events.
    let height = node.handle.head().height + 3;
    let near = format!("?after={height}.0");
    let mut reader = Reader::open(&node, &near, None).await;
    assert_eq!(reader.cursor_alone().await, Cursor { height, index: 0 });
    let reached = node.handle.wait_height(height, STEP_TIMEOUT);
    reached.await.unwrap();
    node.act(node.devices(&["a1"], "north")).await;
    assert_eq!(reader.devices(1).await.0, ["a1"]);
    node.stop().await;
}
