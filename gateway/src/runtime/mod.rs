//! The gateway's process: an event loop owns the spool, the submission, the deployments and the
//! devices, and everything else reaches it over bounded channels.

mod admission;
mod dead_letter;
mod device_sync;
mod device_table;
mod event_loop;
mod inventory;
mod newest_head;
mod node_progress;
mod recent_reports;
mod report_check;
mod storage;
mod tasks;
#[cfg(test)]
mod tests;
mod thing_events;
mod values;
mod work;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lamplighter_client::{Client, ClientConfig, ClientError, TrustAnchor, TrustAnchorError};
use lamplighter_system::{files, unix_ms};
use lamplighter_types::{Genesis, Hash, SecretKey};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::artifact::{ArtifactCache, CacheError};
use crate::coap::DatagramSocket;
use crate::config::{ConfigError, GatewayConfig, NodeAddress, PlainCoap};
use crate::credentials::{CredentialError, CredentialStore};
use crate::deployments::DeploymentPlanner;
use crate::dtls::{DtlsSocket, SouthSocket};
use crate::lwm2m::Endpoints;
use crate::lwm2m::registration::LIFETIME_DEFAULT_S;
use crate::north::NodeLink;
use crate::oscore::{NumbersError, OscoreSocket};
use crate::south::{BootstrapConfig, CastSettings, ServerAddress, South, SouthEvent};
use crate::spool::{Spool, SpoolError};
use crate::submission::{Signer, Submitter};

use admission::ThingAdmission;
use dead_letter::DeadLetterFile;
use device_sync::DeviceSync;
use device_table::DeviceTable;
use event_loop::EventLoop;
use inventory::Inventories;
use newest_head::NewestHead;
use node_progress::NodeProgress;
use storage::Storage;
use tasks::BackgroundTasks;
use values::ValueEvents;
use work::WorkReceiver;

pub use device_table::DeviceTableError;
pub use newest_head::NewestHeadError;

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
    #[error("the newest head can't be used")]
    NewestHead(#[from] NewestHeadError),
    #[error("the trusted validators can't be used")]
    Trust(#[from] TrustAnchorError),
    #[error("setting up the client of the ledger")]
    Client(#[from] ClientError),
    #[error("listening on {address} for Things")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("the keys of Things can't be used")]
    Credentials(#[from] CredentialError),
    #[error(transparent)]
    Numbers(#[from] NumbersError),
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
    secure: Option<SocketAddr>,
    event_loop: JoinHandle<Result<(), GatewayError>>,
    link: JoinHandle<()>,
    turns: watch::Receiver<u64>,
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
        make_directory(data).map_err(|source| GatewayError::Directory {
            path: data.display().to_string(),
            source,
        })?;
        let storage = open_storage(data, config.spool_bytes_max)?;
        let cache = ArtifactCache::open(&data.join("artifacts"), config.cache_bytes_max)?;
        let anchor = Arc::new(TrustAnchor::open(
            data.join("trusted-validators.json"),
            &genesis,
        )?);
        let newest_head = open_newest_head(data, &genesis)?;
        let client = client_of(&config, genesis.clone(), &anchor, secret.clone())?;
        let chain_id = genesis.chain_id();
        let admission = admission_of(&config, storage.devices().clone(), chain_id)?;
        let (south, south_events, secure) = start_south(&config, admission, &cache).await?;
        let south_address = south.local_addr();
        let (node_requests, requests) = mpsc::channel(NODE_REQUESTS_MAX);
        let (node_sender, node_events) = mpsc::channel(NODE_EVENTS_MAX);
        let (left, leave) = watch::channel(0);
        let link = link_of(&config, &secret, &anchor, &client, leave);
        let link = tokio::spawn(link.run(requests, node_sender, stop.clone()));
        let account = config.account;
        let record_age_max = Duration::from_secs(config.record_age_max_s);
        let tasks = BackgroundTasks::new(client, secret.public(), cache);
        let signer = Signer {
            account: account.clone(),
            secret,
            chain_id,
        };
        let now = tokio::time::Instant::now();
        let submitter = Submitter::new(signer, storage.spool(), now, unix_ms());
        let inventories = Inventories::open(data.join("inventory.json"), now);
        let (counted, turns) = watch::channel(0);
        let event_loop = EventLoop {
            chain_id,
            storage,
            tasks,
            planner: DeploymentPlanner::new(record_age_max, newest_head.height()),
            submitter,
            work: WorkReceiver::new(account, anchor, record_age_max),
            device_sync: DeviceSync::default(),
            progress: NodeProgress::new(config.nodes.len()),
            newest_head,
            values: ValueEvents::default(),
            inventories,
            // Until the first tick has looked at it.
            clock_is_set: false,
            left,
            south,
            commands: VecDeque::new(),
            node_requests,
            turns: counted,
            stop,
        };
        Ok(Self {
            south: south_address,
            secure,
            event_loop: tokio::spawn(event_loop.run(south_events, node_events)),
            link,
            turns,
        })
    }

    /// The address at which Things register.
    pub fn south_address(&self) -> SocketAddr {
        self.south
    }

    /// The address at which Things register over DTLS.
    pub fn secure_address(&self) -> Option<SocketAddr> {
        self.secure
    }

    /// The number of times that the event loop has done what is due; it grows several times a
    /// second while the gateway makes progress.
    pub fn turns(&self) -> watch::Receiver<u64> {
        self.turns.clone()
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

/// Makes a directory that survives a power loss: what is stored in it is worth nothing if its own
/// name is lost.
fn make_directory(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)?;
    let path = path.canonicalize()?;
    path.ancestors().take(2).try_for_each(files::sync_parent)
}

fn open_newest_head(data: &Path, genesis: &Genesis) -> Result<NewestHead, GatewayError> {
    let file = data.join("newest-head.json");
    Ok(NewestHead::open(file, genesis.created_ms)?)
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

fn link_of(
    config: &GatewayConfig,
    secret: &SecretKey,
    anchor: &Arc<TrustAnchor>,
    client: &Client,
    leave: watch::Receiver<u64>,
) -> NodeLink {
    NodeLink {
        account: config.account.clone(),
        secret: secret.clone(),
        nodes: config.nodes.clone(),
        anchor: anchor.clone(),
        client: client.clone(),
        connect_timeout_max: Duration::from_secs(config.mqtt_connect_s),
        leave,
    }
}

fn admission_of(
    config: &GatewayConfig,
    devices: DeviceTable,
    chain_id: Hash,
) -> Result<ThingAdmission, CredentialError> {
    let credentials = config.credentials();
    let credentials = credentials
        .map(|file| CredentialStore::open(file.to_owned()))
        .transpose()?;
    Ok(ThingAdmission {
        endpoints: Endpoints::new(&config.endpoints),
        devices,
        chain_id,
        plain: config.plain_coap,
        credentials,
    })
}

/// Starts the south side; also returns its address for DTLS.
async fn start_south(
    config: &GatewayConfig,
    admission: ThingAdmission,
    cache: &ArtifactCache,
) -> Result<(South, mpsc::Receiver<SouthEvent>, Option<SocketAddr>), GatewayError> {
    let (sender, events) = mpsc::channel(SOUTH_EVENTS_MAX);
    let accepts_plain = config.plain_coap != PlainCoap::Never;
    let plain = match accepts_plain || config.oscore.is_some() {
        false => None,
        true => Some(bind(config.south_listen).await?),
    };
    let mut secure = None;
    if let (Some(dtls), Some(credentials)) = (&config.dtls, &admission.credentials) {
        let socket = bind(dtls.listen).await?;
        let started = DtlsSocket::start(socket, credentials.clone());
        secure = Some(started.map_err(listening(dtls.listen))?);
    }
    let secure_address = secure.as_ref().and_then(|socket| socket.local_addr().ok());
    let plain_address = plain.as_ref().and_then(|socket| socket.local_addr().ok());
    let mut south = config.south();
    south.artifacts = cache.dir().to_owned();
    south.casts = open_casts(config)?;
    south.bootstrap = Some(bootstrap_of(config, secure_address, plain_address));
    south.registrations = Some(config.data_dir.join("registrations.jsonl"));
    let socket = match (plain, &config.oscore, &admission.credentials) {
        (Some(udp), Some(_), Some(keys)) => {
            let numbers = config.data_dir.join("oscore-numbers.json");
            let plain = OscoreSocket::start(udp, keys.clone(), &numbers, accepts_plain).await?;
            SouthSocket::with_oscore(plain, secure)
        }
        (plain, ..) => SouthSocket::new(plain, secure),
    };
    let south = South::start(Arc::new(socket), south, Arc::new(admission), sender);
    let south = south.map_err(listening(config.south_listen))?;
    Ok((south, events, secure_address))
}

fn open_casts(config: &GatewayConfig) -> Result<Option<CastSettings>, GatewayError> {
    let Some(casts) = &config.mesh.casts else {
        return Ok(None);
    };
    let opened = casts.open(config.south_listen);
    opened.map(Some).map_err(listening(casts.address))
}

/// What Things get by a bootstrap: the addresses that are listened on.
fn bootstrap_of(
    config: &GatewayConfig,
    secure: Option<SocketAddr>,
    plain: Option<SocketAddr>,
) -> BootstrapConfig {
    let address = |listen, uri: &Option<String>| ServerAddress {
        listen,
        uri: uri.clone(),
    };
    let (dtls, oscore) = (config.dtls.as_ref(), config.oscore.as_ref());
    BootstrapConfig {
        dtls: dtls.zip(secure).map(|(dtls, at)| address(at, &dtls.uri)),
        oscore: oscore
            .zip(plain)
            .map(|(oscore, at)| address(at, &oscore.uri)),
        lifetime_s: LIFETIME_DEFAULT_S,
    }
}

fn listening(address: SocketAddr) -> impl FnOnce(io::Error) -> GatewayError {
    move |source| GatewayError::Listen { address, source }
}

async fn bind(address: SocketAddr) -> Result<UdpSocket, GatewayError> {
    UdpSocket::bind(address).await.map_err(listening(address))
}
