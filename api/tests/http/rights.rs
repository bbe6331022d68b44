//! What the accounts of each role may read, over HTTP, the feed and proofs.

use std::collections::BTreeMap;
use std::sync::Arc;

use lamplighter_ledger::{LedgerConfig, SystemClock};
use lamplighter_types::{
    Action, DevicesAction, GenesisAccount, Grant, KeyPurpose, Role, Scope, SecretKey, UsersAction,
};
use reqwest::{Method, Response};
use serde_json::Value;

use crate::node::{Answer, Node, STEP_TIMEOUT, admin, genesis, id};
use crate::read::fill;

/// The accounts of the test with their role and district.
const PEOPLE: [(&str, Option<(Role, &str)>); 6] = [
    ("auditor", Some((Role::Auditor, "city"))),
    ("north-auditor", Some((Role::Auditor, "city/north"))),
    ("north", Some((Role::Operator, "city/north"))),
    ("south", Some((Role::Approver, "city/south"))),
    ("vendor", Some((Role::Vendor, "city"))),
    ("nobody", None),
];

fn secret(name: &str) -> SecretKey {
    let mut seed = [9; 32];
    seed[..name.len()].copy_from_slice(name.as_bytes());
    SecretKey::from_seed(seed)
}

struct City {
    node: Node,
    tokens: BTreeMap<&'static str, String>,
}

fn scope(name: &str) -> Scope {
    match name {
        "city" => Scope::city(),
        district => district["city/".len()..].parse().unwrap(),
    }
}

impl City {
    /// Two districts with a lamp each; that in the north has the gateway `gw`.
    async fn start() -> Self {
        let mut genesis = genesis();
        for (name, role) in PEOPLE {
            let grants = role.map(|(role, district)| Grant::founding(role, scope(district)));
            genesis.accounts.push(GenesisAccount {
                account: id(name),
                name: name.to_owned(),
                key: secret(name).public(),
                grants: grants.into_iter().collect(),
            });
        }
        let reader = (id("admin"), admin());
        let clock = Arc::new(SystemClock);
        let node = Node::start_in(LedgerConfig::new(1), genesis, clock, reader).await;
        let chain_id = node.genesis.chain_id();
        let gateway = UsersAction::RegisterGateway {
            account: id("gw"),
            organization: id("city"),
            district: "north".parse().unwrap(),
            key: secret("gw").public(),
            proof: secret("gw").prove(KeyPurpose::Account, &chain_id, &id("gw")),
        };
        node.act(Action::Users(gateway)).await;
        node.act(node.devices(&["lamp-1"], "north")).await;
        node.act(node.devices(&["lamp-2"], "south")).await;
        let (device, gateway) = (id("lamp-1"), Some(id("gw")));
        node.act(Action::Devices(DevicesAction::AssignGateway {
            device,
            gateway,
        }))
        .await;
        let mut tokens = BTreeMap::new();
        for name in PEOPLE.iter().map(|(name, _)| *name).chain(["gw"]) {
            tokens.insert(name, node.login(&id(name), &secret(name)).await);
        }
        Self { node, tokens }
    }

    async fn get(&self, account: &str, path: &str) -> Answer {
        let request = self.node.open(Method::GET, path);
        let sent = request.bearer_auth(&self.tokens[account]).send();
        Answer::of(sent.await.unwrap()).await
    }

    /// The names of the devices in a list.
    async fn devices(&self, account: &str, path: &str) -> Vec<String> {
        let list = self.get(account, path).await.ok();
        let names = list["items"].as_array().unwrap().iter();
        names
            .map(|item| item["device"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_account_reads_the_devices_of_its_scope() {
    let city = City::start().await;
    let (both, north, south) = (vec!["lamp-1", "lamp-2"], vec!["lamp-1"], vec!["lamp-2"]);
    for (account, expected) in [
        ("auditor", both),
        ("north-auditor", north.clone()),
        ("north", north.clone()),
        ("south", south),
        ("gw", north),
        ("vendor", vec![]),
        ("nobody", vec![]),
    ] {
        for query in ["", "?owner=city", "?limit=1000"] {
            let path = format!("/v1/devices{query}");
            assert_eq!(
                city.devices(account, &path).await,
                expected,
                "{account} {path}"
            );
        }
        for device in ["lamp-1", "lamp-2"] {
            for part in [
                "",
                "/state",
                "/history",
                "/events",
                "/alarms",
                "/deployments",
                "/config",
            ] {
                let path = format!("/v1/devices/{device}{part}");
                let answer = city.get(account, &path).await;
                if expected.contains(&device) {
                    assert_eq!(answer.status, 200, "{account} {path}");
                } else {
                    answer.assert_problem(403, "read.scope");
                }
            }
            let path = format!("/v1/devices/{device}?proof=true");
            let status = if expected.contains(&device) { 200 } else { 403 };
            assert_eq!(
                city.get(account, &path).await.status,
                status,
                "{account} {path}"
            );
        }
        // What does not exist is no question of rights.
        let missing = city.get(account, "/v1/devices/lamp-9").await;
        missing.assert_problem(404, "not_found");
    }
    city.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_are_for_their_sender_and_auditors_and_blocks_for_auditors() {
    let city = City::start().await;
    let answer = city.node.act(city.node.devices(&["lamp-3"], "north")).await;
    let hash = answer["transaction"].as_str().unwrap().to_owned();
    let (height, path) = (&answer["height"], format!("/v1/transactions/{hash}"));
    for (account, status) in [
        ("auditor", 200),
        ("north", 403),
        ("gw", 403),
        ("nobody", 403),
    ] {
        for path in [
            path.clone(),
            format!("/v1/blocks/{height}"),
            format!("/v1/proofs/transactions/{hash}"),
            format!("/v1/proofs/transactions/{hash}?receipt=true"),
        ] {
            assert_eq!(
                city.get(account, &path).await.status,
                status,
                "{account} {path}"
            );
        }
        for path in [
            "/v1/headers/latest",
            "/v1/certificates/latest",
            "/v1/policies",
        ] {
            assert_eq!(
                city.get(account, path).await.status,
                200,
                "{account} {path}"
            );
        }
    }
    // Its own: a transaction that fails is in a block, too.
    let transaction = lamplighter_types::Transaction {
        sender: id("nobody"),
        sequence: 1,
        expires_ms: crate::node::now_ms() + 60_000,
        action: city.node.organization("mine"),
    };
    let signed = lamplighter_types::SignedTransaction::sign(
        &transaction,
        lamplighter_types::Encoding::Json,
        &city.node.genesis.chain_id(),
        &secret("nobody"),
    );
    let sent = city.node.submit(&signed, "?wait=certified").await.ok();
    let hash = sent["transaction"].as_str().unwrap().to_owned();
    for path in ["transactions", "proofs/transactions"] {
        let path = format!("/v1/{path}/{hash}");
        assert_eq!(city.get("nobody", &path).await.status, 200, "{path}");
        assert_eq!(city.get("gw", &path).await.status, 403, "{path}");
    }
    assert_eq!(city.get("nobody", "/v1/users/nobody").await.status, 200);
    city.get("nobody", "/v1/users/admin")
        .await
        .assert_problem(403, "read.scope");
    assert_eq!(city.get("north", "/v1/users/gw").await.status, 200);
    assert_eq!(city.get("south", "/v1/users/gw").await.status, 403);
    city.node.stop().await;
}

/// No route is forgotten: an account without roles gets nothing that is not for everybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_asks_for_rights() {
    let city = City::start().await;
    let document = city.node.get("/openapi.json").await.ok();
    let common = [
        "headers",
        "certificates",
        "organizations",
        "policies",
        "iotregistry",
        "uploads",
        // Each account has sessions of its own; sessions.rs tests them.
        "auth",
    ];
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let open = item["get"]["security"].as_array().is_none_or(Vec::is_empty);
        let is_common = common
            .iter()
            .any(|name| path.starts_with(&format!("/v1/{name}")));
        if open || is_common || path.starts_with("/v1/feed") {
            continue;
        }
        asked += 1;
        assert!(item["get"]["responses"].get("403").is_some(), "{path}");
        let text = item["get"]["description"].as_str().unwrap_or_default();
        assert!(text.contains("Who reads it: "), "{path}: {text}");
        let filled = fill(path);
        let all = city.get("auditor", &filled).await;
        let none = city.get("nobody", &filled).await;
        match (all.status.as_u16(), none.status.as_u16()) {
            (200, 403) | (404, 403 | 404) => {}
            (200, 200) if path == "/v1/users" => {
                let accounts = none.json["items"].as_array().unwrap();
                assert!(
                    accounts.iter().all(|a| a["account"] == "nobody"),
                    "{accounts:?}"
                );
            }
            (200, 200) => assert_eq!(none.json["items"], Value::Array(Vec::new()), "{path}"),
            other => panic!("{filled}: {other:?}"),
        }
    }
    assert!(asked >= 25, "{asked}");
    city.node.stop().await;
}

/// The devices in the events of a stream until one of the last device comes.
async fn followed(city: &City, account: &str, last: &str) -> Vec<String> {
    let mut stream = open(city, account, "?after=0.0&kind=device_registered").await;
    let (mut text, mut found) = (String::new(), Vec::new());
    let read = async {
        while !found.iter().any(|device| device == last) {
            let chunk = stream.chunk().await.unwrap().expect("the stream goes on");
            text += std::str::from_utf8(&chunk).unwrap();
            let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
            let events = data.filter_map(|data| serde_json::from_str::<Value>(data).ok());
            found = events
                .map(|e| {
                    e["notification"]["place"]["device"]
                        .as_str()
                        .unwrap()
                        .to_owned()
                })
                .collect();
        }
    };
    tokio::time::timeout(STEP_TIMEOUT, read).await.unwrap();
    found
}

async fn open(city: &City, account: &str, query: &str) -> Response {
    let url = format!("{}/v1/feed{query}", city.node.base());
    let request = city.node.http.get(url).bearer_auth(&city.tokens[account]);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    response
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_feed_is_scoped_and_ends_with_the_role() {
    let city = City::start().await;
    city.node.act(city.node.devices(&["lamp-3"], "north")).await;
    city.node.act(city.node.devices(&["lamp-4"], "south")).await;
    assert_eq!(
        followed(&city, "north", "lamp-3").await,
        ["lamp-1", "lamp-3"]
    );
    assert_eq!(
        followed(&city, "south", "lamp-4").await,
        ["lamp-2", "lamp-4"]
    );
    let all = ["lamp-1", "lamp-2", "lamp-3", "lamp-4"];
    assert_eq!(followed(&city, "auditor", "lamp-4").await, all);

    let mut stream = open(&city, "north", "").await;
    let revoke = UsersAction::Revoke {
        account: id("north"),
        role: Role::Operator,
        scope: "north".parse().unwrap(),
    };
    city.node.act(Action::Users(revoke)).await;
    let rest = async { while let Ok(Some(_)) = stream.chunk().await {} };
    let ended = tokio::time::timeout(STEP_TIMEOUT, rest).await;
    ended.expect("the stream ends with the role");
    let now = city.get("north", "/v1/devices/lamp-1").await;
    now.assert_problem(403, "read.scope");
    city.node.stop().await;
}
