//! Tokens: each is valid for one audience, and connections end with their token.

use std::time::Duration;

use lamplighter_api::HttpSettings;
use lamplighter_types::login::Audience;
use lamplighter_types::{Action, Id, Scope, SecretKey, UsersAction};
use reqwest::{Method, Response};
use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, QoS};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::node::{Answer, Node, STEP_TIMEOUT, admin, id};

pub fn secret() -> SecretKey {
    SecretKey::from_seed([9; 32])
}

pub async fn register(node: &Node) {
    let gateway = UsersAction::RegisterGateway {
        account: id("gw"),
        organization: id("city"),
        district: Scope::city(),
        key: secret().public(),
        proof: node.proof(&secret(), &id("gw")),
    };
    node.act(Action::Users(gateway)).await;
}

/// A node whose tokens are valid for so long.
async fn start_with_tokens_for(seconds: u64) -> Node {
    Node::start_with_http(HttpSettings {
        token_s: seconds,
        ..HttpSettings::default()
    })
    .await
}

/// Connects as the gateway; an error is the CONNACK's.
pub async fn connect(node: &Node, token: &str) -> Result<(AsyncClient, EventLoop), String> {
    let address = node.edges.mqtt[0];
    let mut options = MqttOptions::new("gw", address.ip().to_string(), address.port());
    options.set_credentials("gw", token);
    let (client, mut events) = AsyncClient::new(options, 10);
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => return Ok((client, events)),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

pub async fn closed(events: &mut EventLoop) {
    let until = async { while events.poll().await.is_ok() {} };
    tokio::time::timeout(STEP_TIMEOUT, until).await.unwrap();
}

/// An eavesdropper at the HTTP listener sees the token of a gateway's reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_was_stolen_from_http_does_not_open_mqtt() {
    let node = Node::start().await;
    register(&node).await;
    let stolen = node.login(&id("gw"), &secret()).await;
    let refused = connect(&node, &stolen).await.map(drop).unwrap_err();
    assert!(refused.contains("BadUserNamePassword"), "{refused}");
    // What is signed names the use, so that the answer can't be bent on the way.
    let mqtt = node.token_for(Audience::Mqtt, &id("gw"), &secret()).await;
    connect(&node, &mqtt).await.unwrap();
    let read = node.open(Method::GET, "/v1/devices").bearer_auth(&mqtt);
    Answer::of(read.send().await.unwrap())
        .await
        .assert_problem(401, "auth.refused");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_mqtt_connection_ends_with_its_token() {
    let lasting = Duration::from_secs(5);
    let node = start_with_tokens_for(lasting.as_secs()).await;
    register(&node).await;
    let begun = std::time::Instant::now();
    let token = node.token_for(Audience::Mqtt, &id("gw"), &secret()).await;
    let (client, mut events) = connect(&node, &token).await.unwrap();
    client
        .subscribe("lamplighter/1/head", QoS::AtLeastOnce)
        .await
        .unwrap();
    closed(&mut events).await;
    assert!(begun.elapsed() >= lasting - Duration::from_millis(100));
    assert!(connect(&node, &token).await.is_err(), "it is over");
    node.stop().await;
}

pub async fn follow(node: &Node, token: &str) -> Response {
    let request = node.http.get(format!("{}/v1/feed?after=0.0", node.base()));
    let response = request.bearer_auth(token).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response
}

pub async fn ends(mut stream: Response) {
    let rest = async { while let Ok(Some(_)) = stream.chunk().await {} };
    tokio::time::timeout(STEP_TIMEOUT, rest).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_its_token() {
    let node = start_with_tokens_for(2).await;
    let token = node.login(&id("admin"), &admin()).await;
    ends(follow(&node, &token).await).await;
    let request = node.open(Method::GET, "/v1/devices").bearer_auth(&token);
    Answer::of(request.send().await.unwrap())
        .await
        .assert_problem(401, "auth.refused");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_its_key() {
    let node = Node::start().await;
    register(&node).await;
    let token = node.login(&id("gw"), &secret()).await;
    let stream = follow(&node, &token).await;
    let mqtt = node.token_for(Audience::Mqtt, &id("gw"), &secret()).await;
    let (_client, mut events) = connect(&node, &mqtt).await.unwrap();
    let (account, key): (Id, _) = (id("gw"), secret().public());
    node.act(Action::Users(UsersAction::RevokeKey { account, key }))
        .await;
    ends(stream).await;
    closed(&mut events).await;
    node.stop().await;
}

/// Everything that is logged in this process, which runs this test alone.
#[derive(Clone, Default)]
struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_secret_is_logged_at_any_level() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .init();
    let node = Node::start().await;
    register(&node).await;
    let challenge = node.challenge(&id("gw"), &secret()).await;
    let chain_id = node.genesis.chain_id();
    let audience = Audience::HttpRead;
    let signed = lamplighter_types::login::TokenRequest::sign(
        &chain_id,
        &id("gw"),
        audience,
        &challenge,
        &secret(),
    );
    let read = node.token_for(audience, &id("gw"), &secret()).await;
    let mqtt = node.token_for(Audience::Mqtt, &id("gw"), &secret()).await;
    let forged = format!("{read}x");
    for token in [&read, &mqtt, &forged] {
        let request = node.http.get(format!("{}/v1/devices", node.base()));
        request.bearer_auth(token).send().await.unwrap();
    }
    let connected = connect(&node, &mqtt).await;
    assert!(connected.is_ok());
    assert!(connect(&node, &forged).await.is_err());
    node.stop().await;
    let text = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(
        text.contains("DEBUG") && text.contains("TRACE"),
        "the log is read"
    );
    let signature = signed.signature.to_string();
    for secret in [&read, &mqtt, &forged, &signature] {
        assert!(!text.contains(secret.as_str()), "{secret} is in the log");
    }
    // Nor the half that makes a token valid.
    for token in [&read, &mqtt] {
        let (_, tag) = token.split_once('.').unwrap();
        assert!(!text.contains(tag), "{tag} is in the log");
    }
}

/// One request on a connection that is kept: the status, with the whole answer read.
async fn keep_alive(connection: &mut TlsStream<TcpStream>, token: &str) -> u16 {
    let request =
        format!("GET /v1/policies HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let (head, length) = loop {
        assert_ne!(connection.read_buf(&mut answer).await.unwrap(), 0, "closed");
        let text = String::from_utf8_lossy(&answer).to_lowercase();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let length = head.split("content-length: ").nth(1).unwrap();
            let length: usize = length.lines().next().unwrap().parse().unwrap();
            break (head.to_owned(), length);
        }
    };
    while answer.len() < head.len() + 4 + length {
        assert_ne!(connection.read_buf(&mut answer).await.unwrap(), 0, "closed");
    }
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

/// An open connection is no right: each request on it needs a key that is in force.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_connection_is_refused_when_the_key_of_the_token_is_retired() {
    let node = Node::start().await;
    register(&node).await;
    let token = node.login(&id("gw"), &secret()).await;
    let mut connection = node.connect().await;
    assert_eq!(keep_alive(&mut connection, &token).await, 200);
    assert_eq!(keep_alive(&mut connection, &token).await, 200);
    let revoke = UsersAction::RevokeKey {
        account: id("gw"),
        key: secret().public(),
    };
    node.act(Action::Users(revoke)).await;
    assert_eq!(keep_alive(&mut connection, &token).await, 401);
    // The connection itself may go on, for an account that may.
    let admin_token = node.token.clone();
    assert_eq!(keep_alive(&mut connection, &admin_token).await, 200);
    node.stop().await;
}
