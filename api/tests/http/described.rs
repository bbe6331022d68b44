//! A node's answers agree with its description: they have no status, media type or body that is not
//! described, for good and for bad requests to every operation.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use lamplighter_types::Hash;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::node::Node;
use crate::scenario::{self, Client, printed, secret};
use crate::schemas::{Cases, OPENAPI, openapi, pointer};

/// Requests in progress at once.
const AT_ONCE: usize = 16;
/// Sends of one probe.
const SENDS_MAX: usize = 10;
const TRANSACTION_BODY: usize = 600_000;
const PIECE_BODY: usize = 4 * 1024 * 1024 + 1;

/// One request to an operation.
#[derive(Clone, Debug)]
struct Probe {
    method: String,
    /// The path as in the document, with the names of its parameters.
    path: String,
    /// The path with values, and the query.
    url: String,
    token: Option<String>,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

struct ProbeAnswer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// Sends a probe, and again when the node has had as many as it takes in a second: what else it
/// would answer is looked at.
async fn send(node: &Node, probe: &Probe) -> ProbeAnswer {
    for _ in 1..SENDS_MAX {
        let answer = send_once(node, probe).await;
        if answer.status != StatusCode::TOO_MANY_REQUESTS {
            return answer;
        }
        let wait = answer.headers[RETRY_AFTER].to_str().unwrap();
        let wait = wait.parse().unwrap();
        tokio::time::sleep(Duration::from_secs(wait)).await;
    }
    send_once(node, probe).await
}

async fn send_once(node: &Node, probe: &Probe) -> ProbeAnswer {
    let method = Method::from_bytes(probe.method.to_uppercase().as_bytes()).unwrap();
    let mut request = node.open(method, &probe.url);
    if let Some(token) = &probe.token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    for (name, value) in &probe.headers {
        request = request.header(name, value);
    }
    if let Some(body) = &probe.body {
        request = request.body(body.clone());
    }
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status(), answer.headers().clone());
    // The feed does not end.
    let is_feed = probe.path == "/v1/feed" && status.is_success();
    let body = if is_feed {
        Vec::new()
    } else {
        answer.bytes().await.unwrap().to_vec()
    };
    ProbeAnswer {
        status,
        headers,
        body,
    }
}

/// A value for each part of a path, of records that the scenario has made.
fn samples(path: &str) -> BTreeMap<&'static str, String> {
    let alarm = path.starts_with("/v1/alarms/");
    // One upload is complete, another has only begun.
    let bytes: &[u8] = if path.ends_with("/upload") {
        b"begun"
    } else {
        b"probed"
    };
    let artifact = Hash::of(bytes).to_string();
    let transaction: Value =
        serde_json::from_str(&std::fs::read_to_string(scenario::path("transaction.json")).unwrap())
            .unwrap();
    BTreeMap::from([
        ("account", "ada".to_owned()),
        ("organization", "harbour-authority".to_owned()),
        ("key", secret("ada").public().to_string()),
        ("device", if alarm { "lamp-2" } else { "lamp-1" }.to_owned()),
        (
            "height",
            if path.contains("proofs") { "0" } else { "1" }.to_owned(),
        ),
        ("index", "0".to_owned()),
        // The alarm of lamp-1 was closed, and left the state.
        ("sequence", if alarm { "2" } else { "7" }.to_owned()),
        ("release", "lamp-2.0.0".to_owned()),
        ("rollout", "north-spring".to_owned()),
        ("proposal", "more-approvals".to_owned()),
        ("digest", artifact),
        ("session", "00".repeat(16)),
        ("hash", transaction["hash"].as_str().unwrap().to_owned()),
    ])
}

fn fill(path: &str, values: &BTreeMap<&str, String>) -> String {
    values.iter().fold(path.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{name}}}"), value)
    })
}

/// The parameters of an operation at a place, with what they need.
fn parameters<'a>(operation: &'a Value, place: &'a str) -> Vec<(&'a str, bool)> {
    let all = operation["parameters"].as_array().into_iter().flatten();
    let here = all.filter(move |p| p["in"] == place);
    here.map(|p| (p["name"].as_str().unwrap(), p["required"] == true))
        .collect()
}

/// A valid query value.
fn good(name: &str, path: &str) -> &'static str {
    match (name, path) {
        ("min_height" | "timeout_ms", _) => "1",
        ("trusted", _) => "0",
        ("linearizable" | "proof" | "receipt", _) => "true",
        ("limit", _) => "2",
        ("after", "/v1/alarms") => "lamp-1:1",
        ("after", "/v1/devices/{device}/alarms" | "/v1/devices/{device}/events") => "1",
        ("after", "/v1/devices/{device}/history" | "/v1/feed") => "3.0",
        ("after", _) => "a",
        ("wait", _) => "none",
        ("kind", _) => "device_registered",
        ("district", _) => "north",
        ("gateway", _) => "gw-north",
        ("owner", _) => "city",
        ("device", _) => "lamp-1",
        ("model", _) => "L2",
        ("RegistrantPubkey", _) => {
            "02284f0583b915c1587d121420417894f41591c2584bc96b062bd8356a34c3fc32"
        }
        ("Signature" | "Nonce", _) => "00",
        _ => "x",
    }
}

/// All probes of one operation.
fn probes(method: &str, path: &str, operation: &Value, token: &str) -> Vec<Probe> {
    let values = samples(path);
    let query = parameters(operation, "query");
    let needed: Vec<_> = query.iter().filter(|(_, needed)| *needed).collect();
    let needed: Vec<_> = needed
        .iter()
        .map(|(name, _)| format!("{name}={}", good(name, path)))
        .collect();
    let url = |values: &BTreeMap<&str, String>, more: &str| {
        let mut all = needed.clone();
        all.extend((!more.is_empty()).then(|| more.to_owned()));
        let query = all.join("&");
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{}{mark}{query}", fill(path, values))
    };
    let plain = Probe {
        method: method.to_owned(),
        path: path.to_owned(),
        url: url(&values, ""),
        token: Some(token.to_owned()),
        headers: Vec::new(),
        body: None,
    };
    let mut probes = vec![plain.clone()];
    for token in [None, Some("none".to_owned())] {
        probes.push(Probe {
            token,
            ..plain.clone()
        });
    }
    let mut ask = |more: &str| {
        probes.push(Probe {
            url: url(&values, more),
            ..plain.clone()
        });
    };
    ask("colour=red");
    for (name, _) in &query {
        let is = |word| *name == word;
        ask(&format!("{name}={}", good(name, path)));
        ask(&format!("{name}=%00%FF%22"));
        ask(&format!("{name}="));
        // The largest height is waited for in vain: once is enough for every operation.
        if !is("min_height") || path == "/v1/devices" {
            ask(&format!("{name}=18446744073709551615"));
        }
    }
    for (name, _) in parameters(operation, "path") {
        for bad in ["UPPER", "missing", "%FF", "18446744073709551616", "a%2Fb"] {
            let mut changed = values.clone();
            changed.insert(values.keys().find(|n| **n == name).unwrap(), bad.to_owned());
            probes.push(Probe {
                url: url(&changed, ""),
                ..plain.clone()
            });
        }
    }
    for (name, _) in parameters(operation, "header") {
        for value in ["0", "x", "bytes=0-3", "bytes=99-"] {
            probes.push(Probe {
                headers: vec![(name.to_owned(), value.to_owned())],
                ..plain.clone()
            });
        }
    }
    probes.extend(bodies(&plain, operation));
    probes
}

/// Good, bad, long and missing bodies under good and bad media types.
fn bodies(plain: &Probe, operation: &Value) -> Vec<Probe> {
    let Some(contents) = operation.pointer("/requestBody/content") else {
        return Vec::new();
    };
    let long = match plain.path.as_str() {
        "/v1/transactions" => TRANSACTION_BODY,
        path if path.ends_with("/upload") => PIECE_BODY,
        _ => 20_000,
    };
    let example = match plain.path.as_str() {
        "/v1/transactions" => {
            let text = std::fs::read_to_string(scenario::path("transaction.json")).unwrap();
            serde_json::from_str::<Value>(&text).unwrap()["signed"].to_string()
        }
        "/v1/artifacts" => json!({
            "digest": Hash::of(b"probed"), "size_bytes": 6,
        })
        .to_string(),
        "/v1/auth/challenge" => {
            json!({ "account": "ada", "key": secret("ada").public() }).to_string()
        }
        "/v1/auth/token" => json!({
            "account": "ada", "key": secret("ada").public(), "audience": "http-read",
            "challenge": "00".repeat(32), "signature": "00".repeat(64),
        })
        .to_string(),
        _ => "probed".to_owned(),
    };
    let mut kinds: Vec<_> = contents.as_object().unwrap().keys().cloned().collect();
    kinds.push("text/plain".to_owned());
    let texts = [
        example.clone().into_bytes(),
        Vec::new(),
        b"{".to_vec(),
        b"[1]".to_vec(),
        vec![b'x'; long],
    ];
    let mut all = Vec::new();
    for kind in kinds {
        for text in &texts {
            let mut headers = vec![(CONTENT_TYPE.to_string(), kind.clone())];
            headers.push(("Upload-Offset".to_owned(), "0".to_owned()));
            all.push(Probe {
                headers,
                body: Some(text.clone()),
                ..plain.clone()
            });
        }
    }
    all
}

/// Uploads the artifacts that probes request.
pub async fn upload(node: &Node) {
    for bytes in [&b"begun"[..], b"probed"] {
        let begin = json!({ "digest": Hash::of(bytes), "size_bytes": bytes.len() });
        let begun = node
            .request(Method::POST, "/v1/artifacts")
            .json(&begin)
            .send();
        assert_eq!(begun.await.unwrap().status(), 200);
    }
    let path = format!("/v1/artifacts/{}/upload", Hash::of(b"probed"));
    let piece = node
        .request(Method::PATCH, &path)
        .header("upload-offset", 0);
    assert_eq!(piece.body("probed").send().await.unwrap().status(), 200);
}

/// Returns the fault of an answer, if it has one; its body is added to the cases.
fn check_answer(
    operation: &Value,
    probe: &Probe,
    answer: &ProbeAnswer,
    cases: &mut Cases,
) -> Option<String> {
    let Probe {
        method, path, url, ..
    } = probe;
    let status = answer.status.as_u16().to_string();
    let what = format!("{method} {url}: {status}");
    let Some(response) = operation["responses"].get(&status) else {
        let body = String::from_utf8_lossy(&answer.body);
        return Some(format!("{what} is not described: {body}"));
    };
    if !answer.headers.contains_key("ledger-height") {
        return Some(format!("{what} has no Ledger-Height"));
    }
    for header in response["headers"].as_object().into_iter().flatten() {
        if !answer.headers.contains_key(header.0) {
            return Some(format!("{what} has no {}", header.0));
        }
    }
    let kind = answer
        .headers
        .get(CONTENT_TYPE)
        .map(|v| v.to_str().unwrap());
    let Some(contents) = response["content"].as_object() else {
        return (!answer.body.is_empty()).then(|| format!("{what}: a body is not described"));
    };
    let Some(kind) = kind.filter(|kind| contents.contains_key(*kind)) else {
        return Some(format!("{what}: the media type {kind:?} is not described"));
    };
    if kind.ends_with("json") {
        let Ok(value) = serde_json::from_slice(&answer.body) else {
            return Some(format!("{what} is no JSON"));
        };
        if contents[kind]["schema"]
            .as_object()
            .is_some_and(|schema| !schema.is_empty())
        {
            let names = [
                "paths",
                path,
                method,
                "responses",
                &status,
                "content",
                kind,
                "schema",
            ];
            cases.add(OPENAPI, &pointer(&names), &value, &what);
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_as_described() {
    let node = scenario::node().await;
    let mut client = Client::default();
    for step in printed() {
        client.send(&node, &step).await.ok();
    }
    upload(&node).await;
    let document = openapi();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let probes = probes(method, path, operation, &node.token);
            all.extend(probes.into_iter().map(|probe| (operation, probe)));
        }
    }
    let node_ref = &node;
    let asked = all.into_iter().map(|(operation, probe)| async move {
        let answer = send(node_ref, &probe).await;
        (operation, probe, answer)
    });
    let answers: Vec<_> = futures::stream::iter(asked)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let (mut cases, mut faults) = (Cases::default(), Vec::new());
    let mut seen = BTreeMap::<u16, usize>::new();
    for (operation, probe, answer) in &answers {
        *seen.entry(answer.status.as_u16()).or_default() += 1;
        faults.extend(check_answer(operation, probe, answer, &mut cases));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    for status in [200, 206, 400, 401, 404, 413, 415, 416, 422, 504] {
        assert!(seen.contains_key(&status), "no {status} among {seen:?}");
    }
    cases.check();
    node.stop().await;
}

/// Asserts that all numbers of a document have bounds.
fn assert_bounded(value: &Value, at: &str) {
    match value {
        Value::Object(fields) => {
            let is_number = fields.get("type").is_some_and(|kind| {
                kind == "integer"
                    || kind
                        .as_array()
                        .is_some_and(|k| k.contains(&"integer".into()))
            });
            let has = |name: &str| fields.contains_key(name);
            // Counts that only the node sends need no bounds.
            let is_internal = !has("format") || at.ends_with("/Ledger-Height/schema");
            if is_number && !is_internal {
                assert!(has("minimum") && has("maximum"), "{at} has no bounds");
                let max = fields["maximum"].as_u64();
                assert!(max.is_some_and(|max| max < 1 << 53), "{at}: up to {max:?}");
            }
            for (name, value) in fields.iter().filter(|(name, _)| *name != "examples") {
                assert_bounded(value, &format!("{at}/{name}"));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| assert_bounded(item, at)),
        _ => {}
    }
}

#[test]
fn numbers_have_bounds_and_names_have_patterns() {
    let document = openapi();
    assert_bounded(&document, "");
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let (schema, name) = (&parameter["schema"], &parameter["name"]);
                let known = schema["$ref"].is_string() || schema["pattern"].is_string();
                let wanted = parameter["in"] == "path" && schema["type"] != "integer"
                    || ["after", "limit", "min_height"].iter().any(|n| name == n);
                let bounded = schema["maximum"].is_number();
                assert!(
                    known || bounded || !wanted,
                    "{method} {path}: {name} is any text"
                );
                assert!(
                    !schema.to_string().contains("null"),
                    "{method} {path}: {name}"
                );
            }
        }
    }
}

#[test]
fn every_operation_describes_its_security_and_responses() {
    let document = openapi();
    assert!(document["servers"][0]["url"].is_string());
    let mut guarded = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let security = operation["security"].as_array();
            let security = security.unwrap_or_else(|| panic!("{method} {path}: security"));
            let has_401 = operation["responses"].get("401").is_some();
            guarded += usize::from(!security.is_empty());
            let is_login = path == "/v1/auth/token";
            assert_eq!(
                has_401,
                !security.is_empty() || is_login,
                "{method} {path}: 401"
            );
            for (status, response) in operation["responses"].as_object().unwrap() {
                let text = response["description"].as_str().unwrap_or_default();
                assert!(
                    !text.is_empty(),
                    "{method} {path}: {status} is not explained"
                );
                let problem = status.starts_with(['4', '5']) && method != "head";
                let is_problem = response["content"]["application/problem+json"].is_object();
                assert_eq!(is_problem, problem, "{method} {path}: {status}");
            }
        }
    }
    assert!(guarded > 30, "{guarded} operations need a token");
}
