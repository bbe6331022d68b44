//! The south side of the gateway: one CoAP endpoint, a table of registered Things, and one worker
//! per Thing that transfers packages, starts installations and polls their results.
//!
//! In: [`SouthCommand`]s. Out: [`SouthEvent`]s on a bounded channel. A report or event of a Thing
//! is acknowledged to it only once the reader of the channel answers [`StorageReply::Stored`].
//! Only the registrations are kept on disk here, without belief in the addresses (`recovery`).
//! After a restart the north side repeats its commands (which is harmless), and a Thing with our
//! agent reports how many bytes of a package it holds, so that the transfer resumes there.

mod announcements;
mod apply;
mod block_set;
mod bootstrap;
mod casting;
mod http;
mod inputs;
mod inspect;
mod install;
mod manager;
mod orders;
mod pacing;
mod packages;
mod proven;
mod pull;
mod rate;
mod recovery;
mod registration_file;
mod registry;
mod served;
mod service;
mod session;
mod single_request;
mod step;
#[cfg(test)]
mod tests;
mod transfer;
mod transfer_phase;
mod value_reads;
mod value_writes;
mod wakefulness;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lamplighter_types::{Hash, Version};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::coap::{self, CoapEndpoint, DatagramSocket};
use crate::lwm2m::Stage;
use crate::lwm2m::resource::Resource;
use crate::lwm2m::senml::SenmlRecord;
use recovery::{AskContext, Recovery};
use registry::SharedRegistry;

pub use bootstrap::{BootstrapConfig, ServerAddress};
pub use casting::{CastSettings, CastSocket, CastTurn};
pub use orders::WORK_MAX;
pub use pacing::PacingConfig;
pub use proven::EncodedOrder;
pub use pull::PullAddresses;
pub use rate::{TransferRate, datagram_on_air};
pub use served::{ServedDevices, ThingKey};
pub use session::ThingSession;
pub use step::{BlockSet, SessionConfig, SessionInput, SessionStep, StepResult, WorkNotice};

/// Commands that wait for the manager.
const COMMANDS_MAX: usize = 256;
/// Names of Things that sent a message and wait for the manager; more are forgotten, since the next
/// message of the Thing comes too.
const SENDERS_MAX: usize = 1_024;
/// Registrations of Things that wait for the manager.
const REGISTRATION_REQUESTS_MAX: usize = 256;

/// Timers and rates of the south side.
#[derive(Debug, Clone)]
pub struct SouthConfig {
    /// Timers and limits of the endpoint.
    pub coap: coap::CoapConfig,
    /// The bytes per second that all transfers of the mesh together may send, with their headers.
    pub rate_bytes_per_s: u32,
    /// The transfers that may be under way together.
    pub pacing: PacingConfig,
    /// How an image is sent to several Things at once, if it is.
    pub casts: Option<CastSettings>,
    /// Directory of the verified artifacts, each in a file named by its digest.
    pub artifacts: PathBuf,
    /// The address at which Things fetch packages over HTTP, if they may.
    pub http_listen: Option<SocketAddr>,
    /// What Things get by a bootstrap; without it there is none.
    pub bootstrap: Option<BootstrapConfig>,
    /// Timers of the work on one Thing.
    pub session: SessionConfig,
    /// The file of the registrations; without it they end with the process.
    pub registrations: Option<PathBuf>,
    /// The time for which a Thing's report may wait to be stored; then the Thing gets 5.03.
    pub stored_timeout: Duration,
}

impl Default for SouthConfig {
    fn default() -> SouthConfig {
        SouthConfig {
            coap: coap::CoapConfig {
                limit_unproven: true,
                ..coap::CoapConfig::default()
            },
            // Half of what IEEE 802.15.4 at 250 kbit/s carries on one hop.
            rate_bytes_per_s: 12_000,
            pacing: PacingConfig::default(),
            casts: None,
            artifacts: PathBuf::from("artifacts"),
            http_listen: None,
            bootstrap: None,
            session: SessionConfig::default(),
            registrations: None,
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

/// When an order to install may be given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InstallLimits {
    /// The time from now for which the window is open; without end if there is none.
    pub open_for: Option<Duration>,
    /// A Thing that is busy is left alone.
    pub asks_lock: bool,
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
        /// When the order may be given.
        limits: InstallLimits,
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
    /// Write the values of a configuration to standard resources (Things without our agent only).
    Apply {
        /// The Thing.
        endpoint: String,
        /// Digest of the configuration document.
        document: Hash,
        /// The values, in the order of their paths; at least one.
        values: Vec<Resource>,
    },
    /// Read what the Thing says about itself (Things without our agent only).
    Inspect {
        /// The Thing.
        endpoint: String,
    },
    /// Observe the values of an object's instance (Things without our agent only).
    Observe {
        /// The Thing.
        endpoint: String,
        /// The instance, such as `/3311/0`.
        path: String,
    },
    /// An order, with its proof for a Thing that checks orders itself.
    Proven {
        /// The order.
        order: Box<SouthCommand>,
        /// The proof.
        proof: EncodedOrder,
    },
    /// Lead a Thing on to newer validators, as it has asked for.
    Lead {
        /// The Thing.
        endpoint: String,
        /// Encoded changes of the validators; none if no node has shown any.
        changes: Option<Vec<u8>>,
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
            | SouthCommand::Apply { endpoint, .. }
            | SouthCommand::Inspect { endpoint }
            | SouthCommand::Observe { endpoint, .. }
            | SouthCommand::Lead { endpoint, .. }
            | SouthCommand::Release { endpoint } => endpoint,
            SouthCommand::Proven { order, .. } => order.endpoint(),
        }
    }

    /// The deployment that it is about.
    pub fn deployment(&self) -> Option<&str> {
        match self {
            SouthCommand::Transfer(transfer) => Some(&transfer.deployment),
            SouthCommand::Install { deployment, .. }
            | SouthCommand::Watch { deployment, .. }
            | SouthCommand::Cancel { deployment, .. } => Some(deployment),
            SouthCommand::Proven { order, .. } => order.deployment(),
            SouthCommand::Configure { .. }
            | SouthCommand::Apply { .. }
            | SouthCommand::Inspect { .. }
            | SouthCommand::Observe { .. }
            | SouthCommand::Lead { .. }
            | SouthCommand::Release { .. } => None,
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
        /// True if the Thing proved who it is, by a signature or a session. Otherwise it is
        /// unattested.
        attested: bool,
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
    /// Values that a Thing sent by itself (LwM2M Send).
    Values {
        /// The Thing.
        endpoint: String,
        /// The values with their names.
        values: Vec<SenmlRecord>,
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

fn package_server(config: &SouthConfig, rate: Arc<TransferRate>) -> pull::PackageServer {
    pull::PackageServer {
        packages: packages::Packages::new(config.artifacts.clone()),
        rate,
        szx: config.coap.szx.min(coap::block::SZX_MAX),
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
    stop: DropGuard,
    /// The manager; the task that writes the registrations, if they are kept; the listener for
    /// packages over HTTP, if there is one; and the bootstraps.
    tasks: Vec<JoinHandle<()>>,
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
        let (sender_names, sender_names_receiver) = mpsc::channel(SENDERS_MAX);
        let registry = SharedRegistry::default();
        let open = |path: &PathBuf| Recovery::open(path.clone(), &registry, served.as_ref());
        let recovery = config.registrations.as_ref().map(open).transpose()?;
        let rate = Arc::new(TransferRate::new(config.rate_bytes_per_s, Instant::now()));
        let packages = package_server(&config, rate.clone());
        let stop = CancellationToken::new();
        let (http, listener) = match config.http_listen {
            None => (None, None),
            Some(address) => {
                let (address, task) = http::start(address, &packages, &registry, &stop)?;
                (Some(address), Some(task))
            }
        };
        let (bootstraps, accepted) =
            bootstrap::BootstrapServer::new(config.bootstrap.clone(), link.clone(), served.clone());
        let service = service::SouthService {
            bootstraps,
            registrations: registrations.clone(),
            sender_names,
            events: events.clone(),
            stored_timeout: config.stored_timeout,
            served: served.clone(),
            registry: registry.clone(),
            packages,
            link: link.clone(),
        };
        let endpoint = CoapEndpoint::start(link, config.coap.clone(), Arc::new(service))?;
        let pacing = pacing::Pacing::new(config.pacing.clone());
        let context = worker::WorkerContext {
            handle: endpoint.handle(),
            casts: casting::Casts::new(&config, (&rate, &pacing), stop.child_token()),
            rate,
            pacing,
            http,
            artifacts: config.artifacts.clone(),
            events,
        };
        let keeper = recovery.map(|recovery| {
            let ask = AskContext {
                handle: endpoint.handle(),
                registry: registry.clone(),
            };
            tokio::spawn(recovery.run(ask, stop.clone()))
        });
        let bootstraps = bootstrap::run(accepted, endpoint.handle(), stop.clone());
        let manager = manager::Manager::new(config, served, context, registry, stop.clone())?;
        let manager = manager.run(
            command_receiver,
            registration_receiver,
            sender_names_receiver,
        );
        let (manager, bootstraps) = (tokio::spawn(manager), tokio::spawn(bootstraps));
        let tasks = [Some(manager), keeper, listener, Some(bootstraps)];
        Ok(South {
            commands,
            endpoint,
            stop: stop.drop_guard(),
            tasks: tasks.into_iter().flatten().collect(),
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

    /// Ends the workers and frees the sockets: once it returns, their addresses can be bound again.
    pub async fn close(self) {
        drop(self.stop);
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "the south side ended badly");
            }
        }
        self.endpoint.close().await;
    }
}
