//! Four nodes on real stores and sockets. The first one can be cut off from the others.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lamplighter_client::{Client, ClientConfig, Wait};
use lamplighter_devnet::thing::{Factory, Thing, ThingConfig, VendorKeys};
use lamplighter_gateway::{Gateway, GatewayConfig, NodeAddress};
use lamplighter_node::{HttpConfig, HttpTls, NamedTls, Node, NodeConfig, key};
use lamplighter_system::unix_ms;
use lamplighter_types::{
    Action, DevicesAction, GENESIS_VERSION, Genesis, GenesisAccount, Grant, Hash, Id, KeyPurpose,
    NewDevice, Policies, Role, Scope, SecretKey, UsersAction, Validator, ValidatorSet, Version,
};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

const TIMEOUT: Duration = Duration::from_secs(90);

pub fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

pub fn secret(name: &str) -> SecretKey {
    SecretKey::from_seed(Hash::of(name.as_bytes()).0)
}

fn free_address() -> SocketAddr {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// Polls a condition until it returns a value.
pub async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let polling = async {
        let mut every = tokio::time::interval(Duration::from_millis(100));
        loop {
            every.tick().await;
            if let Some(value) = condition().await {
                return value;
            }
        }
    };
    let found = tokio::time::timeout(TIMEOUT, polling).await;
    found.unwrap_or_else(|_| panic!("waiting for {what}"))
}

/// The address of a node for the others.
struct PeerLink {
    address: SocketAddr,
    open: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<AbortHandle>>>,
}

impl PeerLink {
    async fn to(node: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let link = Self {
            address: listener.local_addr().unwrap(),
            open: Arc::new(AtomicBool::new(true)),
            connections: Arc::default(),
        };
        let (open, connections) = (link.open.clone(), link.connections.clone());
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                if !open.load(Ordering::SeqCst) {
                    continue;
                }
                let carried = tokio::spawn(async move {
                    let mut to = TcpStream::connect(node).await?;
                    tokio::io::copy_bidirectional(&mut from, &mut to).await
                });
                connections.lock().unwrap().push(carried.abort_handle());
            }
        });
        link
    }

    fn count(&self) -> usize {
        self.connections.lock().unwrap().len()
    }

    /// Breaks the connections after the first `kept`, and makes no new ones.
    fn cut(&self, kept: usize) {
        self.open.store(false, Ordering::SeqCst);
        let connections = self.connections.lock().unwrap();
        connections[kept..].iter().for_each(AbortHandle::abort);
    }
}

pub struct City {
    /// Nodes 1 to 4.
    nodes: Vec<Node>,
    links: Vec<PeerLink>,
    /// Connections to each node that were there before node 1 was.
    first_connections: Vec<usize>,
    pub dir: TempDir,
    pub genesis: Genesis,
}

fn config(dir: &Path, node: u64, peer_listen: SocketAddr) -> NodeConfig {
    let any = "127.0.0.1:0".parse().unwrap();
    NodeConfig {
        node,
        genesis: dir.join("genesis.json"),
        key: dir.join(format!("node-{node}.key")),
        data_dir: dir.join(format!("node-{node}")),
        peer_listen,
        http_listen: any,
        admin_listen: any,
        mqtt_listen: any,
        mqtts_listen: None,
        mqtt_connect_s: 30,
        read_needs_token: true,
        heartbeat_ms: 1_000,
        clock_offset_max_ms: 30_000,
        disk: Default::default(),
        http: HttpConfig {
            tls: HttpTls::Named(NamedTls::Off),
            ..HttpConfig::default()
        },
        quotas: Default::default(),
        mqtt: Default::default(),
    }
}

fn genesis(links: &[PeerLink]) -> Genesis {
    let validators = (1..).zip(links).map(|(node, link)| Validator {
        node,
        account: id(&format!("node-{node}")),
        key: secret(&format!("node-{node}")).public(),
        address: link.address.to_string(),
    });
    let account = |name: &str, role| GenesisAccount {
        account: id(name),
        name: name.to_owned(),
        key: secret(name).public(),
        grants: vec![Grant::founding(role, Scope::city())],
    };
    Genesis {
        version: GENESIS_VERSION,
        name: "Test City".to_owned(),
        created_ms: unix_ms(),
        validators: ValidatorSet {
            validators: validators.collect(),
        },
        organization: id("city"),
        accounts: vec![
            account("admin", Role::Administrator),
            account("operator", Role::Operator),
        ],
        policies: Policies::default(),
    }
}

impl City {
    /// Starts the nodes, the first one last.
    pub async fn build() -> Self {
        let dir = TempDir::new().unwrap();
        let addresses: Vec<_> = (0..4).map(|_| free_address()).collect();
        let mut links = Vec::new();
        for address in &addresses {
            links.push(PeerLink::to(*address).await);
        }
        let genesis = genesis(&links);
        let text = serde_json::to_vec(&genesis).unwrap();
        std::fs::write(dir.path().join("genesis.json"), text).unwrap();
        for name in ["admin", "gw", "node-1", "node-2", "node-3", "node-4"] {
            key::write(&dir.path().join(format!("{name}.key")), &secret(name)).unwrap();
        }
        let mut nodes = Vec::new();
        for node in 2..=4 {
            let config = config(dir.path(), node, addresses[node as usize - 1]);
            nodes.push(Node::start(config).await.unwrap());
        }
        until("three nodes to be connected", async || {
            let connected = |node: &Node| node.handle.status().connected.len() == 2;
            nodes.iter().all(connected).then_some(())
        })
        .await;
        let first_connections = links.iter().map(PeerLink::count).collect();
        let first = Node::start(config(dir.path(), 1, addresses[0])).await;
        nodes.insert(0, first.unwrap());
        let city = Self {
            nodes,
            links,
            first_connections,
            dir,
            genesis,
        };
        city.register().await;
        city
    }

    /// Registers a gateway and its device, and waits until node 1 knows them.
    async fn register(&self) {
        let chain_id = self.genesis.chain_id();
        let prove = |name, purpose| secret(name).prove(purpose, &chain_id, &id(name));
        let gateway = UsersAction::RegisterGateway {
            account: id("gw"),
            organization: id("city"),
            district: Scope::new("north").unwrap(),
            key: secret("gw").public(),
            proof: prove("gw", KeyPurpose::Account),
        };
        let device = NewDevice {
            device: id("lamp-1"),
            owner: id("city"),
            model: "lamp".to_owned(),
            hardware_class: "lamp-v1".to_owned(),
            district: Scope::new("north/harbour").unwrap(),
            gateway: Some(id("gw")),
            key: Some(secret("lamp-1").public()),
            proof: Some(prove("lamp-1", KeyPurpose::Device)),
            tags: Vec::new(),
        };
        let devices = vec![device];
        let actions = [
            ("admin", Action::Users(gateway)),
            (
                "operator",
                Action::Devices(DevicesAction::Register { devices }),
            ),
        ];
        for (name, action) in actions {
            let client = self.client(name, vec![self.url(3)]);
            let submitted = client.submit(action, Wait::Certified).await.unwrap();
            assert!(submitted.receipt.unwrap().succeeded());
        }
        let height = self.nodes[2].handle.head().height;
        let known = self.nodes[0].handle.wait_certified(height, TIMEOUT).await;
        known.unwrap();
    }

    /// Cuts node 1 off from the others. Clients still reach it.
    pub fn cut_first(&self) {
        for (link, kept) in self.links.iter().zip(&self.first_connections) {
            link.cut(*kept);
        }
    }

    fn node(&self, node: usize) -> &Node {
        &self.nodes[node - 1]
    }

    pub fn url(&self, node: usize) -> String {
        format!("http://{}", self.node(node).edges.http)
    }

    pub fn admin(&self, node: usize) -> SocketAddr {
        self.node(node).edges.admin
    }

    pub fn address(&self, node: usize) -> NodeAddress {
        NodeAddress {
            http: self.url(node),
            mqtt: self.node(node).edges.mqtt[0].to_string(),
            tls: false,
            key: None,
        }
    }

    pub fn client(&self, name: &str, urls: Vec<String>) -> Client {
        let config = ClientConfig::new(urls).with_genesis(self.genesis.clone());
        Client::new(config.with_key(id(name), secret(name))).unwrap()
    }

    /// Runs the program in the city's folder.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lamplighter"));
        command.current_dir(self.dir.path()).args(arguments);
        command.env("LAMPLIGHTER_STATE", self.dir.path().join("state"));
        let output = tokio::task::spawn_blocking(move || command.output());
        output.await.unwrap().unwrap()
    }

    pub async fn gateway(&self, nodes: Vec<NodeAddress>) -> (Gateway, CancellationToken) {
        let dir = self.dir.path();
        let config = GatewayConfig {
            account: id("gw"),
            genesis: dir.join("genesis.json"),
            key: dir.join("gw.key"),
            data_dir: dir.join("gw"),
            south_listen: "127.0.0.1:0".parse().unwrap(),
            south_http_listen: None,
            mqtt_connect_s: 30,
            spool_bytes_max: 1 << 24,
            cache_bytes_max: 1 << 24,
            record_age_max_s: 60,
            rate_bytes_per_s: 10_000_000,
            install_timeout_s: 60,
            poll_s: 1,
            szx: 6,
            nodes,
            endpoints: Default::default(),
            plain_http_beyond_loopback: false,
            plain_coap: Default::default(),
            dtls: None,
            oscore: None,
            mesh: Default::default(),
        };
        let stop = CancellationToken::new();
        let gateway = Gateway::start(config, stop.clone()).await.unwrap();
        (gateway, stop)
    }

    pub async fn thing(&self, gateway: SocketAddr) -> Thing {
        let factory = Factory {
            image: vec![1; 10_000],
            version: Version {
                major: 1,
                minor: 0,
                patch: 0,
            },
            security_counter: 1,
        };
        let mut config = ThingConfig::new(
            id("lamp-1"),
            "lamp-v1",
            secret("lamp-1"),
            self.genesis.chain_id(),
            self.dir.path().join("lamp-1"),
            gateway,
            Arc::new(VendorKeys(Vec::new())),
            factory,
        );
        config.lifetime = Duration::from_secs(4);
        Thing::spawn(config).await.unwrap()
    }

    pub async fn stop(self) {
        for node in self.nodes {
            node.shutdown().await.unwrap();
        }
    }
}
