//! `/v1/submissions`: many transactions in one request, each for itself.

use std::time::Duration;

use lamplighter_api::{HttpSettings, QuotaSettings};
use lamplighter_types::{SignedTransaction, codec};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::node::{Answer, Node, STEP_TIMEOUT, Settings, node_key};

const LINES: &str = "application/x-ndjson";
const OCTETS: &str = "application/octet-stream";

async fn post(node: &Node, kind: &str, body: impl Into<reqwest::Body>) -> reqwest::Response {
    let request = node.open(Method::POST, "/v1/submissions?wait=committed");
    let request = request.header(CONTENT_TYPE, kind).body(body);
    request.send().await.unwrap()
}

/// The lines of an answer that is one.
async fn lines(answer: reqwest::Response) -> Vec<Value> {
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()[CONTENT_TYPE], LINES);
    parse(&answer.text().await.unwrap())
}

fn parse(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn as_lines(transactions: &[SignedTransaction]) -> String {
    let texts = transactions.iter().map(serde_json::to_string);
    texts.map(|text| text.unwrap() + "\n").collect()
}

fn as_octets(transactions: &[SignedTransaction]) -> Vec<u8> {
    let mut body = Vec::new();
    for signed in transactions {
        let bytes = codec::encode(signed);
        body.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        body.extend_from_slice(&bytes);
    }
    body
}

fn organizations(node: &Node, name: &str, count: usize) -> Vec<SignedTransaction> {
    let sign = |n| node.sign(node.organization(&format!("{name}-{n}")));
    (0..count).map(sign).collect()
}

fn hash(node: &Node, signed: &SignedTransaction) -> String {
    signed.hash(&node.genesis.chain_id()).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_transaction_gets_an_answer_in_order() {
    let node = Node::start().await;
    let good = organizations(&node, "good", 2);
    let mut forged = node.sign(node.organization("forged"));
    forged.signature.0[0] ^= 1;
    let twice = node.sign(node.organization("good-0"));
    let mut body = as_lines(&good[..1]);
    body += "{\"key\": 1}\n";
    body += &as_lines(&[forged, twice]);
    body += &as_lines(&good[1..]);
    let answers = lines(post(&node, LINES, body.clone()).await).await;
    let statuses: Vec<_> = answers
        .iter()
        .map(|a| a["status"].as_u64().unwrap())
        .collect();
    assert_eq!(statuses, [200, 400, 400, 200, 200], "{answers:?}");
    assert_eq!(
        answers[0]["submitted"]["transaction"],
        hash(&node, &good[0])
    );
    assert_eq!(answers[0]["submitted"]["receipt"]["outcome"], "succeeded");
    assert_eq!(answers[1]["problem"]["code"], "transaction.malformed");
    assert_eq!(answers[2]["problem"]["code"], "transaction.invalid");
    let failed = &answers[3]["submitted"]["receipt"]["outcome"]["failed"];
    assert_eq!(failed["code"], "users.organization_exists");
    assert_eq!(
        answers[4]["submitted"]["transaction"],
        hash(&node, &good[1])
    );

    // The same bytes sent again get the same places.
    let again = lines(post(&node, LINES, body).await).await;
    for (again, first) in again.iter().zip(&answers) {
        assert_eq!(again["submitted"]["height"], first["submitted"]["height"]);
        assert_eq!(again["submitted"]["index"], first["submitted"]["index"]);
    }

    let many = organizations(&node, "octets", 300);
    let answers = lines(post(&node, OCTETS, as_octets(&many)).await).await;
    assert_eq!(answers.len(), 300);
    for (answer, signed) in answers.iter().zip(&many) {
        assert_eq!(answer["status"], 200, "{answer}");
        assert_eq!(answer["submitted"]["transaction"], hash(&node, signed));
    }
    let heights = answers.iter().map(|a| a["submitted"]["height"].as_u64());
    let heights: std::collections::BTreeSet<_> = heights.collect();
    assert!(heights.len() < 100, "they share blocks: {heights:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_cant_be_taken_apart_submits_nothing() {
    let node = Node::start().await;
    let before = node.handle.head().height;
    let one = organizations(&node, "one", 1);
    let octets = as_octets(&one);
    let malformed = "transaction.malformed";
    for body in [
        octets[..octets.len() - 1].to_vec(),
        [&octets[..], &[1, 0]].concat(),
        [&octets[..], &u32::MAX.to_le_bytes()].concat(),
        Vec::new(),
    ] {
        let answer = Answer::of(post(&node, OCTETS, body).await).await;
        answer.assert_problem(400, malformed);
    }
    for body in [String::new(), "\n\n".to_owned(), "x\n".repeat(1_025)] {
        let answer = Answer::of(post(&node, LINES, body).await).await;
        answer.assert_problem(400, malformed);
    }
    let answer = Answer::of(post(&node, "text/plain", "x").await).await;
    answer.assert_problem(415, "content_type");
    let large = vec![0; (8 << 20) + 1];
    let answer = Answer::of(post(&node, OCTETS, large).await).await;
    answer.assert_problem(413, "body.too_large");
    assert_eq!(node.handle.head().height, before);
    node.stop().await;
}

/// A request as bytes; `announced` is its length.
fn raw(node: &Node, body: &[u8], announced: usize) -> Vec<u8> {
    let head = format!(
        "POST /v1/submissions?wait=committed HTTP/1.1\r\nhost: {}\r\ncontent-type: {OCTETS}\r\n\
         content-length: {announced}\r\n\r\n",
        node.edges.http
    );
    [head.as_bytes(), body].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_in_the_middle_submits_nothing_and_can_be_repeated() {
    let node = Node::start().await;
    let before = node.handle.head().height;
    let transactions = organizations(&node, "cut", 20);
    let body = as_octets(&transactions);
    let mut connection = node.connect().await;
    let part = raw(&node, &body[..body.len() / 2], body.len());
    connection.write_all(&part).await.unwrap();
    connection.flush().await.unwrap();
    drop(connection);
    // Another request is served after it, on the same node.
    node.act(node.organization("after")).await;
    for signed in &transactions {
        let path = format!("/v1/transactions/{}", hash(&node, signed));
        node.get(&path).await.assert_problem(404, "not_found");
    }
    assert_eq!(node.handle.head().height, before + 1);

    // One that is whole is done, though nobody waits for the answer; the answer comes again.
    let mut connection = node.connect().await;
    let whole = raw(&node, &body, body.len());
    connection.write_all(&whole).await.unwrap();
    connection.flush().await.unwrap();
    let mut first = [0; 12];
    connection.read_exact(&mut first).await.unwrap();
    drop(connection);
    let answers = lines(post(&node, OCTETS, body).await).await;
    assert!(answers.iter().all(|a| a["status"] == 200), "{answers:?}");
    assert_eq!(answers.len(), 20);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_holds_up_no_transaction() {
    let node = Node::start().await;
    let transactions = organizations(&node, "slow", 200);
    let body = as_octets(&transactions);
    let mut connection = node.connect().await;
    let request = raw(&node, &body, body.len());
    connection.write_all(&request).await.unwrap();
    connection.flush().await.unwrap();
    // Nothing is read; all are committed nevertheless.
    let committed = async {
        for signed in &transactions {
            let path = format!("/v1/transactions/{}", hash(&node, signed));
            while node.get(&path).await.status != 200 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    tokio::time::timeout(STEP_TIMEOUT, committed).await.unwrap();
    let mut text = Vec::new();
    let mut piece = [0; 1_000];
    while !text.ends_with(b"0\r\n\r\n") {
        let read = connection.read(&mut piece).await.unwrap();
        assert!(read > 0, "the answer ends with its last chunk");
        text.extend_from_slice(&piece[..read]);
    }
    let text = String::from_utf8(text).unwrap();
    let answers = text.lines().filter(|line| line.starts_with('{'));
    assert_eq!(answers.count(), 200);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_transaction_counts_to_the_rate_of_its_address() {
    let settings = Settings {
        http: HttpSettings::default(),
        quotas: QuotaSettings {
            address_requests_per_second: 50,
            ..QuotaSettings::default()
        },
    };
    let node = Node::start_with_settings(settings).await;
    let many = organizations(&node, "many", 300);
    let answers = lines(post(&node, OCTETS, as_octets(&many)).await).await;
    assert_eq!(answers.len(), 300);
    let next = organizations(&node, "next", 1);
    let answer = Answer::of(post(&node, OCTETS, as_octets(&next)).await).await;
    answer.assert_problem(429, "rate_limited");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_has_a_share_of_the_requests_at_once() {
    let node = Node::start_without_certificates().await;
    let body = as_octets(&organizations(&node, "one", 1));
    let post = async |http: &reqwest::Client| {
        let url = format!("{}/v1/submissions?wait=certified", node.base());
        let request = http.post(url).header(CONTENT_TYPE, OCTETS);
        request.body(body.clone()).send().await.unwrap()
    };
    // The answers begin and do not end: there is no certificate.
    let mut at_work = Vec::new();
    for _ in 0..64 {
        let answer = post(&node.http).await;
        assert_eq!(answer.status(), 200);
        at_work.push(answer);
    }
    let refused = Answer::of(post(&node.http).await).await;
    refused.assert_problem(503, "busy");
    let other = reqwest::Client::builder()
        .tls_backend_preconfigured(
            lamplighter_tls::client(None, [node_key().public()].into()).unwrap(),
        )
        .local_address(std::net::IpAddr::from([127, 0, 0, 2]))
        .build()
        .unwrap();
    assert_eq!(post(&other).await.status(), 200);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_quotes_little_of_a_malformed_line() {
    let node = Node::start().await;
    let line = format!("{{\"{}\":1}}\n", "\u{e9}".repeat(50_000));
    let answers = lines(post(&node, LINES, line).await).await;
    assert_eq!(answers[0]["problem"]["code"], "transaction.malformed");
    let detail = answers[0]["problem"]["detail"].as_str().unwrap();
    assert!((20..500).contains(&detail.chars().count()), "{detail}");
    node.stop().await;
}
