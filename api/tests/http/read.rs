//! Reads: tokens, heights, pages, proofs.

use lamplighter_types::login::{Audience, TokenRequest};
use lamplighter_types::proof::{ProofBundle, ProofFile, ProvenRecord};
use lamplighter_types::{
    Action, ConfigAction, ConfigTarget, Device, Hash, SecretKey, UsersAction, codec,
};
use reqwest::Method;
use serde_json::Value;

use crate::node::{Answer, Node, STEP_TIMEOUT, admin, id};

/// Paths that need no token.
const OPEN: [&str; 7] = [
    "/v1/status",
    "/v1/genesis",
    "/v1/keys/{key}",
    "/v1/nodes",
    "/v1/proofs/validators",
    "/v1/artifacts/{digest}",
    "/v1/artifacts/{digest}/groups",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_documented_read_answers_and_wants_its_token() {
    let node = Node::start().await;
    node.act(node.devices(&["lamp-1"], "north")).await;
    let document = node.get("/openapi.json").await.ok();
    let mut found = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        if item.get("get").is_none() || path.starts_with("/v1/feed") {
            continue;
        }
        let filled = fill(path);
        let answer = node.get(&filled).await;
        match answer.status.as_u16() {
            200 => found += 1,
            404 => answer.assert_problem(404, code_of_missing(path)),
            status => panic!("{filled}: {status} {}", answer.json),
        }
        let open = OPEN.contains(&path.as_str());
        let stranger = node.open(Method::GET, &filled).send().await.unwrap();
        let stranger = Answer::of(stranger).await;
        match open {
            true => assert_eq!(stranger.status, answer.status, "{path}"),
            false => stranger.assert_problem(401, "auth.missing"),
        }
    }
    assert!(found >= 23, "{found} of the routes found something");
    node.stop().await;
}

fn code_of_missing(path: &str) -> &'static str {
    match path.starts_with("/v1/iotregistry/") {
        true => "iotregistry.not_found",
        false => "not_found",
    }
}

pub fn fill(path: &str) -> String {
    let key = admin().public().to_string();
    let zero = Hash::ZERO.to_string();
    let parts = [
        ("{account}", "admin"),
        ("{organization}", "city"),
        ("{key}", &key),
        ("{device}", "lamp-1"),
        ("{height}", "1"),
        ("{index}", "0"),
        ("{sequence}", "1"),
        ("{release}", "none"),
        ("{rollout}", "none"),
        ("{proposal}", "none"),
        ("{digest}", &zero),
        ("{hash}", &zero),
    ];
    let filled = parts.iter().fold(path.to_owned(), |text, (name, value)| {
        text.replace(name, value)
    });
    assert!(!filled.contains('{'), "a sample for {filled}");
    let query = match path {
        "/v1/iotregistry/registrant" => "?RegistrantPubkey=00",
        "/v1/iotregistry/thing" => "?Alias=none",
        "/v1/iotregistry/spec" => "?SpecName=none",
        _ => "",
    };
    filled + query
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_needs_a_signed_challenge() {
    let node = Node::start().await;
    let (account, chain_id) = (id("admin"), node.genesis.chain_id());
    let login = async |answer: &TokenRequest| {
        let sent = node
            .open(Method::POST, "/v1/auth/token")
            .json(answer)
            .send();
        Answer::of(sent.await.unwrap()).await
    };
    let challenge = node.challenge(&account, &admin()).await;
    let good = TokenRequest::sign(
        &chain_id,
        &account,
        Audience::HttpRead,
        &challenge,
        &admin(),
    );
    let token = login(&good).await.ok()["token"]
        .as_str()
        .unwrap()
        .to_owned();

    let mut other = good.clone();
    other.challenge = Hash::of(b"mine");
    login(&other).await.assert_problem(401, "auth.refused");
    let mut forged = good.clone();
    forged.signature.0[5] ^= 1;
    login(&forged).await.assert_problem(401, "auth.refused");
    let unknown = SecretKey::from_seed([77; 32]);
    let unregistered = node.challenge(&account, &unknown).await;
    let unregistered = TokenRequest::sign(
        &chain_id,
        &account,
        Audience::HttpRead,
        &unregistered,
        &unknown,
    );
    login(&unregistered)
        .await
        .assert_problem(401, "auth.refused");
    let mut elsewhere = challenge.clone();
    elsewhere.node = 2;
    let elsewhere = TokenRequest::sign(
        &chain_id,
        &account,
        Audience::HttpRead,
        &elsewhere,
        &admin(),
    );
    login(&elsewhere).await.assert_problem(401, "auth.refused");

    let read = async |token: &str| {
        let sent = node
            .open(Method::GET, "/v1/devices")
            .bearer_auth(token)
            .send();
        Answer::of(sent.await.unwrap()).await
    };
    read(&token).await.ok();
    for bad in [
        "",
        "x",
        "a.b",
        &token[1..],
        &format!("{token}A"),
        &"A".repeat(5_000),
    ] {
        let answer = read(bad).await;
        assert_eq!(answer.status, 401, "{bad}");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_ends_with_its_key() {
    let node = Node::start().await;
    let (secret, account) = (SecretKey::from_seed([9; 32]), id("anna"));
    let (organization, name, key) = (id("city"), "Anna".to_owned(), secret.public());
    let user = UsersAction::RegisterUser {
        account: account.clone(),
        organization,
        name,
        key,
        proof: node.proof(&secret, &account),
    };
    node.act(Action::Users(user)).await;
    let token = node.login(&account, &secret).await;
    let read = async || {
        let sent = node
            .open(Method::GET, "/v1/devices")
            .bearer_auth(&token)
            .send();
        Answer::of(sent.await.unwrap()).await
    };
    read().await.ok();
    let upload = node.open(Method::POST, "/v1/artifacts").bearer_auth(&token);
    let upload = upload.json(&serde_json::json!({ "digest": Hash::ZERO, "size_bytes": 1 }));
    Answer::of(upload.send().await.unwrap())
        .await
        .assert_problem(403, "forbidden");
    node.act(Action::Users(UsersAction::RevokeKey { account, key }))
        .await;
    read().await.assert_problem(401, "auth.refused");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_has_its_height_and_proof() {
    let node = Node::start().await;
    let done = node.act(node.devices(&["lamp-1"], "north/harbour")).await;
    let height = done["height"].as_u64().unwrap();

    let asked = node
        .get(&format!(
            "/v1/devices/lamp-1?proof=true&min_height={height}"
        ))
        .await;
    let seen: u64 = asked.header("ledger-height").parse().unwrap();
    assert!(seen >= height);
    let json = asked.ok();
    let device: Device = serde_json::from_value(json["record"].clone()).unwrap();
    assert_eq!(device.device, id("lamp-1"));
    let bundle: ProofBundle = serde_json::from_value(json["proof"].clone()).unwrap();
    let proven = bundle.verify(&node.genesis).unwrap();
    let ProvenRecord::State {
        value: Some(value), ..
    } = proven.record
    else {
        panic!("no record: {:?}", proven.record)
    };
    assert_eq!(codec::decode::<Device>(&value).unwrap(), device);

    let hash = done["transaction"].as_str().unwrap();
    for (query, receipt) in [("", false), ("?receipt=true", true)] {
        let text = node
            .get(&format!("/v1/proofs/transactions/{hash}{query}"))
            .await
            .ok();
        let bundle: ProofBundle = serde_json::from_value(text).unwrap();
        let proven = bundle.verify(&node.genesis).unwrap();
        assert_eq!(proven.height, height);
        assert_eq!(
            matches!(proven.record, ProvenRecord::Receipt { .. }),
            receipt
        );
        let mut other = node.genesis.clone();
        other.name.push('x');
        assert!(bundle.verify(&other).is_err());
    }

    let desired = ConfigAction::SetDesired {
        target: ConfigTarget::Fleet,
        document: r#"{"dim":40}"#.to_owned(),
        replaces_version: 0,
    };
    node.act(Action::Config(desired)).await;
    let paths = [
        "/v1/devices/lamp-1",
        "/v1/devices/lamp-1/state",
        "/v1/users/admin",
        "/v1/organizations/city",
        "/v1/config",
    ];
    for path in paths {
        // What stands beside the proof is what is proven, and of the same height.
        let asked = node.get(&format!("{path}?proof=true")).await;
        let height: u64 = asked.header("ledger-height").parse().unwrap();
        let text = asked.ok().to_string();
        let file = ProofFile::from_json(text.as_bytes()).unwrap();
        let (proven, statement) = file.verify(&node.genesis).unwrap();
        assert_eq!(proven.height, height, "{path}");
        assert!(statement.record.is_object(), "{path}");
    }

    let next = node.handle.head().height + 1;
    let waited = node.get(&format!("/v1/devices?min_height={next}")).await;
    assert!(waited.header("ledger-height").parse::<u64>().unwrap() >= next);
    let current = node.get("/v1/devices/lamp-1?linearizable=true").await;
    let of: u64 = current.header("ledger-height").parse().unwrap();
    current.ok();
    assert!(of >= next, "{of}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_read_in_pages() {
    let node = Node::start().await;
    let names: Vec<String> = (10..35).map(|n| format!("lamp-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    node.act(node.devices(&names, "north")).await;
    node.act(node.devices(&["bin-1"], "south")).await;

    let (mut seen, mut query) = (Vec::new(), "?limit=10&district=north".to_owned());
    loop {
        let page = node.get(&format!("/v1/devices{query}")).await.ok();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 10);
        seen.extend(
            items
                .iter()
                .map(|d| d["device"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else {
            break;
        };
        query = format!("?limit=10&district=north&after={next}");
    }
    assert_eq!(seen, names);
    let all = node.get("/v1/devices").await.ok();
    assert_eq!(all["items"].as_array().unwrap().len(), 26);
    assert_eq!(all.get("next"), None);

    let history = node.get("/v1/devices/bin-1/history").await.ok();
    assert_eq!(history["items"][0]["receipt"]["outcome"], "succeeded");
    for wrong in ["?after=NO", "?limit=x", "?color=red", "?limit=1&limit=2"] {
        node.get(&format!("/v1/devices{wrong}"))
            .await
            .assert_problem(400, "parameter");
    }
    node.get("/v1/devices/UPPER")
        .await
        .assert_problem(400, "parameter");
    node.get("/v1/devices/none")
        .await
        .assert_problem(404, "not_found");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chain_can_be_read() {
    let node = Node::start().await;
    let done = node.act(node.organization("north")).await;
    let height = done["height"].as_u64().unwrap();
    node.handle
        .wait_certified(height, STEP_TIMEOUT)
        .await
        .unwrap();
    let block = node.get(&format!("/v1/blocks/{height}")).await.ok();
    assert_eq!(block["block"]["transactions"].as_array().unwrap().len(), 1);
    assert_eq!(block["receipts"][0]["transaction"], done["transaction"]);
    let header = node.get(&format!("/v1/headers/{height}")).await.ok();
    assert_eq!(header, block["block"]["header"]);
    let certificate = node.get("/v1/certificates/latest").await.ok();
    assert!(certificate["height"].as_u64().unwrap_or(height) >= height);
    let genesis = node.open(Method::GET, "/v1/genesis").send().await.unwrap();
    let genesis: Value = genesis.json().await.unwrap();
    assert_eq!(genesis, serde_json::to_value(&node.genesis).unwrap());
    let key = node
        .get(&format!("/v1/keys/{}", admin().public()))
        .await
        .ok();
    assert_eq!(key["account"], "admin");
    assert_eq!(key["highest_sequence"], 1);
    node.get("/v1/blocks/99999999")
        .await
        .assert_problem(404, "not_found");
    node.get("/v1/blocks/first")
        .await
        .assert_problem(400, "parameter");
    node.stop().await;
}
