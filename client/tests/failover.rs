//! The client against nodes that do not answer, or answer what can't be true, beside a good one.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use lamplighter_client::{Client, ClientConfig};
use lamplighter_types::{Action, EventsAction, Hash, Id, SecretKey};
use serde_json::json;
use tokio::net::TcpListener;

async fn serve(answer: fn() -> Response) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/v1/keys/{key}", get(async move || answer()));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

/// Accepts connections and never answers.
async fn silent() -> (String, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicU32::new(0));
    let count = accepted.clone();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            held.push(stream);
        }
    });
    (format!("http://{address}"), accepted)
}

fn known(highest: u64) -> Response {
    let body = json!({"account": "anna", "highest_sequence": highest});
    body.to_string().into_response()
}

fn good() -> Response {
    known(41)
}

fn missing() -> Response {
    let body = json!({"status": 404, "code": "not_found", "detail": "there is no such key"});
    (StatusCode::NOT_FOUND, body.to_string()).into_response()
}

fn client(urls: Vec<String>) -> Client {
    let mut config = ClientConfig::new(urls);
    config.chain_id = Some(Hash::of(b"chain"));
    config.silence_max = Duration::from_millis(500);
    let account = Id::new("anna").unwrap();
    Client::new(config.with_key(account, SecretKey::from_seed([1; 32]))).unwrap()
}

async fn highest(client: &Client) -> u64 {
    let key = SecretKey::from_seed([1; 32]).public();
    client.key(&key).await.unwrap().value.highest_sequence
}

#[tokio::test]
async fn a_node_that_never_answers_is_left_within_seconds_and_then_called_last() {
    let (silent, accepted) = silent().await;
    let client = client(vec![silent, serve(good).await]);
    let start = Instant::now();
    assert_eq!(highest(&client).await, 41);
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    let before = accepted.load(Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(highest(&client).await, 41);
    }
    assert_eq!(accepted.load(Ordering::SeqCst), before);
}

#[tokio::test]
async fn an_answer_that_can_not_be_used_is_asked_for_elsewhere() {
    let junk = || "{\"account\":".into_response();
    let long = || vec![b' '; 64 * 1024 * 1024].into_response();
    let damaged = || (StatusCode::INTERNAL_SERVER_ERROR, "").into_response();
    let answers: [fn() -> Response; 4] = [junk, long, damaged, missing];
    for answer in answers {
        let client = self::client(vec![serve(answer).await, serve(good).await]);
        assert_eq!(highest(&client).await, 41);
    }
    // All nodes say the same: then it is so, at once.
    let client = self::client(vec![serve(missing).await, serve(missing).await]);
    let start = Instant::now();
    let key = SecretKey::from_seed([1; 32]).public();
    assert!(client.key(&key).await.unwrap_err().is_not_found());
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn one_node_does_not_lead_the_sequence_numbers_astray() {
    let huge = || known(u64::MAX / 2);
    let none = || known(0);
    let lies: [fn() -> Response; 3] = [huge, none, missing];
    for lie in lies {
        let (silent, _) = silent().await;
        let urls = vec![
            silent,
            serve(lie).await,
            serve(good).await,
            serve(good).await,
        ];
        let action = Action::Events(EventsAction::Append { events: Vec::new() });
        let signed = client(urls).sign(action).await.unwrap();
        let sequence = signed.decode_payload().unwrap().sequence;
        assert!((42..42 + 256).contains(&sequence), "{sequence}");
    }
}
