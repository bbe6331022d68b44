//! The validators: real processes, each in its own network namespace and with a clock that can be
//! moved.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lamplighter_devnet::Process;
use lamplighter_node::key;
use lamplighter_types::{Genesis, Id, Policies, PublicKey, Validator, ValidatorSet};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::error::ChaosError;
use crate::fleet;
use crate::lab::{Lab, address};

/// Ports are free: each node has its address for itself.
const PEER_PORT: u16 = 7_000;
const HTTP_PORT: u16 = 7_001;
const ADMIN_PORT: u16 = 7_002;
const MQTT_PORT: u16 = 7_003;
/// So that an idle chain's time goes on, and what has expired can be told soon.
const HEARTBEAT_MS: u64 = 1_000;
/// The fault that an operator would make with a clock is far above this.
pub const CLOCK_OFFSET_MAX_MS: u64 = 30_000;
/// Debian's place for it; the build for programs with threads.
const FAKETIME: &str = "faketime/libfaketimeMT.so.1";
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib",
];
/// A node that lost nothing but its memory is back by then, even on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// For a question that a healthy node answers in a millisecond.
const ASK_WITHIN: Duration = Duration::from_millis(500);

/// What a node says of itself, as far as the faults need it.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    pub node: u64,
    pub height: u64,
    pub head_time_ms: u64,
    pub leader: Option<u64>,
    pub alarms: Vec<NodeAlarm>,
    pub halted: Option<String>,
}

/// What a node noticed.
#[derive(Clone, Debug, Deserialize)]
pub struct NodeAlarm {
    pub kind: String,
    pub message: String,
}

/// What a node is told; for the rest its defaults hold.
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
    /// How far its clock is off, for libfaketime to read.
    clock: PathBuf,
    stopped: bool,
}

/// All validators. They end before their network does.
#[derive(Debug)]
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub genesis: Genesis,
    pub http: reqwest::Client,
}

/// The address of the HTTP interface of a node.
pub fn url(node: usize) -> String {
    format!("http://{}", SocketAddr::from((address(node), HTTP_PORT)))
}

fn admin_url(node: usize, path: &str) -> String {
    format!(
        "http://{}{path}",
        SocketAddr::from((address(node), ADMIN_PORT))
    )
}

fn faketime() -> Result<PathBuf, ChaosError> {
    let mut places = LIBRARIES
        .iter()
        .map(|folder| Path::new(folder).join(FAKETIME));
    places
        .find(|place| place.exists())
        .ok_or_else(|| ChaosError::Setup(format!("{FAKETIME} is missing: scripts/setup --test")))
}

impl Cluster {
    /// Makes keys, genesis and configurations. Nothing runs yet.
    ///
    /// # Errors
    /// A file can't be written, or libfaketime is missing.
    pub fn found(
        lab: &Lab,
        nodes: usize,
        clients: usize,
        folder: &Path,
        program: &Path,
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
        let genesis = Genesis {
            name: "City of faults".to_owned(),
            created_ms: fleet::now_ms(),
            validators: ValidatorSet { validators },
            organization: fleet::organization(),
            accounts: fleet::accounts(clients),
            policies: Policies::default(),
        };
        let text = serde_json::to_vec_pretty(&genesis).expect("our types have JSON forms");
        write(&folder.join("genesis.json"), &text)?;
        let started = keys.into_iter().enumerate();
        let nodes = started.map(|(node, key)| prepare(lab, node, key, folder, program, &faketime));
        let http = reqwest::Client::builder()
            .connect_timeout(ASK_WITHIN)
            .timeout(ASK_WITHIN)
            .build();
        Ok(Self {
            nodes: nodes.collect::<Result<_, _>>()?,
            genesis,
            http: http.map_err(|error| ChaosError::Setup(error.to_string()))?,
        })
    }

    /// Starts all and waits until each serves.
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

/// Whether a node's process answers at all.
pub async fn answers(http: &reqwest::Client, node: usize) -> bool {
    let asked = http.get(admin_url(node, "/healthz")).send().await;
    asked.is_ok_and(|answer| answer.status().is_success())
}

/// What a node says of itself, if it answers.
pub async fn status(http: &reqwest::Client, node: usize) -> Option<Status> {
    let asked = http.get(format!("{}/v1/status", url(node))).send().await;
    asked.ok()?.json().await.ok()
}

/// The node that most of those who answer take for the leader, counted from 0.
pub async fn leader(http: &reqwest::Client, nodes: usize) -> Option<usize> {
    let all = futures::future::join_all((0..nodes).map(|node| status(http, node))).await;
    let named: Vec<u64> = all.into_iter().flatten().filter_map(|s| s.leader).collect();
    let votes = |node: &u64| named.iter().filter(|n| *n == node).count();
    let most = named.iter().copied().max_by_key(votes)?;
    Some(most as usize - 1)
}

fn account(node: usize) -> Id {
    fleet::id(&format!("node-{}", node + 1))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ChaosError> {
    fs::write(path, bytes).map_err(ChaosError::file("writing", path))
}

/// The configuration of a node and the command that runs it in its namespace, under a clock that
/// can be moved.
fn prepare(
    lab: &Lab,
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
        // Without TLS it may listen to its own machine only; nobody uses it here.
        mqtt_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, MQTT_PORT)),
        heartbeat_ms: HEARTBEAT_MS,
        clock_offset_max_ms: CLOCK_OFFSET_MAX_MS,
    };
    let path = folder.join(format!("{name}.toml"));
    let text = toml::to_string_pretty(&config).expect("configurations have TOML forms");
    write(&path, text.as_bytes())?;
    let clock = folder.join(format!("{name}.clock"));
    write(&clock, b"+0\n")?;
    let preload = [
        format!("LD_PRELOAD={}", faketime.display()),
        format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()),
        // Timers of the program and of the store go on as they are.
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        "FAKETIME_CACHE_DURATION=1".to_owned(),
        "NO_FAKE_STAT=1".to_owned(),
    ];
    let namespace = lab.namespace(node);
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
            forget_shared_memory(pid);
        }
        Ok(())
    }

    /// SIGSTOP, or SIGCONT.
    pub fn hold(&mut self, stop: bool) -> Result<(), ChaosError> {
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

    /// Moves its clock against the machine's; it notices within a second.
    pub fn set_clock(&self, offset_s: i64) -> Result<(), ChaosError> {
        let beside = self.clock.with_extension("clock.new");
        write(&beside, format!("{offset_s:+}\n").as_bytes())?;
        fs::rename(&beside, &self.clock).map_err(ChaosError::file("renaming", &beside))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(pid) = self.process.pid() {
            forget_shared_memory(pid);
        }
    }
}

/// libfaketime removes these itself only where the process ends in order.
fn forget_shared_memory(pid: u32) {
    for name in [
        format!("faketime_shm_{pid}"),
        format!("sem.faketime_sem_{pid}"),
    ] {
        fs::remove_file(Path::new("/dev/shm").join(name)).ok();
    }
}
