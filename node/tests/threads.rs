//! Edges and consensus do not wait for each other's threads.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use lamplighter_node::{Node, NodeConfig, key};
use lamplighter_system::unix_ms;
use lamplighter_types::{
    GENESIS_VERSION, Genesis, GenesisAccount, Grant, Id, Policies, Role, Scope, Validator,
    ValidatorSet,
};

/// Only a failing test waits so long.
const TIMEOUT: Duration = Duration::from_secs(20);

fn alone(dir: &Path) -> NodeConfig {
    let secret = key::generate().unwrap();
    key::write(&dir.join("key"), &secret).unwrap();
    let id = |text| Id::new(text).unwrap();
    let peer_listen = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer_listen = peer_listen.local_addr().unwrap();
    let genesis = Genesis {
        version: GENESIS_VERSION,
        name: "Test City".into(),
        created_ms: unix_ms(),
        validators: ValidatorSet {
            validators: vec![Validator {
                node: 1,
                account: id("node-1"),
                key: secret.public(),
                address: peer_listen.to_string(),
            }],
        },
        organization: id("city"),
        accounts: vec![GenesisAccount {
            account: id("admin"),
            name: "Administrator".into(),
            key: key::generate().unwrap().public(),
            grants: vec![Grant::founding(Role::Administrator, Scope::city())],
        }],
        policies: Policies::default(),
    };
    let text = serde_json::to_vec(&genesis).unwrap();
    std::fs::write(dir.join("genesis.json"), text).unwrap();
    let text = format!(
        "node = 1\ngenesis = \"genesis.json\"\nkey = \"key\"\ndata_dir = \"data\"\n\
         peer_listen = \"{peer_listen}\"\nhttp_listen = \"127.0.0.1:0\"\n\
         admin_listen = \"127.0.0.1:0\"\nmqtt_listen = \"127.0.0.1:0\"\n\
         [http]\ntls = \"off\"\n"
    );
    std::fs::write(dir.join("node.toml"), text).unwrap();
    NodeConfig::read(&dir.join("node.toml")).unwrap()
}

/// Sends a request while no task of this thread can run.
fn get(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let request = "GET /v1/genesis HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The ledger and consensus have this one thread. While it is busy, the edges still answer; so
/// while the edges are busy, for instance with many readers of a long chain, consensus still works.
#[tokio::test]
async fn the_edges_have_separate_threads() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(alone(dir.path())).await.unwrap();
    assert!(get(node.edges.http).starts_with("HTTP/1.1 200"));
    node.shutdown().await.unwrap();
}
