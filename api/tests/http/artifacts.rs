//! `/v1/artifacts`: resumed uploads, wrong bytes, ranges.

use lamplighter_types::{
    Action, Encoding, FirmwareAction, GovernanceAction, GovernanceChange, Hash, ReleaseManifest,
    Role, Scope, SecretKey, SignedRelease, SignedTransaction, Transaction, UsersAction,
};
use reqwest::{Method, Response};
use serde_json::json;

use crate::node::{Answer, Node, id, now_ms};

fn image(seed: u8) -> Vec<u8> {
    (0..50_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8 ^ seed)
        .collect()
}

async fn begin(node: &Node, digest: &Hash, size_bytes: usize) -> Answer {
    let new = json!({ "digest": digest, "size_bytes": size_bytes });
    let request = node.request(Method::POST, "/v1/artifacts").json(&new);
    Answer::of(request.send().await.unwrap()).await
}

async fn append(node: &Node, digest: &Hash, offset: usize, bytes: &[u8]) -> Answer {
    let request = node.request(Method::PATCH, &format!("/v1/artifacts/{digest}/upload"));
    let request = request.header("upload-offset", offset).body(bytes.to_vec());
    Answer::of(request.send().await.unwrap()).await
}

async fn assert_offset(node: &Node, digest: &Hash) -> Answer {
    let request = node.request(Method::HEAD, &format!("/v1/artifacts/{digest}/upload"));
    Answer::of(request.send().await.unwrap()).await
}

pub async fn upload(node: &Node, bytes: &[u8]) -> Hash {
    let digest = Hash::of(bytes);
    begin(node, &digest, bytes.len()).await.ok();
    assert_eq!(append(node, &digest, 0, bytes).await.ok()["complete"], true);
    digest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_is_resumed() {
    let node = Node::start().await;
    let bytes = image(0);
    let digest = Hash::of(&bytes);
    assert_eq!(begin(&node, &digest, bytes.len()).await.ok()["offset"], 0);
    let half = append(&node, &digest, 0, &bytes[..20_000]).await.ok();
    assert_eq!(
        (&half["offset"], &half["complete"]),
        (&json!(20_000), &json!(false))
    );

    append(&node, &digest, 0, &bytes[..10])
        .await
        .assert_problem(409, "artifact.offset");
    append(&node, &digest, 30_000, b"x")
        .await
        .assert_problem(409, "artifact.offset");
    let blind = node.request(Method::PATCH, &format!("/v1/artifacts/{digest}/upload"));
    let blind = Answer::of(blind.body("x").send().await.unwrap()).await;
    blind.assert_problem(400, "artifact.offset");
    let path = format!("/v1/artifacts/{digest}");
    node.get(&path).await.assert_problem(404, "not_found");

    assert_eq!(
        assert_offset(&node, &digest).await.header("upload-offset"),
        "20000"
    );
    assert_eq!(
        begin(&node, &digest, bytes.len()).await.ok()["offset"],
        20_000
    );
    let done = append(&node, &digest, 20_000, &bytes[20_000..]).await.ok();
    assert_eq!(
        (&done["offset"], &done["complete"]),
        (&json!(50_000), &json!(true))
    );
    let again = begin(&node, &digest, bytes.len()).await.ok();
    assert_eq!(again["complete"], true);
    node.stop().await;
}

/// A second vendor, with a token.
async fn vendor(node: &Node, name: &str) -> String {
    let (account, secret) = (id(name), SecretKey::from_seed([name.len() as u8; 32]));
    let register = UsersAction::RegisterUser {
        account: account.clone(),
        organization: id("city"),
        name: name.to_owned(),
        key: secret.public(),
        proof: node.proof(&secret, &account),
    };
    node.act(Action::Users(register)).await;
    let grant = GovernanceChange::Grant {
        account: account.clone(),
        role: Role::Vendor,
        scope: Scope::city(),
    };
    let propose = GovernanceAction::Propose {
        proposal: account.clone(),
        changes: vec![grant],
    };
    node.act(Action::Governance(propose)).await;
    node.login(&account, &secret).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_uploads_belong_to_their_owners() {
    let node = Node::start().await;
    let bytes = image(5);
    let (digest, eve) = (Hash::of(&bytes), vendor(&node, "eve").await);
    let path = format!("/v1/artifacts/{digest}/upload");
    let by_eve = async |request: reqwest::RequestBuilder| {
        Answer::of(request.bearer_auth(&eve).send().await.unwrap()).await
    };
    let wrong = json!({ "digest": digest, "size_bytes": 7 });
    let wrong = node.open(Method::POST, "/v1/artifacts").json(&wrong);
    assert_eq!(by_eve(wrong).await.ok()["offset"], 0);

    // Neither is in the other's way, and each sees and drops its own alone.
    begin(&node, &digest, bytes.len()).await.ok();
    append(&node, &digest, 0, &bytes[..20_000]).await.ok();
    let listed = node.get("/v1/uploads").await.ok();
    let expires_ms = listed["items"][0]["expires_ms"].as_u64().unwrap();
    assert!(expires_ms > now_ms() + 23 * 3_600_000, "a day from now");
    let wanted = json!({ "items": [{
        "digest": digest, "size_bytes": 50_000, "offset": 20_000, "expires_ms": expires_ms,
    }] });
    assert_eq!(listed, wanted);
    let of_eve = by_eve(node.open(Method::GET, "/v1/uploads")).await.ok();
    assert_eq!(of_eve["items"][0]["size_bytes"], 7);
    let dropped = by_eve(node.open(Method::DELETE, &path)).await;
    assert_eq!(dropped.status, 204);
    by_eve(node.open(Method::DELETE, &path))
        .await
        .assert_problem(404, "not_found");
    assert_eq!(
        assert_offset(&node, &digest).await.header("upload-offset"),
        "20000"
    );

    // A wrong announcement is corrected by another one.
    assert_eq!(begin(&node, &digest, 9).await.ok()["offset"], 0);
    assert_eq!(upload(&node, &bytes).await, digest);
    let empty = node.get("/v1/uploads").await.ok();
    assert_eq!(empty, json!({ "items": [] }));

    for n in 0..8 {
        begin(&node, &Hash([n + 1; 32]), 1).await.ok();
    }
    begin(&node, &Hash([99; 32]), 1)
        .await
        .assert_problem(409, "artifact.uploads");
    let other = json!({ "digest": Hash([99; 32]), "size_bytes": 1 });
    let other = node.open(Method::POST, "/v1/artifacts").json(&other);
    by_eve(other).await.ok();
    node.stop().await;
}

/// Complete bytes that no release names are dropped by who uploaded them; a release keeps them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn complete_bytes_are_dropped_while_no_release_names_them() {
    let node = Node::start().await;
    let bytes = image(6);
    let digest = upload(&node, &bytes).await;
    let drop_it = async || {
        let path = format!("/v1/artifacts/{digest}/upload");
        let request = node.request(Method::DELETE, &path);
        Answer::of(request.send().await.unwrap()).await
    };
    assert_eq!(drop_it().await.status, 204);
    let path = format!("/v1/artifacts/{digest}");
    node.get(&path).await.assert_problem(404, "not_found");

    upload(&node, &bytes).await;
    vendor(&node, "eve").await;
    let secret = SecretKey::from_seed([3; 32]);
    let manifest = ReleaseManifest {
        release: id("of-eve"),
        vendor: id("eve"),
        version: "1.0.0".parse().unwrap(),
        artifact: digest,
        size_bytes: bytes.len() as u64,
        hardware_classes: vec!["lamp-v2".into()],
        security_counter: 1,
        replaces_from: None,
        depends_on: Vec::new(),
        expires_ms: None,
        critical: false,
        provenance: None,
    };
    let release = SignedRelease::sign(&manifest, &secret);
    let publish = Action::Firmware(FirmwareAction::Publish { release });
    let transaction = Transaction {
        sender: id("eve"),
        ..node.transaction(publish)
    };
    let chain_id = node.genesis.chain_id();
    let signed = SignedTransaction::sign(&transaction, Encoding::Json, &chain_id, &secret);
    let answer = node.submit(&signed, "").await.ok();
    assert_eq!(answer["receipt"]["outcome"], "succeeded", "{answer}");
    drop_it().await.assert_problem(409, "artifact.published");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_without_the_digest_are_dropped() {
    let node = Node::start().await;
    let bytes = image(1);
    let digest = Hash::of(&bytes);
    let mut flipped = bytes.clone();
    flipped[33_333] ^= 0x10;
    begin(&node, &digest, bytes.len()).await.ok();
    append(&node, &digest, 0, &flipped[..40_000]).await.ok();
    let refused = append(&node, &digest, 40_000, &flipped[40_000..]).await;
    refused.assert_problem(422, "artifact.digest");
    assert_eq!(assert_offset(&node, &digest).await.status, 404);
    assert_eq!(upload(&node, &bytes).await, digest);

    begin(&node, &Hash::ZERO, 0)
        .await
        .assert_problem(400, "artifact.size");
    begin(&node, &Hash::ZERO, 1 << 40)
        .await
        .assert_problem(400, "artifact.size");
    let large = vec![0; 4 * 1024 * 1024 + 1];
    append(&node, &digest, 0, &large)
        .await
        .assert_problem(413, "body.too_large");
    let more = r#"{"digest":"","size_bytes":1}"#;
    let request = node.request(Method::POST, "/v1/artifacts").body(more);
    let untyped = Answer::of(request.send().await.unwrap()).await;
    untyped.assert_problem(415, "content_type");
    let request = node.request(Method::POST, "/v1/artifacts").body(more);
    let request = request.header("content-type", "application/json");
    let malformed = Answer::of(request.send().await.unwrap()).await;
    malformed.assert_problem(400, "body.malformed");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_artifact_is_read_in_ranges() {
    let node = Node::start().await;
    let bytes = image(2);
    let digest = upload(&node, &bytes).await;
    let path = format!("/v1/artifacts/{digest}");
    // Gateways read without a token.
    let ranged = async |range: &str| -> Response {
        node.open(Method::GET, &path)
            .header("range", range)
            .send()
            .await
            .unwrap()
    };

    let whole = node.open(Method::GET, &path).send().await.unwrap();
    assert_eq!(whole.headers()["etag"], format!("\"{digest}\""));
    assert_eq!(whole.headers()["accept-ranges"], "bytes");
    assert_eq!(whole.bytes().await.unwrap(), bytes);
    let head = node.open(Method::HEAD, &path).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], "50000");

    for (range, first, last) in [
        ("bytes=0-9", 0, 9),
        ("bytes=16380-16390", 16_380, 16_390),
        ("bytes=49990-", 49_990, 49_999),
        ("bytes=-5", 49_995, 49_999),
        ("bytes=-99999", 0, 49_999),
        ("bytes=40000-99999", 40_000, 49_999),
    ] {
        let part = ranged(range).await;
        assert_eq!(part.status(), 206, "{range}");
        assert_eq!(
            part.headers()["content-range"],
            format!("bytes {first}-{last}/50000")
        );
        assert_eq!(part.bytes().await.unwrap(), bytes[first..=last], "{range}");
    }
    for range in ["bytes=50000-", "bytes=50000-60000", "bytes=-0"] {
        let answer = Answer::of(ranged(range).await).await;
        answer.assert_problem(416, "artifact.range");
        assert_eq!(answer.header("content-range"), "bytes */50000");
    }
    for range in ["bytes=0-1,5-6", "lines=0-1", "bytes=9-3", "bytes=a-b"] {
        assert_eq!(ranged(range).await.status(), 200, "{range} is ignored");
    }
    let changed = node.open(Method::GET, &path).header("range", "bytes=0-9");
    let changed = changed
        .header("if-range", "\"other\"")
        .send()
        .await
        .unwrap();
    assert_eq!(changed.status(), 200);
    let same = node.open(Method::GET, &path).header("range", "bytes=0-9");
    let same = same
        .header("if-range", format!("\"{digest}\""))
        .send()
        .await
        .unwrap();
    assert_eq!(same.status(), 206);

    let groups = node
        .open(Method::GET, &format!("{path}/groups"))
        .send()
        .await
        .unwrap();
    assert_eq!(
        groups.bytes().await.unwrap().len(),
        50_000usize.div_ceil(16 * 1024) * 32
    );
    node.stop().await;
}
