//! The south side of the gateway: one CoAP endpoint, a table of registered Things, and one worker
//! per Thing that moves packages, starts installations and asks how they went.
//!
//! In: [`SouthCommand`]s. Out: [`SouthEvent`]s on a bounded channel. A report or event of a Thing
//! is acknowledged to it only once the reader of the channel says that it is [`Stored::Kept`].
//! Nothing is kept on disk here: after a restart Things register anew, the north side gives its
//! commands again (doing so twice is harmless), and a Thing with our agent says how much of a
//! package it holds, so that the transfer goes on there.

mod addresses;
mod budget;
mod install;
mod manager;
mod service;
mod session;
mod small;
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
use tokio_util::sync::CancellationToken;

use crate::coap::{self, Endpoint, Link};
use crate::lwm2m::Stage;
use addresses::Addresses;

pub use budget::Budget;
pub use session::{Answer, Input, Notice, Session, SessionConfig, Step, WORK_MAX};

/// Commands that wait for the manager.
const COMMANDS_MAX: usize = 256;
/// Requests of Things that wait for the manager.
const FRONT_MAX: usize = 256;

/// Which Things this gateway serves.
pub trait Admits: Send + Sync + 'static {
    /// The Thing that an endpoint name stands for, by the name that commands and events have for
    /// it; `None` if it is not served here.
    fn named(&self, endpoint_name: &str) -> Option<String>;

    /// Whether the Thing that commands and events name so is still served here.
    fn serves(&self, endpoint: &str) -> bool;
}

/// Each Thing by the name that it gives itself.
impl<F: Fn(&str) -> bool + Send + Sync + 'static> Admits for F {
    fn named(&self, endpoint_name: &str) -> Option<String> {
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
    pub coap: coap::Config,
    /// What all transfers of the mesh together may send, in bytes per second.
    pub rate_bytes_per_s: u32,
    /// Directory of the verified artifacts, each in a file named by its digest.
    pub artifacts: PathBuf,
    /// Timers of the work on one Thing.
    pub session: SessionConfig,
    /// How long a Thing waits until its report is stored, before it is told to try again.
    pub stored_timeout: Duration,
}

impl Default for SouthConfig {
    fn default() -> SouthConfig {
        SouthConfig {
            coap: coap::Config::default(),
            // Half of what IEEE 802.15.4 at 250 kbit/s carries on one hop.
            rate_bytes_per_s: 12_000,
            artifacts: PathBuf::from("artifacts"),
            session: SessionConfig::default(),
            stored_timeout: Duration::from_secs(20),
        }
    }
}

/// A package to be brought to a Thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// The Thing.
    pub endpoint: String,
    /// Name of the deployment, given back in events.
    pub deployment: String,
    /// Digest of the verified artifact.
    pub artifact: Hash,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Encoded `lwm2m::agent::Offer`, for Things with our agent.
    pub offer: Vec<u8>,
}

/// What the north side wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SouthCommand {
    /// Bring a package to a Thing, going on where an earlier attempt stopped.
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
    /// Ask how an installation goes that was begun before this gateway started (Things without our
    /// agent only).
    Watch {
        /// The Thing.
        endpoint: String,
        /// The deployment.
        deployment: String,
        /// The version that it runs then.
        version: Version,
    },
    /// Give a deployment up, unless it is being installed.
    Cancel {
        /// The Thing.
        endpoint: String,
        /// The deployment.
        deployment: String,
    },
    /// Hand over a configuration document (Things with our agent only).
    Configure {
        /// The Thing.
        endpoint: String,
        /// The document.
        document: Vec<u8>,
    },
    /// End the registration of a Thing that is no longer this gateway's, and all work on it.
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

/// What became of a report or event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// It is on disk; the Thing may forget it. Answered 2.04.
    Kept,
    /// It does not decode, or could never be recorded as it is, and it is on disk with the reason;
    /// the Thing may forget it. Answered 4.00.
    Refused(String),
    /// It is of a device that is not, or not any more, served here; the Thing keeps it and
    /// registers again, here or elsewhere. Answered 4.01.
    Unregistered(String),
    /// It can't be taken now; the Thing keeps it and tries again. Answered 5.03.
    Later(String),
}

/// What happened in the south.
#[derive(Debug)]
pub enum SouthEvent {
    /// A Thing registered; its work goes on.
    Registered {
        /// The Thing.
        endpoint: String,
        /// Where it is.
        peer: SocketAddr,
        /// Whether it has our agent, and so attests what it does.
        agent: bool,
        /// Whether it has object 5.
        updatable: bool,
        /// The first time since work for it is done here: earlier commands may be lost.
        fresh: bool,
    },
    /// A Thing ended its registration or let it expire; its work waits.
    Lost {
        /// The Thing.
        endpoint: String,
    },
    /// What happened to the work on one Thing.
    Notice {
        /// The Thing.
        endpoint: String,
        /// What happened.
        notice: Notice,
    },
    /// A report that the Thing signed: an encoded `lwm2m::agent::ThingReport`.
    Report {
        /// The Thing.
        endpoint: String,
        /// The encoded report.
        bytes: Vec<u8>,
        /// Answer here; dropping it makes the Thing try again.
        stored: oneshot::Sender<Stored>,
    },
    /// An event that the Thing signed: an encoded `lwm2m::agent::ThingEvent`.
    Event {
        /// The Thing.
        endpoint: String,
        /// The encoded event.
        bytes: Vec<u8>,
        /// Answer here; dropping it makes the Thing try again.
        stored: oneshot::Sender<Stored>,
    },
}

impl SouthEvent {
    /// The stage that a notice tells of, with its deployment.
    pub fn stage(&self) -> Option<(&str, Stage)> {
        match self {
            SouthEvent::Notice {
                notice: Notice::Stage {
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
    endpoint: Endpoint,
    stop: CancellationToken,
    manager: tokio::task::JoinHandle<()>,
}

impl South {
    /// Serves a socket. Events go to `events`, whose capacity bounds what is under way.
    pub fn start(
        link: Arc<dyn Link>,
        config: SouthConfig,
        admits: Arc<dyn Admits>,
        events: mpsc::Sender<SouthEvent>,
    ) -> io::Result<South> {
        let (commands, command_receiver) = mpsc::channel(COMMANDS_MAX);
        let (front, front_receiver) = mpsc::channel(FRONT_MAX);
        let addresses = Addresses::default();
        let service = service::SouthService::new(
            front,
            events.clone(),
            config.stored_timeout,
            addresses.clone(),
        );
        let endpoint = Endpoint::start(link, config.coap.clone(), Arc::new(service))?;
        let stop = CancellationToken::new();
        let budget = Arc::new(Budget::new(config.rate_bytes_per_s));
        let tools = worker::Tools {
            handle: endpoint.handle(),
            budget,
            artifacts: config.artifacts.clone(),
            events,
        };
        let manager = manager::Manager::new(config, admits, tools, addresses, stop.clone());
        let manager = tokio::spawn(manager.run(command_receiver, front_receiver));
        Ok(South {
            commands,
            endpoint,
            stop,
            manager,
        })
    }

    /// Gives a command; waits while too many are under way.
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

    /// The endpoint, to ask a Thing directly.
    pub fn handle(&self) -> coap::Handle {
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
