//! Authors, times and histories of transactions, blocks and records.

use lamplighter_ledger::DiskFull;
use lamplighter_types::{
    Action, ConfigAction, ConfigTarget, DevicesAction, Hash, Id, Role, Scope, SecretKey,
    UsersAction,
};
use serde_json::{Value, json};

use crate::node::{Answer, Node, admin, id};
use crate::scenario::{self, Client, printed};

/// The time of the block of a transaction.
async fn time_of(node: &Node, done: &Value) -> Value {
    let header = node.get(&format!("/v1/headers/{}", done["height"])).await;
    header.ok()["timestamp_ms"].clone()
}

/// Asserts that an entry or a change has the author, time and transaction.
#[track_caller]
fn assert_by_admin(answer: &Value, done: &Value, time_ms: &Value) {
    assert_eq!(answer["author"], "admin", "{answer}");
    assert_eq!(answer["key"], admin().public().to_string(), "{answer}");
    assert_eq!(answer["transaction"], done["transaction"], "{answer}");
    assert_eq!(answer["height"], done["height"], "{answer}");
    assert_eq!(&answer["time_ms"], time_ms, "{answer}");
}

fn user(node: &Node, name: &str, secret: &SecretKey) -> Action {
    Action::Users(UsersAction::RegisterUser {
        account: id(name),
        organization: id("city"),
        name: "Anna".into(),
        key: secret.public(),
        proof: node.proof(secret, &id(name)),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_has_its_author_action_and_time() {
    let node = Node::start().await;
    let transaction = node.transaction(node.organization("north"));
    let signed = node.sign_for(&transaction, &node.genesis.chain_id());
    let done = node.submit(&signed, "").await.ok();
    let path = format!("/v1/transactions/{}", done["transaction"].as_str().unwrap());
    let answer = node.get(&path).await.ok();
    assert_eq!(answer["sender"], "admin");
    assert_eq!(answer["key"], admin().public().to_string());
    assert_eq!(answer["sequence"], transaction.sequence);
    assert_eq!(answer["expires_ms"], transaction.expires_ms);
    assert_eq!(
        answer["action"],
        json!(transaction.action),
        "as it was sent"
    );
    assert_eq!(answer["time_ms"], time_of(&node, &done).await);
    for field in ["transaction", "height", "index", "receipt"] {
        assert_eq!(answer[field], done[field], "{answer}");
    }
    let stranger = node.open(reqwest::Method::GET, &path).send().await.unwrap();
    let stranger = Answer::of(stranger).await;
    stranger.assert_problem(401, "auth.missing");

    let again = node.sign(node.organization("north"));
    let failed = node.submit(&again, "").await.ok();
    let path = format!(
        "/v1/transactions/{}",
        failed["transaction"].as_str().unwrap()
    );
    let answer = node.get(&path).await.ok();
    assert_eq!(answer["sender"], "admin");
    assert_eq!(
        answer["receipt"]["outcome"]["failed"]["code"],
        "users.organization_exists"
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_has_its_transactions_decoded() {
    let node = Node::start().await;
    let transaction = node.transaction(node.organization("north"));
    let chain_id = node.genesis.chain_id();
    let signed = node.sign_for(&transaction, &chain_id);
    let done = node.submit(&signed, "").await.ok();
    let block = node
        .get(&format!("/v1/blocks/{}", done["height"]))
        .await
        .ok();
    assert_eq!(block["block"]["transactions"][0], json!(signed));
    let decoded = &block["transactions"][0];
    assert_eq!(block["transactions"].as_array().unwrap().len(), 1);
    assert_eq!(decoded["transaction"], signed.hash(&chain_id).to_string());
    assert_eq!(decoded["sender"], "admin");
    assert_eq!(decoded["key"], admin().public().to_string());
    assert_eq!(decoded["action"], json!(transaction.action));
    node.stop().await;
}

/// Long reads that take all turns until they are ended.
pub struct HeldReads {
    ends: Vec<std::sync::mpsc::SyncSender<()>>,
    readers: Vec<tokio::task::JoinHandle<()>>,
}

/// Takes all turns of long reads, the first one for `account`.
pub async fn hold_long_reads(node: &Node, account: Option<&Id>) -> HeldReads {
    let (begun, mut begins) = tokio::sync::mpsc::channel(16);
    let all = lamplighter_ledger::long_reads_at_once();
    let (ends, readers) = (0..all)
        .map(|number| {
            let (end, ended) = std::sync::mpsc::sync_channel::<()>(1);
            let (handle, begun) = (node.handle.clone(), begun.clone());
            let first = account.filter(|_| number == 0).cloned();
            let account = first.unwrap_or_else(|| id(&format!("reader-{number}")));
            let read = async move {
                let wait = move || (begun.blocking_send(()), ended.recv());
                let _ = handle.read_in_turn(Some(&account), wait).await;
            };
            (end, tokio::spawn(read))
        })
        .unzip();
    for _ in 0..all {
        begins.recv().await.unwrap();
    }
    HeldReads { ends, readers }
}

impl HeldReads {
    pub async fn end(self) {
        drop(self.ends);
        for reader in self.readers {
            reader.await.unwrap();
        }
    }
}

/// No more histories are read at once than feeds, however many are requested.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_is_read_in_turn() {
    let node = Node::start().await;
    let held = hold_long_reads(&node, None).await;
    let mut history = Box::pin(node.get("/v1/users/admin/history"));
    // Other reads are done meanwhile, one after the other, and this one is not.
    let others = async {
        for _ in 0..20 {
            node.get("/v1/users/admin").await.ok();
        }
    };
    tokio::select! {
        biased;
        _ = &mut history => panic!("it has not waited for its turn"),
        () = others => {}
    }
    held.end().await;
    history.await.ok();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_has_its_last_change() {
    let node = Node::start().await;
    let registered = node
        .act(user(&node, "anna", &SecretKey::from_seed([9; 32])))
        .await;
    let account = id("anna");
    let grant = UsersAction::Grant {
        account,
        role: Role::Operator,
        scope: Scope::city(),
    };
    let granted = node.act(Action::Users(grant)).await;
    let history = node.get("/v1/users/anna/history").await.ok();
    let [newest, oldest] = &history["items"].as_array().unwrap()[..] else {
        panic!("{history}");
    };
    assert_by_admin(newest, &granted, &time_of(&node, &granted).await);
    assert_by_admin(oldest, &registered, &time_of(&node, &registered).await);
    let fact = &newest["receipt"]["notifications"][0]["fact"];
    assert_eq!(fact["role_granted"]["role"], "operator");

    let first = node.get("/v1/users/anna/history?limit=1").await.ok();
    assert_eq!(first["items"][0], *newest);
    let after = first["next"].as_str().unwrap();
    let rest = node
        .get(&format!("/v1/users/anna/history?limit=1&after={after}"))
        .await;
    assert_eq!(rest.ok()["items"][0], *oldest);
    node.get("/v1/users/anna/history?after=x")
        .await
        .assert_problem(400, "parameter");

    let record = node.get("/v1/users/anna").await.ok();
    assert_by_admin(
        &record["changed"],
        &granted,
        &time_of(&node, &granted).await,
    );
    let proven = node.get("/v1/users/anna?proof=true").await.ok();
    assert_eq!(proven.get("changed"), None, "no proof covers it");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_organizations_and_documents_have_their_last_change() {
    let node = Node::start().await;
    let organization = node.act(node.organization("north")).await;
    node.act(node.devices(&["lamp-1", "lamp-2"], "north")).await;
    let suspend = DevicesAction::Suspend {
        device: id("lamp-1"),
        reason: "hit by a truck".into(),
    };
    let suspended = node.act(Action::Devices(suspend)).await;
    let target = ConfigTarget::Model {
        model: "lamp".into(),
    };
    let desired = node.act(Action::Config(ConfigAction::SetDesired {
        target,
        document: r#"{"dim":60}"#.into(),
        replaces_version: 0,
    }));
    let desired = desired.await;
    for (record, history, done, entries) in [
        (
            "/v1/organizations/north",
            "/v1/organizations/north/history",
            &organization,
            1,
        ),
        (
            "/v1/devices/lamp-1",
            "/v1/devices/lamp-1/history",
            &suspended,
            2,
        ),
        (
            "/v1/config?model=lamp",
            "/v1/config/history?model=lamp",
            &desired,
            1,
        ),
    ] {
        let time_ms = time_of(&node, done).await;
        let found = node.get(history).await.ok();
        assert_eq!(found["items"].as_array().unwrap().len(), entries, "{found}");
        assert_by_admin(&found["items"][0], done, &time_ms);
        let found = node.get(record).await.ok();
        assert_by_admin(&found["changed"], done, &time_ms);
    }
    for nothing in [
        "/v1/config/history",
        "/v1/rollouts/none/history",
        "/v1/governance/history",
    ] {
        let found = node.get(nothing).await.ok();
        assert_eq!(found["items"], json!([]), "{nothing}");
    }
    node.get("/v1/config/history?model=a&device=b")
        .await
        .assert_problem(400, "parameter");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_of_a_node_is_an_object_and_a_sentence() {
    let node = Node::start().await;
    let full = DiskFull {
        free_bytes: 0,
        reserve_bytes: 2 << 20,
    };
    node.handle.set_disk_full(Some(full));
    let status = node.get("/v1/status").await.ok();
    let alarm = &status["alarms"][0];
    assert_eq!(alarm["kind"], "disk_full", "{status}");
    assert_eq!(alarm["free_bytes"], 0);
    assert_eq!(alarm["reserve_bytes"], 2 << 20);
    assert!(
        alarm["time_ms"].as_u64().unwrap() > 1_700_000_000_000,
        "{alarm}"
    );
    let message = alarm["message"].as_str().unwrap();
    assert!(message.contains("the reserve is 2 MiB"), "{message}");
    let noticed = alarm["time_ms"].clone();
    node.handle.set_disk_full(Some(full));
    let status = node.get("/v1/status").await.ok();
    assert_eq!(
        status["alarms"][0]["time_ms"], noticed,
        "since when it is so"
    );
    node.handle.set_disk_full(None);
    assert_eq!(node.get("/v1/status").await.ok()["alarms"], json!([]));
    assert_ne!(status["chain_id"], Hash::ZERO.to_string());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_alarm_is_in_its_history_only() {
    let node = scenario::node().await;
    let mut client = Client::default();
    for step in printed() {
        client.send(&node, &step).await.ok();
    }
    // The alarm of lamp-1 was acknowledged and cleared, that of lamp-2 is open.
    let open = node.get("/v1/alarms").await.ok();
    let [alarm] = &open["items"].as_array().unwrap()[..] else {
        panic!("{open}");
    };
    assert_eq!(alarm["alarm"], json!({ "device": "lamp-2", "sequence": 2 }));
    let of_device = node.get("/v1/devices/lamp-2/alarms").await.ok();
    assert_eq!(of_device["items"], open["items"]);
    let closed = node.get("/v1/alarms/lamp-1/1").await;
    closed.assert_problem(404, "not_found");
    let history = node.get("/v1/alarms/lamp-1/1/history").await.ok();
    let facts = history["items"].as_array().unwrap().iter().map(|entry| {
        let fact = &entry["receipt"]["notifications"][0]["fact"];
        fact.as_object().unwrap().keys().next().unwrap().clone()
    });
    let facts: Vec<_> = facts.collect();
    assert_eq!(
        facts,
        ["alarm_cleared", "alarm_acknowledged", "alarm_raised"]
    );
    node.stop().await;
}
