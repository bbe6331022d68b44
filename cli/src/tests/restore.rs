//! The drill: a city is lost, and its ledger is read and proven from a backup.

use std::time::Duration;

use lamplighter_client::{Client, ClientConfig, Subject, Wait};
use lamplighter_node::{Node, NodeConfig};
use lamplighter_types::{Action, UsersAction};

use super::city::{City, id};

const WITHIN: Duration = Duration::from_secs(30);

fn config_text(node: u64, key: &str, data: &str) -> String {
    let rest: String = ["peer", "http", "admin", "mqtt"]
        .map(|name| format!("{name}_listen = \"127.0.0.1:0\"\n"))
        .concat();
    format!(
        "node = {node}\ngenesis = \"genesis.json\"\nkey = \"keys/{key}.key\"\n\
         data_dir = \"{data}\"\n{rest}"
    )
}

async fn fails(city: &City, command: &str, words: &str) {
    let failure = city.run("auditor", command).await.unwrap_err();
    assert!(failure.to_string().contains(words), "{failure}");
}

/// Everything that a backup must refuse to become.
async fn refuses_old_identities(city: &City) {
    for (name, node, key, data, words) in [
        (
            "founder",
            1,
            "node-1",
            "data-1",
            "was used with another data directory",
        ),
        (
            "same-id",
            1,
            "node-9",
            "data-2",
            "one that the ledger names",
        ),
        ("over", 9, "node-9", "data", "nothing is written over it"),
    ] {
        city.write(&format!("{name}.toml"), config_text(node, key, data));
        let command = format!("node restore --config {{{name}.toml}} --archive {{backup}}");
        fails(city, &command, words).await;
    }
    // Where the note that the key was used is lost as well.
    let lost = city.path("keys/node-1.key.used");
    std::fs::rename(&lost, city.path("used")).unwrap();
    city.write("lost.toml", config_text(9, "node-1", "data-3"));
    let command = "node restore --config {lost.toml} --archive {backup}";
    fails(city, command, "one that the ledger names").await;
    std::fs::rename(city.path("used"), &lost).unwrap();
    for data in ["data-1", "data-2", "data-3"] {
        assert!(!city.path(data).join("db").exists(), "{data}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_ledger_is_read_and_proven_from_its_backup() {
    let city = City::found().await;
    city.done("admin-1", "user organization lighting Street~lighting")
        .await;
    let keep = "audit ledger --folder {audit} --keep {backup}";
    city.done("auditor", keep).await;
    city.done("admin-1", "user organization harbour Harbour")
        .await;
    city.done("auditor", keep).await;
    let kept = city.node.handle.certified_height();
    city.done("admin-1", "user organization after The~backup")
        .await;
    let header = city.node.handle.header(kept).unwrap().unwrap().hash();

    city.key("node-9");
    Box::pin(refuses_old_identities(&city)).await;
    city.write("nine.toml", config_text(9, "node-9", "data-9"));
    let restore = "node restore --config {nine.toml} --archive {backup}";
    city.done("auditor", restore).await;
    fails(&city, restore, "nothing is written over it").await;

    let config = NodeConfig::read(&city.path("nine.toml")).unwrap();
    let node = Node::start(config).await.unwrap();
    let end = node.handle.head();
    assert!(
        end.height <= kept && end.height + 2 > kept,
        "{} of {kept}",
        end.height
    );
    let same = city.node.handle.header(end.height).unwrap().unwrap();
    assert_eq!(same.hash(), end.hash);
    assert!(end.height < kept || end.hash == header);
    assert_eq!(node.handle.certified_height(), end.height);
    assert_eq!(node.handle.last_signed().unwrap(), None);

    let secret = lamplighter_node::key::read(&city.path("keys/auditor.key")).unwrap();
    let public = lamplighter_node::key::read(&city.path("keys/node-9.key"))
        .unwrap()
        .public();
    let url = format!("https://{}#{public}", node.edges.http);
    let mut config = ClientConfig::new(vec![url])
        .with_genesis(city.genesis.clone())
        .with_key(id("auditor"), secret);
    config.deadline = Duration::from_secs(5);
    let client = Client::new(config).unwrap();
    for name in ["lighting", "harbour"] {
        let subject = Subject::Organization(id(name));
        client.proof_from_genesis(&subject).await.unwrap();
    }
    assert!(
        client
            .organization(&id("after"))
            .await
            .unwrap_err()
            .is_not_found()
    );
    // It orders nothing, so nobody is acknowledged what the lost city may contradict.
    let action = Action::Users(UsersAction::RegisterOrganization {
        organization: id("more"),
        name: "more".to_owned(),
    });
    client.submit(action, Wait::Committed).await.unwrap_err();
    assert_eq!(node.handle.head(), end);
    assert_eq!(node.handle.last_signed().unwrap(), None);
    tokio::time::timeout(WITHIN, node.shutdown())
        .await
        .unwrap()
        .unwrap();
    city.stop().await;
}
