//! Quotas: who floods or does not read is held up, and nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lamplighter_api::{HttpSettings, QuotaSettings, SettingsError};
use lamplighter_ledger::LedgerConfig;
use lamplighter_types::{Action, SecretKey, UsersAction};
use reqwest::{Method, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::node::{Answer, Node, STEP_TIMEOUT, Settings, id};

/// Answers that take no longer are fast, whatever they took before: the 64 clients of the flood use
/// the same two processors as the node, and so do other programs.
const FAST: Duration = Duration::from_millis(40);
/// Rounds, each with and without a flood. The times of all of them count together: other programs
/// on the test machine come and go, in both alike.
const ROUNDS: usize = 7;

fn settings(quotas: QuotaSettings) -> Settings {
    Settings {
        quotas,
        ..Settings::default()
    }
}

/// A token of a second account.
async fn other_account(node: &Node) -> String {
    let secret = SecretKey::from_seed([9; 32]);
    node.act(Action::Users(UsersAction::RegisterUser {
        account: id("anna"),
        organization: id("city"),
        name: "Anna".into(),
        key: secret.public(),
        proof: node.proof(&secret, &id("anna")),
    }))
    .await;
    node.login(&id("anna"), &secret).await
}

async fn get(node: &Node, token: &str, path: &str) -> Response {
    let request = node.open(Method::GET, path).bearer_auth(token);
    request.send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_beyond_its_rate_is_refused_and_others_are_not() {
    let node = Node::start_with_settings(settings(QuotaSettings {
        requests_per_second: 5,
        ..QuotaSettings::default()
    }));
    let node = node.await;
    let anna = other_account(&node).await;
    let (mut served, mut refused) = (0, 0);
    for _ in 0..20 {
        let answer = get(&node, &node.token, "/v1/users").await;
        if answer.status() == 200 {
            served += 1;
            continue;
        }
        assert_eq!(answer.headers()["retry-after"], "1");
        Answer::of(answer).await.assert_problem(429, "rate_limited");
        refused += 1;
    }
    assert!(served >= 10, "the burst: {served}");
    assert!(refused >= 1, "{served} were served");
    assert_eq!(get(&node, &anna, "/v1/users").await.status(), 200);
    // A client that waits as it should is served again.
    let waited = async {
        while get(&node, &node.token, "/v1/users").await.status() != 200 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(STEP_TIMEOUT, waited).await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_beyond_its_rate_is_refused() {
    let node = Node::start_with_settings(settings(QuotaSettings {
        address_requests_per_second: 20,
        ..QuotaSettings::default()
    }));
    let node = node.await;
    let mut flood = JoinSet::new();
    for _ in 0..60 {
        let request = node.open(Method::GET, "/v1/status");
        flood.spawn(async move { request.send().await.unwrap().status().as_u16() });
    }
    let statuses = flood.join_all().await;
    let refused = statuses.iter().filter(|status| **status == 429).count();
    assert!((1..60).contains(&refused), "{refused} of 60");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_has_a_share_of_the_streams() {
    let node = Node::start_with_settings(settings(QuotaSettings {
        streams: 2,
        ..QuotaSettings::default()
    }));
    let node = node.await;
    let anna = other_account(&node).await;
    let first = get(&node, &node.token, "/v1/feed").await;
    let second = get(&node, &node.token, "/v1/feed").await;
    assert_eq!(
        (first.status(), second.status()),
        (first.status(), 200.try_into().unwrap())
    );
    let third = get(&node, &node.token, "/v1/feed").await;
    assert_eq!(third.headers()["retry-after"], "1");
    Answer::of(third).await.assert_problem(429, "quota.streams");
    assert_eq!(get(&node, &anna, "/v1/feed").await.status(), 200);
    drop(first);
    let freed = async {
        while get(&node, &node.token, "/v1/feed").await.status() != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(STEP_TIMEOUT, freed).await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_has_a_share_of_the_requests_at_once() {
    let node = Node::start_with_settings(settings(QuotaSettings {
        requests_at_once: 1,
        ..QuotaSettings::default()
    }));
    let node = node.await;
    let anna = other_account(&node).await;
    // A stream is a request that is being answered.
    let stream = get(&node, &node.token, "/v1/feed").await;
    assert_eq!(stream.status(), 200);
    let refused = get(&node, &node.token, "/v1/users").await;
    assert_eq!(refused.headers()["retry-after"], "1");
    let refused = Answer::of(refused).await;
    refused.assert_problem(429, "quota.requests");
    assert_eq!(get(&node, &anna, "/v1/users").await.status(), 200);
    drop(stream);
    let freed = async {
        while get(&node, &node.token, "/v1/users").await.status() != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(STEP_TIMEOUT, freed).await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_has_a_share_of_the_pending_transactions() {
    let mut config = LedgerConfig::new(1);
    config.mempool.per_account_max = 1;
    let node = Arc::new(Node::start_with(config).await);
    let begun = Instant::now();
    let refused = loop {
        assert!(begun.elapsed() < STEP_TIMEOUT, "none was refused");
        let mut flood = JoinSet::new();
        for number in 0..32 {
            let signed = node.sign(node.organization(&format!("o-{number}")));
            let node = Arc::clone(&node);
            flood.spawn(async move { (node.submit(&signed, "").await, signed) });
        }
        let answers = flood.join_all().await;
        let accepted = answers.iter().filter(|(answer, _)| answer.status == 200);
        assert!(accepted.count() > 0, "what is in a block makes room");
        let mut refused = answers.into_iter().filter(|(a, _)| a.status == 429);
        if let Some(refused) = refused.next() {
            break refused;
        }
    };
    let (answer, signed) = refused;
    answer.assert_problem(429, "quota.transactions");
    assert_eq!(answer.header("retry-after"), "1");
    // Its number is not used up: it is accepted once there is room.
    assert_eq!(node.submit(&signed, "").await.status, 200);
    let node = Arc::into_inner(node).expect("the flood has ended");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_has_a_share_of_the_connections() {
    let http = HttpSettings {
        connections_per_address: 4,
        ..HttpSettings::default()
    };
    let node = Node::start_with_http(http).await;
    let connect = || TcpStream::connect(node.edges.http);
    // Some of the places are those of the client that logged in; its idle connections stay open.
    let mut open = Vec::new();
    let closed = loop {
        let mut stream = connect().await.unwrap();
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_millis(500), stream.read(&mut byte)).await;
        match read {
            Ok(read) => break read.unwrap_or(0),
            Err(_) => open.push(stream),
        }
        assert!(open.len() <= 4, "more than its share");
    };
    assert_eq!(closed, 0, "it is closed without an answer");
    assert!(!open.is_empty());
    open.clear();
    let served = async {
        loop {
            let Ok(mut stream) = node.try_connect().await else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let request = b"GET /v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            let mut answer = String::new();
            let sent = stream.write_all(request).await;
            let read = stream.read_to_string(&mut answer).await;
            if sent.is_ok() && read.is_ok() && answer.starts_with("HTTP/1.1 200") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(STEP_TIMEOUT, served).await.unwrap();
    node.stop().await;
}

/// The node writes a large answer, and nothing takes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_an_artifact_is_cut() {
    const SIZE: usize = 4 << 20;
    let http = HttpSettings {
        write_timeout_s: 1,
        ..HttpSettings::default()
    };
    let node = Node::start_with_http(http).await;
    let bytes: Vec<u8> = (0..SIZE).map(|n| (n % 251) as u8).collect();
    let digest = crate::artifacts::upload(&node, &bytes).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    let stream = socket.connect(node.edges.http).await.unwrap();
    let mut stream = node.try_connect_over(stream).await.unwrap();
    let request = format!(
        "GET /v1/artifacts/{digest} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
        node.token
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    // The connection is cut while nobody reads: the system has only what fitted its buffers.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut held = Vec::new();
    let read = stream.read_to_end(&mut held);
    // It may end by a reset.
    let read = tokio::time::timeout(STEP_TIMEOUT, read).await.unwrap();
    assert!(held.len() < SIZE / 2, "{read:?}, {} bytes", held.len());
    assert!(held.starts_with(b"HTTP/1.1 200"), "the answer had begun");
    // One that reads gets all of it.
    let whole = node.request(Method::GET, &format!("/v1/artifacts/{digest}"));
    let whole = whole.send().await.unwrap().bytes().await.unwrap();
    assert_eq!(whole, bytes);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_beyond_the_rate_are_delayed_and_complete() {
    let quotas = QuotaSettings {
        bytes_per_second: 1 << 20,
        ..QuotaSettings::default()
    };
    let node = Node::start_with_settings(settings(quotas)).await;
    let bytes: Vec<u8> = (0..4 << 20).map(|n| (n % 249) as u8).collect();
    let digest = crate::artifacts::upload(&node, &bytes).await;
    let begin = Instant::now();
    let whole = node.request(Method::GET, &format!("/v1/artifacts/{digest}"));
    let whole = whole.send().await.unwrap().bytes().await.unwrap();
    assert_eq!(whole, bytes);
    // Two of the four come at once, and the last waits for the third.
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(900), "{took:?}");
    node.stop().await;
}

/// What an account uploads beyond its rate is read later, and another's is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_beyond_the_rate_of_the_account_are_delayed_and_complete() {
    let quotas = QuotaSettings {
        upload_bytes_per_second: 1 << 20,
        ..QuotaSettings::default()
    };
    let node = Node::start_with_settings(settings(quotas)).await;
    let anna = other_account(&node).await;
    let bytes: Vec<u8> = (0..4 << 20).map(|n| (n % 247) as u8).collect();
    let begin = Instant::now();
    let upload = async {
        let digest = crate::artifacts::upload(&node, &bytes).await;
        (digest, begin.elapsed())
    };
    let other = async {
        // While the first account waits.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let begin = Instant::now();
        let body = vec![b' '; 4_000];
        let request = node.open(Method::POST, "/v1/artifacts").bearer_auth(&anna);
        let request = request.header("content-type", "application/json");
        let answer = Answer::of(request.body(body).send().await.unwrap()).await;
        answer.assert_problem(400, "body.malformed");
        begin.elapsed()
    };
    let ((digest, took), other_took) = tokio::join!(upload, other);
    // Two of the four come at once, and the last waits for the third.
    assert!(took >= Duration::from_millis(900), "{took:?}");
    assert!(other_took < took / 2, "{other_took:?} beside {took:?}");
    let whole = node.request(Method::GET, &format!("/v1/artifacts/{digest}"));
    assert_eq!(whole.send().await.unwrap().bytes().await.unwrap(), bytes);
    node.stop().await;
}

/// The times of an account's requests.
async fn times(node: &Node, token: &str) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..200 {
        let begin = Instant::now();
        assert_eq!(get(node, token, "/v1/users").await.status(), 200);
        times.push(begin.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    times
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() * 99 / 100]
}

/// An account sends what it can over many connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_floods_does_not_slow_others_down() {
    let node = Arc::new(Node::start().await);
    let anna = other_account(&node).await;
    let (mut quiet, mut flooded) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        quiet.extend(times(&node, &anna).await);
        let (stop, answers) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let mut flood = JoinSet::new();
        for _ in 0..64 {
            let (node, stop, answers) = (node.clone(), stop.clone(), answers.clone());
            flood.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    get(&node, &node.token, "/v1/users").await;
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        flooded.extend(times(&node, &anna).await);
        stop.store(true, Ordering::Relaxed);
        flood.join_all().await;
        println!("{answers:?} answers to the flood");
        assert!(answers.load(Ordering::Relaxed) > 200, "it is a flood");
    }
    let (before, during) = (p99(quiet), p99(flooded));
    println!("p99 {before:?}, beside the flood {during:?}");
    assert!(during <= FAST.max(before * 2), "{before:?}, {during:?}");
    let node = Arc::into_inner(node).expect("the flood has ended");
    node.stop().await;
}

#[test]
fn quotas_that_lock_everybody_out_are_refused() {
    assert_eq!(QuotaSettings::default().check(), Ok(()));
    let none = QuotaSettings {
        streams: 0,
        ..QuotaSettings::default()
    };
    let Err(SettingsError::Range { name, .. }) = none.check() else {
        panic!("it was accepted");
    };
    assert_eq!(name, "quotas.streams");
}
