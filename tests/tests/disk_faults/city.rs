//! A city of validators without gateways, and the history of one client.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use lamplighter_client::{Client, Wait};
use lamplighter_devnet::{Devnet, NodeProcess, Plan, Process};
use lamplighter_node::DiskConfig;
use lamplighter_tests::lamplighter;
use lamplighter_types::login::Audience;
use lamplighter_types::{
    Action, ConfigAction, ConfigTarget, Hash, Id, KeyPurpose, Scope, SecretKey, UsersAction,
};
use serde_json::Value;
use tempfile::TempDir;

fn gateway_secret(name: &str) -> SecretKey {
    SecretKey::from_seed(Hash::of(name.as_bytes()).0)
}

pub const TIMEOUT: Duration = Duration::from_secs(60);
/// Networks of processes run one at a time: the machine has two cores.
static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A separate file system for one node, which can be filled without harm; unmounted when dropped.
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    pub fn mount(at: &Path, mib: u32) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let size = format!("size={mib}m");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "lamplighter-test"])
            .arg(at)
            .status();
        assert!(mount.unwrap().success(), "mounting needs root");
        Self(at.to_owned())
    }

    pub fn free_bytes(&self) -> u64 {
        let found = nix::sys::statvfs::statvfs(&self.0).unwrap();
        found.blocks_available() * found.fragment_size()
    }

    /// Takes space until so many bytes are left.
    pub fn fill(&self, leave_bytes: u64) {
        let take = self.free_bytes().saturating_sub(leave_bytes);
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.filler())
            .unwrap();
        let taken = file.metadata().unwrap().len();
        nix::fcntl::fallocate(
            &file,
            nix::fcntl::FallocateFlags::empty(),
            0,
            (taken + take).max(1) as i64,
        )
        .unwrap();
    }

    pub fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a node that the test left running may still have files open.
        let ended = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(ended.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

/// Validators, and what was acknowledged to a client.
pub struct City {
    pub devnet: Devnet,
    acknowledged: Vec<Hash>,
    next: u32,
    client: Option<Client>,
    _folder: TempDir,
    _one: tokio::sync::MutexGuard<'static, ()>,
}

impl City {
    /// Four validators that do not run yet. `dress` may change the process of a node.
    pub async fn found() -> Self {
        let one = ONE.lock().await;
        let folder = tempfile::tempdir().unwrap();
        let plan = Plan {
            validators: 4,
            gateways: 0,
            things: 0,
            firmware: None,
            dir: folder.path().join("city"),
            program: lamplighter(),
            rate_bytes_per_s: None,
        };
        let mut city = Self {
            devnet: Devnet::create(plan).unwrap(),
            acknowledged: Vec::new(),
            next: 0,
            client: None,
            _folder: folder,
            _one: one,
        };
        for at in 0..4 {
            city.configure(at, |_| {});
        }
        city
    }

    pub fn data_dir(&self, at: usize) -> PathBuf {
        self.devnet.nodes[at].config.data_dir.clone()
    }

    /// Writes a node's configuration again, with its disk treated otherwise.
    pub fn configure(&mut self, at: usize, change: impl FnOnce(&mut DiskConfig)) {
        let node = &mut self.devnet.nodes[at];
        node.config.read_needs_token = false;
        node.config.heartbeat_ms = 1_000;
        change(&mut node.config.disk);
        let name = format!("node-{}", node.node);
        self.devnet.files.write_toml(&name, &node.config).unwrap();
    }

    /// Has a node start with these variables in its environment.
    pub fn dress(&mut self, at: usize, variables: &[(&str, &Path)]) {
        let node = &mut self.devnet.nodes[at];
        let name = format!("node-{}", node.node);
        let config = self.devnet.files.root.join(format!("{name}.toml"));
        let mut words = Vec::new();
        for (variable, value) in variables {
            words.push(format!("{variable}={}", value.display()).into());
        }
        words.push(lamplighter().into());
        for word in ["node", "run", "--until-stdin-ends", "--config"] {
            words.push(word.into());
        }
        words.push(config.into());
        let env = Path::new("/usr/bin/env");
        node.process = Process::new(&name, env, words, &self.devnet.files.logs());
    }

    pub async fn start(&mut self) {
        self.devnet.start_nodes().await.unwrap();
        self.client = Some(self.devnet.client("admin-1").unwrap());
    }

    /// The node of this place in the list.
    pub fn node(&mut self, at: usize) -> &mut NodeProcess {
        &mut self.devnet.nodes[at]
    }

    /// Has so many transactions acknowledged, by whichever node answers.
    pub async fn work(&mut self, count: usize) {
        let client = self.client.clone().unwrap();
        for _ in 0..count {
            let action = self.action();
            let done = client.submit(action, Wait::Committed).await.unwrap();
            assert!(done.receipt.unwrap().succeeded());
            self.acknowledged.push(done.transaction);
        }
    }

    /// The same with configurations of 16 KB each, until a node has ended by itself; at most so
    /// many.
    pub async fn work_until_ended(&mut self, at: usize, count: u64) {
        let client = self.devnet.client("operator").unwrap();
        for replaces_version in 0..count {
            if self.devnet.nodes[at].process.check().is_err() {
                return;
            }
            let text = format!("{replaces_version:>16000}");
            let action = Action::Config(ConfigAction::SetDesired {
                target: ConfigTarget::Fleet,
                document: serde_json::json!({ "text": text }).to_string(),
                replaces_version,
            });
            let done = client.submit(action, Wait::Committed).await.unwrap();
            assert!(done.receipt.unwrap().succeeded());
            self.acknowledged.push(done.transaction);
        }
    }

    /// A new organization.
    pub fn action(&mut self) -> Action {
        self.next += 1;
        let organization = Id::new(format!("organization-{}", self.next)).unwrap();
        Action::Users(UsersAction::RegisterOrganization {
            organization,
            name: "x".repeat(200),
        })
    }

    /// Every node has every acknowledged transaction, in the same place.
    pub async fn nothing_is_lost(&mut self) {
        assert!(!self.acknowledged.is_empty());
        let newest = *self.acknowledged.last().unwrap();
        for at in 0..self.devnet.nodes.len() {
            self.has(at, &newest).await;
        }
        for hash in &self.acknowledged {
            let mut places = Vec::new();
            for node in &self.devnet.nodes {
                let url = format!("{}/v1/transactions/{hash}", node.url());
                let (status, body) = self.ask(&url).await.unwrap();
                assert_eq!(status, 200, "node {} lost {hash}: {body}", node.node);
                places.push((body["height"].clone(), body["index"].clone()));
            }
            assert!(
                places.windows(2).all(|pair| pair[0] == pair[1]),
                "{places:?}"
            );
        }
    }

    /// Waits until a node has stopped by itself, with an error, and returns what it has logged
    /// since.
    pub async fn has(&self, at: usize, hash: &Hash) {
        let url = format!("{}/v1/transactions/{hash}", self.devnet.nodes[at].url());
        until("a node catches up", async || {
            self.ask(&url)
                .await
                .is_some_and(|(status, _)| status == 200)
        })
        .await;
    }

    /// The place of the node that leads, as another one sees it.
    pub async fn leader(&self, asked: usize) -> Option<usize> {
        let url = format!("{}/v1/status", self.devnet.nodes[asked].url());
        let (_, status) = self.ask(&url).await?;
        let leader = status["leader"].as_u64()?;
        self.devnet.nodes.iter().position(|n| n.node == leader)
    }

    /// Status and JSON body of an answer; none if there was no answer.
    pub async fn ask(&self, url: &str) -> Option<(u16, Value)> {
        let answer = self.devnet.http().unwrap().get(url).send().await.ok()?;
        let status = answer.status().as_u16();
        let body = answer.bytes().await.ok()?;
        Some((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    /// Answer of `/readyz`.
    pub async fn readiness(&self, at: usize) -> Option<(u16, Value)> {
        let admin = self.devnet.nodes[at].config.admin_listen;
        self.ask(&format!("http://{admin}/readyz")).await
    }

    /// A client that asks one node only.
    pub fn client_of(&self, at: usize, deadline: Duration) -> Client {
        let member = self.devnet.city.member("admin-1");
        self.client_as(at, member.account.clone(), member.secret.clone(), deadline)
    }

    fn client_as(&self, at: usize, account: Id, secret: SecretKey, deadline: Duration) -> Client {
        let urls = vec![self.devnet.nodes[at].url()];
        let mut config = lamplighter_client::ClientConfig::new(urls)
            .with_genesis(self.devnet.city.genesis.clone())
            .with_key(account, secret);
        config.deadline = deadline;
        Client::new(config).unwrap()
    }

    /// Registers a gateway with this name and a new key.
    pub async fn register_gateway(&mut self, name: &str) {
        let genesis = &self.devnet.city.genesis;
        let account = Id::new(name).unwrap();
        let secret = gateway_secret(name);
        let action = Action::Users(UsersAction::RegisterGateway {
            proof: secret.prove(KeyPurpose::Account, &genesis.chain_id(), &account),
            account,
            organization: genesis.organization.clone(),
            district: Scope::city(),
            key: secret.public(),
        });
        let client = self.client.clone().unwrap();
        let done = client.submit(action, Wait::Committed).await.unwrap();
        assert!(done.receipt.unwrap().succeeded());
        self.acknowledged.push(done.transaction);
    }

    /// Publishes a transaction of a gateway by MQTT 5, QoS 1, to one node, and returns the output
    /// of a client of another maker.
    pub async fn publish(&mut self, at: usize, gateway: &str) -> Output {
        let action = self.action();
        let account = Id::new(gateway).unwrap();
        let client = self.client_as(at, account, gateway_secret(gateway), TIMEOUT);
        let signed = client.sign(action).await.unwrap();
        let token = client.token(0, Audience::Mqtt).await.unwrap().token;
        let address = self.devnet.nodes[at].config.mqtt_listen;
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let topic = format!("lamplighter/1/gw/{gateway}/tx");
        let message = serde_json::to_string(&signed).unwrap();
        let mut command = tokio::process::Command::new("mosquitto_pub");
        command.args(["-d", "-V", "mqttv5", "-q", "1", "-h", &host, "-p", &port]);
        command.args(["-i", gateway, "-u", gateway, "-P", &token]);
        command.args(["-t", &topic, "-m", &message]);
        command.output().await.unwrap()
    }

    /// Waits until a node has ended by itself; demands that it did so with an error, and gives what
    /// it logged since.
    pub async fn ended(&mut self, at: usize, logged: usize) -> String {
        let process = &mut self.devnet.nodes[at].process;
        let ended = process.wait(TIMEOUT).await;
        let log = process.read_log().unwrap()[logged..].to_owned();
        let well = ended.unwrap_or_else(|error| panic!("{error}: {log}"));
        assert!(!well, "it ended as if all were well: {log}");
        assert!(!log.contains("panicked"), "{log}");
        log
    }

    /// Length of a node's log so far.
    pub fn logged(&self, at: usize) -> usize {
        let log = self.devnet.nodes[at].process.read_log();
        log.map_or(0, |log| log.len())
    }

    pub async fn start_again(&mut self, at: usize) {
        let logged = self.logged(at);
        self.devnet.nodes[at].process.start().unwrap();
        if let Err(error) = self.devnet.ready(at).await {
            let log = self.devnet.nodes[at].process.read_log().unwrap();
            panic!("{error}: {}", &log[logged..]);
        }
    }

    pub async fn stop(self) {
        self.devnet.stop().await.unwrap();
    }
}

pub async fn until(what: &str, mut reached: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !reached().await {
        assert!(begun.elapsed() < TIMEOUT, "{what}: not within {TIMEOUT:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
