//! `/v1/feed/ws`: the same as the events of `/v1/feed`, for browsers.

use std::net::SocketAddr;

use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use tokio_util::either::Either;

use crate::cors::settings;
use crate::node::{Node, STEP_TIMEOUT};

pub type Socket = WebSocketStream<Either<TlsStream<TcpStream>, TcpStream>>;

/// A request like that of a browser's script: it can offer protocols, and sets no header.
pub fn browser(address: &SocketAddr, query: &str, token: Option<&str>) -> Request {
    let address = format!("ws://{address}/v1/feed/ws{query}");
    let mut request = address.into_client_request().unwrap();
    let offered = token.map_or("lamplighter.feed.1".to_owned(), |token| {
        format!("lamplighter.feed.1, bearer.{token}")
    });
    let headers = request.headers_mut();
    headers.insert("sec-websocket-protocol", offered.parse().unwrap());
    request
}

pub async fn connect(node: &Node, request: Request) -> (Socket, Response) {
    let stream = Either::Left(node.connect().await);
    client_async(request, stream).await.unwrap()
}

/// Connects without TLS, to a proxy.
pub async fn connect_plain(address: &SocketAddr, request: Request) -> (Socket, Response) {
    let stream = Either::Right(TcpStream::connect(address).await.unwrap());
    client_async(request, stream).await.unwrap()
}

/// The status and code of a refusal.
async fn refused(node: &Node, request: Request) -> (u16, String) {
    let Err(Error::Http(response)) = client_async(request, node.connect().await).await else {
        panic!("it was not refused");
    };
    let problem: Value = serde_json::from_slice(response.body().as_ref().unwrap()).unwrap();
    let code = problem["code"].as_str().unwrap().to_owned();
    (response.status().as_u16(), code)
}

async fn next(socket: &mut Socket) -> Message {
    loop {
        let next = tokio::time::timeout(STEP_TIMEOUT, socket.next()).await;
        match next.expect("a message").unwrap().unwrap() {
            Message::Ping(_) | Message::Pong(_) => {}
            message => return message,
        }
    }
}

pub async fn next_json(socket: &mut Socket) -> Value {
    match next(socket).await {
        Message::Text(text) => serde_json::from_str(&text).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// The next message with a notification.
pub async fn next_data(socket: &mut Socket) -> Value {
    loop {
        let message = next_json(socket).await;
        if message.get("data").is_some() {
            return message;
        }
    }
}

/// Waits until the node closes the socket because its token has ended.
pub async fn closed_by_policy(socket: &mut Socket) {
    assert_eq!(closed(socket).await, Some(CloseCode::Policy));
}

async fn closed(socket: &mut Socket) -> Option<CloseCode> {
    loop {
        match next(socket).await {
            Message::Close(frame) => return frame.map(|frame| frame.code),
            Message::Text(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_reads_and_resumes_the_feed() {
    let node = Node::start().await;
    node.act(node.devices(&["a1", "a2"], "north")).await;
    let query = "?after=0.0&kind=device_registered&district=north";
    let request = browser(&node.edges.http, query, Some(&node.token));
    let (mut socket, response) = connect(&node, request).await;
    assert_eq!(
        response.headers()["sec-websocket-protocol"],
        "lamplighter.feed.1",
        "the token is not repeated"
    );
    let first = next_json(&mut socket).await;
    assert_eq!(first, serde_json::json!({"id": "0.0"}), "a cursor alone");
    let a1 = next_data(&mut socket).await;
    assert_eq!(a1["data"]["notification"]["place"]["device"], "a1");
    assert_eq!(a1["id"], a1["data"]["cursor"]);
    drop(socket);
    let id = a1["id"].as_str().unwrap();
    let query = format!("?after={id}&kind=device_registered&district=north");
    let (mut socket, _) =
        connect(&node, browser(&node.edges.http, &query, Some(&node.token))).await;
    assert_eq!(next_json(&mut socket).await["id"], id);
    let a2 = next_data(&mut socket).await;
    assert_eq!(a2["data"]["notification"]["place"]["device"], "a2");
    node.act(node.devices(&["s1"], "south")).await;
    node.act(node.devices(&["b1"], "north/harbour")).await;
    let b1 = next_data(&mut socket).await;
    assert_eq!(b1["data"]["notification"]["place"]["device"], "b1");
    tokio::join!(node.stop(), async {
        assert_eq!(closed(&mut socket).await, Some(CloseCode::Away));
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_needs_a_token_and_a_cursor_of_this_ledger() {
    let node = Node::start().await;
    let token = Some(node.token.as_str());
    let open = refused(&node, browser(&node.edges.http, "", None)).await;
    assert_eq!(open, (401, "auth.missing".to_owned()));
    let wrong = refused(&node, browser(&node.edges.http, "", Some("wrong.token"))).await;
    assert_eq!(wrong, (401, "auth.refused".to_owned()));
    let ahead = refused(
        &node,
        browser(&node.edges.http, "?after=999999999.0", token),
    )
    .await;
    assert_eq!(ahead, (409, "feed.ahead".to_owned()));
    // The token in a header.
    let mut request = browser(&node.edges.http, "", None);
    let bearer = format!("Bearer {}", node.token).parse().unwrap();
    request.headers_mut().insert("authorization", bearer);
    let (mut socket, _) = connect(&node, request).await;
    assert!(next_json(&mut socket).await.get("id").is_some());
    // An offered token is one of a WebSocket alone.
    let plain = node
        .open(reqwest::Method::GET, "/v1/devices")
        .header("sec-websocket-protocol", format!("bearer.{}", node.token));
    assert_eq!(plain.send().await.unwrap().status(), 401);
    node.get("/v1/feed/ws")
        .await
        .assert_problem(400, "websocket");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_other_origins_open_no_websocket() {
    let node = Node::start_with_http(settings()).await;
    let from = |origin: &str| {
        let mut request = browser(&node.edges.http, "", Some(&node.token));
        let headers = request.headers_mut();
        headers.insert("origin", origin.parse().unwrap());
        request
    };
    for other in ["https://other.example.org", "null", "https://"] {
        let answer = refused(&node, from(other)).await;
        assert_eq!(answer, (403, "origin".to_owned()), "{other}");
    }
    let same = node.base();
    for allowed in ["https://cms.example.org", &same] {
        let (mut socket, _) = connect(&node, from(allowed)).await;
        assert!(next_json(&mut socket).await.get("id").is_some());
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_sends_messages_is_closed() {
    let node = Node::start().await;
    let (mut socket, _) = connect(&node, browser(&node.edges.http, "", Some(&node.token))).await;
    socket.send(Message::text("subscribe")).await.unwrap();
    let code = closed(&mut socket).await;
    assert_eq!(code, Some(CloseCode::Unsupported));
    let (mut socket, _) = connect(&node, browser(&node.edges.http, "", Some(&node.token))).await;
    let long = Message::binary(vec![0; 100_000]);
    socket.send(long).await.unwrap();
    let end = tokio::time::timeout(STEP_TIMEOUT, async {
        while let Some(Ok(_)) = socket.next().await {}
    });
    end.await.expect("it is closed");
    node.stop().await;
}
