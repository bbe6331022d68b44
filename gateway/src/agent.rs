//! The gateway's process: one task owns the spool, the jobs and the devices, and everything else
//! comes to it on bounded channels.

mod actor;
mod admitted;
mod devices;
mod effects;
mod intake;
mod job;
mod jobs;
mod ledger;
mod refused;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lamplighter_client::{Client, ClientConfig, ClientError};
use lamplighter_types::{Genesis, SecretKey};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::artifact::{Cache, CacheError};
use crate::config::{ConfigError, GatewayConfig};
use crate::lwm2m::Endpoints;
use crate::north::link::{self, Link};
use crate::south::{ServedDevices, South};
use crate::spool::{Spool, SpoolError};

use actor::{Actor, Parts};
use admitted::Admitted;
pub use devices::{Devices, DevicesError, Learnt};
pub use jobs::{Effect, Jobs};
use refused::Refused;

/// Events of the south that wait; Things are told to try again beyond.
const SOUTH_EVENTS_MAX: usize = 1_024;
/// Messages of the node that wait; each may have 256 KB.
const NODE_EVENTS_MAX: usize = 64;
/// Messages to the node that wait.
const NODE_COMMANDS_MAX: usize = 64;

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
    Devices(#[from] DevicesError),
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
    actor: JoinHandle<Result<(), GatewayError>>,
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
        let devices = Devices::open(data.join("devices.json"))?;
        let spool = Spool::open(&data.join("spool"), config.spool_bytes_max)?;
        let cache = Cache::open(&data.join("artifacts"), config.cache_bytes_max)?;
        let client = client_of(&config, genesis.clone(), secret.clone())?;
        let (south_sender, south_events) = mpsc::channel(SOUTH_EVENTS_MAX);
        let admitted = Admitted {
            endpoints: Endpoints::new(&config.endpoints),
            devices: devices.clone(),
        };
        let south = start_south(&config, Arc::new(admitted), south_sender).await?;
        let south_address = south.local_addr();
        let (to_node, commands) = mpsc::channel(NODE_COMMANDS_MAX);
        let (node_sender, node_events) = mpsc::channel(NODE_EVENTS_MAX);
        let known: BTreeSet<_> = genesis
            .validators
            .validators
            .iter()
            .map(|v| v.key)
            .collect();
        let account = config.account.clone();
        let nodes = config.nodes.clone();
        let link = Link {
            account,
            secret: secret.clone(),
            nodes,
            known,
            client: client.clone(),
            connect_time: Duration::from_secs(config.mqtt_connect_s),
        };
        let link = tokio::spawn(link::run(link, commands, node_sender, stop.clone()));
        let refused = Refused::new(data.join("refused.jsonl"));
        let parts = Parts {
            config,
            genesis,
            secret,
            client,
            spool,
            cache,
            devices,
            refused,
            south,
            stop,
        };
        let actor = Actor::new(parts, to_node);
        let actor = tokio::spawn(actor.run(south_events, node_events));
        Ok(Self {
            south: south_address,
            actor,
            link,
        })
    }

    /// Where Things register.
    pub fn south_address(&self) -> SocketAddr {
        self.south
    }

    /// Waits until it has stopped.
    ///
    /// # Errors
    /// Why it stopped without being told to.
    pub async fn wait(self) -> Result<(), GatewayError> {
        let ended = self.actor.await.map_err(GatewayError::Task)?;
        self.link.abort();
        ended
    }

    /// Starts a gateway and waits until it has stopped.
    ///
    /// # Errors
    /// It did not start, or stopped without being told to.
    pub async fn run(config: GatewayConfig, stop: CancellationToken) -> Result<(), GatewayError> {
        Self::start(config, stop).await?.wait().await
    }
}

fn client_of(
    config: &GatewayConfig,
    genesis: Genesis,
    secret: SecretKey,
) -> Result<Client, ClientError> {
    let urls = config.nodes.iter().map(|node| node.http.clone()).collect();
    let settings = ClientConfig::new(urls).with_genesis(genesis);
    Client::new(settings.with_key(config.account.clone(), secret))
}

async fn start_south(
    config: &GatewayConfig,
    served: Arc<dyn ServedDevices>,
    events: mpsc::Sender<crate::south::SouthEvent>,
) -> Result<South, GatewayError> {
    let address = config.south_listen;
    let failed = |source| GatewayError::Listen { address, source };
    let socket = UdpSocket::bind(address).await.map_err(failed)?;
    South::start(Arc::new(socket), config.south(), served, events).map_err(failed)
}
