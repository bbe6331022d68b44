//! The processes of a devnet, and handles to kill and restart each.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lamplighter_client::{Client, ClientConfig};
use lamplighter_contracts::refusal;
use lamplighter_gateway::{GatewayConfig, NodeAddress};
use lamplighter_system::error_chain;
use lamplighter_types::{Action, Id, Outcome, PublicKey, Receipt, Version};
use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout};

use crate::DevnetError;
use crate::city::{City, id};
use crate::field::{MeshConfig, ThingCommand, ThingEntry, ThingReply, ThingStatus};
use crate::files::{Files, synthetic_image};
use crate::link::Link;
use crate::plan::Plan;
use crate::ports::Ports;
use crate::process::{Process, arguments};
use crate::psk::{self, ThingPsks};

/// Time for a node from its start until it serves.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Rate of all transfers of a mesh: mains-powered lamps on this machine's loopback.
const RATE_BYTES_PER_S: u32 = 400_000;
/// A validator.
#[derive(Debug)]
pub struct NodeProcess {
    pub process: Process,
    pub node: u64,
    pub config: lamplighter_node::NodeConfig,
}

impl NodeProcess {
    pub fn url(&self) -> String {
        self.config.url()
    }
}

/// A gateway.
#[derive(Debug)]
pub struct GatewayProcess {
    pub process: Process,
    pub account: Id,
    pub config: GatewayConfig,
}

/// The Things of one gateway.
#[derive(Debug)]
pub struct MeshProcess {
    pub process: Process,
    pub config: MeshConfig,
    pipes: Option<(ChildStdin, Lines<BufReader<ChildStdout>>)>,
}

/// A running city.
#[derive(Debug)]
pub struct Devnet {
    pub plan: Plan,
    pub files: Files,
    pub city: City,
    pub nodes: Vec<NodeProcess>,
    pub gateways: Vec<GatewayProcess>,
    pub meshes: Vec<MeshProcess>,
    /// Path and bytes of the image to roll out.
    pub firmware: (PathBuf, Vec<u8>),
    /// The link between gateways and Things; changed before they start.
    pub link: Link,
    pub(crate) ports: Ports,
    /// The CoAP address of each gateway.
    south: Vec<SocketAddr>,
    /// Keys of Things that speak DTLS.
    psks: ThingPsks,
}

/// The profile file that `lamplighter --profile` reads.
#[derive(Serialize)]
struct Profile {
    nodes: Vec<String>,
    genesis: &'static str,
    keys: &'static str,
    account: &'static str,
}

impl Devnet {
    /// Creates keys, genesis document and configurations of the validators. Nothing runs yet.
    pub fn create(plan: Plan) -> Result<Self, DevnetError> {
        plan.check()?;
        let files = Files::prepare(&plan.dir)?;
        let firmware = files.firmware(plan.firmware.as_deref())?;
        let mut ports = Ports::new();
        let peers: Vec<SocketAddr> = (0..plan.validators)
            .map(|_| ports.allocate())
            .collect::<Result<_, _>>()?;
        let addresses: Vec<String> = peers.iter().map(ToString::to_string).collect();
        let city = City::create(&files.keys(), &addresses, lamplighter_system::unix_ms())?;
        files.write_json("genesis.json", &city.genesis)?;
        let south = (0..plan.gateways)
            .map(|_| ports.allocate())
            .collect::<Result<_, _>>()?;
        let mut devnet = Self {
            plan,
            files,
            city,
            firmware,
            link: Link::default(),
            ports,
            south,
            psks: ThingPsks::new(),
            nodes: Vec::new(),
            gateways: Vec::new(),
            meshes: Vec::new(),
        };
        for (node, peer) in (1..).zip(peers) {
            let process = devnet.node(node, peer)?;
            devnet.nodes.push(process);
        }
        let nodes: Vec<String> = devnet.nodes.iter().map(NodeProcess::url).collect();
        let profile = Profile {
            nodes,
            genesis: "genesis.json",
            keys: "keys",
            account: "operator",
        };
        devnet.files.write_toml("client", &profile)?;
        let certificates = devnet
            .nodes
            .iter()
            .map(|node| lamplighter_node::certificate(&node.config))
            .collect::<Result<String, _>>()
            .map_err(|error| DevnetError::Unexpected(error_chain(&error)))?;
        devnet.files.write("nodes.pem", certificates.as_bytes())?;
        Ok(devnet)
    }

    /// Configures a node with the key file `node-N` of this devnet.
    pub(crate) fn node(&mut self, node: u64, peer: SocketAddr) -> Result<NodeProcess, DevnetError> {
        let name = format!("node-{node}");
        let config = lamplighter_node::NodeConfig {
            node,
            genesis: self.files.genesis(),
            key: self.files.key(&name),
            data_dir: self.files.root.join(&name),
            peer_listen: peer,
            http_listen: self.ports.allocate()?,
            http: Default::default(),
            admin_listen: self.ports.allocate()?,
            mqtt_listen: self.ports.allocate()?,
            mqtts_listen: Some(self.ports.allocate()?),
            mqtt_connect_s: 30,
            read_needs_token: true,
            heartbeat_ms: 2_000,
            clock_offset_max_ms: 30_000,
            disk: Default::default(),
            quotas: Default::default(),
            mqtt: Default::default(),
        };
        self.node_process(&name, config)
    }

    pub(crate) fn node_process(
        &self,
        name: &str,
        config: lamplighter_node::NodeConfig,
    ) -> Result<NodeProcess, DevnetError> {
        let path = self.files.write_toml(name, &config)?;
        let arguments = arguments(&["node", "run", "--until-stdin-ends"], &path);
        let process = Process::new(name, &self.plan.program, arguments, &self.files.logs());
        Ok(NodeProcess {
            process,
            node: config.node,
            config,
        })
    }

    /// Starts all validators and waits until each serves.
    pub async fn start_nodes(&mut self) -> Result<(), DevnetError> {
        for node in &mut self.nodes {
            node.process.start()?;
        }
        for at in 0..self.nodes.len() {
            self.ready(at).await?;
        }
        Ok(())
    }

    /// Waits until a validator knows its leader and applies.
    pub async fn ready(&mut self, at: usize) -> Result<(), DevnetError> {
        let url = format!("http://{}/readyz", self.nodes[at].config.admin_listen);
        let http = self.http()?;
        let begun = Instant::now();
        loop {
            self.nodes[at].process.check()?;
            let answer = http.get(&url).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if begun.elapsed() > READY_WITHIN {
                let name = &self.nodes[at].process.name;
                let what = format!("{name} is ready");
                let seen = format!("see {}", self.nodes[at].process.log().display());
                return Err(DevnetError::Deadline {
                    what,
                    within: READY_WITHIN,
                    seen,
                });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Configures and starts the gateway of an account whose key was created; `first` are nodes to
    /// ask before the others.
    pub fn start_gateway(
        &mut self,
        account: &str,
        first: Vec<NodeAddress>,
    ) -> Result<usize, DevnetError> {
        let index = self.gateways.len();
        let mut nodes = first;
        // Each gateway starts with another node.
        for step in 0..self.nodes.len() {
            let node = &self.nodes[(index + step) % self.nodes.len()];
            nodes.push(NodeAddress {
                http: node.url(),
                mqtt: node.config.mqtt_listen.to_string(),
                tls: false,
                key: None,
            });
        }
        let listen = self.link.listen(self.south[index]);
        let mut dtls = None;
        if self.link.is_secure() {
            let devices = crate::scenario::things(self, index);
            let (config, psks) = psk::create(&self.files, account, devices, listen)?;
            self.psks.extend(psks);
            dtls = Some(config);
        }
        let config = GatewayConfig {
            account: id(account),
            genesis: self.files.genesis(),
            key: self.files.key(account),
            data_dir: self.files.root.join(account),
            south_listen: listen,
            south_http_listen: None,
            mqtt_connect_s: 30,
            spool_bytes_max: 64 * 1024 * 1024,
            cache_bytes_max: 1024 * 1024 * 1024,
            record_age_max_s: 300,
            rate_bytes_per_s: self.plan.rate_bytes_per_s.unwrap_or(RATE_BYTES_PER_S),
            install_timeout_s: 600,
            poll_s: 2,
            szx: self.link.szx(),
            nodes,
            plain_http_beyond_loopback: false,
            plain_coap: self.link.plain_coap(),
            dtls,
            oscore: None,
            mesh: Default::default(),
            endpoints: Default::default(),
        };
        let path = self.files.write_toml(account, &config)?;
        let arguments = arguments(&["gateway", "run", "--until-stdin-ends"], &path);
        let mut process = Process::new(account, &self.plan.program, arguments, &self.files.logs());
        process.start()?;
        self.gateways.push(GatewayProcess {
            process,
            account: id(account),
            config,
        });
        Ok(index)
    }

    /// Configures and starts the mesh of a gateway, with Things whose keys were created.
    pub fn start_mesh(&mut self, gateway: usize, things: &[Id]) -> Result<(), DevnetError> {
        let name = format!("mesh-{}", gateway + 1);
        let factory = self
            .files
            .write("factory.bin", &synthetic_image("lamp firmware 1.0.0"))?;
        let config = MeshConfig {
            chain_id: self.city.genesis.chain_id(),
            gateway: self.link.gateway(self.south[gateway]),
            genesis: Some(self.files.genesis()),
            vendor_keys: vec![self.vendor_key()],
            data_dir: self.files.root.join(&name),
            factory_image: factory,
            factory_version: Version {
                major: 1,
                minor: 0,
                patch: 0,
            },
            factory_security_counter: 1,
            hardware_class: crate::scenario::HARDWARE_CLASS.to_owned(),
            boot_time_ms: 200,
            things: things
                .iter()
                .map(|device| ThingEntry {
                    device: device.clone(),
                    key: self.files.key(device.as_str()),
                    psk: self.psks.get(device).cloned(),
                })
                .collect(),
        };
        let path = self.files.write_toml(&name, &config)?;
        let arguments = arguments(&["things", "run"], &path);
        let (program, arguments) = self.link.at_things(&self.plan.program, arguments);
        let process = Process::new(&name, &program, arguments, &self.files.logs());
        let mut mesh = MeshProcess {
            process: process.piped(),
            config,
            pipes: None,
        };
        mesh.start()?;
        self.meshes.push(mesh);
        Ok(())
    }

    fn vendor_key(&self) -> PublicKey {
        self.city.member("vendor").secret.public()
    }

    /// A client that signs as a member, over all validators.
    pub fn client(&self, member: &str) -> Result<Client, DevnetError> {
        self.client_at(member, 0)
    }

    /// A client like that of [`client`](Self::client) that asks the validator at `first` before the
    /// others.
    pub fn client_at(&self, member: &str, first: usize) -> Result<Client, DevnetError> {
        let member = self.city.member(member);
        let count = self.nodes.len();
        let urls = (0..count)
            .map(|step| self.nodes[(first + step) % count].url())
            .collect();
        let config = ClientConfig::new(urls)
            .with_genesis(self.city.genesis.clone())
            .with_key(member.account.clone(), member.secret.clone());
        Client::new(config).map_err(DevnetError::client("setting up a client"))
    }

    /// A bare HTTP client, which connects to the validators.
    pub fn http(&self) -> Result<reqwest::Client, DevnetError> {
        let keys = self
            .city
            .genesis
            .validators
            .validators
            .iter()
            .map(|v| v.key);
        let http = lamplighter_client::http_client_of(keys);
        http.map_err(DevnetError::client("setting up an HTTP client"))
    }

    /// Path of the certificates of all validators (PEM), for programs that do not pin keys.
    pub fn certificates(&self) -> PathBuf {
        self.files.root.join("nodes.pem")
    }

    /// Account and CoAP address of each gateway of the plan, whether it runs or not.
    pub(crate) fn south(&self) -> impl Iterator<Item = (String, SocketAddr)> {
        let names = (0..).map(crate::scenario::gateway_name);
        names.zip(self.south.iter().copied())
    }

    /// Path of the profile for commands, which act as the operator.
    pub fn profile(&self) -> PathBuf {
        self.files.root.join("client.toml")
    }

    /// The mesh that a Thing is part of.
    pub fn mesh_of(&mut self, device: &Id) -> Result<&mut MeshProcess, DevnetError> {
        let has = |mesh: &&mut MeshProcess| mesh.config.things.iter().any(|t| t.device == *device);
        let found = self.meshes.iter_mut().find(has);
        found.ok_or_else(|| DevnetError::Unexpected(format!("{device} is in no mesh")))
    }

    /// Every process, in the order in which they are stopped.
    pub fn processes(&mut self) -> Vec<&mut Process> {
        let meshes = self.meshes.iter_mut().map(|mesh| &mut mesh.process);
        let gateways = self.gateways.iter_mut().map(|gateway| &mut gateway.process);
        let nodes = self.nodes.iter_mut().map(|node| &mut node.process);
        meshes.chain(gateways).chain(nodes).collect()
    }

    /// Checks that no process has ended by itself.
    pub fn check(&mut self) -> Result<(), DevnetError> {
        self.processes().into_iter().try_for_each(Process::check)
    }

    /// Ends everything in command: Things, gateways, validators.
    pub async fn stop(mut self) -> Result<(), DevnetError> {
        for mesh in &mut self.meshes {
            mesh.pipes = None;
        }
        let mut result = Ok(());
        for process in self.processes() {
            result = result.and(process.stop().await);
        }
        result
    }
}

impl MeshProcess {
    /// Starts the process, also after it was killed.
    pub fn start(&mut self) -> Result<(), DevnetError> {
        self.process.start()?;
        let pipes = self.process.take_pipes();
        self.pipes = pipes.map(|(stdin, stdout)| (stdin, BufReader::new(stdout).lines()));
        Ok(())
    }

    /// `kill -9`.
    pub async fn kill(&mut self) -> Result<(), DevnetError> {
        self.pipes = None;
        self.process.kill().await
    }

    /// Sends a command and waits for its reply.
    pub async fn command(&mut self, command: &ThingCommand) -> Result<Value, DevnetError> {
        let mesh = self.process.name.clone();
        let refused = |reason: String| DevnetError::Mesh {
            mesh: mesh.clone(),
            reason,
        };
        let (stdin, lines) = self
            .pipes
            .as_mut()
            .ok_or_else(|| refused("not running".to_owned()))?;
        let mut text = serde_json::to_vec(command).expect("our types have JSON forms");
        text.push(b'\n');
        stdin
            .write_all(&text)
            .await
            .map_err(|e| refused(e.to_string()))?;
        let line = lines
            .next_line()
            .await
            .map_err(|e| refused(e.to_string()))?;
        let line = line.ok_or_else(|| refused("it has ended".to_owned()))?;
        match serde_json::from_str(&line).map_err(|e| refused(e.to_string()))? {
            ThingReply::Done(value) => Ok(value),
            ThingReply::Refused(reason) => Err(refused(reason)),
        }
    }

    /// Reads the status of a Thing.
    pub async fn status(&mut self, device: &Id) -> Result<ThingStatus, DevnetError> {
        let value = self
            .command(&ThingCommand::Status {
                device: device.clone(),
            })
            .await?;
        serde_json::from_value(value).map_err(|e| DevnetError::Mesh {
            mesh: self.process.name.clone(),
            reason: e.to_string(),
        })
    }

    /// Reads a Thing's active slot.
    pub async fn image(&mut self, device: &Id) -> Result<Vec<u8>, DevnetError> {
        let value = self
            .command(&ThingCommand::Image {
                device: device.clone(),
            })
            .await?;
        let bytes = value.as_str().and_then(|text| hex::decode(text).ok());
        let reason = "not hexadecimal digits".to_owned();
        bytes.ok_or(DevnetError::Mesh {
            mesh: self.process.name.clone(),
            reason,
        })
    }
}

/// Submits an action, which must succeed.
pub(crate) async fn submit_action(
    client: &Client,
    what: &str,
    action: Action,
) -> Result<Receipt, DevnetError> {
    let submitted = client
        .submit(action, lamplighter_client::Wait::Committed)
        .await;
    let submitted = submitted.map_err(DevnetError::client(what))?;
    let receipt = submitted.receipt;
    let receipt = receipt.ok_or_else(|| DevnetError::Unexpected(format!("{what}: no receipt")))?;
    match receipt.outcome.clone() {
        Outcome::Succeeded => Ok(receipt),
        Outcome::Failed { code, fields } => Err(DevnetError::Failed {
            action: what.to_owned(),
            message: refusal::message(&code, &fields),
            code,
        }),
    }
}
