//! The inputs and outputs of the work on one Thing, and of its tasks.

use std::time::Duration;

use lamplighter_types::Hash;
use tokio::time::Instant;

use super::{SouthCommand, Transfer};
use crate::cast::BlockMap;
use crate::coap::{Block, Request, Response};
use crate::lwm2m::Stage;
use crate::lwm2m::inventory::NamedValue;

/// Timers of the work on one Thing.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// The interval between two reads of state and result while the Thing works.
    pub poll: Duration,
    /// Longest wait between attempts to reach a Thing that does not answer.
    pub retry_max: Duration,
    /// The time for the Thing to check a package, or to install it and boot.
    pub install_timeout: Duration,
    /// Size exponent of the first block; the Thing may ask for smaller ones.
    pub szx: u8,
    /// Percent of its battery below which a Thing gets no package; 0: its battery is not asked for.
    pub battery_min_percent: u8,
    /// The interval between two reads of a battery that is too low.
    pub battery_poll: Duration,
    /// True if Things are asked whether they take blocks in sets (RFC 9177).
    pub q_block: bool,
    /// The time for which a command may wait for the Thing; then it must be proven again.
    pub order_age_max: Duration,
    /// The time that a Thing in queue mode listens after each of its messages.
    pub awake: Duration,
}

impl Default for SessionConfig {
    fn default() -> SessionConfig {
        SessionConfig {
            poll: Duration::from_secs(5),
            retry_max: Duration::from_secs(300),
            install_timeout: Duration::from_secs(3600),
            szx: 6,
            q_block: true,
            battery_min_percent: 0,
            battery_poll: Duration::from_secs(600),
            order_age_max: Duration::from_secs(300),
            // MAX_TRANSMIT_WAIT of RFC 7252, which LwM2M 1.1 recommends.
            awake: Duration::from_secs(93),
        }
    }
}

/// The next step of the work.
#[derive(Debug, PartialEq, Eq)]
pub enum SessionStep {
    /// Wait for an input.
    Idle,
    /// Wait until this instant or for an input.
    Wait(Instant),
    /// Ask for a permit and call [`ThingSession::permit`](super::ThingSession::permit) when it is
    /// there; ask for the next step at this instant too.
    AwaitPermit(Instant),
    /// Join the cast of an image and call
    /// [`ThingSession::cast_joined`](super::ThingSession::cast_joined).
    JoinCast {
        /// The transfer whose image it is.
        transfer: Transfer,
        /// Size exponent of its blocks.
        szx: u8,
        /// A cast may be opened for it.
        may_open: bool,
    },
    /// Report to the cast what the Thing has, and call
    /// [`ThingSession::cast_turn`](super::ThingSession::cast_turn) when it is the Thing's turn; ask
    /// for the next step at this instant too.
    AwaitCast(Option<BlockMap>, Instant),
    /// Send this request and return its [`StepResult`].
    Request(Box<Request>),
    /// Send this block of the artifact and return its [`StepResult`].
    Block {
        /// The transfer that the block belongs to.
        transfer: Transfer,
        /// The position, as the block option has it.
        block: Block,
    },
    /// Send these notices: the order under way has ended; then ask for the next step.
    Ended(Vec<WorkNotice>),
    /// Send these blocks of the artifact as a set and return its [`StepResult`].
    Set {
        /// The transfer that the blocks belong to.
        transfer: Transfer,
        /// The blocks.
        set: BlockSet,
    },
    /// Say that the order waited too long and must be proven again; then ask for the next step.
    Expired {
        /// The deployment; empty for a configuration.
        deployment: String,
    },
}

/// Blocks that are sent together and answered together (RFC 9177).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockSet {
    /// Their numbers.
    pub numbers: Vec<u32>,
    /// Size exponent.
    pub szx: u8,
    /// Sets before it in a row that were not answered.
    pub silent: u32,
}

/// The result of a step.
#[derive(Debug)]
pub enum StepResult {
    /// The Thing answered, perhaps with an error code.
    Response(Box<Response>),
    /// The Thing did not answer a set in time; it may have a part of it.
    Silent,
    /// The Thing did not answer.
    Unreachable(String),
    /// The artifact could not be read.
    Unreadable(String),
}

/// An input of the work on one Thing.
#[derive(Debug)]
pub enum SessionInput {
    /// The Thing registered.
    Registered {
        /// True if it has our agent.
        agent: bool,
        /// True if it listens only for some time after its own messages.
        queue_mode: bool,
    },
    /// The Thing sent a message: it listens now.
    Received,
    /// The Thing cannot be reached for now.
    Lost,
    /// A command of the north side.
    Command(SouthCommand),
}

/// A notice to the north side about the work on a Thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkNotice {
    /// The Thing accepted a part of the package.
    Progress {
        /// The deployment.
        deployment: String,
        /// Acknowledged so far.
        sent_bytes: u64,
        /// Size of the package.
        total_bytes: u64,
    },
    /// The stage by the Thing's object 5; without our agent nothing attests it.
    Stage {
        /// The deployment.
        deployment: String,
        /// The stage.
        stage: Stage,
        /// For a person: the Thing's text, or its new version.
        detail: String,
    },
    /// A configuration document was accepted or not. The Thing itself reports whether it applied
    /// it.
    Configured {
        /// True if it was accepted.
        accepted: bool,
        /// For a person.
        detail: String,
    },
    /// The values of a configuration were written, or were refused and restored.
    Applied {
        /// Digest of the document.
        document: Hash,
        /// True if the Thing has all values.
        applied: bool,
        /// For a person; a failure begins with its code.
        detail: String,
    },
    /// What the Thing says about itself.
    Inspected {
        /// Values with their paths, in the order of the paths.
        values: Vec<NamedValue>,
    },
    /// A command cannot be carried out.
    Refused {
        /// The deployment; empty for a configuration.
        deployment: String,
        /// The reason.
        reason: String,
    },
    /// An order waited too long for the Thing; it must be proven again, and is not carried out
    /// until then.
    Expired {
        /// The deployment; empty for a configuration.
        deployment: String,
    },
    /// The Thing wants a newer proof of an order.
    Outdated {
        /// The deployment; empty for a configuration.
        deployment: String,
    },
    /// The Thing trusts older validators than those that prove its order.
    ChangesNeeded {
        /// The height from which on it needs their changes.
        trusted: u64,
    },
    /// The Thing asks to be left alone for a while, and the order to install was not given.
    Locked {
        /// The deployment.
        deployment: String,
        /// Seconds.
        busy_s: u32,
    },
    /// The Thing is busy now; the command must be repeated.
    Busy {
        /// The deployment; empty for a configuration.
        deployment: String,
    },
}

/// The next step of a task.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TaskStep {
    Request(Request),
    Block(Block),
    Set(BlockSet),
    Wait(Instant),
    JoinCast { may_open: bool },
    AwaitCast(Option<BlockMap>),
}

/// A response of the Thing to the last request of a task.
pub(super) struct TaskResponse<'a> {
    pub(super) now: Instant,
    pub(super) agent: bool,
    /// Packages can be fetched over HTTP.
    pub(super) http_is_served: bool,
    pub(super) response: &'a Response,
    pub(super) config: &'a SessionConfig,
}

impl TaskResponse<'_> {
    /// The instant of the next read while the Thing works.
    pub(super) fn next_poll(&self) -> Instant {
        self.now + self.config.poll
    }
}

/// The result of a response for a task.
#[derive(Debug, Default)]
pub(super) struct TaskOutcome {
    pub(super) done: bool,
    pub(super) notices: Vec<WorkNotice>,
}

impl TaskOutcome {
    pub(super) fn pending() -> TaskOutcome {
        TaskOutcome::default()
    }

    pub(super) fn notify(notice: WorkNotice) -> TaskOutcome {
        TaskOutcome {
            done: false,
            notices: vec![notice],
        }
    }

    pub(super) fn end(notice: WorkNotice) -> TaskOutcome {
        TaskOutcome {
            done: true,
            notices: vec![notice],
        }
    }
}
