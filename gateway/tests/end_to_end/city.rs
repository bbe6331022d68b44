//! A ledger of one node, a gateway and simulated Things, over real sockets.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use lamplighter_client::{Client, ClientConfig, Wait};
use lamplighter_devnet::thing::{Factory, Thing, ThingConfig, VendorKeys};
use lamplighter_gateway::{Gateway, GatewayConfig, NodeAddress};
use lamplighter_node::{Node, NodeConfig, key};
use lamplighter_system::unix_ms;
use lamplighter_types::{
    Action, DeferralPolicy, Deployment, DevicesAction, FirmwareAction, GENESIS_VERSION, Genesis,
    GenesisAccount, Grant, Hash, Id, KeyPurpose, NewDevice, Policies, ReleaseManifest, Role,
    RolloutPlan, RolloutsAction, Scope, SecretKey, Selection, SignedRelease, StepTimers,
    UsersAction, Validator, ValidatorSet, Version,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// The tests wait this long for one condition.
pub const TIMEOUT: Duration = Duration::from_secs(90);

pub fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

pub fn secret(name: &str) -> SecretKey {
    SecretKey::from_seed(Hash::of(name.as_bytes()).0)
}

pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Below the range of ephemeral ports, and at another place for each process.
    let begin = std::process::id() as u16 % 800 * 10;
    (0..8_000)
        .map(|_| 12_000 + begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 8_000)
        .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
        .find(|address| TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok())
        .expect("one of 8,000 ports is free")
}

pub fn version(major: u32) -> Version {
    Version {
        major,
        minor: 0,
        patch: 0,
    }
}

pub struct City {
    // Dropped before its directory.
    pub node: RunningNode,
    pub dir: TempDir,
    pub genesis: Genesis,
    pub image: Vec<u8>,
    gateway_port: SocketAddr,
}

/// A node that is shut down when it is dropped: a process must not exit while its store is open.
pub struct RunningNode(Option<Node>);

impl std::ops::Deref for RunningNode {
    type Target = Node;

    fn deref(&self) -> &Node {
        self.0.as_ref().expect("it is taken when it is dropped")
    }
}

impl Drop for RunningNode {
    fn drop(&mut self) {
        let node = self.0.take().expect("it is dropped once");
        let shutdown = || tokio::runtime::Handle::current().block_on(node.shutdown());
        let ended = tokio::task::block_in_place(shutdown);
        assert!(ended.is_ok() || std::thread::panicking(), "{ended:?}");
    }
}

fn genesis(node: &SecretKey, peer: SocketAddr) -> Genesis {
    let account = |name: &str, roles: &[Role]| GenesisAccount {
        account: id(name),
        name: name.to_owned(),
        key: secret(name).public(),
        grants: roles
            .iter()
            .map(|role| Grant::founding(*role, Scope::city()))
            .collect(),
    };
    let validator = Validator {
        node: 1,
        account: id("node-1"),
        key: node.public(),
        address: peer.to_string(),
    };
    Genesis {
        version: GENESIS_VERSION,
        name: "Test City".to_owned(),
        created_ms: unix_ms(),
        validators: ValidatorSet {
            validators: vec![validator],
        },
        organization: id("city"),
        accounts: vec![
            account("admin", &[Role::Administrator]),
            account("operator", &[Role::Operator]),
            account("olga", &[Role::Operator]),
            account("ada", &[Role::Approver]),
            account("bob", &[Role::Approver]),
            account("acme", &[Role::Vendor]),
        ],
        policies: Policies::default(),
    }
}

impl City {
    /// Starts the node and registers a gateway with its devices.
    pub async fn build(devices: &[&str]) -> Self {
        let dir = TempDir::new().unwrap();
        let (node_key, peer) = (secret("node-1"), free_address());
        let genesis = genesis(&node_key, peer);
        let text = serde_json::to_vec_pretty(&genesis).unwrap();
        std::fs::write(dir.path().join("genesis.json"), text).unwrap();
        key::write(&dir.path().join("node.key"), &node_key).unwrap();
        key::write(&dir.path().join("gw.key"), &secret("gw")).unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let node = Node::start(NodeConfig {
            node: 1,
            genesis: dir.path().join("genesis.json"),
            key: dir.path().join("node.key"),
            data_dir: dir.path().join("node"),
            peer_listen: peer,
            http_listen: any,
            http: Default::default(),
            admin_listen: any,
            mqtt_listen: any,
            mqtts_listen: Some(any),
            mqtt_connect_s: 30,
            read_needs_token: true,
            quotas: Default::default(),
            mqtt: Default::default(),
            heartbeat_ms: 1_000,
            clock_offset_max_ms: 30_000,
            disk: Default::default(),
        });
        let node = node.await.unwrap();
        let image = (0..200_000u32).map(|n| (n * 7 % 251) as u8).collect();
        let gateway_port = free_address();
        let city = Self {
            dir,
            genesis,
            node: RunningNode(Some(node)),
            image,
            gateway_port,
        };
        city.register(devices).await;
        city
    }

    pub fn client(&self, name: &str) -> Client {
        let url = format!("https://{}", self.node.edges.http);
        let config = ClientConfig::new(vec![url]).with_genesis(self.genesis.clone());
        Client::new(config.with_key(id(name), secret(name))).unwrap()
    }

    /// Submits and expects success.
    pub async fn act(&self, name: &str, action: Action) {
        let submitted = self
            .client(name)
            .submit(action, Wait::Committed)
            .await
            .unwrap();
        let receipt = submitted.receipt.unwrap();
        assert!(receipt.succeeded(), "{:?}", receipt.outcome);
    }

    async fn register(&self, devices: &[&str]) {
        self.register_gateway("gw").await;
        if !devices.is_empty() {
            self.register_devices(devices.iter().copied()).await;
        }
    }

    pub async fn register_gateway(&self, name: &str) {
        let gateway = UsersAction::RegisterGateway {
            account: id(name),
            organization: id("city"),
            district: Scope::new("north").unwrap(),
            key: secret(name).public(),
            proof: secret(name).prove(KeyPurpose::Account, &self.genesis.chain_id(), &id(name)),
        };
        self.act("admin", Action::Users(gateway)).await;
    }

    /// Registers devices of the gateway `gw` with one transaction.
    pub async fn register_devices(&self, devices: impl Iterator<Item = &str>) {
        self.register_devices_as("operator", devices).await;
    }

    pub async fn register_devices_as(&self, operator: &str, devices: impl Iterator<Item = &str>) {
        let chain_id = self.genesis.chain_id();
        // Devices of other manufacturers sign nothing.
        let secret_of = |name: &str| (!name.starts_with("foreign")).then(|| secret(name));
        let prove = |name: &str| {
            let secret = secret_of(name)?;
            Some(secret.prove(KeyPurpose::Device, &chain_id, &id(name)))
        };
        let devices = devices.map(|name| NewDevice {
            device: id(name),
            owner: id("city"),
            model: "lamp".to_owned(),
            hardware_class: "lamp-v1".to_owned(),
            district: Scope::new("north/harbour").unwrap(),
            gateway: Some(id("gw")),
            key: secret_of(name).map(|secret| secret.public()),
            proof: prove(name),
            tags: Vec::new(),
        });
        let devices = devices.collect();
        let register = DevicesAction::Register { devices };
        self.act(operator, Action::Devices(register)).await;
    }

    pub async fn assign(&self, device: &str, gateway: &str) {
        let (device, gateway) = (id(device), Some(id(gateway)));
        let assign = DevicesAction::AssignGateway { device, gateway };
        self.act("operator", Action::Devices(assign)).await;
    }

    pub fn gateway_config(&self, tls: bool) -> GatewayConfig {
        let edges = &self.node.edges;
        let dir = self.dir.path();
        let nodes = vec![
            // Nothing listens there: the gateway tries the next one.
            NodeAddress {
                http: format!("https://{}", free_address()),
                mqtt: free_address().to_string(),
                tls,
                key: None,
            },
            NodeAddress {
                http: format!("https://{}", edges.http),
                mqtt: edges.mqtt[usize::from(tls)].to_string(),
                tls,
                key: None,
            },
        ];
        GatewayConfig {
            account: id("gw"),
            genesis: dir.join("genesis.json"),
            key: dir.join("gw.key"),
            data_dir: dir.join("gw"),
            south_listen: self.gateway_port,
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
            plain_http_beyond_loopback: false,
            plain_coap: Default::default(),
            dtls: None,
            oscore: None,
            mesh: Default::default(),
            endpoints: Default::default(),
        }
    }

    pub async fn gateway(&self, tls: bool) -> Running {
        self.gateway_at(self.gateway_config(tls)).await
    }

    pub async fn gateway_at(&self, config: GatewayConfig) -> Running {
        let stop = CancellationToken::new();
        let gateway = Gateway::start(config, stop.clone()).await.unwrap();
        Running { gateway, stop }
    }

    pub async fn thing(&self, name: &str) -> Thing {
        let verifier = Arc::new(VendorKeys(vec![secret("acme").public()]));
        let factory = Factory {
            image: vec![1; 10_000],
            version: version(1),
            security_counter: 1,
        };
        let mut config = ThingConfig::new(
            id(name),
            "lamp-v1",
            secret(name),
            self.genesis.chain_id(),
            self.dir.path().join("things").join(name),
            self.gateway_port,
            verifier,
            factory,
        );
        config.ledger = Some((&self.genesis).into());
        // With its next update a Thing finds out that a restarted gateway does not know it.
        config.lifetime = Duration::from_secs(4);
        Thing::spawn(config).await.unwrap()
    }

    /// Uploads, publishes and approves the image.
    pub async fn release(&self) {
        let path: PathBuf = self.dir.path().join("image");
        std::fs::write(&path, &self.image).unwrap();
        let vendor = self.client("acme");
        let (artifact, size_bytes) = vendor.upload(&path, &mut |_, _| {}).await.unwrap();
        let manifest = ReleaseManifest {
            release: id("fw-2"),
            vendor: id("acme"),
            version: version(2),
            artifact,
            size_bytes,
            hardware_classes: vec!["lamp-v1".to_owned()],
            security_counter: 2,
            replaces_from: None,
            depends_on: Vec::new(),
            expires_ms: None,
            critical: false,
            provenance: None,
        };
        let release = SignedRelease::sign(&manifest, &secret("acme"));
        let digest = release.manifest_digest();
        self.act(
            "acme",
            Action::Firmware(FirmwareAction::Publish { release }),
        )
        .await;
        for name in ["ada", "bob"] {
            let release = id("fw-2");
            let approve = FirmwareAction::Approve {
                release,
                manifest: digest,
            };
            // It fails until the validator has reported that it has the bytes.
            until("an approval", async || {
                let action = Action::Firmware(approve.clone());
                let done = self
                    .client(name)
                    .submit(action, Wait::Committed)
                    .await
                    .unwrap();
                done.receipt.unwrap().succeeded().then_some(())
            })
            .await;
        }
    }

    /// Plans, approves and starts a rollout to all devices.
    pub async fn roll_out(&self) {
        let hour = 3_600_000;
        let plan = RolloutPlan {
            rollout: id("r1"),
            release: id("fw-2"),
            selection: Selection::Filter {
                district: Scope::new("north").unwrap(),
                model: None,
                hardware_class: None,
                tag: None,
            },
            error_percent_max: 50,
            error_sample_min: 10,
            deferral: DeferralPolicy {
                count_max: 1,
                total_ms_max: hour,
            },
            timers: StepTimers {
                offer_ms: hour,
                download_ms: hour,
                install_ms: hour,
                trial_ms: hour,
            },
            retries_max: 1,
        };
        let digest = lamplighter_types::codec::digest(&plan);
        self.act("operator", Action::Rollouts(RolloutsAction::Plan { plan }))
            .await;
        let approve = RolloutsAction::Approve {
            rollout: id("r1"),
            plan: digest,
        };
        self.act("ada", Action::Rollouts(approve)).await;
        self.act(
            "operator",
            Action::Rollouts(RolloutsAction::Start { rollout: id("r1") }),
        )
        .await;
    }

    pub async fn deployment(&self, device: &str) -> Option<Deployment> {
        let client = self.client("operator");
        client
            .deployment(&id("r1"), &id(device))
            .await
            .ok()
            .map(|read| read.value)
    }
}

pub struct Running {
    pub gateway: Gateway,
    pub stop: CancellationToken,
}

impl Running {
    pub async fn stop(self) {
        self.stop.cancel();
        self.gateway.wait().await.unwrap();
    }
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

pub fn is_empty(path: &Path) -> bool {
    std::fs::metadata(path).map_or(true, |file| file.len() == 0)
}
