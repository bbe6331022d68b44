//! The surroundings of the resources: refusals, the operator's listener, the description.

use std::collections::BTreeSet;
use std::path::Path;

use reqwest::Method;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::node::{Answer, Node};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_path_is_a_problem() {
    let node = Node::start().await;
    node.get("/v1/nothing")
        .await
        .assert_problem(404, "not_found");
    let answer = node
        .request(Method::DELETE, "/v1/devices")
        .send()
        .await
        .unwrap();
    Answer::of(answer).await.assert_problem(405, "method");
    let long = node
        .request(Method::GET, "/v1/status")
        .header("x-long", "x".repeat(300_000));
    // The connection may be closed before all of it was sent; then there is no answer.
    if let Ok(answer) = long.send().await {
        assert_eq!(answer.status(), 431);
    }
    node.get("/v1/status").await.ok();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_sees_whether_the_node_is_well() {
    let node = Node::start().await;
    let admin = async |path: &str| {
        let address = format!("http://{}{path}", node.edges.admin);
        node.http.get(address).send().await.unwrap()
    };
    assert_eq!(admin("/healthz").await.text().await.unwrap(), "ok");
    let ready = Answer::of(admin("/readyz").await).await.ok();
    assert_eq!(
        (&ready["ready"], &ready["leader"]),
        (&Value::from(true), &Value::from(1))
    );
    let metrics = admin("/metrics").await.text().await.unwrap();
    for name in ["lamplighter_height ", "lamplighter_leads 1", "# EOF"] {
        assert!(metrics.contains(name), "{name} in {metrics}");
    }
    let public = node.open(Method::GET, "/metrics").send().await.unwrap();
    assert_eq!(public.status(), 404, "not for the public");
    node.stop().await;
}

async fn readiness(node: &Node) -> (u16, Value) {
    let address = format!("http://{}/readyz", node.edges.admin);
    let answer = node.http.get(address).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// The batch is committed, so each node had to leave it out: the operator must know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_void_batch_is_not_ready_until_its_next_block_is_certified() {
    let node = Node::start_without_certificates().await;
    let (code, body) = readiness(&node).await;
    assert_eq!((code, &body["reasons"]), (200, &serde_json::json!([])));
    assert!(!node.commit_batch(b"no batch".to_vec()).await);
    let (code, body) = readiness(&node).await;
    assert_eq!((code, &body["ready"]), (503, &Value::from(false)));
    let reason = body["reasons"][0].as_str().unwrap().to_owned();
    assert!(reason.contains("is void on this node"), "{reason}");
    let status = node.get("/v1/status").await.ok();
    assert_eq!(status["alarms"][0]["kind"], "void_batch");
    assert_eq!(status["alarms"][0]["message"], Value::from(reason));
    node.stop().await;

    let node = Node::start().await;
    assert!(!node.commit_batch(b"no batch".to_vec()).await);
    wait_ready(&node, 200).await;
    node.stop().await;
}

/// One of two clocks is wrong, so no quorum has equal ones; both nodes say so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_wrong_clock_is_not_ready_until_it_agrees() {
    let node = Node::start_without_certificates().await;
    node.connect_peer(60_000);
    let body = wait_ready(&node, 503).await;
    let reason = body["reasons"][0].as_str().unwrap();
    assert!(
        reason.contains("off this node's: it does not lead"),
        "{reason}"
    );
    let status = node.get("/v1/status").await.ok();
    assert_eq!(status["alarms"][0]["kind"], "clock_differs");
    let offset_ms = status["alarms"][0]["offset_ms"].as_i64().unwrap();
    assert!((50_000..70_000).contains(&offset_ms), "{offset_ms}");
    node.connect_peer(5);
    wait_ready(&node, 200).await;
    node.stop().await;
}

async fn wait_ready(node: &Node, code: u16) -> Value {
    let wait = async {
        loop {
            let (got, body) = readiness(node).await;
            if got == code {
                return body;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(20), wait).await;
    waited.expect("the readiness changes")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_description_is_complete_and_as_agreed() {
    let node = Node::start().await;
    let document = node
        .open(Method::GET, "/openapi.json")
        .send()
        .await
        .unwrap();
    let document: Value = document.json().await.unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let text = serde_json::to_string_pretty(&document).unwrap() + "\n";
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&golden).unwrap_or_default();
    assert!(
        text == expected,
        "openapi.json is out of date: UPDATE_GOLDEN=1 rewrites it"
    );

    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(
                ids.insert(id.to_owned()),
                "{method} {path}: {id} is used twice"
            );
            assert!(
                operation["summary"].is_string(),
                "{method} {path} has no summary"
            );
        }
    }
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for (at, _) in text.match_indices("#/components/schemas/") {
        let name = text[at + "#/components/schemas/".len()..]
            .split('"')
            .next()
            .unwrap();
        assert!(schemas.contains_key(name), "{name} is not described");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_loads_nothing_from_other_hosts() {
    let node = Node::start().await;
    let page = node.open(Method::GET, "/docs").send().await.unwrap();
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    let text = page.text().await.unwrap();
    assert!(text.contains("openapi.json"));
    let root = node.open(Method::GET, "/").send().await.unwrap();
    assert!(root.url().path().ends_with("/docs"), "{}", root.url());
    for outside in ["http://", "https://", "src=\"//", "@import"] {
        assert!(!text.contains(outside), "{outside}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_bodies_do_not_block_other_requests() {
    let node = Node::start().await;
    let mut slow = Vec::new();
    for head in ["Transfer-Encoding: chunked", "Content-Length: 500000"] {
        for _ in 0..200 {
            let mut stream = node.connect().await;
            let text = format!(
                "POST /v1/transactions HTTP/1.1\r\nHost: a\r\n\
                 Content-Type: application/json\r\nExpect: 100-continue\r\n{head}\r\n\r\n"
            );
            stream.write_all(text.as_bytes()).await.unwrap();
            // The node answers that it waits for the body.
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 100");
            slow.push(stream);
        }
    }
    node.act(node.organization("north")).await;
    drop(slow);
    node.stop().await;
}
