//! A ledger of processes, each with a separate loopback address.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lamplighter_client::{Client, ClientConfig, Wait};
use lamplighter_node::{DiskConfig, NodeConfig, key};
use lamplighter_tests::lamplighter;
use lamplighter_types::{
    Action, Allowances, DevicesAction, GENESIS_VERSION, Genesis, GenesisAccount, Grant, Hash, Id,
    NewDevice, Policies, Role, Scope, SecretKey, UsersAction, Validator, ValidatorSet,
};
use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything takes on a busy machine; only a failing test waits for it.
pub const TIMEOUT: Duration = Duration::from_secs(240);
const POLL: Duration = Duration::from_millis(20);
/// Images are made so often that a node which was away for seconds needs one.
pub const SNAPSHOT_EVERY_BATCHES: u64 = 100;
/// The image of the largest chain here takes some ten seconds.
const IMAGE_BYTES_PER_S: u64 = 512 << 10;

pub fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_millis() as u64
}

fn secret(name: &str) -> SecretKey {
    SecretKey::from_seed(Hash::of(name.as_bytes()).0)
}

/// A process that is killed with the value.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

pub struct City {
    pub folder: TempDir,
    pub genesis: Genesis,
    /// The nodes by id.
    pub nodes: std::collections::BTreeMap<u64, Process>,
    subnet: (u8, u8),
}

impl City {
    /// Makes the files of `count` validators, and of two administrators; nothing runs yet.
    pub fn found(count: u64, writers: usize) -> Self {
        let folder = TempDir::new().unwrap();
        let unique = std::process::id();
        let subnet = (100 + (unique % 100) as u8, (unique / 100 % 250) as u8);
        let mut city = Self {
            folder,
            genesis: Genesis {
                version: GENESIS_VERSION,
                name: "Joined".to_owned(),
                created_ms: now_ms(),
                validators: ValidatorSet {
                    validators: Vec::new(),
                },
                organization: id("city"),
                accounts: Vec::new(),
                policies: Policies {
                    // Tests register as many devices as make a chain of some size.
                    allowances: Allowances::UNBOUNDED,
                    ..Policies::default()
                },
            },
            nodes: Default::default(),
            subnet,
        };
        let people = ["anna".to_owned(), "bert".to_owned()];
        let writers = (0..writers).map(|n| format!("writer-{n}"));
        for name in people.into_iter().chain(writers) {
            city.person(&name);
        }
        for node in 1..=count {
            city.validator(node);
        }
        let bytes = serde_json::to_vec_pretty(&city.genesis).unwrap();
        fs::write(city.genesis_path(), bytes).unwrap();
        city
    }

    fn person(&mut self, name: &str) {
        key::write(&self.key_of(name), &secret(name)).unwrap();
        self.genesis.accounts.push(GenesisAccount {
            account: id(name),
            name: name.to_owned(),
            key: secret(name).public(),
            grants: [Role::Administrator, Role::Operator]
                .map(|role| Grant::founding(role, Scope::city()))
                .to_vec(),
        });
    }

    fn validator(&mut self, node: u64) {
        let home = self.home(node);
        fs::create_dir_all(&home).unwrap();
        let secret = key::generate().unwrap();
        key::write(&home.join("node.key"), &secret).unwrap();
        let at = |step: u16| SocketAddr::from((self.ip(node), 7400 + step));
        let config = NodeConfig {
            node,
            genesis: self.genesis_path(),
            key: home.join("node.key"),
            data_dir: home.join("data"),
            peer_listen: at(0),
            http_listen: at(1),
            http: Default::default(),
            admin_listen: at(2),
            mqtt_listen: at(3),
            mqtts_listen: None,
            mqtt_connect_s: 30,
            read_needs_token: true,
            quotas: Default::default(),
            mqtt: Default::default(),
            heartbeat_ms: 1_000,
            clock_offset_max_ms: 30_000,
            disk: DiskConfig {
                snapshot_every_batches: SNAPSHOT_EVERY_BATCHES,
                image_bytes_per_s: IMAGE_BYTES_PER_S,
                ..DiskConfig::default()
            },
        };
        fs::write(home.join("node.toml"), toml::to_string(&config).unwrap()).unwrap();
        self.genesis.validators.validators.push(Validator {
            node,
            account: id(&format!("node-{node}")),
            key: secret.public(),
            address: at(0).to_string(),
        });
    }

    pub fn ip(&self, node: u64) -> IpAddr {
        Ipv4Addr::new(127, self.subnet.0, self.subnet.1, node as u8).into()
    }

    pub fn genesis_path(&self) -> PathBuf {
        self.folder.path().join("genesis.json")
    }

    pub fn key_of(&self, person: &str) -> PathBuf {
        self.folder.path().join(format!("{person}.key"))
    }

    pub fn home(&self, node: u64) -> PathBuf {
        self.folder.path().join(format!("node-{node}"))
    }

    pub fn url(&self, node: u64) -> String {
        format!("https://{}:7401", self.ip(node))
    }

    /// Starts a process and writes its output to files in the node's folder.
    fn spawn(&mut self, node: u64, arguments: &[String]) {
        let home = self.home(node);
        fs::create_dir_all(&home).unwrap();
        let open = |name: &str| {
            let path = home.join(name);
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .unwrap()
        };
        let child = Command::new(lamplighter())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(open("out"))
            .stderr(open("log"))
            .spawn()
            .unwrap();
        self.nodes.insert(node, Process(child));
    }

    pub fn start(&mut self, node: u64) {
        let config = self.home(node).join("node.toml").display().to_string();
        let arguments = ["node", "run", "--until-stdin-ends", "--config", &config];
        self.spawn(node, &arguments.map(str::to_owned));
    }

    /// `node join` on an empty machine; asks node 1.
    pub fn join(&mut self, node: u64, more: &[&str]) {
        let ip = self.ip(node).to_string();
        let (genesis, url) = (self.genesis_path().display().to_string(), self.url(1));
        let (address, home) = (format!("{ip}:7400"), self.home(node).display().to_string());
        // Two of its ports are on 127.0.0.1.
        let first = (7400 + 10 * (node + u64::from(self.subnet.0))).to_string();
        let mut arguments = vec!["node", "join", &home, "--genesis", &genesis];
        arguments.extend(["--node-url", &url, "--host", &ip, "--first-port", &first]);
        arguments.push("--until-stdin-ends");
        let address = address.replace("7400", &first);
        arguments.extend(["--address", &address]);
        arguments.extend(more);
        let arguments: Vec<_> = arguments.into_iter().map(str::to_owned).collect();
        self.spawn(node, &arguments);
    }

    /// Base address of a node that joined.
    pub fn joined_url(&self, node: u64) -> String {
        let first = 7400 + 10 * (node + u64::from(self.subnet.0));
        format!("https://{}:{}", self.ip(node), first + 1)
    }

    /// Kills a node with SIGKILL.
    pub fn kill(&mut self, node: u64) {
        drop(self.nodes.remove(&node));
    }

    /// Ends a node in order.
    pub fn stop(&mut self, node: u64) {
        let mut process = self.nodes.remove(&node).unwrap();
        drop(process.0.stdin.take());
        assert!(process.0.wait().unwrap().success(), "{}", self.log(node));
    }

    /// Waits until a node ends by itself; its exit code.
    pub fn ended(&mut self, node: u64) -> Option<i32> {
        let begun = Instant::now();
        let process = self.nodes.get_mut(&node).unwrap();
        loop {
            if let Some(status) = process.0.try_wait().unwrap() {
                self.nodes.remove(&node);
                return status.code();
            }
            assert!(
                begun.elapsed() < TIMEOUT,
                "node {node} does not end: {}",
                self.log(node)
            );
            std::thread::sleep(POLL);
        }
    }

    pub fn file(&self, node: u64, name: &str) -> String {
        fs::read_to_string(self.home(node).join(name)).unwrap_or_default()
    }

    pub fn log(&self, node: u64) -> String {
        self.file(node, "log")
    }

    /// Registers so many thousands of devices, so that the chain has some size.
    pub async fn register_devices(&self, thousands: usize) {
        let config = ClientConfig::new(vec![self.url(1)])
            .with_genesis(self.genesis.clone())
            .with_key(id("anna"), secret("anna"));
        let client = Client::new(config).unwrap();
        for list in 0..thousands {
            let device = |n| NewDevice {
                device: id(&format!("lamp-{list}-{n}")),
                owner: id("city"),
                model: "Lamp".to_owned(),
                hardware_class: "lamp-v1".to_owned(),
                district: Scope::city(),
                gateway: None,
                key: None,
                proof: None,
                tags: Vec::new(),
            };
            let devices = (0..1_000).map(device).collect();
            let action = Action::Devices(DevicesAction::Register { devices });
            let submitted = client.submit(action, Wait::Committed).await.unwrap();
            assert!(submitted.receipt.unwrap().succeeded());
        }
    }

    /// A command of a person, at node 1.
    pub fn command(&self, person: &str, arguments: &[&str]) -> Output {
        Command::new(lamplighter())
            .args(arguments)
            .args(["--as", person, "--node-url", &self.url(1)])
            .arg("--genesis")
            .arg(self.genesis_path())
            .arg("--key")
            .arg(self.key_of(person))
            .output()
            .unwrap()
    }

    pub fn done(&self, person: &str, arguments: &[&str]) -> String {
        let output = self.command(person, arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Anna proposes what `node join` printed, Bert approves.
    pub fn approve_as_printed(&self, node: u64, proposal: &str) {
        let find = |what: &str| {
            let out = self.file(node, "out");
            let line = out.lines().find(|line| line.contains(what))?;
            Some(line.trim().to_owned())
        };
        let propose = wait_for(|| find(&format!("governance propose {proposal}")));
        let approve = wait_for(|| find(&format!("governance approve {proposal}")));
        for (person, line) in [("anna", propose), ("bert", approve)] {
            let words: Vec<_> = line.split(' ').skip(1).collect();
            self.done(person, &words);
        }
    }

    /// The keys of the nodes that have one in the folder.
    fn node_keys(&self) -> Vec<lamplighter_types::PublicKey> {
        let keys = self
            .nodes
            .keys()
            .map(|node| self.home(*node).join("node.key"));
        let keys = keys.filter_map(|path| lamplighter_node::key::read(&path).ok());
        keys.map(|secret| secret.public()).collect()
    }

    /// The status of a node; none while it does not answer.
    pub async fn status_at(&self, url: &str) -> Option<Value> {
        let http = lamplighter_client::http_client_of(self.node_keys()).unwrap();
        let answer = http.get(format!("{url}/v1/status")).send().await.ok()?;
        answer.json().await.ok()
    }

    pub async fn status(&self, node: u64) -> Option<Value> {
        self.status_at(&self.url(node)).await
    }

    pub async fn height(&self, node: u64) -> u64 {
        self.status(node).await.unwrap()["height"].as_u64().unwrap()
    }

    /// Waits until the status of a node satisfies the condition.
    pub async fn until(&self, url: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        let mut last = None;
        while begun.elapsed() < TIMEOUT {
            if let Some(status) = self.status_at(url).await {
                if fits(&status) {
                    return status;
                }
                last = Some(status);
            }
            tokio::time::sleep(POLL).await;
        }
        panic!("{url} never got there: {last:?}");
    }

    /// All have one head, and it is certified.
    pub async fn are_equal(&self, urls: &[String]) {
        let begun = Instant::now();
        loop {
            let mut heads = Vec::new();
            for url in urls {
                let status = self.status_at(url).await.unwrap_or_default();
                heads.push((status["head"].clone(), status["certified_height"].clone()));
            }
            if heads
                .iter()
                .all(|head| !head.0.is_null() && *head == heads[0])
            {
                return;
            }
            assert!(begun.elapsed() < TIMEOUT, "{heads:?}");
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Asks until there is an answer.
pub fn wait_for<T>(ask: impl Fn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(begun.elapsed() < TIMEOUT, "it never came");
        std::thread::sleep(POLL);
    }
}

/// Clients that register organizations, each with its own account, until they are stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    pub acknowledged: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    pub fn start(city: &City, writers: usize, nodes: &[u64]) -> Self {
        Self::start_from(city, writers, nodes, 0)
    }

    /// Starts the load like `start`; names are counted from `first`.
    pub fn start_from(city: &City, writers: usize, nodes: &[u64], first: u64) -> Self {
        let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let urls: Vec<_> = nodes.iter().map(|node| city.url(*node)).collect();
        let client = |n: usize| {
            let name = format!("writer-{n}");
            let mut urls = urls.clone();
            urls.rotate_left(n % nodes.len());
            let config = ClientConfig::new(urls)
                .with_genesis(city.genesis.clone())
                .with_key(id(&name), secret(&name));
            let client = Client::new(config).unwrap();
            let (stop, acknowledged) = (stop.clone(), acknowledged.clone());
            tokio::spawn(async move {
                for number in first.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let organization = id(&format!("{name}-{number}"));
                    let action = Action::Users(UsersAction::RegisterOrganization {
                        organization,
                        // Bytes that do not compress.
                        name: hex::encode(Hash::of(format!("{name}{number}").as_bytes()).0),
                    });
                    let submitted = client.submit(action, Wait::Committed).await.unwrap();
                    assert!(submitted.receipt.unwrap().succeeded());
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let tasks = (0..writers).map(client).collect();
        Self {
            stop,
            acknowledged,
            tasks,
        }
    }

    /// Waits for so many more acknowledged transactions.
    pub async fn more(&self, count: u64) {
        let aim = self.acknowledged.load(Ordering::Relaxed) + count;
        let begun = Instant::now();
        while self.acknowledged.load(Ordering::Relaxed) < aim {
            assert!(begun.elapsed() < TIMEOUT, "the clients stand still");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits for so many more blocks.
    pub async fn blocks(&self, city: &City, count: u64) {
        let aim = city.height(1).await + count;
        while city.height(1).await < aim {
            self.more(1).await;
        }
    }

    pub async fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.acknowledged.load(Ordering::Relaxed)
    }
}

/// A line for the record.
pub fn print_line(line: &str) {
    eprintln!("{line}");
}

/// Removes a data directory, as a wiped disk does.
pub fn wipe(home: &Path) {
    fs::remove_dir_all(home.join("data")).unwrap();
}
