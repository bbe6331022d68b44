//! The south side of the gateway: one CoAP endpoint, a table of registered Things, and one worker
//! per Thing that transfers packages, starts installations and polls their results.
//!
//! In: [`SouthCommand`]s. Out: [`SouthEvent`]s on a bounded channel. A report or event of a Thing
//! is acknowledged to it only once the reader of the channel answers [`StorageReply::Stored`].
//! Nothing is kept on disk here: after a restart Things register again, the north side repeats its
//! commands (which is harmless), and a Thing with our agent reports how many bytes of a package it
//! holds, so that the transfer resumes there.

mod install;
mod manager;
mod rate;
mod registry;
mod service;
mod session;
mod single_request;
#[cfg(test)]
mod tests;
mod transfer;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lamplighter_types::{Hash, Version};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::coap::{self, CoapEndpoint, DatagramSocket};
use crate::lwm2m::Stage;
use registry::SharedRegistry;

pub use rate::TransferRate;
pub use session::{
    SessionConfig, SessionInput, SessionStep, StepResult, ThingSession, WORK_MAX, WorkNotice,
};

/// Commands that wait for the manager.
const COMMANDS_MAX: usize = 256;
/// Registrations of Things that wait for the manager.
const REGISTRATION_REQUESTS_MAX: usize = 256;

/// The devices that this gateway serves.
pub trait ServedDevices: Send + Sync + 'static {
    /// The Thing that an endpoint name stands for, by its name in commands and events; `None` if it
    /// is not served here.
    fn resolve(&self, endpoint_name: &str) -> Option<String>;

    /// True if the Thing with this name in commands and events is still served here.
    fn serves(&self, endpoint: &str) -> bool;
}

/// Resolves each accepted name to itself.
impl<F: Fn(&str) -> bool + Send + Sync + 'static> ServedDevices for F {
    fn resolve(&self, endpoint_name: &str) -> Option<String> {
        self(endpoint_name).then(|| endpoint_name.to_owned())
    }

    fn serves(&self, endpoint: &str) -> bool {
        self(endpoint)
    }
}

/// Timers and rates of the south side.
#[derive(Debug, Clone)]
pub struct SouthConfig {
    /// Timers and limits of the endpoint.
    pub coap: coap::CoapConfig,
    /// The bytes per second that all transfers of the mesh together may send.
    pub rate_bytes_per_s: u32,
    /// Directory of the verified artifacts, each in a file named by its digest.
    pub artifacts: PathBuf,
    /// Timers of the work on one Thing.
    pub session: SessionConfig,
    /// The time for which a Thing's report may wait to be stored; then the Thing gets 5.03.
    pub stored_timeout: Duration,
}

impl Default for SouthConfig {
    fn default() -> SouthConfig {
        SouthConfig {
            coap: coap::CoapConfig::default(),
            // Half of what IEEE 802.15.4 at 250 kbit/s carries on one hop.
            rate_bytes_per_s: 12_000,
            artifacts: PathBuf::from("artifacts"),
            session: SessionConfig::default(),
            stored_timeout: Duration::from_secs(20),
        }
    }
}

/// A package to transfer to a Thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// The Thing.
    pub endpoint: String,
    /// Name of the deployment, repeated in events.
    pub deployment: String,
    /// Digest of the verified artifact.
    pub artifact: Hash,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Encoded `lwm2m::agent::Offer`, for Things with our agent.
    pub offer: Vec<u8>,
}

/// A command of the north side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SouthCommand {
    /// Transfer a package to a Thing, from the point where an earlier attempt stopped.
    Transfer(Transfer),
    /// Install the package that the Thing holds.
    Install {
        /// The Thing.
        endpoint: String,
        /// The deployment.
        deployment: String,
        /// The version that it runs then.
        version: Version,
    },
    /// Follow an installation that was begun before this gateway started (Things without our agent
    /// only).
    Watch {
        /// The Thing.
        endpoint: String,
        /// The deployment.
        deployment: String,
        /// The version that it runs then.
        version: Version,
    },
    /// Cancel a deployment, unless it is being installed.
    Cancel {
        /// The Thing.
        endpoint: String,
        /// The deployment.
        deployment: String,
    },
    /// Send a configuration document (Things with our agent only).
    Configure {
        /// The Thing.
        endpoint: String,
        /// The document.
        document: Vec<u8>,
    },
    /// End the registration of a Thing that this gateway no longer serves, and all work on it.
    Release {
        /// The Thing.
        endpoint: String,
    },
}

impl SouthCommand {
    /// The Thing that it is for.
    pub fn endpoint(&self) -> &str {
        match self {
            SouthCommand::Transfer(transfer) => &transfer.endpoint,
            SouthCommand::Install { endpoint, .. }
            | SouthCommand::Watch { endpoint, .. }
            | SouthCommand::Cancel { endpoint, .. }
            | SouthCommand::Configure { endpoint, .. }
            | SouthCommand::Release { endpoint } => endpoint,
        }
    }

    /// The deployment that it is about.
    pub fn deployment(&self) -> Option<&str> {
        match self {
            SouthCommand::Transfer(transfer) => Some(&transfer.deployment),
            SouthCommand::Install { deployment, .. }
            | SouthCommand::Watch { deployment, .. }
            | SouthCommand::Cancel { deployment, .. } => Some(deployment),
            SouthCommand::Configure { .. } | SouthCommand::Release { .. } => None,
        }
    }
}

/// The answer to a report or event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageReply {
    /// The message is on disk; the Thing may delete it. Sent as 2.04.
    Stored,
    /// The message does not decode, or could never be recorded, and is on disk with the reason; the
    /// Thing may delete it. Sent as 4.00.
    Refused(String),
    /// The device is not, or no longer, served here; the Thing keeps the message and registers
    /// again, here or elsewhere. Sent as 4.01.
    Unregistered(String),
    /// The message cannot be stored now; the Thing keeps it and sends it again. Sent as 5.03.
    Unavailable(String),
}

/// An event of the south side.
#[derive(Debug)]
pub enum SouthEvent {
    /// A Thing registered; its work continues.
    Registered {
        /// The Thing.
        endpoint: String,
        /// Its address.
        peer: SocketAddr,
        /// True if it has our agent, and so attests its reports.
        agent: bool,
        /// True if it has object 5.
        updatable: bool,
        /// True for the first registration since its worker started: earlier commands may be lost.
        fresh: bool,
    },
    /// A Thing ended its registration or let it expire; its work waits.
    Lost {
        /// The Thing.
        endpoint: String,
    },
    /// Progress or result of the work on one Thing.
    Work {
        /// The Thing.
        endpoint: String,
        /// The progress or result.
        notice: WorkNotice,
    },
    /// A report that the Thing signed: an encoded `lwm2m::agent::ThingReport`.
    Report {
        /// The Thing.
        endpoint: String,
        /// The encoded report.
        bytes: Vec<u8>,
        /// Takes the answer; if it is dropped, the Thing sends the message again.
        stored: oneshot::Sender<StorageReply>,
    },
    /// An event that the Thing signed: an encoded `lwm2m::agent::ThingEvent`.
    Event {
        /// The Thing.
        endpoint: String,
        /// The encoded event.
        bytes: Vec<u8>,
        /// Takes the answer; if it is dropped, the Thing sends the message again.
        stored: oneshot::Sender<StorageReply>,
    },
}

impl SouthEvent {
    /// The stage that a notice is about, with its deployment.
    pub fn stage(&self) -> Option<(&str, Stage)> {
        match self {
            SouthEvent::Work {
                notice:
                    WorkNotice::Stage {
                        deployment, stage, ..
                    },
                ..
            } => Some((deployment, *stage)),
            _ => None,
        }
    }
}

/// The south side is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the south side of the gateway is closed")]
pub struct SouthClosed;

/// A running south side; dropping it ends its tasks.
#[derive(Debug)]
pub struct South {
    commands: mpsc::Sender<SouthCommand>,
    endpoint: CoapEndpoint,
    stop: CancellationToken,
    manager: tokio::task::JoinHandle<()>,
}

impl South {
    /// Serves a socket. Events go to `events`, whose capacity bounds what is under way.
    pub fn start(
        link: Arc<dyn DatagramSocket>,
        config: SouthConfig,
        served: Arc<dyn ServedDevices>,
        events: mpsc::Sender<SouthEvent>,
    ) -> io::Result<South> {
        let (commands, command_receiver) = mpsc::channel(COMMANDS_MAX);
        let (registrations, registration_receiver) = mpsc::channel(REGISTRATION_REQUESTS_MAX);
        let registry = SharedRegistry::default();
        let service = service::SouthService {
            registrations,
            events: events.clone(),
            stored_timeout: config.stored_timeout,
            served: served.clone(),
            registry: registry.clone(),
        };
        let endpoint = CoapEndpoint::start(link, config.coap.clone(), Arc::new(service))?;
        let stop = CancellationToken::new();
        let rate = TransferRate::new(config.rate_bytes_per_s, Instant::now());
        let context = worker::WorkerContext {
            handle: endpoint.handle(),
            rate: Arc::new(rate),
            artifacts: config.artifacts.clone(),
            events,
        };
        let manager = manager::Manager::new(config, served, context, registry, stop.clone());
        let manager = tokio::spawn(manager.run(command_receiver, registration_receiver));
        Ok(South {
            commands,
            endpoint,
            stop,
            manager,
        })
    }

    /// Sends a command; waits while the queue is full.
    pub async fn command(&self, command: SouthCommand) -> Result<(), SouthClosed> {
        self.commands.send(command).await.map_err(|_| SouthClosed)
    }

    /// A sender of commands for other tasks.
    pub fn commands(&self) -> mpsc::Sender<SouthCommand> {
        self.commands.clone()
    }

    /// The address that Things register at.
    pub fn local_addr(&self) -> SocketAddr {
        self.endpoint.handle().local_addr()
    }

    /// The endpoint, for requests to a Thing.
    pub fn handle(&self) -> coap::CoapHandle {
        self.endpoint.handle()
    }

    /// Ends the workers and frees the socket.
    pub async fn close(mut self) {
        self.stop.cancel();
        if let Err(error) = (&mut self.manager).await {
            tracing::error!(%error, "the south side ended badly");
        }
    }
}

impl Drop for South {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
