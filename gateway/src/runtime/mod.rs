//! The gateway's process: an event loop owns the spool, the submission, the deployments and the
//! devices, and everything else reaches it over bounded channels.

mod admission;
mod dead_letter;
mod device_sync;
mod device_table;
mod event_loop;
mod node_progress;
mod report_check;
mod storage;
mod tasks;
#[cfg(test)]
mod tests;
mod work;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lamplighter_client::{Client, ClientConfig, ClientError, TrustAnchor, TrustAnchorError};
use lamplighter_types::{Genesis, SecretKey};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::artifact::{ArtifactCache, CacheError};
use crate::config::{ConfigError, GatewayConfig, NodeAddress};
use crate::deployments::DeploymentPlanner;
use crate::lwm2m::Endpoints;
use crate::north::NodeLink;
use crate::south::{South, SouthEvent};
use crate::spool::{Spool, SpoolError};
use crate::submission::{Signer, Submitter};

use admission::ThingAdmission;
use dead_letter::DeadLetterFile;
use device_sync::DeviceSync;
use device_table::DeviceTable;
use event_loop::EventLoop;
use node_progress::NodeProgress;
use storage::Storage;
use tasks::BackgroundTasks;
use work::WorkReceiver;

pub use device_table::DeviceTableError;

/// Events of the south that wait; beyond, Things are told to try again.
const SOUTH_EVENTS_MAX: usize = 1_024;
/// Messages of the node that wait; each may have 256 KB.
const NODE_EVENTS_MAX: usize = 64;
/// Messages to the node that wait.
const NODE_REQUESTS_MAX: usize = 64;

/// Why a gateway does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    #[error("the configuration can't be used")]
    Config(#[from] ConfigError),
    #[error("the spool can't be used")]
    Spool(#[from] SpoolError),
    #[error("the artifact cache can't be used")]
    Cache(#[from] CacheError),
    #[error("the known devices can't be used")]
    DeviceTable(#[from] DeviceTableError),
    #[error("the trusted validators can't be used")]
    Trust(#[from] TrustAnchorError),
    #[error("setting up the client of the ledger")]
    Client(#[from] ClientError),
    #[error("listening on {address} for Things")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("making {path}")]
    Directory { path: String, source: io::Error },
    #[error("a task of the gateway ended badly")]
    Task(#[source] tokio::task::JoinError),
    #[error("{0} has ended")]
    Ended(&'static str),
}

/// A running gateway. It ends when its token is cancelled.
#[derive(Debug)]
pub struct Gateway {
    south: SocketAddr,
    event_loop: JoinHandle<Result<(), GatewayError>>,
    link: JoinHandle<()>,
}

impl Gateway {
    /// Opens the data directory and starts both sides. No node needs to be in reach.
    ///
    /// # Errors
    /// The configuration, a file or the address can't be used.
    pub async fn start(
        config: GatewayConfig,
        stop: CancellationToken,
    ) -> Result<Self, GatewayError> {
        config.check()?;
        let (genesis, secret) = (config.read_genesis()?, config.read_key()?);
        let data = &config.data_dir;
        std::fs::create_dir_all(data).map_err(|source| GatewayError::Directory {
            path: data.display().to_string(),
            source,
        })?;
        let storage = open_storage(data, config.spool_bytes_max)?;
        let cache = ArtifactCache::open(&data.join("artifacts"), config.cache_bytes_max)?;
        let anchor = Arc::new(TrustAnchor::open(
            data.join("trusted-validators.json"),
            &genesis,
        )?);
        let client = client_of(&config, genesis.clone(), &anchor, secret.clone())?;
        let devices = storage.devices().clone();
        let (south, south_events) = start_south(&config, devices, &cache).await?;
        let south_address = south.local_addr();
        let (node_requests, requests) = mpsc::channel(NODE_REQUESTS_MAX);
        let (node_sender, node_events) = mpsc::channel(NODE_EVENTS_MAX);
        let (left, leave) = watch::channel(0);
        let progress = NodeProgress::new(config.nodes.len());
        let link = NodeLink {
            account: config.account.clone(),
            secret: secret.clone(),
            nodes: config.nodes.clone(),
            anchor: anchor.clone(),
            client: client.clone(),
            connect_timeout_max: Duration::from_secs(config.mqtt_connect_s),
            leave,
        };
        let link = tokio::spawn(link.run(requests, node_sender, stop.clone()));
        let account = config.account;
        let record_age_max = Duration::from_secs(config.record_age_max_s);
        let chain_id = genesis.chain_id();
        let tasks = BackgroundTasks::new(client, secret.public(), cache);
        let signer = Signer {
            account: account.clone(),
            secret,
            chain_id,
        };
        let event_loop = EventLoop {
            chain_id,
            storage,
            tasks,
            planner: DeploymentPlanner::default(),
            submitter: Submitter::new(signer, tokio::time::Instant::now()),
            work: WorkReceiver::new(account, anchor, record_age_max),
            device_sync: DeviceSync::default(),
            progress,
            left,
            south,
            commands: VecDeque::new(),
            node_requests,
            stop,
        };
        Ok(Self {
            south: south_address,
            event_loop: tokio::spawn(event_loop.run(south_events, node_events)),
            link,
        })
    }

    /// The address at which Things register.
    pub fn south_address(&self) -> SocketAddr {
        self.south
    }

    /// Waits until the gateway has stopped.
    ///
    /// # Errors
    /// Why it stopped though its token was not cancelled.
    pub async fn wait(self) -> Result<(), GatewayError> {
        let ended = self.event_loop.await.map_err(GatewayError::Task)?;
        self.link.abort();
        ended
    }

    /// Starts a gateway and waits until it has stopped.
    ///
    /// # Errors
    /// It did not start, or stopped though its token was not cancelled.
    pub async fn run(config: GatewayConfig, stop: CancellationToken) -> Result<(), GatewayError> {
        Self::start(config, stop).await?.wait().await
    }
}

fn open_storage(data: &Path, spool_bytes_max: u64) -> Result<Storage, GatewayError> {
    let devices = DeviceTable::open(data.join("devices.json"))?;
    let spool = Spool::open(&data.join("spool"), spool_bytes_max)?;
    let dead_letters = DeadLetterFile::new(data.join("refused.jsonl"), Instant::now());
    Ok(Storage::new(spool, dead_letters, devices))
}

fn client_of(
    config: &GatewayConfig,
    genesis: Genesis,
    anchor: &Arc<TrustAnchor>,
    secret: SecretKey,
) -> Result<Client, ClientError> {
    let urls = config.nodes.iter().map(NodeAddress::http_address).collect();
    let mut settings = ClientConfig::new(urls).with_genesis(genesis);
    settings.plain_http_beyond_loopback = config.plain_http_beyond_loopback;
    let settings = settings.with_trust(anchor.clone());
    Client::new(settings.with_key(config.account.clone(), secret))
}

async fn start_south(
    config: &GatewayConfig,
    devices: DeviceTable,
    cache: &ArtifactCache,
) -> Result<(South, mpsc::Receiver<SouthEvent>), GatewayError> {
    let admission = ThingAdmission {
        endpoints: Endpoints::new(&config.endpoints),
        devices,
    };
    let (sender, events) = mpsc::channel(SOUTH_EVENTS_MAX);
    let address = config.south_listen;
    let failed = |source| GatewayError::Listen { address, source };
    let socket = UdpSocket::bind(address).await.map_err(failed)?;
    let mut south = config.south();
    south.artifacts = cache.dir().to_owned();
    let south = South::start(Arc::new(socket), south, Arc::new(admission), sender);
    Ok((south.map_err(failed)?, events))
}
