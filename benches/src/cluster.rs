//! A cluster of validators: each is a process with a folder, started and stopped by this program.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use lamplighter_node::{DiskConfig, HttpConfig, HttpTls, NamedTls, NodeConfig, key};
use lamplighter_system::unix_ms;
use lamplighter_types::{
    Allowances, GENESIS_VERSION, Genesis, GenesisAccount, Grant, Hash, Policies, PublicKey, Role,
    Scope, Validator, ValidatorSet,
};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, ChildStdin, Command};

use crate::error::BenchError;
use crate::fleet::{administrator, administrator_key, id, key_of, organization};
use crate::http::{Connection, HttpAnswer};
use crate::procfs;

/// The value that `docs/operations.md` recommends: glibc's default is 8 arenas for each core, and
/// each keeps the memory that its threads freed after their busiest moment.
const MALLOC_ARENAS: &str = "2";
/// Time for the nodes to know each other and their leader.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Interval between two checks of that.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// Time for a node to end by itself.
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// The end of a node's log that is shown when it ended unexpectedly.
const LOG_TAIL_BYTES: usize = 4_096;

/// A running node.
pub struct NodeProcess {
    node: u64,
    pub http: SocketAddr,
    pub mqtt: SocketAddr,
    child: Child,
    /// The node ends when this is closed, however this program ends.
    stdin: Option<ChildStdin>,
    pub pid: u32,
    pub data: PathBuf,
    log: PathBuf,
    files: NodeFiles,
}

/// The nodes of one ledger.
pub struct Cluster {
    pub chain_id: Hash,
    pub validators: ValidatorSet,
    pub nodes: Vec<NodeProcess>,
    program: PathBuf,
    dir: PathBuf,
    genesis: PathBuf,
    disk: DiskConfig,
}

/// The resources used by the nodes at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClusterSample {
    /// Processor time of all nodes together.
    pub cpu: Duration,
    pub disk_bytes: u64,
    pub written_bytes: u64,
    /// Memory of the largest node.
    pub memory_bytes: u64,
    pub peak_memory_bytes: u64,
}

/// The used part of `/v1/status`.
#[derive(Deserialize)]
pub struct NodeStatus {
    pub height: u64,
    pub leader: Option<u64>,
    pub connected: Vec<u64>,
    pub progress: NodeProgress,
}

/// The parts of a node's memory that fill up to a bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BoundedMemory {
    pub memtable_bytes: u64,
    pub cache_bytes: u64,
}

impl BoundedMemory {
    /// Reads the text of `/metrics`.
    pub fn parse(text: &str) -> Option<Self> {
        let figure = |name: &str| {
            let mut lines = text.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
            value.parse().ok()
        };
        Some(Self {
            memtable_bytes: figure("lamplighter_store_memtable_bytes")?,
            cache_bytes: figure("lamplighter_store_cache_bytes")?,
        })
    }
}

/// The progress of a node that is behind the others.
#[derive(Deserialize)]
pub struct NodeProgress {
    pub phase: String,
    pub bytes_total: Option<u64>,
}

/// The files and the configuration of a node that can be started.
pub struct NodeFiles {
    program: PathBuf,
    pub home: PathBuf,
    config: NodeConfig,
    pub key: PublicKey,
    /// Its address for other nodes.
    pub address: String,
}

impl NodeFiles {
    pub fn start(self) -> Result<NodeProcess, BenchError> {
        NodeProcess::start(self)
    }
}

/// Addresses that were free a moment ago. All are bound until the last one is known.
pub fn free_addresses(count: usize) -> Result<Vec<SocketAddr>, BenchError> {
    let bind = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let failed = || BenchError::io("looking for a free port", "");
    let held: Vec<_> = (0..count)
        .map(bind)
        .collect::<Result<_, _>>()
        .map_err(failed())?;
    held.iter()
        .map(TcpListener::local_addr)
        .collect::<Result<_, _>>()
        .map_err(failed())
}

fn write(path: PathBuf, bytes: &[u8]) -> Result<PathBuf, BenchError> {
    fs::write(&path, bytes).map_err(BenchError::io("writing", &path))?;
    Ok(path)
}

fn genesis(validators: Vec<Validator>) -> Genesis {
    let grant = |role| Grant::founding(role, Scope::city());
    let member = |name: &str, role| GenesisAccount {
        account: id(name),
        name: name.to_owned(),
        key: key_of(name).public(),
        grants: vec![grant(role)],
    };
    Genesis {
        version: GENESIS_VERSION,
        name: "Benchmark".to_owned(),
        created_ms: unix_ms(),
        validators: ValidatorSet { validators },
        organization: organization(),
        accounts: vec![
            GenesisAccount {
                account: administrator(),
                name: "Administrator".to_owned(),
                key: administrator_key().public(),
                grants: vec![grant(Role::Administrator), grant(Role::Operator)],
            },
            member("vendor", Role::Vendor),
            member("approver", Role::Approver),
        ],
        // A single administrator must suffice.
        policies: Policies {
            // A fleet is imported in minutes here.
            allowances: Allowances::UNBOUNDED,
            ..Policies::of_one_person()
        },
    }
}

/// Creates the folder of a node, with a new key.
fn create_home(dir: &Path, node: u64) -> Result<(PathBuf, PublicKey), BenchError> {
    let home = dir.join(format!("node-{node}"));
    fs::create_dir_all(&home).map_err(BenchError::io("making", &home))?;
    let secret = key::generate()?;
    key::write(&home.join("key"), &secret)?;
    Ok((home, secret.public()))
}

/// The configuration of a node. The addresses are for other nodes, HTTP, administration and MQTT.
fn config(
    node: u64,
    genesis: &Path,
    home: &Path,
    addresses: &[SocketAddr],
    disk: &DiskConfig,
) -> NodeConfig {
    let mut config = NodeConfig {
        node,
        genesis: genesis.to_owned(),
        key: home.join("key"),
        data_dir: home.join("data"),
        peer_listen: addresses[0],
        http_listen: addresses[1],
        // The load generator speaks plain HTTP.
        http: HttpConfig {
            tls: HttpTls::Named(NamedTls::Off),
            ..HttpConfig::default()
        },
        admin_listen: addresses[2],
        mqtt_listen: addresses[3],
        mqtts_listen: None,
        mqtt_connect_s: 30,
        read_needs_token: true,
        heartbeat_ms: 60_000,
        clock_offset_max_ms: 30_000,
        disk: disk.clone(),
        quotas: Default::default(),
        mqtt: Default::default(),
    };
    // One address and a few accounts stand for all clients of a city.
    let (quotas, rate_max) = (&mut config.quotas, 1_000_000);
    quotas.requests_per_second = rate_max;
    quotas.address_requests_per_second = rate_max;
    quotas.mqtt_packets_per_second = rate_max;
    quotas.requests_at_once = 4_096;
    quotas.pending_transactions = 20_000;
    quotas.bytes_per_second = u32::MAX;
    quotas.upload_bytes_per_second = u32::MAX;
    quotas.mqtt_bytes_per_second = u32::MAX;
    config.mqtt.pending_per_address = 4_096;
    config
}

impl Cluster {
    /// Starts `count` validators of a new ledger in a new folder of `parent`.
    pub async fn start(program: &Path, parent: &Path, count: usize) -> Result<Self, BenchError> {
        Self::start_with(program, parent, count, DiskConfig::default()).await
    }

    /// Starts a ledger with other settings of the disk.
    pub async fn start_with(
        program: &Path,
        parent: &Path,
        count: usize,
        disk: DiskConfig,
    ) -> Result<Self, BenchError> {
        let dir = parent.join(format!("validators-{count}-{}", unix_ms()));
        // For each node: for other nodes, HTTP, administration, MQTT.
        let addresses = free_addresses(count * 4)?;
        let (mut homes, mut validators) = (Vec::new(), Vec::new());
        for (node, addresses) in (1..).zip(addresses.chunks(4)) {
            let (home, key) = create_home(&dir, node)?;
            let account = id(&format!("node-{node}"));
            validators.push(Validator {
                node,
                account,
                key,
                address: addresses[0].to_string(),
            });
            homes.push(home);
        }
        let genesis = genesis(validators);
        let text = serde_json::to_vec_pretty(&genesis).expect("a genesis has a JSON form");
        let genesis_path = write(dir.join("genesis.json"), &text)?;
        let mut nodes = Vec::new();
        for ((node, home), addresses) in (1..).zip(homes).zip(addresses.chunks(4)) {
            let config = config(node, &genesis_path, &home, addresses, &disk);
            let files = NodeFiles {
                program: program.to_owned(),
                key: genesis.validators.validators[nodes.len()].key,
                address: addresses[0].to_string(),
                home,
                config,
            };
            nodes.push(files.start()?);
        }
        Ok(Self {
            chain_id: genesis.chain_id(),
            validators: genesis.validators,
            nodes,
            program: program.to_owned(),
            dir,
            genesis: genesis_path,
            disk,
        })
    }

    /// Creates the files of one more node.
    pub fn create_node(&self, node: u64) -> Result<NodeFiles, BenchError> {
        let (home, key) = create_home(&self.dir, node)?;
        let addresses = free_addresses(4)?;
        Ok(NodeFiles {
            program: self.program.clone(),
            config: config(node, &self.genesis, &home, &addresses, &self.disk),
            home,
            key,
            address: addresses[0].to_string(),
        })
    }

    /// Waits until every node knows the leader and all others.
    pub async fn ready(&mut self) -> Result<(), BenchError> {
        let until = Instant::now() + READY_WITHIN;
        let others = self.nodes.len() - 1;
        for node in &mut self.nodes {
            while !node.is_ready(others).await? {
                if Instant::now() >= until {
                    return Err(BenchError::NotReady {
                        within: READY_WITHIN,
                    });
                }
                tokio::time::sleep(ASK_EVERY).await;
            }
        }
        Ok(())
    }

    /// The resources that the nodes use now.
    pub fn sample(&self) -> Result<ClusterSample, BenchError> {
        let mut sample = ClusterSample::default();
        for node in &self.nodes {
            let memory = procfs::memory(node.pid)?;
            sample.cpu += procfs::cpu(node.pid)?;
            sample.disk_bytes += procfs::disk_bytes(&node.data)?;
            sample.written_bytes += procfs::written_bytes(node.pid)?;
            sample.memory_bytes = sample.memory_bytes.max(memory.now_bytes);
            sample.peak_memory_bytes = sample.peak_memory_bytes.max(memory.peak_bytes);
        }
        Ok(sample)
    }

    /// Checks that no node has ended; the error has the end of its log.
    pub fn check(&mut self) -> Result<(), BenchError> {
        self.nodes.iter_mut().try_for_each(NodeProcess::check)
    }

    /// Stops the nodes; one that does not end is killed, which is an error.
    pub async fn stop(mut self) -> Result<(), BenchError> {
        for node in &mut self.nodes {
            node.stdin = None;
        }
        let mut stopped = Ok(());
        for node in &mut self.nodes {
            stopped = stopped.and(node.stop().await);
        }
        stopped
    }
}

impl NodeProcess {
    fn start(files: NodeFiles) -> Result<Self, BenchError> {
        let NodeFiles {
            program,
            home,
            config,
            ..
        } = &files;
        let text = toml::to_string_pretty(config).expect("a configuration has a TOML form");
        let path = write(home.join("node.toml"), text.as_bytes())?;
        let log = home.join("log");
        let file = File::create(&log).map_err(BenchError::io("making", &log))?;
        let mut child = Command::new(program)
            .args(["node", "run", "--config"])
            .arg(path)
            .arg("--until-stdin-ends")
            .env("MALLOC_ARENA_MAX", MALLOC_ARENAS)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .map_err(BenchError::io("starting", program))?;
        let pid = child.id().expect("the process has not been waited for");
        let (stdin, data) = (child.stdin.take(), config.data_dir.clone());
        Ok(Self {
            node: config.node,
            http: config.http_listen,
            mqtt: config.mqtt_listen,
            child,
            stdin,
            pid,
            data,
            log,
            files,
        })
    }

    async fn is_ready(&mut self, others: usize) -> Result<bool, BenchError> {
        self.check()?;
        // The node may not listen yet.
        if Connection::open(self.http).await.is_err() {
            return Ok(false);
        }
        let status = self.status().await?;
        Ok(status.leader.is_some() && status.connected.len() >= others)
    }

    /// Reads the status of the node.
    pub async fn status(&self) -> Result<NodeStatus, BenchError> {
        let answer = self.get(self.http, "/v1/status").await?;
        self.parse(answer, |body| serde_json::from_slice(body).ok())
    }

    /// Reads the sizes of the parts of its memory that have a bound.
    pub async fn bounded_memory(&self) -> Result<BoundedMemory, BenchError> {
        let answer = self.get(self.files.config.admin_listen, "/metrics").await?;
        self.parse(answer, |body| {
            BoundedMemory::parse(std::str::from_utf8(body).ok()?)
        })
    }

    async fn get(&self, address: SocketAddr, path: &str) -> Result<HttpAnswer, BenchError> {
        let asked = async { Connection::open(address).await?.get(path).await };
        asked.await.map_err(|source| BenchError::Http {
            node: self.http,
            source,
        })
    }

    fn parse<T>(
        &self,
        answer: HttpAnswer,
        parse: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, BenchError> {
        parse(&answer.body).ok_or_else(|| BenchError::Answer {
            node: self.http,
            status: answer.status,
            body: String::from_utf8_lossy(&answer.body).into_owned(),
        })
    }

    /// Stops the node; returns its files, to start it again.
    pub async fn stop_for_restart(mut self) -> Result<NodeFiles, BenchError> {
        self.stdin = None;
        self.stop().await?;
        Ok(self.files)
    }

    /// Checks that the node has not ended; the error has the end of its log.
    pub fn check(&mut self) -> Result<(), BenchError> {
        match self
            .child
            .try_wait()
            .map_err(BenchError::io("waiting for a node", ""))?
        {
            None => Ok(()),
            Some(status) => Err(self.ended(status.to_string())),
        }
    }

    async fn stop(&mut self) -> Result<(), BenchError> {
        let Ok(ended) = tokio::time::timeout(STOP_WITHIN, self.child.wait()).await else {
            self.child
                .kill()
                .await
                .map_err(BenchError::io("killing a node", ""))?;
            return Err(self.ended("killed, since it did not stop when asked".to_owned()));
        };
        let status = ended.map_err(BenchError::io("waiting for a node", ""))?;
        if status.success() {
            Ok(())
        } else {
            Err(self.ended(status.to_string()))
        }
    }

    fn ended(&self, status: String) -> BenchError {
        let log = fs::read(&self.log).unwrap_or_default();
        let tail = &log[log.len().saturating_sub(LOG_TAIL_BYTES)..];
        BenchError::Ended {
            node: self.node,
            status,
            log: String::from_utf8_lossy(tail).into_owned(),
        }
    }
}
