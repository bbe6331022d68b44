//! The validators: real processes, each in a separate network namespace and with a movable clock.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lamplighter_devnet::Process;
use lamplighter_node::key;
use lamplighter_system::files;
use lamplighter_types::{
    GENESIS_VERSION, Genesis, Id, Policies, PublicKey, Validator, ValidatorSet,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::cast::Cast;
use crate::error::ChaosError;
use crate::fleet;
use crate::network::{TestNetwork, address};

/// Ports of each node; they are free, since each node has a separate address.
pub const PEER_PORT: u16 = 7_000;
const HTTP_PORT: u16 = 7_001;
const ADMIN_PORT: u16 = 7_002;
const MQTT_PORT: u16 = 7_003;
/// A short heartbeat: the time of an idle chain advances, and expiry is known soon.
const HEARTBEAT_MS: u64 = 1_000;
/// Most offset of a clock that a node accepts.
pub const CLOCK_OFFSET_MAX_MS: u64 = 30_000;
/// The library's path on Debian; the build for programs with threads.
const FAKETIME: &str = "faketime/libfaketimeMT.so.1";
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib",
];
/// Time for a node to serve after a restart, even on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// Timeout of a status request, which a healthy node answers in a millisecond.
const ASK_WITHIN: Duration = Duration::from_millis(500);

/// The used part of a node's status.
#[derive(Clone, Debug, Deserialize)]
pub struct NodeStatus {
    pub node: u64,
    pub height: u64,
    pub head_time_ms: u64,
    pub leader: Option<u64>,
    pub alarms: Vec<NodeAlarm>,
    pub halted: Option<String>,
}

/// An alarm of a node.
#[derive(Clone, Debug, Deserialize)]
pub struct NodeAlarm {
    pub kind: String,
    pub message: String,
}

/// The configuration file of a node; other settings have their defaults.
#[derive(Serialize)]
struct NodeFile {
    node: u64,
    genesis: PathBuf,
    key: PathBuf,
    data_dir: PathBuf,
    peer_listen: SocketAddr,
    http_listen: SocketAddr,
    admin_listen: SocketAddr,
    mqtt_listen: SocketAddr,
    heartbeat_ms: u64,
    clock_offset_max_ms: u64,
}

/// A validator.
#[derive(Debug)]
pub struct Node {
    pub process: Process,
    pub key: PublicKey,
    /// The file with the offset of its clock, read by libfaketime.
    clock: PathBuf,
    stopped: bool,
}

/// All validators. They must end before their network is removed.
#[derive(Debug)]
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub genesis: Genesis,
    pub http: reqwest::Client,
}

/// The address of the HTTP interface of a node.
pub fn url(node: usize) -> String {
    format!("https://{}", SocketAddr::from((address(node), HTTP_PORT)))
}

fn admin_url(node: usize, path: &str) -> String {
    format!(
        "http://{}{path}",
        SocketAddr::from((address(node), ADMIN_PORT))
    )
}

fn faketime() -> Result<PathBuf, ChaosError> {
    let mut candidates = LIBRARIES
        .iter()
        .map(|folder| Path::new(folder).join(FAKETIME));
    candidates
        .find(|path| path.exists())
        .ok_or_else(|| ChaosError::Setup(format!("{FAKETIME} is missing: scripts/setup --test")))
}

impl Cluster {
    /// Creates keys, genesis document and configurations. Nothing runs yet.
    ///
    /// # Errors
    /// A file can't be written, or libfaketime is missing.
    pub fn create(
        network: &TestNetwork,
        nodes: usize,
        clients: usize,
        folder: &Path,
        program: &Path,
        cast: Option<&Cast>,
    ) -> Result<Self, ChaosError> {
        let faketime = faketime()?;
        fs::create_dir_all(folder.join("logs")).map_err(ChaosError::file("making", folder))?;
        let mut validators = Vec::new();
        for node in 0..nodes {
            let path = folder.join(format!("node-{}.key", node + 1));
            let made = key::read_or_create(&path);
            let secret = made.map_err(|error| ChaosError::Setup(error.to_string()))?;
            validators.push(Validator {
                node: node as u64 + 1,
                account: account(node),
                key: secret.public(),
                address: SocketAddr::from((address(node), PEER_PORT)).to_string(),
            });
        }
        let keys: Vec<PublicKey> = validators.iter().map(|validator| validator.key).collect();
        if let Some(cast) = cast {
            validators.push(cast.validator()?);
        }
        let genesis = Genesis {
            version: GENESIS_VERSION,
            name: "City of faults".to_owned(),
            created_ms: lamplighter_system::unix_ms(),
            validators: ValidatorSet { validators },
            organization: fleet::organization(),
            accounts: fleet::accounts(clients),
            policies: Policies::default(),
        };
        let text = serde_json::to_vec_pretty(&genesis).expect("our types have JSON forms");
        write_file(&folder.join("genesis.json"), &text)?;
        let started = keys.into_iter().enumerate();
        let nodes = started
            .map(|(node, key)| configure_node(network, node, key, folder, program, &faketime));
        let pinned = genesis.validators.validators.iter().map(|v| v.key);
        let tls = lamplighter_tls::client(None, pinned.collect());
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.map_err(|e| ChaosError::Setup(e.to_string()))?)
            .connect_timeout(ASK_WITHIN)
            .timeout(ASK_WITHIN)
            .build();
        Ok(Self {
            nodes: nodes.collect::<Result<_, _>>()?,
            genesis,
            http: http.map_err(|error| ChaosError::Setup(error.to_string()))?,
        })
    }

    /// Starts all nodes and waits until each serves.
    pub async fn start(&mut self) -> Result<(), ChaosError> {
        for node in &mut self.nodes {
            node.process.start()?;
        }
        for node in 0..self.nodes.len() {
            self.ready(node).await?;
        }
        Ok(())
    }

    /// Waits until a node knows its leader and applies.
    pub async fn ready(&mut self, node: usize) -> Result<(), ChaosError> {
        let begun = Instant::now();
        loop {
            self.nodes[node].process.check()?;
            let asked = self.http.get(admin_url(node, "/readyz")).send().await;
            if asked.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if begun.elapsed() > READY_WITHIN {
                return Err(ChaosError::Deadline {
                    what: format!("node {} is ready", node + 1),
                    within: READY_WITHIN,
                });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// True if a node's process answers.
pub async fn answers(http: &reqwest::Client, node: usize) -> bool {
    let asked = http.get(admin_url(node, "/healthz")).send().await;
    asked.is_ok_and(|answer| answer.status().is_success())
}

/// The status of a node, if it answers.
pub async fn status(http: &reqwest::Client, node: usize) -> Option<NodeStatus> {
    let asked = http.get(format!("{}/v1/status", url(node))).send().await;
    asked.ok()?.json().await.ok()
}

/// The leader by the majority of the nodes that answer, counted from 0.
pub async fn leader(http: &reqwest::Client, nodes: usize) -> Option<usize> {
    let all = futures::future::join_all((0..nodes).map(|node| status(http, node))).await;
    let named: Vec<u64> = all.into_iter().flatten().filter_map(|s| s.leader).collect();
    let votes = |node: &u64| named.iter().filter(|n| *n == node).count();
    let most = named.iter().copied().max_by_key(votes)?;
    Some(most as usize - 1)
}

pub fn account(node: usize) -> Id {
    fleet::id(&format!("node-{}", node + 1))
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ChaosError> {
    fs::write(path, bytes).map_err(ChaosError::file("writing", path))
}

/// The configuration of a node and the command that runs it in its namespace, under a clock that
/// can be moved.
fn configure_node(
    network: &TestNetwork,
    node: usize,
    key: PublicKey,
    folder: &Path,
    program: &Path,
    faketime: &Path,
) -> Result<Node, ChaosError> {
    let name = format!("node-{}", node + 1);
    let at = |port| SocketAddr::from((address(node), port));
    let config = NodeFile {
        node: node as u64 + 1,
        genesis: folder.join("genesis.json"),
        key: folder.join(format!("{name}.key")),
        data_dir: folder.join(&name),
        peer_listen: at(PEER_PORT),
        http_listen: at(HTTP_PORT),
        admin_listen: at(ADMIN_PORT),
        // Without TLS it may listen on loopback only; it is not used here.
        mqtt_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, MQTT_PORT)),
        heartbeat_ms: HEARTBEAT_MS,
        clock_offset_max_ms: CLOCK_OFFSET_MAX_MS,
    };
    let path = folder.join(format!("{name}.toml"));
    let text = toml::to_string_pretty(&config).expect("configurations have TOML forms");
    write_file(&path, text.as_bytes())?;
    let clock = folder.join(format!("{name}.clock"));
    write_file(&clock, b"+0\n")?;
    let preload = [
        format!("LD_PRELOAD={}", faketime.display()),
        format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()),
        // Timers of the program and of the store keep the real time.
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        "FAKETIME_CACHE_DURATION=1".to_owned(),
        "NO_FAKE_STAT=1".to_owned(),
    ];
    let namespace = network.namespace(node);
    let mut arguments: Vec<OsString> = ["netns", "exec", &namespace, "env"].map(Into::into).into();
    arguments.extend(preload.map(OsString::from));
    arguments.push(program.into());
    arguments.extend(["node", "run", "--until-stdin-ends", "--config"].map(OsString::from));
    arguments.push(path.into());
    let logs = folder.join("logs");
    Ok(Node {
        process: Process::new(&name, Path::new("ip"), arguments, &logs),
        key,
        clock,
        stopped: false,
    })
}

impl Node {
    /// `kill -9`.
    pub async fn kill(&mut self) -> Result<(), ChaosError> {
        let pid = self.process.pid();
        self.process.kill().await?;
        self.stopped = false;
        if let Some(pid) = pid {
            remove_shared_memory(pid);
        }
        Ok(())
    }

    /// Sends SIGSTOP or SIGCONT.
    pub fn set_stopped(&mut self, stop: bool) -> Result<(), ChaosError> {
        let (signal, name) = if stop {
            (Signal::SIGSTOP, "SIGSTOP")
        } else {
            (Signal::SIGCONT, "SIGCONT")
        };
        let Some(pid) = self.process.pid() else {
            return Ok(());
        };
        kill(Pid::from_raw(pid as i32), signal).map_err(|source| ChaosError::Signal {
            signal: name,
            pid,
            source,
        })?;
        self.stopped = stop;
        Ok(())
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Moves its clock against the machine's; this takes effect within a second.
    pub fn set_clock(&self, offset_s: i64) -> Result<(), ChaosError> {
        files::replace(&self.clock, format!("{offset_s:+}\n").as_bytes())
            .map_err(ChaosError::file("writing", &self.clock))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(pid) = self.process.pid() {
            remove_shared_memory(pid);
        }
    }
}

/// Removes files that libfaketime removes itself only at an orderly end of the process.
fn remove_shared_memory(pid: u32) {
    for name in [
        format!("faketime_shm_{pid}"),
        format!("sem.faketime_sem_{pid}"),
    ] {
        fs::remove_file(Path::new("/dev/shm").join(name)).ok();
    }
}
