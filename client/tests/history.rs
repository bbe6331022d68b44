//! Histories of records: the paths that the client requests, and the entries that it reads.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use lamplighter_client::{Client, ClientConfig, HistoryOf};
use lamplighter_types::{AlarmId, ConfigTarget, Hash, Id, Scope, SecretKey};
use serde_json::json;

type Asked = Arc<Mutex<Vec<String>>>;

fn id(text: &str) -> Id {
    text.parse().unwrap()
}

async fn node(State(asked): State<Asked>, request: Request) -> String {
    asked.lock().unwrap().push(request.uri().to_string());
    let key = SecretKey::from_seed([1; 32]).public();
    let receipt = json!({ "transaction": Hash([1; 32]), "outcome": "succeeded",
        "notifications": [{ "place": null, "fact": { "rollout_resumed": { "rollout": "r" } } }] });
    let by_anna = json!({ "cursor": "7.0", "height": 7, "time_ms": 5, "author": "anna", "key": key,
        "transaction": Hash([1; 32]), "receipt": receipt });
    let alone = json!({ "cursor": "6.1", "height": 6, "time_ms": 4, "author": null, "key": null,
        "transaction": Hash::ZERO, "receipt": receipt });
    json!({ "items": [by_anna, alone], "next": "6.1" }).to_string()
}

#[tokio::test]
async fn every_record_has_a_history() {
    let asked = Asked::default();
    let router = Router::new().fallback(node).with_state(asked.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let client = Client::new(ClientConfig::new(vec![url])).unwrap();

    let page = client
        .history(&HistoryOf::Rollout(id("r")), Some("9.0"))
        .await;
    let page = page.unwrap().value;
    assert_eq!(page.next.as_deref(), Some("6.1"));
    assert_eq!(page.items[0].author, Some(id("anna")));
    assert_eq!(
        (page.items[1].author.as_ref(), page.items[1].key),
        (None, None)
    );

    let model = ConfigTarget::Model {
        model: "A & B".into(),
    };
    let district = ConfigTarget::District {
        district: Scope::new("north").unwrap(),
    };
    let alarm = AlarmId {
        device: id("lamp-1"),
        sequence: 3,
    };
    for of in [
        HistoryOf::Device(id("lamp-1")),
        HistoryOf::Release(id("r-2")),
        HistoryOf::User(id("anna")),
        HistoryOf::Organization(id("city")),
        HistoryOf::Config(ConfigTarget::Fleet),
        HistoryOf::Config(model),
        HistoryOf::Config(district),
        HistoryOf::Alarm(alarm),
        HistoryOf::Proposal(id("join-5")),
        HistoryOf::Governance,
    ] {
        client.history(&of, None).await.unwrap();
    }
    let asked = asked.lock().unwrap();
    let asked: Vec<_> = asked
        .iter()
        .map(|path| path.trim_end_matches(['?', '&']))
        .collect();
    assert_eq!(
        asked,
        [
            "/v1/rollouts/r/history?after=9.0",
            "/v1/devices/lamp-1/history",
            "/v1/firmware/r-2/history",
            "/v1/users/anna/history",
            "/v1/organizations/city/history",
            "/v1/config/history",
            "/v1/config/history?model=A%20%26%20B",
            "/v1/config/history?district=north",
            "/v1/alarms/lamp-1/3/history",
            "/v1/proposals/join-5/history",
            "/v1/governance/history",
        ]
    );
}
